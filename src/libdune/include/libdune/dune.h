/* SPDX-License-Identifier: MIT */
/*
 * libdune: run an ordinary Linux process in guest mode.
 *
 * A thread that called dune_enter() goes on in ring 0 of a vCPU ("Dune
 * mode"), on the same stack, in the same address space, with the same file
 * descriptors.  It owns the vCPU's privileged state: exceptions reach the
 * handlers registered here without the kernel's help, page tables are
 * ordinary memory (pgroot).  Every SYSCALL instruction is forwarded to Linux,
 * so libc works as before.
 *
 * The manuals named below are Intel's SDM (volume 3) and AMD's APM (volume 2).
 *
 * Thread rules.  dune_init() is for the whole process, dune_enter() for one
 * thread; threads inside and outside Dune mode live side by side.  A thread or
 * process that Dune mode creates starts inside, with the page tables, handlers
 * and signal actions that it would have inherited; exec leaves Dune mode.
 *
 * Signals.  A handler of the program's runs where its thread is: in Dune mode on
 * the interrupted stack or on the one given by sigaltstack(), with the frame,
 * siginfo, ucontext, mask and restarts that Linux gives it, and it may leave by
 * siglongjmp().  Exceptions that the program does not handle here become the
 * signal that Linux has for them.  Actions are to be set in Dune mode or before
 * the first thread enters: one that a thread outside sets later runs outside.
 *
 * Limits.  Not forwarded but refused with ENOSYS, since they would change the
 * host's side alone: modify_ldt, iopl, ioperm; and rseq, since a critical section
 * that is preempted in guest mode would not be aborted (dune_enter() gives up
 * glibc's registration).  seccomp's strict mode is refused with EINVAL.  A seccomp
 * filter that is installed from Dune mode gets 32 instructions put in front, which
 * let libdune's own calls pass; one from before dune_enter(), or that a thread
 * outside installs for all, must let the ioctls of dune.ko through itself.  A core
 * file shows the thread that ended the process as the program left it, other
 * threads in Dune mode in libdune's stub; their registers are at the start of the
 * vCPU's run page.  Two descriptors, numbered high, are libdune's: close() and dup2() say EBADF, close_range()
 * passes them over.
 *
 * Errors are negative errno values; errno itself is not set.
 */
#ifndef LIBDUNE_DUNE_H
#define LIBDUNE_DUNE_H

#include <sys/types.h>

#include "../kern/dune.h"
#include "apic.h"
#include "elf.h"
#include "fpu.h"
#include "hooks.h"
#include "insn.h"
#include "private.h"
#include "procmap.h"
#include "types.h"
#include "uapi/dune.h"
#include "mmu.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Selectors of the GDT that every thread in Dune mode gets.  KT/KD: ring 0
 * code and data.  UD/UT: ring 3.  TSS: the thread's task state segment.
 */
#define GD_KT	0x10
#define GD_KD	0x18
#define GD_UD	0x28
#define GD_UT	0x30
#define GD_TSS	0x38
#define GD_TSS2	0x40		/* its second half */
#define NR_GDT_ENTRIES	9	/* up to there; libdune has others behind them */

/*
 * Once the vector of signal 0.  Signals are no vectors here, and nothing comes at these:
 * see dune_register_signal_handler().
 */
#define DUNE_SIGNAL_INTR_BASE	200

/*
 * A trap frame: the interrupted registers, as libdune stored them and as it
 * will restore them.  @err is the CPU's error code, 0 for vectors without one.
 * The layout is part of the interface.
 */
struct dune_tf {
	uint64_t rdi;
	uint64_t rsi;
	uint64_t rdx;
	uint64_t rcx;
	uint64_t r8;
	uint64_t r9;
	uint64_t r10;
	uint64_t r11;
	uint64_t rbx;
	uint64_t rbp;
	uint64_t r12;
	uint64_t r13;
	uint64_t r14;
	uint64_t r15;
	uint64_t rax;

	uint32_t err;
	uint32_t pad1;

	uint64_t rip;
	uint16_t cs;
	uint16_t pad2[3];
	uint64_t rflags;
	uint64_t rsp;
	uint16_t ss;
	uint16_t pad3[3];
} __attribute__((packed));

/* The arguments of a call in a trap frame, in the order of the C convention. */
#define ARG0(tf)	((tf)->rdi)
#define ARG1(tf)	((tf)->rsi)
#define ARG2(tf)	((tf)->rdx)
#define ARG3(tf)	((tf)->rcx)
#define ARG4(tf)	((tf)->r8)
#define ARG5(tf)	((tf)->r9)

