/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 slow-bochs=10 */
/*
 * A process that destroys its own page tables, descriptor tables, stack,
 * registers or libdune's memory dies alone, by the right signal and with a
 * message where Linux has none of its own.  Its parent, another Dune process and
 * the module do not notice, and nothing is left behind.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../meminfo.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

#ifndef ROUNDS
#define ROUNDS		3
#endif
#define WARM_UP		2
#define LIMIT_KIB	1024	/* of memory that does not come back */

struct table {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

static void null_write(void)
{
	asm volatile("movl $1, 16" ::: "memory");
}

static void invalid_opcode(void)
{
	asm volatile("ud2");
}

static void no_stack(void)
{
	asm volatile("movl $4096, %%esp\n\tpushq $1" ::: "memory");
}

static void wild_stack(void)
{
	asm volatile("movq %0, %%rsp\n\tud2" : : "r"(0x8000000000001000UL));
}

static void wild_jump(void)
{
	asm volatile("jmp *%0" : : "r"(0x8000000000001000UL));
}

static void own_block_gone(void)
{
	struct table gdt;

	asm volatile("sgdt %0" : "=m"(gdt));
	munmap((void *)(gdt.base & ~0x1ffffUL), 0x1f000);
	asm volatile("ud2");
}

/*
 * From the end: the tables are seen through one of the first entries, and an exit
 * between two stores may empty the TLB. Were that entry gone, the next store would be
 * an ordinary page fault.
 */
static void page_tables_gone(void)
{
	volatile uint64_t *root = pgroot;

	for (int i = 511; i >= 0; i--)
		root[i] = 0;
	asm volatile("movq %%cr3, %%rax\n\tmovq %%rax, %%cr3" ::: "rax", "memory");
	null_write();
}

static void page_tables_wild(void)
{
	for (int i = 0; i < 512; i++)
		pgroot[i] = 0x3ffffff000UL | 7;
	asm volatile("movq %%cr3, %%rax\n\tmovq %%rax, %%cr3" ::: "rax", "memory");
	null_write();
}

static void no_idt(void)
{
	struct table none = { 0, 0 };

	asm volatile("lidt %0\n\tud2" : : "m"(none));
}

static void no_gdt(void)
{
	struct table none = { 0, 0 };

	asm volatile("lgdt %0\n\tud2" : : "m"(none));
}

static void no_interrupt_stacks(void)
{
	struct table gdt;
	uint64_t *entry, base;

	asm volatile("sgdt %0" : "=m"(gdt));
	entry = (uint64_t *)(gdt.base + GD_TSS);
	base = (entry[0] >> 16 & 0xffffff) | (entry[0] >> 56 & 0xff) << 24 | entry[1] << 32;
	memset((void *)(base + 36), 0, 56);
	asm volatile("ud2");
}

static void wild_cr3(void)
{
	asm volatile("movq %0, %%cr3" : : "r"(0x7fff000UL << 12) : "memory");
	null_write();
}

static void wild_gate(void)
{
	asm volatile("wrmsr\n\tsyscall" : : "c"(0xc0000082), "a"(4096), "d"(0) : "r11", "memory");
}

static void bad_cr4(void)
{
	asm volatile("movq %0, %%cr4" : : "r"(~0UL));
}

static void bad_return(void)
{
	asm volatile("movq $8192, %%rsp\n\tmovl $15, %%eax\n\tsyscall" ::: "memory");
}

static void to_nowhere(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)0x8000000000001000UL;
}

static void wild_handler(void)
{
	struct sigaction act = { .sa_sigaction = to_nowhere, .sa_flags = SA_SIGINFO };

	sigaction(SIGUSR1, &act, NULL);
	raise(SIGUSR1);
}

static void killed(void)
{
	kill(getpid(), SIGKILL);
}

