/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=4 timeout=180 slow-bochs=80 thorough */
/*
 * Page tables that several threads edit and use at once: a shootdown reaches a
 * thread that spins and one that sleeps in the kernel, neighbours in one table do
 * not disturb each other, lookups go on while tables come and go, and a fork in the
 * middle leaves the child with tables that work.
 */
#define _GNU_SOURCE
#include "../vm.h"

#define RW	(PERM_R | PERM_W)
#define THREADS	3

static unsigned char *at;
static volatile unsigned int ready, stop;
static volatile int seen;

static void wait_ready(unsigned int n)
{
	while (ready < n)
		sched_yield();
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	if (pthread_create(t, NULL, fn, arg))
		ktap_bail("pthread_create: %s", strerror(errno));
}

/* ---- shootdown -------------------------------------------------------- */

static void *spinner(void *arg)
{
	(void)arg;
	seen = at[0];
	ready = 1;
	while (!stop)
		seen = *(volatile unsigned char *)at;
	return NULL;
}

static void set_page(ptent_t *pte, struct page *pg)
{
	*(volatile ptent_t *)pte = dune_page2pa(pg) | PTE_P | PTE_W | PTE_A | PTE_D;
}

/* Does a thread that does nothing but read see page B within a second of host time? */
static bool becomes(int want)
{
	struct timespec nap = { .tv_nsec = 1000000 };

	for (int i = 0; i < 5000 && seen != want; i++)
		nanosleep(&nap, NULL);
	return seen == want;
}

static void spinning(struct page *a, struct page *b)
{
	ptent_t *pte;
	pthread_t t;

	ready = stop = 0;
	pte = vm_entry(pgroot, at);
	set_page(pte, a);
	start(&t, spinner, NULL);
	wait_ready(1);
	ktap_eq(becomes('a'), true, "a spinning thread sees page A");
	set_page(pte, b);
	ktap_eq(dune_tlb_shootdown(at, 1), 0, "dune_tlb_shootdown()");
	/* It returned: nothing that is read from now on comes from A. */
	seen = 0;
	ktap_ok(becomes('b') && seen != 'a', "and then B");
	set_page(pte, a);
	dune_vm_mprotect(pgroot, at, 1, RW | PERM_USR1);
	seen = 0;
	ktap_ok(becomes('a'), "an edit by dune_vm_mprotect() reaches it by itself");
	stop = 1;
	pthread_join(t, NULL);
}

static int pipes[2];

static void *sleeper(void *arg)
{
	char c;

	(void)arg;
	seen = at[0];
	ready = 1;
	if (read(pipes[0], &c, 1) != 1)
		return NULL;
	seen = *(volatile unsigned char *)at;
	return NULL;
}

static void sleeping(struct page *a, struct page *b)
{
	ptent_t *pte = vm_entry(pgroot, at);
	unsigned int good = 0;
	pthread_t t;

	if (pipe(pipes))
		ktap_bail("pipe");
	for (int i = 0; i < 10; i++) {
		struct timespec nap = { .tv_nsec = 5000000 };

		ready = 0;
		set_page(pte, a);
		dune_tlb_shootdown(at, 1);
		start(&t, sleeper, NULL);
		wait_ready(1);
		nanosleep(&nap, NULL);
		set_page(pte, b);
		dune_tlb_shootdown(at, 1);
		good += seen == 'a' && write(pipes[1], "", 1) == 1;
		pthread_join(t, NULL);
		good += seen == 'b';
	}
	ktap_eq(good, 20, "a thread asleep in read() sees page B when it wakes, ten times");
}

/* ---- neighbours ------------------------------------------------------- */

#define ROUNDS	2000

static void *neighbour(void *arg)
{
	unsigned long i = (unsigned long)arg, bad = 0;
	ptent_t *pte = vm_entry(pgroot, at + i * PGSIZE);

	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	while (!stop)
		asm volatile("pause");
	for (unsigned int k = 0; k < ROUNDS; k++) {
		int perm = k & 1 ? RW : PERM_R | PERM_USR2;

		bad += dune_vm_mprotect(pgroot, at + i * PGSIZE, PGSIZE, perm) != 0;
		bad += vm_entry(pgroot, at + i * PGSIZE) != pte;
		bad += ((*pte & PTE_USR2) == 0) != (k & 1) || ((*pte & PTE_W) != 0) != (k & 1);
		if (k & 1)
			vm_write(at + i * PGSIZE, k);
		bad += vm_read(at + i * PGSIZE) != (k & 1 ? k : k ? k - 1 : 0);
	}
	return (void *)bad;
}

