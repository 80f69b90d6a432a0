/* SPDX-License-Identifier: MIT */
/* A process with two busy threads, which says when both are; it ends when told to. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

volatile unsigned long counter;
volatile int told;
volatile int naps;
const char secret[] = "found in memory";

static unsigned int privilege(void)
{
	unsigned short cs;

	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

static void *sleeper(void *arg)
{
	while (!told)
		usleep(1000), naps++;
	return arg;
}

int main(void)
{
	pthread_t t;
	void *result;

	pthread_create(&t, NULL, sleeper, (void *)secret);
	while (!naps)
		counter++;
	write(1, "busy\n", 5);
	while (!told)
		counter++;
	pthread_join(t, &result);
	printf("told %d, privilege level %u\n", told, privilege());
	return result == secret ? 21 : 1;
}
