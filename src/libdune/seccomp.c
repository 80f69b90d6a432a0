// SPDX-License-Identifier: MIT
/*
 * seccomp filters that the program installs from Dune mode.
 *
 * The program's calls are made for real, so its filters see them.  They also see
 * what the host side does between two of them, and a filter that knows nothing of
 * it would kill the next DUNE_RUN.  So a program's filter is installed with a few
 * instructions in front, which let pass
 *
 *   - the ioctls of dune.ko, known by their type: they act on the caller's own VM
 *     and registers, and Linux uses the type for nothing else;
 *   - calls made at the host side's own call sites (known by the instruction
 *     pointer, where the program's calls are never made), and of those only what
 *     can harm nobody but the process itself: see the list.
 *
 * Whatever else libdune does for a call of the program's, mapping a new thread's
 * block for example, is subject to the filter like the call itself.
 *
 * Strict mode has no filter to put anything in front of.  So it is one: nothing but its
 * calls passes, however they are made.  That Linux ends the thread by SIGKILL then, where a
 * filter would send SIGSYS, is done here, before the call.
 *
 * Lean code, on the host stack.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/syscall.h>

#include "i386.h"
#include "sigframe.h"

extern const char __dune_run_done[], __dune_mask_done[], __dune_unmap_done[], __dune_restorer_done[],
	__dune_own_done[];

bool __dune_filtered;

#define DATA(member)	((uint32_t)offsetof(struct seccomp_data, member))
#define ARG(n)		((uint32_t)offsetof(struct seccomp_data, args[n]))
#define LOAD(offset)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)

/* Places in the prefix; jumps are relative and go forward. */
enum {
	AT_IOCTL = 4,		/* is it one of ours? */
	AT_SITE = 8,		/* is it made at a site of our own? */
	AT_LIST = 16,		/* may it be? */
	AT_FCNTL = 28,
	AT_QUEUE = 30,
	AT_ALLOW = 32,
	AT_PROGRAM = 33,	/* the program decides */
	PREFIX = 34,
};

#define TO(from, to)	((to) - (from) - 1)
#define IF(at, value, yes, no) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, TO(at, yes), TO(at, no))
#define ALLOWED(at, nr)	IF(at, nr, AT_ALLOW, (at) + 1)

/* 0 where make_prefix() puts in an address or the process's number. */
static const struct sock_filter template[PREFIX] = {
	[0] = LOAD(DATA(arch)),
	[1] = IF(1, AUDIT_ARCH_X86_64, 2, AT_PROGRAM),
	[2] = LOAD(DATA(nr)),
	[3] = IF(3, SYS_ioctl, AT_IOCTL, AT_SITE),
	[AT_IOCTL] = LOAD(ARG(1)),
	[5] = BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, _IOC_TYPESHIFT),
	[6] = BPF_STMT(BPF_ALU | BPF_AND | BPF_K, _IOC_TYPEMASK),
	[7] = IF(7, DUNE_IOC_TYPE, AT_ALLOW, AT_PROGRAM),
	[AT_SITE] = LOAD(DATA(instruction_pointer) + 4),
	[9] = IF(9, 0, 10, AT_PROGRAM),
	[10] = LOAD(DATA(instruction_pointer)),
	[11] = IF(11, 0, AT_LIST, 12),
	[12] = IF(12, 0, AT_LIST, 13),
	[13] = IF(13, 0, AT_LIST, 14),
	[14] = IF(14, 0, AT_LIST, 15),
	[15] = IF(15, 0, AT_LIST, AT_PROGRAM),
	[AT_LIST] = LOAD(DATA(nr)),
	[17] = ALLOWED(17, SYS_lseek),		/* DUNE_RUN */
	[18] = ALLOWED(18, SYS_rt_sigreturn),
	[19] = ALLOWED(19, SYS_rt_sigprocmask),
	[20] = ALLOWED(20, SYS_rt_sigaction),
	[21] = ALLOWED(21, SYS_close),
	[22] = ALLOWED(22, SYS_munmap),
	[23] = ALLOWED(23, SYS_sched_yield),
	[24] = ALLOWED(24, SYS_getpid),
	[25] = ALLOWED(25, SYS_gettid),
	[26] = IF(26, SYS_fcntl, AT_FCNTL, 27),
	[27] = IF(27, SYS_rt_tgsigqueueinfo, AT_QUEUE, AT_PROGRAM),
	[AT_FCNTL] = LOAD(ARG(1)),
	[29] = IF(29, F_DUPFD_CLOEXEC, AT_ALLOW, AT_PROGRAM),
	[AT_QUEUE] = LOAD(ARG(0)),	/* to a thread of this process */
	[31] = IF(31, 0, AT_ALLOW, AT_PROGRAM),
	[AT_ALLOW] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	[AT_PROGRAM] = BPF_STMT(BPF_LD | BPF_IMM, 0),	/* what a filter starts with */
};

static void make_prefix(struct sock_filter *f)
{
	__dune_copy(f, template, sizeof(template));
	/* host_asm.S sees to it that the sites have the upper half in common. */
	f[9].k = (uint32_t)((uint64_t)__dune_own_done >> 32);
	f[11].k = (uint32_t)(uint64_t)__dune_run_done;
	f[12].k = (uint32_t)(uint64_t)__dune_own_done;
	f[13].k = (uint32_t)(uint64_t)__dune_mask_done;
	f[14].k = (uint32_t)(uint64_t)__dune_restorer_done;
	f[15].k = (uint32_t)(uint64_t)__dune_unmap_done;
	f[31].k = (uint32_t)__dune_own3(SYS_getpid, 0, 0, 0);
}

