/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 slow-bochs=20 */
/*
 * What a thread can prepare for another: a vCPU belongs to the first thread
 * that uses it and to no other ever after; a VM without windows takes a whole
 * layout of them, all or nothing.
 */
#define _GNU_SOURCE
#include "../child.h"
#include "../raw.h"

#include <pthread.h>
#include <sys/mount.h>

#define RACERS		4
#define RACES		200
#define GIB		(1UL << 30)

static int vm, vcpu;

/* ---- whose vCPU --------------------------------------------------------- */

static volatile long thread_set, thread_tid;
static pthread_barrier_t used, looked;

static void *first_user(void *arg)
{
	struct dune_state st = raw_state();

	(void)arg;
	thread_set = raw_ioctl(vcpu, DUNE_SET_STATE, &st);
	thread_tid = syscall(SYS_gettid);
	pthread_barrier_wait(&used);
	pthread_barrier_wait(&looked);
	return NULL;
}

static int heir(void *arg)
{
	struct dune_state st = raw_state();

	(void)arg;
	return raw_ioctl(vcpu, DUNE_SET_STATE, &st) == -EIO ? 0 : 1;
}

/* Has debugfs a vCPU of thread @tid? */
static bool listed(long tid)
{
	static const char path[] = "/sys/kernel/debug/dune/vcpus";
	char want[32], line[4096];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (!f && !mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL))
		f = fopen(path, "re");
	if (!f)
		ktap_bail("%s: %s", path, strerror(errno));
	snprintf(want, sizeof(want), "tid %ld ", tid);
	while (fgets(line, sizeof(line), f))
		found |= strncmp(line, want, strlen(want)) == 0;
	fclose(f);
	return found;
}

static void owner(void)
{
	struct dune_fast_calls calls = { .bitmap = { ~0ULL } };
	struct dune_state st = raw_state();
	struct child child = child_start(heir, NULL);
	pthread_t thread;

	ktap_ok(raw_ioctl(vcpu, DUNE_SET_FAST_CALLS, &calls) == 0 &&
		raw_ioctl(vcpu, DUNE_SET_FAST_CALLS, (void *)8) == -EFAULT && listed(0),
		"a new vCPU belongs to nobody, also when its calls are chosen");
	child_go(&child);
	ktap_eq(child_wait(&child), 0, "another process cannot take it");
	pthread_barrier_init(&used, NULL, 2);
	pthread_barrier_init(&looked, NULL, 2);
	if (pthread_create(&thread, NULL, first_user, NULL))
		ktap_bail("pthread_create");
	pthread_barrier_wait(&used);
	ktap_eq(thread_set, 0, "a thread that did not make it may use it first");
	ktap_ok(listed(thread_tid) && !listed(0), "and is its owner then");
	ktap_ok(raw_ioctl(vcpu, DUNE_SET_STATE, &st) == -EPERM &&
		raw_ioctl(vcpu, DUNE_GET_STATE, &st) == -EPERM &&
		raw_ioctl(vcpu, DUNE_SET_FAST_CALLS, &calls) == -EPERM &&
		raw_ioctl(vcpu, DUNE_RUN, NULL) == -EPERM, "its maker is too late");
	pthread_barrier_wait(&looked);
	pthread_join(thread, NULL);
	ktap_eq(raw_ioctl(vcpu, DUNE_RUN, NULL), -EPERM, "also after the owner has ended");
}

static volatile int race_vcpu;
static volatile unsigned int winners, losers;
static pthread_barrier_t start, finish;

static void *racer(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < RACES; i++) {
		long ret;

		pthread_barrier_wait(&start);
		ret = raw_ioctl(race_vcpu, DUNE_RUN, NULL);
		__atomic_fetch_add(&winners, ret == -ENODATA, __ATOMIC_RELAXED);
		__atomic_fetch_add(&losers, ret == -EPERM, __ATOMIC_RELAXED);
		pthread_barrier_wait(&finish);
	}
	return NULL;
}

static void race(void)
{
	pthread_t thread[RACERS];
	unsigned int fair = 0;

	pthread_barrier_init(&start, NULL, RACERS + 1);
	pthread_barrier_init(&finish, NULL, RACERS + 1);
	for (unsigned int i = 0; i < RACERS; i++)
		if (pthread_create(&thread[i], NULL, racer, NULL))
			ktap_bail("pthread_create");
	for (unsigned int i = 0; i < RACES; i++) {
		race_vcpu = (int)raw_ioctl(vm, DUNE_CREATE_VCPU, NULL);
		winners = 0;
		losers = 0;
		pthread_barrier_wait(&start);
		pthread_barrier_wait(&finish);
		fair += winners == 1 && losers == RACERS - 1;
		close(race_vcpu);
	}
	for (unsigned int i = 0; i < RACERS; i++)
		pthread_join(thread[i], NULL);
	ktap_eq(fair, RACES, "of %d threads at once exactly one gets it", RACERS);
}

/* ---- windows ------------------------------------------------------------- */

static struct {
	volatile unsigned int refused, asked;
	volatile long good, again, late, fresh;
	volatile uint64_t a, b, next;
	volatile unsigned int exit_reason, no_window;
} *shared;

