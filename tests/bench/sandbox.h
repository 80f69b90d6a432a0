/* SPDX-License-Identifier: MIT */
/*
 * A batch in a process of its own, natively or in ring 3 of dune-sandbox: the program starts
 * itself again, there and here alike.
 *
 *	static const struct sandbox_case cases[] = { { .batch = f, .n = 1000 }, ... };
 *
 *	int main(int argc, char **argv)
 *	{
 *		if (argc > 1)
 *			return sandbox_inside(argv, cases);
 *		sandbox_run(&b, NULL, cases, 0);			natively
 *		sandbox_run(&b, sandbox_allow_all, cases, 0);
 *
 * Its exits cannot be read in ring 3: the parent reads the module's list of vCPUs, before
 * n operations, between them and 2 n others, and after those.
 */
#ifndef TESTS_BENCH_SANDBOX_H
#define TESTS_BENCH_SANDBOX_H

#include "../child.h"
#include "bench.h"

#include <fcntl.h>
#include <sys/socket.h>

#define SANDBOX_VCPUS	"/sys/kernel/debug/dune/vcpus"

struct sandbox_case {
	void *(*prepare)(void);		/* gives the batch its argument; NULL: it has none */
	void (*batch)(unsigned int n, void *arg);
	unsigned int n;
};

static const char *const sandbox_allow_all[] = { "dune-sandbox", "--allow-all", "--path", NULL };

/* Exits of a process of one thread, without those for the host's interrupts; -1: no vCPU. */
static long sandbox_exits(pid_t pid)
{
	FILE *list = fopen(SANDBOX_VCPUS, "re");
	char line[1000];
	long exits = -1;

	if (!list)
		ktap_bail(SANDBOX_VCPUS ": %s", strerror(errno));
	while (fgets(line, sizeof(line), list)) {
		char *word = strtok(line, " \n");
		bool interrupt = false;

		if (!word || strcmp(word, "tid") || atoi(strtok(NULL, " ")) != pid)
			continue;
		exits = 0;
		while ((word = strtok(NULL, " \n"))) {
			if (strchr(word, '/'))
				exits += interrupt ? 0 : atol(word);
			interrupt = !strcmp(word, "interrupt") || !strcmp(word, "nmi");
		}
	}
	fclose(list);
	return exits;
}

/* To the other process, and what comes back from it. */
static void sandbox_send(int fd)
{
	if (write(fd, "", 1) != 1)
		ktap_bail("the other process is gone");
}

static void sandbox_receive(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		ktap_bail("the other process is gone");
}

/* argv: inside CASE SHARED SOCKET */
__attribute__((unused)) static int sandbox_inside(char **argv, const struct sandbox_case *cases)
{
	const struct sandbox_case *c = &cases[atoi(argv[2])];
	int shared = atoi(argv[3]), sock = atoi(argv[4]);
	struct bench *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	void *arg = c->prepare ? c->prepare() : NULL;

	if (b == MAP_FAILED || dune_test_cpl() != 3)
		return 1;
	bench_run(b, c->batch, arg, c->n);
	for (unsigned int i = 1; i <= 2; i++) {
		sandbox_send(sock);
		sandbox_receive(sock);
		c->batch(i * c->n, arg);
	}
	sandbox_send(sock);
	sandbox_receive(sock);
	return 0;
}

static pid_t sandbox_start(const char *const *runner, unsigned int i, int shared, int sock)
{
	char *args[12], path[200], number[3][12];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	unsigned int n = 0;
	pid_t pid;

	if (len < 0)
		ktap_bail("/proc/self/exe: %s", strerror(errno));
	path[len] = '\0';
	for (; runner && runner[n]; n++)
		args[n] = (char *)runner[n];
	args[n++] = path;
	args[n++] = "inside";
	snprintf(number[0], sizeof(number[0]), "%u", i);
	snprintf(number[1], sizeof(number[1]), "%d", shared);
	snprintf(number[2], sizeof(number[2]), "%d", sock);
	for (unsigned int k = 0; k < 3; k++)
		args[n++] = number[k];
	args[n] = NULL;
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execvp(args[0], args);
	_exit(127);
}

/* Measures case @i under @runner: words of a command line up to NULL, or NULL. */
__attribute__((unused)) static void sandbox_run(struct bench *b, const char *const *runner,
						const struct sandbox_case *cases, unsigned int i)
{
	int shared = memfd_create("shared", 0), sock[2], status;
	long exits[3], n = cases[i].n;
	struct bench *said;
	pid_t pid;

	if (shared < 0 || ftruncate(shared, sizeof(*said)) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sock) || fcntl(sock[0], F_SETFD, FD_CLOEXEC))
		ktap_bail("what is shared with a child: %s", strerror(errno));
	said = mmap(NULL, sizeof(*said), PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	if (said == MAP_FAILED)
		ktap_bail("mmap: %s", strerror(errno));
	pid = sandbox_start(runner, i, shared, sock[1]);
	close(sock[1]);
	close(shared);
	for (unsigned int k = 0; k < 3; k++) {
		sandbox_receive(sock[0]);
		exits[k] = sandbox_exits(pid);
		sandbox_send(sock[0]);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		ktap_bail("case %u: status 0x%x", i, (unsigned int)status);
	close(sock[0]);
	*b = *said;
	if (runner) {
		if (exits[0] < 0)
			ktap_bail("case %u: the process had no vCPU", i);
		/* 2 n and what is between, less n and what is between */
		b->exits = ((exits[2] - 2 * exits[1] + exits[0]) * 100 + n / 2) / n;
	}
	munmap(said, sizeof(*said));
}

#endif /* TESTS_BENCH_SANDBOX_H */
