// SPDX-License-Identifier: MIT
/*
 * Children that share unusual things with their parents, and arguments of clone3
 * that Linux refuses.
 */
#include "probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/personality.h>

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static long raw_clone(unsigned long flags)
{
	return syscall(SYS_clone, flags, 0, NULL, NULL, 0);
}

/* The table of descriptors is shared, the memory is not. */
static void shared_descriptors(void)
{
	int before = count_descriptors(), status[4], n = 0;
	long pid;

	pid = raw_clone(CLONE_FILES | SIGCHLD);
	if (!pid) {
		if (open("/dev/null", O_RDONLY) < 0)
			_exit(1);
		_exit(7);
	}
	status[n++] = status_of((pid_t)pid);

	pid = raw_clone(CLONE_FILES | CLONE_FS | SIGCHLD);
	if (!pid) {
		pid_t inner = fork();

		if (!inner)
			_exit(3);
		syscall(SYS_exit, status_of(inner) == 3 << 8 ? 8 : 1);
	}
	status[n++] = status_of((pid_t)pid);

	pid = raw_clone(CLONE_FILES | SIGCHLD);
	if (!pid) {
		execl("/bin/sh", "sh", "-c", "exit 9", NULL);
		_exit(1);
	}
	status[n++] = status_of((pid_t)pid);

	pid = fork();
	if (!pid)
		_exit(10);
	status[n++] = status_of((pid_t)pid);
	for (int i = 0; i < n; i++)
		say("child %d: %x", i, (unsigned int)status[i]);
	say("descriptors that stay: %d", count_descriptors() - before);
}

static void clone3_one(const char *what, void *args, size_t size)
{
	long pid = syscall(SYS_clone3, args, size);

	if (!pid)
		_exit(5);
	if (pid < 0)
		say("%s: error %d", what, errno);
	else
		say("%s: %x", what, (unsigned int)status_of((pid_t)pid));
}

static void clone3_sizes(void)
{
	static const unsigned int sizes[] = { 0, 56, 63, 64, 72, 80, 81, 88, 89, 96, 127, 128,
					      4096, 4097 };
	static char bytes[4104];
	struct clone_args *args = (struct clone_args *)bytes;

	args->exit_signal = SIGCHLD;
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char what[32];

		snprintf(what, sizeof(what), "%u bytes", sizes[i]);
		clone3_one(what, args, sizes[i]);
	}
	bytes[300] = 1;
	clone3_one("a word that nobody knows", args, 304);
	clone3_one("its last byte", args, 301);
	clone3_one("just before it", args, 300);
	clone3_one("no memory", (void *)8, sizeof(*args));
}

static void clone3_arguments(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	struct clone_args args = { .exit_signal = SIGCHLD };

	args.stack = (uintptr_t)stack;
	clone3_one("a stack without size", &args, sizeof(args));
	args.stack = 0;
	args.stack_size = sizeof(stack);
	clone3_one("a size without stack", &args, sizeof(args));
	args.stack = 1ULL << 47;
	clone3_one("a stack that cannot be", &args, sizeof(args));
	args.flags = CLONE_VM | CLONE_VFORK;
	clone3_one("shared memory and that stack", &args, sizeof(args));
	args.stack = args.stack_size = 0;
	args.flags = 1ULL << 40;
	clone3_one("an unknown flag", &args, sizeof(args));
	args.flags = 0;
	args.exit_signal = 200;
	clone3_one("an unknown signal", &args, sizeof(args));
}

/* Every readable mapping is executable then, so that nothing may mind it. */
static void readable_is_executable(void)
{
	pid_t pid;

	personality(READ_IMPLIES_EXEC);
	pid = fork();
	if (!pid)
		_exit(3);
	say("fork: %x", (unsigned int)status_of(pid));
	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c", "cat /proc/self/personality; exit 4", NULL);
		_exit(1);
	}
	say("exec: %x", (unsigned int)status_of(pid));
	say("personality %x", (unsigned int)personality(0xffffffff));
}

static ssize_t arguments_of(pid_t pid, char *text, size_t size)
{
	char path[40];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? -1 : pread(fd, text, size, 0);
	close(fd);
	return n;
}

/*
 * As soon as it has any of its own: vfork() returns before exec has the new address
 * space in use (exec_mmap()), and that has its arguments later still.
 */
static bool has_arguments(pid_t pid, const char *want, size_t len)
{
	char own[200], text[200];
	ssize_t own_len = arguments_of(getpid(), own, sizeof(own)), n;

	do {
		n = arguments_of(pid, text, sizeof(text));
	} while (!n || (n == own_len && !memcmp(text, own, (size_t)n)));
	if (n == (ssize_t)len && !memcmp(text, want, len))
		return true;
	for (ssize_t i = 0; i < n; i++)
		text[i] = text[i] ? text[i] : ' ';
	say("%.*s", n > 0 ? (int)n : 0, text);
	return false;
}

/* Whoever starts a program sees it as what it is, from the first moment on. */
static void arguments_seen(void)
{
	static const char want[] = "cat\0-\0-";
	char *args[] = { "cat", "-", "-", NULL };
	volatile int right = 0, i;
	int ends[2];
	pid_t pid;

	for (i = 0; i < 20; i++) {
		if (pipe(ends))
			return;
		pid = vfork();
		if (!pid) {
			dup2(ends[0], STDIN_FILENO);
			close(ends[1]);
			execv("/bin/cat", args);
			_exit(1);
		}
		right += has_arguments(pid, want, sizeof(want));
		close(ends[0]);
		close(ends[1]);
		status_of(pid);
	}
	say("right %d times", right);
}

static const struct probe probes[] = {
	{ "arguments of a new program", arguments_seen },
	{ "shared descriptors", shared_descriptors },
	{ "sizes of clone3", clone3_sizes },
	{ "arguments of clone3", clone3_arguments },
	{ "READ_IMPLIES_EXEC", readable_is_executable },
	{ NULL, NULL },
};

int main(void)
{
	return probe_all(probes);
}
