// SPDX-License-Identifier: MIT
/* Modes, page faults, and what libgc calls: dune_gc_hooks.h. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define BATCH	16	/* pages opened at one fault */

const struct dune_gc_client *gc_client;
struct dune_gc_stats gc_stats;

static const char *const names[] = { "off", "faults", "batched", "bits" };
static enum dune_gc_mode mode;
static int wanted = -1;			/* dune_gc_set_mode(); -1: the environment */
static bool unflushed;

static bool in_ring0(void)
{
	unsigned int cs;

	asm("mov %%cs, %0" : "=r"(cs));
	return !(cs & 3);
}

void gc_fail(const char *what, int error)
{
	dune_printf("libdunegc: %s: %s (%d)\n", what, strerror(-error), error);
	_exit(70);
}

void dune_gc_set_mode(enum dune_gc_mode m)
{
	wanted = m;
}

enum dune_gc_mode dune_gc_mode(void)
{
	return mode;
}

void dune_gc_get_stats(struct dune_gc_stats *stats)
{
	*stats = gc_stats;
}

bool dune_gc_was_dirty(const void *addr)
{
	return gc_client && gc_client->was_dirty((void *)PGADDR(addr));
}

/* ---- beginning --------------------------------------------------------- */

static int chosen(void)
{
	const char *name = getenv("GC_DUNE_MODE");

	if (wanted >= 0 || !name)
		return wanted < 0 ? DUNE_GC_OFF : wanted;
	for (int i = DUNE_GC_OFF; i <= DUNE_GC_BITS; i++)
		if (!strcmp(name, names[i]))
			return i;
	dune_printf("libdunegc: GC_DUNE_MODE=%s: it is off, faults, batched or bits\n", name);
	_exit(64);
}

static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && strcmp(value, "0");
}

static bool alone(void)
{
	DIR *tasks = opendir("/proc/self/task");
	int n = 0;

	if (!tasks)
		return false;
	while (readdir(tasks))
		n++;
	closedir(tasks);
	return n == 3;		/* with . and .. */
}

static int enter(void)
{
	int ret;

	if (in_ring0())
		return 0;
	if (!alone())
		return -EBUSY;
	ret = dune_init(true);
	return ret ? ret : dune_enter();
}

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	if (!dune_gc_fault(addr, fec))
		dune_vm_default_pgflt_handler(addr, fec, tf);
}

int dune_gc_begin(const struct dune_gc_client *client)
{
	int m = chosen(), ret;

	if (m == DUNE_GC_OFF || mode != DUNE_GC_OFF)
		return mode;
	ret = enter();
	if (ret) {
		dune_printf("libdunegc: GC_DUNE_MODE=%s, but no Dune mode: %s (%d)%s\n", names[m],
			    ret == -EBUSY ? "busy, or there are other threads" : strerror(-ret),
			    ret, is_set("GC_DUNE_FALLBACK") ? "; going on without" : "");
		if (!is_set("GC_DUNE_FALLBACK"))
			_exit(70);
		return DUNE_GC_OFF;
	}
	gc_client = client;
	mode = m;
	if (mode != DUNE_GC_BITS)
		dune_register_pgflt_handler(on_fault);
	if (!getenv("GC_DUNE_SYSCALLS") || is_set("GC_DUNE_SYSCALLS"))
		calls_begin();
	return mode;
}

void dune_gc_add(void *start, size_t bytes)
{
	int ret = entries_add((uintptr_t)start, bytes);

	if (ret)
		gc_fail("page tables for the heap", ret);
}

/* ---- protection ---------------------------------------------------------- */

static void flush(uintptr_t start, size_t bytes)
{
	int ret = dune_tlb_shootdown((void *)start, bytes);

	if (ret)
		gc_fail("flushing TLBs", ret);
	count(&gc_stats.flushes, 1);
}

/*
 * This thread's whole TLB, but for global pages, of which the heap has none; of others
 * all they have.
 */
