// SPDX-License-Identifier: MIT
/*
 * Letting go of what is dune-run's own.
 */
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define RSEQ_OLD_SIZE	32	/* before kernels said theirs, and the least since */

/* glibc registers what the kernel can use, at least 32 bytes, aligned. */
static void forget_rseq(void)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	unsigned long size = getauxval(AT_RSEQ_FEATURE_SIZE), align = getauxval(AT_RSEQ_ALIGN);

	if (!__rseq_size)
		return;
	if (size > RSEQ_OLD_SIZE && align) {
		size = (size + align - 1) / align * align;
		if (!syscall(SYS_rseq, area, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
			return;
	}
	syscall(SYS_rseq, area, RSEQ_OLD_SIZE, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

/*
 * What libc told the kernel about this thread, all of it about memory that
 * means nothing to the program.  A new program would find none of it set.
 */
void self_forget_thread(void)
{
	forget_rseq();
	syscall(SYS_set_robust_list, NULL, 3 * sizeof(void *));
	syscall(SYS_set_tid_address, NULL);
}

/* ---- away from the file --------------------------------------------- */

/*
 * Put a copy in the place of [from, end).  The copy takes the place in one
 * system call and is equal, so this code may replace itself; between copying
 * and moving nothing in the range may change.
 */
static int replace(uint64_t from, uint64_t end, int prot)
{
	size_t len = end - from;
	char *copy;

	if (end <= from)
		return 0;
	copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		    -1, 0);
	if (copy == MAP_FAILED)
		return -errno;
	memcpy(copy, (const void *)from, len);
	if (mprotect(copy, len, prot) ||
	    mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)from) == MAP_FAILED) {
		int err = errno;

		munmap(copy, len);
		return -err;
	}
	return 0;
}

extern const Elf64_Ehdr own_header __asm__("__ehdr_start") __attribute__((visibility("hidden")));

static const Elf64_Phdr *own_headers(void)
{
	return (const Elf64_Phdr *)((const char *)&own_header + own_header.e_phoff);
}

/*
 * Where a segment begins.  Of a program that was moved to a fixed address after linking
 * (dune-sandbox) only what the kernel maps names that address.
 */
static uint64_t address_of(const Elf64_Phdr *ph)
{
	uint64_t base = (uint64_t)&own_header;

	return ph->p_vaddr >= base ? ph->p_vaddr : base + ph->p_vaddr;
}

/* The part of the data that is read-only since relocation; empty if none is. */
static void find_relro(uint64_t *from, uint64_t *end)
{
	const Elf64_Phdr *ph = own_headers();

	*from = *end = 0;
	for (int i = 0; i < own_header.e_phnum; i++) {
		if (ph[i].p_type != PT_GNU_RELRO)
			continue;
		*from = PAGE_DOWN(address_of(&ph[i]));
		*end = PAGE_DOWN(address_of(&ph[i]) + ph[i].p_memsz);
	}
}

/* Nothing in a segment that is not writable was changed since it was mapped. */
static int map_from(int fd, uint64_t from, uint64_t end, int prot, uint64_t offset)
{
	return mmap((void *)from, end - from, prot, MAP_PRIVATE | MAP_FIXED, fd,
		    (off_t)offset) == MAP_FAILED ? -errno : 0;
}

static int replace_segment(const Elf64_Phdr *ph, int copy)
{
	uint64_t relro, relro_end;
	uint64_t from = PAGE_DOWN(address_of(ph));
	uint64_t end = PAGE_UP(address_of(ph) + ph->p_filesz);
	int prot = PROT_READ | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
		   (ph->p_flags & PF_X ? PROT_EXEC : 0);
	int ret = 0;

	if (copy >= 0 && !(ph->p_flags & PF_W))
		return map_from(copy, from, end, prot, PAGE_DOWN(ph->p_offset));
	find_relro(&relro, &relro_end);
	if (relro >= from && relro_end <= end && relro < relro_end) {
		ret = replace(from, relro, prot);
		if (!ret)
			ret = replace(relro, relro_end, PROT_READ);
		from = relro_end;
	}
	return ret ? ret : replace(from, end, prot);
}

/*
 * Leave no mapping of dune-run's own file.  @copy: -1, or a descriptor of a copy of it that
 * nobody can change, which is mapped as far as it can be.
 */
int self_detach(int copy)
{
	const Elf64_Phdr *ph = own_headers();
	int ret = 0;

	for (int i = 0; i < own_header.e_phnum && !ret; i++)
		if (ph[i].p_type == PT_LOAD)
			ret = replace_segment(&ph[i], copy);
	return ret;
}
