/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * Instructions by which ring 0 could reach the host.  Each is refused with
 * #GP or #UD, or answered from the vCPU's own state; none takes effect
 * outside.  Where an exit is expected, its counter must move: that it was the
 * module that refused is part of the claim.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"
#include "../trap.h"

#include <sched.h>
#include <sys/ptrace.h>

#define CR4_VMXE	(1UL << 13)
#define CR4_SMXE	(1UL << 14)
#define DR7_WATCH_WRITE	(0x400UL | 1UL << 0 | 1UL << 16 | 3UL << 18)	/* DR0, 4 bytes */

static uint64_t exits(enum dune_stat stat)
{
	return dune_test_stats().exit[stat].count;
}

/* True if the instruction raised #GP(0) or #UD. */
static bool refused(void)
{
	return (trap.vector == TRAP_GP && trap.err == 0) || trap.vector == TRAP_UD;
}

/* ---- MSRs ------------------------------------------------------------ */

static const struct {
	const char *name;
	unsigned int msr;
} host_msrs[] = {
	{ "IA32_APIC_BASE", 0x1b }, { "IA32_FEATURE_CONTROL", 0x3a }, { "IA32_BIOS_SIGN_ID", 0x8b },
	{ "IA32_MTRR_DEF_TYPE", 0x2ff }, { "IA32_MISC_ENABLE", 0x1a0 }, { "IA32_DEBUGCTL", 0x1d9 },
	{ "IA32_PAT", 0x277 }, { "IA32_VMX_BASIC", 0x480 }, { "IA32_TSC_DEADLINE", 0x6e0 },
	{ "x2APIC ID", 0x802 }, { "x2APIC ICR", 0x830 }, { "IA32_BNDCFGS", 0xd90 },
	{ "AMD VM_CR", 0xc0010114 }, { "AMD VM_HSAVE_PA", 0xc0010117 }, { "AMD SYSCFG", 0xc0010010 },
	{ "AMD HWCR", 0xc0010015 }, { "no MSR at all", 0x12345678 }, { "the last MSR", 0xffffffff },
};

#define HOST_MSRS	(sizeof(host_msrs) / sizeof(host_msrs[0]))

static void msrs(void)
{
	unsigned int read_wrong = 0, write_wrong = 0;
	uint64_t before = exits(DUNE_STAT_MSR);

	for (unsigned int i = 0; i < HOST_MSRS; i++) {
		TRAP_TRY("rdmsr", 0, host_msrs[i].msr, 0);
		if (trap.vector != TRAP_GP) {
			ktap_note("RDMSR %s: vector %d", host_msrs[i].name, trap.vector);
			read_wrong++;
		}
		TRAP_TRY("wrmsr", 0, host_msrs[i].msr, 0);
		if (trap.vector != TRAP_GP) {
			ktap_note("WRMSR %s: vector %d", host_msrs[i].name, trap.vector);
			write_wrong++;
		}
	}
	ktap_eq(read_wrong, 0, "RDMSR of the host's MSRs");
	ktap_eq(write_wrong, 0, "WRMSR of the host's MSRs");
	ktap_ok(exits(DUNE_STAT_MSR) - before >= 2 * HOST_MSRS, "each of them was an exit");

	TRAP_TRY("rdmsr", 0, 0xc0000080, 0);		/* EFER */
	unsigned long efer = trap.rax;
	bool readable = trap.vector == TRAP_NONE;

	TRAP_TRY("wrmsr", efer | 1UL << 12, 0xc0000080, 0);	/* SVME */
	ktap_ok(refused() || !readable, "EFER.SVME cannot be set");
	TRAP_TRY("wrmsr", efer & ~0x400UL, 0xc0000080, 0);	/* LMA away */
	ktap_ok(refused() || !readable, "EFER.LMA cannot be cleared");

	TRAP_TRY("rdmsr", 0, 0xc0000082, 0);		/* LSTAR */
	ktap_ok(trap.vector == TRAP_GP || !(trap.rdx & 0x80000000UL),
		"LSTAR shows no address of the kernel");
	TRAP_TRY("wrmsr", 0xdeadbeef, 0x10, 0x1234);	/* TSC */
	ktap_ok(trap.vector == TRAP_GP, "the TSC cannot be written");
}

