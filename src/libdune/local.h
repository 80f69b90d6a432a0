/* SPDX-License-Identifier: MIT */
/*
 * What the files of libdune share.  Nothing here is visible outside.
 *
 * Three kinds of code live in this library:
 *   ordinary	dune_init() and the like: any C, any libc call
 *   lean	runs on the host stack between two DUNE_RUN, or in Dune mode on
 *		an IST stack, while the program's vector registers and TLS are
 *		live: no libc call, no SSE, no TLS, no stack protector.  The
 *		Makefile lists these files, compiles them so and checks it.
 *   assembly	the same rules
 */
#ifndef LIBDUNE_LOCAL_H
#define LIBDUNE_LOCAL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdune/dune.h"
#include "percpu.h"

#define DUNE_EXPORT	__attribute__((visibility("default")))

#define GIB_SHIFT	30
#define GIB		(1ULL << GIB_SHIFT)
#define USER_END	(1ULL << 47)	/* end of the addresses Linux gives out */

/*
 * syscall_asm.S: a system call without libc.  In Dune mode it does not go by
 * LSTAR, which is the program's to change.
 */
long __dune_syscall6(long nr, long a, long b, long c, long d, long e, long f);

#define __dune_syscall3(nr, a, b, c) \
	__dune_syscall6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define __dune_syscall4(nr, a, b, c, d) \
	__dune_syscall6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

/*
 * host_asm.S: a call that libdune makes on its own behalf and not for the program.
 * The program's seccomp filters let pass what seccomp.c lists; only such calls may be
 * made this way.
 */
long __dune_own_call(long nr, long a, long b, long c, long d);

#define __dune_own3(nr, a, b, c) \
	__dune_own_call(nr, (long)(a), (long)(b), (long)(c), 0)
#define __dune_own4(nr, a, b, c, d) \
	__dune_own_call(nr, (long)(a), (long)(b), (long)(c), (long)(d))

/* memset() and memcpy() that cannot become calls of libc's (lean code). */
static inline void __dune_clear(void *p, size_t n)
{
	size_t words = n / 8;

	n %= 8;
	__asm__ volatile("rep stosq" : "+D"(p), "+c"(words) : "a"(0L) : "memory");
	__asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(0) : "memory");
}

