// SPDX-License-Identifier: MIT
/*
 * The memory map for programs: dune_procmap_*().
 */
#include <stdlib.h>
#include <string.h>

#include "local.h"

#define DUMP_CHUNK	1000	/* dune_printf() takes so much */

static int visit(const struct dune_procmap_entry *e, void *arg)
{
	(*(dune_procmap_cb *)arg)(e);
	return 0;
}

DUNE_EXPORT void dune_procmap_iterate(dune_procmap_cb cb)
{
	int ret = __dune_for_each_map(visit, &cb);

	if (ret) {
		__dune_message("/proc/self/maps cannot be read: errno %d\n", -ret);
		abort();
	}
}

static void dump(const struct dune_procmap_entry *e)
{
	const char *rest = e->path;

	dune_printf("%016lx-%016lx %c%c%c%c %08lx ", e->begin, e->end, e->r ? 'r' : '-',
		    e->w ? 'w' : '-', e->x ? 'x' : '-', e->p ? 'p' : 's', e->offset);
	while (strlen(rest) > DUMP_CHUNK) {
		dune_printf("%.*s", DUMP_CHUNK, rest);
		rest += DUMP_CHUNK;
	}
	dune_printf("%s\n", rest);
}

DUNE_EXPORT void dune_procmap_dump(void)
{
	dune_procmap_iterate(dump);
}