/* ---- ports ----------------------------------------------------------- */

static void ports(void)
{
	unsigned int wrong = 0;
	uint64_t before = exits(DUNE_STAT_IO);

	wrong += TRAP_TRY("outb %%al, %%dx", 0, 0, 0x80) != TRAP_GP;
	wrong += TRAP_TRY("inb %%dx, %%al", 0, 0, 0x60) != TRAP_GP;
	wrong += TRAP_TRY("outb %%al, $0x70", 0x0f, 0, 0) != TRAP_GP;
	wrong += TRAP_TRY("inb $0x71, %%al", 0, 0, 0) != TRAP_GP;
	wrong += TRAP_TRY("outl %%eax, %%dx", 0x80000000, 0, 0xcf8) != TRAP_GP;
	wrong += TRAP_TRY("outw %%ax, %%dx", 0x2000, 0, 0x604) != TRAP_GP;	/* power off */
	wrong += TRAP_TRY("outb %%al, %%dx", 0xfe, 0, 0x64) != TRAP_GP;		/* reset */
	wrong += TRAP_TRY("inl %%dx, %%eax", 0, 0, 0xffff) != TRAP_GP;
	wrong += TRAP_TRY("rep outsb", 0, 4, 0x3f8) != TRAP_GP;
	wrong += TRAP_TRY("rep insb", 0, 4, 0x3f8) != TRAP_GP;
	ktap_eq(wrong, 0, "IN, OUT, INS and OUTS");
	ktap_ok(exits(DUNE_STAT_IO) - before >= 10, "each of them was an exit");
}

/* ---- control registers ----------------------------------------------- */

static unsigned long read_cr4(void)
{
	unsigned long cr4;

	asm volatile("mov %%cr4, %0" : "=r"(cr4));
	return cr4;
}

/* A value that the register must not take: #GP, or it reads back as before. */
static bool cr4_refuses(unsigned long bits)
{
	unsigned long before = read_cr4();

	TRAP_TRY("mov %%rax, %%cr4", before | bits, 0, 0);
	return trap.vector == TRAP_GP || (trap.vector == TRAP_NONE && read_cr4() == before);
}

static bool cr0_refuses(unsigned long set, unsigned long clear)
{
	unsigned long before = dune_test_read_cr0();

	TRAP_TRY("mov %%rax, %%cr0", (before | set) & ~clear, 0, 0);
	return trap.vector == TRAP_GP ||
	       (trap.vector == TRAP_NONE && dune_test_read_cr0() == before);
}

static void control_registers(void)
{
	uint64_t before = exits(DUNE_STAT_CR);
	unsigned long cr0 = dune_test_read_cr0();

	ktap_ok(cr4_refuses(CR4_VMXE), "CR4.VMXE cannot be set");
	ktap_ok(cr4_refuses(CR4_SMXE), "CR4.SMXE cannot be set");
	ktap_ok(cr4_refuses(1UL << 63) && cr4_refuses(1UL << 31) && cr4_refuses(1UL << 12),
		"reserved bits and LA57 of CR4 cannot be set");
	ktap_ok(cr0_refuses(0, 1UL << 31) && cr0_refuses(0, 1), "paging and protection stay on");
	ktap_ok(cr0_refuses(CR0_CD, 0) && cr0_refuses(1UL << 40, 0),
		"CR0.CD and reserved bits cannot be set");
	ktap_ok(exits(DUNE_STAT_CR) > before, "some of them were exits");

	TRAP_TRY("mov %%rax, %%cr0", cr0 ^ CR0_WP, 0, 0);
	bool toggled = trap.vector == TRAP_NONE && dune_test_read_cr0() == (cr0 ^ CR0_WP);

	TRAP_TRY("mov %%rax, %%cr0", cr0, 0, 0);
	ktap_ok(toggled && dune_test_read_cr0() == cr0, "CR0.WP is the guest's own");
	TRAP_TRY("mov %%rax, %%cr0", cr0 | CR0_TS, 0, 0);
	toggled = dune_test_read_cr0() == (cr0 | CR0_TS);
	TRAP_TRY("clts", 0, 0, 0);
	ktap_ok(toggled && trap.vector == TRAP_NONE && dune_test_read_cr0() == cr0,
		"CR0.TS too, by MOV and by CLTS");
	TRAP_TRY("mov %%rax, %%cr8", 0x123, 0, 0);
	ktap_ok(trap.vector == TRAP_GP, "reserved bits of CR8 cannot be set");
	TRAP_TRY("xsetbv", 0, 0, 0);			/* x87 may never be off */
	ktap_ok(refused(), "XSETBV with a value that no CPU takes");
	TRAP_TRY("xsetbv", 7, 99, 0);
	ktap_ok(refused(), "XSETBV of a register that is not there");
}

