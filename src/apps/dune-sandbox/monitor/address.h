/* SPDX-License-Identifier: MIT */
#ifndef SANDBOX_ADDRESS_H
#define SANDBOX_ADDRESS_H

#include <sys/socket.h>

#include "monitor.h"

/* A copy of a socket address. */
struct address {
	struct sockaddr_storage is;
	uint64_t len;
	long held;		/* what it names by a link in /proc: to be released; or -1 */
};

#endif /* SANDBOX_ADDRESS_H */
