/* SPDX-License-Identifier: MIT */
/*
 * For dune-sandbox --allow-all: random system calls and random instructions in ring 3.
 *
 *	sandbox_fuzz [SEED [ROUNDS]]
 *
 * Each round is a child, which may end as it likes, but for one way: by the monitor, which
 * has found itself broken (status 125).  What it did can be repeated: by seed and round.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../ktap.h"

#define SLOT		0x3f8000000000UL
#define SLOT_END	0x400000000000UL
#define CALLS		60
#define CODE_SIZE	64
#define MONITOR_FAILED	125

static uint64_t state, monitor[3], stuck;
static uint64_t words[512] __attribute__((aligned(4096)));

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t address(void)
{
	switch (next() % 10) {
	case 0:
		return monitor[next() % 3] + next() % 4096;
	case 1:
		return SLOT + (next() % 64) * 4096;
	case 2:
		return SLOT - next() % 8192;
	case 3:
		return SLOT_END - next() % 8192;
	case 4:
		return next();
	default:
		return (uint64_t)&words[next() % 256];
	}
}

static uint64_t argument(void)
{
	switch (next() % 6) {
	case 0:
		return next() % 16;
	case 1:
		return next() % 4096;
	case 2:
		return next() % 1100;	/* descriptors, the monitor's too */
	case 3:
		return 1UL << next() % 64;
	default:
		return address();
	}
}

/* What would end the round, wait for ever, or hit others. */
static int is_left_out(long nr)
{
	static const long out[] = {
		SYS_exit, SYS_exit_group, SYS_pause, SYS_kill, SYS_tkill, SYS_tgkill,
		SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_fork,
		SYS_vfork, SYS_clone, SYS_clone3, SYS_rt_sigsuspend, SYS_setrlimit,
		SYS_prlimit64, SYS_sync, SYS_syncfs, SYS_setpriority, SYS_sched_setscheduler,
		SYS_sched_setattr, SYS_sched_setparam, SYS_vhangup, SYS_setsid, SYS_ioctl,
		SYS_shmctl, SYS_msgctl, SYS_semctl,
	};

	for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++)
		if (nr == out[i])
			return 1;
	return 0;
}

static void fill(void)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = next() % 3 ? address() : next() % 128;
	if (next() % 2)
		strcpy((char *)&words[next() % 200], "/tmp/fuzz/../fuzz/a");
}

static void random_calls(void)
{
	for (int i = 0; i < CALLS; i++) {
		long nr = (long)(next() % 470);

		if (is_left_out(nr))
			continue;
		fill();
		syscall(nr, argument(), argument(), argument(), argument(), argument(),
			argument());
	}
	_exit(0);
}

/* Prefixes of instructions that matter, then anything. */
static void random_code(void)
{
	static const uint8_t starts[][3] = {
		{ 0x0f, 0x01, 0xc1 }, { 0x0f, 0x01, 0xd9 }, { 0x0f, 0x05, 0 }, { 0x0f, 0x34, 0 },
		{ 0x0f, 0x30, 0 }, { 0x0f, 0x22, 0xd8 }, { 0x0f, 0x01, 0x10 }, { 0x48, 0xcf, 0 },
		{ 0x48, 0xcb, 0 }, { 0xcd, 0x80, 0 }, { 0xcd, 0xff, 0 }, { 0xf4, 0, 0 },
		{ 0x0f, 0x01, 0xf8 }, { 0x9d, 0, 0 }, { 0x0f, 0x07, 0 }, { 0x8e, 0xd0, 0 },
		{ 0x0f, 0xae, 0x28 }, { 0xf3, 0x48, 0x0f },
	};
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t r[6];

	for (int i = 0; i < CODE_SIZE; i++)
		code[i] = (uint8_t)next();
	for (int i = 0; i < 4; i++)
		memcpy(code + next() % 40, starts[next() % (sizeof(starts) / 3)], 3);
	for (int i = 0; i < 6; i++)
		r[i] = argument();
	/* rax: no number of a call that ends or signals others */
	__asm__ volatile("jmp *%0"
			 : : "r"(code), "a"(next() % 2 ? 39 : 1000), "D"(r[0]), "S"(r[1]),
			     "d"(r[2]), "c"(r[3])
			 : "memory");
	_exit(0);
}

/* A child may have turned its alarm off, and then wait for ever. */
static int wait_for(pid_t child)
{
	int status;

	for (int tries = 0; tries < 2000; tries++) {
		pid_t done = waitpid(child, &status, WNOHANG);

		if (done)
			return done == child ? status : -1;
		usleep(3000);
	}
	stuck++;
	kill(child, SIGKILL);
	return waitpid(child, &status, 0) == child ? status : -1;
}

static int round_of(uint64_t seed, uint64_t number)
{
	struct rlimit cpu = { 2, 2 }, files = { 256, 1100 };
	pid_t child = fork();

	if (child < 0)
		return -1;
	if (!child) {
		int null = open("/dev/null", O_RDWR);

		state = (seed * 1000003 + number) * 0x9e3779b97f4a7c15UL + 1;
		dup2(null, 0);
		dup2(null, 1);
		setrlimit(RLIMIT_CPU, &cpu);
		setrlimit(RLIMIT_NOFILE, &files);
		alarm(3);
		if (number % 3)
			random_calls();
		random_code();
	}
	return wait_for(child);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;
	uint64_t rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 100, failed = 0, by_signal = 0;
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	int found = 0;

	ktap_plan(2);
	while (maps && fgets(line, sizeof(line), maps)) {
		uint64_t from = strtoul(line, NULL, 16);

		if (from >= SLOT && from < SLOT_END)
			monitor[found++ % 3] = from;
	}
	if (maps)
		fclose(maps);
	ktap_ok(found, "there is a monitor");
	if (!found)
		return ktap_done();
	mkdir("/tmp/fuzz", 0700);
	for (uint64_t i = 0; i < rounds; i++) {
		int status = round_of(seed, i);

		if (status < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == MONITOR_FAILED)) {
			ktap_note("seed %lu round %lu: status 0x%x", seed, i, status);
			failed++;
		}
		by_signal += WIFSIGNALED(status);
	}
	ktap_ok(!failed, "%lu rounds of seed %lu, %lu ended by a signal, %lu of them slept", rounds, seed,
		by_signal, stuck);
	return ktap_done();
}
