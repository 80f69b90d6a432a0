/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 icount */
/*
 * A switch to other page tables and back, with one page read in each: a load of CR3
 * that empties the TLB, and one that keeps it (PCID, CR3_NOFLUSH).  Natively what a
 * process has instead: a byte through a pipe to another process and back.
 */
#define _GNU_SOURCE
#include "../vm.h"
#include "bench.h"

#define SWITCHES	1000
#define ROUND_TRIPS	100

static const volatile unsigned char *page;
static unsigned long roots[2];

static void switch_roots(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		load_cr3(roots[1]);
		(void)*page;
		load_cr3(roots[0]);
		(void)*page;
	}
}

struct partner {
	pid_t pid;
	int to, from;
};

static struct partner start_partner(void)
{
	int there[2], back[2];
	char c;
	pid_t pid;

	if (pipe(there) || pipe(back))
		ktap_bail("pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		close(there[1]);
		while (read(there[0], &c, 1) == 1 && write(back[1], &c, 1) == 1)
			;
		_exit(0);
	}
	close(there[0]);
	close(back[1]);
	return (struct partner){ .pid = pid, .to = there[1], .from = back[0] };
}

static void switch_processes(unsigned int n, void *arg)
{
	const struct partner *p = arg;
	char c = 1;

	for (unsigned int i = 0; i < n; i++)
		if (write(p->to, &c, 1) != 1 || read(p->from, &c, 1) != 1)
			ktap_bail("the other process is gone");
}

static void measure_processes(struct bench *b)
{
	struct partner p = start_partner();

	bench_run(b, switch_processes, &p, ROUND_TRIPS);
	close(p.to);
	close(p.from);
	waitpid(p.pid, NULL, 0);
}

int main(void)
{
	struct bench native, plain, kept;
	ptent_t *other;

	ktap_plan(DUNE_TEST_ENTER + 2 + DUNE_TEST_LEAVE);
	bench_pin();
	measure_processes(&native);
	dune_test_enter();
	page = vm_map(PGSIZE);
	other = dune_vm_clone(pgroot);
	if (!other)
		ktap_bail("dune_vm_clone");
	roots[0] = dune_va_to_pa(pgroot);
	roots[1] = dune_va_to_pa(other);
	bench_run(&plain, switch_roots, NULL, SWITCHES);
	bench_report("switch_roots_native", &native);
	bench_report("switch_roots_dune", &plain);
	ktap_eq(plain.exits, 0, "tables are switched without an exit");
	if (dune_enable_pcid(0)) {
		ktap_skip("the same with PCIDs", "the CPU has none; Bochs' models do");
		return dune_test_done();
	}
	roots[0] |= 1 | CR3_NOFLUSH;
	roots[1] |= 2 | CR3_NOFLUSH;
	bench_run(&kept, switch_roots, NULL, SWITCHES);
	load_cr3(dune_va_to_pa(pgroot));
	bench_report("switch_roots_pcid", &kept);
	ktap_eq(kept.exits, 0, "with PCIDs, too");
	return dune_test_done();
}
