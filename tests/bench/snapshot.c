/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=300 icount spread=10 */
/*
 * A consistent copy of 8 MB that go on changing: fork() natively, libdunesnapshot in Dune
 * mode.
 *
 *	snapshot_take		until the program can go on: fork() returned in the parent
 *	snapshot_write		the first write to a page since
 *	snapshot_read		64 pages read where the copy is seen: in the child, in a view
 *	snapshot		all of it: take, write to 64 pages, read 64 pages, end
 *
 * The unit is a page, as for fork().
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <dune_snapshot.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define PAGE	4096UL
#define PAGES	2048UL
#define TURNS	15
#define CHANGED	64UL

static unsigned char *area;
static struct dune_heap *heap;
static unsigned long wrong;

/* What each of the turns cost, in ticks. */
struct costs {
	long take[TURNS], write[TURNS], read[TURNS], all[TURNS];
};

/* Each 32nd page: what is changed lies apart. */
static volatile unsigned char *changed(unsigned long i)
{
	return area + i * (PAGES / CHANGED) * PAGE;
}

static void write_pages(unsigned char value)
{
	for (unsigned long i = 0; i < CHANGED; i++)
		*changed(i) = value;
}

/* How many of them are not @arg. */
static int read_pages(void *arg)
{
	int bad = 0;

	for (unsigned long i = 0; i < CHANGED; i++)
		bad += *changed(i) != *(unsigned char *)arg;
	return bad;
}

static void by_fork(struct costs *c, int turn, unsigned char value)
{
	uint64_t start = bench_ticks(), taken, written, end;
	uint64_t *ticks = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			       -1, 0);
	int go[2], status = 0;
	char byte;
	pid_t pid;

	if (ticks == MAP_FAILED || pipe(go))
		ktap_bail("mmap or pipe: %s", strerror(errno));
	start = bench_ticks();
	pid = fork();
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(100);
		ticks[0] = bench_ticks();
		status = read_pages(&value);
		ticks[1] = bench_ticks();
		_exit(status);
	}
	taken = bench_ticks();
	write_pages(value + 1);
	written = bench_ticks();
	if (pid < 0 || write(go[1], "", 1) != 1)
		ktap_bail("fork: %s", strerror(errno));
	waitpid(pid, &status, 0);
	end = bench_ticks();
	wrong += !WIFEXITED(status) || WEXITSTATUS(status);
	c->take[turn] = (long)(taken - start);
	c->write[turn] = (long)(written - taken) / (long)CHANGED;
	c->read[turn] = (long)(ticks[1] - ticks[0]);
	c->all[turn] = (long)(end - start);
	munmap(ticks, PAGE);
	close(go[0]);
	close(go[1]);
}

static void by_snapshot(struct costs *c, int turn, unsigned char value)
{
	uint64_t start = bench_ticks(), taken, written, seen, end;
	struct dune_snapshot *s;

	if (dune_snapshot_take(heap, &s))
		ktap_bail("dune_snapshot_take");
	taken = bench_ticks();
	write_pages(value + 1);
	written = bench_ticks();
	wrong += dune_snapshot_view(s, read_pages, &value) != 0;
	seen = bench_ticks();
	dune_snapshot_free(s);
	end = bench_ticks();
	c->take[turn] = (long)(taken - start);
	c->write[turn] = (long)(written - taken) / (long)CHANGED;
	c->read[turn] = (long)(seen - written);
	c->all[turn] = (long)(end - start);
}

static void measure(struct costs *c, void (*by)(struct costs *, int, unsigned char))
{
	for (unsigned long i = 0; i < PAGES; i++)
		area[i * PAGE] = 1;
	write_pages(0);
	by(c, 0, 0);
	for (int turn = 0; turn < TURNS; turn++)
		by(c, turn, (unsigned char)(turn + 1));
}

static void report(const char *name, long *value, long exits)
{
	struct bench b = bench_of(value, TURNS);

	b.exits = exits;
	bench_report(name, &b);
}

int main(void)
{
	struct costs native, dune;
	long exits;

	ktap_plan(DUNE_TEST_ENTER + 2 + DUNE_TEST_LEAVE);
	bench_pin();
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		ktap_note("PR_SET_THP_DISABLE: %s", strerror(errno));
	area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	measure(&native, by_fork);
	dune_test_enter();
	if (dune_heap_new(1, 1, &heap))
		ktap_bail("dune_heap_new");
	area = dune_heap_base(heap);
	measure(&dune, by_snapshot);
	exits = bench_exits();
	for (int turn = 0; turn < TURNS; turn++)
		by_snapshot(&dune, turn, (unsigned char)(TURNS + 1 + turn));
	exits = (bench_exits() - exits) * 100 / TURNS;
	report("snapshot_take_native", native.take, -1);
	report("snapshot_take_dune", dune.take, -1);
	report("snapshot_write_native", native.write, -1);
	report("snapshot_write_dune", dune.write, -1);
	report("snapshot_read_native", native.read, -1);
	report("snapshot_read_dune", dune.read, -1);
	report("snapshot_native", native.all, -1);
	report("snapshot_dune", dune.all, exits);
	ktap_eq(wrong, 0, "each copy was as the memory had been");
	ktap_ok(exits < 400, "and few exits were needed for 64 pages (%ld hundredths)", exits);
	return dune_test_done();
}
