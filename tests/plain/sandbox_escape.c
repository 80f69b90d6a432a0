/* SPDX-License-Identifier: MIT */
/*
 * For dune-sandbox --allow-all: what a hostile program would try.  Each attempt must fail,
 * and the program must go on.  Natively, where there is no monitor, the first test fails.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "../ktap.h"

#define SLOT		0x3f8000000000UL
#define SLOT_END	0x400000000000UL
#define RACES		3000
#define MOST_RACES	(100 * RACES)	/* until the other thread was seen */

static uint64_t code, data, stack;	/* of the monitor, by /proc/self/maps */
static sigjmp_buf back;
static volatile int caught;

static void on_fault(int sig)
{
	caught = sig;
	siglongjmp(back, 1);
}

/* The signal that @what ends in; 0: it went through. */
#define TRY(what) ({							\
	caught = 0;							\
	if (!sigsetjmp(back, 1)) { what; }				\
	caught; })

#define REFUSED(what, text) do {					\
	errno = 0;							\
	long ret_ = (long)(what);					\
	ktap_ok(ret_ == -1, "%s (%s)", text, strerror(errno));		\
} while (0)

static void find_monitor(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], prot[8];
	uint64_t from, to;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, prot) != 3 || from < SLOT ||
		    from >= SLOT_END)
			continue;
		if (prot[2] == 'x' && !code)
			code = from;
		if (prot[1] == 'w' && !data)
			data = from;
		if (prot[1] == 'w')
			stack = to - 4096;
	}
	if (maps)
		fclose(maps);
}