static long set(int fd, const void *hvas, uint32_t nr, uint32_t pad)
{
	struct dune_windows w = { .hvas = (uint64_t)hvas, .nr = nr, .pad = pad };

	return raw_ioctl(fd, DUNE_SET_WINDOWS, &w);
}

static uint64_t gpa_of(int fd, uint64_t hva)
{
	struct dune_window w = { .hva = hva };

	return raw_ioctl(fd, DUNE_MAP_WINDOW, &w) ? ~0UL : w.gpa;
}

static void refuse(long got, long want, const char *what)
{
	shared->asked++;
	shared->refused += got == want;
	if (got != want)
		ktap_note("%s: %ld, not %ld", what, got, want);
}

/* A guest whose page tables lie in the hole at the second GiB. */
static void run_in_hole(int fd)
{
	int cpu = (int)raw_ioctl(fd, DUNE_CREATE_VCPU, NULL);
	struct dune_run *run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, cpu,
				    DUNE_MMAP_RUN);
	struct dune_state st = raw_state();

	st.cr3 = GIB;
	if (run == MAP_FAILED || raw_ioctl(cpu, DUNE_SET_STATE, &st))
		return;
	do
		if (raw_ioctl(cpu, DUNE_RUN, NULL))
			return;
	while (run->exit_reason == DUNE_EXIT_INTERRUPTED);
	shared->exit_reason = run->exit_reason;
	shared->no_window = run->fault.no_window;
}

static int layout(void *arg)
{
	uint64_t here = (uint64_t)&arg >> 30 << 30, wrong[3] = { 0, here, here };
	const uint64_t right[4] = { here, DUNE_NO_WINDOW, 0, 5 * GIB };
	uint64_t *edge;
	char *page;
	struct dune_info info;
	int fd = raw_open();

	if (fd < 0 || raw_ioctl(fd, DUNE_GET_INFO, &info))
		return 1;
	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page + 4096, 4096);
	edge = (uint64_t *)(void *)(page + 4096) - 2;
	edge[0] = here;
	edge[1] = 0;

	refuse(set(fd, right, 4, 1), -EINVAL, "padding");
	refuse(set(fd, right, (1U << (info.gpa_bits - 30)) + 1, 0), -EINVAL, "too many");
	refuse(set(fd, right, -1U, 0), -EINVAL, "far too many");
	refuse(set(fd, wrong, 3, 0), -EINVAL, "the same twice");
	wrong[2] = here + 4096;
	refuse(set(fd, wrong, 3, 0), -EINVAL, "no start of a window");
	wrong[2] = 1UL << 47;
	refuse(set(fd, wrong, 3, 0), -EINVAL, "beyond user space");
	wrong[2] = 0xffff888000000000UL;
	refuse(set(fd, wrong, 3, 0), -EINVAL, "the kernel's half");
	wrong[2] = DUNE_NO_WINDOW - GIB + 1;
	refuse(set(fd, wrong, 3, 0), -EINVAL, "the last GiB");
	refuse(set(fd, edge, 3, 0), -EFAULT, "half of it unmapped");
	refuse(set(fd, (void *)0xffff888000000000UL, 3, 0), -EFAULT, "a kernel pointer");
	refuse(raw_ioctl(fd, DUNE_SET_WINDOWS, NULL), -EFAULT, "no argument");

	shared->good = set(fd, right, 4, 0);
	shared->again = set(fd, right, 4, 0);
	shared->a = gpa_of(fd, here + 4711);
	shared->b = gpa_of(fd, 5 * GIB);
	shared->next = gpa_of(fd, 9 * GIB);
	run_in_hole(fd);
	return 0;
}

/* One window by DUNE_MAP_WINDOW is one too many; an empty layout is none. */
static int late(void *arg)
{
	uint64_t hva = 0;
	int fd = raw_open();

	(void)arg;
	shared->fresh = set(fd, &hva, 0, 0);
	gpa_of(fd, GIB);
	shared->late = set(fd, &hva, 1, 0);
	return 0;
}

static void windows(void)
{
	struct child one = child_start(layout, NULL), two = child_start(late, NULL);

	child_go(&one);
	ktap_eq(child_wait(&one), 0, "a process sets its windows");
	ktap_eq(shared->refused, shared->asked, "%u wrong layouts are refused", shared->asked);
	ktap_eq(shared->good, 0, "and leave nothing behind: the right one is taken");
	ktap_ok(shared->a == 0 && shared->b == 3 * GIB, "in the order given");
	ktap_eq(shared->next, 4 * GIB, "the next window comes behind them");
	ktap_eq(shared->again, -EEXIST, "a second layout is refused");
	ktap_ok(shared->exit_reason == DUNE_EXIT_FAULT && shared->no_window,
		"an unused place shows nothing (exit %u)", shared->exit_reason);
	child_go(&two);
	ktap_eq(child_wait(&two), 0, "a process asks for a window");
	ktap_ok(shared->fresh == 0 && shared->late == -EEXIST, "then a layout comes too late");
}

int main(void)
{
	ktap_plan(16);
	shared = child_shared(sizeof(*shared));
	vm = raw_open();
	vcpu = vm < 0 ? vm : (int)raw_ioctl(vm, DUNE_CREATE_VCPU, NULL);
	if (vcpu < 0)
		ktap_bail("set-up failed: /dev/dune %d, vCPU %d", vm, vcpu);
	owner();
	race();
	windows();
	return ktap_done();
}
