/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=10 */
/*
 * File mappings whose file shrinks and grows: what lies beyond the end is
 * refused, what comes back is empty, and an access nobody handles ends the
 * process as it does natively.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../trap.h"

#include <linux/falloc.h>

#define PAGES	32
#define LEN	(PAGES * PAGE)

static int fd;
static unsigned char *shared, *private;

static int try_read(const void *p)
{
	return TRAP_TRY("movzbl (%%rcx), %%eax", 0, p, 0);
}

static int try_write(void *p)
{
	return TRAP_TRY("movb %%al, (%%rcx)", 0x5a, p, 0);
}

static void renew(uint64_t seed)
{
	if (ftruncate(fd, 0) || ftruncate(fd, LEN))
		ktap_bail("ftruncate: %s", strerror(errno));
	mem_fill(shared, LEN, seed);
}

static bool shrinks(void)
{
	bool ok;

	renew(1);
	ok = mem_wrong(private, LEN, 1) == 0;
	ok &= ftruncate(fd, 8 * PAGE + 16) == 0;
	for (size_t i = 0; i < PAGES; i++) {
		int want = i <= 8 ? TRAP_NONE : TRAP_PF;

		ok &= try_read(shared + i * PAGE) == want && try_read(private + i * PAGE) == want;
		if (i > 8)
			ok &= try_write(shared + i * PAGE) == want &&
			      try_write(private + i * PAGE) == want;
	}
	/* The rest of the last page is cleared. */
	ok &= mem_wrong(shared, 8 * PAGE + 16, 1) == 0;
	ok &= mem_dirty(shared + 8 * PAGE + 16, PAGE - 16) == 0;
	return ok;
}

static bool grows_again(void)
{
	bool ok;

	renew(2);
	ok = ftruncate(fd, 4 * PAGE) == 0 && try_read(shared + 5 * PAGE) == TRAP_PF;
	ok &= ftruncate(fd, LEN) == 0 && mem_wrong(shared, 4 * PAGE, 2) == 0;
	ok &= mem_dirty(shared + 4 * PAGE, LEN - 4 * PAGE) == 0;
	ok &= mem_dirty(private + 4 * PAGE, LEN - 4 * PAGE) == 0;
	mem_fill(shared, LEN, 3);
	ok &= mem_wrong(shared, LEN, 3) == 0;
	return ok;
}

/* Truncation takes the private copies as well. */
static bool private_copies(void)
{
	bool ok;

	renew(4);
	mem_fill(private, LEN, 5);
	ok = mem_wrong(shared, LEN, 4) == 0 && mem_wrong(private, LEN, 5) == 0;
	ok &= ftruncate(fd, 16 * PAGE) == 0 && ftruncate(fd, LEN) == 0;
	ok &= mem_wrong(private, 16 * PAGE, 5) == 0 && mem_dirty(private + 16 * PAGE, 16 * PAGE) == 0;
	/* A hole leaves them alone. */
	ok &= fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE) == 0;
	ok &= mem_dirty(shared, 4 * PAGE) == 0 && mem_wrong(private, 4 * PAGE, 5) == 0;
	madvise(private, LEN, MADV_DONTNEED);	/* back to the file's contents */
	ok &= mem_dirty(private, 4 * PAGE) == 0;
	return ok;
}

static bool removed(void)
{
	bool ok;

	renew(6);
	ok = madvise(shared + 3 * PAGE, 2 * PAGE, MADV_REMOVE) == 0;
	ok &= mem_wrong(shared, 3 * PAGE, 6) == 0 && mem_dirty(shared + 3 * PAGE, 2 * PAGE) == 0;
	ok &= mem_wrong_from(shared + 5 * PAGE, LEN - 5 * PAGE, 6, 5 * PAGE / 8) == 0;
	return ok;
}

