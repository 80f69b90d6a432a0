/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * The module's interface used wrongly: wrong thread, wrong process, dead
 * owner, states no CPU takes, mappings nobody offers.  Each gets its errno.
 * The caller is in Dune mode; what it misuses is a second descriptor and a
 * second vCPU of its own.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../raw.h"

#include <pthread.h>

static int vm, vcpu;		/* opened by main() before it enters */
static struct dune_info info;

static struct {
	volatile long child_info, child_create, child_wrong, child_new, child_own;
	volatile long child_run, child_seek, child_get;
	volatile long orphan_info, orphan_run;
	volatile long exhausted;
	volatile unsigned long windows;
} *shared;

/* ---- other owners ------------------------------------------------------ */

static volatile int thread_go;
static volatile long thread_get, thread_run, thread_seek, thread_info;

static void *other_thread(void *arg)
{
	struct dune_state st;

	(void)arg;
	while (!thread_go)
		usleep(1000);
	thread_get = raw_ioctl(vcpu, DUNE_GET_STATE, &st);
	thread_run = raw_ioctl(vcpu, DUNE_RUN, NULL);
	thread_seek = raw_run(vcpu);
	thread_info = raw_ioctl(vm, DUNE_GET_INFO, &info);
	return NULL;
}

/* A child inherits the descriptors, but it has another address space. */
static int heir(void *arg)
{
	struct dune_info mine;
	struct dune_state st;

	(void)arg;
	shared->child_info = raw_ioctl(vm, DUNE_GET_INFO, &mine);
	shared->child_create = raw_ioctl(vm, DUNE_CREATE_VCPU, NULL);
	shared->child_wrong = raw_ioctl(vm, DUNE_NEW_VM, (void *)1);
	shared->child_new = raw_ioctl(vm, DUNE_NEW_VM, NULL);
	shared->child_own = raw_ioctl((int)shared->child_new, DUNE_CREATE_VCPU, NULL);
	shared->child_run = raw_ioctl(vcpu, DUNE_RUN, NULL);
	shared->child_seek = raw_run(vcpu);
	shared->child_get = raw_ioctl(vcpu, DUNE_GET_STATE, &st);
	return 0;
}

/* Outlives the process whose descriptors it holds. */
static int orphan(void *arg)
{
	struct dune_info mine;
	int done[2], fd, cpu;
	pid_t owner, pid;
	char byte;

	(void)arg;
	if (pipe(done))
		return 1;
	pid = fork();			/* the owner */
	if (pid > 0) {
		int status;

		close(done[1]);
		waitpid(pid, &status, 0);
		return read(done[0], &byte, 1) == 1 ? 0 : 2;
	}
	fd = raw_open();
	cpu = (int)raw_ioctl(fd, DUNE_CREATE_VCPU, NULL);
	owner = getpid();
	if (fd < 0 || cpu < 0 || fork())
		_exit(0);
	while (getppid() == owner)
		usleep(1000);
	shared->orphan_info = raw_ioctl(fd, DUNE_GET_INFO, &mine);
	shared->orphan_run = raw_ioctl(cpu, DUNE_RUN, NULL);
	close(fd);
	close(cpu);
	if (write(done[1], "", 1) != 1)
		_exit(1);
	_exit(0);
}

/* Asks for windows until there are no more, or no more addresses to show. */
#define ALL_GIB		(1UL << 17)

static int greedy(void *arg)
{
	int fd = raw_open();

	(void)arg;
	for (unsigned long gib = 0; gib < ALL_GIB; gib++) {
		struct dune_window win = { .hva = gib << 30 };
		long ret = raw_ioctl(fd, DUNE_MAP_WINDOW, &win);

		if (ret) {
			shared->exhausted = ret;
			break;
		}
		shared->windows++;
	}
	return 0;
}

static void owners(struct child *child, struct child *fatherless, struct child *glutton,
		   pthread_t thread)
{
	thread_go = 1;
	pthread_join(thread, NULL);
	ktap_eq(thread_get, -EPERM, "another thread may not read the vCPU");
	ktap_ok(thread_run == -EPERM && thread_seek == -EPERM, "nor run it");
	ktap_eq(thread_info, 0, "but it may use the VM");

	child_go(child);
	ktap_eq(child_wait(child), 0, "a child tries the inherited descriptors");
	ktap_eq(shared->child_info, -EIO, "the VM is not its own");
	ktap_eq(shared->child_create, -EIO, "it can make no vCPU there");
	ktap_ok(shared->child_wrong == -EINVAL && shared->child_new > 2 && shared->child_own > 2,
		"but get a VM of its own by it");
	ktap_ok(shared->child_run == -EIO && shared->child_seek == -EIO &&
		shared->child_get == -EIO, "nor use the vCPU");

	child_go(fatherless);
	ktap_eq(child_wait(fatherless), 0, "a child tries descriptors of a process that ended");
	ktap_ok(shared->orphan_info == -EIO && shared->orphan_run == -EIO, "they are dead");

	unsigned long room = 1UL << (info.gpa_bits - 30);

	child_go(glutton);
	ktap_eq(child_wait(glutton), 0, "a child asks for windows");
	ktap_ok(room >= ALL_GIB ? shared->windows == ALL_GIB && !shared->exhausted :
				  shared->windows == room && shared->exhausted == -ENOSPC,
		"it gets %lu, as many as there are", shared->windows);
}

