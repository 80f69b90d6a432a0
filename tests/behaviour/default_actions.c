/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 slow-bochs=32 */
/*
 * Each of the 64 signals does to a Dune process what it does to a native one, while
 * it computes and while it sleeps: ends it, dumps core, stops it, or nothing.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/procfs.h>
#include <sys/resource.h>

#define SIGNALS		64
#define NOTHING		0x10000		/* it went on as before */
#define STOPPED		0x20000		/* it stopped, and went on when told to */
#define STUCK		0x40000		/* and never went on */

struct life {
	volatile unsigned long beats;
	volatile int cpl;
	bool sleeps;		/* between its beats */
	bool cores;		/* it may dump core */
};

static struct life *lives;	/* one per signal: native; computing; sleeping */

static int live(void *arg)
{
	struct rlimit limit = { 0, 0 };
	struct timespec nap = { 0, 1000000 };
	struct life *l = arg;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);		/* an orphaned group is not stopped by a terminal's signals */
	limit.rlim_cur = limit.rlim_max = l->cores ? RLIM_INFINITY : 0;
	setrlimit(RLIMIT_CORE, &limit);
	l->cpl = (int)dune_test_cpl() + 1;
	for (;;) {
		l->beats++;
		if (l->sleeps)
			nanosleep(&nap, NULL);
	}
	return 0;
}

/* Beats count from a while after @since: what ends it may take its time to reach it. */
static bool goes_on(const struct life *l, unsigned long *from, double since)
{
	if (child_now() - since > 0.1)
		return l->beats - *from > (l->sleeps ? 5 : 100000);
	*from = l->beats;
	return false;
}

/* A stopped child: it stands still, and goes on when told to. */
static int stop_and_go(pid_t pid, const struct life *l, int status)
{
	unsigned long still = l->beats;
	struct timespec nap = { 0, 20000000 };
	int again = 0;

	nanosleep(&nap, NULL);
	if (l->beats != still)
		return STUCK | status;
	kill(pid, SIGCONT);
	if (waitpid(pid, &again, WCONTINUED) != pid || !WIFCONTINUED(again))
		return STUCK | again;
	for (double since = child_now(); !goes_on(l, &still, since);)
		if (child_now() - since > 60)
			return STUCK;
	return STOPPED | status;
}

static int end(pid_t pid, int result)
{
	int status = 0;

	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
		return STUCK | status;
	return result;
}

/* What @sig does to the child @pid, which lives @l. */
static int effect(pid_t pid, const struct life *l, int sig)
{
	unsigned long before;
	double since = child_now();
	int status = 0;

	while (l->beats < 3)
		if (child_now() - since > 60)
			return STUCK;
	kill(pid, sig);
	before = l->beats;
	since = child_now();
	while (!waitpid(pid, &status, WNOHANG | WUNTRACED)) {
		if (goes_on(l, &before, since))
			return end(pid, NOTHING);
		sched_yield();
	}
	if (!WIFSTOPPED(status))
		return status;
	return end(pid, stop_and_go(pid, l, status));
}

static int dune_effect(struct life *l, int sig)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(live(l));
	return effect(pid, l, sig);
}

static const char *word(int result)
{
	static char buf[64];

	if (result == NOTHING)
		return "nothing";
	snprintf(buf, sizeof(buf), "%s0x%x", result & STOPPED ? "stopped, " :
		 result & STUCK ? "stuck, " : "status ", (unsigned int)result & 0xffff);
	return buf;
}

static void all_signals(struct child *native)
{
	unsigned int wrong[2] = { 0, 0 }, kinds[3] = { 0, 0, 0 }, levels = 0;

	for (int sig = 1; sig <= SIGNALS; sig++) {
		struct life *l = &lives[sig];
		int want, got;

		child_go(&native[sig]);
		want = effect(native[sig].pid, l, sig);
		kinds[want == NOTHING ? 0 : want & STOPPED ? 1 : 2]++;
		for (unsigned int how = 0; how < 2; how++) {
			struct life *d = &lives[(how + 1) * (SIGNALS + 1) + sig];

			d->sleeps = how == 1;
			got = dune_effect(d, sig);
			levels += d->cpl != 1 || l->cpl != 4;
			if (got == want)
				continue;
			wrong[how]++;
			ktap_note("signal %d: %s, %s", sig, how ? "asleep" : "computing", word(got));
			ktap_note("natively: %s", word(want));
		}
	}
	ktap_note("%u do nothing, %u stop, %u end", kinds[0], kinds[1], kinds[2]);
	ktap_ok(kinds[0] == 4 && kinds[1] == 4 && kinds[2] == 56, "64 signals and their defaults");
	ktap_eq(wrong[0], 0, "a child that computes meets them as a native one");
	ktap_eq(wrong[1], 0, "a child that sleeps as well");
	ktap_eq(levels, 0, "the former are in ring 0, the native ones in ring 3");
}

