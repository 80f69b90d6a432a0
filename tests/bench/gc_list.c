/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=600 slow=400 runs=1 spread=10 */
/*
 * A long list in use as a queue: most of it is old and untouched, its end is written to, and
 * now and then somewhere in its midst.
 */
#include "gc.h"

#define LENGTH		60000UL
#define TURNS		12
#define STEP		30000UL

struct item {
	struct item *next;
	unsigned long number;
	unsigned long *value;
};

static struct item *head, *tail;
static unsigned long numbers;

static void append(void)
{
	struct item *item = gc_new(sizeof(*item));

	item->number = numbers++;
	item->value = gc_new_atomic(4 * sizeof(unsigned long));
	item->value[0] = item->number * 3;
	if (tail)
		tail->next = item;
	else
		head = item;
	tail = item;
}

/* Each hundredth in the last tenth of the list gets another value. */
static void change(void)
{
	struct item *at = head;

	for (unsigned long i = 0; i < LENGTH; i++, at = at->next)
		if (i > LENGTH - LENGTH / 10 && i % 100 == 0) {
			at->value = gc_new_atomic(4 * sizeof(unsigned long));
			at->value[0] = at->number * 3;
		}
}

static bool right(void)
{
	unsigned long n = 0;

	for (struct item *at = head; at; at = at->next, n++)
		if (at->number != numbers - LENGTH + n || at->value[0] != at->number * 3)
			return false;
	return n == LENGTH;
}

static void work(void)
{
	head = tail = NULL;
	numbers = 0;
	while (numbers < LENGTH)
		append();
	for (int turn = 0; turn < TURNS; turn++) {
		for (unsigned long i = 0; i < STEP; i++) {
			append();
			head = head->next;
		}
		change();
	}
	gc_check(right());
}

int main(void)
{
	return gc_bench("list", work);
}
