/* SPDX-License-Identifier: MIT */
/*
 * One instruction that may raise an exception, and what came of it.
 *
 *	trap_install();				(in Dune mode, once)
 *	vector = TRAP_TRY("ud2", 0, 0, 0);	(6; trap.rip is where)
 *
 * The handlers note the exception and resume behind the instruction, with all
 * registers as they were: what an instruction would have written stays as the
 * caller loaded it.
 */
#ifndef TESTS_TRAP_H
#define TESTS_TRAP_H

#include <libdune/dune.h>
#include <stdint.h>

#define TRAP_NONE	(-1)

#define TRAP_DE		0
#define TRAP_DB		1
#define TRAP_BP		3
#define TRAP_UD		6
#define TRAP_NM		7
#define TRAP_NP		11
#define TRAP_SS		12
#define TRAP_GP		13
#define TRAP_PF		14
#define TRAP_MF		16
#define TRAP_XM		19

static volatile struct {
	int vector;		/* of the last exception, TRAP_NONE if none came */
	unsigned int count;	/* exceptions since TRAP_TRY() began */
	uint32_t err;
	uint64_t rip;
	uint64_t rsp;
	uint64_t rflags;
	uint64_t cr2;
	uint64_t resume;	/* where to go on */
	uint64_t rax, rcx, rdx;	/* after TRAP_TRY() */
	uint64_t mem[8];	/* an operand for instructions that want memory */
} trap;

static void trap_note(int vector, struct dune_tf *tf)
{
	uint64_t cr2;

	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	trap.vector = vector;
	trap.count++;
	trap.err = tf->err;
	trap.rip = tf->rip;
	trap.rsp = tf->rsp;
	trap.rflags = tf->rflags;
	trap.cr2 = cr2;
	tf->rip = trap.resume;
}

#define TRAP_HANDLER(vector)						\
static void trap_on_##vector(struct dune_tf *tf)			\
{									\
	trap_note(TRAP_##vector, tf);					\
}

TRAP_HANDLER(DE)
TRAP_HANDLER(DB)
TRAP_HANDLER(BP)
TRAP_HANDLER(UD)
TRAP_HANDLER(NM)
TRAP_HANDLER(NP)
TRAP_HANDLER(SS)
TRAP_HANDLER(GP)
TRAP_HANDLER(PF)
TRAP_HANDLER(MF)
TRAP_HANDLER(XM)

/* Takes every exception above.  0, or what dune_register_intr_handler() said. */
__attribute__((unused)) static int trap_install(void)
{
	static const struct {
		int vector;
		dune_intr_cb handler;
	} all[] = {
		{ TRAP_DE, trap_on_DE }, { TRAP_DB, trap_on_DB }, { TRAP_BP, trap_on_BP },
		{ TRAP_UD, trap_on_UD }, { TRAP_NM, trap_on_NM }, { TRAP_NP, trap_on_NP },
		{ TRAP_SS, trap_on_SS }, { TRAP_GP, trap_on_GP }, { TRAP_PF, trap_on_PF },
		{ TRAP_MF, trap_on_MF }, { TRAP_XM, trap_on_XM },
	};

	for (unsigned int i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int ret = dune_register_intr_handler(all[i].vector, all[i].handler);

		if (ret)
			return ret;
	}
	return 0;
}

/*
 * Runs @insn with the three registers loaded and RDI = RSI = trap.mem, which
 * is also the operand [mem].  Returns the vector, or TRAP_NONE.
 */
#define TRAP_TRY(insn, in_rax, in_rcx, in_rdx)				\
({									\
	unsigned long try_a = (unsigned long)(in_rax);			\
	unsigned long try_c = (unsigned long)(in_rcx);			\
	unsigned long try_d = (unsigned long)(in_rdx);			\
	unsigned long try_di = (unsigned long)&trap.mem;		\
	unsigned long try_si = (unsigned long)&trap.mem;		\
									\
	trap.vector = TRAP_NONE;					\
	trap.count = 0;							\
	asm volatile("leaq 771f(%%rip), %%r11\n\t"			\
		     "movq %%r11, %[resume]\n\t"			\
		     insn "\n"						\
		     "771:"						\
		     : "+a"(try_a), "+c"(try_c), "+d"(try_d),		\
		       "+D"(try_di), "+S"(try_si),			\
		       [resume] "=m"(trap.resume), [mem] "+m"(trap.mem)	\
		     : : "rbx", "r11", "memory", "cc");			\
	trap.rax = try_a;						\
	trap.rcx = try_c;						\
	trap.rdx = try_d;						\
	trap.vector;							\
})

#endif /* TESTS_TRAP_H */
