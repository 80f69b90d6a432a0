/* SPDX-License-Identifier: MIT */
/* dunelab: timeout=60 */
/*
 * The supervisor bit from ring 0's side: SMEP forbids it to execute ring 3's pages, SMAP
 * to read and write them unless EFLAGS.AC is set (SDM 4.6, APM 5.6).  With
 * dune_init(false), where only what the program marks is ring 3's.
 */
#include "../dune_test.h"

#include <libdune/cpu-x86.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static unsigned char *page;
static volatile uint64_t fault_err, fault_addr, resume_at;
static volatile unsigned int faults;

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	faults++;
	fault_addr = addr;
	fault_err = fec;
	tf->rip = resume_at;
}

static void set_cr4(unsigned long bit, bool on)
{
	unsigned long cr4;

	asm volatile("mov %%cr4, %0" : "=r"(cr4));
	cr4 = on ? cr4 | bit : cr4 & ~bit;
	asm volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");
}

/* Call the page, which returns; a fault comes back here. */
static void execute(void)
{
	asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n\t"
		     "mov %%rsp, %%rbx\n\tsub $128, %%rsp\n\tcall *%1\n"
		     "1:	mov %%rbx, %%rsp"
		     : "=m"(resume_at) : "r"(page) : "rax", "rbx", "memory", "cc");
}

/* Write to the page, with or without AC around it. */
static void store(bool ac)
{
	if (ac)
		asm volatile("stac" : : : "memory", "cc");
	asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n\tmovb $0x90, 8(%1)\n1:"
		     : "=m"(resume_at) : "r"(page) : "rax", "memory");
	if (ac)
		asm volatile("clac" : : : "memory", "cc");
}

static bool faulted(uint64_t err, const volatile void *at)
{
	bool yes = faults == 1 && fault_err == err && fault_addr == (uint64_t)at;

	if (!yes)
		ktap_note("%u faults, error code 0x%lx, address 0x%lx", faults,
			  (unsigned long)fault_err, (unsigned long)fault_addr);
	faults = 0;
	return yes;
}

static void smep(void)
{
	execute();
	ktap_eq(faults, 0, "without SMEP ring 0 executes a page of ring 3's");
	set_cr4(CR4_SMEP, true);
	execute();
	ktap_ok(faulted(FEC_P | FEC_I, page), "with SMEP that is a page fault, a fetch");
	dune_vm_mprotect(pgroot, page, 4096, PERM_R | PERM_W | PERM_X);
	execute();
	ktap_eq(faults, 0, "and not without the page's user bit");
	dune_vm_mprotect(pgroot, page, 4096, PERM_R | PERM_W | PERM_X | PERM_U);
	set_cr4(CR4_SMEP, false);
}

static void smap(void)
{
	store(false);
	ktap_eq(faults, 0, "without SMAP ring 0 writes to a page of ring 3's");
	set_cr4(CR4_SMAP, true);
	store(false);
	ktap_ok(faulted(FEC_P | FEC_W, page + 8), "with SMAP that is a page fault, a write");
	store(true);
	ktap_eq(faults, 0, "between STAC and CLAC it is none");
	ktap_eq(syscall(SYS_getppid), getppid(), "and system calls go on");
	set_cr4(CR4_SMAP, false);
}

int main(void)
{
	struct dune_info info;
	int ret;

	/* All memory that is used later is there before. */
	ktap_plan(DUNE_TEST_ENTER + 3 + 4 + DUNE_TEST_LEAVE);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	memset(page, 0xc3, 8);		/* RET */
	ret = dune_test_native() ? 0 : dune_init(false);
	if (ret)
		ktap_bail("dune_init: %s", strerror(-ret));
	dune_test_enter();
	dune_register_pgflt_handler(on_fault);
	if (ioctl(dune_fd, DUNE_GET_INFO, &info) ||
	    dune_vm_map_phys(pgroot, page, 4096, (void *)dune_va_to_pa(page),
			     PERM_R | PERM_W | PERM_X | PERM_U))
		ktap_bail("no page");
	if (info.cr4_allowed & CR4_SMEP)
		smep();
	else
		for (int i = 0; i < 3; i++)
			ktap_skip("SMEP", "the CPU has none");
	if (info.cr4_allowed & CR4_SMAP)
		smap();
	else
		for (int i = 0; i < 4; i++)
			ktap_skip("SMAP", "the CPU has none");
	return dune_test_done();
}
