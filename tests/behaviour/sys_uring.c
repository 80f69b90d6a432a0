/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * io_uring in Dune mode, without a library: the rings are memory that the
 * kernel maps into the process, the buffers are the process's own.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define ENTRIES	8
#define LEN	(8 * PAGE)

struct ring {
	int fd;
	struct io_uring_params p;
	unsigned char *sq, *cq;
	struct io_uring_sqe *sqes;
};

static uint32_t *word(unsigned char *base, uint32_t offset)
{
	return (uint32_t *)(void *)(base + offset);
}

static bool make(struct ring *r, unsigned int flags)
{
	size_t sq_len, cq_len;

	memset(r, 0, sizeof(*r));
	r->p.flags = flags;
	r->p.sq_thread_idle = 1000;
	r->fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &r->p);
	if (r->fd < 0)
		return false;
	sq_len = r->p.sq_off.array + r->p.sq_entries * 4;
	cq_len = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->sq = mmap(NULL, sq_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
		     IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, cq_len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, ENTRIES * sizeof(*r->sqes), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		       IORING_OFF_SQES);
	return r->sq != MAP_FAILED && r->cq != MAP_FAILED && r->sqes != MAP_FAILED;
}

static void put(struct ring *r, const struct io_uring_sqe *sqe)
{
	uint32_t tail = *word(r->sq, r->p.sq_off.tail);
	uint32_t at = tail & *word(r->sq, r->p.sq_off.ring_mask);

	r->sqes[at] = *sqe;
	word(r->sq, r->p.sq_off.array)[at] = at;
	__atomic_store_n(word(r->sq, r->p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
}

/* The result of the next completion, which must be @data's; -9999: it is not. */
static int take(struct ring *r, uint64_t data)
{
	uint32_t head = *word(r->cq, r->p.cq_off.head);
	double end = child_now() + 20;
	struct io_uring_cqe *cqe;
	int res;

	while (__atomic_load_n(word(r->cq, r->p.cq_off.tail), __ATOMIC_ACQUIRE) == head)
		if (child_now() > end)
			return -9998;
	cqe = (struct io_uring_cqe *)(void *)(r->cq + r->p.cq_off.cqes) +
	      (head & *word(r->cq, r->p.cq_off.ring_mask));
	res = cqe->user_data == data ? cqe->res : -9999;
	__atomic_store_n(word(r->cq, r->p.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return res;
}

static int one(struct ring *r, const struct io_uring_sqe *sqe)
{
	put(r, sqe);
	if (r->p.flags & IORING_SETUP_SQPOLL) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (*word(r->sq, r->p.sq_off.flags) & IORING_SQ_NEED_WAKEUP)
			syscall(SYS_io_uring_enter, r->fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0);
	} else if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1) {
		return -9997;
	}
	return take(r, sqe->user_data);
}

static bool nops(struct ring *r)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_NOP };
	bool ok = true;

	for (uint64_t i = 0; i < 100; i++) {
		sqe.user_data = 1000 + i;
		ok &= one(r, &sqe) == 0;
	}
	return ok;
}

static bool reads_and_writes(struct ring *r)
{
	unsigned char *p = mem_new(LEN), *q = mem_new(LEN);
	int fd = memfd_create("sys_uring", 0);
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_WRITE, .fd = fd, .addr = (uint64_t)p, .len = LEN, .user_data = 1,
	};
	bool ok;

	mem_fill(p, LEN, 1);
	ok = one(r, &sqe) == (int)LEN;
	/* The buffer was never touched by guest mode: the kernel fills it first. */
	sqe = (struct io_uring_sqe){
		.opcode = IORING_OP_READ, .fd = fd, .addr = (uint64_t)q, .len = LEN, .user_data = 2,
	};
	ok &= one(r, &sqe) == (int)LEN && mem_wrong(q, LEN, 1) == 0;
	sqe.addr = 0x10;
	sqe.user_data = 3;
	ok &= one(r, &sqe) == -EFAULT;
	sqe.fd = -1;
	sqe.user_data = 4;
	ok &= one(r, &sqe) == -EBADF;
	close(fd);
	munmap(p, LEN);
	munmap(q, LEN);
	return ok;
}

/* The kernel pins these pages; guest mode goes on writing to them. */
static bool fixed_buffer(struct ring *r)
{
	unsigned char *p = mem_new(LEN);
	struct iovec iov = { p, LEN };
	int fd = memfd_create("sys_uring", 0);
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_WRITE_FIXED, .fd = fd, .addr = (uint64_t)p, .len = LEN,
		.user_data = 5,
	};
	bool ok = syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &iov, 1) == 0;

	for (unsigned int i = 0; i < 20; i++) {
		mem_fill(p, LEN, i);
		sqe.opcode = IORING_OP_WRITE_FIXED;
		ok &= one(r, &sqe) == (int)LEN;
		memset(p, 0, LEN);
		sqe.opcode = IORING_OP_READ_FIXED;
		ok &= one(r, &sqe) == (int)LEN && mem_wrong(p, LEN, i) == 0;
	}
	ok &= syscall(SYS_io_uring_register, r->fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0;
	close(fd);
	munmap(p, LEN);
	return ok;
}

/* A read from an empty pipe: a worker of the kernel's own finishes it later. */
static bool later(struct ring *r)
{
	static char buf[8];
	struct io_uring_sqe sqe = { .opcode = IORING_OP_READ, .addr = (uint64_t)buf, .len = 8,
				    .user_data = 6 };
	int fds[2];
	bool ok = pipe(fds) == 0;

	sqe.fd = fds[0];
	put(r, &sqe);
	ok &= syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0) == 1;
	usleep(10000);
	ok &= write(fds[1], "letters", 8) == 8;
	ok &= syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 0;
	ok &= take(r, 6) == 8 && !strcmp(buf, "letters");
	close(fds[0]);
	close(fds[1]);
	return ok;
}

static int setup_natively(void *arg)
{
	struct ring r;

	(void)arg;
	return make(&r, 0) && nops(&r) ? 0 : errno;
}

int main(void)
{
	struct child reference = child_start(setup_natively, NULL);
	struct ring r, polled;
	int status;

	ktap_plan(DUNE_TEST_ENTER + 7 + DUNE_TEST_LEAVE);
	dune_test_enter();
	child_go(&reference);
	status = child_wait(&reference);
	ktap_ok(status == 0, "a native process may use io_uring here (%s)", child_status(status));
	if (!ktap_ok(make(&r, 0), "the rings are set up and mapped"))
		ktap_bail("io_uring: %s", strerror(errno));
	ktap_ok(nops(&r), "a hundred NOPs");
	ktap_ok(reads_and_writes(&r), "READ and WRITE, and their errors");
	ktap_ok(fixed_buffer(&r), "registered buffers");
	ktap_ok(later(&r), "a READ that waits");
	ktap_ok(make(&polled, IORING_SETUP_SQPOLL) && nops(&polled) && reads_and_writes(&polled),
		"a ring that a kernel thread polls");
	close(r.fd);
	close(polled.fd);
	return dune_test_done();
}
