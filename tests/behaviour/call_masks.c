/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=13 */
/*
 * Calls that put a signal mask in place for their own duration: the handler of the
 * signal that ends them runs under that mask, and what was before is there again
 * afterwards.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <linux/io_uring.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <ucontext.h>

#define BIT(sig) (1ULL << ((sig) - 1))

static volatile unsigned int usr1, usr2;
static volatile uint64_t inside, restored;

static uint64_t mask_now(void)
{
	uint64_t mask = 0;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	return mask;
}

static void on_usr1(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	inside = mask_now();
	memcpy((void *)&restored, &((ucontext_t *)context)->uc_sigmask, 8);
	usr1++;
}

static void on_usr2(int sig)
{
	(void)sig;
	usr2++;
}

static int epoll_fd, ring_fd;
static struct io_uring_params ring;
static unsigned int *sq_tail, *sq_array;
static struct io_uring_sqe *sqes;

static bool make_ring(void)
{
	char *p;

	ring_fd = (int)syscall(SYS_io_uring_setup, 4, &ring);
	if (ring_fd < 0)
		return false;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQES);
	if (p == MAP_FAILED || sqes == MAP_FAILED)
		return false;
	sq_tail = (unsigned int *)(p + ring.sq_off.tail);
	sq_array = (unsigned int *)(p + ring.sq_off.array);
	return true;
}

static long enter_ring(unsigned int submit, unsigned int flags, const void *arg, size_t size)
{
	if (submit) {
		memset(&sqes[0], 0, sizeof(sqes[0]));
		sqes[0].opcode = IORING_OP_NOP;
		sq_array[*sq_tail & (ring.sq_entries - 1)] = 0;
		__atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
	}
	/* More than there will ever be. */
	return syscall(SYS_io_uring_enter, ring_fd, submit, 7, IORING_ENTER_GETEVENTS | flags, arg,
		       size);
}

enum how { SUSPEND, PPOLL, PSELECT, EPOLL, EPOLL2, URING, URING_ARG, URING_SUBMIT, NR_HOW };

static const char *const names[] = {
	"rt_sigsuspend", "ppoll", "pselect6", "epoll_pwait", "epoll_pwait2", "io_uring_enter",
	"io_uring_enter with an argument block", "io_uring_enter that has submitted",
};

static long wait_under(enum how how, const uint64_t *mask)
{
	struct timespec ts = { 20, 0 };
	struct { const uint64_t *mask; uint64_t size; } pair = { mask, 8 };
	struct io_uring_getevents_arg arg = { .sigmask = (uint64_t)mask, .sigmask_sz = 8 };
	struct epoll_event event;

	switch (how) {
	case SUSPEND:
		return syscall(SYS_rt_sigsuspend, mask, 8);
	case PPOLL:
		return syscall(SYS_ppoll, NULL, 0, &ts, mask, 8);
	case PSELECT:
		return syscall(SYS_pselect6, 0, NULL, NULL, NULL, &ts, &pair);
	case EPOLL:
		return syscall(SYS_epoll_pwait, epoll_fd, &event, 1, 20000, mask, 8);
	case EPOLL2:
		return syscall(SYS_epoll_pwait2, epoll_fd, &event, 1, &ts, mask, 8);
	case URING:
		return enter_ring(0, 0, mask, 8);
	case URING_ARG:
		return enter_ring(0, IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
	case URING_SUBMIT:
		return enter_ring(1, IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
	default:
		return 0;
	}
}

/* @early: the signals wait already when the call is made. */
static bool call(enum how how, bool early)
{
	uint64_t outside = BIT(SIGUSR1) | BIT(SIGUSR2) | BIT(SIGTERM), before;
	uint64_t during = BIT(SIGUSR2) | BIT(SIGINT), none = 0;
	pid_t self = getpid(), pid = 0;
	long ret;
	bool ok;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &outside, &before, 8);
	usr1 = usr2 = 0;
	if (early) {
		kill(self, SIGUSR2);
		kill(self, SIGUSR1);
	} else {
		pid = fork();
		if (pid == 0) {
			usleep(50000);
			kill(self, SIGUSR2);
			kill(self, SIGUSR1);
			_exit(0);
		}
	}
	ret = wait_under(how, &during);
	ok = how == URING_SUBMIT ? ret == 1 : ret == -1 && errno == EINTR;
	ok &= usr1 == 1 && usr2 == 0;
	ok &= inside == (during | BIT(SIGUSR1)) && restored == outside && mask_now() == outside;
	if (!ok)
		ktap_note("returned %ld (%s), %u and %u signals, mask 0x%llx inside, 0x%llx restored, 0x%llx after",
			  ret, strerror(errno), usr1, usr2, (unsigned long long)inside,
			  (unsigned long long)restored, (unsigned long long)mask_now());
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
	ok &= usr2 == 1;
	if (pid)
		waitpid(pid, NULL, 0);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
	return ok;
}

int main(void)
{
	struct sigaction one = { .sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO | SA_RESTART };

	ktap_plan(DUNE_TEST_ENTER + 1 + 2 * NR_HOW + DUNE_TEST_LEAVE);
	dune_test_enter();
	sigaction(SIGUSR1, &one, NULL);
	signal(SIGUSR2, on_usr2);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ktap_ok(make_ring(), "there is io_uring");
	for (unsigned int how = 0; how < NR_HOW; how++) {
		ktap_ok(call(how, false), "%s, a signal comes inside", names[how]);
		ktap_ok(call(how, true), "%s, a signal waits already", names[how]);
	}
	return dune_test_done();
}
