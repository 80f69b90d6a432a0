// SPDX-License-Identifier: MIT
/*
 * Where libdune's own memory lies: anywhere, or in an area that the program named so
 * that it can keep ring 3 out of it (private.h).
 *
 * Lean code.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "local.h"
#include "vm.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static uint64_t base, end;	/* 0: anywhere */
static uint64_t next;		/* where to look first; only a hint */

DUNE_EXPORT int dune_set_private_memory(uintptr_t at, size_t size)
{
	if (pgroot || !size || at % BIG_PGSIZE || at >= USER_END || size > USER_END - at ||
	    size < (1UL << 30))
		return -EINVAL;
	base = next = at;
	end = at + size;
	return 0;
}

static bool failed(long ret)
{
	return ret < 0 && ret > -4096;
}

static long map_anywhere(uint64_t size, uint64_t align, int prot, int flags)
{
	uint64_t more = align > 4096 ? align : 0, at, over;
	long raw = __dune_syscall6(SYS_mmap, 0, size + more, prot, flags, -1, 0);

	if (failed(raw) || !more)
		return raw;
	at = ((uint64_t)raw + align - 1) & ~(align - 1);
	over = at - (uint64_t)raw;
	if (over)
		__dune_own3(SYS_munmap, raw, over, 0);
	if (align != over)
		__dune_own3(SYS_munmap, at + size, align - over, 0);
	return (long)at;
}

/* In steps of the alignment through the area, from the hint on and once around. */
static long map_private(uint64_t size, uint64_t align, int prot, int flags)
{
	uint64_t start = __atomic_load_n(&next, __ATOMIC_RELAXED), at = start;
	bool around = false;
	long ret;

	for (;;) {
		at = (at + align - 1) & ~(align - 1);
		if (at >= end || size > end - at) {
			if (around)
				return -ENOMEM;
			around = true;
			at = base;
			continue;
		}
		if (around && at >= start)
			return -ENOMEM;
		ret = __dune_syscall6(SYS_mmap, (long)at, size, prot,
				      flags | MAP_FIXED_NOREPLACE, -1, 0);
		if (ret == (long)at) {
			__atomic_store_n(&next, at + size, __ATOMIC_RELAXED);
			return ret;
		}
		if (!failed(ret)) {	/* before Linux 4.17: a hint */
			__dune_own3(SYS_munmap, ret, size, 0);
			ret = -EEXIST;
		}
		if (ret != -EEXIST)
			return ret;
		at += align;
	}
}

/*
 * Private anonymous memory for libdune itself, @size bytes aligned to @align, a power of
 * two of pages; or a negative errno.
 */
long __dune_map_own(uint64_t size, uint64_t align, int prot, int flags)
{
	flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	return base ? map_private(size, align, prot, flags) :
		      map_anywhere(size, align, prot, flags);
}

bool __dune_memory_is_private(void)
{
	return base;
}

DUNE_EXPORT bool dune_is_own_fd(int fd)
{
	return __dune_is_own_fd(fd);
}

/* Where trap.c and ring_asm.S put it: right below the stack that ring 3's handlers get. */
DUNE_EXPORT struct dune_tf *dune_user_frame(void)
{
	struct dune_percpu *pc = __dune_this_percpu();

	return pc && pc->ring0_rsp ? (struct dune_tf *)(pc->ring0_rsp - TF_SIZE) : NULL;
}
