/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 args=1 */
/*
 * Each allocation of the module fails once:  alloc_failures [ROUNDS]
 *
 * One call of the interface after the other is made with its first, second,
 * third ... allocation, or copy from or to user space, failing, until nothing
 * is left to fail.  It may say so by ENOMEM, EAGAIN or EFAULT; then it has had
 * no effect, and made again it works.  A guest's own run is never to fail: an
 * access for which there is no memory is made again.
 *
 * What it leaves behind is the bench's to look for: more rounds leave more.
 */
#define _GNU_SOURCE
#include "../raw.h"
#include "../fail_nth.h"

#include <stdint.h>
#include <sys/wait.h>

#define REGION		(2UL << 20)
#define PAGE		4096UL
#define WINDOWS		64
#define RUNS		1000	/* DUNE_RUN comes back for the host's work, too */

/* The guest's memory: tables that map the region at its own address, code, pages to touch. */
enum { PML4 = 0x0000, PDPT = 0x1000, PD = 0x2000, CODE = 0x3000, TOUCHED = 0x10000 };

#define NR_TOUCHED	24UL

static struct setup {
	int foreign;			/* a VM descriptor of another address space */
	int vm, vcpu;
	struct dune_run *run;
	unsigned char *region;
	struct dune_info info;
} the;

static void must(long ret, const char *what)
{
	if (ret < 0)
		ktap_bail("%s: %s", what, strerror((int)-ret));
}

static void get_vm(void *arg)
{
	(void)arg;
	the.vm = raw_open();
	must(the.vm, "/dev/dune");
}

static void put_vm(void *arg, long ret)
{
	(void)arg, (void)ret;
	close(the.vm);
}

static long map_run(void)
{
	void *run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, the.vcpu, DUNE_MMAP_RUN);

	if (run == MAP_FAILED)
		return -errno;
	the.run = run;
	return 0;
}

static void get_vcpu(void *arg)
{
	get_vm(arg);
	the.vcpu = (int)raw_ioctl(the.vm, DUNE_CREATE_VCPU, NULL);
	must(the.vcpu, "DUNE_CREATE_VCPU");
}

static void put_vcpu(void *arg, long ret)
{
	close(the.vcpu);
	put_vm(arg, ret);
}

static void put_fd(void *arg, long fd)
{
	(void)arg;
	close((int)fd);
}

/* ---- calls on the VM -------------------------------------------------------- */

static long run_open(void *arg)
{
	(void)arg;
	return raw_open();
}

/* As in the child of a fork: the descriptor is another's, the VM is new. */
static long run_new_vm(void *arg)
{
	(void)arg;
	return raw_ioctl(the.foreign, DUNE_NEW_VM, NULL);
}

static long run_create_vcpu(void *arg)
{
	(void)arg;
	return raw_ioctl(the.vm, DUNE_CREATE_VCPU, NULL);
}

static void put_both(void *arg, long fd)
{
	put_fd(arg, fd);
	put_vm(arg, 0);
}

static long run_map_window(void *arg)
{
	struct dune_window win = { .hva = (uint64_t)the.region };

	(void)arg;
	return raw_ioctl(the.vm, DUNE_MAP_WINDOW, &win);
}

/* Far from each other, so that their index needs memory of its own for many. */
static long run_set_windows(void *arg)
{
	uint64_t hvas[WINDOWS];
	struct dune_windows windows = { .hvas = (uint64_t)hvas, .nr = WINDOWS };

	(void)arg;
	for (uint64_t i = 0; i < WINDOWS; i++)
		hvas[i] = i << 36;
	return raw_ioctl(the.vm, DUNE_SET_WINDOWS, &windows);
}

/* All or nothing: it was nothing. */
static void again_windows(void *arg)
{
	must(run_set_windows(arg), "DUNE_SET_WINDOWS again");
	put_vm(arg, 0);
}

