/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=150 */
/*
 * Bad arguments give the errno that they give natively: every system call with
 * the same strange word in all six arguments, and calls that take a pointer
 * with every kind of bad one among good arguments.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define NUMBERS	600

/* ---- every number -------------------------------------------------------- */

/* No descriptor, process, signal or length: the low halves are negative as an int. */
static const unsigned long words[] = {
	0xffff8880deadbeefUL,		/* the kernel's */
	0x00007000deadbeefUL,		/* nothing is mapped there */
	0x00f07000deadb000UL,		/* not canonical, on a page */
};

#define WORDS	(sizeof(words) / sizeof(words[0]))

/*
 * Left out: they end or replace their caller, succeed with anything and change
 * what comes later, or answer with a number of their own.
 */
static const unsigned short left_out[] = {
	SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork,		/* the caller's life */
	SYS_pause, SYS_rt_sigreturn, SYS_restart_syscall,	/* without an end, or a frame */
	SYS_vhangup, SYS_sync, SYS_alarm, SYS_setsid,		/* the session, the machine */
	SYS_umask, SYS_personality, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid,
	SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid,
	SYS_getpid, SYS_gettid, SYS_getppid, SYS_getpgrp, SYS_set_tid_address, SYS_brk,
	SYS_inotify_init, SYS_eventfd, SYS_msgget, SYS_semget, SYS_shmget,
	SYS_modify_ldt, SYS_iopl, SYS_ioperm, SYS_rseq,	/* Dune mode refuses them */
	335, 336,				/* uretprobe, uprobe: SIGILL */
};

static bool is_left_out(unsigned int nr)
{
	for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
		if (left_out[i] == nr)
			return true;
	return false;
}

static long raw(long nr, const long *a)
{
	register long r10 asm("r10") = a[3];
	register long r8 asm("r8") = a[4];
	register long r9 asm("r9") = a[5];
	long ret;

	asm volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]),
		     "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}

/* ---- calls with one pointer among good arguments --------------------------- */

enum { P = 0x5eed0000 };		/* stands for the pointer */

static int fd_file, fd_pipe[2], fd_epoll, fd_event, fd_timer, fd_unix[2], fd_inet;
static long good, addr_len, nowait;

struct call {
	const char *name;
	long nr;
	long a[6];
};

static struct call calls[80];
static unsigned int nr_calls;

