// SPDX-License-Identifier: MIT
/*
 * In the program's process, before its first instruction.
 */
#include <libdune/dune.h>
#include <linux/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../dune-run.h"
#include "inside.h"

#define EXIT_OWN	125

static void __attribute__((noreturn)) fail(const char *what, int err)
{
	char text[200];
	struct line l = { text, sizeof(text), 0 };

	line_text(&l, "dune-run: ");
	line_text(&l, what);
	line_text(&l, ": errno ");
	line_number(&l, (unsigned long)-err);
	line_text(&l, "\n  next: dmesg | grep dune\n");
	line_write(&l);
	for (;;)
		syscall(SYS_exit_group, EXIT_OWN);
}

/* The kernel was given a descriptor in place of the path. */
static void name(const struct inside_args *args)
{
	const uint64_t *word = (const uint64_t *)args->sp;
	Elf64_auxv_t *av;

	for (word += *word + 2; *word; word++)	/* argc, argv, envp */
		;
	for (av = (Elf64_auxv_t *)(word + 1); av->a_type != AT_NULL; av++)
		if (av->a_type == AT_EXECFN)
			av->a_un.a_val = (uint64_t)args->path;
	syscall(SYS_prctl, PR_SET_NAME, args->name);
}

void __attribute__((noreturn)) inside(const struct inside_args *args);

void inside(const struct inside_args *args)
{
	int ret;

	dune_set_pool(false, 0);	/* the addresses are the program's */
	ret = dune_init(true);
	if (ret)
		fail("opening /dev/dune", ret);
	if (args->name[0])
		name(args);
	if (args->loader[0])
		ret = dune_exec_through(args->loader);
	if (ret)
		fail("following what the program executes", ret);
	ret = dune_enter();
	if (ret)
		fail("entering Dune mode", ret);
	if (args->verify)
		say_where(NULL);
	launch(args->sp, NULL, 0, args->entry, xsave_components());
}
