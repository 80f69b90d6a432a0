/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=10 */
/*
 * A native process reads and writes the memory of one in Dune mode, by
 * process_vm_readv and process_vm_writev, ptrace and /proc/PID/mem, while that
 * one works on it; and the other way round.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <sched.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define PAGES	32
#define LEN	(PAGES * PAGE)

enum order { NONE, READ_VM, WRITE_VM, PEEK, POKE, POKE_CODE, WRITE_MEM, LEAVE };

static struct {
	volatile int order;
	volatile long answer;
	volatile unsigned long busy;	/* the Dune process's loop */
} *talk;

static unsigned char *memory;		/* at the same address in both, private */
static pid_t dune;			/* the process in Dune mode */

__attribute__((noinline)) static int seven(void)
{
	volatile int value = 7;

	return value;
}

/* ---- the native side --------------------------------------------------- */

static long read_vm(void)
{
	unsigned char *buf = mem_new(LEN);
	struct iovec local = { buf, LEN }, remote = { memory, LEN };
	ssize_t n = process_vm_readv(dune, &local, 1, &remote, 1, 0);
	long ret = n == (ssize_t)LEN ? (long)mem_wrong(buf, LEN, 1) : -errno;

	munmap(buf, LEN);
	return ret;
}

/* In pieces that do not fit the pages. */
static long write_vm(void)
{
	unsigned char *buf = mem_new(LEN);
	struct iovec local = { buf, LEN };
	struct iovec remote[3] = {
		{ memory, 5000 }, { memory + 5000, 3 * PAGE }, { memory + 5000 + 3 * PAGE, 0 },
	};
	ssize_t n;

	remote[2].iov_len = LEN - 5000 - 3 * PAGE;
	mem_fill(buf, LEN, 2);
	n = process_vm_writev(dune, &local, 1, remote, 3, 0);
	munmap(buf, LEN);
	return n == (ssize_t)LEN ? 0 : -errno;
}

static bool attach(void)
{
	int status;

	return ptrace(PTRACE_SEIZE, dune, 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, dune, 0, 0) == 0 &&
	       waitpid(dune, &status, __WALL) == dune && WIFSTOPPED(status);
}

/* While it is stopped it does not run on in guest mode. */
static long stands_still(void)
{
	unsigned long before = talk->busy;

	usleep(20000);
	return talk->busy != before;
}

static long peek(void)
{
	long wrong = attach() ? stands_still() : 1000000;

	for (size_t i = 0; i < LEN / 8; i += 61) {
		errno = 0;
		wrong += ptrace(PTRACE_PEEKDATA, dune, memory + 8 * i, 0) != (long)mem_word(3, i);
		wrong += errno != 0;
	}
	return wrong + (ptrace(PTRACE_DETACH, dune, 0, 0) != 0);
}

/* Every word, also those that the process may only read. */
static long poke(void)
{
	long wrong = attach() ? stands_still() : 1000000;

	for (size_t i = 0; i < LEN / 8; i++)
		wrong += ptrace(PTRACE_POKEDATA, dune, memory + 8 * i, mem_word(4, i)) != 0;
	return wrong + (ptrace(PTRACE_DETACH, dune, 0, 0) != 0);
}

/* mov $8, %eax; ret; filled up with what was there */
static long poke_code(void)
{
	static const unsigned char eight[] = { 0xb8, 8, 0, 0, 0, 0xc3 };
	long word, wrong = attach() ? 0 : 1000000;

	word = ptrace(PTRACE_PEEKTEXT, dune, seven, 0);
	memcpy(&word, eight, sizeof(eight));
	wrong += ptrace(PTRACE_POKETEXT, dune, seven, word) != 0;
	return wrong + (ptrace(PTRACE_DETACH, dune, 0, 0) != 0);
}

