/* SPDX-License-Identifier: MIT */
/*
 * Reading and loading 64-bit ELF files (System V gABI, chapters 4 and 5).
 *
 * Nothing in a file is believed: tables, strings and segments are checked against
 * the length of the file, and a file that is wrong gives -ENOEXEC.
 *
 * Thread rules: one struct dune_elf is for one thread at a time; different ones do
 * not know of each other.  In and out of Dune mode.  No memory is allocated by
 * malloc().  Errors are negative errno values.
 */
/* A folder of ours in the search path hides the system's header: pass it on. */
#include_next <elf.h>

#ifndef LIBDUNE_ELF_H
#define LIBDUNE_ELF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * An open file.  Filled by dune_elf_open() or dune_elf_open_mem(), valid until
 * dune_elf_close(); the tables are libdune's and read-only.
 */
struct dune_elf {
	int fd;			/* -1: opened from memory */
	unsigned char *mem;	/* the file's bytes */
	int len;		/* how many */
	Elf64_Ehdr hdr;
	Elf64_Phdr *phdr;	/* hdr.e_phnum of them; NULL: none */
	Elf64_Shdr *shdr;	/* hdr.e_shnum of them; NULL: none */
	char *shdrstr;		/* section names; NULL: none */
	void *priv;		/* the program's */
};

/* Not 0 ends the iteration, which returns it. */
typedef int (*dune_elf_phcb)(struct dune_elf *elf, Elf64_Phdr *phdr);
typedef int (*dune_elf_shcb)(struct dune_elf *elf, const char *sname, int snum,
			     Elf64_Shdr *shdr);

/**
 * dune_elf_open - open a file
 * @elf: filled; unchanged on failure
 * @path: its name
 *
 * The file is mapped: it must not be made shorter before dune_elf_close().
 *
 * Return: 0; -ENOEXEC no 64-bit little-endian x86-64 ELF file, or a wrong one; -EFBIG
 * 2 GiB or longer; why it cannot be opened or mapped.
 */
int dune_elf_open(struct dune_elf *elf, const char *path);

/**
 * dune_elf_open_mem - the same of a file that is in memory
 * @elf: filled; unchanged on failure
 * @mem: the file's bytes, aligned to 8; the caller's, to be kept until dune_elf_close()
 * @len: how many
 *
 * Return: 0, -ENOEXEC, -EINVAL (@mem or @len cannot be).
 */
int dune_elf_open_mem(struct dune_elf *elf, void *mem, int len);

/**
 * dune_elf_close - give back what dune_elf_open() took
 *
 * What dune_elf_load_ph() loaded stays.
 *
 * Return: 0.
 */
int dune_elf_close(struct dune_elf *elf);

/**
 * dune_elf_dump - print segments and sections by dune_printf()
 *
 * Return: 0.
 */
int dune_elf_dump(struct dune_elf *elf);

/**
 * dune_elf_iter_sh - call @cb for each section header
 *
 * @cb gets the name, "" if there is none, and the number of the section.
 *
 * Return: 0, or what @cb returned.
 */
int dune_elf_iter_sh(struct dune_elf *elf, dune_elf_shcb cb);

/**
 * dune_elf_iter_ph - call @cb for each program header
 *
 * *phdr is one of elf->phdr.
 *
 * Return: 0, or what @cb returned.
 */
int dune_elf_iter_ph(struct dune_elf *elf, dune_elf_phcb cb);

/**
 * dune_elf_load_ph - put a segment where it belongs
 * @phdr: from dune_elf_iter_ph(); of any type, usually PT_LOAD
 * @off: bytes to add to p_vaddr: 0 for ET_EXEC, the load address for ET_DYN
 *
 * The pages from p_vaddr + @off on are replaced, whatever is there (MAP_FIXED), by
 * private memory with the segment's contents, zeros behind them, and its rights.
 * Whole pages: of a page that two segments share the last one loaded stays.
 *
 * Return: 0; -ENOEXEC p_filesz above p_memsz or not in the file, addresses that wrap;
 * -ENOMEM, -EPERM and others from mmap().
 */
int dune_elf_load_ph(struct dune_elf *elf, Elf64_Phdr *phdr, off_t off);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_ELF_H */