#define INSN(name, text) \
	extern char name[]; \
	__asm__(".text\n" #name ":\n" text "\n	ret\n")

INSN(i_vmcall, "mov $39, %eax; vmcall");
INSN(i_vmmcall, "mov $39, %eax; vmmcall");
INSN(i_int80, "mov $20, %eax; int $0x80");
INSN(i_int14, "int $14");
INSN(i_int255, "int $255");
INSN(i_sysenter, "push %rbp; mov %rsp, %rbp; sysenter; pop %rbp");
INSN(i_vsyscall, "mov $0xffffffffff600000, %rax; xor %edi, %edi; xor %esi, %esi; call *%rax");
INSN(i_in, "mov $0x60, %edx; in %dx, %al");
INSN(i_out, "mov $0x80, %edx; out %al, %dx");
INSN(i_outs, "mov $0x80, %edx; mov %rsp, %rsi; outsb");
INSN(i_rdmsr, "mov $0xc0000082, %ecx; rdmsr");
INSN(i_wrmsr, "mov $0xc0000082, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr");
INSN(i_lgdt, "lgdt -16(%rsp)");
INSN(i_lidt, "lidt -16(%rsp)");
INSN(i_ltr, "mov $0x38, %eax; ltr %ax");
INSN(i_lldt, "xor %eax, %eax; lldt %ax");
INSN(i_cr0, "mov %cr0, %rax");
INSN(i_cr3, "mov %cr3, %rax; mov %rax, %cr3");
INSN(i_cr4, "mov %cr4, %rax");
INSN(i_dr7, "mov %dr7, %rax");
INSN(i_cli, "cli");
INSN(i_hlt, "hlt");
INSN(i_invlpg, "invlpg (%rsp)");
INSN(i_swapgs, "swapgs");
INSN(i_clts, "clts");
INSN(i_wbinvd, "wbinvd");
INSN(i_xsetbv, "xor %ecx, %ecx; mov $7, %eax; xor %edx, %edx; xsetbv");
INSN(i_sysret, "mov (%rsp), %rcx; mov $0x3202, %r11d; sysretq");
INSN(i_far, "push $0x10; lea 1f(%rip), %rax; push %rax; lretq; 1: ");
INSN(i_iret, "mov %rsp, %rcx; push $0x18; push %rcx; pushfq; push $0x10; lea 1f(%rip), %rax;"
	     "push %rax; iretq; 1: ");
INSN(i_ds, "mov $0x10, %eax; mov %ax, %ss");

static void instructions(void)
{
	static const struct { const char *name; char *at; } list[] = {
		{ "VMCALL", i_vmcall }, { "VMMCALL", i_vmmcall }, { "INT 0x80", i_int80 },
		{ "INT 14", i_int14 }, { "INT 255", i_int255 }, { "SYSENTER", i_sysenter },
		{ "the vsyscall page", i_vsyscall }, { "IN", i_in }, { "OUT", i_out },
		{ "OUTS", i_outs }, { "RDMSR", i_rdmsr }, { "WRMSR", i_wrmsr },
		{ "LGDT", i_lgdt }, { "LIDT", i_lidt }, { "LTR", i_ltr }, { "LLDT", i_lldt },
		{ "MOV CR0", i_cr0 }, { "MOV CR3", i_cr3 }, { "MOV CR4", i_cr4 },
		{ "MOV DR7", i_dr7 }, { "CLI", i_cli }, { "HLT", i_hlt },
		{ "INVLPG", i_invlpg }, { "SWAPGS", i_swapgs }, { "CLTS", i_clts },
		{ "WBINVD", i_wbinvd }, { "XSETBV", i_xsetbv }, { "SYSRET", i_sysret },
		{ "a far return to ring 0", i_far }, { "IRET to ring 0", i_iret },
		{ "a ring-0 stack segment", i_ds },
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		int sig = TRY(((void (*)(void))list[i].at)());

		ktap_ok(sig, "%s is signal %d", list[i].name, sig);
	}
}

static void accesses(void)
{
	ktap_ok(TRY((void)*(volatile char *)data) == SIGSEGV, "reading the monitor's data");
	ktap_ok(TRY(*(volatile char *)data = 1) == SIGSEGV, "writing the monitor's data");
	ktap_ok(TRY(*(volatile char *)code = 1) == SIGSEGV, "writing the monitor's code");
	ktap_ok(TRY(((void (*)(void))code)()) == SIGSEGV, "executing the monitor's code");
	ktap_ok(TRY(*(volatile char *)stack = 1) == SIGSEGV, "writing a ring-0 stack");
	ktap_ok(TRY((void)*(volatile char *)SLOT) == SIGSEGV, "reading where nothing is mapped");
}

/* Linux as a deputy: addresses in arguments. */
static void pointers(void)
{
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), p[2], s[2];
	struct iovec good = { &zero, 1 }, bad = { (void *)data, 8 }, two[2] = { good, bad };
	struct msghdr m = { .msg_iov = two, .msg_iovlen = 2 };
	char buf[16];
	int status;

	if (pipe(p) || socketpair(AF_UNIX, SOCK_DGRAM, 0, s))
		exit(1);
	REFUSED(read(zero, (void *)data, 8), "read() to the monitor");
	REFUSED(write(p[1], (void *)code, 8), "write() from the monitor");
	REFUSED(pread(zero, (void *)(SLOT - 4096), 8192, 0), "a buffer that begins below");
	REFUSED(readv(zero, two, 2), "readv() with one part in the monitor");
	REFUSED(readv(zero, (void *)data, 1), "an iovec in the monitor");
	REFUSED(writev(p[1], two, 2), "writev()");
	REFUSED(sendmsg(s[0], &m, 0), "sendmsg()");
	send(s[0], "12345678", 8, 0);
	REFUSED(recvmsg(s[1], &m, MSG_DONTWAIT), "recvmsg()");
	m = (struct msghdr){ .msg_iov = &good, .msg_iovlen = 1, .msg_control = (void *)data,
			     .msg_controllen = 64 };
	REFUSED(recvmsg(s[1], &m, MSG_DONTWAIT), "recvmsg() with its control data there");
	REFUSED(vmsplice(p[1], &bad, 1, 0), "vmsplice()");
	REFUSED(syscall(SYS_getrandom, data, 8, 0), "getrandom()");
	REFUSED(syscall(SYS_futex, data, FUTEX_WAKE, 1), "futex()");
	REFUSED(syscall(SYS_set_tid_address, data), "set_tid_address()");
	REFUSED(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, data, 8), "rt_sigprocmask()");
	REFUSED(syscall(SYS_rt_sigaction, SIGUSR1, NULL, data, 8), "rt_sigaction()");
	REFUSED(syscall(SYS_sigaltstack, NULL, data), "sigaltstack()");
	REFUSED(syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, 0, 0, data, 0), "clone()");
	REFUSED(syscall(SYS_arch_prctl, 0x1003, data), "arch_prctl()");
	REFUSED(syscall(SYS_wait4, -1, data, WNOHANG, 0), "wait4()");
	REFUSED(open((char *)code, O_RDONLY), "a path in the monitor");
	REFUSED(syscall(SYS_execve, "/bin/true", data, 0), "arguments of exec in the monitor");
	REFUSED(ioctl(p[0], FIONREAD, data), "ioctl()");
	REFUSED(syscall(SYS_prctl, 16 /* PR_GET_NAME */, data), "prctl()");
	REFUSED(setsockopt(s[0], SOL_SOCKET, 26, &(struct { short n; void *f; }){ 1, (void *)data },
			   16), "a socket filter in the monitor");
	/* The kernel would walk this list when the thread ends. */
	if (!fork()) {
		struct { void *next; long offset; void *pending; } head;

		head.next = (void *)data;
		head.offset = 0;
		head.pending = (void *)data;
		syscall(SYS_set_robust_list, &head, sizeof(head));
		_exit(3);
	}
	wait(&status);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 3, "a robust list in the monitor");
	(void)buf;
	close(zero);
	close(null);
	close(p[0]);
	close(p[1]);
	close(s[0]);
	close(s[1]);
}

