/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=37 */
/*
 * mmap, munmap, mremap, mprotect and brk in Dune mode: what is there afterwards
 * is what Linux says, contents included.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../trap.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define LEN	(64 * PAGE)

static int try_read(const void *p)
{
	return TRAP_TRY("movzbl (%%rcx), %%eax", 0, p, 0);
}

static int try_write(void *p)
{
	return TRAP_TRY("movb %%al, (%%rcx)", 0x5a, p, 0);
}

static bool is_gone(const void *p)
{
	return try_read(p) == TRAP_PF && trap.cr2 == (uint64_t)p;
}

static bool anonymous(void)
{
	unsigned char *p = mem_new(LEN);
	bool ok = mem_dirty(p, LEN) == 0;

	mem_fill(p, LEN, 1);
	ok &= mem_wrong(p, LEN, 1) == 0;
	ok &= munmap(p + 16 * PAGE, 16 * PAGE) == 0;
	for (size_t i = 0; i < 64; i++)
		ok &= is_gone(p + i * PAGE) == (i >= 16 && i < 32);
	ok &= mem_wrong(p, 16 * PAGE, 1) == 0;
	ok &= mem_wrong_from(p + 32 * PAGE, 32 * PAGE, 1, 32 * PAGE / 8) == 0;
	ok &= munmap(p, LEN) == 0 && is_gone(p) && is_gone(p + LEN - 1);
	return ok;
}

/* The hole is filled by another mapping, then all of it is replaced at once. */
static bool replaced(void)
{
	unsigned char *p = mem_new(LEN);
	bool ok;

	mem_fill(p, LEN, 2);
	ok = mmap(p + 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 8 * PAGE;
	ok &= mem_dirty(p + 8 * PAGE, 8 * PAGE) == 0 && mem_wrong(p, 8 * PAGE, 2) == 0;
	ok &= mmap(p, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p;
	ok &= mem_dirty(p, LEN) == 0 && try_write(p) == TRAP_PF;
	munmap(p, LEN);
	return ok;
}

static bool not_replaced(void)
{
	unsigned char *p = mem_new(LEN);
	void *q;
	bool ok;

	mem_fill(p, LEN, 3);
	errno = 0;
	q = mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		 -1, 0);
	ok = q == MAP_FAILED && errno == EEXIST && mem_wrong(p, LEN, 3) == 0;
	munmap(p + PAGE, PAGE);
	q = mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		 -1, 0);
	ok &= q == p + PAGE && mem_dirty(q, PAGE) == 0 && mem_wrong(p, PAGE, 3) == 0;
	munmap(p, LEN);
	return ok;
}

static bool populated(void)
{
	unsigned char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	unsigned char vec[64];
	bool ok = p != MAP_FAILED && mincore(p, LEN, vec) == 0;

	for (size_t i = 0; ok && i < 64; i++)
		ok = vec[i] & 1;
	ok = ok && mem_dirty(p, LEN) == 0;
	mem_fill(p, LEN, 4);
	ok &= mem_wrong(p, LEN, 4) == 0;
	munmap(p, LEN);
	return ok;
}

/* Grows where it is if it can, else moves; then shrinks, then moves where it is told. */
static bool remapped(void)
{
	unsigned char *p = mem_new(LEN), *q, *r, *there = mem_new(4 * LEN);
	bool ok;

	mem_fill(p, LEN, 5);
	q = mremap(p, LEN, 4 * LEN, MREMAP_MAYMOVE);
	ok = q != MAP_FAILED && mem_wrong(q, LEN, 5) == 0 && mem_dirty(q + LEN, 3 * LEN) == 0;
	ok &= q == p || is_gone(p);
	mem_fill(q, 4 * LEN, 6);
	ok &= mremap(q, 4 * LEN, LEN, 0) == q && mem_wrong(q, LEN, 6) == 0 && is_gone(q + LEN);
	mem_fill(there, 4 * LEN, 7);
	r = mremap(q, LEN, 2 * LEN, MREMAP_MAYMOVE | MREMAP_FIXED, there + LEN);
	ok &= r == there + LEN && is_gone(q) && mem_wrong(r, LEN, 6) == 0;
	ok &= mem_dirty(r + LEN, LEN) == 0 && mem_wrong(there, LEN, 7) == 0;
	ok &= mem_wrong_from(r + 2 * LEN, LEN, 7, 3 * LEN / 8) == 0;
	munmap(there, 4 * LEN);
	return ok;
}

