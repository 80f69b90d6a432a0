/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * What the TLB keeps and what it forgets: an entry is edited by hand to show
 * another page, and the memory tells which of the two the CPU uses.
 *
 * A CPU may forget at any time, so each "keeps" is tried several times.  QEMU's TCG
 * has no PCID: there dune_enable_pcid() must say so.  Bochs has, but its TLB has no
 * place for them: it forgets all at every load of CR3 and INVPCID.
 */
#define _GNU_SOURCE
#include "../vm.h"

#include <sys/ioctl.h>

#define RW	(PERM_R | PERM_W)
#define TRIES	50

static unsigned char *at = (unsigned char *)VM_FREE(0);
static physaddr_t page_a, page_b;
static ptent_t *pte;		/* of `at` in pgroot */
static uint64_t features;
static uint32_t vendor;

static void set(ptent_t *e, physaddr_t pa)
{
	*(volatile ptent_t *)e = pa | PTE_P | PTE_W | PTE_A | PTE_D;
}

/* 'a' or 'b' */
static int see(void)
{
	return *(volatile unsigned char *)at;
}

/* Does the CPU still show page A after @how, once the entry is B's? */
static bool keeps(void (*how)(void))
{
	for (int i = 0; i < TRIES; i++) {
		int seen;

		set(pte, page_a);
		dune_tlb_shootdown(at, PGSIZE);
		if (see() != 'a')
			return false;
		set(pte, page_b);
		how();
		seen = see();
		set(pte, page_a);
		dune_tlb_shootdown(at, PGSIZE);
		if (seen == 'a')
			return true;
	}
	return false;
}

/* Never A, in any try. */
static bool forgets(void (*how)(void))
{
	return !keeps(how);
}

static void nothing(void)
{
}

static void one(void)
{
	dune_flush_tlb_one((unsigned long)at + 100);
}

static void other(void)
{
	dune_flush_tlb_one((unsigned long)at + PGSIZE);
}

static void all(void)
{
	dune_flush_tlb();
}

static void shootdown(void)
{
	dune_tlb_shootdown(at + 1, 1);
}

static void shootdown_many(void)
{
	dune_tlb_shootdown(at - 100 * PGSIZE, 200 * PGSIZE);
}

static void remap(void)
{
	dune_vm_mprotect(pgroot, at, 1, RW);
}

static void remap_many(void)
{
	dune_vm_mprotect(pgroot, at - 40 * PGSIZE, 80 * PGSIZE, RW);
}

static void local(void)
{
	ktap_ok(keeps(nothing), "an edited entry without a flush: the old page");
	if (!keeps(other) && vendor == DUNE_VENDOR_SVM)
		ktap_skip("INVLPG of another page", "QEMU forgets all once there were large pages");
	else
		ktap_ok(keeps(other), "INVLPG of another page: still");
	ktap_ok(forgets(one), "INVLPG of any byte of it: the new one, always");
	ktap_ok(forgets(all), "a load of CR3: the new one, always");
	ktap_ok(forgets(shootdown), "dune_tlb_shootdown() of one byte");
	ktap_ok(forgets(shootdown_many), "and of many pages");
	ktap_ok(forgets(remap), "dune_vm_mprotect()");
	ktap_ok(forgets(remap_many), "and of many pages");
}

static ptent_t *clone_root;

static void there_and_back(void)
{
	load_cr3(dune_va_to_pa(clone_root));
	load_cr3(dune_va_to_pa(pgroot));
}

static void two_roots(void)
{
	clone_root = dune_vm_clone(pgroot);
	ktap_ok(forgets(there_and_back), "other tables and back, without PCIDs: forgotten");
	set(vm_entry(clone_root, at), page_b);
	set(pte, page_a);
	dune_flush_tlb();
	load_cr3(dune_va_to_pa(clone_root));
	ktap_eq(see(), 'b', "each root shows its own page");
	load_cr3(dune_va_to_pa(pgroot));
	ktap_eq(see(), 'a', "and back");
}

/* ---- PCIDs: pgroot is 1, the clone 2 -------------------------------------- */

#define PCID_ROOT	1UL
#define PCID_CLONE	2UL

static void to_root(bool flush)
{
	load_cr3(dune_va_to_pa(pgroot) | PCID_ROOT | (flush ? 0 : CR3_NOFLUSH));
}

static void to_clone(bool flush)
{
	load_cr3(dune_va_to_pa(clone_root) | PCID_CLONE | (flush ? 0 : CR3_NOFLUSH));
}

static void pcid_no_flush(void)
{
	to_clone(false);
	to_root(false);
}

static void pcid_flush(void)
{
	to_clone(false);
	to_root(true);
}

static void pcid_flush_other(void)
{
	to_clone(true);
	to_root(false);
}

static void invpcid_addr(void)
{
	dune_invpcid(INVPCID_ADDR, PCID_ROOT, (unsigned long)at);
}

static void invpcid_addr_1(void)
{
	__invpcid(INVPCID_ADDR, (unsigned long)at);
}

static void invpcid_other_addr(void)
{
	dune_invpcid(INVPCID_ADDR, PCID_ROOT, (unsigned long)at + PGSIZE);
}