static void mappings(void)
{
	uint64_t page = data & ~4095UL, mine;
	int id = shmget(IPC_PRIVATE, 8192, 0600), mem = memfd_create("m", 0), chunks = 0;
	bool outside = true;
	void *p;

	mine = (uint64_t)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ftruncate(mem, 8192))
		exit(1);
	REFUSED(mmap((void *)page, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		"mmap() over the monitor");
	REFUSED(mmap((void *)(SLOT - 4096), 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		"mmap() into the arena from below");
	REFUSED(mmap((void *)page, 4096, 3, MAP_SHARED | MAP_FIXED, mem, 0),
		"a shared memfd over the monitor");
	REFUSED(mmap((void *)SLOT, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
		"mmap() in an empty part of the arena");
	p = mmap((void *)SLOT, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ktap_ok(p != MAP_FAILED && ((uint64_t)p < SLOT || (uint64_t)p >= SLOT_END),
		"a hint in the arena is not followed");
	REFUSED(munmap((void *)page, 4096), "munmap() of the monitor");
	REFUSED(mprotect((void *)page, 4096, 7), "mprotect() of the monitor");
	REFUSED(mprotect((void *)(code & ~4095UL), 4096, 7), "mprotect() of its code");
	REFUSED(syscall(SYS_pkey_mprotect, page, 4096, 7, -1), "pkey_mprotect() of the monitor");
	REFUSED(mremap((void *)page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)mine),
		"mremap() of the monitor");
	REFUSED(mremap((void *)mine, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)page),
		"mremap() over the monitor");
	REFUSED(madvise((void *)page, 4096, MADV_DONTNEED), "madvise() of the monitor");
	REFUSED(mlock((void *)page, 4096), "mlock() of the monitor");
	REFUSED(shmat(id, (void *)page, SHM_REMAP), "shmat() over the monitor");
	REFUSED(shmat(id, (void *)(SLOT - 4096), SHM_REMAP), "shmat() into the arena from below");
	shmctl(id, IPC_RMID, NULL);
	ktap_ok(syscall(SYS_brk, SLOT + 4096) == syscall(SYS_brk, 0), "brk() to the arena");
	REFUSED(syscall(SYS_remap_file_pages, page, 4096, 0, 0, 0), "remap_file_pages()");

	/* All addresses: the last ones to be had would be the arena's. */
	while (chunks < 4096) {
		p = mmap(NULL, 1UL << 38, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			 -1, 0);
		if (p == MAP_FAILED)
			break;
		if ((uint64_t)p + (1UL << 38) > SLOT && (uint64_t)p < SLOT_END)
			outside = false;
		chunks++;
		if (chunks > 1)		/* keep only what is needed to push on */
			continue;
	}
	ktap_ok(outside && chunks > 100 && chunks < 4096, "%d pieces use all addresses up, none in the arena",
		chunks);
}

static void memory_files(void)
{
	char name[64], path[128];
	struct open_how how = { .flags = O_RDWR };
	int dir, status;

	REFUSED(open("/proc/self/mem", O_RDWR), "/proc/self/mem");
	REFUSED(open("/proc/self/mem", O_RDONLY), "/proc/self/mem to read");
	REFUSED(open("/proc/self/mem", O_PATH), "/proc/self/mem as a path");
	REFUSED(open("/proc/thread-self/mem", O_RDWR), "/proc/thread-self/mem");
	snprintf(name, sizeof(name), "/proc/%d/mem", getpid());
	REFUSED(open(name, O_RDWR), "/proc/PID/mem");
	snprintf(name, sizeof(name), "/proc/%d/task/%d/mem", getpid(), getpid());
	REFUSED(open(name, O_RDWR), "/proc/PID/task/TID/mem");
	REFUSED(open("//proc/./self/../self//mem", O_RDWR), "with dots");
	dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
	REFUSED(openat(dir, "mem", O_RDWR), "by a folder");
	REFUSED(openat(dir, "../self/mem", O_RDWR), "by a folder and dots");
	REFUSED(syscall(SYS_openat2, dir, "mem", &how, sizeof(how)), "openat2()");
	how.resolve = RESOLVE_BENEATH;
	REFUSED(syscall(SYS_openat2, dir, "mem", &how, sizeof(how)), "openat2() beneath");
	snprintf(path, sizeof(path), "/proc/self/fd/%d/mem", dir);
	REFUSED(open(path, O_RDWR), "by a descriptor's link");
	unlink("/tmp/link");
	if (symlink("/proc/self/mem", "/tmp/link"))
		exit(1);
	REFUSED(open("/tmp/link", O_RDWR), "by a symbolic link");
	unlink("/tmp/link");
	if (symlink("/proc/self", "/tmp/link"))
		exit(1);
	REFUSED(open("/tmp/link/mem", O_RDWR), "by a symbolic link to its folder");
	unlink("/tmp/link");
	if (!fork()) {
		_exit(chdir("/proc/self") || open("mem", O_RDWR) >= 0);
	}
	wait(&status);
	ktap_ok(WIFEXITED(status) && !WEXITSTATUS(status), "in its folder");
	if (!fork()) {		/* of another process of the sandbox */
		snprintf(name, sizeof(name), "/proc/%d/mem", getppid());
		_exit(open(name, O_RDWR) >= 0);
	}
	wait(&status);
	ktap_ok(WIFEXITED(status) && !WEXITSTATUS(status), "the parent's");
	REFUSED(open("/dev/mem", O_RDWR), "/dev/mem");
	REFUSED(open("/dev/dune", O_RDWR), "/dev/dune");
	REFUSED(mknod("/tmp/dev", S_IFCHR | 0600, 1 << 8 | 1), "a device of its own");
	close(dir);
}

static void calls(void)
{
	struct iovec mine = { &mine, 8 }, theirs = { (void *)data, 8 };
	char params[256] = { 0 };

	REFUSED(process_vm_writev(getpid(), &mine, 1, &theirs, 1, 0), "process_vm_writev()");
	REFUSED(process_vm_readv(getpid(), &mine, 1, &theirs, 1, 0), "process_vm_readv()");
	REFUSED(ptrace(PTRACE_TRACEME, 0, 0, 0), "ptrace()");
	REFUSED(syscall(SYS_userfaultfd, 1), "userfaultfd()");
	REFUSED(syscall(SYS_io_uring_setup, 4, params), "io_uring_setup()");
	REFUSED(syscall(SYS_io_setup, 4, params), "io_setup()");
	REFUSED(syscall(SYS_seccomp, 1, 0, params), "seccomp()");
	REFUSED(syscall(SYS_bpf, 0, params, sizeof(params)), "bpf()");
	REFUSED(syscall(SYS_perf_event_open, params, 0, -1, -1, 0), "perf_event_open()");
	REFUSED(syscall(SYS_modify_ldt, 1, params, 16), "modify_ldt()");
	REFUSED(syscall(SYS_iopl, 3), "iopl()");
	REFUSED(syscall(SYS_ioperm, 0, 16, 1), "ioperm()");
	REFUSED(syscall(SYS_unshare, CLONE_NEWUSER), "unshare()");
	REFUSED(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), "clone() with a namespace");
	REFUSED(syscall(SYS_clone, CLONE_VM | SIGCHLD, 0, 0, 0, 0), "a process with this memory");
	REFUSED(syscall(SYS_mount, "proc", "/tmp", "proc", 0, 0), "mount()");
	REFUSED(syscall(SYS_chroot, "/tmp"), "chroot()");
	REFUSED(syscall(SYS_prctl, 35 /* PR_SET_MM */, 1, data, 0, 0), "prctl(PR_SET_MM)");
	REFUSED(syscall(SYS_personality, 0x0400000), "READ_IMPLIES_EXEC");
	REFUSED(syscall(SYS_process_madvise, 0, &theirs, 1, 4, 0), "process_madvise()");
	REFUSED(syscall(500), "a number that nobody knows");
	REFUSED(syscall(511), "the last number of the table");
	REFUSED(syscall(512), "the first behind it");
	REFUSED(syscall(1L << 40), "a large number");
	REFUSED(syscall(-1L), "a negative number");
	REFUSED(syscall(0x40000000 | SYS_getpid), "a number of x32");
}

