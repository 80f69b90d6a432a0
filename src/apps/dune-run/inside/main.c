// SPDX-License-Identifier: MIT
/*
 * In the program's process, before its first instruction.
 */
#include <libdune/dune.h>
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

void __attribute__((noreturn)) inside(const struct inside_args *args);

void inside(const struct inside_args *args)
{
	int ret = dune_init(true);

	if (ret)
		fail("opening /dev/dune", ret);
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