static inline void __dune_copy(void *to, const void *from, size_t n)
{
	size_t words = n / 8;

	n %= 8;
	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

#define DUNE_HYPERCALL_LEN	3	/* VMCALL and VMMCALL */
#define DUNE_SYSCALL_LEN	2
#define DUNE_ERESTART	85	/* host_asm.S: a signal comes before the call */

/* init.c */
extern struct dune_info __dune_info __attribute__((visibility("hidden")));
extern bool __dune_map_full;
extern uint8_t __dune_is_svm;
int __dune_process_ready(void);

/* attach.c: the VM of this address space, and whether it has been copied since */
extern uint32_t *__dune_fork_mark;
extern int __dune_dev_fd;
int __dune_attach(void);
int __dune_attach_copy(struct dune_percpu *own);

/* fork.c */
int __dune_fork_init(void);

/* blocks.c: the registry; the interrupts of a thread are here, where nothing is unmapped */
struct dune_slot {
	struct dune_percpu *block;
	uint64_t waits[4];	/* a bit per vector */
	int32_t vcpu_fd;	/* + 1; 0: no thread */
} __attribute__((aligned(64)));

extern struct dune_slot __dune_slots[DUNE_MAX_BLOCKS] __attribute__((visibility("hidden")));
extern uint32_t __dune_nr_guests __attribute__((visibility("hidden")));	/* threads that are in Dune mode or about to enter */
struct dune_percpu *__dune_block_create(int *err);
void __dune_block_destroy(struct dune_percpu *pc);
void __dune_block_forget(struct dune_percpu *pc);
bool __dune_is_only_block(const struct dune_percpu *pc);
bool __dune_release_vm(struct dune_percpu *pc);
/*
 * Where a signal handler of the host side stands before its thread's block says that
 * one is at work, and after.
 */
#define DUNE_SIGNAL_TEXT	__attribute__((section("dune_signal")))
struct dune_percpu *__dune_block_around(uint64_t addr);
int __dune_vcpu_create(struct dune_percpu *pc);
void __dune_forget_parent(struct dune_percpu *own);
bool __dune_is_own_fd(int fd);
int __dune_next_own_fd(unsigned int first, unsigned int last);

/* private.c */
long __dune_map_own(uint64_t size, uint64_t align, int prot, int flags);
bool __dune_memory_is_private(void);

/* descriptors.c */
long __dune_make_fd(long nr, long a, long b, long c, long d);
int __dune_raise_fd_to(int fd, int floor);
int __dune_raise_fd(int fd);
void __dune_descriptors_copied(void);

/* exec.c */
extern int __dune_exec_fd;	/* the loader; -1: none */
long __dune_exec(struct dune_percpu *pc);

/* loadable.c */
bool __dune_loadable(int fd, bool *is_script);

/* maps.c */
typedef int (*__dune_map_cb)(const struct dune_procmap_entry *e, void *arg);
int __dune_for_each_map(__dune_map_cb cb, void *arg);

/* layout.c; see also vm.h */
long __dune_windows_restore(int fd);

/* tlb.c */
void __dune_vm_forked(void);

/* pgtable.c */
extern bool __dune_has_vsyscall;	/* Linux maps that page */
int __dune_pgtable_init(uint64_t stack);
int __dune_map_gib(uint64_t va);
int __dune_map_range(uint64_t va, uint64_t len);
bool __dune_va_present(uint64_t va);
bool __dune_gib_fault(uint64_t va, uint64_t err);
uint64_t __dune_cr3(void);

/* segments.c */
extern uint64_t __dune_idt[256][2];
void __dune_idt_init(void);
void __dune_segments_init(struct dune_percpu *pc);
void __dune_cpu_changed(struct dune_percpu *pc, uint32_t limit);

static inline bool __dune_ring0(void)
{
	uint32_t cs;

	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	return (cs & 3) == 0;
}

/*
 * The caller's block, by the table that its vCPU has loaded; NULL outside Dune
 * mode, or when the program loaded a GDT of its own.
 */
static inline struct dune_percpu *__dune_this_percpu(void)
{
	struct { uint16_t limit; uint64_t base; } __attribute__((packed)) gdtr;

	if (!__dune_ring0())
		return NULL;
	__asm__ volatile("sgdt %0" : "=m"(gdtr));
	return __dune_block_around(gdtr.base);
}

/* fpu.c: read by trap_asm.S */
extern uint32_t __dune_xsave_mask;	/* 0: FXSAVE */
extern uint32_t __dune_fpu_size;	/* bytes on the stack, multiple of 64 */
uint32_t __dune_xcr0(void);		/* 0: no XSAVE */
uint32_t __dune_xsave_size(uint32_t mask);
void __dune_fpu_init(void);

/* frame_fpu.c: the vector registers as a signal frame has them */
extern uint32_t __dune_frame_fpu_size;	/* bytes, multiple of 64 */
void __dune_frame_fpu_init(void);
void __dune_frame_fpu_save(void *area);
void __dune_frame_fpu_load(void *area);

/* host_asm.S: see the comments there */
int __dune_enter_guest(struct dune_percpu *pc);
long __dune_clone(struct dune_percpu *pc, const struct dune_regs *call, struct dune_percpu *child);
long __dune_exec_call(struct dune_percpu *pc, long nr, long a, long b, long c, long d, long e);
void __dune_leave(const struct dune_regs *regs) __attribute__((noreturn));
void __dune_unmap_and_exit(void *block, size_t len, long status, long nr)
	__attribute__((noreturn));
extern const char __dune_host_resume[], __dune_restorer[];

/* host.c, called from host_asm.S */
int __dune_host_exit(struct dune_percpu *pc, long err);
void __dune_leave_failed(struct dune_percpu *pc, long err) __attribute__((noreturn));

/* calls.c */
extern const uint8_t __dune_call_class[DUNE_NR_CALLS];
long __dune_forward(const struct dune_regs *r);
int __dune_fast_calls_allow(struct dune_percpu *pc);
long __dune_special_call(struct dune_percpu *pc, const struct dune_regs *r);
int __dune_fast_calls_forbid(struct dune_percpu *pc);
void __dune_host_call(struct dune_percpu *pc);

/* int80.c, int80_asm.S */
void __dune_host_int80(struct dune_percpu *pc);
void __dune_int80_call(struct dune_percpu *pc) __attribute__((noreturn));

/* seccomp.c */
extern bool __dune_filtered;	/* the program has installed a filter */
long __dune_seccomp(struct dune_percpu *pc, const struct dune_regs *r);
void __dune_check_strict(struct dune_percpu *pc, bool of32);

/* dispatch.c: system-call user dispatch */
long __dune_set_dispatch(struct dune_percpu *pc);
bool __dune_dispatch(struct dune_percpu *pc);

/* native.c */
long __dune_ptrace(struct dune_percpu *pc);

/* child.c */
long __dune_call_child(struct dune_percpu *pc, const struct dune_regs *r);
void __dune_child_shared(struct dune_percpu *pc);
void __dune_child_copied(struct dune_percpu *pc);
void __dune_return_to_vm(struct dune_percpu *pc);

/* signal.c, sigaction.c, sigframe.c: see sigframe.h */
extern struct dune_sigtable __dune_sigs;
void __dune_host_signal(int sig, void *siginfo, void *ucontext);
int __dune_deliver_deferred(struct dune_percpu *pc);
void __dune_force_signal(struct dune_percpu *pc, int sig, int code, uint64_t addr);
void __dune_take_back_call(struct dune_percpu *pc);
void __dune_end_fast_call(struct dune_percpu *pc);
long __dune_sigaction(struct dune_percpu *pc);
long __dune_sigaltstack(struct dune_percpu *pc);
void __dune_sigreturn(struct dune_percpu *pc);
void __dune_sigactions_init(void);
void __dune_altstack_adopt(struct dune_percpu *pc);
struct dune_sigtable *__dune_sigtable_copy(struct dune_sigtable *from);
void __dune_sigtable_free(struct dune_sigtable *t);
long __dune_copy_in(void *to, uint64_t from, size_t n);

/* fault.c */
void __dune_host_fault(struct dune_percpu *pc);

/* access_asm.S */
void __dune_replay_read(uint64_t hva);
void __dune_replay_write(uint64_t hva);
int __dune_copy_user(void *to, const void *from, size_t n);
void __dune_fpu_save(void *area, uint64_t mask);
void __dune_fpu_load(void *area, uint64_t mask);

/* trap.c, called from trap_asm.S */
extern dune_intr_cb __dune_intr_handler[256];
bool __dune_has_pgflt_handler(void);
long __dune_window_fault(uint64_t addr, uint64_t err);
bool __dune_has_handler(uint64_t vec);
struct dune_trap_way {
	struct dune_tf *tf;	/* NULL: nothing to handle */
	void *fpu;		/* 64-byte aligned, on the same stack */
};
struct dune_trap_way __dune_trap_long(struct dune_tf *tf, uint64_t *what);
void __dune_trap(struct dune_tf *tf, uint64_t vec, uint64_t cr2, struct dune_percpu *pc);
void __dune_insn_watch(void);
uint64_t __dune_trap_recheck(uint64_t rip);
const struct dune_tf *__dune_trap_returning(struct dune_percpu *pc, uint64_t rip, uint64_t rsp);
extern dune_intr_cb __dune_intr_call[];
extern dune_pgflt_cb __dune_pgflt_call;

/* apic.c */
extern bool __dune_apic_used;	/* somebody has sent an interrupt */
void __dune_apic_set(uint32_t id, int fd);
void __dune_apic_end(void);
void __dune_apic_interrupt(const struct dune_percpu *pc, struct dune_tf *tf);

/* insn.c */
bool __dune_insn_fault(struct dune_tf *tf);

/* foreign.c */
bool __dune_foreign_hypercall(struct dune_percpu *pc);

/* verdict.c: an exception that the program does not handle */
void __dune_host_trap(struct dune_percpu *pc);
void __dune_take_frame(struct dune_regs *r, const struct dune_tf *tf);
void __dune_host_lost(struct dune_percpu *pc);

/* trap_asm.S */
extern const char __dune_trap_entries[], __dune_trap_ist[], __dune_trap_ist_end[],
	__dune_trap_check_pf[], __dune_trap_checked_pf[],
	__dune_trap_check_other[], __dune_trap_checked_other[],
	__dune_trap_return[], __dune_trap_return_end[],
	__dune_trap_call_pf[], __dune_trap_call_other[],
	__dune_int80_vmx[], __dune_int80_svm[];

/* ring.c, ring_asm.S */
extern dune_syscall_cb __dune_syscall_call;
extern const char __dune_ring_gates[], __dune_ring_gate_vmx[], __dune_ring_gate_svm[],
	__dune_ring_begin[],
	__dune_ring_swapped[], __dune_ring_saved[], __dune_ring_clobbered[],
	__dune_ring_based[], __dune_ring_exit[], __dune_ring_framed[], __dune_ring_iretq[],
	__dune_ring_done[], __dune_passed_through[];
extern const char __dune_syscall_vmx[], __dune_syscall_svm[];
bool __dune_ring_leave(struct dune_percpu *pc, struct dune_tf *tf);
bool __dune_ring_stepped(const struct dune_tf *tf);
bool __dune_ring_busy(const struct dune_percpu *pc);
int __dune_ring_enter(struct dune_percpu *pc, const struct dune_tf *tf);
void __dune_ring_return(struct dune_percpu *pc, int ret) __attribute__((noreturn));

/* hooks.c, hook_asm.S, ring_asm.S */
extern const char __dune_hook_gate[];
bool __dune_hooked(void);
bool __dune_hook_gate_set(void);
int __dune_hook_pre(struct dune_tf *tf);
void __dune_hook_post(struct dune_tf *tf);

/* syscall_asm.S */
extern const char __dune_foreign_vmx[], __dune_foreign_svm[];
extern const char __dune_asked_vmx[], __dune_asked_svm[];
long __dune_hypercall(long what, uint64_t a, uint64_t b, uint64_t c);
long __dune_gate_call(uint64_t gate, long nr, long a, long b, long c);

/* raise.c: end the process by a signal, with default action */
void __dune_raise(int sig, int code, uint64_t addr) __attribute__((noreturn));

/* message.c: %s %c %d %u %x %p, l for long; "dune: " goes before */
void __dune_message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif /* LIBDUNE_LOCAL_H */
