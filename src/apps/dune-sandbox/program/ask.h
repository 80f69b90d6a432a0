/* SPDX-License-Identifier: MIT */
/* dune-sandbox's callback: what is asked is answered on the terminal, or as --ask says. */
#ifndef SANDBOX_ASK_H
#define SANDBOX_ASK_H

#include "../dunesandbox.h"

struct ask_how {
	enum { ASK_TERMINAL, ASK_ALLOW, ASK_DENY } answer;
};

enum dune_sandbox_verdict ask(const struct dune_sandbox_request *q, void *how);

#endif /* SANDBOX_ASK_H */
