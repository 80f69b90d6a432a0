/* SPDX-License-Identifier: MIT */
/*
 * A person at a terminal: runs a command on one of its own, waits until "type N to allow" stands
 * there, and types N, or what the first argument says if that is not "number".
 *
 *	sandbox_tty number|TEXT PROG ARG...
 *
 * Copies the terminal to standard output; the exit status is PROG's.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS	60

static const char begins[] = "type ", ends[] = "to deny it: ";

static void on_terminal(const char *name, char **argv)
{
	int fd;

	setsid();
	fd = open(name, O_RDWR);
	if (fd < 0 || ioctl(fd, TIOCSCTTY, 0))
		_exit(126);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	execvp(argv[0], argv);
	_exit(127);
}

/* Answers the question that @said ends with, if it does. */
static void answer(int terminal, const char *said, const char *text)
{
	size_t n = strlen(said);
	const char *number = NULL, *next = said;
	char line[64];

	if (n < sizeof(ends) || strcmp(said + n - strlen(ends), ends))
		return;
	while ((next = strstr(next, begins)))
		number = next += strlen(begins);
	if (number && !strcmp(text, "number"))
		snprintf(line, sizeof(line), "%.6s\n", number);
	else
		snprintf(line, sizeof(line), "%s\n", text);
	if (write(terminal, line, strlen(line)) < 0)
		exit(125);
}

int main(int argc, char **argv)
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), status = 0;
	static char said[65536];
	size_t n = 0;
	pid_t pid;

	if (argc < 3 || terminal < 0 || grantpt(terminal) || unlockpt(terminal))
		return 125;
	alarm(SECONDS);
	pid = fork();
	if (!pid)
		on_terminal(ptsname(terminal), argv + 2);
	for (;;) {
		ssize_t got = read(terminal, said + n, sizeof(said) - 1 - n);

		if (got <= 0) {		/* EIO: nobody has it open any more, or not yet */
			if (waitpid(pid, &status, WNOHANG) == pid)
				break;
			usleep(10000);
			continue;
		}
		n += (size_t)got;
		said[n] = '\0';
		answer(terminal, said, argv[1]);
	}
	fwrite(said, 1, n, stdout);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
