/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=240 slow-bochs=100 thorough */
/*
 * Running out of memory while entering, forking and growing: processes in a
 * memory cgroup whose limit goes from nothing to plenty in small steps, so that
 * each allocation of the way is the one that fails.  A process gets through, is
 * told ENOMEM, or is killed by the OOM killer; one that the OOM killer must spare
 * is told.  Nothing of it stays: memory and module are as before.
 */
#define _GNU_SOURCE
#define GROUP_NAME "mem_cramped"
#include "../group.h"
#include "../meminfo.h"

#include <sys/ioctl.h>

#define STEP		(32L * 1024)
#define STEPS		48
#define LEAK_KIB	1024
#define ROUNDS		4	/* what leaks does so each time; caches have grown at last */
#define TOUCHED		(256L * 1024)

/* What a child ends with. */
enum { THROUGH, TOLD, KILLED, STRANGE };

static void join_group(void)
{
	if (!mem_write_number(file_in_group("cgroup.procs"), (long)getpid()))
		_exit(STRANGE);
}

static int enter(void)
{
	int ret = dune_init_and_enter();

	if (ret)
		return ret == -ENOMEM ? TOLD : STRANGE;
	return dune_test_cpl() == 0 ? THROUGH : STRANGE;
}

static void touch(unsigned char *p)
{
	for (long i = 0; i < TOUCHED; i += PAGE)
		*(volatile unsigned char *)(p + i) = 1;
}

static int fork_once(unsigned char *p)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return errno == ENOMEM ? TOLD : STRANGE;
	if (pid == 0) {
		touch(p);
		_exit(dune_test_cpl() == 0 ? THROUGH : STRANGE);
	}
	if (waitpid(pid, &status, 0) != pid)
		return STRANGE;
	return WIFSIGNALED(status) ? KILLED : WEXITSTATUS(status);
}

static int enters(unsigned char *p)
{
	(void)p;
	join_group();
	return enter();
}

static int forks(unsigned char *p)
{
	int ret = enter();

	if (ret != THROUGH)
		return STRANGE;
	join_group();
	return fork_once(p);
}

/* Fills gaps in the second stage's tables as well: a page in each of many GiBs. */
static int grows(unsigned char *p)
{
	unsigned char *far = mmap(NULL, 16 * GIB, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int ret = enter();

	if (ret != THROUGH || far == MAP_FAILED)
		return STRANGE;
	join_group();
	touch(p);
	for (size_t i = 0; i < 16; i++)
		far[i * GIB] = 1;
	return THROUGH;
}

/*
 * The module's interface by itself, for a process that the OOM killer must
 * spare: it touches no memory of its own that is not there yet.
 */
static int is_told(unsigned char *p)
{
	struct dune_window win;
	int vm, vcpu, ret = THROUGH;

	(void)p;
	if (!mem_write_text("/proc/self/oom_score_adj", "-1000"))
		return STRANGE;
	memset(&win, 0, sizeof(win));
	join_group();
	vm = open("/dev/dune", O_RDWR | O_CLOEXEC);
	if (vm < 0)
		return errno == ENOMEM ? TOLD : STRANGE;
	for (unsigned int i = 0; i < 4 && ret == THROUGH; i++) {
		vcpu = ioctl(vm, DUNE_CREATE_VCPU, 0);
		if (vcpu < 0)
			ret = errno == ENOMEM ? TOLD : STRANGE;
	}
	for (unsigned int i = 0; i < 512 && ret == THROUGH; i++) {
		win.hva = i * 64 * GIB;
		if (ioctl(vm, DUNE_MAP_WINDOW, &win))
			ret = errno == ENOMEM ? TOLD : STRANGE;
	}
	return ret;
}

static int outcome(int (*fn)(unsigned char *p), unsigned char *p)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		ktap_bail("fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(p));
	}
	if (waitpid(pid, &status, 0) != pid)
		return STRANGE;
	if (WIFEXITED(status) && WEXITSTATUS(status) < STRANGE)
		return WEXITSTATUS(status);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return KILLED;
	ktap_note("%s", child_status(status));
	return STRANGE;
}

static bool ladder(const char *what, int (*fn)(unsigned char *p), unsigned char *p)
{
	unsigned int seen[STRANGE + 1] = { 0 };

	for (long i = 1; i <= STEPS; i++) {
		if (!mem_write_number(file_in_group("memory.max"), i * STEP))
			ktap_bail("memory.max: %s", strerror(errno));
		seen[outcome(fn, p)]++;
	}
	ktap_note("%s: %u through, %u told ENOMEM, %u killed, %u else", what, seen[THROUGH],
		  seen[TOLD], seen[KILLED], seen[STRANGE]);
	if (fn == is_told && seen[KILLED])
		return false;
	return !seen[STRANGE] && seen[THROUGH] && seen[TOLD] + seen[KILLED];
}

struct ladders {
	bool told, entered, forked, grown;
};

static struct ladders climb(unsigned char *p)
{
	struct ladders l;

	l.told = ladder("the interface", is_told, p);
	l.entered = ladder("entering", enters, p);
	l.forked = ladder("forking", forks, p);
	l.grown = ladder("growing", grows, p);
	return l;
}

int main(void)
{
	long references = meminfo_references(), more;
	struct meminfo before, after;
	struct ladders l;
	unsigned char *p;

	ktap_plan(DUNE_TEST_ENTER + 7 + DUNE_TEST_LEAVE);
	make_group("+memory");
	p = mem_new(TOUCHED);
	for (unsigned int i = 0; i < 3; i++)
		outcome(forks, p);	/* whatever grows once has grown */
	after = meminfo_settled();
	for (unsigned int round = 0; round < ROUNDS; round++) {
		before = after;
		l = climb(p);
		after = meminfo_settled();
		more = after.unnamed - before.unnamed + after.slab - before.slab;
		ktap_note("KiB: %ld unnamed, %ld slab more", after.unnamed - before.unnamed,
			  after.slab - before.slab);
		if (!(l.told && l.entered && l.forked && l.grown) || more < LEAK_KIB)
			break;
	}
	dune_test_enter();
	ktap_ok(l.told, "the module's interface works or gives ENOMEM");
	ktap_ok(l.entered, "entering gets through, gives ENOMEM or ends in an OOM kill");
	ktap_ok(l.forked, "so does forking in Dune mode");
	ktap_ok(l.grown, "so does growing in guest mode");
	ktap_ok(more < LEAK_KIB, "the memory is back");
	ktap_eq(meminfo_references() - references, 2, "the module is held by this process alone");
	ktap_ok(remove_group(), "nothing holds on to the group");
	return dune_test_done();
}
