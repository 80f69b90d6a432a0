/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 */
/*
 * Processes made in Dune mode: fork, vfork, clone, clone3, posix_spawn, system
 * and popen.  The child is in Dune mode with a copy of everything, its page
 * tables included, until it calls exec.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../trap.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>

extern char **environ;

static volatile unsigned int handled;
static volatile int value = 1;

static void on_ud2(struct dune_tf *tf)
{
	handled++;
	tf->rip += 2;
}

static bool in_dune_mode(void)
{
	unsigned int before = handled;

	asm volatile("ud2" : : : "memory");
	return dune_test_cpl() == 0 && dune_in_guest() && dune_test_counters_move() &&
	       handled == before + 1 && dune_enter() == 0;
}

static int wait_for(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static bool exited(int status, int with)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == with;
}

/* ---- copies -------------------------------------------------------------- */

static void copies(void)
{
	int pipes[2], status;
	char byte = 0;
	pid_t pid;

	if (pipe(pipes))
		ktap_bail("pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		if (!in_dune_mode())
			_exit(10);
		if (value != 1)
			_exit(11);
		value = 2;
		_exit(read(pipes[0], &byte, 1) == 1 && value == 2 ? 42 : 12);
	}
	value = 3;
	byte = 'x';
	if (write(pipes[1], &byte, 1) != 1)
		ktap_bail("write: %s", strerror(errno));
	status = wait_for(pid);
	ktap_ok(exited(status, 42), "a fork's child is in Dune mode with its own copy (%s)",
		child_status(status));
	ktap_ok(value == 3 && in_dune_mode(), "and so is the parent");
	value = 1;
	close(pipes[0]);
	close(pipes[1]);
}

/* A child edits its page tables: the parent's are another copy, and the reverse. */
static void page_tables(void)
{
	ptent_t before = pgroot[511], *entry = &pgroot[511];
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		*entry = 0x1234000;
		_exit(pgroot[511] == 0x1234000 && in_dune_mode() ? 42 : 43);
	}
	status = wait_for(pid);
	ktap_ok(exited(status, 42) && *entry == before && in_dune_mode(),
		"page tables are copied (%s)", child_status(status));
}

static int nest(int depth)
{
	pid_t pid;

	if (!in_dune_mode())
		return 99;
	if (depth == 0)
		return 10;
	pid = fork();
	if (pid == 0)
		_exit(nest(depth - 1));
	return exited(wait_for(pid), 10) ? 10 : 98;
}

static void many(void)
{
	unsigned int good = 0;

	ktap_eq(nest(10), 10, "forks nested ten deep");
	for (unsigned int i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(in_dune_mode() ? (int)(i & 63) : 100);
		good += exited(wait_for(pid), (int)(i & 63));
	}
	ktap_eq(good, 100, "a hundred, one after the other");
}

/* ---- other ways ---------------------------------------------------------- */

static int clone_body(void *arg)
{
	value = *(int *)arg;
	return in_dune_mode() ? 21 : 22;
}

static void clones(void)
{
	struct clone_args args;
	size_t size = 65536;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int five = 5, status;
	pid_t pid, settid = 0;

	pid = clone(clone_body, stack + size, SIGCHLD, &five);
	status = wait_for(pid);
	ktap_ok(exited(status, 21) && value == 1, "clone with a stack and a copy (%s)",
		child_status(status));
	pid = clone(clone_body, stack + size, CLONE_VM | SIGCHLD, &five);
	status = wait_for(pid);
	ktap_ok(exited(status, 21) && value == 5, "clone that shares the memory (%s)",
		child_status(status));
	value = 1;
	pid = clone(clone_body, stack + size,
		    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_PARENT_SETTID | SIGCHLD,
		    &five, &settid);
	status = wait_for(pid);
	ktap_ok(exited(status, 21) && value == 5 && settid == pid, "that shares all (%s)",
		child_status(status));
	value = 1;

	memset(&args, 0, sizeof(args));
	args.exit_signal = SIGCHLD;
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		_exit(in_dune_mode() ? 23 : 24);
	status = wait_for(pid);
	ktap_ok(exited(status, 23), "clone3 (%s)", child_status(status));
	errno = 0;
	ktap_ok(syscall(SYS_clone3, NULL, sizeof(args)) == -1 && errno == EFAULT &&
		syscall(SYS_clone3, &args, 8UL) == -1 && errno == EINVAL, "and its errors");
}

