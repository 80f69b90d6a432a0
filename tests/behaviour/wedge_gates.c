/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/*
 * Callgates: what an sthread can have done although it may not do it, with an argument that
 * it can neither see nor change; boundary variables; memory from tags.
 */
#define _GNU_SOURCE
#include "../wedge.h"

#include <sys/mman.h>

WEDGE_BOUNDARY_BEGIN(counters);
WEDGE_BOUNDARY(counters) static int hits;
WEDGE_BOUNDARY(counters) static int misses;
WEDGE_BOUNDARY_END(counters);
WEDGE_BOUNDARY_BEGIN(other);
WEDGE_BOUNDARY(other) static int elsewhere;
WEDGE_BOUNDARY_END(other);
static int ordinary;

static struct wedge_tag *keys, *shared;

/* In the tag "shared": what caller and gate both have. */
struct question {
	struct wedge_gate *gate, *second;
	unsigned long in, out;
	volatile char *spy;
	long answer;
};

/* In the tag "keys", which only the gate has. */
struct key {
	unsigned long value;
};

static long sign(void *trusted, void *arg)
{
	struct key *k = trusted;
	struct question *q = arg;

	q->out = q->in ^ k->value;
	return 7;
}

static void *ask(void *arg)
{
	struct question *q = arg;

	q->answer = gate_call(q->gate, q);
	return (void *)q->out;
}

static void *ask_twice(void *arg)
{
	struct question *q = arg;

	if (gate_call(q->gate, q) != 7)
		return NULL;
	q->in = q->out;
	return gate_call(q->gate, q) == 7 ? (void *)q->out : NULL;
}

static void *spy(void *arg)
{
	struct question *q = arg;

	return (void *)(uintptr_t)*q->spy;
}

static void *overwrite(void *arg)
{
	struct question *q = arg;

	*q->spy = 0;
	return NULL;
}

static long wrong(void *trusted, void *arg)
{
	(void)trusted;
	return *(volatile char *)arg;
}

/* What the last call left: on the stack far down, in libc's variables, on the heap, in TLS. */
static __thread unsigned long in_tls;

static long leave(void *trusted, void *arg)
{
	volatile unsigned long there[600];
	unsigned long *heap = malloc(5000), found = 0;

	(void)trusted;
	asm volatile("" : "=m"(there));		/* as it is */
	for (unsigned int i = 0; i < 600; i++)
		found += there[i] == 0x5ec4e7;
	for (unsigned int i = 0; i < 600; i++)
		there[i] = 0x5ec4e7;
	asm volatile("" : "=m"(*(char (*)[5000])heap));
	for (unsigned int i = 0; i < 600; i++)
		found += heap[i] == 0x5ec4e7;
	for (unsigned int i = 0; i < 600; i++)
		heap[i] = 0x5ec4e7;
	found += in_tls == 0x5ec4e7;
	in_tls = 0x5ec4e7;
	free(heap);
	return arg ? (long)found : -1;
}

static long outer(void *trusted, void *arg)
{
	struct question *q = arg;

	return gate_call(trusted, q) + 100;
}

static long deep(void *trusted, void *arg)
{
	struct question *q = arg;

	(void)trusted;
	return gate_call(q->second, q);
}

static long xmm(void *trusted, void *arg)
{
	unsigned long old;

	asm volatile("movq %%xmm9, %0; movq %1, %%xmm9" : "=r"(old) : "r"(trusted) : "xmm9");
	return arg ? (long)old : 0;
}