/* ---- the VM ------------------------------------------------------------ */

static long window(uint64_t hva, struct dune_window *win)
{
	win->hva = hva;
	return raw_ioctl(vm, DUNE_MAP_WINDOW, win);
}

static void vm_ioctls(void)
{
	struct dune_window a, b;

	ktap_ok(raw_ioctl(vm, DUNE_GET_INFO, &info) == 0 &&
		info.abi_version == DUNE_ABI_VERSION && info.window_shift == 30,
		"DUNE_GET_INFO answers in guest mode too");
	ktap_eq(raw_ioctl(vm, DUNE_GET_INFO, (void *)8), -EFAULT, "and wants a good pointer");
	ktap_eq(raw_ioctl(vm, _IO(DUNE_IOC_TYPE, 0x7f), NULL), -ENOTTY, "an unknown ioctl");
	ktap_eq(raw_ioctl(vm, DUNE_RUN, NULL), -ENOTTY, "an ioctl of the vCPU on the VM");
	ktap_eq(raw_ioctl(vm, DUNE_CREATE_VCPU, (void *)1), -EINVAL,
		"DUNE_CREATE_VCPU with an argument");

	ktap_ok(window((uint64_t)&a, &a) == 0 && window((uint64_t)&a + 1, &b) == 0 &&
		a.hva == b.hva && a.gpa == b.gpa && a.hva == ((uint64_t)&a >> 30 << 30),
		"the same window twice is one window");
	ktap_ok(window(0xffff888000000000UL, &a) == -EINVAL && window(1UL << 47, &a) == -EINVAL &&
		window(1UL << 63, &a) == -EINVAL && window(-1UL, &a) == -EINVAL,
		"no window shows the kernel's half");
	ktap_eq(raw_ioctl(vm, DUNE_MAP_WINDOW, (void *)0xffff888000000000UL), -EFAULT,
		"nor is it written to");
	ktap_ok(read(vm, &a, sizeof(a)) == -1 && errno == EINVAL &&
		mmap(NULL, 4096, PROT_READ, MAP_SHARED, vm, 0) == MAP_FAILED && errno == ENODEV,
		"the VM can be neither read nor mapped");
}

/* ---- the vCPU ---------------------------------------------------------- */

static long set(const struct dune_state *st)
{
	return raw_ioctl(vcpu, DUNE_SET_STATE, st);
}

#define REFUSED(field, value)						\
do {									\
	struct dune_state st = raw_state();				\
									\
	st.field = (value);						\
	if (set(&st) != -EINVAL) {					\
		ktap_note("%s = 0x%llx was taken", #field,		\
			  (unsigned long long)(value));			\
		taken++;						\
	}								\
} while (0)

