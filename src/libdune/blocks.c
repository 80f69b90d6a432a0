// SPDX-License-Identifier: MIT
/*
 * The blocks of all threads in Dune mode: making, finding and freeing them, and
 * the vCPU that each has.
 *
 * The registry is a table without a lock: a lock could be held when a fork
 * copies it.  Lean code: it makes the blocks of threads that are being cloned.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "local.h"

struct dune_slot __dune_slots[DUNE_MAX_BLOCKS];
static uint32_t nr_blocks;	/* no block lies at this index or above */
uint32_t __dune_nr_guests;

static bool replace(struct dune_percpu **place, struct dune_percpu *from, struct dune_percpu *to)
{
	return __atomic_compare_exchange_n(place, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

static int track(struct dune_percpu *pc)
{
	for (uint32_t i = 0; i < DUNE_MAX_BLOCKS; i++) {
		uint32_t nr = __atomic_load_n(&nr_blocks, __ATOMIC_ACQUIRE);

		if (!replace(&__dune_slots[i].block, NULL, pc))
			continue;
		pc->apic_id = i;
		while (nr <= i && !__atomic_compare_exchange_n(&nr_blocks, &nr, i + 1, false,
							       __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			;
		__atomic_add_fetch(&__dune_nr_guests, 1, __ATOMIC_ACQ_REL);
		return 0;
	}
	return -EAGAIN;
}

static struct dune_percpu *block_at(uint32_t i)
{
	return __atomic_load_n(&__dune_slots[i].block, __ATOMIC_ACQUIRE);
}

static void untrack(struct dune_percpu *pc)
{
	uint32_t nr = __atomic_load_n(&nr_blocks, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < nr; i++)
		if (replace(&__dune_slots[i].block, pc, NULL)) {
			__atomic_sub_fetch(&__dune_nr_guests, 1, __ATOMIC_ACQ_REL);
			return;
		}
}

/*
 * The block around @addr, an address of its host stack or of its tables; or NULL.  On the
 * host side the signal handler alone asks.
 */
DUNE_SIGNAL_TEXT struct dune_percpu *__dune_block_around(uint64_t addr)
{
	uint64_t base = addr & ~(uint64_t)(DUNE_BLOCK_ALIGN - 1);
	uint32_t nr = __atomic_load_n(&nr_blocks, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < nr; i++)
		if ((uint64_t)block_at(i) == base)
			return base ? (struct dune_percpu *)base : NULL;
	return NULL;
}

/* By the slots: the block of a thread that ends is unmapped meanwhile. */
static int fd_at(uint32_t i)
{
	return __atomic_load_n(&__dune_slots[i].vcpu_fd, __ATOMIC_ACQUIRE) - 1;
}

bool __dune_is_own_fd(int fd)
{
	uint32_t nr = __atomic_load_n(&nr_blocks, __ATOMIC_ACQUIRE);

	if (fd == dune_fd || fd == __dune_exec_fd || fd == __dune_dev_fd)
		return fd >= 0;
	for (uint32_t i = 0; i < nr; i++)
		if (fd_at(i) == fd)
			return fd >= 0;
	return false;
}

/* The lowest of libdune's own descriptors in [@first, @last]; -1: none. */
int __dune_next_own_fd(unsigned int first, unsigned int last)
{
	uint32_t nr = __atomic_load_n(&nr_blocks, __ATOMIC_ACQUIRE);
	unsigned int best = ~0U;

	for (uint32_t i = 0; i <= nr + 2; i++) {
		unsigned int fd = (unsigned int)(i == nr ? dune_fd :
						 i == nr + 1 ? __dune_exec_fd :
						 i == nr + 2 ? __dune_dev_fd : fd_at(i));

		if ((int)fd >= 0 && fd >= first && fd <= last && fd < best)
			best = fd;
	}
	return (int)best;
}

static long raw_mmap(uint64_t at, size_t size, int prot, int flags, int fd, off_t offset)
{
	return __dune_syscall6(SYS_mmap, (long)at, (long)size, prot, flags, fd, offset);
}

static bool failed(long ret)
{
	return ret < 0 && ret > -4096;
}

/* The module maps nothing executable, which some personalities ask of every mapping. */
static long map_page(const void *at, int prot, int fd, off_t offset)
{
	long ret = raw_mmap((uint64_t)at, 4096, prot, MAP_SHARED | MAP_FIXED, fd, offset);
	long persona;

	if (ret == -EPERM) {
		persona = __dune_syscall3(SYS_personality, 0xffffffff, 0, 0);
		__dune_syscall3(SYS_personality, persona & ~READ_IMPLIES_EXEC, 0, 0);
		ret = raw_mmap((uint64_t)at, 4096, prot, MAP_SHARED | MAP_FIXED, fd, offset);
		__dune_syscall3(SYS_personality, persona, 0, 0);
	}
	return failed(ret) ? ret : 0;
}

/* A vCPU for @pc, which has none: descriptor and pages. */
int __dune_vcpu_create(struct dune_percpu *pc)
{
	long fd = __dune_make_fd(SYS_ioctl, dune_fd, DUNE_CREATE_VCPU, 0, 0);
	long ret;

	if (fd < 0)
		return (int)fd;
	fd = __dune_raise_fd((int)fd);
	ret = map_page(pc->run, PROT_READ | PROT_WRITE, (int)fd, DUNE_MMAP_RUN);
	if (!ret)
		ret = map_page(pc->stats, PROT_READ, (int)fd, DUNE_MMAP_STATS);
	if (ret) {
		__dune_own3(SYS_close, fd, 0, 0);
		return (int)ret;
	}
	pc->vcpu_fd = (int)fd;
	__dune_apic_set(pc->apic_id, (int)fd);
	return 0;
}

/* A new block with a vCPU that belongs to no thread yet; NULL and *@err. */
struct dune_percpu *__dune_block_create(int *err)
{
	struct dune_percpu *pc;
	long block = __dune_map_own(DUNE_BLOCK_SIZE, DUNE_BLOCK_ALIGN, PROT_READ | PROT_WRITE, 0);

	if (failed(block)) {
		*err = (int)block;
		return NULL;
	}
	pc = (struct dune_percpu *)block;
	pc->self = pc;
	pc->run = (struct dune_run *)(block + DUNE_RUN_OFFSET);
	pc->stats = (const struct dune_stats *)(block + DUNE_STATS_OFFSET);
	pc->host_rsp = (uint64_t)block + DUNE_BLOCK_SIZE;
	pc->vcpu_fd = -1;
	pc->stack_first = ~0ULL;	/* none is known to take trap frames */
	pc->altstack.flags = SS_DISABLE;

	*err = (int)__dune_syscall3(SYS_mprotect, block + DUNE_GUARD_OFFSET, 4096, PROT_NONE);
	if (!*err)
		*err = track(pc);
	if (!*err)
		*err = __dune_vcpu_create(pc);
	if (!*err)
		*err = __dune_map_range((uint64_t)pc, DUNE_BLOCK_SIZE);
	if (!*err)
		return pc;
	__dune_block_destroy(pc);
	return NULL;
}

/* Not under the feet of the caller: see leave() in calls.c for that. */
void __dune_block_destroy(struct dune_percpu *pc)
{
	__dune_block_forget(pc);
	__dune_own3(SYS_munmap, pc, DUNE_BLOCK_SIZE, 0);
}

/* The descriptor goes, and the registry's entry. */
void __dune_block_forget(struct dune_percpu *pc)
{
	int fd = pc->vcpu_fd;

	if (fd >= 0)
		__dune_apic_set(pc->apic_id, -1);
	pc->vcpu_fd = -1;
	untrack(pc);
	if (fd >= 0)
		__dune_own3(SYS_close, fd, 0, 0);
}

bool __dune_is_only_block(const struct dune_percpu *pc)
{
	uint32_t nr = __atomic_load_n(&nr_blocks, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < nr; i++)
		if (block_at(i) && block_at(i) != pc)
			return false;
	return true;
}

/*
 * The only thread in Dune mode is about to end the process or its address space:
 * let go of the VM now.  An address space that ends with an MMU notifier waits for
 * a grace period.  Not if there are other threads, which may still run: false.
 */
bool __dune_release_vm(struct dune_percpu *pc)
{
	if (!__dune_is_only_block(pc))
		return false;
	__dune_own3(SYS_munmap, pc->run, DUNE_GUARD_OFFSET - DUNE_RUN_OFFSET, 0);
	__dune_own3(SYS_close, pc->vcpu_fd, 0, 0);
	__dune_own3(SYS_close, dune_fd, 0, 0);
	pc->vcpu_fd = -1;
	__atomic_store_n(&__dune_slots[pc->apic_id].vcpu_fd, 0, __ATOMIC_SEQ_CST);
	dune_fd = -1;
	return true;
}

/*
 * In the copy of a process: let go of the parent's VM, and of the blocks of
 * threads that were not copied.  @own: the caller's, which stays; or NULL.
 * Where the table of descriptors is not a copy they are still the parent's.
 */
void __dune_forget_parent(struct dune_percpu *own)
{
	uint32_t nr = __atomic_load_n(&nr_blocks, __ATOMIC_ACQUIRE);
	bool shared = own && own->shares_files;

	for (uint32_t i = 0; i < nr; i++) {
		struct dune_percpu *pc = block_at(i);

		if (!pc)
			continue;
		if (pc->vcpu_fd >= 0 && !shared)
			__dune_own3(SYS_close, pc->vcpu_fd, 0, 0);
		pc->vcpu_fd = -1;
		__dune_apic_set(i, -1);
		if (pc != own) {
			replace(&__dune_slots[i].block, pc, NULL);
			__dune_own3(SYS_munmap, pc, DUNE_BLOCK_SIZE, 0);
		}
	}
	__atomic_store_n(&__dune_nr_guests, own ? 1 : 0, __ATOMIC_RELEASE);
	__dune_vm_forked();
	if (dune_fd >= 0 && !shared)
		__dune_own3(SYS_close, dune_fd, 0, 0);
	dune_fd = -1;
}
