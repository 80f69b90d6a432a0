/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * The system-call interface seen from guest mode is the kernel's: six
 * arguments, every number, errors, registers and flags.  A forwarded call
 * costs exactly one exit.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define NUMBERS		600
#define CALLS		1000

/* Registers around one SYSCALL, in the order abi_call() uses. */
struct abi {
	uint64_t rax, rdi, rsi, rdx, r10, r8, r9;	/* arguments */
	uint64_t rbx, rbp, r12, r13, r14, r15;		/* bystanders */
	uint64_t flags;
};

void abi_call(const struct abi *in, struct abi *out);
asm(".text\n"
    ".globl abi_call\n"
    ".type abi_call, @function\n"
    "abi_call:\n"
    "	pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
    "	pushq %rsi\n"
    "	movq %rdi, %r11\n"
    "	movq 0(%r11), %rax;  movq 8(%r11), %rdi;  movq 16(%r11), %rsi\n"
    "	movq 24(%r11), %rdx; movq 32(%r11), %r10; movq 40(%r11), %r8\n"
    "	movq 48(%r11), %r9;  movq 56(%r11), %rbx; movq 64(%r11), %rbp\n"
    "	movq 72(%r11), %r12; movq 80(%r11), %r13; movq 88(%r11), %r14\n"
    "	movq 96(%r11), %r15\n"
    "	pushq 104(%r11)\n"
    "	popfq\n"
    "	syscall\n"
    "	pushfq\n"
    "	cld\n"
    "	movq 8(%rsp), %r11\n"
    "	movq %rax, 0(%r11);  movq %rdi, 8(%r11);  movq %rsi, 16(%r11)\n"
    "	movq %rdx, 24(%r11); movq %r10, 32(%r11); movq %r8, 40(%r11)\n"
    "	movq %r9, 48(%r11);  movq %rbx, 56(%r11); movq %rbp, 64(%r11)\n"
    "	movq %r12, 72(%r11); movq %r13, 80(%r11); movq %r14, 88(%r11)\n"
    "	movq %r15, 96(%r11)\n"
    "	popq 104(%r11)\n"
    "	popq %rsi\n"
    "	popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx\n"
    "	ret\n"
    ".size abi_call, . - abi_call\n");

static long raw(unsigned long nr, unsigned long arg)
{
	struct abi in = { .rax = nr, .rdi = arg, .rsi = arg, .rdx = arg, .r10 = arg,
			  .r8 = arg, .r9 = arg, .flags = 0x202 }, out;

	abi_call(&in, &out);
	return (long)out.rax;
}

/*
 * Numbers that are left out of the comparison, with all arguments -1.  They
 * end, replace or stop the caller, change the machine, or answer with
 * something that differs between two processes.
 */
static const unsigned short left_out[] = {
	SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_pause, SYS_rt_sigreturn,
	SYS_restart_syscall, SYS_vhangup, SYS_sync, SYS_alarm, SYS_setsid, SYS_umask,
	SYS_kill, SYS_brk, SYS_getpid, SYS_gettid, SYS_getppid, SYS_set_tid_address,
	SYS_inotify_init, SYS_eventfd, SYS_getpgrp, SYS_msgget,
	SYS_modify_ldt, SYS_iopl, SYS_ioperm, SYS_rseq,	/* refused, see below */
	335, 336,	/* uretprobe, uprobe: SIGILL unless called by the kernel's own code */
};

/* And numbers beyond the table, the x32 bit, and bits above the lower 32. */
static const unsigned long extra[] = {
	1000, 0x7fffffffUL, 0x40000000UL | SYS_getuid, 0x100000000UL | SYS_getuid,
	0xffffffffUL, 0xffffffffffffffffUL,
};

#define EXTRA	(sizeof(extra) / sizeof(extra[0]))

static bool is_left_out(unsigned int nr)
{
	for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
		if (left_out[i] == nr)
			return true;
	return false;
}

static void fill_table(long *table)
{
	for (unsigned int nr = 0; nr < NUMBERS; nr++)
		if (!is_left_out(nr))
			table[nr] = raw(nr, -1UL);
	for (size_t i = 0; i < EXTRA; i++)
		table[NUMBERS + i] = raw(extra[i], -1UL);
}