static void one_gate(struct question *q, unsigned int flags)
{
	struct key *k = smalloc(sizeof(*k), keys);
	struct sthread_sc inside, sc;
	struct sthread_result r;
	struct wedge_gate *g;

	k->value = 0x1234;
	sc_init(&inside);
	wedge_must(sc_mem_add(&inside, keys, WEDGE_R), "sc_mem_add");
	wedge_must(sc_mem_add(&inside, shared, WEDGE_RW), "sc_mem_add");
	wedge_must(gate_new(&g, &inside, sign, k, flags), "gate_new");
	ktap_eq(tag_delete(keys), -EBUSY, "the gate has the tag of the keys");

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, shared, WEDGE_RW), "sc_mem_add");
	*q = (struct question){ .gate = g, .in = 0x1111, .spy = (char *)k };
	wedge_run(&sc, ask, q);
	ktap_eq(q->answer, -EACCES, "a gate that is not in the context");
	wedge_must(sc_gate_add(&sc, g), "sc_gate_add");
	wedge_returns(&sc, ask, q, 0x1111 ^ 0x1234, "one that is does what the caller cannot");
	ktap_eq(q->answer, 7, "and answers");
	wedge_returns(&sc, ask_twice, q, 0x1111, "twice");
	ktap_eq(gate_call(g, q), 7, "the program may call it, too");
	wedge_faults(&sc, spy, q, k, "the caller cannot see the trusted argument");
	wedge_faults(&sc, overwrite, q, k, "nor change it");
	q->spy = (char *)g;
	wedge_faults(&sc, overwrite, q, g, "nor that of the gate");
	q->gate = (struct wedge_gate *)q;
	wedge_run(&sc, ask, q);
	ktap_eq(q->answer, -EACCES, "nor make one");
	ktap_ok(!gate_failure(g, &r), "the gate has not failed");
	wedge_must(gate_delete(g), "gate_delete");

	wedge_must(gate_new(&g, &inside, wrong, NULL, flags), "gate_new");
	ktap_ok(gate_call(g, &ordinary) == -EFAULT && gate_failure(g, &r) &&
		r.end == STHREAD_FAULT && r.addr == (uintptr_t)&ordinary, "a fault in a gate ends it");
	ktap_ok(gate_call(g, &ordinary) == -EFAULT && gate_call(g, q) == *(char *)q,
		"and it goes on for others");
	wedge_must(gate_delete(g), "gate_delete");
	sfree(k);
}

static void nested(struct question *q)
{
	struct wedge_gate *in, *out;
	struct sthread_sc sc;

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, shared, WEDGE_RW), "sc_mem_add");
	wedge_must(sc_mem_add(&sc, keys, WEDGE_R), "sc_mem_add");
	wedge_must(gate_new(&in, &sc, sign, tag_base(keys), GATE_RECYCLED), "gate_new");
	wedge_must(sc_gate_add(&sc, in), "sc_gate_add");
	wedge_must(gate_new(&out, &sc, outer, in, GATE_RECYCLED), "gate_new");
	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, shared, WEDGE_RW), "sc_mem_add");
	wedge_must(sc_gate_add(&sc, out), "sc_gate_add");
	*q = (struct question){ .gate = out };
	wedge_run(&sc, ask, q);
	ktap_eq(q->answer, 107, "a gate that calls a gate");
	wedge_must(gate_delete(in) | gate_delete(out), "gate_delete");
}

/* A gate that has itself, by a context that is made before it: so it is asked by address. */
static void too_deep(struct question *q)
{
	struct sthread_sc sc;
	struct wedge_gate *g;
	long ret;

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, shared, WEDGE_RW), "sc_mem_add");
	wedge_must(gate_new(&g, &sc, deep, NULL, 0), "gate_new");
	q->second = g;
	ret = gate_call(g, q);
	ktap_eq(ret, -EACCES, "a gate does not have itself");
	wedge_must(gate_delete(g), "gate_delete");
}

static void leftovers(struct question *q)
{
	struct wedge_gate *g;
	struct sthread_sc sc;

	sc_init(&sc);
	wedge_must(gate_new(&g, &sc, leave, NULL, GATE_RECYCLED), "gate_new");
	ktap_eq(gate_call(g, q), 0, "a recycled gate begins with nothing");
	ktap_eq(gate_call(g, q), 0, "and finds nothing of the call before");
	ktap_eq(gate_call(g, q), 0, "nor of those");
	wedge_must(gate_delete(g), "gate_delete");
	wedge_must(gate_new(&g, &sc, leave, NULL, 0), "gate_new");
	ktap_ok(!gate_call(g, q) && !gate_call(g, q), "nor one that is not recycled");
	wedge_must(gate_delete(g), "gate_delete");
	wedge_must(gate_new(&g, &sc, leave, NULL, GATE_KEPT), "gate_new");
	gate_call(g, q);
	ktap_ok(gate_call(g, q) > 0, "one that is kept does, as it says");
	wedge_must(gate_delete(g), "gate_delete");

	wedge_must(gate_new(&g, &sc, xmm, (void *)0x5ec4e7, GATE_KEPT), "gate_new");
	asm volatile("movq %0, %%xmm9" : : "r"(0x777UL) : "xmm9");
	ktap_eq(gate_call(g, q), 0, "no vector register comes in");
	ktap_eq(gate_call(g, q), 0, "or from the call before");
	wedge_must(gate_delete(g), "gate_delete");
}

/* ---- boundary variables ------------------------------------------------------------- */

static void *count(void *arg)
{
	(void)arg;
	hits++;
	return (void *)(uintptr_t)misses;
}

static void *look(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)(*(volatile int *)&hits + misses);
}

