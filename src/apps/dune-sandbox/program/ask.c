// SPDX-License-Identifier: MIT
/*
 * Asking on the terminal.
 *
 * The program may have the same terminal: it can write there whatever it likes, also a question
 * of its own whose answer is "y", and it may read what is typed.  So who allows something types
 * a number that is new each time and stands in the question alone: ring 3 can read no terminal's
 * screen, and the ioctl that types for somebody else is refused.  Anything else is no.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "ask.h"

#define QUESTION	1000

static void put_address(char *to, size_t size, const struct dune_sandbox_request *q)
{
	const struct sockaddr_in *in = (const void *)q->address;
	const struct sockaddr_in6 *in6 = (const void *)q->address;
	const struct sockaddr_un *un = (const void *)q->address;
	char text[INET6_ADDRSTRLEN];

	switch (q->address->sa_family) {
	case AF_INET:
		inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
		snprintf(to, size, "%s port %u", text, ntohs(in->sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
		snprintf(to, size, "%s port %u", text, ntohs(in6->sin6_port));
		break;
	case AF_UNIX:
		snprintf(to, size, "%s%.100s", un->sun_path[0] ? "" : "@",
			 un->sun_path + !un->sun_path[0]);
		break;
	default:
		snprintf(to, size, "an address of family %u", q->address->sa_family);
	}
}

static void put_question(char *to, size_t size, const struct dune_sandbox_request *q)
{
	static const char *const rights[][5] = {
		[DUNE_SANDBOX_FILE] = { "", "read", "write", "", "execute" },
		[DUNE_SANDBOX_NET] = { "", "connect to", "bind to" },
	};
	char address[160];

	if (q->kind == DUNE_SANDBOX_CALL) {
		snprintf(to, size, "call %s(0x%lx, 0x%lx, 0x%lx)", q->call, q->arg[0], q->arg[1],
			 q->arg[2]);
	} else if (q->kind == DUNE_SANDBOX_FILE) {
		/* Of a long path the end says more. */
		size_t n = strlen(q->path), most = 500;

		snprintf(to, size, "%s %s%s", rights[q->kind][q->right], n > most ? "..." : "",
			 q->path + (n > most ? n - most : 0));
	} else {
		put_address(address, sizeof(address), q);
		snprintf(to, size, "%s %s", rights[q->kind][q->right], address);
	}
	for (; *to; to++)	/* what comes from ring 3 must not move the cursor */
		if ((unsigned char)*to < ' ' || *to == 127)
			*to = '?';
}

/* A line, or nothing: the end of the file, a signal. */
static void read_line(int fd, char *to, size_t size)
{
	ssize_t n = read(fd, to, size - 1);

	to[n > 0 ? n : 0] = '\0';
	to[strcspn(to, "\n")] = '\0';
}

static enum dune_sandbox_verdict ask_terminal(const struct dune_sandbox_request *q)
{
	char what[QUESTION], text[QUESTION + 200], typed[64], wanted[16];
	uint32_t number;

	if (q->fd < 0 || getrandom(&number, sizeof(number), 0) != sizeof(number))
		return DUNE_SANDBOX_DENY;
	snprintf(wanted, sizeof(wanted), "%06u", number % 1000000);
	put_question(what, sizeof(what), q);
	snprintf(text, sizeof(text), "\ndune-sandbox: process %d wants to %s (%s:%u)\n"
		 "dune-sandbox: type %s to allow it, anything else to deny it: ", q->pid, what,
		 q->policy, q->line, wanted);
	tcflush(q->fd, TCIFLUSH);	/* nothing that was typed before the question */
	if (write(q->fd, text, strlen(text)) < 0)
		return DUNE_SANDBOX_DENY;
	read_line(q->fd, typed, sizeof(typed));
	return strcmp(typed, wanted) ? DUNE_SANDBOX_DENY : DUNE_SANDBOX_ALLOW;
}

enum dune_sandbox_verdict ask(const struct dune_sandbox_request *q, void *data)
{
	const struct ask_how *how = data;

	switch (how->answer) {
	case ASK_ALLOW:
		return DUNE_SANDBOX_ALLOW;
	case ASK_TERMINAL:
		return ask_terminal(q);
	default:
		return DUNE_SANDBOX_DENY;
	}
}
