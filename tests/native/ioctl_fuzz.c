/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 args=3000 slow-bochs=20 */
/*
 * Throws garbage at the module:  ioctl_fuzz [CALLS [SEED]]
 *
 * Worker processes make random calls on /dev/dune and on vCPUs: any ioctl
 * number, any argument, any place to seek to, states near valid ones, guests made
 * of privileged instructions in random order, mappings at random.  A worker may die or
 * hang; the parent replaces it until all calls were made.  What may not
 * happen is that the machine takes harm: at the end the module still runs a
 * guest, and the kernel has no new taint.  The console is the bench's to read.
 *
 * The same seed makes the same calls, as far as two CPUs allow.
 */
#define _GNU_SOURCE
#include "../child.h"
#include "fuzz_guest.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/time.h>

#define WORKERS		3
#define STALL_SECONDS	15.0
#define TAINT_WATCHED	((1L << 7) | (1L << 9) | (1L << 14))	/* died, warned, locked up */

static struct shared {
	volatile unsigned long calls;		/* started */
	volatile unsigned long worker[WORKERS];	/* progress of each */
	volatile unsigned long entered;		/* runs that left guest mode again */
	volatile unsigned long exits[8];	/* by exit_reason */
} *shared;

static unsigned long wanted = 10000;

static void go(struct worker *w)
{
	long ret = below(w, 2) ? raw_run(w->vcpu) : raw_ioctl(w->vcpu, DUNE_RUN, NULL);

	if (ret == 0) {
		shared->entered++;
		shared->exits[w->run->exit_reason & 7]++;
	}
}

static void run_guest(struct worker *w)
{
	struct dune_state st;

	if (build_guest(w))
		_exit(4);
	st = guest_state(w);
	if (!below(w, 4))
		st.cs |= 3, st.ss |= 3;
	raw_ioctl(w->vcpu, DUNE_SET_STATE, &st);
	guest_regs(w);
	for (uint64_t n = 1 + below(w, 8); n; n--) {
		go(w);
		w->run->regs.rax = odd_number(w);
	}
}

/* A guest that asks for a call which the module makes itself: to run this or another vCPU. */
static void run_within(struct worker *w)
{
	struct dune_fast_calls calls = { .gate = (uint64_t)w->region + CODE };
	bool svm = w->info.vendor == DUNE_VENDOR_SVM;
	struct dune_state st;

	if (build_guest(w))
		_exit(4);
	memset(calls.bitmap, 0xff, sizeof(calls.bitmap));
	memcpy(w->region + CODE, insns[svm] + 1, 3);
	st = guest_state(w);
	if (raw_ioctl(w->vcpu, DUNE_SET_FAST_CALLS, &calls) ||
	    raw_ioctl(w->vcpu, DUNE_SET_STATE, &st))
		return;
	guest_regs(w);
	w->run->regs.rax = SYS_lseek;
	w->run->regs.rdi = below(w, 4) ? (uint64_t)w->vcpu : 3 + below(w, 61);
	w->run->regs.rsi = below(w, 4) ? (uint64_t)DUNE_RUN_SEEK : odd_number(w);
	w->run->regs.rdx = below(w, 4) ? SEEK_SET : odd_number(w);
	w->run->regs.r11 = odd_number(w);
	go(w);
}

static void odd_seek(struct worker *w)
{
	int fd = below(w, 4) ? w->vcpu : below(w, 2) ? w->vm : 3 + (int)below(w, 61);
	long offset = below(w, 4) ? DUNE_RUN_SEEK : (long)odd_number(w);

	raw_seek(fd, offset, (int)(below(w, 4) ? below(w, 6) : odd_number(w)));
}

/* ---- other calls ---------------------------------------------------------- */