/* A system call with a pointer beyond the end. */
static bool calls_refuse(void)
{
	int pipes[2];
	bool ok;

	renew(7);
	if (pipe(pipes) || ftruncate(fd, PAGE))
		return false;
	errno = 0;
	ok = write(pipes[1], shared + 2 * PAGE, 8) == -1 && errno == EFAULT;
	ok &= write(pipes[1], shared + PAGE - 8, 16) == 8 || errno == EFAULT;
	ok &= write(pipes[1], shared, 8) == 8;
	errno = 0;
	ok &= read(pipes[0], shared + 2 * PAGE, 8) == -1 && errno == EFAULT;
	close(pipes[0]);
	close(pipes[1]);
	return ok;
}

/* The program's handler puts the file right, and the access goes on. */
static volatile unsigned int faults;
static volatile uintptr_t fault_addr;

static void lengthen(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	(void)fec;
	(void)tf;
	fault_addr = addr;
	if (faults++ > 3 || ftruncate(fd, LEN))
		_exit(99);
}

static bool handled(void)
{
	bool ok;

	renew(8);
	dune_register_intr_handler(TRAP_PF, NULL);
	dune_register_pgflt_handler(lengthen);
	ok = ftruncate(fd, PAGE) == 0;
	ok &= *(volatile uint64_t *)(shared + 9 * PAGE + 8) == 0;
	ok &= faults == 1 && fault_addr == (uintptr_t)shared + 9 * PAGE + 8;
	ok &= ftruncate(fd, PAGE) == 0;
	*(volatile uint64_t *)(shared + 10 * PAGE) = 77;
	ok &= faults == 2 && *(volatile uint64_t *)(shared + 10 * PAGE) == 77;
	dune_register_pgflt_handler(NULL);
	return ok;
}

/* ---- without a handler ------------------------------------------------ */

enum access { READ, WRITE, RUN, UNMAPPED, READ_ONLY, NOT_EXECUTABLE, ACCESSES };

static const char *const access_name[ACCESSES] = {
	"a read beyond the end", "a write beyond the end", "code beyond the end",
	"an unmapped page", "a write to read-only memory", "code that is not executable",
};

static int bad_access(void *arg)
{
	enum access how = (enum access)(uintptr_t)arg;
	unsigned char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED || ftruncate(fd, PAGE))
		return 1;
	switch (how) {
	case READ:
		return *(volatile unsigned char *)(p + PAGE);
	case WRITE:
		*(volatile unsigned char *)(p + PAGE) = 1;
		return 2;
	case RUN:
		return ((int (*)(void))(void *)(p + PAGE))();
	case UNMAPPED:
		munmap(p + PAGE, PAGE);
		return *(volatile unsigned char *)(p + PAGE);
	case READ_ONLY:
		mprotect(p, PAGE, PROT_READ);
		*(volatile unsigned char *)p = 1;
		return 3;
	default:
		p[0] = 0xc3;
		mprotect(p, PAGE, PROT_READ);
		((void (*)(void))(void *)p)();
		return 4;
	}
}

int main(void)
{
	struct child reference[ACCESSES];
	unsigned int differ = 0;

	ktap_plan(DUNE_TEST_ENTER + 6 + ACCESSES + 1 + DUNE_TEST_LEAVE);
	fd = memfd_create("mem_file", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, LEN))
		ktap_bail("memfd_create: %s", strerror(errno));
	shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	private = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	for (size_t i = 0; i < ACCESSES; i++)
		reference[i] = child_start(bad_access, (void *)i);
	dune_test_enter();
	trap_install();

	ktap_ok(shrinks(), "a file that shrinks");
	ktap_ok(grows_again(), "and grows again is empty there");
	ktap_ok(private_copies(), "private copies, truncation, holes");
	ktap_ok(removed(), "MADV_REMOVE");
	ktap_ok(calls_refuse(), "system calls refuse what lies beyond the end");
	ktap_ok(handled(), "the program's page-fault handler repairs it");

	for (size_t i = 0; i < ACCESSES; i++) {
		int native, inside;

		child_go(&reference[i]);
		native = child_wait(&reference[i]);
		inside = mem_child(bad_access, (void *)i);
		ktap_ok(WIFSIGNALED(native) && WTERMSIG(inside) == WTERMSIG(native),
			"%s, without a handler: %s", access_name[i], child_status(inside));
		differ += inside != native;
	}
	ktap_eq(differ, 0, "and the whole wait status is the native one");
	return dune_test_done();
}
