/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=60 */
/*
 * Dune mode from .preinit_array, before any constructor has run: how a preloaded or
 * linked-in runtime puts an unsuspecting program into Dune mode.
 */
#include "../dune_test.h"

#include <pthread.h>
#include <string.h>

static int entered = -1;
static bool inside_constructor;

/* getenv() finds nothing yet. */
static void enter_early(int argc, char **argv, char **envp)
{
	static const char native[] = "DUNE_TEST_NATIVE=";

	(void)argc;
	(void)argv;
	while (*envp && strncmp(*envp, native, sizeof(native) - 1))
		envp++;
	if (!*envp)
		entered = dune_init_and_enter();
}

__attribute__((section(".preinit_array"), used)) static void (*const early)(int, char **, char **) =
	enter_early;

__attribute__((constructor)) static void construct(void)
{
	inside_constructor = dune_in_guest();
}

static void *thread(void *arg)
{
	(void)arg;
	return (void *)(unsigned long)dune_in_guest();
}

int main(void)
{
	void *in_thread = NULL;
	pthread_t t;

	ktap_plan(4 + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	ktap_eq(entered, 0, "dune_init_and_enter() before constructors");
	ktap_ok(inside_constructor, "constructors run in Dune mode");
	ktap_ok(dune_in_guest() && dune_test_cpl() == 0, "and so does main()");
	dune_test_enter();
	if (pthread_create(&t, NULL, thread, NULL) || pthread_join(t, &in_thread))
		ktap_bail("pthread_create");
	ktap_ok(in_thread != NULL, "and its threads");
	return dune_test_done();
}
