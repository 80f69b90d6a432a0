/* SPDX-License-Identifier: MIT */
/*
 * The process's memory map, as /proc/self/maps has it (proc(5)).
 *
 * Thread rules: any thread, in and out of Dune mode; each call reads the map anew.
 * Nothing is allocated by malloc(); a name above 4 KB is put into memory that is
 * mapped for it, and which the map may show.
 */
#ifndef LIBDUNE_PROCMAP_H
#define LIBDUNE_PROCMAP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PROCMAP_TYPE_UNKNOWN	0x00	/* a name in brackets that is none of the below */
#define PROCMAP_TYPE_FILE	0x01
#define PROCMAP_TYPE_ANONYMOUS	0x02	/* no name, or [anon:...] */
#define PROCMAP_TYPE_HEAP	0x03
#define PROCMAP_TYPE_STACK	0x04	/* of the first thread */
#define PROCMAP_TYPE_VSYSCALL	0x05
#define PROCMAP_TYPE_VDSO	0x06
#define PROCMAP_TYPE_VVAR	0x07	/* the vDSO's data */

struct dune_procmap_entry {
	uintptr_t begin;	/* the first byte */
	uintptr_t end;		/* behind the last */
	uint64_t offset;	/* of a file, bytes */
	bool r;			/* readable */
	bool w;			/* writable */
	bool x;			/* executable */
	bool p;			/* private; false: shared */
	char *path;		/* libdune's, valid during the call; "": none */
	int type;		/* PROCMAP_TYPE_* */
};

typedef void (*dune_procmap_cb)(const struct dune_procmap_entry *entry);

/**
 * dune_procmap_iterate - call @cb for each mapping, by rising address
 *
 * @cb may map and unmap memory: of what it changes the rest of the iteration may
 * see the old or the new.  Where the map cannot be read (no /proc, no descriptor,
 * no memory for a long name) the process ends with a message, since there is no
 * other way to say so.
 */
void dune_procmap_iterate(dune_procmap_cb cb);

/**
 * dune_procmap_dump - print the map by dune_printf(), a line for each mapping
 */
void dune_procmap_dump(void);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_PROCMAP_H */
