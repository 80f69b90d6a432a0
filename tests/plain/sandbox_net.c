/* SPDX-License-Identifier: MIT */
/*
 * One attempt at the network, and what came of it, for policies.
 *
 *	sandbox_net CALL FAMILY ADDRESS PORT
 *
 * CALL is connect, bind, listen (without bind), sendto, sendmsg or sendmmsg, the last three of a
 * datagram; FAMILY is inet, inet6, unix, netlink, packet, or unspec: an IPv4 address with family
 * AF_UNSPEC, which Linux takes in places.  An ADDRESS "@x" of unix is an abstract one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static socklen_t make(union address *a, const char *family, const char *text, const char *port)
{
	memset(a, 0, sizeof(*a));
	if (!strcmp(family, "unix")) {
		a->un.sun_family = AF_UNIX;
		strncpy(a->un.sun_path, text, sizeof(a->un.sun_path) - 1);
		if (*text == '@')
			a->un.sun_path[0] = '\0';
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) +
				   (*text != '@'));
	}
	if (!strcmp(family, "inet6")) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons((uint16_t)atoi(port));
		return inet_pton(AF_INET6, text, &a->in6.sin6_addr) == 1 ? sizeof(a->in6) : 0;
	}
	a->in.sin_family = strcmp(family, "unspec") ? AF_INET : AF_UNSPEC;
	a->in.sin_port = htons((uint16_t)atoi(port));
	return inet_pton(AF_INET, text, &a->in.sin_addr) == 1 ? sizeof(a->in) : 0;
}

static long attempt(int fd, const char *call, union address *a, socklen_t len)
{
	struct iovec part = { "x", 1 };
	struct mmsghdr m = {
		.msg_hdr = { .msg_name = a, .msg_namelen = len, .msg_iov = &part, .msg_iovlen = 1 },
	};

	if (!strcmp(call, "connect"))
		return connect(fd, &a->any, len);
	if (!strcmp(call, "bind"))
		return bind(fd, &a->any, len);
	if (!strcmp(call, "listen"))
		return listen(fd, 1);
	if (!strcmp(call, "sendto"))
		return sendto(fd, "x", 1, 0, &a->any, len);
	if (!strcmp(call, "sendmsg"))
		return sendmsg(fd, &m.msg_hdr, 0);
	return sendmmsg(fd, &m, 1, 0);
}

int main(int argc, char **argv)
{
	union address a;
	socklen_t len;
	int family, fd;

	if (argc != 5)
		return 2;
	family = !strcmp(argv[2], "unix") ? AF_UNIX : !strcmp(argv[2], "inet6") ? AF_INET6 :
		 !strcmp(argv[2], "netlink") ? AF_NETLINK :
		 !strcmp(argv[2], "packet") ? AF_PACKET : AF_INET;
	fd = socket(family, strncmp(argv[1], "send", 4) ? SOCK_STREAM : SOCK_DGRAM, 0);
	if (fd < 0 && (family == AF_NETLINK || family == AF_PACKET))
		fd = socket(family, SOCK_RAW, 0);
	if (fd < 0) {
		printf("socket: %s\n", strerror(errno));
		return 0;
	}
	len = make(&a, argv[2], argv[3], argv[4]);
	if (!len)
		return 2;
	errno = 0;
	puts(attempt(fd, argv[1], &a, len) < 0 ? strerror(errno) : "done");
	return 0;
}
