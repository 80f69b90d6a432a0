/* SPDX-License-Identifier: MIT */
/*
 * Functions that have all vector registers loaded while something happens.
 */
#ifndef TESTS_FPU_BANK_H
#define TESTS_FPU_BANK_H

typedef void (*fpu_fn)(const void *in, void *out, unsigned long count);

/*
 * fpu_NAME(in, out, count): loads all sixteen registers (32 of AVX-512) from @in,
 * executes the instruction, stores them to @out.
 */
#define EACH(mov, reg, size, fmt_load)					\
	fmt_load(mov, reg, size, 0)  fmt_load(mov, reg, size, 1)	\
	fmt_load(mov, reg, size, 2)  fmt_load(mov, reg, size, 3)	\
	fmt_load(mov, reg, size, 4)  fmt_load(mov, reg, size, 5)	\
	fmt_load(mov, reg, size, 6)  fmt_load(mov, reg, size, 7)	\
	fmt_load(mov, reg, size, 8)  fmt_load(mov, reg, size, 9)	\
	fmt_load(mov, reg, size, 10) fmt_load(mov, reg, size, 11)	\
	fmt_load(mov, reg, size, 12) fmt_load(mov, reg, size, 13)	\
	fmt_load(mov, reg, size, 14) fmt_load(mov, reg, size, 15)
#define EACH_UPPER(mov, reg, size, fmt_load)				\
	fmt_load(mov, reg, size, 16) fmt_load(mov, reg, size, 17)	\
	fmt_load(mov, reg, size, 18) fmt_load(mov, reg, size, 19)	\
	fmt_load(mov, reg, size, 20) fmt_load(mov, reg, size, 21)	\
	fmt_load(mov, reg, size, 22) fmt_load(mov, reg, size, 23)	\
	fmt_load(mov, reg, size, 24) fmt_load(mov, reg, size, 25)	\
	fmt_load(mov, reg, size, 26) fmt_load(mov, reg, size, 27)	\
	fmt_load(mov, reg, size, 28) fmt_load(mov, reg, size, 29)	\
	fmt_load(mov, reg, size, 30) fmt_load(mov, reg, size, 31)
#define LOAD(mov, reg, size, n)		mov " " #n "*" #size "(%rdi), %" reg #n "\n"
#define STORE(mov, reg, size, n)	mov " %" reg #n ", " #n "*" #size "(%rsi)\n"

#define NONE(mov, reg, size, fmt_load)

#define FPU(name, mov, reg, size, insn)	FPU_WITH(NONE, name, mov, reg, size, insn)

/* @upper: EACH_UPPER or NONE */
#define FPU_WITH(upper, name, mov, reg, size, insn)			\
void fpu_##name(const void *in, void *out, unsigned long count);	\
asm(".text\n.globl fpu_" #name "\n.type fpu_" #name ", @function\n"	\
    "fpu_" #name ":\n"							\
    EACH(mov, reg, size, LOAD) upper(mov, reg, size, LOAD)		\
    insn "\n"								\
    EACH(mov, reg, size, STORE) upper(mov, reg, size, STORE)		\
    "	ret\n.size fpu_" #name ", . - fpu_" #name "\n")

#define INSN_SPIN	"1: decq %rdx; jnz 1b"

#endif /* TESTS_FPU_BANK_H */
