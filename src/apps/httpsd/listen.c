// SPDX-License-Identifier: MIT
/* The socket, and who comes. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "httpsd.h"

#define IDLE_SECONDS	30	/* a peer that says nothing for so long */

/* What is accepted has them as well. */
static bool set_options(int fd)
{
	const struct timeval limit = { .tv_sec = IDLE_SECONDS };
	int one = 1;

	return !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) &&
	       !setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) &&
	       !setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) &&
	       !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

int listen_on(unsigned short *port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_port = htons(*port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || !set_options(fd) || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    listen(fd, 64) || getsockname(fd, (struct sockaddr *)&at, &len)) {
		fprintf(stderr, "httpsd: port %u: %s\n", *port, strerror(errno));
		exit(1);
	}
	*port = ntohs(at.sin_port);
	return fd;
}

int next_connection(struct options *o)
{
	int fd;

	if (__atomic_fetch_add(&o->taken, 1, __ATOMIC_RELAXED) >= o->connections && o->connections)
		return -1;
	do
		fd = accept4(o->listener, NULL, NULL, SOCK_CLOEXEC);
	while (fd < 0 && (errno == EINTR || errno == EAGAIN || errno == ECONNABORTED ||
			  errno == EMFILE));
	if (fd < 0) {
		fprintf(stderr, "httpsd: accept: %s\n", strerror(errno));
		exit(1);
	}
	return fd;
}
