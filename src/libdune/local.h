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

/* A system call without libc: the same instruction in and out of Dune mode. */
static inline long __dune_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory", "cc");
	return ret;
}

#define __dune_syscall3(nr, a, b, c) \
	__dune_syscall6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define __dune_syscall4(nr, a, b, c, d) \
	__dune_syscall6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

/* memset() and memcpy() that cannot become calls of libc's (lean code). */
static inline void __dune_clear(void *p, size_t n)
{
	__asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(0) : "memory");
}

static inline void __dune_copy(void *to, const void *from, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/* init.c */
extern struct dune_info __dune_info;
extern bool __dune_map_full;
int __dune_process_ready(void);

/* fork.c: does this process have the memory it was initialised in? */
extern uint32_t *__dune_fork_mark;
int __dune_fork_init(void);

/* fds.c */
int __dune_track_fd(int fd);
void __dune_untrack_fd(int fd);
void __dune_forget_parent(void);

/* maps.c */
int __dune_for_each_map(int (*cb)(uint64_t begin, uint64_t end));

/* pgtable.c */
int __dune_pgtable_init(void);
int __dune_map_gib(uint64_t va);
int __dune_map_range(uint64_t va, uint64_t len);
bool __dune_gib_mapped(uint64_t va);
bool __dune_va_present(uint64_t va);
uint64_t __dune_cr3(void);

/* segments.c */
extern uint64_t __dune_idt[256][2];
void __dune_idt_init(void);
void __dune_segments_init(struct dune_percpu *pc);

/* fpu.c: read by trap_asm.S */
extern uint32_t __dune_xsave_mask;	/* 0: FXSAVE */
extern uint32_t __dune_fpu_size;	/* bytes on the stack, multiple of 64 */
void __dune_fpu_init(void);

/* enter_asm.S, host_asm.S: see the comments there */
int __dune_enter_guest(struct dune_percpu *pc);
long __dune_clone(struct dune_child *child);
void __dune_leave(struct dune_child *child) __attribute__((noreturn));
void __dune_unmap_and_exit(void *block, size_t len, long status) __attribute__((noreturn));

/* host.c, called from host_asm.S */
void __dune_host_exit(struct dune_percpu *pc, long err);
void __dune_leave_failed(struct dune_percpu *pc, long err) __attribute__((noreturn));

/* calls.c */
extern const uint8_t __dune_call_class[DUNE_NR_CALLS];
void __dune_host_call(struct dune_percpu *pc);
void __dune_child_copied(struct dune_child *child);

/* fault.c */
void __dune_host_fault(struct dune_percpu *pc);

/* replay_asm.S */
void __dune_replay_read(uint64_t hva);
void __dune_replay_write(uint64_t hva);

/* trap.c, called from trap_asm.S */
bool __dune_has_pgflt_handler(void);
long __dune_window_fault(uint64_t addr, uint64_t err);
long __dune_stack_check(struct dune_percpu *pc, uint64_t rsp);
void __dune_trap(struct dune_tf *tf, uint64_t vec, uint64_t cr2);
void __dune_trap_lost(struct dune_percpu *pc, const uint64_t *frame) __attribute__((noreturn));

/* trap_asm.S */
extern const char __dune_trap_entries[], __dune_trap_ist[], __dune_trap_ist_end[];

/* syscall_asm.S */
extern const char __dune_syscall_vmx[], __dune_syscall_svm[];

/* raise.c: end the process by a signal, with default action */
void __dune_raise(int sig, int code, uint64_t addr) __attribute__((noreturn));

/* message.c: %s %c %d %u %x %p, l for long; "dune: " goes before */
void __dune_message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif /* LIBDUNE_LOCAL_H */
