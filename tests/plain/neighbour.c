// SPDX-License-Identifier: MIT
/*
 * neighbour ROUNDS [FILE]: uses memory and system calls, and lets others run in between.
 *
 * A page that is somebody else's, or a call that another one gets, is a wrong number.
 * Goes on until there is FILE, then prints "neighbour: N rounds".
 */
#include <err.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES	64
#define PAGE	4096UL

int main(int argc, char **argv)
{
	unsigned int round, rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000;
	volatile uint64_t *word;
	pid_t pid = getpid();
	char *memory;
	int i;

	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	for (round = 1; round <= rounds || (argc > 2 && access(argv[2], F_OK)); round++) {
		for (i = 0; i < PAGES; i++) {
			word = (volatile uint64_t *)(memory + i * PAGE);
			if (*word != (round - 1) * (i + 1UL))
				errx(1, "round %u: page %d holds %lu", round, i, *word);
			*word = round * (i + 1UL);
		}
		if (getpid() != pid)
			errx(1, "round %u: process %d is %d now", round, pid, getpid());
		sched_yield();
	}
	printf("neighbour: %u rounds\n", round - 1);
	return 0;
}