static int native_table(void *arg)
{
	fill_table(arg);
	return 0;
}

static void compare_tables(const long *native)
{
	static long ours[NUMBERS + EXTRA];
	unsigned int differ = 0, enosys = 0;

	fill_table(ours);
	for (unsigned int i = 0; i < NUMBERS + EXTRA; i++) {
		enosys += native[i] == -ENOSYS;
		if (ours[i] == native[i])
			continue;
		if (differ++ < 10)
			ktap_note("number 0x%lx: %ld, natively %ld",
				  i < NUMBERS ? (unsigned long)i : extra[i - NUMBERS], ours[i],
				  native[i]);
	}
	ktap_ok(enosys > 100, "%u numbers are unknown to this kernel", enosys);
	ktap_eq(differ, 0, "all numbers below %d answer as they do natively", NUMBERS);
}

/* They would change the host's side of the thread alone. */
static bool refused_calls(void)
{
	return raw(SYS_modify_ldt, -1UL) == -ENOSYS && raw(SYS_iopl, 3) == -ENOSYS &&
	       raw(SYS_ioperm, 0) == -ENOSYS && raw(SYS_rseq, -1UL) == -ENOSYS &&
	       raw(SYS_pkey_alloc, 0UL) == -ENOSPC && raw(SYS_pkey_alloc, -1UL) == -EINVAL &&
	       syscall(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == -1 && errno == EINVAL;
}

/* As on a CPU without protection keys. */
static bool no_protection_keys(void)
{
	uint32_t a = 7, b, c = 0, d;
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return !(c & 1U << 4) &&	/* OSPKE */
	       !syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_WRITE, -1) &&
	       syscall(SYS_pkey_mprotect, page, 4096, PROT_READ, 1) == -1 && errno == EINVAL &&
	       syscall(SYS_pkey_free, 1) == -1 && errno == EINVAL;
}

static bool bystanders_survive(uint64_t *flags_wrong)
{
	static const uint64_t flags[] = { 0x202, 0x202 | 0x8d5, 0x202 | 0x400, 0x202 | 0xcd5 };
	bool ok = true;

	*flags_wrong = 0;
	for (unsigned int i = 0; i < 4; i++) {
		struct abi in = { .rax = SYS_getuid, .rdi = 0x11, .rsi = 0x22, .rdx = 0x33,
				  .r10 = 0x44, .r8 = 0x55, .r9 = 0x66, .rbx = 0x77, .rbp = 0x88,
				  .r12 = 0x99, .r13 = 0xaa, .r14 = 0xbb, .r15 = 0xcc,
				  .flags = flags[i] }, out;

		abi_call(&in, &out);
		*flags_wrong |= out.flags ^ in.flags;
		out.flags = in.flags;
		in.rax = getuid();
		ok &= memcmp(&in, &out, sizeof(in)) == 0;
	}
	return ok;
}

static bool six_argument_mmap(void)
{
	long page = 4096;
	int fd = memfd_create("dune-test", MFD_CLOEXEC);
	char *at = mmap(NULL, 16384, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok = fd >= 0 && at != MAP_FAILED && ftruncate(fd, 3 * page) == 0 &&
		  pwrite(fd, "third", 5, 2 * page) == 5;
	char *p = (char *)syscall(SYS_mmap, at + page, page, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED, fd, 2 * page);

	ok &= p == at + page && memcmp(p, "third", 5) == 0;
	munmap(at, 16384);
	close(fd);
	return ok;
}

/* The sixth argument of pselect6 points to a mask and its size, which is checked. */
static bool six_argument_pselect(void)
{
	struct timespec none = { 0, 0 };
	uint64_t mask = 0;
	struct { const void *mask; size_t size; } good = { &mask, 8 }, bad = { &mask, 7 };
	int fds[2];
	fd_set set;
	bool ok;

	if (pipe(fds) || write(fds[1], "x", 1) != 1)
		return false;
	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	ok = syscall(SYS_pselect6, fds[0] + 1, &set, NULL, NULL, &none, &good) == 1;
	ok &= syscall(SYS_pselect6, fds[0] + 1, &set, NULL, NULL, &none, &bad) == -1 &&
	      errno == EINVAL;
	close(fds[0]);
	close(fds[1]);
	return ok;
}

static bool six_argument_sendto(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "\0dune-test-abi" };
	struct sockaddr_un from;
	socklen_t len = sizeof(sa_family_t) + 1 + strlen("dune-test-abi"), flen = sizeof(from);
	int a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0);
	char buf[8] = "";
	bool ok = bind(b, (struct sockaddr *)&to, len) == 0 &&
		  sendto(a, "letter", 6, 0, (struct sockaddr *)&to, len) == 6 &&
		  recvfrom(b, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &flen) == 6;

	close(a);
	close(b);
	return ok && strcmp(buf, "letter") == 0;
}

