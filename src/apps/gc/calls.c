// SPDX-License-Identifier: MIT
/*
 * System calls that are given addresses in the heap.
 *
 * Linux writes past the page tables of Dune mode: neither D bits nor faults tell of it.  So
 * of an object that a call is given the address of, everything from there to its end counts as
 * written when the call is done, and as long as it lasts: another thread may collect between
 * Linux's write and the end of the call.  A call that finds buffers by other means than its
 * arguments (readv) makes the whole heap count while it lasts, and its buffers afterwards.
 */
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "internal.h"

#define IN_FLIGHT	256
#define ARGS		6

/* A call of a thread that has not returned yet. */
struct flight {
	uint64_t rsp;			/* 0: free */
	struct flight *outer;		/* of the same thread: a signal handler's call is inside */
	uint64_t nr;
	bool all;
	uintptr_t start[ARGS], end[ARGS];	/* end 0: not of the heap */
};

static struct flight flights[IN_FLIGHT];
static bool lost;			/* a call found no place: all is dirty from then on */
static __thread struct flight *mine;

/* Calls that only read what they are given, or change mappings, which libgc knows of. */
static bool harmless(uint64_t nr)
{
	switch (nr) {
	case SYS_write: case SYS_pwrite64: case SYS_writev: case SYS_pwritev: case SYS_pwritev2:
	case SYS_sendto: case SYS_sendmsg: case SYS_futex: case SYS_openat: case SYS_open:
	case SYS_mmap: case SYS_munmap: case SYS_mprotect: case SYS_madvise: case SYS_brk:
	case SYS_exit: case SYS_exit_group:
		return true;
	default:
		return false;
	}
}

static bool by_vectors(uint64_t nr)
{
	return nr == SYS_readv || nr == SYS_preadv || nr == SYS_preadv2 || nr == SYS_recvmsg ||
	       nr == SYS_recvmmsg || nr == SYS_process_vm_readv;
}

static uintptr_t object_end(uintptr_t addr)
{
	return entry_at(addr) ? (uintptr_t)gc_client->object_end((void *)addr) : 0;
}

static void land(struct flight *f)
{
	mine = f->outer;
	__atomic_store_n(&f->rsp, 0, __ATOMIC_RELEASE);
}

/* Calls that a signal handler left by longjmp() have no end: who comes by ends them. */
static struct flight *flight_of(uint64_t rsp)
{
	struct flight *f = mine;

	while (f && f->rsp != rsp)
		f = f->outer;
	while (f && mine != f)
		land(mine);
	return f;
}

static struct flight *take_off(uint64_t rsp)
{
	struct flight *old = flight_of(rsp);

	if (old)
		land(old);
	for (size_t i = 0; i < IN_FLIGHT; i++) {
		struct flight *f = &flights[i];
		uint64_t none = 0;

		if (!__atomic_load_n(&f->rsp, __ATOMIC_RELAXED) &&
		    __atomic_compare_exchange_n(&f->rsp, &none, rsp, false, __ATOMIC_SEQ_CST,
						__ATOMIC_RELAXED)) {
			f->outer = mine;
			mine = f;
			return f;
		}
	}
	return NULL;
}

static int before(struct dune_tf *tf)
{
	const uint64_t args[ARGS] = {
		ARG0(tf), ARG1(tf), ARG2(tf), ARG3(tf), ARG4(tf), ARG5(tf),
	};
	bool all = by_vectors(tf->rax), any = all;
	uintptr_t end[ARGS];
	struct flight *f;

	if (harmless(tf->rax))
		return 0;
	for (unsigned int i = 0; i < ARGS; i++) {
		end[i] = object_end(args[i]);
		any |= end[i] != 0;
	}
	if (!any)
		return 0;
	count(&gc_stats.calls, 1);
	f = take_off(tf->rsp);
	if (!f) {
		__atomic_store_n(&lost, true, __ATOMIC_SEQ_CST);
		return 0;
	}
	f->nr = tf->rax;
	f->all = all;
	for (unsigned int i = 0; i < ARGS; i++) {
		f->start[i] = args[i];
		f->end[i] = end[i];
	}
	return 0;
}

/* Linux has read the vectors and filled the buffers, as far as @left says. */
static void written_by_vectors(const struct iovec *iov, size_t n, size_t left)
{
	for (size_t i = 0; i < n && left; i++) {
		size_t len = iov[i].iov_len < left ? iov[i].iov_len : left;

		left -= len;
		if (len && entry_at((uintptr_t)iov[i].iov_base))
			gc_written((uintptr_t)iov[i].iov_base, (uintptr_t)iov[i].iov_base + len);
	}
}

static void vectors_done(uint64_t nr, const struct dune_tf *tf)
{
	size_t left = tf->rax;
	const struct mmsghdr *m;
	const struct msghdr *msg;

	switch (nr) {
	case SYS_recvmsg:
		msg = (const struct msghdr *)ARG1(tf);
		written_by_vectors(msg->msg_iov, msg->msg_iovlen, left);
		break;
	case SYS_recvmmsg:
		m = (const struct mmsghdr *)ARG1(tf);
		for (size_t i = 0; i < left; i++)
			written_by_vectors(m[i].msg_hdr.msg_iov, m[i].msg_hdr.msg_iovlen,
					   m[i].msg_len);
		break;
	default:
		written_by_vectors((const struct iovec *)ARG1(tf), ARG2(tf), left);
	}
}

/* How much of the object was written to, where the result says it. */
static uintptr_t limit(uint64_t nr, unsigned int arg, uintptr_t start, uintptr_t end, uint64_t n)
{
	if (arg == 1 && end - start > n && (nr == SYS_read || nr == SYS_pread64 ||
					    nr == SYS_recvfrom))
		return start + n;
	return end;
}

static void after(struct dune_tf *tf)
{
	struct flight *f = flight_of(tf->rsp);
	bool failed = tf->rax >= -4095UL;

	if (!f)
		return;
	for (unsigned int i = 0; i < ARGS; i++)
		if (f->end[i])
			gc_written(f->start[i], limit(f->nr, i, f->start[i], f->end[i],
						      failed ? 0 : tf->rax));
	if (f->all && !failed)
		vectors_done(f->nr, tf);
	land(f);
}

void calls_in_flight(void (*written)(uintptr_t start, uintptr_t end), void (*all)(void))
{
	bool everything = __atomic_load_n(&lost, __ATOMIC_SEQ_CST);

	for (size_t i = 0; i < IN_FLIGHT; i++) {
		const struct flight *f = &flights[i];

		if (!__atomic_load_n(&f->rsp, __ATOMIC_SEQ_CST))
			continue;
		everything |= f->all;
		for (unsigned int arg = 0; arg < ARGS; arg++)
			if (f->end[arg])
				written(f->start[arg], f->end[arg]);
	}
	if (everything)
		all();
}

void calls_begin(void)
{
	int ret = dune_hook_syscalls(before, after);

	if (ret)
		gc_fail("hooking system calls", ret);
}
