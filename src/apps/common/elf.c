// SPDX-License-Identifier: MIT
/*
 * ELF files: headers, checked as load_elf_binary() checks them.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

bool elf_magic(const char head[HEAD_SIZE])
{
	return memcmp(head, ELFMAG, SELFMAG) == 0;
}

const Elf64_Phdr *elf_header(const struct elf_file *e, uint32_t type)
{
	for (int i = 0; i < e->eh.e_phnum; i++)
		if (e->ph[i].p_type == type)
			return &e->ph[i];
	return NULL;
}

/* Why Dune mode cannot run what the ELF header announces; NULL: it can. */
static const char *foreign(const Elf64_Ehdr *eh)
{
	if (eh->e_machine != EM_X86_64 && eh->e_machine != EM_386)
		return "a program for another CPU";
	if (eh->e_machine == EM_386 || eh->e_ident[EI_CLASS] != ELFCLASS64)
		return "a 32-bit program, and Dune mode is 64-bit: start it natively";
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return "an ELF file that is no program";
	return NULL;
}

static bool bad_segment(const Elf64_Phdr *ph)
{
	const uint64_t user_end = 1ULL << 47;

	return ph->p_type == PT_LOAD &&
	       (ph->p_filesz > ph->p_memsz || ph->p_memsz > user_end ||
		ph->p_vaddr > user_end - ph->p_memsz);
}

/* Takes over @fd.  *reason says what is wrong with a file that is -ENOEXEC. */
int elf_read(struct elf_file *e, int fd, const char *path, const char **reason)
{
	ssize_t size;

	e->fd = fd;
	e->path = path;
	if (pread(fd, &e->eh, sizeof(e->eh), 0) != sizeof(e->eh) ||
	    memcmp(e->eh.e_ident, ELFMAG, SELFMAG))
		return -ENOEXEC;
	*reason = foreign(&e->eh);
	if (*reason)
		return -ENOEXEC;

	*reason = "its program headers are damaged";
	size = (ssize_t)(e->eh.e_phnum * sizeof(Elf64_Phdr));
	if (e->eh.e_phentsize != sizeof(Elf64_Phdr) || !size || (size_t)size > sizeof(e->ph))
		return -ENOEXEC;
	if (pread(fd, e->ph, (size_t)size, (off_t)e->eh.e_phoff) != size)
		return -ENOEXEC;
	if (!elf_header(e, PT_LOAD))
		return -ENOEXEC;
	for (int i = 0; i < e->eh.e_phnum; i++)
		if (bad_segment(&e->ph[i]))
			return -ENOEXEC;
	*reason = NULL;
	return 0;
}

/* The path in PT_INTERP: 1 there is one, 0 there is none, -ENOEXEC. */
int elf_interp_path(const struct elf_file *e, char path[PATH_MAX])
{
	const Elf64_Phdr *ph = elf_header(e, PT_INTERP);

	if (!ph)
		return 0;
	if (ph->p_filesz < 2 || ph->p_filesz > PATH_MAX)
		return -ENOEXEC;
	if (pread(e->fd, path, ph->p_filesz, (off_t)ph->p_offset) != (ssize_t)ph->p_filesz)
		return -ENOEXEC;
	return path[ph->p_filesz - 1] ? -ENOEXEC : 1;
}