/* The descriptor of /dev/dune, close-on-exec; -1 before dune_init(). */
extern int dune_fd;

/* ---- entering ------------------------------------------------------- */

/**
 * dune_init - open /dev/dune and make the page tables
 * @map_full: true: memory that is mapped later is reachable without further
 *	ado, in ring 3 too.  false: only ring 0 reaches memory, but for the vDSO,
 *	and while a page-fault handler is registered, a fault in a GiB that held no
 *	memory at dune_init() goes to that handler instead.
 *
 * Once per process, before dune_enter(); calling it again does nothing.  Any
 * thread may call it.  Costs some 100 KB of memory, and 4 GiB of addresses for the
 * page pool (see page.h).
 *
 * Return: 0; -ENOENT no /dev/dune, -EACCES, -ENODEV, -EBUSY the extension is
 * in other hands, -EPROTO the module speaks another version, -ENOMEM.
 */
int dune_init(bool map_full);

/**
 * dune_enter - put the calling thread into Dune mode
 *
 * Returns in Dune mode: ring 0, IF as before, on the same stack.  The thread
 * stays there until it exits.  In Dune mode already: returns 0 and does
 * nothing.  Costs 124 KB of address space per thread, a few pages of memory
 * and one descriptor, all given back when the thread exits.
 *
 * Return: 0; on failure the thread is outside Dune mode as before:
 * -EINVAL no dune_init(), -ENOMEM, -EMFILE, -EAGAIN too many threads, -EIO the
 * CPU refused to enter (a line on standard error tells its reason).
 */
int dune_enter(void);

/*
 * Bytes at the head of dune_enter_ex()'s block that are libdune's.  The first eight
 * hold the block's own address; the others are not used at present.
 */
#define DUNE_PERCPU_SIZE	512

/**
 * dune_enter_ex - dune_enter(), with a block of the caller's at %gs
 * @percpu: at least DUNE_PERCPU_SIZE bytes, aligned to 8; the caller's, to be kept
 *	as long as the thread uses %gs
 *
 * For programs that keep data per CPU or thread behind the head.  The thread's GS
 * base is @percpu, and %gs:0 holds @percpu.  That is so in handlers of exceptions in
 * ring 0 too.  While dune_jump_to_user() lasts, GS in ring 0 is libdune's: there, too,
 * %gs:0 holds @percpu, but the other data is to be reached through that pointer.
 * libdune keeps its own data elsewhere.  In Dune mode already: -EBUSY.
 *
 * Return: as dune_enter(); -EINVAL also if @percpu is NULL or not aligned.
 */
int dune_enter_ex(void *percpu);

/**
 * dune_set_fast_calls - may the module make short system calls itself?
 * @on: true, as it is at first; false: all go through libdune
 *
 * For threads that enter Dune mode afterwards.  A call is the same either way:
 * the module makes none for a thread with a seccomp filter, a tracer or audit.
 * Where dune.ko cannot do it (see DUNE_FEAT_FAST_CALLS) nothing changes.
 */
void dune_set_fast_calls(bool on);

/**
 * dune_init_and_enter - dune_init(true), then dune_enter()
 *
 * Return: as they do.
 */
int dune_init_and_enter(void);

/**
 * dune_in_guest - is the caller in Dune mode at this moment?
 *
 * False in threads that have not entered.
 */
bool dune_in_guest(void);

/**
 * dune_exec_through - what exec() in Dune mode starts
 * @loader: a program that puts others into Dune mode, such as dune-run; NULL:
 *	none, exec() leaves Dune mode, as it does without this call
 *
 * Each later execve(PATH, ARGV, ENVP) from Dune mode of a 64-bit ELF program or
 * of a script becomes an execve of the loader, with the same arguments and
 * environment but for one string more at the environment's end, which the loader takes
 * away: DUNE_EXEC_NOTE ":" PATH.  execveat() too; for a file that PATH does not lead to
 * from the loader a descriptor of it stands before the colon, open, to be closed.  Programs
 * with set-user-ID or file capabilities and other formats start natively, and so does
 * what a traced thread executes (a debugger means the program) or a process that
 * has installed a seccomp filter (it may forbid the loader's calls).  The loader is
 * found once, now: a later chroot() does not hide it.  For all threads and, by
 * inheritance, for the children of fork().  Any thread may call it.
 *
 * Return: 0, or why @loader cannot be opened (-ENOENT, ...).
 */
int dune_exec_through(const char *loader);

#define DUNE_EXEC_NOTE	"DUNE_EXEC="

/* ---- exceptions ----------------------------------------------------- */