/* The call in *r, with @len instructions in @filter behind room for the prefix. */
static long install(const struct dune_regs *r, struct sock_filter *filter, unsigned short len)
{
	struct sock_fprog prog = { .len = PREFIX + len, .filter = filter };
	struct dune_regs call;

	make_prefix(filter);
	__dune_copy(&call, r, sizeof(call));
	call.rdx = (uint64_t)&prog;
	return __dune_forward(&call);
}

/* The call in *r, which installs a filter. */
static long set_filter(const struct dune_regs *r)
{
	struct sock_fprog prog;
	long ret;

	/* An unreadable one, and one of an impossible length, Linux refuses itself. */
	if (__dune_copy_in(&prog, r->rdx, sizeof(prog)) || !prog.len || prog.len > BPF_MAXINSNS)
		return __dune_forward(r);
	if (prog.len > BPF_MAXINSNS - PREFIX)
		return -EINVAL;

	struct sock_filter filter[PREFIX + prog.len];

	if (__dune_copy_in(filter + PREFIX, (uint64_t)prog.filter, prog.len * sizeof(*filter)))
		return -EFAULT;
	ret = install(r, filter, prog.len);
	if (!ret || (ret > 0 && r->rsi & SECCOMP_FILTER_FLAG_NEW_LISTENER))
		__dune_filtered = true;
	return ret;
}

/* ---- strict mode -------------------------------------------------------- */

#define STRICT_IF(value, to_allow)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, to_allow, 0)

/* Read, write, exit and sigreturn, of 64 bits and of 32 (kernel/seccomp.c, mode1_syscalls). */
static const struct sock_filter strict[] = {
	LOAD(DATA(arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 6),
	LOAD(DATA(nr)),
	STRICT_IF(SYS_read, 9),
	STRICT_IF(SYS_write, 8),
	STRICT_IF(SYS_exit, 7),
	STRICT_IF(SYS_rt_sigreturn, 6),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD),
	LOAD(DATA(nr)),
	STRICT_IF(I386_read, 3),
	STRICT_IF(I386_write, 2),
	STRICT_IF(I386_exit, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

#define STRICT_LEN	(sizeof(strict) / sizeof(strict[0]))

/* The call as with a mode that does not exist, which the filters there are may see. */
static long refuse(const struct dune_regs *r)
{
	if (r->rax == SYS_prctl)
		return __dune_syscall3(SYS_prctl, PR_SET_SECCOMP, ~0U, 0);
	return __dune_syscall3(SYS_seccomp, ~0U, 0, 0);
}

static long set_strict(struct dune_percpu *pc, const struct dune_regs *r)
{
	struct sock_filter filter[PREFIX + STRICT_LEN];
	struct dune_regs call;
	long ret;

	if (r->rax == SYS_seccomp && ((uint32_t)r->rsi || r->rdx))
		return refuse(r);
	if (__dune_syscall3(SYS_prctl, PR_GET_SECCOMP, 0, 0))	/* filters stay filters */
		return refuse(r);
	/* A filter needs it, and a thread in strict mode executes nothing. */
	ret = __dune_syscall6(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	if (ret)
		return ret;
	__dune_copy(filter + PREFIX, strict, sizeof(strict));
	__dune_clear(&call, sizeof(call));
	call.rax = SYS_seccomp;
	call.rdi = SECCOMP_SET_MODE_FILTER;
	ret = install(&call, filter, STRICT_LEN);
	if (ret)
		return ret;
	pc->strict = 1;
	if (pc->gate_plain) {		/* no dispatcher: it shall let all calls pass */
		pc->dispatch_offset = 0;
		pc->dispatch_len = ~0ULL;
		pc->gate_plain = 0;
	}
	return 0;
}

/* As Linux does it: the thread ends by SIGKILL, and the process if it has no other. */
static void kill_thread(struct dune_percpu *pc)
{
	struct dune_regs end;
	siginfo_t info;

	if (pc->vforked || pc->alone || __dune_is_only_block(pc)) {
		__dune_clear(&info, sizeof(info));
		info.si_signo = SIGKILL;
		info.si_code = SI_TKILL;
		__dune_queue_signal(SIGKILL, &info);
	}
	__dune_clear(&end, sizeof(end));
	end.rax = SYS_exit;
	end.rdi = SIGKILL;
	__dune_special_call(pc, &end);
}

/* Before a call in strict mode, whose number is in the run page; of 32 bits or of 64. */
void __dune_check_strict(struct dune_percpu *pc, bool of32)
{
	uint32_t nr = (uint32_t)pc->run->regs.rax;
	bool allowed = of32 ? nr == I386_read || nr == I386_write || nr == I386_exit ||
			      nr == I386_sigreturn
			    : nr == SYS_read || nr == SYS_write || nr == SYS_exit ||
			      nr == SYS_rt_sigreturn;

	if (!allowed)
		kill_thread(pc);
}

/* prctl() and seccomp() */
long __dune_seccomp(struct dune_percpu *pc, const struct dune_regs *r)
{
	bool prctl = r->rax == SYS_prctl;

	/* RDTSC does not fault in ring 0: refused, as where it cannot be made to. */
	if (prctl && (int)r->rdi == PR_SET_TSC && (int)r->rsi == PR_TSC_SIGSEGV)
		return -EINVAL;
	if (prctl && (int)r->rdi != PR_SET_SECCOMP)
		return __dune_forward(r);
	if (prctl ? r->rsi == SECCOMP_MODE_STRICT : (uint32_t)r->rdi == SECCOMP_SET_MODE_STRICT)
		return set_strict(pc, r);
	if (prctl ? r->rsi == SECCOMP_MODE_FILTER : (uint32_t)r->rdi == SECCOMP_SET_MODE_FILTER)
		return set_filter(r);
	return __dune_forward(r);
}
