/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 smp slow-bochs=10 */
/*
 * Two Dune processes at once, with different contents at the same addresses:
 * first taking turns on one CPU, where a stale translation of the other's
 * would be seen, then side by side.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"

#include <sched.h>

#define TURNS	1000
#define WORDS	(1UL << 16)

static uint64_t *memory;	/* private, at the same address in both */

struct result {
	volatile int inside;
	volatile unsigned int turns, wrong;
	volatile uint64_t sum;
};

static struct {
	struct result child;
	volatile unsigned int ready;
} *shared;

static int to_child[2], to_parent[2];

static uint64_t word(uint64_t seed, size_t i)
{
	return (seed + i) * 0x9e3779b97f4a7c15UL;
}

static void fill(uint64_t seed)
{
	for (size_t i = 0; i < WORDS; i++)
		memory[i] = word(seed, i);
}

static unsigned int wrong_words(uint64_t seed, size_t from, size_t step)
{
	unsigned int wrong = 0;

	for (size_t i = from; i < WORDS; i += step)
		wrong += memory[i] != word(seed, i);
	return wrong;
}

/* One ball, two players: each turn both check a page apart, with new contents. */
static unsigned int take_turns(int in, int out, bool first, uint64_t seed)
{
	unsigned int wrong = 0;
	char ball = 0;

	for (unsigned int turn = 0; turn < TURNS; turn++) {
		if ((!first || turn) && read(in, &ball, 1) != 1)
			return wrong + 1;
		wrong += wrong_words(seed + turn, turn % 512, 512);
		for (size_t i = (turn + 1) % 512; i < WORDS; i += 512)
			memory[i] = word(seed + turn + 1, i);
		if (write(out, &ball, 1) != 1)
			return wrong + 1;
	}
	return wrong;
}

/* The words checked in turn N were written in turn N - 1: prepare those of turn 0. */
static void prepare_turns(uint64_t seed)
{
	for (size_t i = 0; i < WORDS; i += 512)
		memory[i] = word(seed, i);
}

static unsigned int side_by_side(uint64_t seed)
{
	unsigned int wrong = 0;

	__atomic_fetch_add(&shared->ready, 1, __ATOMIC_SEQ_CST);
	while (shared->ready < 2)
		sched_yield();
	for (unsigned int round = 0; round < 20; round++) {
		fill(seed + round);
		sched_yield();
		wrong += wrong_words(seed + round, 0, 1);
	}
	return wrong;
}

static int child(void *arg)
{
	(void)arg;
	dune_test_child_enter();
	shared->child.inside = 1;
	prepare_turns(1000000);
	shared->child.wrong = take_turns(to_child[0], to_parent[1], false, 1000000);
	shared->child.turns = TURNS;
	cpus_pin(0, 1);
	shared->child.wrong += side_by_side(7000000);
	shared->child.inside += dune_test_cpl() == 0;
	return 0;
}

int main(void)
{
	unsigned int wrong;
	char ball;

	ktap_plan(DUNE_TEST_ENTER + 5 + DUNE_TEST_LEAVE);
	shared = child_shared(sizeof(*shared));
	memory = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pipe(to_child) || pipe(to_parent))
		ktap_bail("pipe: %s", strerror(errno));
	cpus_pin(0, 0);

	struct child other = child_start(child, NULL);

	close(to_child[0]);
	close(to_parent[1]);
	dune_test_enter();
	prepare_turns(5000000);
	child_go(&other);

	wrong = take_turns(to_parent[0], to_child[1], true, 5000000);
	ktap_eq(wrong, 0, "%d turns on one CPU: this process sees its own memory", TURNS);
	if (read(to_parent[0], &ball, 1) != 1)
		ktap_note("the other process ended early");

	wrong = side_by_side(9000000);
	ktap_eq(wrong, 0, "side by side: this process sees its own memory");

	int status = child_wait(&other);

	ktap_ok(status == 0, "the other process ended well: %s", child_status(status));
	ktap_eq(shared->child.inside, 2, "it was in guest mode all the time");
	ktap_ok(shared->child.turns == TURNS && shared->child.wrong == 0,
		"and saw its own memory (%u wrong)", shared->child.wrong);
	return dune_test_done();
}
