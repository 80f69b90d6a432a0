/* SPDX-License-Identifier: MIT */
/* What ufirewall is to decide about; prints the errno of each attempt. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static void attempt(const char *what, const char *ip, int port,
		    int (*call)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int status;

	inet_aton(ip, &at.sin_addr);
	status = call(fd, (struct sockaddr *)&at, sizeof(at)) ? errno : 0;
	printf("%s %s %d: %d\n", what, ip, port, status);
	close(fd);
}

int main(void)
{
	attempt("bind", "0.0.0.0", 1234, bind);
	attempt("bind", "0.0.0.0", 4321, bind);
	attempt("connect", "171.1.2.3", 9, connect);
	attempt("connect", "171.1.2.3", 22, connect);
	attempt("connect", "127.0.0.1", 9, connect);
	return 0;
}
