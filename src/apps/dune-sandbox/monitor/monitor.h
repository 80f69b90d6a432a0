/* SPDX-License-Identifier: MIT */
/*
 * The monitor: ring 0 of a sandboxed process.
 *
 * It has no libc.  While it runs the vector registers are ring 3's, and TLS is nobody's:
 * the Makefile compiles it without either and checks that nothing of libc is linked in.
 *
 * Memory.  Everything here lies in the arena (../arena.h), where ring 3 cannot reach, and
 * no system call of ring 3 gets an address in it.  What lies outside belongs to ring 3:
 * it changes at any time, and may be unmapped at any time; copy_in() and copy_out() are
 * the only ways to it.
 *
 * Functions return 0 or more, or a negative errno, as system calls do.
 */
#ifndef SANDBOX_MONITOR_H
#define SANDBOX_MONITOR_H

#include "offsets.h"

#ifndef __ASSEMBLER__

#include <errno.h>
#include <libdune/dune.h>
#include <libdune/fpu.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "../arena.h"
#include "../policy.h"
#include "../start.h"

/* Newer than the oldest headers that this is built with. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv		449
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease	448
#endif
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif
#ifndef SYS_cachestat
#define SYS_cachestat		451
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2		452
#endif
#ifndef SYS_map_shadow_stack
#define SYS_map_shadow_stack	453
#endif

#define PAGE		4096UL
#define PAGE_UP(x)	(((x) + PAGE - 1) & ~(PAGE - 1))
#define USER_END	0x7ffffffff000UL
#define NR_SIGNALS	64
#define SIG_BIT(sig)	(1UL << ((sig) - 1))
#define PATH_SIZE	4096UL

/* The kernel's struct sigaction. */
struct action {
	uint64_t handler, flags, restorer, mask;
};

/* Handlers are shared by what shares them in the kernel (CLONE_SIGHAND). */
struct actions {
	uint32_t users;
	struct action of[NR_SIGNALS + 1];
};

/* The words of a signal frame that say which exception it was. */
struct trap_words {
	uint64_t vec, err, cr2;
};

/* The kernel's stack_t. */
struct altstack {
	uint64_t sp;
	int32_t flags, pad;
	uint64_t size;
};

/* At the upper end of its ring-0 stack, which is aligned to its size: this_thread(). */
struct thread {
	uint32_t state;			/* IN_RING3 or IN_MONITOR: entry_asm.S */
	uint32_t pending;		/* a signal waits in info */
	uint64_t mask_before;		/* what its handler's frame restores */
	siginfo_t info;
	struct altstack altstack;
	struct actions *actions;
	void *vectors;			/* where ring 3's vector registers are; NULL: in the CPU */
	uint64_t refused_at;		/* a page that was refused, and how often in a row */
	uint32_t refusals;
	uint32_t tid;			/* 0: the stack is free */
	uint32_t leaving;		/* free when that thread is gone */
	struct dune_tf *start;		/* IN_START: where ring 3 begins */
	void *exec_scratch;		/* of a vfork child: the parent unmaps it */
	uint64_t exec_scratch_size;
	uint32_t exec_held;		/* the same: a held descriptor + 1, which it unmarks */
	uint64_t robust_list;
	uint64_t child_fs;		/* of a new thread: its FS base */
	uint32_t child_clears;		/* and CLONE_CLEAR_SIGHAND */
	uint32_t vforked;		/* the parent waits, and frees this */
	uint32_t took_table;		/* of a new thread: table_give_back() when it runs */
} __attribute__((aligned(64)));

static inline struct thread *this_thread(void)
{
	uint64_t sp = (uint64_t)__builtin_frame_address(0);

	return (struct thread *)((sp | (STACK_SIZE - 1)) + 1 - THREAD_SIZE);
}

/* Below it, apart from struct thread, lies the frame that the thread starts from. */
static inline uint64_t stack_top(const struct thread *t)
{
	return (uint64_t)t - START_ROOM;
}