static bool futexes(void)
{
	struct timespec soon = { 0, 1000000 };
	uint32_t a = 5, b = 6;

	return syscall(SYS_futex, &a, FUTEX_WAIT, 5, &soon, NULL, 0) == -1 && errno == ETIMEDOUT &&
	       syscall(SYS_futex, &a, FUTEX_WAIT, 4, &soon, NULL, 0) == -1 && errno == EAGAIN &&
	       syscall(SYS_futex, &a, FUTEX_CMP_REQUEUE, 1, 1UL, &b, 5) == 0 &&
	       syscall(SYS_futex, &a, FUTEX_CMP_REQUEUE, 1, 1UL, &b, 4) == -1 && errno == EAGAIN;
}

/* Exits that nobody asked for: the host's interrupts and memory. */
static uint64_t unasked(const struct dune_stats *s)
{
	return s->exit[DUNE_STAT_INTERRUPT].count + s->exit[DUNE_STAT_NMI].count +
	       s->exit[DUNE_STAT_FAULT].count;
}

static void one_exit_per_call(void)
{
	struct dune_stats before, after;
	uint64_t hypercalls, others = 0;

	raw(SYS_getuid, 0);
	before = dune_test_stats();
	for (unsigned int i = 0; i < CALLS; i++)
		raw(SYS_getuid, 0);
	after = dune_test_stats();

	hypercalls = after.exit[DUNE_STAT_HYPERCALL].count - before.exit[DUNE_STAT_HYPERCALL].count;
	for (unsigned int i = 0; i < DUNE_STAT_NR; i++)
		others += after.exit[i].count - before.exit[i].count;
	others -= hypercalls + unasked(&after) - unasked(&before);
	ktap_eq(hypercalls, CALLS, "%d calls are %d hypercalls", CALLS, CALLS);
	ktap_eq(others, 0, "and no other exit");
	ktap_eq(after.entries - before.entries - (unasked(&after) - unasked(&before)), CALLS,
		"and as many entries");
}

int main(void)
{
	long *native = child_shared((NUMBERS + EXTRA) * sizeof(*native));
	struct child reference = child_start(native_table, native);
	uint64_t flags_wrong;

	ktap_plan(DUNE_TEST_ENTER + 15 + DUNE_TEST_LEAVE);
	child_go(&reference);

	int status = child_wait(&reference);

	dune_test_enter();
	ktap_eq(status, 0, "a native child tried all numbers");
	ktap_ok(six_argument_mmap(), "mmap with six arguments");
	ktap_ok(six_argument_pselect(), "pselect6 with six arguments");
	ktap_ok(six_argument_sendto(), "sendto and recvfrom with six arguments");
	ktap_ok(futexes(), "futex: timeout, value, requeue");
	ktap_eq(raw(SYS_close, -1UL), (unsigned long)-EBADF, "an error comes back as -errno");
	ktap_ok(bystanders_survive(&flags_wrong), "registers other than RAX, RCX, R11 are preserved");
	ktap_eq(flags_wrong, 0, "the flags are preserved, DF included");
	compare_tables(native);
	ktap_ok(no_protection_keys(), "there are no protection keys");
	ktap_ok(refused_calls(), "modify_ldt, iopl, ioperm, rseq, pkey_alloc and faulting RDTSC are refused");
	one_exit_per_call();
	return dune_test_done();
}