static void mutate_state(struct worker *w, struct dune_state *st)
{
	unsigned char *bytes = (unsigned char *)st;

	for (uint64_t n = 1 + below(w, 3); n; n--) {
		switch (below(w, 3)) {
		case 0:
			bytes[below(w, sizeof(*st))] = (unsigned char)rnd(w);
			break;
		case 1:
			((uint64_t *)(void *)st)[below(w, sizeof(*st) / 8)] = odd_number(w);
			break;
		default:
			bytes[below(w, sizeof(*st))] ^= (unsigned char)(1 << below(w, 8));
			break;
		}
	}
}

static void odd_state(struct worker *w)
{
	struct dune_state st;

	if (build_guest(w))
		_exit(4);
	st = guest_state(w);
	mutate_state(w, &st);
	if (!below(w, 3))
		st.traps = (uint16_t)below(w, 9);
	if (raw_ioctl(w->vcpu, DUNE_SET_STATE, &st) == 0) {
		guest_regs(w);
		if (!below(w, 3)) {
			raw_ioctl(w->vcpu, DUNE_INTERRUPT, (void *)below(w, 260));
			w->run->regs.rflags |= 0x200;
		}
		if (!below(w, 3))
			((uint64_t *)&w->run->regs)[below(w, 18)] = odd_number(w);
		if (!below(w, 3)) {
			w->run->inject.valid = 1;
			w->run->inject.vector = (unsigned char)below(w, 40);
			w->run->inject.has_error_code = (unsigned char)rnd(w);
			w->run->inject.error_code = (uint32_t)odd_number(w);
			w->run->inject.cr2 = odd_number(w);
		}
		go(w);
		raw_ioctl(w->vcpu, DUNE_GET_STATE, &st);
	}
}

static void odd_ioctl(struct worker *w)
{
	static const unsigned long known[] = {
		DUNE_GET_INFO, DUNE_MAP_WINDOW, DUNE_CREATE_VCPU, DUNE_SET_WINDOWS, DUNE_FLUSH_TLB,
		DUNE_NEW_VM, DUNE_RUN, DUNE_SET_STATE, DUNE_GET_STATE, DUNE_SET_FAST_CALLS,
		DUNE_INTERRUPT,
	};
	const uint64_t nr = sizeof(known) / sizeof(known[0]);
	unsigned long cmd = below(w, 3) ? known[below(w, nr)] : rnd(w) & 0xffffffff;
	int fd = below(w, 2) ? w->vm : w->vcpu;
	long ret;

	if (!below(w, 6))
		cmd ^= 1UL << below(w, 32);
	if (!below(w, 8))
		fd = 3 + (int)below(w, 61);	/* never standard output */
	ret = raw_ioctl(fd, cmd, (void *)odd_number(w));
	if ((cmd == DUNE_CREATE_VCPU || cmd == DUNE_NEW_VM) && ret > STDERR_FILENO && below(w, 8))
		close((int)ret);
}

/* A VM that is new, unless a stray vCPU holds the old one, and a layout that may be good. */
static void odd_windows(struct worker *w)
{
	uint64_t hva[64];
	struct dune_windows arg = {
		.hvas = below(w, 8) ? (uint64_t)hva : odd_number(w),
		.nr = (uint32_t)(below(w, 8) ? below(w, 65) : odd_number(w)),
		.pad = !below(w, 16),
	};

	w->vm = raw_open();
	for (unsigned int i = 0; i < 64; i++) {
		hva[i] = below(w, 4) ? below(w, 1UL << 17) << 30 : DUNE_NO_WINDOW;
		if (!below(w, 200))
			hva[i] = odd_number(w);
	}
	raw_ioctl(w->vm, DUNE_SET_WINDOWS, &arg);
}

static void odd_mapping(struct worker *w)
{
	int prot = (int)below(w, 8), flags = below(w, 2) ? MAP_SHARED : MAP_PRIVATE;
	size_t size = (1 + below(w, 3)) * 4096;
	void *p = mmap(NULL, size, prot, flags, below(w, 4) ? w->vcpu : w->vm,
		       (off_t)(below(w, 4) * 4096));

	if (p == MAP_FAILED)
		return;
	switch (below(w, 4)) {
	case 0:
		madvise(p, size, MADV_DONTNEED);
		break;
	case 1:
		mprotect(p, size, (int)below(w, 8));
		break;
	case 2:
		mremap(p, size, size + 4096, MREMAP_MAYMOVE);
		return;
	}
	munmap(p, size);
}