#define CALL(name, ...)							\
	(calls[nr_calls++] = (struct call){ #name, SYS_##name, { __VA_ARGS__ } })

/* Each is harmless if it succeeds, and does not wait. */
static void make_calls(void)
{
	CALL(read, fd_file, P, 64);
	CALL(write, fd_file, P, 64);
	CALL(pread64, fd_file, P, 64, 0);
	CALL(pwrite64, fd_file, P, 64, 0);
	CALL(readv, fd_file, P, 2);
	CALL(writev, fd_file, P, 2);
	CALL(open, P, O_RDONLY);
	CALL(openat, AT_FDCWD, P, O_RDONLY);
	CALL(stat, P, good);
	CALL(stat, (long)"/", P);
	CALL(fstat, fd_file, P);
	CALL(newfstatat, AT_FDCWD, (long)"/", P, 0);
	CALL(statx, AT_FDCWD, (long)"/", 0, STATX_ALL, P);
	CALL(access, P, F_OK);
	CALL(readlink, (long)"/proc/self/exe", P, 64);
	CALL(getcwd, P, 4096);
	CALL(chdir, P);
	CALL(unlink, P);
	CALL(mkdir, P, 0755);
	CALL(rename, P, (long)"/tmp/nowhere");
	CALL(getdents64, fd_file, P, 512);
	CALL(pipe, P);
	CALL(pipe2, P, O_CLOEXEC);
	CALL(poll, P, 1, 0);
	CALL(ppoll, 0, 0, nowait, P, 8);
	CALL(select, 1, P, 0, 0, nowait);
	CALL(pselect6, 0, 0, 0, 0, nowait, P);
	CALL(epoll_ctl, fd_epoll, EPOLL_CTL_MOD, fd_event, P);
	CALL(epoll_wait, fd_epoll, P, 1, 0);
	CALL(timerfd_settime, fd_timer, 0, P, 0);
	CALL(timerfd_gettime, fd_timer, P);
	CALL(clock_gettime, CLOCK_MONOTONIC, P);
	CALL(clock_getres, CLOCK_MONOTONIC, P);
	CALL(nanosleep, P, 0);
	CALL(clock_nanosleep, CLOCK_MONOTONIC, 0, P, 0);
	CALL(gettimeofday, P, 0);
	CALL(time, P);
	CALL(times, P);
	CALL(getrusage, RUSAGE_SELF, P);
	CALL(getrlimit, RLIMIT_NOFILE, P);
	CALL(setrlimit, RLIMIT_RSS, P);
	CALL(prlimit64, 0, RLIMIT_NOFILE, 0, P);
	CALL(uname, P);
	CALL(sysinfo, P);
	CALL(getrandom, P, 16, 0);
	CALL(getcpu, P, 0, 0);
	CALL(sched_getaffinity, 0, 128, P);
	CALL(sched_setaffinity, 0, 128, P);
	CALL(sched_getparam, 0, P);
	CALL(rt_sigaction, SIGUSR1, P, 0, 8);
	CALL(rt_sigaction, SIGUSR1, 0, P, 8);
	CALL(rt_sigprocmask, SIG_BLOCK, P, 0, 8);
	CALL(rt_sigprocmask, SIG_BLOCK, 0, P, 8);
	CALL(rt_sigpending, P, 8);
	CALL(sigaltstack, P, 0);
	CALL(sigaltstack, 0, P);
	CALL(getitimer, ITIMER_REAL, P);
	CALL(timer_create, CLOCK_MONOTONIC, 0, P);
	CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, P);
	CALL(bind, fd_unix[0], P, 16);
	CALL(connect, fd_inet, P, 16);
	CALL(getsockname, fd_unix[0], P, addr_len);
	CALL(getsockname, fd_unix[0], good, P);
	CALL(setsockopt, fd_unix[0], SOL_SOCKET, SO_SNDBUF, P, 4);
	CALL(sendto, fd_unix[0], P, 16, MSG_DONTWAIT, 0, 0);
	CALL(recvfrom, fd_unix[1], P, 16, MSG_DONTWAIT | MSG_PEEK, 0, 0);
	CALL(sendmsg, fd_unix[0], P, MSG_DONTWAIT);
	CALL(recvmsg, fd_unix[1], P, MSG_DONTWAIT | MSG_PEEK);
	CALL(futex, P, 1 /* wake */, 1, 0, 0, 0);
	CALL(futex, P, 0 /* wait */, 12345678, nowait, 0, 0);
	CALL(wait4, -1, P, WNOHANG, 0);
	CALL(waitid, P_ALL, 0, P, WEXITED | WNOHANG, 0);
	CALL(execve, P, 0, 0);
	CALL(mincore, (long)calls & -4096, 4096, P);
	CALL(process_vm_readv, getpid(), P, 1, good, 1, 0);
	CALL(arch_prctl, 0x1003 /* ARCH_GET_FS */, P);
	CALL(prctl, PR_GET_NAME, P);
}

static long pointers[8];

#define POINTERS	(sizeof(pointers) / sizeof(pointers[0]))
#define READ_ONLY	4		/* an index into it */

static void make_pointers(void)
{
	unsigned char *p = mem_new(8 * PAGE);

	memset(p, 0, 8 * PAGE);
	mprotect(p + 7 * PAGE, PAGE, PROT_NONE);
	mprotect(p + 3 * PAGE, PAGE, PROT_READ);
	pointers[0] = 0;
	pointers[1] = 0x10;
	pointers[2] = 0x600000000000L;				/* nobody maps there */
	pointers[3] = (long)p + 7 * (long)PAGE;			/* no access */
	pointers[READ_ONLY] = (long)p + 3 * (long)PAGE;
	pointers[5] = (long)p + 7 * (long)PAGE - 2;		/* the first bytes are there */
	pointers[6] = (long)0xffffffff81000000UL;		/* the kernel's */
	pointers[7] = 0x00f0000000000000L;			/* not canonical */
}

static struct table {
	long number[WORDS][NUMBERS];
	long pointer[POINTERS][80];
	volatile long now;	/* what is being called */
} *tables;

static int fill_table(void *arg)
{
	struct table *t = arg;

	alarm(50);		/* one that waits is told by its number */
	for (size_t w = 0; w < WORDS; w++)
		for (unsigned int nr = 0; nr < NUMBERS; nr++) {
			long a[6];

			for (int i = 0; i < 6; i++)
				a[i] = (long)words[w];
			t->now = nr;
			if (!is_left_out(nr))
				t->number[w][nr] = raw(nr, a);
		}
	for (size_t p = 0; p < POINTERS; p++)
		for (unsigned int c = 0; c < nr_calls; c++) {
			long a[6];

			for (int i = 0; i < 6; i++)
				a[i] = calls[c].a[i] == P ? pointers[p] : calls[c].a[i];
			t->now = calls[c].nr;
			t->pointer[p][c] = raw(calls[c].nr, a);
		}
	return 0;
}

/* Answers that are a time or a name of their own are alike if both succeed. */
static bool alike(long a, long b)
{
	return a == b || (a >= 0 && b >= 0);
}

static void compare(const struct table *native, const struct table *inside)
{
	unsigned int differ = 0, efault = 0, enosys = 0;

	for (size_t w = 0; w < WORDS; w++)
		for (unsigned int nr = 0; nr < NUMBERS; nr++) {
			efault += native->number[w][nr] == -EFAULT;
			enosys += native->number[w][nr] == -ENOSYS;
			if (alike(native->number[w][nr], inside->number[w][nr]) || differ++ > 20)
				continue;
			ktap_note("number %u with 0x%lx: %ld, natively %ld", nr, words[w],
				  inside->number[w][nr], native->number[w][nr]);
		}
	ktap_ok(efault > 150 && enosys > 100 * WORDS, "%u answers are EFAULT, %u ENOSYS", efault,
		enosys);
	ktap_eq(differ, 0, "every number answers strange words as natively");

	efault = 0;
	differ = 0;
	for (size_t p = 0; p < POINTERS; p++)
		for (unsigned int c = 0; c < nr_calls; c++) {
			efault += native->pointer[p][c] == -EFAULT;
			if (alike(native->pointer[p][c], inside->pointer[p][c]) || differ++ > 20)
				continue;
			ktap_note("%s with pointer 0x%lx: %ld, natively %ld", calls[c].name,
				  pointers[p], inside->pointer[p][c], native->pointer[p][c]);
		}
	ktap_ok(efault > 300, "%u answers to bad pointers are EFAULT", efault);
	ktap_eq(differ, 0, "%u calls answer %zu bad pointers as natively", nr_calls, POINTERS);
}

int main(void)
{
	struct child reference;
	int native, inside;

	ktap_plan(DUNE_TEST_ENTER + 6 + DUNE_TEST_LEAVE);
	tables = child_shared(2 * sizeof(*tables));
	good = (long)child_shared(PAGE);
	nowait = (long)child_shared(PAGE);
	addr_len = good + 512;
	*(int *)addr_len = 16;
	fd_file = memfd_create("sys_efault", 0);
	fd_epoll = epoll_create1(0);
	fd_event = eventfd(0, 0);
	fd_inet = socket(AF_INET, SOCK_STREAM, 0);
	fd_timer = timerfd_create(CLOCK_MONOTONIC, 0);
	if (epoll_ctl(fd_epoll, EPOLL_CTL_ADD, fd_event, &(struct epoll_event){ 0 }) ||
	    pipe(fd_pipe) || socketpair(AF_UNIX, SOCK_DGRAM, 0, fd_unix) ||
	    send(fd_unix[0], "0123456789abcdef", 16, 0) != 16 || ftruncate(fd_file, 4096))
		ktap_bail("set-up: %s", strerror(errno));
	make_calls();
	make_pointers();
	reference = child_start(fill_table, &tables[0]);
	dune_test_enter();
	child_go(&reference);
	native = child_wait(&reference);
	if (native)
		ktap_note("number %ld", tables[0].now);
	ktap_ok(native == 0, "the native child tried all (%s)", child_status(native));
	inside = mem_child(fill_table, &tables[1]);
	if (inside)
		ktap_note("number %ld", tables[1].now);
	ktap_ok(inside == 0, "and so did one in Dune mode (%s)", child_status(inside));
	compare(&tables[0], &tables[1]);
	return dune_test_done();
}