/* Libdune's and the monitor's own, by what /proc says. */
static void descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0, other = open("/dev/null", O_RDWR), s[2], status;
	bool kept = true;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s))
		exit(1);
	while (d && (e = readdir(d))) {
		int fd = atoi(e->d_name);
		char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
		struct iovec part = { &byte, 1 };
		struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				    .msg_controllen = sizeof(control) };
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		char name[32];

		if (fd < 400)
			continue;
		n++;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		if (dup(fd) >= 0 || dup2(other, fd) >= 0 || fcntl(fd, F_DUPFD, 3) >= 0 ||
		    close(fd) == 0 || sendmsg(s[0], &m, 0) >= 0 || open(name, O_RDWR) >= 0 ||
		    lseek(fd, 0, SEEK_SET) >= 0 || ioctl(fd, 0x4401, 0) >= 0 ||
		    mmap(NULL, 4096, 3, MAP_SHARED, fd, 0) != MAP_FAILED)
			kept = false;
	}
	if (d)
		closedir(d);
	syscall(SYS_close_range, 400, ~0U, 0);
	ktap_ok(kept && n >= 3, "%d descriptors are not there for the program", n);
	/* A child needs a VM, which it gets by one of them. */
	if (!fork())
		_exit(5);
	wait(&status);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 5, "and survive close_range()");
}

