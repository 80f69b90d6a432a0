/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=600 slow=400 runs=1 spread=10 */
/*
 * A hash table that grows, with entries that are replaced, found and removed at random: writes
 * are spread over all of it.
 */
#include "gc.h"

#define KEYS	40000UL
#define TURNS	400000UL

struct entry {
	struct entry *next;
	unsigned long key;
	char *value;
};

static struct {
	struct entry **bucket;
	unsigned long buckets, entries;
} map;

static unsigned long random_state;

static unsigned long next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static struct entry **place(unsigned long key)
{
	struct entry **at = &map.bucket[key * 0x9e3779b97f4a7c15UL % map.buckets];

	while (*at && (*at)->key != key)
		at = &(*at)->next;
	return at;
}

static void resize(unsigned long buckets)
{
	struct entry **old = map.bucket;
	unsigned long n = map.buckets;

	map.bucket = gc_new(buckets * sizeof(*map.bucket));
	map.buckets = buckets;
	for (unsigned long i = 0; i < n; i++)
		while (old[i]) {
			struct entry *e = old[i];

			old[i] = e->next;
			e->next = NULL;
			*place(e->key) = e;
		}
}

static void put(unsigned long key)
{
	struct entry **at = place(key);

	if (!*at) {
		if (map.entries >= map.buckets) {
			resize(2 * map.buckets);
			at = place(key);
		}
		*at = gc_new(sizeof(**at));
		(*at)->key = key;
		map.entries++;
	}
	(*at)->value = gc_new_atomic(32);
	snprintf((*at)->value, 32, "%lu", key);
}

static void remove_key(unsigned long key)
{
	struct entry **at = place(key);

	if (*at) {
		*at = (*at)->next;
		map.entries--;
	}
}

static void work(void)
{
	unsigned long seen = 0;

	random_state = 88172645463325252UL;
	map.entries = map.buckets = 0;
	resize(1024);
	for (unsigned long i = 0; i < TURNS; i++) {
		unsigned long r = next_random(), key = (r >> 20) % KEYS;

		if (r % 8 < 3)
			put(key);
		else if (r % 8 == 3)
			remove_key(key);
		else if (*place(key))
			gc_check(strtoul((*place(key))->value, NULL, 10) == key);
	}
	for (unsigned long i = 0; i < map.buckets; i++)
		for (struct entry *e = map.bucket[i]; e; e = e->next)
			seen += strtoul(e->value, NULL, 10) == e->key;
	gc_check(seen == map.entries && seen > KEYS / 2);
}

int main(void)
{
	return gc_bench("map", work);
}
