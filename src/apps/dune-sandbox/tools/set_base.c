// SPDX-License-Identifier: MIT
/*
 * Give a static PIE a fixed address.
 *
 * The kernel puts a static PIE where it likes, and libc.a cannot be linked for an address
 * beyond 2 GiB.  So it is linked as a PIE, and then made ET_EXEC with the address in
 * those headers that the kernel reads.  Libc is shown headers of a PIE (entry.S), finds
 * out where it is, as ever, and adds that to what they and the relocations say.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../arena.h"

static int fail(const char *path, const char *why)
{
	fprintf(stderr, "dune-sandbox-base: %s: %s\n", path, why);
	return 1;
}

int main(int argc, char **argv)
{
	struct stat st;
	Elf64_Ehdr *eh;
	Elf64_Phdr *ph;
	int fd;

	if (argc != 2)
		return fail("usage", "dune-sandbox-base FILE");
	fd = open(argv[1], O_RDWR);
	if (fd < 0 || fstat(fd, &st) || (size_t)st.st_size < sizeof(*eh))
		return fail(argv[1], strerror(errno));
	eh = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (eh == MAP_FAILED)
		return fail(argv[1], strerror(errno));
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) || eh->e_type != ET_DYN ||
	    eh->e_phoff + eh->e_phnum * sizeof(*ph) > (size_t)st.st_size)
		return fail(argv[1], "no static PIE");
	ph = (Elf64_Phdr *)((char *)eh + eh->e_phoff);
	eh->e_type = ET_EXEC;
	eh->e_entry += ARENA_IMAGE;
	for (int i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD)
			ph[i].p_vaddr = ph[i].p_paddr = ph[i].p_vaddr + ARENA_IMAGE;
	if (msync(eh, (size_t)st.st_size, MS_SYNC))
		return fail(argv[1], strerror(errno));
	return 0;
}
