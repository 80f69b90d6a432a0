/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=90 slow-bochs=24 thorough */
/*
 * Dune processes in a memory cgroup that is too small for them: the OOM killer
 * ends the one that grows, from guest mode, and nobody else notices.
 */
#define _GNU_SOURCE
#define GROUP_NAME "mem_oom"
#include "../group.h"

#define GROUP_LIMIT	"16777216"
#define ROUNDS		5

static void join_group(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (!mem_write_text(file_in_group("cgroup.procs"), pid))
		_exit(100);
}

/* Grows in guest mode: no system call is under way when memory runs out. */
static int grow(void *arg)
{
	unsigned char *p = mem_new(256 * MIB);

	(void)arg;
	join_group();
	for (size_t i = 0; i < 256 * MIB; i += PAGE)
		*(volatile unsigned char *)(p + i) = 1;
	return 101;
}

/* Grows in a system call. */
static int grow_in_call(void *arg)
{
	unsigned char *p = mem_new(256 * MIB);
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	(void)arg;
	join_group();
	while (read(zero, p, 256 * MIB) > 0)
		;
	return 102;
}

/* Grows by page tables and windows rather than by pages: a page in every 2 MiB. */
static int grow_tables(void *arg)
{
	size_t len = 64 * GIB;
	unsigned char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)arg;
	join_group();
	for (size_t i = 0; i < len; i += HUGE)
		(void)*(volatile unsigned char *)(p + i);	/* the zero page: tables only */
	return 103;
}

/* Memory of another mapping goes: this one fits, and must stay whole. */
static int fits(void *arg)
{
	unsigned char *p = mem_new(4 * MIB);

	(void)arg;
	join_group();
	for (unsigned int round = 0; round < 20; round++) {
		mem_fill(p, 4 * MIB, round);
		if (mem_wrong(p, 4 * MIB, round))
			return 104;
		munmap(p, 4 * MIB);
		p = mem_new(4 * MIB);
	}
	return 0;
}

static int enters(void *arg)
{
	(void)arg;
	return dune_test_counters_move() ? 0 : 105;
}

static long kills(void)
{
	return mem_field(file_in_group("memory.events"), "oom_kill");
}

static bool dies(int (*fn)(void *))
{
	long before = kills();
	int status = mem_child(fn, NULL);

	if (status != SIGKILL || kills() != before + 1)
		ktap_note("%s, %ld kills", child_status(status), kills() - before);
	return status == SIGKILL && kills() == before + 1;
}

int main(void)
{
	unsigned char *mine;
	unsigned int good = 0;
	int status;

	ktap_plan(DUNE_TEST_ENTER + 8 + DUNE_TEST_LEAVE);
	dune_test_enter();
	make_group("+memory");
	if (!mem_write_text(file_in_group("memory.max"), GROUP_LIMIT))
		ktap_bail("memory.max: %s", strerror(errno));
	mine = mem_new(8 * MIB);
	mem_fill(mine, 8 * MIB, 1);

	ktap_ok(dies(grow), "out of memory in guest mode: SIGKILL, one kill counted");
	ktap_ok(dies(grow_in_call), "out of memory in a system call");
	ktap_ok(dies(grow_tables), "out of memory for page tables");
	for (unsigned int i = 0; i < ROUNDS; i++)
		good += dies(grow);
	ktap_eq(good, ROUNDS, "and %d more", ROUNDS);
	status = mem_child(fits, NULL);
	ktap_ok(status == 0, "one that fits into the group lives, with its contents (%s)",
		child_status(status));
	ktap_eq(mem_wrong(mine, 8 * MIB, 1), 0, "the parent's memory is as it was");
	ktap_eq(mem_child(enters, NULL), 0, "and new children enter Dune mode");
	ktap_ok(remove_group(), "nothing holds on to the group");
	return dune_test_done();
}
