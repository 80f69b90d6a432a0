/* SPDX-License-Identifier: MIT */
/* What the monitor writes down for --learn, and who reads it. */
#ifndef SANDBOX_LEARN_H
#define SANDBOX_LEARN_H

#include "policy.h"

enum { LEARNED_FILE, LEARNED_NET };

/* One write(2) each, by all processes, to one open file. */
struct learned {
	uint32_t kind;
	uint32_t rights;	/* FILE_* or NET_* */
	char what[4096];	/* a whole path, or a struct sockaddr_storage; zeros behind it */
};

void learn_policy(struct policy *p);
int learn_begin(const char *path);

#endif /* SANDBOX_LEARN_H */
