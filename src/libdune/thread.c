// SPDX-License-Identifier: MIT
/*
 * dune_enter(): a thread's block and vCPU, and the way in.
 */
#include <asm/processor-flags.h>
#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "local.h"

#define CHECK(what) _Static_assert(what, #what)
#define CHECK_OFFSET(type, member, value) CHECK(offsetof(type, member) == (value))

CHECK_OFFSET(struct dune_percpu, self, 0);
CHECK_OFFSET(struct dune_percpu, run, PC_RUN);
CHECK_OFFSET(struct dune_percpu, host_rsp, PC_HOST_RSP);
CHECK_OFFSET(struct dune_percpu, vcpu_fd, PC_VCPU_FD);
CHECK_OFFSET(struct dune_percpu, active, PC_ACTIVE);
CHECK_OFFSET(struct dune_percpu, moving, PC_MOVING);
CHECK_OFFSET(struct dune_percpu, gate_ret, PC_GATE_RET);
CHECK_OFFSET(struct dune_percpu, deferred, PC_DEFERRED);
CHECK_OFFSET(struct dune_percpu, resume_mask, PC_RESUME_MASK);
CHECK_OFFSET(struct dune_percpu, cpu, PC_CPU);
CHECK_OFFSET(struct dune_percpu, restoring, PC_RESTORING);
CHECK_OFFSET(struct dune_percpu, gate_plain, PC_GATE_PLAIN);
CHECK_OFFSET(struct dune_percpu, floor, PC_FLOOR);
CHECK_OFFSET(struct dune_percpu, ring0_rsp, PC_RING0_RSP);
CHECK_OFFSET(struct dune_percpu, user_rsp, PC_USER_RSP);
CHECK_OFFSET(struct dune_percpu, user_fs, PC_USER_FS);
CHECK_OFFSET(struct dune_percpu, ring0_fs, PC_RING0_FS);
CHECK_OFFSET(struct dune_percpu, ring_frame, PC_RING_FRAME);
CHECK_OFFSET(struct dune_percpu, tss, PC_TSS);
CHECK_OFFSET(struct dune_percpu, tss.ist[0], PC_IST1);
CHECK(DUNE_BLOCK_SIZE <= DUNE_BLOCK_ALIGN);
CHECK(sizeof(struct dune_percpu) <= 0x1000);
CHECK(sizeof(struct dune_tss) == 104);
CHECK_OFFSET(struct dune_regs, rax, GR_RAX);
CHECK_OFFSET(struct dune_regs, rcx, GR_RCX);
CHECK_OFFSET(struct dune_regs, rdx, GR_RDX);
CHECK_OFFSET(struct dune_regs, rbx, GR_RBX);
CHECK_OFFSET(struct dune_regs, rsp, GR_RSP);
CHECK_OFFSET(struct dune_regs, rbp, GR_RBP);
CHECK_OFFSET(struct dune_regs, rsi, GR_RSI);
CHECK_OFFSET(struct dune_regs, rdi, GR_RDI);
CHECK_OFFSET(struct dune_regs, r8, GR_R8);
CHECK_OFFSET(struct dune_regs, r15, GR_R15);
CHECK_OFFSET(struct dune_regs, rip, GR_RIP);
CHECK_OFFSET(struct dune_regs, rflags, GR_RFLAGS);
CHECK(sizeof(struct dune_regs) == GR_SIZE);
CHECK_OFFSET(struct dune_run, regs, 0);
CHECK_OFFSET(struct dune_run, exit_reason, RUN_EXIT_REASON);
CHECK_OFFSET(struct dune_tf, rdi, TF_RDI);
CHECK_OFFSET(struct dune_tf, r11, TF_R11);
CHECK_OFFSET(struct dune_tf, rax, TF_RAX);
CHECK_OFFSET(struct dune_tf, err, TF_ERR);
CHECK_OFFSET(struct dune_tf, rip, TF_RIP);
CHECK_OFFSET(struct dune_tf, cs, TF_CS);
CHECK_OFFSET(struct dune_tf, rflags, TF_RFLAGS);
CHECK_OFFSET(struct dune_tf, rsp, TF_RSP);
CHECK_OFFSET(struct dune_tf, ss, TF_SS);
CHECK(sizeof(struct dune_tf) == TF_SIZE);
CHECK(GD_KT == SEL_KT && GD_KD == SEL_KD);
CHECK((GD_UD | 3) == GD_UD_RPL3);
CHECK((GD_UT | 3) == GD_UT_RPL3);
CHECK(DUNE_LEVEL_FPU - DUNE_LEVEL_FPU_SIZE > TF_SIZE);
CHECK(DUNE_RUN_SEEK == ASM_RUN_SEEK);
CHECK(DUNE_EXIT_SYSCALL == ASM_EXIT_SYSCALL);
CHECK(DUNE_EXIT_INTERRUPTED == ASM_EXIT_INTERRUPTED);

/* Control registers (SDM 2.5, APM 3.1). */
#define CR0_GUEST	(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG)
#define CR4_WANTED	(CR4_PGE | CR4_OSFXSR | CR4_OSX | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE)

