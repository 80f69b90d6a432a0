/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * userfaultfd: guest mode touches pages that somebody else supplies, a native
 * process or a thread in Dune mode.  Missing pages, write-protected ones and,
 * for shared memory, minor faults.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif

#define PAGES	64
#define LEN	(PAGES * PAGE)
#define ROUNDS	5

enum what { MISSING, ZERO, PROTECTED, MINOR };

/* What the supplier did; shared with the native one. */
static struct supply {
	volatile int what;
	volatile unsigned long base;	/* of the area */
	volatile unsigned int served, strange, error, cpl;
	volatile int stop;
} *supply;

static int uffd_open(int flags, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int serve(int fd, uint64_t address, uint64_t flags)
{
	static unsigned char page[PAGE] __attribute__((aligned(4096)));
	uint64_t at = address & ~(PAGE - 1);
	struct uffdio_copy copy = { .dst = at, .src = (uint64_t)page, .len = PAGE };
	struct uffdio_range range = { .start = at, .len = PAGE };
	struct uffdio_zeropage zero = { .range = range };
	struct uffdio_writeprotect wp = { .range = range };
	struct uffdio_continue cont = { .range = range };

	switch (supply->what) {
	case MISSING:
		mem_fill(page, PAGE, (at - supply->base) / PAGE);
		return ioctl(fd, UFFDIO_COPY, &copy);
	case ZERO:
		return ioctl(fd, UFFDIO_ZEROPAGE, &zero);
	case PROTECTED:
		supply->strange += !(flags & UFFD_PAGEFAULT_FLAG_WP);
		return ioctl(fd, UFFDIO_WRITEPROTECT, &wp);
	default:
		supply->strange += !(flags & UFFD_PAGEFAULT_FLAG_MINOR);
		return ioctl(fd, UFFDIO_CONTINUE, &cont);
	}
}

/* Several faults on one page: the later ones find it there. */
static void serve_until_stop(int fd)
{
	while (!supply->stop) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		struct uffd_msg msg;

		if (poll(&poll_fd, 1, 20) != 1 || read(fd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		supply->strange += msg.event != UFFD_EVENT_PAGEFAULT;
		supply->served++;	/* before the one that waits goes on */
		if (serve(fd, msg.arg.pagefault.address, msg.arg.pagefault.flags)) {
			supply->served--;
			if (errno != EEXIST)
				supply->error = (unsigned int)errno;
		}
	}
}

static int native_server(void *arg)
{
	supply->cpl = dune_test_cpl();
	serve_until_stop((int)(intptr_t)arg);
	return 0;
}

static void *server_thread(void *arg)
{
	if (mem_thread_inside())
		supply->cpl = 0;
	serve_until_stop((int)(intptr_t)arg);
	return NULL;
}

static bool watch(int fd, unsigned char *p, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = { .start = (uint64_t)p, .len = LEN }, .mode = mode,
	};

	supply->base = (unsigned long)p;
	supply->served = 0;
	return ioctl(fd, UFFDIO_REGISTER, &reg) == 0;
}

static bool unwatch(int fd, unsigned char *p)
{
	struct uffdio_range range = { .start = (uint64_t)p, .len = LEN };

	return ioctl(fd, UFFDIO_UNREGISTER, &range) == 0;
}

static bool missing(int fd)
{
	unsigned char *p = mem_new(LEN);
	bool ok = true;

	supply->what = MISSING;
	ok &= watch(fd, p, UFFDIO_REGISTER_MODE_MISSING);
	for (size_t i = 0; i < PAGES; i += 2)		/* by reading, then by writing */
		ok &= mem_wrong(p + i * PAGE, PAGE, i) == 0;
	for (size_t i = 1; i < PAGES; i += 2) {
		*(volatile uint64_t *)(p + i * PAGE) = 5;
		ok &= mem_wrong_from(p + i * PAGE + 8, PAGE - 8, i, 1) == 0;
	}
	ok &= supply->served == PAGES;
	/* Thrown away, it is missing again. */
	ok &= madvise(p, LEN, MADV_DONTNEED) == 0 && mem_wrong(p + PAGE, PAGE, 1) == 0;
	ok &= supply->served == PAGES + 1 && unwatch(fd, p);
	ok &= mem_dirty(p, PAGE) == 0 && supply->served == PAGES + 1;
	munmap(p, LEN);
	return ok;
}

static bool zeroes(int fd)
{
	unsigned char *p = mem_new(LEN);
	bool ok;

	supply->what = ZERO;
	ok = watch(fd, p, UFFDIO_REGISTER_MODE_MISSING);
	ok &= mem_dirty(p, LEN) == 0 && supply->served == PAGES;
	mem_fill(p, LEN, 3);
	ok &= mem_wrong(p, LEN, 3) == 0 && unwatch(fd, p);
	munmap(p, LEN);
	return ok;
}

/* A call of the kernel's own that meets a missing page waits like guest mode. */
static bool in_a_call(int fd)
{
	unsigned char *p = mem_new(LEN), *buf = mem_new(PAGE);
	int pipes[2];
	bool ok = pipe(pipes) == 0;

	supply->what = MISSING;
	ok &= watch(fd, p, UFFDIO_REGISTER_MODE_MISSING);
	ok &= write(pipes[1], p + 5 * PAGE, PAGE) == (ssize_t)PAGE;
	ok &= read(pipes[0], buf, PAGE) == (ssize_t)PAGE && mem_wrong(buf, PAGE, 5) == 0;
	ok &= supply->served == 1 && unwatch(fd, p);
	close(pipes[0]);
	close(pipes[1]);
	munmap(p, LEN);
	munmap(buf, PAGE);
	return ok;
}

/* The pages are in use, writable, when they become protected. */
static bool protected(int fd)
{
	unsigned char *p = mem_new(LEN);
	struct uffdio_writeprotect wp = {
		.range = { .start = (uint64_t)p, .len = LEN }, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	bool ok;

	supply->what = PROTECTED;
	mem_fill(p, LEN, 4);
	ok = watch(fd, p, UFFDIO_REGISTER_MODE_WP);
	for (unsigned int round = 1; round <= ROUNDS; round++) {
		ok &= ioctl(fd, UFFDIO_WRITEPROTECT, &wp) == 0;
		ok &= mem_wrong(p, LEN, round == 1 ? 4 : 100 + round - 1) == 0;
		ok &= supply->served == (round - 1) * PAGES;	/* reading is no fault */
		mem_fill(p, LEN, 100 + round);
		ok &= supply->served == round * PAGES;
	}
	ok &= mem_wrong(p, LEN, 100 + ROUNDS) == 0 && unwatch(fd, p);
	munmap(p, LEN);
	return ok;
}

/* The page is in the memfd, written through another mapping, and not yet mapped here. */
static bool minor(int fd)
{
	int mem = memfd_create("mem_uffd", MFD_CLOEXEC);
	unsigned char *p, *q;
	bool ok = mem >= 0 && ftruncate(mem, LEN) == 0;

	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0);
	q = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0);
	mem_fill(q, LEN, 6);
	supply->what = MINOR;
	ok &= watch(fd, p, UFFDIO_REGISTER_MODE_MINOR);
	ok &= mem_wrong(p, LEN, 6) == 0 && supply->served == PAGES;
	mem_fill(p, LEN, 7);
	ok &= mem_wrong(q, LEN, 7) == 0 && unwatch(fd, p);
	munmap(p, LEN);
	munmap(q, LEN);
	close(mem);
	return ok;
}

