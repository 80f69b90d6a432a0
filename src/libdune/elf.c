// SPDX-License-Identifier: MIT
/*
 * Reading and loading ELF files.  All offsets and sizes come from the file and are
 * checked before they are used.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "local.h"

#define PAGE		4096UL
#define PAGE_DOWN(x)	((x) & ~(PAGE - 1))
#define PAGE_UP(x)	(((x) + PAGE - 1) & ~(PAGE - 1))

/* Do @size bytes lie in the file, @offset bytes from its start? */
static bool inside(const struct dune_elf *elf, uint64_t offset, uint64_t size)
{
	uint64_t len = (uint64_t)elf->len;

	return offset <= len && size <= len - offset;
}

/* A table of @nr entries: NULL if there is none; *@bad if it cannot be. */
static void *table(const struct dune_elf *elf, uint64_t offset, uint64_t nr, uint64_t entry,
		   uint64_t size, bool *bad)
{
	if (!offset || !nr)
		return NULL;
	if (entry != size || offset % 8 || !inside(elf, offset, nr * size)) {
		*bad = true;
		return NULL;
	}
	return elf->mem + offset;
}

static bool header_fits(const Elf64_Ehdr *h)
{
	return !memcmp(h->e_ident, ELFMAG, SELFMAG) && h->e_ident[EI_CLASS] == ELFCLASS64 &&
	       h->e_ident[EI_DATA] == ELFDATA2LSB && h->e_ident[EI_VERSION] == EV_CURRENT &&
	       h->e_machine == EM_X86_64 && h->e_phnum != PN_XNUM;
}

static bool read_names(struct dune_elf *elf)
{
	const Elf64_Shdr *names;

	if (!elf->shdr || elf->hdr.e_shstrndx == SHN_UNDEF)
		return true;
	if (elf->hdr.e_shstrndx >= elf->hdr.e_shnum)
		return false;
	names = &elf->shdr[elf->hdr.e_shstrndx];
	if (names->sh_type != SHT_STRTAB || !names->sh_size ||
	    !inside(elf, names->sh_offset, names->sh_size) ||
	    elf->mem[names->sh_offset + names->sh_size - 1])
		return false;
	elf->shdrstr = (char *)elf->mem + names->sh_offset;
	return true;
}

static int read_headers(struct dune_elf *elf)
{
	bool bad = false;

	if (!inside(elf, 0, sizeof(elf->hdr)))
		return -ENOEXEC;
	memcpy(&elf->hdr, elf->mem, sizeof(elf->hdr));
	if (!header_fits(&elf->hdr))
		return -ENOEXEC;
	elf->phdr = table(elf, elf->hdr.e_phoff, elf->hdr.e_phnum, elf->hdr.e_phentsize,
			  sizeof(*elf->phdr), &bad);
	elf->shdr = table(elf, elf->hdr.e_shoff, elf->hdr.e_shnum, elf->hdr.e_shentsize,
			  sizeof(*elf->shdr), &bad);
	return bad || !read_names(elf) ? -ENOEXEC : 0;
}

DUNE_EXPORT int dune_elf_open_mem(struct dune_elf *elf, void *mem, int len)
{
	struct dune_elf new = { .fd = -1, .mem = mem, .len = len };
	int ret;

	if (!mem || len < 0 || (uintptr_t)mem % 8)
		return -EINVAL;
	ret = read_headers(&new);
	if (!ret)
		*elf = new;
	return ret;
}

static int map_file(struct dune_elf *elf)
{
	struct stat st;
	void *mem;

	if (fstat(elf->fd, &st))
		return -errno;
	if (st.st_size > INT_MAX)
		return -EFBIG;
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return -ENOEXEC;
	mem = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, elf->fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	elf->mem = mem;
	elf->len = (int)st.st_size;
	return 0;
}

DUNE_EXPORT int dune_elf_open(struct dune_elf *elf, const char *path)
{
	struct dune_elf new = { .fd = open(path, O_RDONLY | O_CLOEXEC) };
	int ret;

	if (new.fd < 0)
		return -errno;
	ret = map_file(&new);
	if (!ret)
		ret = read_headers(&new);
	if (ret)
		dune_elf_close(&new);
	else
		*elf = new;
	return ret;
}