static void flush_all(void)
{
	dune_flush_tlb();
	flush(0, 1);
}

void dune_gc_protect(void *start, size_t bytes, int writable)
{
	uintptr_t at = (uintptr_t)start;
	uint64_t n = 0;

	if (!writable) {
		n = entries_close(at, bytes);
		count(&gc_stats.closed, n);
		if (n && mode == DUNE_GC_FAULTS)
			flush(at, bytes);
		unflushed |= n && mode == DUNE_GC_BATCHED;
		return;
	}
	/* Who still has the old entry in its TLB finds it good at its fault: dune_gc_fault(). */
	for (; at < (uintptr_t)start + bytes; at += PGSIZE) {
		ptent_t *entry = entry_at(at);

		if (!entry || !entry_open(entry))
			continue;
		dune_flush_tlb_one(at);
		n++;
	}
	count(&gc_stats.opened, n);
}

static void grungy(uintptr_t start, uintptr_t end)
{
	for (uintptr_t at = PGADDR(start); at < end; at += PGSIZE)
		gc_client->grungy((void *)at);
}

/* All entries are as they shall be: let all threads see it. */
static void settle(bool tell)
{
	if (unflushed)
		flush_all();
	unflushed = false;
	if (tell)
		calls_in_flight(grungy, gc_client->all_grungy);
}

void dune_gc_protected(int tell)
{
	settle(tell);
}

/*
 * A thread may be stopped anywhere here, and the collector take what is dirty and close all
 * pages meanwhile.  Marked dirty only before, the page would be open and clean; only after,
 * another thread could write to it before it is marked.
 */
static bool open_page(uintptr_t page, bool asked)
{
	ptent_t *entry = entry_at(page);
	bool opened;

	if (!entry || !(__atomic_load_n(entry, __ATOMIC_RELAXED) & CLOSED))
		return false;
	if (!gc_client->dirty((void *)page) && !asked)
		return false;
	opened = entry_open(entry);
	gc_client->dirty((void *)page);
	return opened;
}

/* The address of the last fault that found everything in order. */
static __thread uintptr_t spurious;

bool dune_gc_fault(uintptr_t addr, uint64_t fec)
{
	size_t batch = mode == DUNE_GC_BATCHED ? BATCH : 1;
	uintptr_t first = addr & ~(batch * PGSIZE - 1);
	uint64_t n = 0;

	if ((fec & (FEC_P | FEC_W | FEC_RSV)) != (FEC_P | FEC_W) || !entry_at(addr))
		return false;
	for (uintptr_t at = first; at < first + batch * PGSIZE; at += PGSIZE)
		n += open_page(at, at == PGADDR(addr));
	if (!n && spurious == addr) {	/* not ours: the process's mapping forbids it */
		spurious = 0;
		return false;
	}
	spurious = n ? 0 : addr;
	dune_flush_tlb_one(addr);
	count(&gc_stats.faults, 1);
	count(&gc_stats.spurious, !n);
	count(&gc_stats.opened, n);
	return true;
}

/* ---- D bits --------------------------------------------------------------- */

void dune_gc_take(void *start, size_t bytes, int tell)
{
	uint64_t n = entries_take((uintptr_t)start, bytes, tell ? gc_client->grungy : NULL);

	count(&gc_stats.read, bytes / PGSIZE);
	count(&gc_stats.dirty, n);
	unflushed |= n;
}

void dune_gc_taken(int tell)
{
	settle(tell);
}

/* ---- writes that no entry knows of ------------------------------------------ */

void gc_written(uintptr_t start, uintptr_t end)
{
	if (mode == DUNE_GC_BITS) {
		entries_dirty(start, end - start);
		return;
	}
	for (uintptr_t at = PGADDR(start); at < end; at += PGSIZE)
		if (!open_page(at, true))
			gc_client->dirty((void *)at);
}