/* Cannot grow in place: there is a neighbour. */
static bool cannot_grow(void)
{
	unsigned char *p = mem_new(2 * LEN);
	bool ok;

	mprotect(p + LEN, LEN, PROT_READ);	/* two mappings now */
	mem_fill(p, LEN, 8);
	errno = 0;
	ok = mremap(p, LEN, 2 * LEN, 0) == MAP_FAILED && errno == ENOMEM;
	ok &= mem_wrong(p, LEN, 8) == 0 && mem_dirty(p + LEN, LEN) == 0;
	munmap(p, 2 * LEN);
	return ok;
}

/* The old place stays mapped, and empty. */
static bool moved_without_unmapping(void)
{
	unsigned char *p = mem_new(LEN), *q;
	bool ok;

	mem_fill(p, LEN, 9);
	q = mremap(p, LEN, LEN, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	ok = q != MAP_FAILED && q != p && mem_wrong(q, LEN, 9) == 0 && mem_dirty(p, LEN) == 0;
	mem_fill(p, LEN, 10);
	ok = ok && mem_wrong(q, LEN, 9) == 0 && mem_wrong(p, LEN, 10) == 0;
	munmap(p, LEN);
	munmap(q, LEN);
	return ok;
}

/* An old length of 0 makes a second mapping of the same shared pages. */
static bool doubled(void)
{
	unsigned char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				-1, 0), *q;
	bool ok;

	mem_fill(p, LEN, 11);
	q = mremap(p, 0, LEN, MREMAP_MAYMOVE);
	ok = q != MAP_FAILED && q != p && mem_wrong(q, LEN, 11) == 0;
	mem_fill(q, LEN, 12);
	ok = ok && mem_wrong(p, LEN, 12) == 0;
	munmap(p, LEN);
	ok = ok && is_gone(p) && mem_wrong(q, LEN, 12) == 0;
	munmap(q, LEN);
	return ok;
}

static bool protected(void)
{
	unsigned char *p = mem_new(LEN);
	bool ok;

	mem_fill(p, LEN, 13);
	ok = mprotect(p + 8 * PAGE, 8 * PAGE, PROT_READ) == 0;
	ok &= mprotect(p + 16 * PAGE, 8 * PAGE, PROT_NONE) == 0;
	ok &= mprotect(p + 24 * PAGE, 8 * PAGE, PROT_WRITE) == 0;
	for (size_t i = 0; i < 32; i++) {
		unsigned char *at = p + i * PAGE + 8;

		ok &= (try_read(at) == TRAP_PF) == (i / 8 == 2);
		if (i / 8 == 1 || i / 8 == 2)
			ok &= try_write(at) == TRAP_PF && (trap.err & 2);
	}
	ok &= mprotect(p, LEN, PROT_READ | PROT_WRITE) == 0 && mem_wrong(p, LEN, 13) == 0;
	mem_fill(p, LEN, 14);
	ok &= mem_wrong(p, LEN, 14) == 0;
	munmap(p, LEN);
	return ok;
}

