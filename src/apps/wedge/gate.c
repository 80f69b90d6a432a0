// SPDX-License-Identifier: MIT
/* Callgates. */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

int gate_new(struct wedge_gate **gate, const struct sthread_sc *sc,
	     long (*fn)(void *trusted, void *arg), void *trusted, unsigned int flags)
{
	struct wedge_gate *g;
	int ret;

	if (!wedge_ready || ring())
		return -EPERM;
	if (!fn || sc->flags || flags > GATE_KEPT)
		return -EINVAL;
	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->sc = *sc;
	g->fn = fn;
	g->trusted = trusted;
	g->flags = flags;
	ret = sc_hold(sc);
	if (!ret && flags) {
		ret = cell_get(sc, &g->cell);
		if (ret)
			sc_drop(sc);
	}
	if (ret)
		free(g);
	else
		*gate = g;
	return ret;
}

int gate_delete(struct wedge_gate *g)
{
	if (__atomic_load_n(&g->busy, __ATOMIC_ACQUIRE))
		return -EBUSY;
	if (g->cell)
		cell_put(g->cell);
	sc_drop(&g->sc);
	free(g);
	return 0;
}

static long outcome(struct wedge_gate *g, const struct sthread_result *r)
{
	if (r->end == STHREAD_RETURNED)
		return (long)r->value;
	lock(&g->lock);
	g->failed = true;
	g->failure = *r;
	unlock(&g->lock);
	return result_error(r);
}

static long in_kept(struct wedge_gate *g, void *arg)
{
	struct cell *c = g->cell;
	long ret;

	cell_sync(c);
	ret = run(c, (uintptr_t)g->fn, (uint64_t)g->trusted, (uint64_t)arg);
	if (!ret)
		ret = outcome(g, &c->result);
	if (g->flags == GATE_RECYCLED || c->result.end != STHREAD_RETURNED)
		cell_wipe(c);
	return ret;
}

static long in_new(struct wedge_gate *g, void *arg)
{
	struct cell *c;
	long ret = cell_get(&g->sc, &c);

	if (ret)
		return ret;
	ret = run(c, (uintptr_t)g->fn, (uint64_t)g->trusted, (uint64_t)arg);
	if (!ret)
		ret = outcome(g, &c->result);
	cell_put(c);
	return ret;
}

/* busy: how many are in it; the first has the cell. */
long gate_do(struct wedge_gate *g, void *arg)
{
	bool first = !__atomic_fetch_add(&g->busy, 1, __ATOMIC_ACQUIRE);
	long ret = first && g->cell ? in_kept(g, arg) : in_new(g, arg);

	__atomic_sub_fetch(&g->busy, 1, __ATOMIC_RELEASE);
	return ret;
}

long gate_call(struct wedge_gate *g, void *arg)
{
	long ret;

	if (!ring())
		return gate_do(g, arg);
	asm volatile("syscall" : "=a"(ret) : "0"((long)NR_GATE), "D"(g), "S"(arg)
		     : "rcx", "r11", "memory");
	return ret;
}

bool gate_failure(struct wedge_gate *g, struct sthread_result *result)
{
	bool failed;

	lock(&g->lock);
	failed = g->failed;
	if (failed)
		*result = g->failure;
	unlock(&g->lock);
	return failed;
}