static void states(void)
{
	const uint64_t wild = 0x0000800000000000UL;
	struct dune_state good = raw_state(), got;
	unsigned int taken = 0;

	ktap_ok(raw_ioctl(vcpu, DUNE_RUN, NULL) == -ENODATA && raw_run(vcpu) == -ENODATA,
		"a vCPU without state does not run");
	ktap_ok(raw_seek(vcpu, 0, SEEK_CUR) == -ESPIPE && raw_seek(vcpu, 0, SEEK_END) == -ESPIPE &&
		raw_seek(vcpu, DUNE_RUN_SEEK, SEEK_CUR) == -ESPIPE &&
		raw_seek(vcpu, DUNE_RUN_SEEK, 99) == -EINVAL &&
		raw_seek(vcpu, DUNE_RUN_SEEK + 1, SEEK_SET) == -ESPIPE,
		"there is nothing to seek in it");
	ktap_eq(raw_ioctl(vcpu, DUNE_GET_STATE, &got), -ENODATA, "nor tell one");

	REFUSED(cr0, 0);
	REFUSED(cr0, good.cr0 & ~1UL);
	REFUSED(cr0, good.cr0 & ~0x80000000UL);
	REFUSED(cr0, good.cr0 | 1UL << 30);
	REFUSED(cr0, good.cr0 | 1UL << 63);
	REFUSED(cr4, 0);
	REFUSED(cr4, good.cr4 | 1UL << 13);
	REFUSED(cr4, good.cr4 | 1UL << 12);
	REFUSED(cr4, good.cr4 | 1UL << 63);
	REFUSED(cr3, -1UL);
	REFUSED(cr3, 1UL << info.gpa_bits);
	REFUSED(cr3, 1);
	REFUSED(cs, 0);
	REFUSED(cs, 0x11);
	REFUSED(cs, 0x14);
	REFUSED(cs, 0x13);
	REFUSED(ss, 0x1b);
	REFUSED(tr, 0);
	REFUSED(tr, 0x3b);
	REFUSED(gdt_limit, 0x10000);
	REFUSED(idt_limit, -1U);
	REFUSED(tr_limit, 0x66);
	REFUSED(tr_limit, -1U);
	REFUSED(sfmask, 1UL << 32);
	REFUSED(traps, 8);
	ktap_eq(taken, 0, "states that no CPU takes");

	taken = 0;
	REFUSED(fs_base, wild);
	REFUSED(gs_base, wild);
	REFUSED(kernel_gs_base, wild);
	REFUSED(gdt_base, wild);
	REFUSED(idt_base, wild);
	REFUSED(tr_base, wild);
	REFUSED(lstar, wild);
	REFUSED(cstar, wild);
	ktap_eq(taken, 0, "bases that are not canonical");

	ktap_ok(raw_ioctl(vcpu, DUNE_INTERRUPT, (void *)31) == -EINVAL &&
		raw_ioctl(vcpu, DUNE_INTERRUPT, (void *)256) == -EINVAL &&
		raw_ioctl(vcpu, DUNE_INTERRUPT, (void *)-1UL) == -EINVAL, "vectors of exceptions, or none");
	ktap_eq(raw_ioctl(vcpu, DUNE_SET_STATE, NULL), -EFAULT, "a state at address 0");
	ktap_eq(raw_ioctl(vcpu, DUNE_SET_STATE, (void *)0xffff888000000001UL), -EFAULT,
		"a state in the kernel's half");
	ktap_eq(raw_ioctl(vcpu, DUNE_RUN, NULL), -ENODATA, "after all that there is still none");

	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct dune_state *odd = (struct dune_state *)(void *)(page + 4096 - 101);

	memcpy(odd, &good, sizeof(good));
	ktap_eq(set(odd), 0, "a misaligned state across two pages is taken");
	munmap(page + 4096, 4096);
	ktap_eq(set(odd), -EFAULT, "and refused when the second page is gone");
	munmap(page, 4096);

	memset(&got, 0xff, sizeof(got));
	ktap_ok(raw_ioctl(vcpu, DUNE_GET_STATE, &got) == 0 && got.cr3 == good.cr3 &&
		got.cs == good.cs && got.ss == good.ss && got.tr == good.tr &&
		(got.cr0 & 0x80000001UL) == 0x80000001UL,
		"the state reads back");
}

static void *map_vcpu(size_t size, int prot, off_t offset)
{
	void *p = mmap(NULL, size, prot, MAP_SHARED, vcpu, offset);

	return p == MAP_FAILED ? NULL : p;
}

static void mappings(void)
{
	void *stats = map_vcpu(4096, PROT_READ, DUNE_MMAP_STATS), *run;

	ktap_ok(stats != NULL, "the counters can be mapped");
	ktap_ok(mprotect(stats, 4096, PROT_READ | PROT_WRITE) == -1 && errno == EACCES,
		"but not made writable");
	ktap_ok(!map_vcpu(4096, PROT_READ | PROT_WRITE, DUNE_MMAP_STATS) && errno == EPERM,
		"nor mapped writable");
	ktap_ok(!map_vcpu(4096, PROT_READ | PROT_EXEC, DUNE_MMAP_RUN) && errno == EPERM,
		"the run page cannot be executed");
	run = map_vcpu(4096, PROT_READ | PROT_WRITE, DUNE_MMAP_RUN);
	ktap_ok(run && mprotect(run, 4096, PROT_READ | PROT_EXEC) == -1 && errno == EACCES,
		"nor made executable");
	munmap(run, 4096);
	ktap_ok(!map_vcpu(8192, PROT_READ, DUNE_MMAP_RUN) && errno == EINVAL,
		"two pages at once are too many");
	ktap_ok(!map_vcpu(4096, PROT_READ, 0x2000) && errno == EINVAL &&
		!map_vcpu(4096, PROT_READ, 1L << 40) && errno == EINVAL,
		"there is nothing at other offsets");
	munmap(stats, 4096);
}