/* A guard page on both sides; what lies between is whole. */
static bool guarded(void)
{
	unsigned char *p = mem_new(10 * PAGE);
	bool ok = mprotect(p, PAGE, PROT_NONE) == 0 && mprotect(p + 9 * PAGE, PAGE, PROT_NONE) == 0;

	mem_fill(p + PAGE, 8 * PAGE, 15);
	ok &= try_write(p + PAGE - 1) == TRAP_PF && try_read(p + 9 * PAGE) == TRAP_PF;
	ok &= TRAP_TRY("movq %%rax, (%%rcx)", -1UL, p + 9 * PAGE - 4, 0) == TRAP_PF;
	ok &= mem_wrong(p + PAGE, 8 * PAGE, 15) == 0;	/* the half of it that fitted is not there */
	munmap(p, 10 * PAGE);
	return ok;
}

/* Code that changes: written, made executable, run, written again. */
static bool code_changes(void)
{
	unsigned char *p = mem_new(PAGE);
	bool ok = true;

	for (unsigned char value = 1; value < 50; value++) {
		const unsigned char code[] = { 0xb8, value, 0, 0, 0, 0xc3 };

		ok &= mprotect(p, PAGE, PROT_READ | PROT_WRITE) == 0;
		memcpy(p + value, code, sizeof(code));
		ok &= mprotect(p, PAGE, PROT_READ | PROT_EXEC) == 0;
		ok &= ((int (*)(void))(void *)(p + value))() == value;
	}
	munmap(p, PAGE);
	return ok;
}

static bool breaks(void)
{
	unsigned char *start = sbrk(0), *p = sbrk(3 * MIB);
	bool ok = p == start;

	p = (unsigned char *)(((uintptr_t)p + PAGE - 1) & ~(PAGE - 1));
	ok &= mem_dirty(p, 2 * MIB) == 0;
	mem_fill(p, 2 * MIB, 16);
	ok &= sbrk(-2 * (intptr_t)MIB) == start + 3 * MIB && is_gone(start + 2 * MIB);
	ok &= sbrk(2 * MIB) == start + MIB;
	ok &= mem_wrong(p, MIB - PAGE, 16) == 0;
	ok &= mem_dirty(p + MIB + PAGE, MIB - PAGE) == 0;
	ok &= brk(start) == 0 && sbrk(0) == start && is_gone(start + 2 * PAGE);
	return ok;
}

/* Ten thousand mappings of one page each, every one with its own contents. */
static bool many(void)
{
	unsigned char *p = mem_new(20000 * PAGE);
	bool ok = true;

	for (size_t i = 0; i < 20000; i += 2)
		ok &= munmap(p + (i + 1) * PAGE, PAGE) == 0;
	for (size_t i = 0; i < 20000; i += 2)
		*(volatile uint64_t *)(p + i * PAGE) = mem_word(17, i);
	for (size_t i = 0; i < 20000; i += 2)
		ok &= *(volatile uint64_t *)(p + i * PAGE) == mem_word(17, i);
	for (size_t i = 1; i < 20000; i += 1998)
		ok &= is_gone(p + i * PAGE);
	munmap(p, 20000 * PAGE);
	return ok;
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 13 + DUNE_TEST_LEAVE);
	dune_test_enter();
	trap_install();
	ktap_ok(anonymous(), "mmap, and munmap of a part");
	ktap_ok(replaced(), "MAP_FIXED over a part and over all of it");
	ktap_ok(not_replaced(), "MAP_FIXED_NOREPLACE");
	ktap_ok(populated(), "MAP_POPULATE");
	ktap_ok(remapped(), "mremap: grow, shrink, move over another mapping");
	ktap_ok(cannot_grow(), "mremap that cannot grow leaves all as it is");
	ktap_ok(moved_without_unmapping(), "MREMAP_DONTUNMAP");
	ktap_ok(doubled(), "mremap of length 0: the same pages twice");
	ktap_ok(protected(), "mprotect: none, read, write, and back");
	ktap_ok(guarded(), "guard pages");
	ktap_ok(code_changes(), "code that is written, run and written again");
	ktap_ok(breaks(), "brk and sbrk");
	ktap_ok(many(), "ten thousand mappings");
	return dune_test_done();
}
