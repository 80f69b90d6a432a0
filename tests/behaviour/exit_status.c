/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * How a Dune process ends is what its parent sees: exit statuses, death by
 * signals from outside, by its own hand, and by exceptions that nobody
 * handles.  Parent and children all run in Dune mode.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <sys/resource.h>

static const char *self;

/* What a child has to show before it ends. */
struct mark {
	volatile int inside;	/* it was in guest mode */
	volatile int left;	/* its atexit handler ran */
};

static struct mark *marks;

static void enter(unsigned int i)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	dune_test_child_enter();
	marks[i].inside = dune_test_cpl() == 0;
}

static struct mark *leaving;

static void on_exit_handler(void)
{
	leaving->left = dune_test_cpl() == 0 ? 1 : 2;
}

static int do_exit0(unsigned int i) { (void)i; exit(0); }
static int do_exit1(unsigned int i) { (void)i; exit(1); }
static int do_exit42(unsigned int i)
{
	leaving = &marks[i];
	atexit(on_exit_handler);
	exit(42);
}
static int do_exit_fast(unsigned int i) { (void)i; _exit(255); }
static int do_return(unsigned int i) { (void)i; return 7; }
static int do_abort(unsigned int i) { (void)i; abort(); }
static int do_kill(unsigned int i) { (void)i; kill(getpid(), SIGKILL); return 0; }
static int do_raise(unsigned int i) { (void)i; raise(SIGTERM); return 0; }

__attribute__((noreturn)) static int do_spin(unsigned int i)
{
	marks[i].inside = 2;
	for (;;)
		asm volatile("" : : : "memory");
}

__attribute__((noreturn)) static int do_sleep(unsigned int i)
{
	marks[i].inside = 2;
	for (;;)
		pause();
}

static int do_page_fault(unsigned int i)
{
	int *volatile nowhere = (int *)16;

	(void)i;
	*nowhere = 1;
	return 0;
}

static int do_ud2(unsigned int i) { (void)i; asm volatile("ud2"); return 0; }
static int do_int3(unsigned int i) { (void)i; asm volatile("int3"); return 0; }

static int do_gp(unsigned int i)
{
	(void)i;
	asm volatile("movw %w0, %%fs" : : "r"(0x7ff8));
	return 0;
}

static int do_divide(unsigned int i)
{
	int a = 1, d = 0;

	asm volatile("idivl %2" : "+a"(a), "+d"(d) : "c"(i & 0));
	return 0;
}

static int do_exec(unsigned int i)
{
	char *argv[] = { (char *)self, (char *)"--execed", NULL }, *envp[] = { NULL };

	(void)i;
	execve("/proc/self/exe", argv, envp);
	return 121;
}

#define EXIT(n)		((n) << 8)
#define OUTSIDE		0x10000		/* the parent sends the signal */

static const struct {
	const char *name;
	int (*fn)(unsigned int);
	int want;		/* wait status without the core bit */
} cases[] = {
	{ "exit(0)", do_exit0, EXIT(0) },
	{ "exit(1)", do_exit1, EXIT(1) },
	{ "exit(42)", do_exit42, EXIT(42) },
	{ "_exit(255)", do_exit_fast, EXIT(255) },
	{ "return from the child's function", do_return, EXIT(7) },
	{ "exec of a program that exits 9", do_exec, EXIT(9) },
	{ "abort()", do_abort, SIGABRT },
	{ "SIGKILL by its own hand", do_kill, SIGKILL },
	{ "SIGTERM by its own hand", do_raise, SIGTERM },
	{ "SIGKILL while it spins", do_spin, SIGKILL | OUTSIDE },
	{ "SIGKILL while it sleeps", do_sleep, SIGKILL | OUTSIDE },
	{ "SIGTERM while it spins", do_spin, SIGTERM | OUTSIDE },
	{ "SIGTERM while it sleeps", do_sleep, SIGTERM | OUTSIDE },
	{ "unhandled page fault", do_page_fault, SIGSEGV },
	{ "unhandled general protection", do_gp, SIGSEGV },
	{ "unhandled invalid opcode", do_ud2, SIGILL },
	{ "unhandled divide error", do_divide, SIGFPE },
	{ "unhandled breakpoint", do_int3, SIGTRAP },
};

#define CASES	(sizeof(cases) / sizeof(cases[0]))

static int run_case(void *arg)
{
	unsigned int i = (unsigned int)(uintptr_t)arg;

	enter(i);
	return cases[i].fn(i);
}

static void check(unsigned int i, struct child *c)
{
	int status, want = cases[i].want & 0xffff;

	child_go(c);
	if (cases[i].want & OUTSIDE) {
		double end = child_now() + 30;
		struct timespec nap = { 0, 1000000 };

		while (marks[i].inside != 2 && child_now() < end)
			nanosleep(&nap, NULL);
		nap.tv_nsec = 20000000;		/* let it be deep in guest mode */
		nanosleep(&nap, NULL);
		kill(c->pid, cases[i].want & 0x7f);
	}
	status = child_wait(c);
	if ((status & ~0x80) != want)
		ktap_note("%s: %s", cases[i].name, child_status(status));
	if (!marks[i].inside)
		ktap_note("%s: the child was not in guest mode", cases[i].name);
	ktap_ok((status & ~0x80) == want && marks[i].inside, "%s", cases[i].name);
}

int main(int argc, char **argv)
{
	struct child children[CASES];

	if (argc > 1 && !strcmp(argv[1], "--execed"))
		_exit(dune_test_cpl() == 3 ? 9 : 10);	/* an ordinary process again */

	self = argv[0];
	ktap_plan(DUNE_TEST_ENTER + CASES + 1 + DUNE_TEST_LEAVE);
	marks = child_shared(CASES * sizeof(*marks));
	for (unsigned int i = 0; i < CASES; i++)
		children[i] = child_start(run_case, (void *)(uintptr_t)i);
	dune_test_enter();

	for (unsigned int i = 0; i < CASES; i++)
		check(i, &children[i]);
	ktap_eq(marks[2].left, 1, "atexit handlers run in guest mode");
	return dune_test_done();
}
