/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Page faults: accesses that the address space refuses come to the program's
 * handler with the address and the error code of the CPU (SDM vol. 3, 4.7),
 * and can be repaired and retried.  Accesses that the address space merely
 * has not served yet never show.
 */
#include "../dune_test.h"
#include "../trap.h"

#include <fcntl.h>
#include <sys/mman.h>

#define PAGE		4096UL

static volatile struct {
	unsigned int count;
	uintptr_t addr, cr2;
	uint64_t fec;
	uint64_t rip;
} fault;

/* What the handler does about the fault, other than to note it. */
static void (*repair)(uintptr_t page);

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	uintptr_t cr2;

	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	fault.count++;
	fault.addr = addr;
	fault.cr2 = cr2;
	fault.fec = fec;
	fault.rip = tf->rip;
	if (repair && fault.count < 8)
		repair(addr & ~(PAGE - 1));
	else
		_exit(3);	/* a fault that nobody expects would repeat for ever */
}

static void repair_map(uintptr_t page)
{
	mmap((void *)page, PAGE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void repair_write(uintptr_t page)
{
	mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

static void repair_exec(uintptr_t page)
{
	mprotect((void *)page, PAGE, PROT_READ | PROT_EXEC);
}

static unsigned char *map(size_t pages, int prot)
{
	unsigned char *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		ktap_bail("mmap: %s", strerror(errno));
	return p;
}

static void expect(void (*how)(uintptr_t))
{
	memset((void *)&fault, 0, sizeof(fault));
	repair = how;
}

static uint64_t load(const volatile void *p)
{
	return *(const volatile uint8_t *)p;
}

static void unmapped(void)
{
	unsigned char *p = map(3, PROT_READ | PROT_WRITE);
	uint64_t got;

	munmap(p + PAGE, PAGE);

	expect(repair_map);
	got = load(p + PAGE + 0x123);
	ktap_ok(fault.count == 1 && got == 0, "read of an unmapped page: repaired and retried");
	ktap_eq(fault.addr, (uintptr_t)p + PAGE + 0x123, "read: the address is exact");
	ktap_eq(fault.cr2, fault.addr, "read: CR2 says the same");
	ktap_eq(fault.fec, 0, "read: the error code is 0 (not present, read, supervisor)");

	munmap(p + PAGE, PAGE);
	expect(repair_map);
	*(volatile uint32_t *)(p + PAGE + 0xff8) = 0xabcd;
	ktap_ok(fault.count == 1 && *(uint32_t *)(p + PAGE + 0xff8) == 0xabcd,
		"write to an unmapped page: repaired and retried");
	ktap_eq(fault.addr, (uintptr_t)p + PAGE + 0xff8, "write: the address is exact");
	ktap_eq(fault.fec, FEC_W, "write: the error code is W");

	/* Eight bytes over the edge: only the second page is missing. */
	p[PAGE - 1] = 1;
	munmap(p + PAGE, PAGE);
	expect(repair_map);
	got = *(volatile uint64_t *)(p + PAGE - 4);
	ktap_ok(fault.count == 1 && got == 0x01000000 && fault.addr == (uintptr_t)p + PAGE,
		"a read over the edge faults on the first missing byte");
}

static void protection(void)
{
	unsigned char *p = map(2, PROT_READ | PROT_WRITE);

	memset(p, 0x11, 2 * PAGE);
	mprotect(p, PAGE, PROT_READ);
	expect(repair_write);
	ktap_eq(load(p + 5), 0x11, "a read-only page can be read");
	ktap_eq(fault.count, 0, "and reading it is no fault");
	*(volatile uint8_t *)(p + 0x777) = 0x22;
	ktap_ok(fault.count == 1 && p[0x777] == 0x22 && p[0x778] == 0x11,
		"write to a read-only page: repaired, retried, nothing lost");
	ktap_eq(fault.addr, (uintptr_t)p + 0x777, "read-only: the address is exact");
	ktap_eq(fault.fec, FEC_P | FEC_W, "read-only: the error code is P and W");

	mprotect(p + PAGE, PAGE, PROT_NONE);
	expect(repair_write);
	ktap_ok(load(p + PAGE) == 0x11 && fault.count == 1 && !(fault.fec & (FEC_W | FEC_I | FEC_U)),
		"read of a PROT_NONE page");
}

/* mov $42, %eax; ret */
static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };

static void execution(void)
{
	unsigned char *p = map(1, PROT_READ | PROT_WRITE);
	int (*fn)(void);

	memcpy(p + 64, code, sizeof(code));
	mprotect(p, PAGE, PROT_READ);
	fn = (int (*)(void))(void *)(p + 64);

	expect(repair_exec);
	ktap_eq(fn(), 42, "a call into a page without PROT_EXEC: repaired and retried");
	ktap_ok(fault.count == 1 && (fault.fec & FEC_I) && !(fault.fec & FEC_W),
		"execution: one fault, the error code holds I");
	ktap_ok(fault.addr == (uintptr_t)p + 64 && fault.rip == (uintptr_t)p + 64,
		"execution: address and RIP are the target");
}

/* A handler for vector 14 sees the page tables' own refusals as well. */
static void beyond(void)
{
	expect(NULL);
	dune_register_intr_handler(TRAP_PF, trap_on_PF);
	TRAP_TRY("movq (%%rcx), %%rax", 0, 8, 0);
	ktap_ok(trap.vector == TRAP_PF && trap.cr2 == 8 && trap.err == 0, "a null pointer read");
	TRAP_TRY("movq %%rax, (%%rcx)", 0, 0xffff888000000010UL, 0);
	ktap_ok(trap.vector == TRAP_PF && trap.cr2 == 0xffff888000000010UL &&
		(trap.err & (FEC_W | FEC_U)) == FEC_W,
		"a write to the kernel's half stays in the guest");
}

static void unseen(void)
{
	const size_t pages = 1024;
	unsigned char *p = map(pages, PROT_READ | PROT_WRITE);
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	unsigned char *file = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	unsigned int wrong = 0;

	expect(NULL);
	for (size_t i = 0; i < pages; i++) {
		wrong += load(p + i * PAGE) != 0;
		p[i * PAGE + i] = (unsigned char)i;
	}
	for (size_t i = 0; i < pages; i++)
		wrong += p[i * PAGE + i] != (unsigned char)i;
	ktap_ok(wrong == 0 && fault.count == 0, "first touch of %zu anonymous pages is no fault", pages);
	ktap_ok(file != MAP_FAILED && load(file + 1) == 'E' && fault.count == 0,
		"first touch of a file mapping is no fault");
	close(fd);

	munmap(p, PAGE);
	fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int pipes[2];

	if (pipe(pipes))
		ktap_bail("pipe: %s", strerror(errno));
	errno = 0;
	ktap_ok(write(pipes[1], p, 1) == -1 && errno == EFAULT && fault.count == 0,
		"a bad pointer given to a system call is EFAULT, not a fault");
	close(fd);
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 22 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_pgflt_handler(on_fault);

	unmapped();
	protection();
	execution();
	unseen();
	beyond();
	return dune_test_done();
}
