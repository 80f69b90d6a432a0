// SPDX-License-Identifier: MIT
/*
 * Calls about the caller's own process and registers.
 */
#include <linux/prctl.h>
#include <sys/personality.h>

#include "monitor.h"

#define ARCH_SET_GS	0x1001
#define ARCH_SET_FS	0x1002
#define ARCH_GET_FS	0x1003
#define ARCH_GET_GS	0x1004
#define MSR_KERNEL_GS	0xc0000102	/* ring 3's, while ring 0 runs */

#define ROBUST_LIMIT	2048
#define FUTEX_TID	0x3fffffffU
#define FUTEX_DIED	0x40000000U
#define FUTEX_WAITING	0x80000000U
#define FUTEX_WAKE_	1

#ifndef PR_SET_VMA
#define PR_SET_VMA	0x53564d41
#endif

static uint64_t read_msr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

static void write_msr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

long arch_prctl_call(struct call *call, struct dune_tf *tf)
{
	uint64_t base;

	(void)tf;
	switch (call->arg[0]) {
	case ARCH_SET_FS:
		if (call->arg[1] >= USER_END)
			return -EPERM;
		dune_set_user_fs(call->arg[1]);
		return 0;
	case ARCH_SET_GS:
		if (call->arg[1] >= USER_END)
			return -EPERM;
		write_msr(MSR_KERNEL_GS, call->arg[1]);
		return 0;
	case ARCH_GET_FS:
		base = dune_get_user_fs();
		return copy_out(call->arg[1], &base, sizeof(base));
	case ARCH_GET_GS:
		base = read_msr(MSR_KERNEL_GS);
		return copy_out(call->arg[1], &base, sizeof(base));
	default:	/* shadow stacks, CPUID faulting, AMX: as where there are none */
		return -EINVAL;
	}
}

/* ---- robust mutexes ------------------------------------------------------------ */

/*
 * The kernel would write to addresses that it finds in ring 3's list, whatever they are; so
 * it gets no list, and the monitor does it when a thread ends.  What is killed with SIGKILL
 * leaves its mutexes as they are.
 */
static void owner_died(uint64_t at, uint32_t tid)
{
	uint32_t word;

	if (at % 4 || copy_in(&word, at, 4) || (word & FUTEX_TID) != tid)
		return;
	/* Nobody else may change a word that says the thread has the mutex, but for one bit. */
	word = (word & FUTEX_WAITING) | FUTEX_DIED;
	if (!copy_out(at, &word, 4) && word & FUTEX_WAITING)
		sys3(SYS_futex, at, FUTEX_WAKE_, 1);
}

void robust_exit(struct thread *t)
{
	uint64_t head[3], entry;
	uint32_t tid = (uint32_t)sys0(SYS_gettid);

	if (!t->robust_list || copy_in(head, t->robust_list, sizeof(head)))
		return;
	entry = head[0] & ~1UL;
	for (int i = 0; i < ROBUST_LIMIT && entry != t->robust_list; i++) {
		uint64_t next;

		if (copy_in(&next, entry, 8))
			break;
		if (entry != (head[2] & ~1UL))
			owner_died(entry + head[1], tid);
		entry = next & ~1UL;
	}
	if (head[2] & ~1UL)
		owner_died((head[2] & ~1UL) + head[1], tid);
}

static long robust_list(const struct call *call)
{
	struct thread *t = this_thread();

	if (call->nr == SYS_get_robust_list) {
		uint64_t size = 24;

		if (call->arg[0] && call->arg[0] != (uint64_t)sys0(SYS_gettid))
			return -EPERM;
		return copy_out(call->arg[1], &t->robust_list, 8) ||
		       copy_out(call->arg[2], &size, 8) ? -EFAULT : 0;
	}
	if (call->arg[1] != 24)
		return -EINVAL;
	t->robust_list = call->arg[0];
	return 0;
}

/* ---- prctl ------------------------------------------------------------------------ */

static long control(struct call *call)
{
	switch ((int)call->arg[0]) {
	case PR_SET_NAME:
	case PR_GET_NAME:
	case PR_GET_PDEATHSIG:
	case PR_GET_CHILD_SUBREAPER:
	case PR_GET_TID_ADDRESS:
		return is_ring3s_object(call->arg[1]) ? make_call(call) : -EFAULT;
	case PR_SET_PDEATHSIG:
	case PR_GET_DUMPABLE:
	case PR_SET_DUMPABLE:
	case PR_GET_KEEPCAPS:
	case PR_SET_KEEPCAPS:
	case PR_GET_TIMING:
	case PR_CAPBSET_READ:
	case PR_CAPBSET_DROP:
	case PR_GET_SECUREBITS:
	case PR_SET_TIMERSLACK:
	case PR_GET_TIMERSLACK:
	case PR_SET_CHILD_SUBREAPER:
	case PR_SET_NO_NEW_PRIVS:
	case PR_GET_NO_NEW_PRIVS:
	case PR_SET_THP_DISABLE:
	case PR_GET_THP_DISABLE:
	case PR_CAP_AMBIENT:
	case PR_SET_PTRACER:
	case PR_GET_SPECULATION_CTRL:
		return make_call(call);
	case PR_SET_VMA:	/* a name for a mapping */
		if (!is_ring3s(call->arg[2], call->arg[3]) || !is_ring3s_object(call->arg[4]))
			return -EINVAL;
		return make_call(call);
	case PR_GET_SECCOMP:
		return 0;
	default:
		report("prctl %d was refused", (int)call->arg[0]);
		return -EINVAL;
	}
}

static long set_personality(struct call *call)
{
	uint32_t now = (uint32_t)sys1(SYS_personality, 0xffffffff);
	uint32_t asked = (uint32_t)call->arg[0];

	if (asked == 0xffffffff)
		return now;
	/* Others change what mmap() does. */
	if ((asked ^ now) & ~(uint32_t)ADDR_NO_RANDOMIZE) {
		report("personality 0x%x was refused", asked);
		return -EPERM;
	}
	return make_call(call);
}

/* The policy's limits are hard ones, which the superuser could raise. */
static long limit(struct call *call)
{
	bool prlimit = call->nr == SYS_prlimit64;
	uint64_t from = call->arg[prlimit ? 2 : 1], what = call->arg[prlimit ? 1 : 0];
	uint64_t new[2], now[2];

	if (!from || !(policy.memory || policy.open_files || policy.processes ||
		       policy.cpu_seconds))
		return make_call(call);
	if (prlimit && call->arg[0] && call->arg[0] != (uint64_t)sys0(SYS_getpid))
		return -EPERM;
	if (copy_in(new, from, sizeof(new)))
		return -EFAULT;
	if (!sys4(SYS_prlimit64, 0, what, NULL, now) && new[1] > now[1])
		return -EPERM;
	call->arg[prlimit ? 2 : 1] = (uint64_t)new;
	return make_call(call);
}

long prctl_call(struct call *call, struct dune_tf *tf)
{
	(void)tf;
	switch (call->nr) {
	case SYS_set_robust_list:
	case SYS_get_robust_list:
		return robust_list(call);
	case SYS_prctl:
		return control(call);
	case SYS_personality:
		return set_personality(call);
	default:
		return limit(call);
	}
}
