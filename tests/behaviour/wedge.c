/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/*
 * libwedge: an sthread reaches what its context names and nothing else; what it tries
 * beyond that ends it, and its parent is told.
 */
#define _GNU_SOURCE
#include "../wedge.h"

static char secret[64] = "the key of the kingdom";
static const char public[] = "everybody knows";

static void *read_at(void *arg)
{
	return (void *)(uintptr_t)*(volatile unsigned char *)arg;
}

static void *write_at(void *arg)
{
	*(volatile unsigned char *)arg = 99;
	return NULL;
}

static void *call_it(void *arg)
{
	return ((void *(*)(void))arg)();
}

static void default_deny(void)
{
	char *heap = malloc(100), on_stack = 1;
	struct sthread_sc sc;

	sc_init(&sc);
	wedge_returns(&sc, read_at, (void *)public, 'e', "read-only data can be read");
	wedge_faults(&sc, read_at, secret, secret, "a variable of the program cannot");
	wedge_faults(&sc, write_at, secret, secret, "nor be written to");
	ktap_eq(secret[0], 't', "and is as before");
	wedge_faults(&sc, write_at, (void *)public, public, "read-only data cannot be written to");
	wedge_faults(&sc, write_at, (void *)default_deny, default_deny, "nor text");
	wedge_faults(&sc, read_at, &on_stack, &on_stack, "the parent's stack");
	wedge_faults(&sc, read_at, pgroot, pgroot, "the page tables");
	wedge_faults(&sc, call_it, heap, heap, "the heap is no code");
	free(heap);
}

static void tags(void)
{
	struct wedge_tag *one = wedge_tag(1 << 20), *two = wedge_tag(3 << 20);
	char *a = smalloc(100, one), *b = smalloc(5000, two);
	struct sthread_sc sc;

	a[0] = 11;
	b[0] = 22;
	sc_init(&sc);
	wedge_faults(&sc, read_at, a, a, "a tag that is not in the context");
	ktap_eq(sc_mem_add(&sc, one, WEDGE_W), -EINVAL, "there is no writing without reading");
	wedge_must(sc_mem_add(&sc, one, WEDGE_R), "sc_mem_add");
	wedge_returns(&sc, read_at, a, 11, "one that is in it to be read");
	wedge_faults(&sc, write_at, a, a, "cannot be written to");
	wedge_faults(&sc, read_at, b, b, "nor its neighbour be read");
	wedge_must(sc_mem_add(&sc, two, WEDGE_RW), "sc_mem_add");
	wedge_returns(&sc, write_at, b, 0, "one to be read and written");
	ktap_eq(b[0], 99, "is shared with the program");
	ktap_eq(a[0], 11, "and the first is as before");
	wedge_faults(&sc, call_it, b, b, "no tag is code");
	sc_init(&sc);
	wedge_faults(&sc, read_at, b, b, "the next sthread has none of them");
	ktap_ok(!tag_delete(one) && !tag_delete(two), "nobody uses them any more");
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 9 + 11 + DUNE_TEST_LEAVE);
	dune_test_enter();
	wedge_must(wedge_init(), "wedge_init");
	default_deny();
	tags();
	return dune_test_done();
}
