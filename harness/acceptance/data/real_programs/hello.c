/* SPDX-License-Identifier: MIT */
/* A thread, thread-local data, a signal handler, floating point: one line. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static __thread int own = 5;
static volatile sig_atomic_t got;

static void on_signal(int sig)
{
	got = sig;
}

static void *thread(void *arg)
{
	own += (int)strlen(arg);
	return own == 9 ? arg : NULL;
}

int main(int argc, char **argv)
{
	char word[] = "four";
	void *result;
	pthread_t t;

	signal(SIGUSR1, on_signal);
	pthread_create(&t, NULL, thread, word);
	pthread_join(t, &result);
	raise(SIGUSR1);
	printf("hello %d %s %d %d %.12f\n", argc, argc > 1 ? argv[1] : "", result == word, got,
	       sqrt(own) + sin(argc));
	return 7;
}