/* ---- debug registers -------------------------------------------------- */

static volatile uint32_t watched;
static struct { volatile int go, signalled; } *shared;

/* An ordinary process on the same CPU writes the address that the guest tried to watch. */
static int writer(void *arg)
{
	(void)arg;
	while (!shared->go)
		sched_yield();
	for (unsigned int i = 0; i < 1000; i++) {
		watched = i;
		if (i % 100 == 0)
			sched_yield();
	}
	return 0;		/* SIGTRAP would have ended it */
}

static void debug_registers(struct child *other)
{
	unsigned long dr7;
	int status;

	TRAP_TRY("mov %%rax, %%dr0", &watched, 0, 0);
	TRAP_TRY("mov %%rax, %%dr7", DR7_WATCH_WRITE, 0, 0);
	shared->go = 1;
	status = child_wait(other);
	ktap_ok(status == 0, "a watchpoint set in DR0 and DR7 hits no other process (%s)",
		child_status(status));
	TRAP_TRY("mov %%dr7, %%rax", 0, 0, 0);
	dr7 = trap.rax;
	ktap_ok(trap.vector != TRAP_NONE || !(dr7 & 0xff) || dr7 == DR7_WATCH_WRITE,
		"DR7 shows the guest's own value or none");
	TRAP_TRY("mov %%rax, %%dr7", 1UL << 40, 0, 0);
	ktap_ok(refused(), "reserved bits of DR7 cannot be set");
}

/* ---- virtualisation and the rest -------------------------------------- */

static void virtualisation(void)
{
	static const char *const names[] = {
		"VMXON", "VMPTRLD", "VMCLEAR", "VMLAUNCH", "VMREAD", "VMRUN", "VMLOAD", "VMSAVE",
		"STGI", "CLGI", "SKINIT", "INVLPGA",
	};
	bool ok[12];
	uint64_t mem = (uint64_t)&trap.mem;
	unsigned int wrong = 0;

	TRAP_TRY("vmxon %[mem]", 0, 0, 0);			ok[0] = refused();
	TRAP_TRY("vmptrld %[mem]", 0, 0, 0);			ok[1] = refused();
	TRAP_TRY("vmclear %[mem]", 0, 0, 0);			ok[2] = refused();
	TRAP_TRY("vmlaunch", 0, 0, 0);				ok[3] = refused();
	TRAP_TRY("vmread %%rax, %%rcx", 0x6c00, 0, 0);		ok[4] = refused();
	TRAP_TRY("vmrun %%rax", mem & ~0xfffUL, 0, 0);		ok[5] = refused();
	TRAP_TRY("vmload %%rax", mem & ~0xfffUL, 0, 0);		ok[6] = refused();
	TRAP_TRY("vmsave %%rax", mem & ~0xfffUL, 0, 0);		ok[7] = refused();
	TRAP_TRY("stgi", 0, 0, 0);				ok[8] = refused();
	TRAP_TRY("clgi", 0, 0, 0);				ok[9] = refused();
	TRAP_TRY(".byte 0x0f, 0x01, 0xde", 0, 0, 0);		ok[10] = refused();
	TRAP_TRY(".byte 0x0f, 0x01, 0xdf", mem, 0, 0);		ok[11] = refused();
	for (unsigned int i = 0; i < 12; i++) {
		if (ok[i])
			continue;
		ktap_note("%s was not refused", names[i]);
		wrong++;
	}
	ktap_eq(wrong, 0, "the instructions of VMX and SVM");
}