static void invpcid_other_pcid(void)
{
	dune_invpcid(INVPCID_ADDR, PCID_CLONE, (unsigned long)at);
}

static void invpcid_context(void)
{
	dune_invpcid(INVPCID_CONTEXT, PCID_ROOT, 0);
}

static void invpcid_other_context(void)
{
	dune_invpcid(INVPCID_CONTEXT, PCID_CLONE, 0);
}

static void invpcid_all(void)
{
	dune_invpcid(INVPCID_ALL, 0, 0);
}

static void invpcid_all_global(void)
{
	dune_invpcid(INVPCID_ALL_GLOBAL, 0, 0);
}

/* The clone's tables are edited while pgroot runs. */
static bool edit_of_other_root(void)
{
	ptent_t *e = vm_entry(clone_root, at);
	int seen;

	for (int i = 0; i < TRIES; i++) {
		set(e, page_a);
		to_clone(true);
		see();
		to_root(false);
		set(e, page_b);
		dune_vm_mprotect(clone_root, at, 1, RW | PERM_USR1);
		to_clone(false);
		seen = see();
		to_root(false);
		if (seen != 'b')
			return false;
	}
	return true;
}

#define PCID_TESTS	12

static bool tlb_has_pcids;

static void must_keep(void (*how)(void), const char *what)
{
	if (tlb_has_pcids)
		ktap_ok(keeps(how), "%s: kept", what);
	else
		ktap_skip(what, "this CPU forgets all at a load of CR3, even with NOFLUSH");
}

static void pcids(void)
{
	int ret = dune_enable_pcid(0);

	if (!(features & DUNE_FEAT_PCID)) {
		ktap_ok(ret == -ENOTSUP && dune_enable_pcid(DUNE_WANT_INVPCID) == -ENOTSUP,
			"the CPU has no PCIDs, and dune_enable_pcid() says ENOTSUP");
		ktap_ok(forgets(pcid_no_flush) && dune_read_cr3() == dune_va_to_pa(pgroot),
			"loads of CR3 with a PCID and NOFLUSH are made without");
		for (int i = 2; i < PCID_TESTS; i++)
			ktap_skip("PCID", "the CPU has none");
		return;
	}
	ktap_eq(ret, 0, "dune_enable_pcid()");
	to_root(true);
	tlb_has_pcids = keeps(pcid_no_flush);
	ktap_fact("tlb_has_pcids", "%d", tlb_has_pcids);
	must_keep(pcid_no_flush, "other tables and back with NOFLUSH");
	ktap_ok(forgets(pcid_flush), "without NOFLUSH: forgotten");
	must_keep(pcid_flush_other, "a flush of the other PCID");
	ktap_ok(edit_of_other_root(), "dune_vm_mprotect() of tables that do not run flushes their PCID");
	ret = dune_enable_pcid(DUNE_WANT_INVPCID);
	if (!(features & DUNE_FEAT_INVPCID)) {
		ktap_eq(ret, -ENOTSUP, "the CPU has no INVPCID, and dune_enable_pcid() says ENOTSUP");
		for (int i = 6; i < PCID_TESTS; i++)
			ktap_skip("INVPCID", "the CPU has none");
	} else {
		ktap_eq(ret, 0, "and INVPCID");
		ktap_ok(forgets(invpcid_addr) && forgets(invpcid_addr_1), "INVPCID of the address: forgotten");
		must_keep(invpcid_other_addr, "INVPCID of another address");
		must_keep(invpcid_other_pcid, "INVPCID of another PCID");
		ktap_ok(forgets(invpcid_context), "of the PCID: forgotten");
		must_keep(invpcid_other_context, "INVPCID of the other");
		ktap_ok(forgets(invpcid_all) && forgets(invpcid_all_global), "of all: forgotten");
	}
	load_cr3(dune_va_to_pa(pgroot));
}

int main(void)
{
	unsigned char *pool;
	struct page *a, *b;
	struct dune_info info;

	ktap_plan(DUNE_TEST_ENTER + 8 + 3 + PCID_TESTS + 2 + DUNE_TEST_LEAVE);
	ktap_eq(dune_tlb_shootdown(at, 1), -EINVAL, "dune_tlb_shootdown() before dune_init(): EINVAL");
	ktap_eq(dune_enable_pcid(0), -EINVAL, "dune_enable_pcid() outside Dune mode: EINVAL");
	dune_test_enter();
	if (ioctl(dune_fd, DUNE_GET_INFO, &info))
		ktap_bail("DUNE_GET_INFO");
	features = info.features;
	vendor = info.vendor;
	a = dune_page_alloc();
	b = dune_page_alloc();
	pool = dune_page2va(a);
	memset(pool, 'a', PGSIZE);
	memset(dune_page2va(b), 'b', PGSIZE);
	page_a = dune_page2pa(a);
	page_b = dune_page2pa(b);
	if (dune_vm_lookup(pgroot, at, CREATE_NORMAL, &pte) ||
	    dune_vm_map_phys(pgroot, at, PGSIZE, (void *)page_a, RW))
		ktap_bail("no entry");

	local();
	two_roots();
	pcids();
	return dune_test_done();
}