/* ---- frames ------------------------------------------------------------------ */

static volatile int forge;

static void forger(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *r = uc->uc_mcontext.gregs;

	(void)sig;
	(void)info;
	switch (forge) {
	case 0:
		r[REG_CSGSFS] = 0x10 | (0x18L << 48);
		break;
	case 1:
		r[REG_EFL] |= 0x3000;
		r[REG_EFL] &= ~0x200;
		break;
	case 2:
		r[REG_RIP] = (greg_t)0x800000000000;
		break;
	case 3:
		r[REG_RIP] = (greg_t)code;
		break;
	case 4:
		memset(uc->uc_mcontext.fpregs, 0xff, 512 + 64);
		break;
	case 5:
		uc->uc_mcontext.fpregs = (void *)data;
		break;
	case 6:
		r[REG_RSP] = (greg_t)stack;
		r[REG_RIP] = (greg_t)i_in;
		break;
	}
}

INSN(call_with_stack, "mov %rsp, %r10; mov %rdi, %rsp; mov $39, %eax; syscall; mov %r10, %rsp");

static void frames(void)
{
	static const char *const names[] = { "selectors of ring 0", "IOPL 3 and IF 0",
		"a rip that is not canonical", "a rip in the monitor", "vector registers of ones",
		"vector registers in the monitor", "a stack in the monitor" };
	struct sigaction sa = { .sa_sigaction = forger, .sa_flags = SA_SIGINFO };

	sigaction(SIGUSR2, &sa, NULL);
	for (forge = 0; forge < 7; forge++) {
		bool lives = forge == 0 || forge == 1 || forge == 4;
		int sig = TRY(raise(SIGUSR2));

		ktap_ok(lives ? !sig : sig == SIGSEGV, "a signal frame with %s", names[forge]);
	}
	ktap_ok(TRY(((void (*)(uint64_t))call_with_stack)(stack)) == 0,
		"a system call with the stack pointer in the monitor");
	ktap_ok(TRY(__asm__ volatile("pushfq; orl $0x3000, (%%rsp); popfq; in $0x60, %%al"
				     ::: "rax", "cc", "memory")) == SIGSEGV, "POPF of IOPL");
}