static void cpuid_instruction(void)
{
	uint64_t before = exits(DUNE_STAT_CPUID);
	unsigned int leaf0, leaf1c;

	TRAP_TRY("cpuid", 0, 0, 0);
	leaf0 = (unsigned int)trap.rax;
	TRAP_TRY("cpuid", 1, 0, 0);
	leaf1c = (unsigned int)trap.rcx;
	ktap_ok(leaf0 >= 1 && trap.vector == TRAP_NONE && (trap.rdx & 1 << 26) &&
		exits(DUNE_STAT_CPUID) >= before, "CPUID answers");
	ktap_ok(!(leaf1c & 1 << 5), "and does not offer VMX");
	TRAP_TRY("cpuid", 0x80000001, 0, 0);
	ktap_ok(!(trap.rcx & 1 << 2), "nor SVM");
}

static void halt(void)
{
	uint64_t before = exits(DUNE_STAT_HLT);
	double start = child_now();

	for (unsigned int i = 0; i < 10; i++)
		asm volatile("hlt" : : : "memory");
	asm volatile("cli; hlt; sti" : : : "memory");
	ktap_ok(exits(DUNE_STAT_HLT) - before == 11 && child_now() - start < 20,
		"HLT yields and goes on, with IF clear as well");
}

static void cache_and_counters(void)
{
	volatile uint64_t *p = malloc(4096);
	unsigned int lost = 0;

	for (unsigned int i = 0; i < 512; i++)
		p[i] = i + 1;
	TRAP_TRY("invd", 0, 0, 0);
	for (unsigned int i = 0; i < 512; i++)
		lost += p[i] != i + 1;
	free((void *)p);
	ktap_eq(lost, 0, "INVD throws no data away");
	TRAP_TRY("rdpmc", 0, 0x7fffffff, 0);
	ktap_ok(refused(), "RDPMC of a counter that is not there");
	TRAP_TRY("sysenter", 0, 0, 0);
	ktap_ok(refused(), "SYSENTER leads nowhere");
	TRAP_TRY("rdtsc", 0, 0, 0);
	ktap_ok(trap.vector == TRAP_NONE, "RDTSC is the guest's");
}

/* ---- children that cannot go on --------------------------------------- */

struct descriptor {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

static int triple_fault(void *arg)
{
	struct descriptor none = { 0, 0 };

	(void)arg;
	dune_test_child_enter();
	asm volatile("lidt %0; ud2" : : "m"(none));
	return 0;
}

static int lost_page_tables(void *arg)
{
	(void)arg;
	dune_test_child_enter();
	asm volatile("mov %0, %%cr3; mov (%%rsp), %0" : : "r"(0x7ffff000UL) : "memory");
	return 0;
}

static int endless_exceptions(void *arg)
{
	(void)arg;
	dune_test_child_enter();
	/* RSP nowhere: the exception's own delivery faults, and so on. */
	asm volatile("xorl %%esp, %%esp; ud2" : : : "memory");
	return 0;
}

static void dead_ends(struct child *c, const char *what)
{
	int status;

	child_go(c);
	status = child_wait(c);
	ktap_ok(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0 &&
					WEXITSTATUS(status) != DUNE_TEST_NOT_IN_GUEST),
		"%s ends the process alone (%s)", what, child_status(status));
}

int main(void)
{
	struct child triple, lost, endless, other;

	ktap_plan(DUNE_TEST_ENTER + 37 + DUNE_TEST_LEAVE);
	shared = child_shared(sizeof(*shared));
	cpus_pin(0, 0);
	triple = child_start(triple_fault, NULL);
	lost = child_start(lost_page_tables, NULL);
	endless = child_start(endless_exceptions, NULL);
	other = child_start(writer, NULL);
	child_go(&other);
	dune_test_enter();
	ktap_eq(trap_install(), 0, "handlers are in place");

	msrs();
	ports();
	control_registers();
	debug_registers(&other);
	virtualisation();
	cpuid_instruction();
	halt();
	cache_and_counters();
	dead_ends(&triple, "a triple fault");
	dead_ends(&lost, "a CR3 that leads nowhere");
	dead_ends(&endless, "an exception without a stack");
	ktap_ok(syscall(SYS_getpid) > 0, "system calls work as before");
	return dune_test_done();
}