static void again_window(void *arg)
{
	must(run_map_window(arg), "DUNE_MAP_WINDOW again");
	put_vm(arg, 0);
}

static void again_vcpu(void *arg)
{
	long fd = run_create_vcpu(arg);

	must(fd, "DUNE_CREATE_VCPU again");
	put_both(arg, fd);
}

/* ---- calls on the vCPU ------------------------------------------------------ */

static long run_mmap(void *arg)
{
	(void)arg;
	return map_run();
}

static void put_mapped(void *arg, long ret)
{
	munmap(the.run, PAGE);
	put_vcpu(arg, ret);
}

static void again_mmap(void *arg)
{
	must(map_run(), "mmap of the run page again");
	put_mapped(arg, 0);
}

static struct dune_state guest_state(uint64_t gpa)
{
	struct dune_state st = raw_state();

	st.cr3 = gpa + PML4;
	return st;
}

static long run_state(void *arg)
{
	struct dune_state st = raw_state();
	struct dune_fast_calls fast = { .gate = PAGE };
	long ret;

	(void)arg;
	ret = raw_ioctl(the.vcpu, DUNE_SET_STATE, &st);
	if (!ret)
		ret = raw_ioctl(the.vcpu, DUNE_GET_STATE, &st);
	if (!ret)
		ret = raw_ioctl(the.vcpu, DUNE_SET_FAST_CALLS, &fast);
	return ret == -EOPNOTSUPP ? 0 : ret;
}

static void again_state(void *arg)
{
	must(run_state(arg), "the state again");
	put_vcpu(arg, 0);
}

/* ---- a guest ---------------------------------------------------------------- */

static void put(unsigned long table, uint64_t index, uint64_t entry)
{
	((uint64_t *)(void *)(the.region + table))[index & 511] = entry;
}

/* Adds 1 to a byte of each page, and asks for a system call. */
static void write_code(void)
{
	static const unsigned char code[] = {
		0x80, 0x00, 0x01,			/* 1: addb $1, (%rax) */
		0x48, 0x05, 0x00, 0x10, 0x00, 0x00,	/* add $0x1000, %rax */
		0xff, 0xc9,				/* dec %ecx */
		0x75, 0xf3,				/* jnz 1b */
		0x0f, 0x01,
	};
	bool svm = the.info.vendor == DUNE_VENDOR_SVM;

	memcpy(the.region + CODE, code, sizeof(code));
	the.region[CODE + sizeof(code)] = svm ? 0xd9 : 0xc1;	/* vmmcall, vmcall */
}

/* A guest that was never run, in a VM whose second stage is empty. */
static void get_guest(void *arg)
{
	struct dune_window win = { .hva = (uint64_t)the.region };
	uint64_t hva = (uint64_t)the.region, gpa;
	struct dune_state st;

	get_vcpu(arg);
	must(map_run(), "mmap of the run page");
	must(raw_ioctl(the.vm, DUNE_MAP_WINDOW, &win), "DUNE_MAP_WINDOW");
	if (madvise(the.region, REGION, MADV_DONTNEED))
		ktap_bail("madvise: %s", strerror(errno));
	gpa = win.gpa + (hva - win.hva);
	put(PML4, hva >> 39, (gpa + PDPT) | 7);
	put(PDPT, hva >> 30, (gpa + PD) | 7);
	put(PD, hva >> 21, gpa | 0x87);
	write_code();
	st = guest_state(gpa);
	must(raw_ioctl(the.vcpu, DUNE_SET_STATE, &st), "DUNE_SET_STATE");
	memset(&the.run->regs, 0, sizeof(the.run->regs));
	the.run->regs.rip = hva + CODE;
	the.run->regs.rax = hva + TOUCHED;
	the.run->regs.rcx = NR_TOUCHED;
	the.run->regs.rflags = 2;
}

