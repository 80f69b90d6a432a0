/* SPDX-License-Identifier: MIT */
/*
 * dune-run: start an unmodified program in Dune mode.
 *
 * It loads the program as execve() does (../common/load.h), enters Dune mode and jumps.
 * Whoever may not tell the kernel what the process is now has the kernel load the
 * program, and libdune put into it (inject.c).
 *
 * Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef DUNE_RUN_H
#define DUNE_RUN_H

#include "../common/load.h"

/* inject.c */
bool may_name_executable(void);
struct start {
	const char *path;
	int fd;			/* the file, if the path does not lead to it; or -1 */
	char **argv, **envp;
	const char *loader;	/* for what the program executes; "": nothing */
	bool verify;
};
int inject(const struct start *s, bool *executed);

/* where.c */
struct line {
	char *text;
	size_t size, len;
};
void line_text(struct line *l, const char *s);
void line_number(struct line *l, unsigned long n);
void line_write(const struct line *l);
void say_where(const char *exe);
uint64_t xsave_components(void);

/* launch.S: @xsave: state components for XRSTOR, 0: there is only FXRSTOR */
void launch(uint64_t to, const char *from, size_t len, uint64_t entry, uint64_t xsave)
	__attribute__((noreturn));

#endif /* DUNE_RUN_H */
