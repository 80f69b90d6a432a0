/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * The 128 bytes below RSP belong to the interrupted function (System V ABI,
 * 3.2.2).  An exception or a system call in a leaf function leaves them
 * alone, whatever the stack's alignment; and handlers get an aligned stack.
 */
#include "../dune_test.h"
#include "../trap.h"

#include <sys/mman.h>

#define ROUNDS	100

/*
 * leaf_NAME(pattern, addr): fills the red zone with pattern + i, executes the
 * instruction, counts the words that changed.  RSP is lowered by r8 first,
 * to try alignments no compiler would choose.
 */
#define LEAF(name, insn)						\
unsigned long leaf_##name(unsigned long pattern, void *addr, unsigned long lower); \
asm(".text\n"								\
    ".globl leaf_" #name "\n"						\
    ".type leaf_" #name ", @function\n"					\
    "leaf_" #name ":\n"							\
    "	movq %rsp, %r9\n"						\
    "	subq %rdx, %rsp\n"						\
    "	movq %rdx, %r8\n"						\
    "	movl $16, %ecx\n"						\
    "1:	leaq (%rdi,%rcx), %rax\n"					\
    "	negq %rcx\n"							\
    "	movq %rax, (%rsp,%rcx,8)\n"					\
    "	negq %rcx\n"							\
    "	decl %ecx\n"							\
    "	jnz 1b\n"							\
    "	xorl %ecx, %ecx\n"						\
    "	movl $39, %eax\n"						\
    "	" insn "\n"							\
    "	xorl %eax, %eax\n"						\
    "	movl $16, %ecx\n"						\
    "2:	leaq (%rdi,%rcx), %rdx\n"					\
    "	negq %rcx\n"							\
    "	cmpq %rdx, (%rsp,%rcx,8)\n"					\
    "	je 3f\n"							\
    "	incl %eax\n"							\
    "3:	negq %rcx\n"							\
    "	decl %ecx\n"							\
    "	jnz 2b\n"							\
    "	movq %r9, %rsp\n"						\
    "	ret\n"								\
    ".size leaf_" #name ", . - leaf_" #name "\n")

LEAF(ud2, "ud2");
LEAF(idiv, "xorl %edx, %edx; idivl %ecx");
LEAF(int3, "int3; nop");
LEAF(load, "movl (%rsi), %eax");
LEAF(gp, "movw $0xfff8, %ax; movw %ax, %fs");
LEAF(syscall, "syscall; xorl %ecx, %ecx");
LEAF(softint, "int $0x42");

/* Bytes to skip after the exception; the fault's handler repairs instead. */
static volatile unsigned int taken, misaligned;

__attribute__((noinline)) static void note(void)
{
	/* Aligned SSE stores by the compiler rely on this (System V ABI 3.2.2). */
	if ((uintptr_t)__builtin_frame_address(0) % 16)
		misaligned++;
	taken++;
}

static void skip2(struct dune_tf *tf)
{
	volatile char buf[512];

	note();
	for (unsigned int i = 0; i < sizeof(buf); i++)
		buf[i] = (char)0xee;
	tf->rip += 2;
}

static void skip0(struct dune_tf *tf)
{
	(void)tf;
	note();
}

static unsigned char *page;

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	(void)fec;
	(void)tf;
	note();
	if ((addr & ~4095UL) != (uintptr_t)page)
		_exit(3);
	mprotect(page, 4096, PROT_READ);
}

static void try_leaf(const char *name, unsigned long (*leaf)(unsigned long, void *, unsigned long),
		     bool faults)
{
	static const unsigned long lower[] = { 0, 8, 16, 24, 40, 1, 3, 5 };
	unsigned long changed = 0;
	unsigned int expected = 0;

	taken = 0;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		if (faults && leaf == leaf_load)
			mprotect(page, 4096, PROT_NONE);
		changed += leaf(0x1000UL * i + 0xabcdef0000UL, page, 256 + lower[i % 8]);
		expected += faults;
	}
	ktap_eq(taken, expected, "%s: each round reached its handler", name);
	ktap_eq(changed, 0, "%s: the red zone is as it was", name);
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 15 + DUNE_TEST_LEAVE);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	dune_test_enter();

	dune_register_intr_handler(TRAP_UD, skip2);
	dune_register_intr_handler(TRAP_DE, skip2);
	dune_register_intr_handler(TRAP_BP, skip0);
	dune_register_intr_handler(TRAP_GP, skip2);
	dune_register_intr_handler(0x42, skip0);
	dune_register_pgflt_handler(on_fault);

	try_leaf("invalid opcode", leaf_ud2, true);
	try_leaf("divide error", leaf_idiv, true);
	try_leaf("breakpoint", leaf_int3, true);
	try_leaf("general protection", leaf_gp, true);
	try_leaf("page fault", leaf_load, true);
	try_leaf("software interrupt", leaf_softint, true);
	try_leaf("system call", leaf_syscall, false);
	ktap_eq(misaligned, 0, "handlers run on an aligned stack");
	return dune_test_done();
}