/* ---- races ----------------------------------------------------------------- */

static struct iovec turning;
static volatile char turning_path[32];
static volatile bool stop_turning;

static void *turn(void *arg)
{
	static char good[8];
	bool odd = false;

	(void)arg;
	while (!stop_turning) {
		odd = !odd;
		__atomic_store_n(&turning.iov_base, odd ? (void *)data : good, __ATOMIC_RELAXED);
		memcpy((void *)turning_path, odd ? "/proc/self/mem" : "/proc/self/mpm", 15);
	}
	return NULL;
}

static void *link_turner(void *arg)
{
	(void)arg;
	while (!stop_turning) {
		unlink("/tmp/t2");
		if (symlink("/proc/self/mem", "/tmp/t2") || rename("/tmp/t2", "/tmp/t1"))
			continue;
		unlink("/tmp/t2");
		if (symlink("/dev/null", "/tmp/t2") || rename("/tmp/t2", "/tmp/t1"))
			continue;
	}
	return NULL;
}

/* Between what may be executed but is no program, and what may not be opened. */
static void *exec_link_turner(void *arg)
{
	(void)arg;
	while (!stop_turning) {
		unlink("/tmp/t4");
		if (symlink("/proc/self/mem", "/tmp/t4") || rename("/tmp/t4", "/tmp/t3"))
			continue;
		unlink("/tmp/t4");
		if (symlink("/tmp/plain", "/tmp/t4") || rename("/tmp/t4", "/tmp/t3"))
			continue;
	}
	return NULL;
}