/*
 * A handler runs in Dune mode on the interrupted stack, 128 bytes below its
 * top or deeper, so that the red zone survives; the general registers are in
 * *tf and the x87, SSE and AVX state is saved around the call, so any C code
 * and any libc call that a signal handler may make is allowed.  What it
 * writes to *tf is what the program continues with.  It may fault itself, and
 * it may leave by longjmp().  The interrupt flag is as it was.
 *
 * If the stack cannot take the frame, the process dies with a message.  Where no
 * handler is registered that is an ordinary signal, on an alternate stack if there
 * is one.
 */
typedef void (*dune_intr_cb)(struct dune_tf *tf);

/*
 * @addr: the linear address (CR2); @fec: FEC_* (also in tf->err).  FEC_P
 * clear: nothing is mapped there; set: what is mapped forbids the access.
 * On AMD the address of an access that the memory map refuses comes from the
 * second-stage walk (APM 15.25.6); while pgroot maps linearly it is the same.
 */
typedef void (*dune_pgflt_cb)(uintptr_t addr, uint64_t fec, struct dune_tf *tf);

/*
 * Debug traps: T_DEBUG and T_BRKPT come to handlers from TF, INT3 and INT1, and from the
 * debug registers, which ring 0 of Dune mode sets by MOV (SDM 17.2, APM 13.1).  They are
 * the thread's own, count in Dune mode alone and are not inherited.  DR6 says what it
 * was, and the handler clears it; for a breakpoint on an instruction it sets FL_RF in
 * tf->rflags, or the breakpoint comes again.
 */

/**
 * dune_register_intr_handler - handle an exception vector
 * @vec: 0..255 (SDM table 6-1); 2 (NMI) and 18 (machine check) never arrive.
 *	128 without a handler is a 32-bit system call, as for any process.
 * @cb: the handler; NULL takes it away
 *
 * For all threads, at once; replaces the handler before it.  For vector 14
 * it wins over dune_register_pgflt_handler().  A vector that nobody handles
 * raises the signal that Linux has for it: SIGFPE, SIGILL, SIGTRAP, SIGBUS or
 * SIGSEGV.
 *
 * Return: 0, -EINVAL.
 */
int dune_register_intr_handler(int vec, dune_intr_cb cb);

/**
 * dune_register_pgflt_handler - handle page faults
 * @cb: the handler; NULL takes it away
 *
 * Gets both the faults of the guest's page tables and the accesses that the
 * process's memory map refuses.  Without a handler the latter raise SIGSEGV
 * or SIGBUS as in any process.  One for all threads.
 */
void dune_register_pgflt_handler(dune_pgflt_cb cb);

/**
 * dune_dump_trap_frame - print the registers in *tf by dune_printf()
 */
void dune_dump_trap_frame(struct dune_tf *tf);

/**
 * dune_pop_trap_frame - continue at *tf
 *
 * Loads every general register, rip, rflags, rsp, cs and ss from *tf with
 * IRETQ.  In Dune mode only.  *tf may live anywhere, it is copied first.
 */
void dune_pop_trap_frame(struct dune_tf *tf) __attribute__((noreturn));

/* ---- signals -------------------------------------------------------- */

/* A handler of signal(2). */
typedef void (*sighandler_t)(int);

/**
 * dune_signal - handle a signal
 * @sig: 1..64, but not SIGKILL or SIGSTOP
 * @cb: the handler, SIG_DFL or SIG_IGN
 *
 * sigaction() with SA_RESTART and an empty mask, in and out of Dune mode; see Signals
 * above for where the handler runs.  For the whole process.
 *
 * Return: NULL; SIG_ERR with errno set.  Never the handler before it, unlike signal().
 */
sighandler_t dune_signal(int sig, sighandler_t cb);

/**
 * dune_register_signal_handler - handle a signal, with the interrupted registers
 * @signum: 1..64, but not SIGKILL or SIGSTOP
 * @cb: the handler; NULL: the default action again
 *
 * *tf is the code that the signal interrupted: its general registers, rip, rsp and
 * rflags, which the handler may change, as by sigreturn(2): of rflags those bits that
 * a program may change there.  cs and ss tell where it ran (GD_KT in Dune mode) and
 * are not read; err is the error code of the exception that the signal stems from.
 * The handler runs as one of dune_signal()'s does, errno is kept.  For the whole
 * process; a later sigaction() for the signal replaces it.
 *
 * Return: 0, -EINVAL.
 */
int dune_register_signal_handler(int signum, dune_intr_cb cb);

/* ---- ring 3 --------------------------------------------------------- */