/* ---- system calls of the monitor's own --------------------------------- */

static inline long sys6(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
			uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret), "+r"(r10), "+r"(r8), "+r"(r9)
			 : "a"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

#define SYS_ARG(x)	((uint64_t)(x))
#define sys0(nr)		sys6(nr, 0, 0, 0, 0, 0, 0)
#define sys1(nr, a)		sys6(nr, SYS_ARG(a), 0, 0, 0, 0, 0)
#define sys2(nr, a, b)		sys6(nr, SYS_ARG(a), SYS_ARG(b), 0, 0, 0, 0)
#define sys3(nr, a, b, c)	sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), 0, 0, 0)
#define sys4(nr, a, b, c, d)	sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), 0, 0)
#define sys5(nr, a, b, c, d, e)	\
	sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), 0)

static inline bool failed(long ret)
{
	return ret < 0 && ret > -4096;
}

/* ---- entry_asm.S ----------------------------------------------------------- */

void ring3_call(struct dune_tf *tf);	/* for dune_register_syscall_handler() */
extern const char ring3_call_first[];

/*
 * One system call in the name of ring 3.  A signal that comes before it, or that ends it
 * so that it is to be made again, makes it return RESTART.
 */
#define RESTART	(-512)
struct call {
	uint64_t nr, arg[6];
};
long forward(const struct call *call, const struct thread *t);
void start_again(void);			/* not to be called: on_signal() sends a thread here */
extern const char forward_check[], forward_insn[], forward_restart[];
extern const char signal_restorer[];

/* 0, or -EFAULT if a page cannot be accessed.  Both addresses are trusted. */
int copy_bytes(void *to, const void *from, size_t n);
/* Up to and with the NUL: its length without; -EFAULT; -ENAMETOOLONG none in @n bytes. */
long copy_string(char *to, const char *from, size_t n);
extern const char copy_words_insn[], copy_bytes_insn[], copy_string_insn[], copy_refused[];

void run_on_stack(uint64_t top, void (*fn)(void *arg), void *arg) __attribute__((noreturn));

/* ---- memory.c ------------------------------------------------------------- */

/* Does [@at, @at + @len) lie outside the arena?  What wraps or is not canonical does not. */
static inline bool is_ring3s(uint64_t at, uint64_t len)
{
	uint64_t end = at + len;

	if (end < at || end > 1UL << 47)
		return false;
	return end <= ARENA_BASE || at >= ARENA_END;
}

/*
 * An address alone, of an object that is smaller than ARENA_GUARD.  What is no address of
 * a process at all, the kernel refuses itself.
 */
static inline bool is_ring3s_object(uint64_t at)
{
	return at < ARENA_BASE || at >= ARENA_END;
}

long copy_in(void *to, uint64_t from, size_t n);
long copy_out(uint64_t to, const void *from, size_t n);
long copy_path(char path[PATH_SIZE], uint64_t from);
long memory_call(struct call *call, struct dune_tf *tf);
void *scratch_map(uint64_t size);
void scratch_unmap(void *at, uint64_t size);

/* ---- calls.c, arguments.c --------------------------------------------------- */

/* What is done about a call: see calls.c. */
typedef long (*call_fn)(struct call *call, struct dune_tf *tf);
struct call_spec {
	const char *name;
	const char *args;	/* see arguments.c; NULL: do() looks at them itself */
	call_fn run;		/* NULL: forward */
	int refuse;		/* errno; 0: it is not refused */
	bool silent;		/* not worth a line: every program of glibc's asks for it */
};
#define NR_CALLS	512
extern const struct call_spec call_specs[NR_CALLS];
long check_arguments(const char *args, struct call *call);
long make_call(struct call *call);

/* ---- the parts --------------------------------------------------------------- */

/* trap.c */
void traps_init(void);

/* signal.c */
void deliver_pending(struct thread *t, struct dune_tf *tf);
void deliver_fault(struct thread *t, struct dune_tf *tf, siginfo_t *info,
		   const struct trap_words *trap);
