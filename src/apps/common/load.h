/* SPDX-License-Identifier: MIT */
/*
 * Starting a program without the kernel's loader: what dune-run and dune-sandbox share.
 *
 * It does in user space what execve() does in the kernel: find the file,
 * follow #! lines, map the program and its interpreter, build the stack, tell
 * the kernel what the process is now.
 * Linux functions named in comments are those whose rules are followed.
 *
 * Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef APPS_LOAD_H
#define APPS_LOAD_H

#include <elf.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE		4096UL
#define PAGE_DOWN(x)	((x) & ~(PAGE - 1))
#define PAGE_UP(x)	PAGE_DOWN((x) + PAGE - 1)

/* Of the kernel: BINPRM_BUF_SIZE; exec_binprm()'s limit; load_elf_phdrs()'s. */
#define HEAD_SIZE	256
#define MAX_SCRIPTS	5
#define MAX_PHDRS	(65536 / sizeof(Elf64_Phdr))

/* Newer than the oldest headers that this is built with. */
#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE	27
#define AT_RSEQ_ALIGN		28
#endif

/* One ELF file: the program or its interpreter. */
struct elf_file {
	int fd;			/* -1: there is none */
	const char *path;
	Elf64_Ehdr eh;
	Elf64_Phdr ph[MAX_PHDRS];
	uint64_t bias;		/* of the addresses in memory to those in the file */
};

/* What is to be started. */
struct command {
	const char *path;	/* what execve() would be given: AT_EXECFN, comm */
	/* What stands in the place of PROG in the arguments, from the end up. */
	const char *slots[2 * MAX_SCRIPTS + 3];
	int first;		/* of the slots in use */
	const char *argv0;	/* what execve() would be given there, */
	const char *script;	/* and behind it, before the arguments; or NULL */
	struct elf_file program, interp;
	int given;		/* a descriptor of the file to start; -1: none */

	/* For the message when it cannot be started. */
	const char *culprit;	/* the file the error is about */
	const char *reason;	/* more than errno says, or NULL */

	char found[2 * PATH_MAX];	/* the path, if it comes from PATH */
	char interp_path[PATH_MAX];
	char heads[MAX_SCRIPTS + 2][HEAD_SIZE];
};

/* What the new program finds above its stack pointer, and where. */
struct stack_image {
	char *bytes;
	size_t len;
	uint64_t at;		/* of the first byte: the initial stack pointer */
	uint64_t arg_start, arg_end, env_start, env_end;
	uint64_t *auxv;		/* in bytes */
	size_t auxv_size;
};

/* script.c */
struct script_line {
	const char *interp;
	const char *arg;	/* NULL: none */
};
int script_parse(char head[HEAD_SIZE], struct script_line *line);

/* command.c */
int command_find(struct command *c, const char *name, const char *argv0, bool search,
		 int given);

/* elf.c */
bool elf_magic(const char head[HEAD_SIZE]);
int elf_read(struct elf_file *e, int fd, const char *path, const char **reason);
int elf_interp_path(const struct elf_file *e, char path[PATH_MAX]);
const Elf64_Phdr *elf_header(const struct elf_file *e, uint32_t type);

/* room.c */
void room_make(void);
void room_give_back(void);

/* place.c */
int place(struct elf_file *e, bool has_interp);
uint64_t place_brk(const struct elf_file *e, bool has_interp);
uint64_t image_end(const struct elf_file *e);

/* map.c */
int map_image(const struct elf_file *e);
int map_exec_stack(const struct elf_file *e);

/* stack.c */
const Elf64_auxv_t *stack_auxv(char **envp);
int stack_build(struct stack_image *s, const struct command *c, char **args, char **envp,
		const Elf64_auxv_t *av);

/* identity.c */
int descriptor_of(const char *path);
int identity_set(const struct command *c, const struct stack_image *s, int copy, int *exe_error);

/* self.c */
void self_forget_thread(void);
int self_detach(int copy);

#endif /* APPS_LOAD_H */
