/* SPDX-License-Identifier: MIT */
/* Sthreads in a test. */
#ifndef TESTS_WEDGE_H
#define TESTS_WEDGE_H

#include "dune_test.h"

#include <wedge.h>

static struct sthread_result wedge_last;

__attribute__((unused)) static void wedge_must(int ret, const char *what)
{
	if (ret)
		ktap_bail("%s: %s", what, strerror(-ret));
}

__attribute__((unused)) static struct wedge_tag *wedge_tag(size_t size)
{
	struct wedge_tag *tag = NULL;

	wedge_must(tag_new(size, &tag), "tag_new");
	return tag;
}

/* Create and join; what join says, the rest in wedge_last. */
__attribute__((unused)) static int wedge_run(const struct sthread_sc *sc, void *(*fn)(void *),
					     void *arg)
{
	struct sthread *s = NULL;

	wedge_must(sthread_create(&s, sc, fn, arg), "sthread_create");
	return sthread_join(s, &wedge_last);
}

/* The same as a test: did it end by that fault? */
__attribute__((unused)) static void wedge_faults(const struct sthread_sc *sc, void *(*fn)(void *),
						 void *arg, const void *addr, const char *what)
{
	int ret = wedge_run(sc, fn, arg);
	char text[120];

	sthread_describe(&wedge_last, text, sizeof(text));
	ktap_ok(ret == -EFAULT && wedge_last.end == STHREAD_FAULT && wedge_last.addr == (uintptr_t)addr,
		"%s: %s", what, text);
}

/* Did it return that? */
__attribute__((unused)) static void wedge_returns(const struct sthread_sc *sc, void *(*fn)(void *),
						  void *arg, uint64_t value, const char *what)
{
	int ret = wedge_run(sc, fn, arg);
	char text[120];

	sthread_describe(&wedge_last, text, sizeof(text));
	ktap_ok(!ret && wedge_last.value == value, "%s: %s", what, text);
}

#endif /* TESTS_WEDGE_H */
