/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 icount spread=20 */
/*
 * A page fault that the program handles itself.  trap: from the store that faults to the
 * first instruction of the handler's work, SIGSEGV against #PF.  supply: a page that
 * was missing, made by the program, from the store to behind it: userfaultfd with a
 * thread that answers, against a #PF handler that maps the page.
 */
#define _GNU_SOURCE
#include "../vm.h"
#include "bench.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#define RW	(PERM_R | PERM_W)
#define TRAPS	200
#define PAGES	100

static volatile uint64_t reached;	/* what the counter showed in the handler */
static volatile unsigned int traps;
static unsigned char *page;

/* ---- trap ----------------------------------------------------------------- */

static void on_sigsegv(int sig)
{
	reached = bench_ticks();
	(void)sig;
	traps++;
	mprotect(page, PGSIZE, PROT_READ | PROT_WRITE);
}

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	ptent_t *pte = NULL;

	reached = bench_ticks();
	(void)fec;
	(void)tf;
	traps++;
	dune_vm_lookup(pgroot, (void *)addr, CREATE_NONE, &pte);
	*pte |= PTE_W;
	dune_flush_tlb_one(addr);
}

static void protect_natively(void)
{
	mprotect(page, PGSIZE, PROT_READ);
}

static void protect_in_dune(void)
{
	ptent_t *pte = NULL;

	dune_vm_lookup(pgroot, page, CREATE_NONE, &pte);
	*pte &= ~(ptent_t)PTE_W;
	dune_flush_tlb_one((uintptr_t)page);
}

static void measure_trap(struct bench *b, void (*protect)(void))
{
	long overhead = bench_overhead(), value[BENCH_BATCHES];

	traps = 0;
	for (int i = -1; i < BENCH_BATCHES; i++) {
		uint64_t ticks = 0;

		for (unsigned int k = 0; k < TRAPS; k++) {
			uint64_t start;

			protect();
			start = bench_ticks();
			*(volatile unsigned char *)page = 1;
			ticks += reached - start - (uint64_t)overhead;
		}
		if (i >= 0)
			value[i] = (long)(ticks / TRAPS);
	}
	*b = bench_of(value, BENCH_BATCHES);
}

/* ---- supply --------------------------------------------------------------- */

static unsigned char *area;

static void touch(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		*(volatile unsigned char *)(area + i * PGSIZE) = 1;
}

/* Each batch finds the pages missing. */
static void measure_supply(struct bench *b, void (*take_away)(void))
{
	const long operations = PAGES * BENCH_BATCHES;
	long overhead = bench_overhead(), value[BENCH_BATCHES], exits = 0;

	for (int i = -1; i < BENCH_BATCHES; i++) {
		long before;
		uint64_t start;

		take_away();
		before = bench_exits();
		start = bench_ticks();
		touch(PAGES, NULL);
		if (i < 0)
			continue;
		value[i] = ((long)(bench_ticks() - start) - overhead) / PAGES;
		exits += bench_exits() - before;
	}
	*b = bench_of(value, BENCH_BATCHES);
	if (bench_exits() >= 0)
		b->exits = (exits * 100 + operations / 2) / operations;
}

static void drop_natively(void)
{
	if (madvise(area, PAGES * PGSIZE, MADV_DONTNEED))
		ktap_bail("MADV_DONTNEED: %s", strerror(errno));
}

static void drop_in_dune(void)
{
	dune_vm_unmap(pgroot, area, PAGES * PGSIZE);
}

static void on_missing(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	(void)fec;
	(void)tf;
	traps++;
	if (dune_vm_map_pages(pgroot, (void *)(addr & ~PGMASK), PGSIZE, RW))
		_exit(3);
}

static int uffd;

static void *answer(void *arg)
{
	struct uffd_msg msg;

	(void)arg;
	while (read(uffd, &msg, sizeof(msg)) == (ssize_t)sizeof(msg)) {
		struct uffdio_zeropage zero = {
			.range = { .start = msg.arg.pagefault.address & ~PGMASK, .len = PGSIZE },
		};

		if (msg.event != UFFD_EVENT_PAGEFAULT || ioctl(uffd, UFFDIO_ZEROPAGE, &zero))
			_exit(3);
		traps++;
	}
	return NULL;
}

static void measure_uffd(struct bench *b)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg;
	pthread_t thread;

	area = vm_map(PAGES * PGSIZE);
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	reg = (struct uffdio_register){
		.range = { .start = (uintptr_t)area, .len = PAGES * PGSIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		ktap_bail("userfaultfd: %s", strerror(errno));
	if (pthread_create(&thread, NULL, answer, NULL))
		ktap_bail("pthread_create");
	traps = 0;
	measure_supply(b, drop_natively);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	close(uffd);
	munmap(area, PAGES * PGSIZE);
}

int main(void)
{
	struct bench native, dune, by_uffd, by_fault;
	unsigned int natively, supplied;

	ktap_plan(DUNE_TEST_ENTER + 4 + DUNE_TEST_LEAVE);
	bench_pin();
	page = vm_map(PGSIZE);
	*page = 1;
	signal(SIGSEGV, on_sigsegv);
	measure_trap(&native, protect_natively);
	natively = traps;
	signal(SIGSEGV, SIG_DFL);
	measure_uffd(&by_uffd);
	supplied = traps;

	dune_test_enter();
	/* Not the program's own memory: the kernel may take that away at any time. */
	page = (unsigned char *)VM_FREE(0);
	area = (unsigned char *)VM_FREE(1);
	if (dune_vm_map_pages(pgroot, page, PGSIZE, RW) ||
	    dune_vm_map_pages(pgroot, area, PAGES * PGSIZE, RW))
		ktap_bail("map_pages");
	*page = 1;
	dune_register_pgflt_handler(on_fault);
	measure_trap(&dune, protect_in_dune);
	ktap_ok(traps == natively && traps == TRAPS * (BENCH_BATCHES + 1),
		"each store reached its handler");
	dune_register_pgflt_handler(on_missing);
	traps = 0;
	measure_supply(&by_fault, drop_in_dune);
	ktap_ok(traps == supplied && traps == PAGES * (BENCH_BATCHES + 1), "each page was supplied");

	bench_report("trap_native", &native);
	bench_report("trap_dune", &dune);
	bench_report("supply_native", &by_uffd);
	bench_report("supply_dune", &by_fault);
	ktap_ok(dune.min < native.min, "a trap is cheaper than a signal");
	ktap_ok(by_fault.min < by_uffd.min, "a page is supplied cheaper than by userfaultfd");
	return dune_test_done();
}