static void neighbours(void)
{
	pthread_t t[THREADS];
	unsigned long bad = 0;

	ready = stop = 0;
	dune_vm_map_pages(pgroot, at, 16 * PGSIZE, RW);
	for (unsigned long i = 0; i < THREADS; i++)
		start(&t[i], neighbour, (void *)i);
	wait_ready(THREADS);
	stop = 1;
	for (int i = 0; i < THREADS; i++) {
		void *ret;

		pthread_join(t[i], &ret);
		bad += (unsigned long)ret;
	}
	ktap_eq(bad, 0, "%d threads, %d edits each of neighbouring pages: all as they should", THREADS,
		ROUNDS);
	dune_vm_unmap(pgroot, at, 16 * PGSIZE);
}

/* ---- tables that come and go ------------------------------------------ */

static void *mapper(void *arg)
{
	unsigned char *mine = (unsigned char *)VM_FREE(4) + (unsigned long)arg * BIG_PGSIZE;
	unsigned long bad = 0;

	for (unsigned int k = 0; k < 300; k++) {
		bad += dune_vm_map_pages(pgroot, mine, 4 * PGSIZE, RW) != 0;
		vm_write(mine + PGSIZE, k);
		bad += vm_read(mine + PGSIZE) != k;
		dune_vm_unmap(pgroot, mine, 4 * PGSIZE);
	}
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	return (void *)bad;
}

static void come_and_go(void)
{
	unsigned long bad = 0, lookups = 0, found = 0;
	pthread_t t[THREADS];
	ptent_t *pte;

	dune_vm_unmap(pgroot, (void *)VM_FREE(4), GIANT_PGSIZE);
	ready = 0;
	for (unsigned long i = 0; i < THREADS; i++)
		start(&t[i], mapper, (void *)i);
	while (ready < THREADS) {
		unsigned char *p = (unsigned char *)VM_FREE(4) + lookups++ % THREADS * BIG_PGSIZE;
		int ret = dune_vm_lookup(pgroot, p, CREATE_NONE, &pte);

		bad += ret != 0 && ret != -ENOENT;
		found += !ret;
		if (lookups % 64 == 0)
			sched_yield();
	}
	for (int i = 0; i < THREADS; i++) {
		void *ret;

		pthread_join(t[i], &ret);
		bad += (unsigned long)ret;
	}
	ktap_note("%lu lookups, %lu found a table", lookups, found);
	ktap_eq(bad, 0, "lookups while %d threads make tables and free them", THREADS);
	ktap_eq(dune_vm_lookup(pgroot, (void *)VM_FREE(4), CREATE_NONE, &pte), -ENOENT,
		"and no table is left");
}

/* ---- fork ------------------------------------------------------------- */

static void forks(void)
{
	pthread_t t[2];
	unsigned int good = 0;

	ready = 0;
	for (unsigned long i = 0; i < 2; i++)
		start(&t[i], mapper, (void *)i);
	for (int i = 0; i < 8; i++) {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0) {
			unsigned char *p = (unsigned char *)VM_FREE(5);
			ptent_t *pte;
			bool ok;

			alarm(60);
			ok = !dune_vm_map_pages(pgroot, p, 4 * PGSIZE, RW) &&
			     !dune_vm_mprotect(pgroot, p, 4 * PGSIZE, PERM_R) &&
			     !dune_vm_lookup(pgroot, p, CREATE_NONE, &pte) && !(*pte & PTE_W);
			dune_vm_unmap(pgroot, p, 4 * PGSIZE);
			dune_vm_free(dune_vm_clone(pgroot));
			_exit(ok && dune_in_guest() ? 33 : 34);
		}
		waitpid(pid, &status, 0);
		good += WIFEXITED(status) && WEXITSTATUS(status) == 33;
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	ktap_eq(good, 8, "children of forks in the middle of edits have tables that work");
}

int main(void)
{
	struct page *a, *b;

	ktap_plan(DUNE_TEST_ENTER + 4 + 1 + 1 + 2 + 1 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_pgflt_handler(vm_on_fault);
	at = (unsigned char *)VM_FREE(0);
	a = dune_page_alloc();
	b = dune_page_alloc();
	memset(dune_page2va(a), 'a', PGSIZE);
	memset(dune_page2va(b), 'b', PGSIZE);
	if (dune_vm_map_phys(pgroot, at, PGSIZE, (void *)dune_page2pa(a), RW))
		ktap_bail("map_phys");
	spinning(a, b);
	sleeping(a, b);
	set_page(vm_entry(pgroot, at), a);
	dune_tlb_shootdown(at, 1);
	dune_vm_unmap(pgroot, at, PGSIZE);
	neighbours();
	come_and_go();
	forks();
	return dune_test_done();
}