static const struct {
	const char *name;
	void (*fn)(void);
	int sig;
	int or_sig;		/* vendors and emulators differ in which exception comes first */
	bool loud;
} kinds[] = {
	{ "write to a null pointer", null_write, SIGSEGV, 0, false },
	{ "invalid opcode", invalid_opcode, SIGILL, 0, false },
	{ "stack pointer into nothing", no_stack, SIGSEGV, 0, false },
	{ "non-canonical stack pointer", wild_stack, SIGILL, 0, false },
	{ "non-canonical jump", wild_jump, SIGSEGV, 0, false },
	{ "libdune's block unmapped", own_block_gone, SIGSEGV, 0, false },
	{ "page tables cleared", page_tables_gone, SIGABRT, 0, true },
	{ "page tables point nowhere", page_tables_wild, SIGBUS, SIGABRT, true },
	{ "no IDT", no_idt, SIGABRT, 0, true },
	{ "no GDT", no_gdt, SIGABRT, 0, true },
	{ "no interrupt stacks", no_interrupt_stacks, SIGABRT, SIGSEGV, true },
	{ "CR3 points nowhere", wild_cr3, SIGBUS, SIGSEGV, true },
	{ "a gate that is not there", wild_gate, SIGSEGV, 0, false },
	{ "reserved bits in CR4", bad_cr4, SIGSEGV, 0, false },
	{ "rt_sigreturn without a frame", bad_return, SIGSEGV, 0, false },
	{ "a handler returns to a non-canonical address", wild_handler, SIGSEGV, 0, false },
	{ "SIGKILL", killed, SIGKILL, 0, false },
};

#define NR_KINDS	(sizeof(kinds) / sizeof(kinds[0]))

static int said;		/* where the victims' standard error goes */

static char *message(void)
{
	static char buf[512];
	ssize_t n = pread(said, buf, sizeof(buf) - 1, 0);

	buf[n > 0 ? n : 0] = '\0';
	return strstr(buf, "dune: ");
}

/* A Dune child of this Dune process does its worst. */
static bool victim(size_t i, bool tell)
{
	int status = -1, sig;
	bool right;
	pid_t pid;

	if (ftruncate(said, 0))
		ktap_bail("ftruncate: %s", strerror(errno));
	lseek(said, 0, SEEK_SET);
	pid = fork();
	if (pid == 0) {
		dup2(said, 2);
		if (dune_test_cpl() == 0)
			kinds[i].fn();
		_exit(DUNE_TEST_NOT_IN_GUEST);
	}
	waitpid(pid, &status, 0);
	sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	right = sig && (sig == kinds[i].sig || sig == kinds[i].or_sig);
	if (tell)
		ktap_ok(right && (!kinds[i].loud || message()), "%s (%s%s)", kinds[i].name,
			child_status(status), message() ? ", with a message" : "");
	else if (!right)
		ktap_note("%s: %s %s", kinds[i].name, child_status(status), message() ?: "");
	return right;
}

static volatile int *stop;
static volatile unsigned long *beats;

/* Lives in Dune mode beside all that. */
static int bystander(void *arg)
{
	(void)arg;
	dune_test_child_enter();
	while (!*stop) {
		if (dune_test_cpl() || !dune_test_counters_move())
			return 1;
		++*beats;
		usleep(1000);
	}
	return 0;
}

int main(void)
{
	struct rlimit none = { 0, 0 };
	struct meminfo before, after;
	unsigned long good = 0;
	long references;
	struct child other;

	ktap_plan(DUNE_TEST_ENTER + (int)NR_KINDS + 4 + DUNE_TEST_LEAVE);
	setrlimit(RLIMIT_CORE, &none);
	said = memfd_create("said", MFD_CLOEXEC);
	stop = child_shared(sizeof(*stop));
	beats = child_shared(sizeof(*beats));
	other = child_start(bystander, NULL);
	child_go(&other);
	dune_test_enter();

	for (size_t i = 0; i < NR_KINDS; i++)
		victim(i, true);
	for (unsigned int r = 0; r < WARM_UP; r++)
		for (size_t i = 0; i < NR_KINDS; i++)
			victim(i, false);
	references = meminfo_references();
	before = meminfo_settled();
	for (unsigned long r = 0; r < ROUNDS; r++)
		for (size_t i = 0; i < NR_KINDS; i++)
			good += victim(i, false);
	after = meminfo_settled();

	ktap_eq(good, ROUNDS * NR_KINDS, "and so all of them, again and again");
	ktap_ok(after.unnamed - before.unnamed < LIMIT_KIB && after.slab - before.slab < LIMIT_KIB,
		"memory is back (%+ld KiB, slab %+ld KiB)", after.unnamed - before.unnamed,
		after.slab - before.slab);
	ktap_eq(meminfo_references(), references, "and so are the references to the module");
	ktap_metric("crashes", (long long)good, "count");
	*stop = 1;
	ktap_ok(child_wait(&other) == 0 && *beats > 10, "another Dune process did not notice");
	return dune_test_done();
}