static void *look_elsewhere(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)(hits + *(volatile int *)&elsewhere);
}

static long count_in_gate(void *trusted, void *arg)
{
	(void)trusted;
	return (long)count(arg);
}

static void boundaries(void)
{
	struct wedge_gate *g;
	struct sthread_sc sc;

	misses = 3;
	sc_init(&sc);
	wedge_faults(&sc, look, NULL, &hits, "a boundary variable is not there by itself");
	wedge_must(sc_boundary_add(&sc, counters, WEDGE_R), "sc_boundary_add");
	wedge_returns(&sc, look, NULL, 3, "a context may have it to be read");
	wedge_faults(&sc, count, NULL, &hits, "which is not for writing");
	wedge_faults(&sc, look_elsewhere, NULL, &elsewhere, "and no other boundary's");
	sc_init(&sc);
	wedge_must(sc_boundary_add(&sc, counters, WEDGE_RW), "sc_boundary_add");
	wedge_returns(&sc, count, NULL, 3, "or to be written");
	wedge_returns(&sc, count, NULL, 3, "again");
	ktap_eq(hits, 2, "and the program sees it");
	wedge_must(gate_new(&g, &sc, count_in_gate, NULL, GATE_RECYCLED), "gate_new");
	for (int i = 0; i < 3; i++)
		ktap_eq(gate_call(g, NULL), 3, "a recycled gate has it, too, call %d", i);
	ktap_eq(hits, 5, "in each of its calls");
	wedge_must(gate_delete(g), "gate_delete");
	sc_init(&sc);
	wedge_faults(&sc, look, NULL, &hits, "and not who gets its compartment");
}

/* ---- memory ---------------------------------------------------------------------------- */

static void *allocate(void *arg)
{
	struct question *q = arg;
	char *p = smalloc(5000, (struct wedge_tag *)q->in);

	if (!p || p[4999])
		return NULL;
	memset(p, 5, 5000);
	q->out = (unsigned long)p;
	p = smalloc(100, (struct wedge_tag *)q->in);
	sfree(p);
	return p;
}

static void *free_it(void *arg)
{
	struct question *q = arg;

	sfree((void *)q->in);
	return (void *)1;
}

static void memory(struct question *q)
{
	char *p[200], *again;
	struct sthread_sc sc;
	bool ok = true;
	size_t all = 0;

	for (unsigned int i = 0; i < 200; i++) {
		p[i] = smalloc(i * 37 + 1, keys);
		ok &= p[i] && !((uintptr_t)p[i] & 15) && !p[i][i * 37];
		if (p[i])
			memset(p[i], (int)i, i * 37 + 1);
	}
	for (unsigned int i = 0; i < 200; i++)
		ok &= p[i][0] == (char)i && p[i][i * 37] == (char)i;
	ktap_ok(ok, "200 pieces that do not overlap");
	for (unsigned int i = 0; i < 200; i += 2)
		sfree(p[i]);
	for (unsigned int i = 1; i < 200; i += 2)
		sfree(p[i]);
	again = smalloc(tag_size(keys), keys);
	ktap_ok(again == tag_base(keys), "all of them are one again");
	for (; again && all < tag_size(keys) && !again[all]; all++)
		;
	ktap_eq(all, tag_size(keys), "and zeroed");
	ktap_ok(!smalloc(1, keys), "there is no more");
	sfree(again);

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, shared, WEDGE_RW), "sc_mem_add");
	q->in = (unsigned long)shared;
	ktap_ok(!wedge_run(&sc, allocate, q) && wedge_last.value, "an sthread may use its tags");
	ktap_eq(*(char *)q->out, 5, "and what it allocated stays");
	q->in = q->out;
	wedge_returns(&sc, free_it, q, 1, "and may free it");
	ktap_eq(wedge_run(&sc, free_it, q), -EFAULT, "but once");
	q->in = (unsigned long)keys;
	ktap_eq(wedge_run(&sc, allocate, q), -EACCES, "no other tag");
}

int main(void)
{
	struct question *q;

	ktap_plan(DUNE_TEST_ENTER + 3 * 13 + 2 + 7 + 12 + 9 + DUNE_TEST_LEAVE);
	dune_test_enter();
	wedge_must(wedge_init(), "wedge_init");
	keys = wedge_tag(1);
	shared = wedge_tag(1);
	q = smalloc(sizeof(*q), shared);
	one_gate(q, 0);
	one_gate(q, GATE_RECYCLED);
	one_gate(q, GATE_KEPT);
	nested(q);
	too_deep(q);
	leftovers(q);
	boundaries();
	memory(q);
	return dune_test_done();
}
