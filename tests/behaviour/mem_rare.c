/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Memory that few programs have: executable and nothing else, hidden from the
 * kernel (memfd_secret), and a TiB of it mapped before Dune mode is entered.
 * What happens in children must be what happens natively.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <sys/syscall.h>

#define SYS_memfd_secret_	447	/* older headers do not name it */

#define TIB	(1UL << 40)
#define LEN	(16 * PAGE)

/* mov $7, %eax; ret.  A CPU with protection keys refuses to read it. */
static int execute_only(void *arg)
{
	static const unsigned char code[] = { 0xb8, 7, 0, 0, 0, 0xc3 };
	unsigned char *p = mem_new(PAGE);

	(void)arg;
	memcpy(p + 256, code, sizeof(code));
	if (mprotect(p, PAGE, PROT_EXEC) || ((int (*)(void))(void *)(p + 256))() != 7)
		return 1;
	if (mprotect(p, PAGE, PROT_READ | PROT_WRITE) || memcmp(p + 256, code, sizeof(code)))
		return 2;
	return 0;
}

/* Code that nothing has touched before it is fetched: its page comes by the fetch. */
static int execute_only_file(void *arg)
{
	static const unsigned char code[] = { 0xb8, 9, 0, 0, 0, 0xc3 };
	int fd = memfd_create("mem_rare", MFD_CLOEXEC);
	unsigned char *p;

	(void)arg;
	if (ftruncate(fd, PAGE) || pwrite(fd, code, sizeof(code), 64) != sizeof(code))
		return 1;
	p = mmap(NULL, PAGE, PROT_EXEC, MAP_PRIVATE, fd, 0);
	return p != MAP_FAILED && ((int (*)(void))(void *)(p + 64))() == 9 ? 0 : 2;
}

/* ENOSYS where the kernel was booted without it. */
static int secret(void *arg)
{
	int fd = (int)syscall(SYS_memfd_secret_, 0);
	unsigned char *p;

	(void)arg;
	if (fd < 0)
		return errno == ENOSYS ? 40 : 41;
	if (ftruncate(fd, LEN))
		return 42;
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return 43;
	if (mem_dirty(p, LEN))
		return 1;
	mem_fill(p, LEN, 1);
	if (mem_wrong(p, LEN, 1))
		return 2;
	return munmap(p, LEN) == 0 ? 0 : 3;
}

static unsigned char *big;

static int has_a_tib(void *arg)
{
	(void)arg;
	if (mem_wrong(big, PAGE, 1) || mem_wrong(big + TIB - PAGE, PAGE, 2))
		return 1;
	mem_fill(big + TIB / 2, PAGE, 3);
	return mem_wrong(big + TIB / 2, PAGE, 3) ? 2 : 0;
}

static const struct {
	const char *name;
	int (*fn)(void *);
} cases[] = {
	{ "execute-only memory", execute_only },
	{ "an execute-only file", execute_only_file },
	{ "memfd_secret", secret },
	{ "a TiB in a child", has_a_tib },
};

#define CASES	(sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	struct child native[CASES];

	ktap_plan(DUNE_TEST_ENTER + CASES + 1 + DUNE_TEST_LEAVE);
	big = mmap(NULL, TIB, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (big == MAP_FAILED)
		ktap_bail("mmap of 1 TiB: %s", strerror(errno));
	mem_fill(big, PAGE, 1);
	mem_fill(big + TIB - PAGE, PAGE, 2);
	for (size_t i = 0; i < CASES; i++)
		native[i] = child_start(cases[i].fn, NULL);
	dune_test_enter();
	ktap_eq(has_a_tib(NULL), 0, "a TiB that was there before");
	for (size_t i = 0; i < CASES; i++) {
		int want, got;

		child_go(&native[i]);
		want = child_wait(&native[i]);
		got = mem_child(cases[i].fn, NULL);
		ktap_note("natively: %s", child_status(want));
		ktap_ok(got == want, "%s: %s", cases[i].name, child_status(got));
	}
	return dune_test_done();
}
