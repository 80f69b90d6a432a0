// SPDX-License-Identifier: MIT
/*
 * Instructions that the program wants to see: see insn.h of the public headers.  They
 * come as #GP, and are told from others by their bytes.
 *
 * Lean code.
 */
#include <asm/processor-flags.h>
#include <errno.h>
#include <sys/syscall.h>

#include "local.h"

#define MAX_LEN		15	/* SDM volume 2, 2.3.11 */
#define PREFIX_66	0x66
#define PREFIX_REP	0xf3
#define REX_W		8
#define REX_B		1

static dune_insn_cb handler;

_Static_assert(DUNE_INSN_RDTSC == DUNE_TRAP_RDTSC && DUNE_INSN_CPUID == DUNE_TRAP_CPUID &&
	       DUNE_INSN_RDRAND == DUNE_TRAP_RDRAND, "the module's bits");

/* The registers by their numbers in an instruction; rsp is where the CPU put it. */
static uint64_t *reg(struct dune_tf *tf, unsigned int nr)
{
	static const uint8_t at[16] = {
		TF_RAX, TF_RCX, TF_RDX, TF_RBX, TF_RSP, TF_RBP, TF_RSI, TF_RDI,
		TF_R8, TF_R9, TF_R10, TF_R11, TF_R12, TF_R13, TF_R14, TF_R15,
	};

	return (uint64_t *)((char *)tf + at[nr]);
}

static bool is_prefix(uint8_t b)
{
	return b == PREFIX_66 || b == 0x67 || b == 0xf2 || b == PREFIX_REP || b == 0x2e ||
	       b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 || b == 0x65;
}

/* 0F C7 /6 and /7 with a register; F3 makes the latter RDPID. */
static bool decode_random(struct dune_insn *insn, struct dune_tf *tf, uint8_t modrm,
			  uint8_t rex, bool is_short, bool rep)
{
	unsigned int op = modrm >> 3 & 7;

	if (modrm < 0xc0 || op < 6 || rep)
		return false;
	insn->kind = op == 6 ? DUNE_IS_RDRAND : DUNE_IS_RDSEED;
	insn->size = rex & REX_W ? 8 : is_short ? 2 : 4;
	insn->dest = reg(tf, (modrm & 7) | (rex & REX_B ? 8 : 0));
	return true;
}

/* How long the instruction at tf->rip is, if it is one of those; else 0. */
static unsigned int decode(struct dune_insn *insn, struct dune_tf *tf)
{
	const volatile uint8_t *b = (const volatile uint8_t *)tf->rip;
	bool is_short = false, rep = false;
	unsigned int n = 0;
	uint8_t rex = 0;

	for (; n < MAX_LEN - 3 && is_prefix(b[n]); n++) {
		is_short |= b[n] == PREFIX_66;
		rep |= b[n] == PREFIX_REP;
	}
	if ((b[n] & 0xf0) == 0x40)
		rex = b[n++];
	if (b[n++] != 0x0f)
		return 0;
	insn->size = 4;
	insn->dest = NULL;
	switch (b[n++]) {
	case 0x31:
		insn->kind = DUNE_IS_RDTSC;
		return n;
	case 0xa2:
		insn->kind = DUNE_IS_CPUID;
		return n;
	case 0x01:
		insn->kind = DUNE_IS_RDTSCP;
		return b[n] == 0xf9 ? n + 1 : 0;
	case 0xc7:
		return decode_random(insn, tf, b[n], rex, is_short, rep) ? n + 1 : 0;
	}
	return 0;
}

/* #GP, on the handler's stack.  False: it is about something else. */
bool __dune_insn_fault(struct dune_tf *tf)
{
	dune_insn_cb cb = __atomic_load_n(&handler, __ATOMIC_ACQUIRE);
	struct dune_insn insn;
	unsigned int len;

	if (!cb || tf->err)
		return false;
	len = decode(&insn, tf);
	if (!len)
		return false;
	tf->rip += len;
	cb(&insn, tf);
	return true;
}

DUNE_EXPORT int dune_trap_insn(unsigned int mask, dune_insn_cb cb)
{
	struct dune_percpu *pc = __dune_this_percpu();
	struct dune_state st;
	long ret;

	if (!pc || mask & ~(DUNE_INSN_RDTSC | DUNE_INSN_CPUID | DUNE_INSN_RDRAND) || (mask && !cb))
		return -EINVAL;
	if (mask & ~(__dune_info.features >> DUNE_FEAT_TRAPS_SHIFT))
		return -ENOTSUP;
	if (cb) {
		__atomic_store_n(&handler, cb, __ATOMIC_RELEASE);
		__dune_insn_watch();
	}
	ret = __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_GET_STATE, &st);
	if (ret)
		return (int)ret;
	st.traps = (uint16_t)mask;
	return (int)__dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_SET_STATE, &st);
}

DUNE_EXPORT void dune_insn_set(const struct dune_insn *insn, struct dune_tf *tf, uint64_t value)
{
	const uint64_t flags = X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF |
			       X86_EFLAGS_SF | X86_EFLAGS_OF;

	if (insn->dest) {
		if (insn->size == 2)
			*insn->dest = (*insn->dest & ~0xffffUL) | (value & 0xffff);
		else
			*insn->dest = insn->size == 4 ? (uint32_t)value : value;
		tf->rflags = (tf->rflags & ~flags) | X86_EFLAGS_CF;
	} else if (insn->kind == DUNE_IS_RDTSC || insn->kind == DUNE_IS_RDTSCP) {
		tf->rax = (uint32_t)value;
		tf->rdx = value >> 32;
	}
}
