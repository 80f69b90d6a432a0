/* SPDX-License-Identifier: MIT */
/*
 * Instructions whose results differ from run to run, given to the program instead: the
 * time-stamp counter, CPUID and random numbers.  For deterministic execution, record and
 * replay, and programs that are to see another CPU.
 *
 * The CPU leaves guest mode for them and the module raises #GP (docs/abi.md): one exit
 * each.  Everything in the thread meets it, ring 3, libc and the vDSO's clock too.
 */
#ifndef LIBDUNE_INSN_H
#define LIBDUNE_INSN_H

#include "types.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dune_tf;

/* What dune_trap_insn() may be asked for. */
#define DUNE_INSN_RDTSC		1	/* RDTSC and RDTSCP */
#define DUNE_INSN_CPUID		2
#define DUNE_INSN_RDRAND	4	/* RDRAND and RDSEED: not on AMD */

/* Which one it was. */
enum dune_insn_kind {
	DUNE_IS_RDTSC,		/* result: edx:eax */
	DUNE_IS_RDTSCP,		/* the same, and ecx: TSC_AUX, which is node << 12 | CPU */
	DUNE_IS_CPUID,		/* leaf: eax, ecx; result: eax ebx ecx edx */
	DUNE_IS_RDRAND,		/* result: *dest and RFLAGS.CF */
	DUNE_IS_RDSEED,		/* likewise */
};

struct dune_insn {
	enum dune_insn_kind kind;
	unsigned int size;	/* of RDRAND and RDSEED: 2, 4 or 8 bytes; else 4 */
	uint64_t *dest;		/* of RDRAND and RDSEED: the register, in the trap frame */
};

/*
 * @tf: the registers at the instruction, but rip, which is behind it already.  The handler
 * stores the result with dune_insn_set() or by hand (a 32-bit result clears the upper
 * half, SDM volume 1, 3.4.1.1).  It runs as described at dune_register_intr_handler(), in
 * the thread that executed the instruction, and must not execute such an instruction
 * itself: what it needs of the real ones is to be read before.
 */
typedef void (*dune_insn_cb)(const struct dune_insn *insn, struct dune_tf *tf);

/**
 * dune_trap_insn - see some instructions instead of executing them
 * @mask: DUNE_INSN_*; 0: none any more
 * @cb: what gets them; NULL only if @mask is 0.  One for the process, the last that was given
 *
 * @mask is for the calling thread, and for threads and children that it makes
 * afterwards.  In Dune mode only.
 *
 * Return: 0; -ENOTSUP the CPU cannot do one of them: nothing changes; -EINVAL outside
 * Dune mode, an unknown bit, or no @cb.
 */
int dune_trap_insn(unsigned int mask, dune_insn_cb cb);

/**
 * dune_insn_set - store the result of RDRAND, RDSEED, RDTSC or RDTSCP
 * @value: the number, as much of it as the destination takes
 *
 * Of RDRAND and RDSEED with the carry flag set, which says that there is a number, and
 * the other flags clear.  ECX of RDTSCP stays as it was.
 */
void dune_insn_set(const struct dune_insn *insn, struct dune_tf *tf, uint64_t value);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_INSN_H */
