/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * The page allocator: sizes, alignment, reference counts, giving back to Linux, the
 * end of the pool, and threads.
 */
#include "../vm.h"

#define MANY	3000

static struct page *taken[MANY];

static void single(void)
{
	struct page *p = dune_page_alloc(), *q = dune_page_alloc();

	ktap_ok(p && q && p != q && p->ref == 1, "two pages, one reference each");
	ktap_ok(dune_page_isfrompool(dune_page2pa(p)) && !dune_page_isfrompool(0) &&
		!dune_page_isfrompool(dune_page2pa(p) + (8UL << 30)) &&
		!dune_page_isfrompool((physaddr_t)(uintptr_t)pgroot),
		"isfrompool: pages that can be allocated, and nothing else");
	ktap_ok(p - pages < num_pages && &pages[p - pages] == dune_pa2page(dune_page2pa(p) + 123),
		"pages[] and num_pages");
	memset(dune_page2va(p), 1, PGSIZE);
	ktap_ok(dune_page_get(p) == p && p->ref == 2, "get");
	dune_page_put(p);
	ktap_eq(p->ref, 1, "put");
	dune_page_put(p);
	ktap_eq(p->ref, 0, "the last put frees");
	dune_page_get(q);
	dune_page_free(q);
	ktap_eq(q->ref, 0, "free does, whatever the count");
}

static void many(void)
{
	unsigned int got = 0, distinct = 0;
	int before;

	for (unsigned int i = 0; i < MANY; i++) {
		taken[i] = dune_page_alloc();
		if (!taken[i])
			break;
		*(volatile unsigned int *)dune_page2va(taken[i]) = i;
		got++;
	}
	for (unsigned int i = 0; i < got; i++)
		distinct += *(volatile unsigned int *)dune_page2va(taken[i]) == i;
	ktap_eq(distinct, MANY, "%d pages, each its own", MANY);
	before = num_pages;
	for (unsigned int i = 0; i < got; i++)
		dune_page_free(taken[i]);
	for (unsigned int i = 0; i < MANY; i++)
		taken[i] = dune_page_alloc();
	ktap_eq(num_pages, before, "freed and taken again: the pool does not grow");
	for (unsigned int i = 0; i < MANY; i++)
		dune_page_free(taken[i]);
}

static void gives_back(void)
{
	struct page *big[8];
	unsigned char vec[1];
	unsigned int good = 0;
	void *va;

	for (int i = 0; i < 8; i++) {
		big[i] = dune_page_alloc_order(DUNE_ORDER_2M);
		good += big[i] && !(dune_page2pa(big[i]) & BIG_PGMASK);
		memset(dune_page2va(big[i]), i, BIG_PGSIZE);
	}
	ktap_eq(good, 8, "eight pages of 2 MB, aligned");
	va = dune_page2va(big[3]);
	ktap_ok(!mincore(va, PGSIZE, vec) && (vec[0] & 1), "their memory is there");
	for (int i = 0; i < 8; i++)
		dune_page_put(big[i]);
	ktap_ok(!mincore(va, PGSIZE, vec) && !(vec[0] & 1), "and goes back to Linux when they are free");
}

static void giant(void)
{
	struct page *g[4] = { }, *p;
	unsigned int got = 0;

	while (got < 4 && (g[got] = dune_page_alloc_order(DUNE_ORDER_1G)))
		got++;
	ktap_ok(got == 2 || got == 3, "%u pages of 1 GB from 4 GiB, then NULL", got);
	ktap_ok(got && !(dune_page2pa(g[0]) & GIANT_PGMASK), "aligned");
	*(volatile long *)((char *)dune_page2va(g[0]) + GIANT_PGSIZE - 8) = 5;
	ktap_ok(dune_page_get(g[0] + 12345) && g[0]->ref == 2, "a reference to a part is one to the whole");
	dune_page_put(g[0] + 1);
	p = dune_page_alloc();
	ktap_ok(p != NULL, "small pages are still to be had");
	dune_page_put(p);
	for (unsigned int i = 0; i < got; i++)
		dune_page_put(g[i]);
	ktap_ok(dune_page_alloc_order(1) == NULL && dune_page_alloc_order(27) == NULL,
		"an order that does not exist: NULL");
}

/* All of the pool, in pieces of 2 MB that nobody touches. */
static void end_of_pool(void)
{
	struct page *last = NULL, *pg;
	unsigned int n = 0, tables = 0;
	void *va = (void *)VM_FREE(0);
	ptent_t *clone;
	int ret;

	while ((pg = dune_page_alloc_order(DUNE_ORDER_2M))) {
		pg->link.sle_next = last;
		last = pg;
		n++;
	}
	ktap_ok(n > 1900 && n < 2048, "%u pages of 2 MB, then NULL", n);
	while (tables < 2000 && dune_page_alloc())
		tables++;
	ktap_ok(tables < 1024 && dune_page_alloc() == NULL, "%u more of 4 KB, then NULL", tables);
	ktap_eq(dune_vm_map_pages(pgroot, va, 1, PERM_R | PERM_W), -ENOMEM, "map_pages: ENOMEM");
	ktap_eq(dune_vm_map_phys(pgroot, (void *)0xffffc00000000000UL, PGSIZE, NULL, PERM_R), -ENOMEM,
		"map_phys without a table: ENOMEM");
	ret = dune_vm_lookup(pgroot, va, CREATE_NORMAL, &(ptent_t *){ NULL });
	ktap_eq(ret, -ENOMEM, "lookup that has to split: ENOMEM");
	clone = dune_vm_clone(pgroot);
	ktap_ok(clone == NULL, "clone: NULL");
	while (last) {
		pg = last;
		last = pg->link.sle_next;
		dune_page_free(pg);
	}
	ktap_eq(dune_vm_map_pages(pgroot, va, 1, PERM_R | PERM_W), 0, "and with free pages all works again");
	vm_write(va, 1);
	ktap_eq(vm_read(va), 1, "memory and all");
}

#define ROUNDS	3000

static struct page *common;

static void *churn(void *arg)
{
	unsigned long bad = 0, me = (unsigned long)arg;
	struct page *mine[16] = { };

	for (unsigned int k = 0; k < ROUNDS; k++) {
		struct page **p = &mine[k * 7 % 16];

		if (*p) {
			bad += *(volatile unsigned long *)dune_page2va(*p) != me;
			dune_page_put(*p);
		}
		*p = dune_page_alloc();
		*(volatile unsigned long *)dune_page2va(*p) = me;
		dune_page_get(common);
		dune_page_put(common);
	}
	return (void *)bad;
}

static void threads(void)
{
	unsigned long bad = 0;
	pthread_t t[3];
	void *ret;

	common = dune_page_alloc();
	for (unsigned long i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, churn, (void *)(i + 1));
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], &ret);
		bad += (unsigned long)ret;
	}
	ktap_ok(bad == 0 && common->ref == 1, "three threads: no page twice, no count lost");
	dune_page_stats();
}

int main(void)
{
	ktap_plan(1 + DUNE_TEST_ENTER + 7 + 2 + 3 + 5 + 1 + 8 + DUNE_TEST_LEAVE);
	ktap_ok(dune_page_alloc() == NULL, "no page before dune_init()");
	dune_test_enter();
	single();
	many();
	gives_back();
	giant();
	threads();
	end_of_pool();
	return dune_test_done();
}
