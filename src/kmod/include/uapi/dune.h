/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The interface between dune.ko and user space.
 *
 * Opening /dev/dune gives the VM of the opening process's address space.
 * DUNE_CREATE_VCPU on it gives a file descriptor that is a vCPU: the first
 * thread that uses it owns it, and only that thread may run it.  Both are
 * ordinary file descriptors: close, exec, exit and kill tear down by
 * reference counting.
 *
 * Nothing that user space writes here is trusted.  docs/abi.md tells the
 * whole contract.
 */
#ifndef _UAPI_DUNE_H
#define _UAPI_DUNE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DUNE_ABI_VERSION	5

/* enum dune_info.vendor */
#define DUNE_VENDOR_VMX		1
#define DUNE_VENDOR_SVM		2

/* dune_info.features: what this CPU lets a guest use */
#define DUNE_FEAT_NX		(1ULL << 0)
#define DUNE_FEAT_1GB_PAGES	(1ULL << 1)
#define DUNE_FEAT_PCID		(1ULL << 2)
#define DUNE_FEAT_INVPCID	(1ULL << 3)
#define DUNE_FEAT_SMEP		(1ULL << 4)
#define DUNE_FEAT_SMAP		(1ULL << 5)
#define DUNE_FEAT_FSGSBASE	(1ULL << 6)
#define DUNE_FEAT_XSAVE		(1ULL << 7)
#define DUNE_FEAT_PKU		(1ULL << 8)
#define DUNE_FEAT_FAST_CALLS	(1ULL << 9)	/* DUNE_SET_FAST_CALLS works: the kernel's doing */
#define DUNE_FEAT_TRAPS_SHIFT	10		/* from here on: the DUNE_TRAP_* that can be set */
#define DUNE_FEAT_POSTED	(1ULL << 32)	/* no exit; the guest ends them */

struct dune_info {
	__u32 abi_version;
	__u32 vendor;
	__u64 features;
	__u64 cr4_allowed;	/* bits that DUNE_SET_STATE and MOV CR4 accept */
	__u32 gpa_bits;		/* guest-physical addresses are below 1 << gpa_bits */
	__u32 window_shift;	/* log2 of a window's size: 30 */
	__u32 run_size;		/* bytes to mmap at DUNE_MMAP_RUN */
	__u32 stats_size;	/* bytes to mmap at DUNE_MMAP_STATS */
};

/*
 * A window: the aligned 1 GiB of host-virtual addresses around @hva appears
 * at @gpa for as long as the VM lives.  Asking again gives the same answer.
 */
struct dune_window {
	__u64 hva;		/* in: any address; out: start of the window */
	__u64 gpa;		/* out */
};

/*
 * All windows of a VM that has none yet, in order: window i appears at
 * guest-physical i << 30.  The child of a fork so gets the layout of its
 * parent, whose page tables it has copied.
 */
struct dune_windows {
	__u64 hvas;		/* address of __u64[nr]: start of each window */
	__u32 nr;
	__u32 pad;		/* 0 */
};

/* In dune_windows.hvas: this place stays empty. */
#define DUNE_NO_WINDOW		(~0ULL)

struct dune_regs {
	__u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
	__u64 r8, r9, r10, r11, r12, r13, r14, r15;
	__u64 rip, rflags;
};

/* Everything of a vCPU that is not in struct dune_regs. */
struct dune_state {
	__u64 cr0, cr2, cr3, cr4;
	__u64 fs_base, gs_base, kernel_gs_base;
	__u64 gdt_base, idt_base, tr_base;
	__u64 star, lstar, cstar, sfmask;
	__u32 gdt_limit, idt_limit, tr_limit;
	__u16 cs, ss;		/* flat 64-bit segments; the RPL of cs is the CPL */
	__u16 tr;
	__u16 traps;		/* DUNE_TRAP_* */
	__u16 pad[4];
};

/* dune_state.traps: instructions that raise #GP(0), in any ring */
#define DUNE_TRAP_RDTSC		(1U << 0)	/* RDTSC and RDTSCP */
#define DUNE_TRAP_CPUID		(1U << 1)
#define DUNE_TRAP_RDRAND	(1U << 2)	/* RDRAND and RDSEED */

/*
 * System calls that the module may make itself, as a set of numbers.  It has a
 * list of its own and takes what is in both.
 */
#define DUNE_NR_FAST_CALLS	512

struct dune_fast_calls {
	__u64 gate;		/* address of the hypercall instruction that asks for them */
	__u64 bitmap[DUNE_NR_FAST_CALLS / 64];
};

/* dune_run.exit_reason: why DUNE_RUN returned 0 */
#define DUNE_EXIT_SYSCALL	1	/* hypercall: perform it, put the result in rax */
#define DUNE_EXIT_INTERRUPTED	2	/* host work was pending: run again */
#define DUNE_EXIT_FAULT		3	/* the address space refuses an access */
#define DUNE_EXIT_SHUTDOWN	4	/* triple fault: the guest cannot go on */
#define DUNE_EXIT_ENTRY_FAILED	5	/* the CPU refused the guest state */
#define DUNE_EXIT_UNHANDLED	6	/* an exit that nobody knows; hw_reason */