/* The memory under the guest goes away or changes its rights. */
static void odd_memory(struct worker *w)
{
	unsigned char *p = w->region + below(w, 8) * 4096;

	switch (below(w, 3)) {
	case 0:
		madvise(p, 4096, MADV_DONTNEED);
		break;
	case 1:
		mprotect(p, 4096, PROT_READ);
		go(w);
		mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
		break;
	default:
		mprotect(p, 4096, PROT_NONE);
		go(w);
		mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
		break;
	}
}

static void use_from_child(struct worker *w)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct dune_state st = guest_state(w);

		raw_ioctl(w->vcpu, DUNE_SET_STATE, &st);
		go(w);
		raw_ioctl(w->vm, DUNE_CREATE_VCPU, NULL);
		raw_ioctl((int)raw_ioctl(w->vm, DUNE_NEW_VM, NULL), DUNE_CREATE_VCPU, NULL);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void one_call(struct worker *w)
{
	switch (below(w, 18)) {
	case 0: case 1: case 2: case 3: case 4:
		run_guest(w);
		break;
	case 16:
		run_within(w);
		break;
	case 17:
		odd_seek(w);
		break;
	case 5: case 6: case 7: case 8:
		odd_state(w);
		break;
	case 9: case 10: case 11: case 12:
		odd_ioctl(w);
		break;
	case 13:
		odd_mapping(w);
		break;
	case 14:
		odd_memory(w);
		break;
	default:
		if (below(w, 4)) {
			int old;

			close_all(w);
			odd_windows(w);
			old = w->vm;
			if (open_all(w) || build_guest(w))
				_exit(4);
			close(old);
		} else {
			use_from_child(w);
		}
		break;
	}
}

static void on_alarm(int sig)
{
	(void)sig;	/* its arrival ends DUNE_RUN */
}

static int worker_main(unsigned int nr, uint64_t seed)
{
	struct itimerval tick = { { 0, 20000 }, { 0, 20000 } };
	struct sigaction act = { .sa_handler = on_alarm };
	struct rlimit none = { 0, 0 }, files = { 64, 64 };
	struct worker w = { .rng = seed * 2 + 1, .vm = -1, .vcpu = -1 };
	unsigned char *p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_NOFILE, &files);
	p = mmap(NULL, 2 * REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 3;
	w.region = (unsigned char *)(((uintptr_t)p + REGION - 1) & ~(REGION - 1));
	mprotect(w.region, REGION, PROT_READ | PROT_WRITE | PROT_EXEC);
	mprotect(w.region + FORBIDDEN, 4096, PROT_NONE);
	if (open_all(&w) || build_guest(&w))
		return 3;
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);

	while (__atomic_fetch_add(&shared->calls, 1, __ATOMIC_RELAXED) < wanted) {
		shared->worker[nr]++;
		one_call(&w);
	}
	return 0;
}

/* ---- the parent ------------------------------------------------------------ */

static pid_t start_worker(unsigned int nr, uint64_t seed)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(worker_main(nr, seed));
	if (pid < 0)
		ktap_bail("fork: %s", strerror(errno));
	return pid;
}

static long taint(void)
{
	char buf[32] = "";
	int fd = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 ? strtol(buf, NULL, 10) : -1;
}

