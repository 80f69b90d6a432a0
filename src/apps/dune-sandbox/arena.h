/* SPDX-License-Identifier: MIT */
/*
 * Where the monitor lives: in one entry of the top-level page table, 512 GiB, of which
 * ring 3 sees nothing.  See docs/sandbox.md.
 */
#ifndef SANDBOX_ARENA_H
#define SANDBOX_ARENA_H

#ifdef __ASSEMBLER__
#define ARENA_ADDRESS(x)	x
#else
#define ARENA_ADDRESS(x)	x##UL
#endif

#define ARENA_BASE	ARENA_ADDRESS(0x3f8000000000)
#define ARENA_SIZE	ARENA_ADDRESS(0x8000000000)
#define ARENA_END	(ARENA_BASE + ARENA_SIZE)

/*
 * Nothing is mapped in the first part, so that an object of less than this size that
 * begins below the arena cannot reach what is in it.
 */
#define ARENA_GUARD	ARENA_ADDRESS(0x100000000)

#define ARENA_IMAGE	(ARENA_BASE + ARENA_GUARD)	/* dune-sandbox itself, its heap behind it */
#define ARENA_LIBDUNE	(ARENA_BASE + ARENA_ADDRESS(0x1000000000))
#define ARENA_LIBDUNE_SIZE ARENA_ADDRESS(0x200000000)
#define ARENA_THREADS	(ARENA_BASE + ARENA_ADDRESS(0x2000000000))	/* a stack for each thread */
#define ARENA_SCRATCH	(ARENA_BASE + ARENA_ADDRESS(0x3000000000))

#endif /* SANDBOX_ARENA_H */