static long write_mem(void)
{
	unsigned char *buf = mem_new(LEN);
	char name[64];
	long ret = -1;
	int fd;

	snprintf(name, sizeof(name), "/proc/%d/mem", (int)dune);
	fd = open(name, O_RDWR | O_CLOEXEC);
	mem_fill(buf, LEN, 5);
	if (fd >= 0 && pwrite(fd, buf, LEN, (off_t)(uintptr_t)memory) == (ssize_t)LEN &&
	    pread(fd, buf, LEN, (off_t)(uintptr_t)memory) == (ssize_t)LEN)
		ret = (long)mem_wrong(buf, LEN, 5);
	if (fd >= 0)
		close(fd);
	munmap(buf, LEN);
	return ret;
}

static int native(void *arg)
{
	(void)arg;
	if (dune_test_cpl() != 3)
		return 3;
	mem_fill(memory, LEN, 90);	/* its own copy: for the other way round */
	for (;;) {
		int order = __atomic_load_n(&talk->order, __ATOMIC_ACQUIRE);

		switch (order) {
		case NONE:
			sched_yield();
			continue;
		case READ_VM:
			talk->answer = read_vm();
			break;
		case WRITE_VM:
			talk->answer = write_vm();
			break;
		case PEEK:
			talk->answer = peek();
			break;
		case POKE:
			talk->answer = poke();
			break;
		case POKE_CODE:
			talk->answer = poke_code();
			break;
		case WRITE_MEM:
			talk->answer = write_mem();
			break;
		case LEAVE:
			return mem_wrong(memory, LEN, 91) ? 4 : 0;
		}
		__atomic_store_n(&talk->order, NONE, __ATOMIC_RELEASE);
	}
}

/* ---- the side in Dune mode ---------------------------------------------- */

/* Spins in guest mode, without a system call, until the order is done. */
static long have(enum order order)
{
	__atomic_store_n(&talk->order, order, __ATOMIC_RELEASE);
	while (__atomic_load_n(&talk->order, __ATOMIC_ACQUIRE) != NONE) {
		(void)*(volatile unsigned char *)(memory + talk->busy % LEN);
		talk->busy++;
		asm volatile("pause");
	}
	return talk->answer;
}

static bool reads_native(pid_t pid)
{
	unsigned char *buf = mem_new(LEN);
	struct iovec local = { buf, LEN }, remote = { memory, LEN };
	bool ok = process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)LEN &&
		  mem_wrong(buf, LEN, 90) == 0;

	mem_fill(buf, LEN, 91);
	ok &= process_vm_writev(pid, &local, 1, &remote, 1, 0) == (ssize_t)LEN;
	munmap(buf, LEN);
	return ok;
}

int main(void)
{
	int (*volatile fn)(void) = seven;
	struct child other;
	int status;

	ktap_plan(DUNE_TEST_ENTER + 12 + DUNE_TEST_LEAVE);
	talk = child_shared(sizeof(*talk));
	memory = mem_new(LEN);
	dune = getpid();
	other = child_start(native, NULL);
	dune_test_enter();
	child_go(&other);

	mem_fill(memory, LEN, 1);
	ktap_eq(have(READ_VM), 0, "process_vm_readv from a Dune process");
	ktap_eq(have(WRITE_VM), 0, "process_vm_writev to it");
	ktap_eq(mem_wrong(memory, LEN, 2), 0, "it sees what was written");
	mem_fill(memory, LEN, 3);
	ktap_eq(have(PEEK), 0, "ptrace stops it in guest mode and peeks");
	mprotect(memory, LEN / 2, PROT_READ);
	ktap_eq(have(POKE), 0, "and pokes, also into read-only pages");
	ktap_eq(mem_wrong(memory, LEN, 4), 0, "it sees what was poked");
	ktap_eq(fn(), 7, "code before a poke");
	ktap_eq(have(POKE_CODE), 0, "a poke into code");
	ktap_eq(fn(), 8, "is run");
	ktap_ok(have(WRITE_MEM) == 0 && mem_wrong(memory, LEN, 5) == 0, "/proc/PID/mem");
	ktap_ok(reads_native(other.pid), "it reads and writes the native one's memory");
	talk->order = LEAVE;
	status = child_wait(&other);
	ktap_ok(status == 0, "which has it all (%s)", child_status(status));
	return dune_test_done();
}