/*
 * SYSCALL from ring 0 loads cs = GD_KT, ss = GD_KD; SYSRET to ring 3 adds 16
 * and 8 to the upper selector: cs = GD_UT | 3, ss = GD_UD | 3 (SDM 5.8.8).
 */
#define STAR_GUEST	((GD_UD - 8ULL + 3) << 48 | (uint64_t)GD_KT << 32)

#define ARCH_GET_FS	0x1003

DUNE_EXPORT const struct dune_stats *dune_vcpu_stats(void)
{
	struct dune_percpu *pc = __dune_this_percpu();

	return pc ? pc->stats : NULL;
}

static int vcpu_set_state(struct dune_percpu *pc, void *gs)
{
	const char *gate = __dune_info.vendor == DUNE_VENDOR_SVM ?
			   __dune_syscall_svm : __dune_syscall_vmx;
	struct dune_state st = {
		.cr0 = CR0_GUEST,
		.cr3 = __dune_cr3(),
		.cr4 = CR4_PAE | (CR4_WANTED & __dune_info.cr4_allowed),
		.gs_base = (uint64_t)gs,
		.gdt_base = (uint64_t)pc->gdt,
		.gdt_limit = sizeof(pc->gdt) - 1,
		.idt_base = (uint64_t)__dune_idt,
		.idt_limit = sizeof(__dune_idt) - 1,
		.tr_base = (uint64_t)&pc->tss,
		.tr_limit = sizeof(pc->tss) - 1,
		.star = STAR_GUEST,
		.lstar = (uint64_t)(__dune_hooked() ? __dune_hook_gate : gate),
		.sfmask = X86_EFLAGS_TF,	/* the gate is not stepped through */
		.cs = GD_KT,
		.ss = GD_KD,
		.tr = GD_TSS,
	};

	pc->gate_ret = pc->gate_plain = (uint64_t)gate + DUNE_HYPERCALL_LEN;
	if (syscall(SYS_arch_prctl, ARCH_GET_FS, &st.fs_base))
		return -errno;
	return ioctl(pc->vcpu_fd, DUNE_SET_STATE, &st) ? -errno : 0;
}

/*
 * What the first exception in guest mode needs must be mapped before it, and
 * so must the stack: the rest comes by page faults.
 */
static int map_essentials(void)
{
	int ret = __dune_map_gib((uint64_t)__dune_idt);

	if (!ret)
		ret = __dune_map_gib((uint64_t)__dune_trap_entries);
	if (!ret)
		ret = __dune_map_gib((uint64_t)__builtin_frame_address(0));
	return ret;
}

/* glibc's, if there is one that registered a restartable sequence area. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

#define RSEQ_UNREGISTER	1
#define RSEQ_SIG	0x53053053U	/* glibc's, sys/rseq.h */
#define RSEQ_MIN_SIZE	32

/*
 * A critical section that is preempted in guest mode would not be aborted: the
 * thread gives its registration up, and libc goes on without (see calls.c).
 */
static void rseq_unregister(void)
{
	unsigned int size;
	char *area;

	if (!&__rseq_offset || !&__rseq_size || !__rseq_size)
		return;
	size = __rseq_size < RSEQ_MIN_SIZE ? RSEQ_MIN_SIZE : __rseq_size;
	area = (char *)__builtin_thread_pointer() + __rseq_offset;
	syscall(SYS_rseq, area, size, RSEQ_UNREGISTER, RSEQ_SIG);
}

static int prepare(struct dune_percpu *pc, void *gs)
{
	int ret;

	pc->sigs = &__dune_sigs;
	__dune_segments_init(pc);
	ret = map_essentials();
	if (!ret)
		ret = vcpu_set_state(pc, gs);
	return ret ? ret : __dune_fast_calls_allow(pc);
}

/* @block: for GS to point to; NULL: libdune's own. */
static int enter(void *block)
{
	struct dune_percpu *pc;
	int ret;

	ret = __dune_process_ready();
	if (ret)
		return ret;
	pc = __dune_block_create(&ret);
	if (!pc)
		return ret;
	if (block)
		pc->self = block;
	ret = prepare(pc, pc->self);
	if (!ret) {
		rseq_unregister();
		__dune_altstack_adopt(pc);
		ret = __dune_enter_guest(pc);
		if (!ret)
			return 0;
		__dune_syscall3(SYS_sigaltstack, &pc->altstack, 0, 0);
	}
	__dune_block_destroy(pc);
	return ret;
}

DUNE_EXPORT int dune_enter(void)
{
	return dune_in_guest() ? 0 : enter(NULL);
}

DUNE_EXPORT int dune_enter_ex(void *percpu)
{
	if (!percpu || (uintptr_t)percpu % sizeof(void *))
		return -EINVAL;
	if (dune_in_guest())
		return -EBUSY;
	*(void **)percpu = percpu;
	return enter(percpu);
}

DUNE_EXPORT int dune_init_and_enter(void)
{
	int ret = dune_init(true);

	return ret ? ret : dune_enter();
}
