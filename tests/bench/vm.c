/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=300 icount spread=100 */
/*
 * Page tables in the process's own hands: a lookup, edits of 1, 100 and 10,000 pages
 * against mprotect(2), and the two loops of Appel and Li, per 100 pages.  PROT1:
 * protect one page, fault on it, unprotect it in the handler.  PROTN: protect all at
 * once, then fault on each.  In Dune mode the handler is that of the original's
 * bench_dune; natively it is one for SIGSEGV, and pages are protected by mprotect(2):
 * that splits and joins mappings, and what frees them comes when RCU likes, hence the spread.
 */
#define _GNU_SOURCE
#include "../vm.h"
#include "bench.h"

#include <sys/prctl.h>

#define NR	100
#define MANY	10000
#define RW	(PERM_R | PERM_W)
#define SIZES	3

static unsigned char *mem;

static const struct {
	const char *name;
	unsigned int pages, times;
} sizes[SIZES] = { { "1", 1, 1000 }, { "100", NR, 20 }, { "10000", MANY, 2 } };

static void edit(unsigned int n, void *arg)
{
	size_t len = *(const unsigned int *)arg * PGSIZE;

	for (unsigned int i = 0; i < n; i++)
		dune_vm_mprotect(pgroot, mem, len, i & 1 ? RW : PERM_R);
}

static void edit_natively(unsigned int n, void *arg)
{
	size_t len = *(const unsigned int *)arg * PGSIZE;

	for (unsigned int i = 0; i < n; i++)
		mprotect(mem, len, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ);
}

static void lookup(unsigned int n, void *arg)
{
	ptent_t *pte;

	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		dune_vm_lookup(pgroot, mem, CREATE_NONE, &pte);
}

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	ptent_t *pte = NULL;

	(void)fec;
	(void)tf;
	dune_vm_lookup(pgroot, (void *)addr, CREATE_NONE, &pte);
	*pte |= PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
	dune_flush_tlb_one(addr);
	vm_fault.count++;
}

static void on_sigsegv(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	mprotect((void *)((uintptr_t)info->si_addr & ~PGMASK), PGSIZE, PROT_READ | PROT_WRITE);
	vm_fault.count++;
}

static void prot1(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		for (unsigned int k = 0; k < NR; k++) {
			dune_vm_mprotect(pgroot, mem + k * PGSIZE, PGSIZE, PERM_R);
			mem[k * PGSIZE] = 1;
		}
}

static void prot1_natively(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		for (unsigned int k = 0; k < NR; k++) {
			mprotect(mem + k * PGSIZE, PGSIZE, PROT_READ);
			mem[k * PGSIZE] = 1;
		}
}

static void touch_all(void)
{
	for (unsigned int k = 0; k < NR; k++)
		mem[k * PGSIZE] = 1;
}

static void protn(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		dune_vm_mprotect(pgroot, mem, NR * PGSIZE, PERM_R);
		touch_all();
	}
}

static void protn_natively(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		mprotect(mem, NR * PGSIZE, PROT_READ);
		touch_all();
	}
}

/* One per page, in each of the batches of @n. */
static void faults_counted(unsigned int n, const char *what)
{
	ktap_eq(vm_fault.count, (BENCH_BATCHES + 1) * n * NR, "%s: each write was a fault", what);
	vm_fault.count = 0;
}

static void report(const char *what, const char *size, const char *where, struct bench *b)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_%s%s", what, size, where);
	bench_report(name, b);
}

static void run_natively(void)
{
	struct sigaction act = { .sa_sigaction = on_sigsegv, .sa_flags = SA_SIGINFO };
	struct bench b;

	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		ktap_note("PR_SET_THP_DISABLE: %s", strerror(errno));
	mem = vm_map(MANY * PGSIZE);
	memset(mem, 1, MANY * PGSIZE);
	for (unsigned int i = 0; i < SIZES; i++) {
		bench_run(&b, edit_natively, (void *)&sizes[i].pages, sizes[i].times);
		report("mprotect", sizes[i].name, "_native", &b);
	}
	munmap(mem, MANY * PGSIZE);
	mem = vm_map(NR * PGSIZE);
	touch_all();
	sigaction(SIGSEGV, &act, NULL);
	bench_run(&b, prot1_natively, NULL, 1);
	bench_report("prot1_trap_unprot_100_native", &b);
	faults_counted(1, "PROT1 natively");
	bench_run(&b, protn_natively, NULL, 1);
	bench_report("protn_trap_unprot_100_native", &b);
	faults_counted(1, "PROTN natively");
	signal(SIGSEGV, SIG_DFL);
	munmap(mem, NR * PGSIZE);
}

int main(void)
{
	struct bench b;

	ktap_plan(DUNE_TEST_ENTER + 4 + DUNE_TEST_LEAVE);
	bench_pin();
	run_natively();
	dune_test_enter();
	mem = (unsigned char *)VM_FREE(0);
	if (dune_vm_map_pages(pgroot, mem, MANY * PGSIZE, RW))
		ktap_bail("map_pages");
	memset(mem, 1, MANY * PGSIZE);

	bench_run(&b, lookup, NULL, 1000);
	bench_report("vm_lookup", &b);
	for (unsigned int i = 0; i < SIZES; i++) {
		bench_run(&b, edit, (void *)&sizes[i].pages, sizes[i].times);
		report("vm_mprotect", sizes[i].name, "", &b);
	}
	dune_vm_mprotect(pgroot, mem, MANY * PGSIZE, RW);
	dune_register_pgflt_handler(on_fault);
	bench_run(&b, prot1, NULL, 10);
	bench_report("prot1_trap_unprot_100", &b);
	faults_counted(10, "PROT1");
	bench_run(&b, protn, NULL, 10);
	bench_report("protn_trap_unprot_100", &b);
	faults_counted(10, "PROTN");
	return dune_test_done();
}
