/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=600 slow=400 runs=1 spread=10 */
/*
 * GCBench's pattern, after J. Ellis, P. Kovac and H. Boehm: binary trees, made from the root
 * down (old nodes are written to) and from the leaves up (they are not), while a tree and an
 * array live on.
 */
#include "gc.h"

#define STRETCH		15
#define LONG_LIVED	13
#define FIRST		4
#define LAST		12
#define NUMBERS		60000UL

struct node {
	struct node *left, *right;
	int i, j;
};

static unsigned long size_of(int depth)
{
	return (2UL << depth) - 1;
}

static void populate(struct node *at, int depth)
{
	if (!depth)
		return;
	at->left = gc_new(sizeof(struct node));
	at->right = gc_new(sizeof(struct node));
	populate(at->left, depth - 1);
	populate(at->right, depth - 1);
}

static struct node *make(int depth)
{
	struct node *left, *right, *at;

	if (!depth)
		return gc_new(sizeof(struct node));
	left = make(depth - 1);
	right = make(depth - 1);
	at = gc_new(sizeof(struct node));
	at->left = left;
	at->right = right;
	return at;
}

static unsigned long count_nodes(const struct node *at)
{
	return at ? 1 + count_nodes(at->left) + count_nodes(at->right) : 0;
}

static void of_depth(int depth)
{
	for (unsigned long n = 2 * size_of(STRETCH) / size_of(depth); n; n--) {
		struct node *top = gc_new(sizeof(*top));

		populate(top, depth);
		gc_check(n > 1 || count_nodes(top) == size_of(depth));
		top = make(depth);
		gc_check(n > 1 || count_nodes(top) == size_of(depth));
	}
}

static void work(void)
{
	struct node *lives = gc_new(sizeof(*lives));
	double *numbers;

	gc_check(count_nodes(make(STRETCH)) == size_of(STRETCH));
	populate(lives, LONG_LIVED);
	numbers = gc_new_atomic(NUMBERS * sizeof(double));
	for (unsigned long i = 0; i < NUMBERS; i++)
		numbers[i] = 1.0 / (double)(i + 1);
	for (int depth = FIRST; depth <= LAST; depth += 2)
		of_depth(depth);
	gc_check(count_nodes(lives) == size_of(LONG_LIVED));
	gc_check(numbers[999] == 1.0 / 1000);
}

int main(void)
{
	return gc_bench("trees", work);
}
