// SPDX-License-Identifier: MIT
/*
 * Where a program goes: load_elf_binary()'s rules, so that it finds the
 * address space that it would have found natively.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <unistd.h>

#include "load.h"

#define ET_DYN_BASE	PAGE_DOWN(0x7ffffffff000UL / 3 * 2)	/* ELF_ET_DYN_BASE */
#define RANDOM_PAGES	(1UL << 28)	/* CONFIG_ARCH_MMAP_RND_BITS */
#define BRK_RANDOM	(1UL << 30)	/* arch_randomize_brk() */
#define PLACES_TO_TRY	32

/* kernel.randomize_va_space: 0 nothing moves, 1 all but the heap, 2 all. */
static int randomize(void)
{
	static int mode = -1;
	char digit = '2';
	int fd;

	if (mode >= 0)
		return mode;
	fd = open("/proc/sys/kernel/randomize_va_space", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, &digit, 1) != 1)
			digit = '2';
		close(fd);
	}
	mode = personality(0xffffffff) & ADDR_NO_RANDOMIZE ? 0 : digit - '0';
	return mode;
}

static uint64_t random_below(uint64_t limit)
{
	uint64_t n = 0;

	if (getrandom(&n, sizeof(n), GRND_INSECURE) != sizeof(n))
		return 0;
	return n % limit;
}

/*
 * The lowest address for the program and for its heap.  The kernel put
 * dune-run's own heap near ET_DYN_BASE, and that cannot move.
 */
static uint64_t lowest(void)
{
	uint64_t heap = PAGE_UP((uint64_t)sbrk(0));

	return heap >= ET_DYN_BASE && heap < ET_DYN_BASE + 2 * BRK_RANDOM ? heap : ET_DYN_BASE;
}

static uint64_t first_page(const struct elf_file *e)
{
	return PAGE_DOWN(elf_header(e, PT_LOAD)->p_vaddr);
}

static uint64_t end_in_file(const struct elf_file *e)
{
	uint64_t end = 0;

	for (int i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &e->ph[i];

		if (ph->p_type == PT_LOAD && ph->p_vaddr + ph->p_memsz > end)
			end = ph->p_vaddr + ph->p_memsz;
	}
	return PAGE_UP(end);
}

uint64_t image_end(const struct elf_file *e)
{
	return e->bias + end_in_file(e);
}

static uint64_t alignment(const struct elf_file *e)
{
	uint64_t align = PAGE;

	for (int i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &e->ph[i];
		bool power = ph->p_align && !(ph->p_align & (ph->p_align - 1));

		if (ph->p_type == PT_LOAD && power && ph->p_align > align)
			align = ph->p_align;
	}
	return align;
}

/* Is [at, at + len) free?  @at 0: find a place.  Returns it, or -errno. */
static int64_t probe(uint64_t at, uint64_t len)
{
	void *p = mmap((void *)at, len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
		       (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, len);
	return (int64_t)p;
}

/* A loader or a static PIE: among the libraries. */
static int64_t place_high(uint64_t len, uint64_t align)
{
	int64_t at = probe(0, len + align);

	return at < 0 ? at : (int64_t)(((uint64_t)at + align - 1) & ~(align - 1));
}

/* A program with an interpreter: low, with room for the heap behind it. */
static int64_t place_low(uint64_t len, uint64_t align)
{
	uint64_t base = lowest();
	int mode = randomize();
	int64_t ret = -ENOMEM;

	for (int i = 0; i < PLACES_TO_TRY && ret < 0; i++) {
		uint64_t at = base + (mode ? random_below(RANDOM_PAGES) : (uint64_t)i) * PAGE;

		ret = probe((at + align - 1) & ~(align - 1), len);
	}
	return ret;
}

/* Choose e->bias.  Nothing else maps memory before map_image() does. */
int place(struct elf_file *e, bool has_interp)
{
	uint64_t first = first_page(e), end = end_in_file(e);
	int64_t at;

	if (end <= first)
		return -ENOEXEC;
	if (e->eh.e_type == ET_EXEC) {
		e->bias = 0;
		return 0;
	}
	at = has_interp ? place_low(end - first, alignment(e)) :
			  place_high(end - first, alignment(e));
	if (at < 0)
		return (int)at;
	e->bias = (uint64_t)at - first;
	return 0;
}

/* Where the heap begins: behind the program, or apart from a static PIE. */
uint64_t place_brk(const struct elf_file *e, bool has_interp)
{
	bool apart = e->eh.e_type == ET_DYN && !has_interp;
	uint64_t brk = apart ? lowest() : image_end(e);

	return randomize() == 2 ? brk + random_below(BRK_RANDOM / PAGE) * PAGE : brk;
}