static void all(int fd, const char *who)
{
	bool ok = missing(fd);

	if (supply->error)
		ktap_note("the supplier: %s", strerror((int)supply->error));
	ktap_ok(ok, "%s: missing pages", who);
	ktap_ok(zeroes(fd), "%s: zero pages", who);
	ktap_ok(in_a_call(fd), "%s: a missing page in a system call", who);
	ktap_ok(protected(fd), "%s: write-protected pages", who);
	ktap_ok(minor(fd), "%s: minor faults", who);
	ktap_ok(supply->strange == 0 && supply->error == 0, "%s: nothing strange came", who);
}

static volatile unsigned int page_faults;

static void on_page_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	(void)addr;
	(void)fec;
	(void)tf;
	page_faults++;
}

/*
 * A descriptor for faults of user mode alone: guest mode is user mode.  The
 * program's own page-fault handler has no part in it: no access is refused.
 */
static bool user_mode_only(int fd)
{
	int null = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	unsigned char *p = mem_new(LEN);
	bool ok;

	supply->what = MISSING;
	dune_register_pgflt_handler(on_page_fault);
	ok = watch(fd, p, UFFDIO_REGISTER_MODE_MISSING);
	ok &= mem_wrong(p, PAGE, 0) == 0 && supply->served == 1;
	*(volatile uint64_t *)(p + 3 * PAGE) = 1;
	dune_register_pgflt_handler(NULL);
	ok &= page_faults == 0 && supply->served == 2 && mem_wrong_from(p + 3 * PAGE + 8, PAGE - 8, 3, 1) == 0;
	errno = 0;	/* the kernel's own access is refused */
	ok &= read(null, p + 5 * PAGE, 8) == -1 && errno == EFAULT && supply->served == 2;
	close(null);
	munmap(p, LEN);
	return ok;
}

int main(void)
{
	uint64_t features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MINOR_SHMEM;
	int fd, user_fd, status;
	struct child server;
	pthread_t thread;

	ktap_plan(DUNE_TEST_ENTER + 6 + 2 + 7 + 1 + DUNE_TEST_LEAVE);
	supply = child_shared(sizeof(*supply));
	fd = uffd_open(0, features);
	user_fd = uffd_open(UFFD_USER_MODE_ONLY, features);
	if (fd < 0 || user_fd < 0)
		ktap_bail("userfaultfd: %s", strerror(errno));
	server = child_start(native_server, (void *)(intptr_t)fd);
	dune_test_enter();

	supply->cpl = 99;
	child_go(&server);
	all(fd, "native supplier");
	supply->stop = 1;
	status = child_wait(&server);
	ktap_ok(status == 0, "it ends well (%s)", child_status(status));
	ktap_eq(supply->cpl, 3, "and was native");

	supply->stop = 0;
	supply->cpl = 99;
	if (pthread_create(&thread, NULL, server_thread, (void *)(intptr_t)fd))
		ktap_bail("pthread_create failed");
	all(fd, "supplier in Dune mode");
	supply->stop = 1;
	pthread_join(thread, NULL);
	ktap_eq(supply->cpl, 0, "the supplier was in Dune mode");

	supply->stop = 0;
	if (pthread_create(&thread, NULL, server_thread, (void *)(intptr_t)user_fd))
		ktap_bail("pthread_create failed");
	ktap_ok(user_mode_only(user_fd), "UFFD_USER_MODE_ONLY serves guest mode, not system calls");
	supply->stop = 1;
	pthread_join(thread, NULL);
	return dune_test_done();
}