/* ---- core files ---------------------------------------------------------- */

#define PATTERN		"/proc/sys/kernel/core_pattern"
#define CORE		"/tmp/dunelab.core"

static char old_pattern[256];

static bool write_pattern(const char *text)
{
	int fd = open(PATTERN, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return ok;
}

static void read_pattern(void)
{
	int fd = open(PATTERN, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, old_pattern, sizeof(old_pattern) - 1);

	if (n < 0)
		ktap_bail("%s: %s", PATTERN, strerror(errno));
	close(fd);
}

/* The signal in the first NT_PRSTATUS note of the core file; a negative number: where it is bad. */
static int core_signal(void)
{
	Elf64_Ehdr e;
	Elf64_Phdr ph;
	struct __attribute__((packed)) {
		Elf64_Nhdr head;
		char name[8];
		struct elf_prstatus status;
	} note;
	int fd = open(CORE, O_RDONLY | O_CLOEXEC), sig = -1;

	if (fd < 0)
		return -2;
	if (pread(fd, &e, sizeof(e), 0) != sizeof(e) || memcmp(e.e_ident, ELFMAG, SELFMAG) ||
	    e.e_type != ET_CORE)
		sig = -3;
	for (int i = 0; sig == -1 && i < e.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(e.e_phoff + i * sizeof(ph))) != sizeof(ph))
			sig = -4;
		else if (ph.p_type == PT_NOTE &&
			 pread(fd, &note, sizeof(note), (off_t)ph.p_offset) == sizeof(note) &&
			 note.head.n_type == NT_PRSTATUS)
			sig = note.status.pr_cursig;
	}
	close(fd);
	unlink(CORE);
	return sig;
}

static int divide(void *arg)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int a = 1, d = 0;

	(void)arg;
	setrlimit(RLIMIT_CORE, &all);
	asm volatile("idivl %%ecx" : "+a"(a), "+d"(d) : "c"(0));
	return 1;
}

static void cores(void)
{
	static const int signals[] = { SIGQUIT, SIGSEGV, SIGABRT, SIGSYS };
	struct life *l = &lives[0];
	unsigned int good = 0;
	struct child c;
	int status;

	if (!write_pattern(CORE))
		ktap_bail("%s: %s", PATTERN, strerror(errno));
	for (unsigned int i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		int sig, got;

		memset(l, 0, sizeof(*l));
		l->cores = true;
		got = dune_effect(l, signals[i]);
		sig = core_signal();
		if (got == (signals[i] | 0x80) && sig == signals[i])
			good++;
		else
			ktap_note("signal %d: %s, in the core file %d", signals[i], word(got), sig);
	}
	ktap_eq(good, sizeof(signals) / sizeof(signals[0]),
		"with a core limit a core file is written, and the wait status says so");
	c.pid = fork();
	if (c.pid == 0)
		_exit(divide(NULL));
	status = child_wait(&c);
	ktap_ok(status == (SIGFPE | 0x80) && core_signal() == SIGFPE,
		"also after an exception that nobody handles (%s)", child_status(status));
	write_pattern(old_pattern);
}

int main(void)
{
	struct child native[SIGNALS + 1];

	ktap_plan(DUNE_TEST_ENTER + 6 + DUNE_TEST_LEAVE);
	for (int sig = 1; sig <= SIGNALS; sig++)
		signal(sig, SIG_DFL);	/* whoever started us may have ignored some */
	read_pattern();
	lives = child_shared(3 * (SIGNALS + 1) * sizeof(*lives));
	for (int sig = 1; sig <= SIGNALS; sig++)
		native[sig] = child_start(live, &lives[sig]);
	dune_test_enter();
	all_signals(native);
	cores();
	return dune_test_done();
}