static void races(void)
{
	int zero = open("/dev/zero", O_RDONLY), done = 0, refused = 0, got = 0, null = 0;
	int rounds = 0;
	pthread_t t, u;

	turning.iov_len = 8;
	pthread_create(&t, NULL, turn, NULL);
	for (; rounds < RACES || (!(done && refused) && rounds < MOST_RACES); rounds++) {
		if (readv(zero, &turning, 1) == 8)
			done++;
		else
			refused++;
		int fd = open((const char *)turning_path, O_RDWR);

		if (fd >= 0)
			got++, close(fd);
	}
	stop_turning = true;
	pthread_join(t, NULL);
	ktap_ok(done && refused, "an iovec that changes: %d done, %d refused", done, refused);
	ktap_ok(!got, "a path that changes is never /proc/self/mem");
	stop_turning = false;
	unlink("/tmp/t1");
	pthread_create(&u, NULL, link_turner, NULL);
	for (int i = 0; i < RACES; i++) {
		int fd = open("/tmp/t1", O_RDWR);
		char name[32], to[64];
		ssize_t n;

		if (fd < 0)
			continue;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, to, sizeof(to));
		if (n == 9 && !memcmp(to, "/dev/null", 9))
			null++;
		else
			got++;
		close(fd);
	}
	stop_turning = true;
	pthread_join(u, NULL);
	ktap_ok(!got, "a link that changes: %d times the harmless one, never the other", null);
	close(zero);
}

/* What exec looks at before it executes: another thread takes its descriptor meanwhile. */
static int taken = -1;

static void *take_descriptors(void *arg)
{
	int next = *(int *)arg;
	char name[40], to[64];

	while (!stop_turning && taken < 0) {
		int fd = dup(next);
		ssize_t n;

		if (fd < 0)
			continue;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, to, sizeof(to));
		if (n > 4 && !memcmp(to + n - 4, "/mem", 4))
			taken = fd;
		else
			close(fd);
	}
	return NULL;
}

static void exec_races(void)
{
	int dir = open("/proc/self", O_RDONLY | O_DIRECTORY), fd, next;
	char *const args[] = { "x", NULL };
	char name[40];
	pthread_t t, u;

	fd = open("/tmp/plain", O_WRONLY | O_CREAT | O_TRUNC, 0755);
	if (dir < 0 || fd < 0 || write(fd, "no program", 10) != 10)
		exit(1);
	close(fd);
	next = dup(dir);	/* the number that the next one gets */
	close(next);
	stop_turning = false;
	pthread_create(&t, NULL, take_descriptors, &next);
	for (int i = 0; i < RACES && taken < 0; i++)
		syscall(SYS_execveat, dir, "mem", args, environ, 0);
	pthread_create(&u, NULL, exec_link_turner, NULL);
	for (int i = 0; i < RACES && taken < 0; i++)
		execve("/tmp/t3", args, environ);
	stop_turning = true;
	pthread_join(t, NULL);
	pthread_join(u, NULL);
	ktap_ok(taken < 0, "exec opens no /proc/self/mem for a moment");
	snprintf(name, sizeof(name), "/proc/self/fd/%d", taken);
	REFUSED(open(name, O_RDWR), "and none can be opened again to write");
	close(dir);
}

static void children(void)
{
	char line[512];
	FILE *maps = popen("cat /proc/self/maps", "r");
	bool inside = false;

	while (maps && fgets(line, sizeof(line), maps))
		if (strtoul(line, NULL, 16) >= SLOT && strtoul(line, NULL, 16) < SLOT_END)
			inside = true;
	if (maps)
		pclose(maps);
	ktap_ok(inside, "what is executed is in a sandbox");
}

int main(void)
{
	static char alternate[65536];
	stack_t ss = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	struct sigaction sa = { .sa_handler = on_fault, .sa_flags = SA_ONSTACK };

	ktap_plan(143);
	find_monitor();
	ktap_ok(code && data && stack, "there is a monitor");
	if (!code || !data || !stack)
		return ktap_done();
	sigaltstack(&ss, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGTRAP, &sa, NULL);
	instructions();
	accesses();
	pointers();
	memory_files();
	calls();
	descriptors();
	frames();
	races();
	exec_races();
	children();
	mappings();
	return ktap_done();
}