static void vforks(void)
{
	int status;
	pid_t pid = vfork();

	if (pid == 0) {
		value = 7;
		_exit(dune_test_cpl() == 0 ? 31 : 32);
	}
	status = wait_for(pid);
	ktap_ok(exited(status, 31) && value == 7 && in_dune_mode(), "vfork (%s)",
		child_status(status));
	value = 1;
	pid = vfork();
	if (pid == 0) {
		execl("/nowhere/at/all", "all", (char *)NULL);
		execl("/proc/self/exe", "children", "--exec", (char *)NULL);
		_exit(33);
	}
	status = wait_for(pid);
	ktap_ok(exited(status, 44) && in_dune_mode(), "vfork and exec (%s)", child_status(status));
}

static volatile unsigned int chld;

static void on_chld(int sig)
{
	(void)sig;
	chld++;
}

static void libc(void)
{
	char *argv[] = { (char *)"children", (char *)"--exec", NULL };
	posix_spawnattr_t attr;
	char line[64] = "";
	int status = -1;
	sigset_t set;
	FILE *f;
	pid_t pid;

	signal(SIGCHLD, on_chld);
	sigfillset(&set);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigdefault(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	if (posix_spawn(&pid, "/proc/self/exe", NULL, &attr, argv, environ) == 0)
		status = wait_for(pid);
	ktap_ok(exited(status, 44), "posix_spawn (%s)", child_status(status));
	raise(SIGCHLD);
	ktap_ok(chld >= 1, "whose child reset its own signal handlers, not ours");
	ktap_ok(posix_spawn(&pid, "/nowhere", NULL, NULL, argv, environ) == ENOENT,
		"posix_spawn of nothing");
	signal(SIGCHLD, SIG_DFL);

	status = system("exit 9");
	ktap_ok(exited(status, 9), "system (%s)", child_status(status));
	f = popen("echo one", "r");
	ktap_ok(f && fgets(line, sizeof(line), f) && !strcmp(line, "one\n") && pclose(f) == 0,
		"popen");
}

static void orphans(void)
{
	int pipes[2], status;
	char byte = 0;
	pid_t pid;

	if (pipe(pipes))
		ktap_bail("pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		if (fork() == 0) {	/* outlives its parent */
			setsid();
			usleep(50000);
			byte = in_dune_mode() ? 'y' : 'n';
			_exit(write(pipes[1], &byte, 1) == 1 ? 0 : 1);
		}
		_exit(0);
	}
	status = wait_for(pid);
	ktap_ok(exited(status, 0) && read(pipes[0], &byte, 1) == 1 && byte == 'y',
		"an orphan lives on in Dune mode");
	pid = fork();
	if (pid == 0)
		for (;;)
			in_dune_mode();
	usleep(30000);
	kill(pid, SIGKILL);
	status = wait_for(pid);
	ktap_ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a busy child dies of SIGKILL (%s)",
		child_status(status));
}

/* Descriptors of libdune's are not the program's to close. */
static void descriptors(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), status;
	pid_t pid;

	ktap_ok(fd >= 0 && fd < 16, "the lowest free descriptor is the program's (%d)", fd);
	close(fd);
	pid = fork();
	if (pid == 0) {
		syscall(SYS_close_range, 3U, ~0U, 0U);
		for (int i = 3; i < 1024; i++)
			close(i);
		_exit(in_dune_mode() && fork() >= 0 && in_dune_mode() ? 0 : 1);
	}
	status = wait_for(pid);
	ktap_ok(exited(status, 0), "a child that closes them all stays in Dune mode (%s)",
		child_status(status));
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--exec"))
		_exit(dune_test_cpl() == 3 ? 44 : 45);

	ktap_plan(DUNE_TEST_ENTER + 21 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_intr_handler(TRAP_UD, on_ud2);
	copies();
	page_tables();
	many();
	clones();
	vforks();
	libc();
	orphans();
	descriptors();
	return dune_test_done();
}