void die_by_signal(siginfo_t *info) __attribute__((noreturn));
long signal_call(struct call *call, struct dune_tf *tf);
struct actions *actions_new(const struct actions *from);
void actions_put(struct actions *a);
void actions_clear(struct actions *a);

/* sigframe.c */
#define SS_AUTODISARM_	0x80000000U
#define MINSIGSTKSZ_	2048
int push_frame(struct thread *t, struct dune_tf *tf, int sig, const siginfo_t *info,
	       uint64_t mask, const struct action *act, const struct trap_words *trap);
int pop_frame(struct thread *t, struct dune_tf *tf, uint64_t *mask);
void frames_init(void);
bool on_altstack(const struct thread *t, uint64_t sp);

/* child.c */
long child_call(struct call *call, struct dune_tf *tf);
long exit_call(struct call *call, struct dune_tf *tf);
struct thread *thread_new(void);
void thread_free(struct thread *t);
void thread_start(struct thread *t, const struct dune_tf *tf) __attribute__((noreturn));
void child_start(struct thread *t) __attribute__((noreturn));
void thread_enter(struct thread *t) __attribute__((noreturn));

/* exec.c */
long exec_call(struct call *call, struct dune_tf *tf);

/* files.c */
long open_call(struct call *call, struct dune_tf *tf);
long path_call(struct call *call, struct dune_tf *tf);
long descriptor_call(struct call *call, struct dune_tf *tf);
long ioctl_call(struct call *call, struct dune_tf *tf);

/* paths.c */
struct open_how;
long path_resolve(char out[PATH_SIZE], int dir, const char *path, const struct open_how *how);
bool path_is_plain(const char *path);
long path_check(const char *path, uint64_t flags);
long path_open(const char *path, const struct open_how *how);
long path_reopen(const char *path, const struct open_how *how);

/* descriptors.c */
void table_share(void);
void table_unshare(void);
uint32_t table_take(void);
void table_give_back(void);
void table_copied(void);
void descriptors_init(void);
bool is_own_fd(uint64_t fd);
uint64_t next_own_fd(uint64_t first);
bool mark_held(long fd);
void unmark_held(long fd);
void forget_held(void);
long duplicate(int fd, int cmd);
long duplicate_held(int fd);
void close_unheld(long fd);
long call_on_table(struct call *call, const char *args);

/* hold.c */
long hold(const char *path, uint64_t flags);
long hold_open(int fd, char path[PATH_SIZE]);
void hold_link(char link[32], long fd);
void release(long fd);
long path_under_rules(struct call *call);
char *cut(char *path);

/* policy.c */
struct sockaddr_storage;
extern struct policy policy;
long policy_call(const struct call *call, const char *name);
long policy_file(const char *path, uint32_t rights);
long policy_net(const struct sockaddr_storage *a, uint64_t len, uint32_t right);
long policy_socket(uint64_t family);

/* ask.c */
enum verdict ask(struct dune_sandbox_request *q, const struct decision *d);
void ask_take(void);			/* no callback runs until ask_give_back() */
void ask_give_back(void);

/* start.c */
extern struct fpu_area fresh_fpu;	/* what a new process has; not to be changed */

/* network.c */
struct address;
long read_address(struct address *to, uint64_t from, uint64_t len, uint64_t nr);
void drop_address(struct address *a);
long network_call(struct call *call, struct dune_tf *tf);

/* sockets.c */
long message_call(struct call *call, struct dune_tf *tf);
long vector_call(struct call *call, struct dune_tf *tf);

/* misc.c */
void robust_exit(struct thread *t);
long prctl_call(struct call *call, struct dune_tf *tf);
long arch_prctl_call(struct call *call, struct dune_tf *tf);

/* report.c: one line to the report descriptor; %s %d %x %lx %lu */
void report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void stop(const char *why) __attribute__((noreturn));

#endif /* !__ASSEMBLER__ */
#endif /* SANDBOX_MONITOR_H */