/*
 * The caller is in a DUNE_RUN of its own, and lseek() is a call that the module makes
 * itself there.  One DUNE_RUN within another would share the CPU's one guest state.
 */
static void nested(struct dune_run *run)
{
	uint64_t before = dune_test_stats().runs;
	unsigned int done = 0;

	for (unsigned int i = 0; i < 100; i++) {
		run->exit_reason = 0;
		done += raw_run(vcpu) == 0 && run->exit_reason;
	}
	ktap_ok(done == 100 && dune_test_stats().runs - before >= 100,
		"a vCPU is not run inside of another's DUNE_RUN (%u runs, %llu of the caller)",
		done, (unsigned long long)(dune_test_stats().runs - before));
}

static void runs(void)
{
	struct dune_run *run = map_vcpu(4096, PROT_READ | PROT_WRITE, DUNE_MMAP_RUN);
	struct dune_state st = raw_state();
	static const uint8_t vectors[] = { 2, 32, 64, 128, 255 };
	unsigned int taken = 0;
	long ret;

	if (!run)
		ktap_bail("the run page cannot be mapped: %s", strerror(errno));
	for (unsigned int i = 0; i < sizeof(vectors); i++) {
		run->inject.valid = 1;
		run->inject.vector = vectors[i];
		taken += raw_ioctl(vcpu, DUNE_RUN, NULL) != -EINVAL;
	}
	run->inject.valid = 0;
	ktap_eq(taken, 0, "vectors that cannot be injected");
	run->regs.rip = 0x0000800000000000UL;
	ktap_eq(raw_ioctl(vcpu, DUNE_RUN, NULL), -EINVAL, "a RIP that is not canonical");
	run->regs.rip = 0;
	ktap_eq(raw_ioctl(vcpu, DUNE_RUN, (void *)1), -EINVAL, "DUNE_RUN with an argument");

	st.cr3 = 1UL << (info.gpa_bits - 1);
	set(&st);
	memset(run, 0, sizeof(*run));
	do
		ret = raw_ioctl(vcpu, DUNE_RUN, NULL);
	while (ret == 0 && run->exit_reason == DUNE_EXIT_INTERRUPTED);
	ktap_ok(ret == 0 && (run->exit_reason == DUNE_EXIT_FAULT ||
			     run->exit_reason == DUNE_EXIT_SHUTDOWN),
		"page tables outside all windows end the run (%ld, exit %u)", ret,
		run->exit_reason);

	nested(run);

	run->inject.valid = 1;
	run->inject.vector = 14;
	run->inject.has_error_code = 0;
	run->regs.rflags = -1UL;
	run->regs.rsp = 0x8000000000000123UL;
	do
		ret = raw_ioctl(vcpu, DUNE_RUN, NULL);
	while (ret == 0 && run->exit_reason == DUNE_EXIT_INTERRUPTED);
	ktap_ok(ret == 0, "all flags, a wild RSP and an injected fault are borne (%ld, exit %u)", ret,
		run->exit_reason);

	munmap(run, 4096);
	close(vm);
	ktap_eq(raw_ioctl(vcpu, DUNE_GET_STATE, &st), 0, "a vCPU outlives the descriptor of its VM");
	close(vcpu);
}

int main(void)
{
	struct child child, fatherless, glutton;
	pthread_t thread;

	ktap_plan(DUNE_TEST_ENTER + 48 + DUNE_TEST_LEAVE);
	shared = child_shared(sizeof(*shared));
	vm = raw_open();
	vcpu = vm < 0 ? vm : (int)raw_ioctl(vm, DUNE_CREATE_VCPU, NULL);
	if (vm < 0 || vcpu < 0 || raw_ioctl(vm, DUNE_GET_INFO, &info) ||
	    pthread_create(&thread, NULL, other_thread, NULL))
		ktap_bail("set-up failed: /dev/dune %d, vCPU %d", vm, vcpu);
	child = child_start(heir, NULL);
	fatherless = child_start(orphan, NULL);
	glutton = child_start(greedy, NULL);
	dune_test_enter();

	int second = (int)raw_ioctl(vm, DUNE_CREATE_VCPU, NULL);

	ktap_ok(second >= 0 && second != vcpu, "a thread may have several vCPUs");
	close(second);
	vm_ioctls();
	states();
	mappings();
	owners(&child, &fatherless, &glutton, thread);
	runs();
	return dune_test_done();
}