/*
 * A thread in Dune mode may run code in ring 3 of its vCPU: code that cannot
 * touch pages without PTE_U, execute privileged instructions or leave guest mode.
 * Its system calls and exceptions come to handlers in ring 0, on the stack of
 * dune_jump_to_user(), with ring 0's FS base (so TLS and libc work) and the vector
 * registers saved.  In *tf the code's selectors are GD_UT | 3 and GD_UD | 3, and
 * ARG0() to ARG5() name a system call's arguments; its result goes to tf->rax.
 *
 * RFLAGS.IOPL is libdune's: 1 in ring 3, 0 elsewhere.  GS is libdune's in ring 0
 * while ring 3 is in use.
 *
 * A signal for a thread in ring 3 is delivered in ring 0, on the stack of
 * dune_jump_to_user(); ring 3 goes on when its handler returns.
 */
typedef void (*dune_syscall_cb)(struct dune_tf *tf);

/**
 * dune_register_syscall_handler - handle SYSCALL from ring 3
 * @cb: the handler; NULL takes it away, and then such a call ends the process
 *
 * One for all threads.  A SYSCALL in ring 0 is forwarded to Linux as ever.
 */
void dune_register_syscall_handler(dune_syscall_cb cb);

/**
 * dune_jump_to_user - run in ring 3
 * @tf: where to: rip, rsp, rflags and the general registers; cs and ss are not read
 *
 * Returns when a handler calls dune_ret_from_user().  A handler may call it again
 * for another stretch of ring 3; they nest, and the inner one ends first.
 *
 * Return: what dune_ret_from_user() was given; -EINVAL outside Dune mode, -ENOTSUP
 * if the CPU lacks FSGSBASE or XSAVE.
 */
int dune_jump_to_user(struct dune_tf *tf);

/**
 * dune_ret_from_user - make dune_jump_to_user() return
 * @ret: what it returns
 *
 * From a handler, on any depth of its stack: leaves the handler for good.
 */
void dune_ret_from_user(int ret) __attribute__((noreturn));

/**
 * dune_passthrough_syscall - make ring 3's system call
 * @tf: the number is in tf->rax, the arguments are ARG0(tf) to ARG5(tf)
 *
 * The result, or a negative errno, goes to tf->rax.  The call is the caller's own:
 * one that changes FS does so to ring 0, and a child begins in ring 0, behind this
 * call.  So fork() can be passed on, and clone() without a stack.  clone3() gets
 * -ENOSYS, after which libc tries clone(); that with a stack, and vfork(), are the
 * handler's to make (pthread_create(), fork()).
 */
void dune_passthrough_syscall(struct dune_tf *tf);

/**
 * dune_get_user_fs, dune_set_user_fs - the FS base of ring 3
 *
 * Of the calling thread, in Dune mode; at first that of ring 0.  Ring 3 may change
 * it by WRFSBASE.  Outside Dune mode the first gives 0 and the second does nothing.
 */
unsigned long dune_get_user_fs(void);
void dune_set_user_fs(unsigned long base);

/* ---- utilities ------------------------------------------------------ */

/**
 * dune_printf - print to descriptor 1, past stdio
 *
 * At most 1,023 bytes; the rest is cut.  No lock, no buffer of stdio's: usable
 * in handlers, and unordered with printf()'s buffered output.
 *
 * Return: bytes written, or a negative errno.
 */
int dune_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/**
 * dune_die - end the process at once with exit status 1
 *
 * No atexit handlers, no flushing.  Any thread, in or out of Dune mode.
 */
void dune_die(void) __attribute__((noreturn));

/**
 * dune_mmap - mmap(2) without libc
 *
 * Arguments as there.  Goes past LSTAR and hooks.
 *
 * Return: the address; a negative errno value, as a pointer, not MAP_FAILED.
 */
void *dune_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);

/* Programs written for Dune expect this one; <assert.h> replaces it. */
#ifndef assert
#define assert(expr)							\
	((expr) ? (void)0 :						\
	 (dune_printf("assertion failed: %s, %s:%d (%s)\n", #expr,	\
		      __FILE__, __LINE__, __func__), dune_die()))
#endif

/**
 * dune_get_ticks - the time-stamp counter, not serialised (SDM 17.17)
 *
 * Cycles of the TSC on hardware; emulators count instructions.
 */
static inline unsigned long dune_get_ticks(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (unsigned long)hi << 32 | lo;
}

/**
 * dune_vcpu_stats - the exit counters of the calling thread's vCPU
 *
 * Read-only, updated by the module at each exit, without a system call:
 * read it before and after to count exits (stats->exit[DUNE_STAT_*].count).
 * Valid until the thread exits.
 *
 * Return: NULL if the thread has not entered Dune mode.
 */
const struct dune_stats *dune_vcpu_stats(void);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_DUNE_H */