/* dune_run.fault.access */
#define DUNE_ACCESS_READ	(1U << 0)
#define DUNE_ACCESS_WRITE	(1U << 1)
#define DUNE_ACCESS_EXEC	(1U << 2)
#define DUNE_ACCESS_WALK	(1U << 3)	/* by the walk of the guest's page tables */
#define DUNE_ACCESS_USER	(1U << 4)	/* the vCPU was at CPL 3 */

struct dune_fault {
	__u64 gpa;
	__u64 hva;		/* valid unless no_window */
	__u64 gva;		/* valid if gva_valid (never on SVM) */
	__u32 access;
	__u8 present;		/* the mm maps the page, but not for this access */
	__u8 no_window;
	__u8 gva_valid;
	__u8 pad;
};

/*
 * An exception to deliver to the guest's IDT at the next DUNE_RUN, which
 * consumes it.  cr2 is loaded for vector 14.
 */
struct dune_inject {
	__u8 valid;
	__u8 vector;		/* 0..31 except 2 */
	__u8 has_error_code;
	__u8 pad;
	__u32 error_code;
	__u64 cr2;
};

/* The page at DUNE_MMAP_RUN of a vCPU's descriptor: read and written by both. */
struct dune_run {
	struct dune_regs regs;		/* in and out */
	struct dune_inject inject;	/* in */
	__u32 exit_reason;		/* out */
	__u32 hw_reason;		/* out: the CPU's own exit code */
	__u64 hw_info;			/* out: exit qualification, EXITINFO1 */
	struct dune_fault fault;	/* out, DUNE_EXIT_FAULT */
};

/* Index into dune_stats.exit: the same names on both vendors. */
enum dune_stat {
	DUNE_STAT_HYPERCALL,
	DUNE_STAT_INTERRUPT,
	DUNE_STAT_NMI,
	DUNE_STAT_FAULT,	/* second-stage page fault */
	DUNE_STAT_EXCEPTION,	/* intercepted and given back: #DB, #AC; #MC */
	DUNE_STAT_CPUID,
	DUNE_STAT_MSR,
	DUNE_STAT_IO,
	DUNE_STAT_CR,
	DUNE_STAT_DR,
	DUNE_STAT_HLT,
	DUNE_STAT_INSN,		/* refused instructions: VMX, SVM, XSETBV, ... */
	DUNE_STAT_SHUTDOWN,
	DUNE_STAT_OTHER,
	DUNE_STAT_NR,
};

struct dune_stat_exit {
	__u64 count;
	__u64 ticks;		/* TSC from this exit to the next entry or return */
};

/* The page at DUNE_MMAP_STATS: read-only for user space. */
struct dune_stats {
	__u64 runs;		/* DUNE_RUN calls */
	__u64 entries;		/* VM entries */
	__u64 returns;		/* DUNE_RUN returns to user space */
	__u64 guest_ticks;	/* TSC spent in guest mode */
	struct dune_stat_exit exit[DUNE_STAT_NR];
};

#define DUNE_MMAP_RUN		0x0000
#define DUNE_MMAP_STATS		0x1000

#define DUNE_IOC_TYPE		0xd7
/* on /dev/dune */
#define DUNE_GET_INFO		_IOR(DUNE_IOC_TYPE, 0x00, struct dune_info)
#define DUNE_MAP_WINDOW		_IOWR(DUNE_IOC_TYPE, 0x01, struct dune_window)
#define DUNE_CREATE_VCPU	_IO(DUNE_IOC_TYPE, 0x02)
#define DUNE_SET_WINDOWS	_IOW(DUNE_IOC_TYPE, 0x03, struct dune_windows)
#define DUNE_FLUSH_TLB		_IO(DUNE_IOC_TYPE, 0x04)
#define DUNE_NEW_VM		_IO(DUNE_IOC_TYPE, 0x05)	/* from any address space */
/* on a vCPU */
#define DUNE_RUN		_IO(DUNE_IOC_TYPE, 0x10)
#define DUNE_RUN_SEEK		(-(__s64)DUNE_RUN)	/* lseek() to it is DUNE_RUN, and cheaper */
#define DUNE_SET_STATE		_IOW(DUNE_IOC_TYPE, 0x11, struct dune_state)
#define DUNE_GET_STATE		_IOR(DUNE_IOC_TYPE, 0x12, struct dune_state)
#define DUNE_SET_FAST_CALLS	_IOW(DUNE_IOC_TYPE, 0x13, struct dune_fast_calls)
#define DUNE_INTERRUPT		_IO(DUNE_IOC_TYPE, 0x14)	/* argument: a vector, 32 .. 255 */
#define DUNE_INTERRUPT_SEEK	(-((__s64)DUNE_INTERRUPT << 8))	/* lseek() to it + vector */

#endif /* _UAPI_DUNE_H */