static long run_guest(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < RUNS; i++) {
		long ret = raw_run(the.vcpu);

		if (ret || the.run->exit_reason == DUNE_EXIT_SYSCALL)
			return ret;
		if (the.run->exit_reason != DUNE_EXIT_INTERRUPTED) {
			ktap_note("exit reason %u, hva 0x%llx", the.run->exit_reason,
				  (unsigned long long)the.run->fault.hva);
			return -EPROTO;
		}
	}
	return -ELOOP;
}

static void put_guest(void *arg, long ret)
{
	for (unsigned long i = 0; i < NR_TOUCHED; i++)
		if (the.region[TOUCHED + i * PAGE] != 1)
			ktap_bail("page %lu was touched %u times", i,
				  the.region[TOUCHED + i * PAGE]);
	put_mapped(arg, ret);
}

static void get_run(void *arg)
{
	get_guest(arg);
	must(run_guest(arg), "DUNE_RUN");
}

static long run_close(void *arg)
{
	long ret = munmap(the.run, PAGE) ? -errno : 0;

	(void)arg;
	if (!ret && close(the.vcpu))
		ret = -errno;
	if (!ret && close(the.vm))
		ret = -errno;
	return ret;
}

static const struct fail_op ops[] = {
	{ "open of the device", NULL, run_open, NULL, put_fd },
	{ "DUNE_NEW_VM", NULL, run_new_vm, NULL, put_fd },
	{ "DUNE_CREATE_VCPU", get_vm, run_create_vcpu, again_vcpu, put_both },
	{ "DUNE_MAP_WINDOW", get_vm, run_map_window, again_window, put_vm },
	{ "DUNE_SET_WINDOWS", get_vm, run_set_windows, again_windows, put_vm },
	{ "mmap of the run page", get_vcpu, run_mmap, again_mmap, put_mapped },
	{ "the state", get_vcpu, run_state, again_state, put_vcpu },
	{ "DUNE_RUN", get_guest, run_guest, NULL, put_guest },
	{ "close", get_run, run_close, NULL, NULL },
};

#define NR_OPS	(sizeof(ops) / sizeof(ops[0]))

/* The places that the module alone has, below what the kernel needs around it. */
static const unsigned int at_least[NR_OPS] = { 4, 4, 4, 2, 4, 1, 3, NR_TOUCHED, 0 };

/* The parent stays, for its VM: a descriptor that is not of this address space. */
static void become_child(void)
{
	int status;
	pid_t pid;

	the.foreign = raw_open();
	must(the.foreign, "/dev/dune");
	pid = fork();
	if (pid < 0)
		ktap_bail("fork: %s", strerror(errno));
	if (pid == 0)
		return;
	if (waitpid(pid, &status, 0) != pid)
		ktap_bail("waitpid: %s", strerror(errno));
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? (unsigned int)atoi(argv[1]) : 1;
	const char *why = fail_setup();
	unsigned char *p;

	ktap_plan((unsigned int)NR_OPS * 3 * rounds);
	if (why) {
		for (unsigned int i = 0; i < NR_OPS * 3 * rounds; i++)
			ktap_skip(ops[i / 3 % NR_OPS].name, why);
		return ktap_done();
	}
	become_child();
	p = mmap(NULL, 2 * REGION, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		ktap_bail("mmap: %s", strerror(errno));
	the.region = (unsigned char *)(((uint64_t)p + REGION - 1) & ~(REGION - 1));
	madvise(the.region, REGION, MADV_NOHUGEPAGE);
	get_vm(NULL);
	must(raw_ioctl(the.vm, DUNE_GET_INFO, &the.info), "DUNE_GET_INFO");
	put_vm(NULL, 0);

	for (unsigned int round = 0; round < rounds; round++)
		for (unsigned int i = 0; i < NR_OPS; i++) {
			unsigned int places = fail_walk(&ops[i], NULL);

			ktap_ok(places >= at_least[i], "%s has its places", ops[i].name);
		}
	return ktap_done();
}