DUNE_EXPORT int dune_elf_close(struct dune_elf *elf)
{
	if (elf->fd >= 0) {
		if (elf->mem)
			munmap(elf->mem, (size_t)elf->len);
		close(elf->fd);
	}
	elf->fd = -1;
	elf->mem = NULL;
	elf->len = 0;
	elf->phdr = NULL;
	elf->shdr = NULL;
	elf->shdrstr = NULL;
	return 0;
}

static const char *section_name(const struct dune_elf *elf, const Elf64_Shdr *shdr)
{
	if (!elf->shdrstr || shdr->sh_name >= elf->shdr[elf->hdr.e_shstrndx].sh_size)
		return "";
	return elf->shdrstr + shdr->sh_name;
}

DUNE_EXPORT int dune_elf_iter_sh(struct dune_elf *elf, dune_elf_shcb cb)
{
	int ret = 0;

	for (int i = 0; !ret && elf->shdr && i < elf->hdr.e_shnum; i++)
		ret = cb(elf, section_name(elf, &elf->shdr[i]), i, &elf->shdr[i]);
	return ret;
}

DUNE_EXPORT int dune_elf_iter_ph(struct dune_elf *elf, dune_elf_phcb cb)
{
	int ret = 0;

	for (int i = 0; !ret && elf->phdr && i < elf->hdr.e_phnum; i++)
		ret = cb(elf, &elf->phdr[i]);
	return ret;
}

static int dump_ph(struct dune_elf *elf, Elf64_Phdr *p)
{
	dune_printf("segment %ld: type 0x%x flags %c%c%c offset 0x%lx address 0x%lx file 0x%lx memory 0x%lx\n",
		    (long)(p - elf->phdr), p->p_type, p->p_flags & PF_R ? 'r' : '-',
		    p->p_flags & PF_W ? 'w' : '-', p->p_flags & PF_X ? 'x' : '-',
		    p->p_offset, p->p_vaddr, p->p_filesz, p->p_memsz);
	return 0;
}

static int dump_sh(struct dune_elf *elf, const char *name, int nr, Elf64_Shdr *s)
{
	(void)elf;
	dune_printf("section %d: %s type 0x%x flags 0x%lx offset 0x%lx address 0x%lx size 0x%lx\n",
		    nr, name, s->sh_type, s->sh_flags, s->sh_offset, s->sh_addr, s->sh_size);
	return 0;
}

DUNE_EXPORT int dune_elf_dump(struct dune_elf *elf)
{
	dune_printf("ELF file: type %u entry 0x%lx, %u segments, %u sections\n",
		    elf->hdr.e_type, elf->hdr.e_entry, elf->hdr.e_phnum, elf->hdr.e_shnum);
	dune_elf_iter_ph(elf, dump_ph);
	return dune_elf_iter_sh(elf, dump_sh);
}

DUNE_EXPORT int dune_elf_load_ph(struct dune_elf *elf, Elf64_Phdr *phdr, off_t off)
{
	uint64_t at, end, start, len;
	int prot = (phdr->p_flags & PF_R ? PROT_READ : 0) |
		   (phdr->p_flags & PF_W ? PROT_WRITE : 0) |
		   (phdr->p_flags & PF_X ? PROT_EXEC : 0);
	void *mem;

	if (phdr->p_filesz > phdr->p_memsz || !inside(elf, phdr->p_offset, phdr->p_filesz) ||
	    __builtin_add_overflow(phdr->p_vaddr, off, &at) ||
	    __builtin_add_overflow(at, phdr->p_memsz, &end) || end > USER_END)
		return -ENOEXEC;
	if (!phdr->p_memsz)
		return 0;
	start = PAGE_DOWN(at);
	len = PAGE_UP(end) - start;
	mem = mmap((void *)start, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (mem == MAP_FAILED)
		return -errno;
	memcpy((void *)at, elf->mem + phdr->p_offset, phdr->p_filesz);
	return prot == (PROT_READ | PROT_WRITE) || !mprotect(mem, len, prot) ? 0 : -errno;
}
