// SPDX-License-Identifier: MIT
/*
 * Mapping ELF segments: elf_load() of Linux.
 */
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "load.h"

static int prot_of(const Elf64_Phdr *ph)
{
	return (ph->p_flags & PF_R ? PROT_READ : 0) | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
	       (ph->p_flags & PF_X ? PROT_EXEC : 0);
}

static int map_at(uint64_t at, uint64_t len, int prot, int flags, int fd, uint64_t offset)
{
	void *p = mmap((void *)at, len, prot, MAP_PRIVATE | MAP_FIXED_NOREPLACE | flags, fd,
		       (off_t)offset);

	return p == MAP_FAILED ? -errno : 0;
}

/* From the end of the file's part: zeros in its last page, then pages of zeros. */
static int map_zeros(const Elf64_Phdr *ph, uint64_t bias)
{
	uint64_t from = bias + ph->p_vaddr + ph->p_filesz;
	uint64_t pages = ph->p_filesz ? PAGE_UP(from) : PAGE_DOWN(from);
	uint64_t end = PAGE_UP(bias + ph->p_vaddr + ph->p_memsz);

	/* What follows a read-only part stays as it is in the file, as in Linux. */
	if (ph->p_flags & PF_W && pages > from)
		memset((void *)from, 0, pages - from);
	return end > pages ? map_at(pages, end - pages, prot_of(ph), MAP_ANONYMOUS, -1, 0) : 0;
}

static int map_segment(const struct elf_file *e, const Elf64_Phdr *ph)
{
	uint64_t at = e->bias + ph->p_vaddr, slack = at & (PAGE - 1);
	int ret = 0;

	if ((ph->p_offset & (PAGE - 1)) != slack && ph->p_filesz)
		return -EINVAL;
	if (ph->p_filesz)
		ret = map_at(at - slack, PAGE_UP(ph->p_filesz + slack), prot_of(ph), 0, e->fd,
			     ph->p_offset - slack);
	if (!ret && ph->p_memsz > ph->p_filesz)
		ret = map_zeros(ph, e->bias);
	return ret;
}

/* -EEXIST: something is there already, in the way of a fixed address. */
int map_image(const struct elf_file *e)
{
	int ret = 0;

	for (int i = 0; i < e->eh.e_phnum && !ret; i++)
		if (e->ph[i].p_type == PT_LOAD)
			ret = map_segment(e, &e->ph[i]);
	return ret;
}

/*
 * A program may ask for a stack that code can run on (setup_arg_pages()).  The
 * name of the executable is the last thing on the stack.
 */
int map_exec_stack(const struct elf_file *e)
{
	const Elf64_Phdr *ph = elf_header(e, PT_GNU_STACK);
	uint64_t page = PAGE_DOWN(getauxval(AT_EXECFN));

	if (!ph || !(ph->p_flags & PF_X))
		return 0;
	return mprotect((void *)page, PAGE,
			PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN) ? -errno : 0;
}
