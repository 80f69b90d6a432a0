/* SPDX-License-Identifier: MIT */
/*
 * What a thread in Dune mode owns, for C and for assembly.
 *
 * One mapping ("block") per thread, aligned to DUNE_BLOCK_ALIGN:
 *
 *	0x00000	struct dune_percpu
 *	0x01000	IST 1: exceptions; four levels, the first at 0x9000
 *	0x09000	IST 2: #DF; grows down from 0xa000
 *	0x0a000	IST 3: interrupts; grows down from 0xc000
 *	0x0c000	the run page of the vCPU
 *	0x0d000	the stats page of the vCPU
 *	0x0e000	guard
 *	0x0f000	host stack; grows down from DUNE_BLOCK_SIZE
 *
 * Rounding a stack pointer down to DUNE_BLOCK_ALIGN finds the block: the trap
 * entry does it with the IST stack that the CPU loaded from the TSS, the host
 * side's signal handler with the host stack.  Neither GS nor FS need be what
 * libdune set them to.
 *
 * A level of IST 1, from its top down: struct dune_tf, which begins with what the
 * CPU pushed; the vector registers at DUNE_LEVEL_FPU; the stack of trap.c.  The
 * TSS names the top of the level that the next exception takes.
 */
#ifndef LIBDUNE_PERCPU_H
#define LIBDUNE_PERCPU_H

#define DUNE_BLOCK_ALIGN	0x20000
#define DUNE_IST_BOTTOM		0x1000
#define DUNE_LEVEL_SIZE		0x2000
#define DUNE_LEVEL_FPU		0xc00	/* below the top; 64-byte aligned */
#define DUNE_LEVEL_FPU_SIZE	0xb00
#define DUNE_LEVEL_LAST_TOP	0x3000
#define DUNE_IST1_TOP		0x9000
#define DUNE_IST2_TOP		0xa000
#define DUNE_IST3_TOP		0xc000
#define DUNE_RUN_OFFSET		0xc000
#define DUNE_STATS_OFFSET	0xd000
#define DUNE_GUARD_OFFSET	0xe000
#define DUNE_HOST_STACK_SIZE	0x10000
#define DUNE_BLOCK_SIZE		(0xf000 + DUNE_HOST_STACK_SIZE)

/* struct dune_percpu */
#define PC_RUN		8
#define PC_HOST_RSP	16
#define PC_VCPU_FD	32
#define PC_ACTIVE	36
#define PC_MOVING	40
#define PC_DEFERRED	44
#define PC_GATE_RET	48
#define PC_RESUME_MASK	56
#define PC_CPU		64
#define PC_RESTORING	68
#define PC_GATE_PLAIN	72
#define PC_FLOOR	80
#define PC_RING0_RSP	88
#define PC_USER_RSP	96
#define PC_USER_FS	104
#define PC_RING0_FS	112
#define PC_RING_FRAME	120
#define PC_TSS		128
#define PC_IST1		164		/* tss.ist[0] */

/* struct dune_regs */
#define GR_RAX		0
#define GR_RCX		8
#define GR_RDX		16
#define GR_RBX		24
#define GR_RSP		32
#define GR_RBP		40
#define GR_RSI		48
#define GR_RDI		56
#define GR_R8		64
#define GR_R9		72
#define GR_R10		80
#define GR_R11		88
#define GR_R12		96
#define GR_R13		104
#define GR_R14		112
#define GR_R15		120
#define GR_RIP		128
#define GR_RFLAGS	136
#define GR_SIZE	144

/* struct dune_run; its first member is struct dune_regs */
#define RUN_EXIT_REASON	160

/* struct dune_tf */
#define TF_RDI		0
#define TF_RSI		8
#define TF_RDX		16
#define TF_RCX		24
#define TF_R8		32
#define TF_R9		40
#define TF_R10		48
#define TF_R11		56
#define TF_RBX		64
#define TF_RBP		72
#define TF_R12		80
#define TF_R13		88
#define TF_R14		96
#define TF_R15		104
#define TF_RAX		112
#define TF_ERR		120
#define TF_RIP		128
#define TF_CS		136
#define TF_RFLAGS	144
#define TF_RSP		152
#define TF_SS		160
#define TF_SIZE		168

/* Numbers that assembly needs; thread.c checks them against the ABI header. */
#define ASM_RUN_SEEK			-0xd710
#define ASM_EXIT_SYSCALL		1
#define ASM_EXIT_INTERRUPTED		2
#define DUNE_NR_CALLS			512
#define DUNE_INT80_LEN			2

/*
 * What libdune's own guest code asks of the host side, by __dune_hypercall():
 * known by the address of the instruction, so no program's call number clashes.
 */
#define DUNE_ASK_SIGNAL			0	/* a signal waits: deliver it here */
#define DUNE_ASK_TRAP			1	/* make a signal of this exception */
#define DUNE_ASK_LOST			2	/* the same, and its frame could not be moved */
#define DUNE_ASK_STACK			3	/* 0: Linux has memory at both addresses */

/* The error code of an INT instruction with a vector that should have one. */
#define DUNE_ERR_INT			-1

/* What the trap entry calls a fault that turned out to be none. */
#define DUNE_VEC_NONE			256

/*
 * Injected to bring a thread out of ring 3 when a signal waits: the vector of the
 * i386's coprocessor segment overrun, which no 64-bit CPU raises.
 */
#define DUNE_VEC_KICK			9

/* The module delivers it when interrupts of other threads wait: see apic.c. */
#define DUNE_VEC_IPI			255