/* mov $0x1234, %eax, then the vendor's hypercall: the plainest guest there is. */
static bool module_works(void)
{
	struct worker w = { .rng = 1 };
	unsigned char *p = mmap(NULL, 2 * REGION, PROT_READ | PROT_WRITE | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static const unsigned char load[] = { 0xb8, 0x34, 0x12, 0, 0 };
	struct dune_state st;

	w.region = (unsigned char *)(((uintptr_t)p + REGION - 1) & ~(REGION - 1));
	if (p == MAP_FAILED || open_all(&w) || build_guest(&w))
		return false;
	memcpy(w.region + CODE, load, sizeof(load));
	memcpy(w.region + CODE + sizeof(load),
	       insns[w.info.vendor == DUNE_VENDOR_SVM ? 1 : 0] + 1, 3);
	st = guest_state(&w);
	if (raw_ioctl(w.vcpu, DUNE_SET_STATE, &st))
		return false;
	guest_regs(&w);
	do
		if (raw_ioctl(w.vcpu, DUNE_RUN, NULL))
			return false;
	while (w.run->exit_reason == DUNE_EXIT_INTERRUPTED);
	if (w.run->exit_reason != DUNE_EXIT_SYSCALL || w.run->regs.rax != 0x1234) {
		ktap_note("exit %u, hardware reason 0x%x, rax 0x%llx, rip 0x%llx",
			  w.run->exit_reason, w.run->hw_reason,
			  (unsigned long long)w.run->regs.rax,
			  (unsigned long long)w.run->regs.rip);
		return false;
	}
	close_all(&w);
	munmap(p, 2 * REGION);
	return true;
}

static struct { unsigned int died, stalled, failed; } losses;

static void supervise(uint64_t seed)
{
	unsigned long progress[WORKERS] = { 0 };
	double moved[WORKERS];
	pid_t pid[WORKERS];
	uint64_t generation = 0;
	unsigned int alive = WORKERS;
	struct timespec nap = { 0, 20000000 };

	for (unsigned int i = 0; i < WORKERS; i++) {
		pid[i] = start_worker(i, seed * 1000003 + generation++);
		moved[i] = child_now();
	}
	while (alive) {
		nanosleep(&nap, NULL);
		for (unsigned int i = 0; i < WORKERS; i++) {
			int status;

			if (!pid[i])
				continue;
			if (shared->worker[i] != progress[i]) {
				progress[i] = shared->worker[i];
				moved[i] = child_now();
			} else if (child_now() - moved[i] > STALL_SECONDS) {
				losses.stalled++;
				kill(pid[i], SIGKILL);
				moved[i] = child_now();
			}
			if (waitpid(pid[i], &status, WNOHANG) != pid[i])
				continue;
			losses.died += WIFSIGNALED(status);
			losses.failed += WIFEXITED(status) && WEXITSTATUS(status) == 3;
			if ((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
			    shared->calls >= wanted || losses.failed > 10) {
				pid[i] = 0;
				alive--;
			} else {
				pid[i] = start_worker(i, seed * 1000003 + generation++);
				moved[i] = child_now();
			}
		}
	}
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	long taint_before;

	if (argc > 1)
		wanted = strtoul(argv[1], NULL, 0);
	ktap_plan(6);
	ktap_fact("seed", "%llu", (unsigned long long)seed);
	shared = child_shared(sizeof(*shared));
	taint_before = taint();

	ktap_ok(module_works(), "the module runs a guest before");
	supervise(seed);
	ktap_metric("calls", (long long)shared->calls, "count");
	ktap_metric("guest_runs", (long long)shared->entered, "count");
	ktap_metric("workers_lost", losses.died, "count");
	for (unsigned int i = 1; i < 7; i++)
		ktap_note("exit reason %u: %lu", i, shared->exits[i]);
	ktap_ok(shared->calls >= wanted, "%lu calls", wanted);
	ktap_ok(shared->entered > wanted / 20, "%lu of them ran a guest", shared->entered);
	ktap_eq(losses.stalled, 0, "no worker hangs");
	ktap_eq(taint() & TAINT_WATCHED, taint_before & TAINT_WATCHED, "the kernel took no harm");
	ktap_ok(module_works() && losses.failed == 0, "the module runs a guest afterwards");
	return ktap_done();
}
