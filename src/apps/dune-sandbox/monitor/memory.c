// SPDX-License-Identifier: MIT
/*
 * Ring 3's memory: copying, and the calls that change its map.
 *
 * The arena is never ring 3's.  A call that names a part of it fails as it would for
 * memory that is the kernel's; where the kernel chooses the address, one in the arena is
 * given back.
 */
#include <linux/mman.h>
#include <sys/mman.h>

#include "monitor.h"

#ifndef SHM_REMAP
#define SHM_REMAP	040000
#endif

long copy_in(void *to, uint64_t from, size_t n)
{
	return is_ring3s(from, n) ? copy_bytes(to, (const void *)from, n) : -EFAULT;
}

long copy_out(uint64_t to, const void *from, size_t n)
{
	return is_ring3s(to, n) ? copy_bytes((void *)to, from, n) : -EFAULT;
}

/* 0; -EFAULT, -ENAMETOOLONG */
long copy_path(char path[PATH_SIZE], uint64_t from)
{
	long ret = is_ring3s_object(from) ? copy_string(path, (const char *)from, PATH_SIZE) :
					    -EFAULT;

	return ret < 0 ? ret : 0;
}

/* ---- the monitor's own ---------------------------------------------------- */

static uint64_t scratch_next = ARENA_SCRATCH;

/* NULL: none to be had. */
void *scratch_map(uint64_t size)
{
	uint64_t at = __atomic_fetch_add(&scratch_next, PAGE_UP(size) + PAGE, __ATOMIC_RELAXED);
	long ret;

	if (at + size > ARENA_END || at < ARENA_SCRATCH)
		return NULL;
	ret = sys6(SYS_mmap, at, PAGE_UP(size), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1UL, 0);
	return ret == (long)at ? (void *)at : NULL;
}

void scratch_unmap(void *at, uint64_t size)
{
	sys2(SYS_munmap, at, PAGE_UP(size));
}

/* ---- calls ---------------------------------------------------------------- */

/* The kernel chose a place in the arena: ring 3 has used up all others. */
static long not_there(long ret, uint64_t len)
{
	if (failed(ret) || is_ring3s((uint64_t)ret, PAGE_UP(len)))
		return ret;
	report("the address space is used up");
	sys2(SYS_munmap, ret, PAGE_UP(len));
	return -ENOMEM;
}

static long refused(const char *what)
{
	report("%s of the monitor's memory was refused", what);
	return -ENOMEM;
}

static long map(struct call *call)
{
	uint64_t at = call->arg[0], len = call->arg[1], flags = call->arg[3];

	if (!is_ring3s(at, PAGE_UP(len))) {
		if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
			return refused("mmap");
		call->arg[0] = 0;
	}
	if (flags & MAP_ANONYMOUS)
		return not_there(make_call(call), len);
	return not_there(call_on_table(call, "....f"), len);
}

static long remap(struct call *call)
{
	uint64_t at = call->arg[0], old = call->arg[1], new = call->arg[2];
	uint64_t flags = call->arg[3], to = call->arg[4];

	if (!is_ring3s(at, PAGE_UP(old)))
		return refused("mremap");
	if (flags & MREMAP_FIXED && !is_ring3s(to, PAGE_UP(new)))
		return refused("mremap");
	/* Growing in place does not replace what is there. */
	return not_there(make_call(call), new);
}

static long grow_heap(struct call *call)
{
	long now = sys1(SYS_brk, 0);

	/* From the heap to the arena everything would have to be ring 3's. */
	if (call->arg[0] && ((uint64_t)now <= ARENA_BASE) != (call->arg[0] <= ARENA_BASE))
		return now;
	return make_call(call);
}

static long attach(struct call *call)
{
	if (call->arg[1] && (!is_ring3s_object(call->arg[1]) || call->arg[2] & SHM_REMAP))
		return -EINVAL;
	return not_there(make_call(call), PAGE);
}

long memory_call(struct call *call, struct dune_tf *tf)
{
	(void)tf;
	switch (call->nr) {
	case SYS_mmap:
		return map(call);
	case SYS_mremap:
		return remap(call);
	case SYS_brk:
		return grow_heap(call);
	case SYS_shmat:
		return attach(call);
	case SYS_mincore:
		if (!is_ring3s(call->arg[2], PAGE_UP(call->arg[1]) / PAGE))
			return -EFAULT;
		/* fallthrough */
	default:	/* address, length */
		if (is_ring3s(call->arg[0], PAGE_UP(call->arg[1])))
			return make_call(call);
		return refused(call_specs[call->nr].name);
	}
}