/* Threads in Dune mode. */
#define DUNE_MAX_BLOCKS			4096

/*
 * Ring 3 runs with IOPL 1 and everything else with IOPL 0.  Ring 3 cannot change
 * the field (SDM 6.8 of volume 1, APM 3.1.4), so r11 tells the system-call gate,
 * and rflags the host side, where the thread was.
 */
#define DUNE_USER_IOPL			0x1000
#define DUNE_IOPL			0x3000

#define SEL_KT				0x10
#define SEL_KD				0x18
#define GD_UD_RPL3			0x2b
#define GD_UT_RPL3			0x33

/* What __dune_hook_pre() says about a system call. */
#define HOOK_CALL			0	/* make it, and call __dune_hook_post() */
#define HOOK_ANSWERED			1	/* the result is there */
#define HOOK_NONE			2	/* it is not hooked */

#ifndef __ASSEMBLER__

#include <stdint.h>

#include "libdune/dune.h"

/* The 64-bit task state segment (SDM 7.7, APM 12.2.5). */
struct dune_tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3;
	uint16_t iomap_base;
} __attribute__((packed));

/*
 * Entries 0..8 are the GD_* selectors.  15 is Linux's own: its limit tells
 * the vDSO the number of the CPU on machines without RDPID.
 */
#define DUNE_GDT_CPU	15
#define DUNE_GDT_NR	16

/* struct sigaction and stack_t as the kernel has them. */
struct dune_sigaction {
	uint64_t handler;
	uint64_t flags;
	uint64_t restorer;
	uint64_t mask;
};

struct dune_altstack {
	uint64_t sp;
	int32_t flags;
	uint32_t pad;
	uint64_t size;
};

/* The program's signal actions; shared by threads as CLONE_SIGHAND says. */
struct dune_sigtable {
	uint32_t lock;
	struct dune_sigaction act[65];
};

#define T_GP	13
#define T_PF	14

/* What the CPU said about the exception that the next signal stems from. */
struct dune_trapinfo {
	int sig;			/* 0: none */
	uint32_t err;
	uint64_t vec;
	uint64_t cr2;
};

#define DUNE_SIGINFO_SIZE	128

struct dune_percpu {
	struct dune_percpu *self;	/* GS base points here; or the block of dune_enter_ex() */
	struct dune_run *run;
	uint64_t host_rsp;		/* top of the host stack */
	uint64_t stack_first;		/* pages from here to stack_last can take trap frames */
	int32_t vcpu_fd;		/* -1: none */
	uint32_t active;		/* the guest has run: set by its first instruction */
	uint32_t moving;		/* a trap frame is being moved to the stack */
	uint32_t deferred;		/* a signal waits in deferred_info */
	uint64_t gate_ret;		/* rip behind the gate's hypercall */
	uint64_t resume_mask;		/* what host_asm.S sets the signal mask to */
	uint32_t cpu;			/* limit of Linux's CPU segment, as in our GDT */
	uint32_t restoring;		/* a sigreturn is at work: restore_mask is the mask */
	uint64_t gate_plain;		/* gate_ret; 0: all calls are looked at first (host.c) */
	uint64_t floor;			/* a trap whose frame lies below takes the long way */

	/* Ring 3: see ring_asm.S. */
	uint64_t ring0_rsp;		/* where ring 3's traps go; 0: no ring 3 */
	uint64_t user_rsp;
	uint64_t user_fs;
	uint64_t ring0_fs;
	uint64_t ring_frame;		/* what dune_ret_from_user() returns to */
	struct dune_tss tss;

	uint64_t floor_normal;
	uint64_t irq_waits[4];		/* a bit per vector */
	uint64_t stack_last;
	uint32_t irqs;			/* there is one */
	uint32_t apic_id;		/* its place in the registry of blocks */
	uint32_t ring_gate;		/* LSTAR is a gate that knows of ring 3 */
	uint32_t hooking;		/* a hook of hooks.c is at work */
	uint32_t replays;		/* of one and the same refused access */
	uint64_t replay_hva;
	uint64_t replay_mark;		/* its place in time: hypercalls before it */
	const struct dune_stats *stats;

	/* Signals: see sigframe.h. */
	struct dune_sigtable *sigs;
	struct dune_altstack altstack;	/* the program's; Linux has none */
	uint32_t handling;		/* the host handler is at work */
	uint64_t restore_mask;
	uint64_t masked;		/* unblocked for a replay, though the program blocks it */
	uint64_t deferred_mask;		/* the thread's mask while deferred is set */
	struct dune_trapinfo trap;
	uint64_t deferred_info[DUNE_SIGINFO_SIZE / 8];

	/* System-call user dispatch: see dispatch.c. */
	uint64_t dispatch_offset;	/* calls from here on, for so many bytes, are made */
	uint64_t dispatch_len;
	uint64_t dispatch_selector;	/* address of the byte that decides on others; or 0 */
	uint32_t strict;		/* seccomp's strict mode: see seccomp.c */

	/* Children: see child.c. */
	struct dune_percpu *next_child;	/* a block made for one that is not made yet */
	uint32_t vforked;		/* the parent frees this block */
	uint32_t alone;			/* shares memory, but is a process of its own */
	uint32_t shares_files;		/* copied memory, but not its parent's descriptors */
	struct dune_state child_state;	/* what a child starts with */
	struct dune_regs child_regs;

	uint64_t gdt[DUNE_GDT_NR];
};

#endif /* !__ASSEMBLER__ */
#endif /* LIBDUNE_PERCPU_H */
