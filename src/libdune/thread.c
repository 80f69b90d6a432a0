// SPDX-License-Identifier: MIT
/*
 * dune_enter(): a thread's block and vCPU, and the way in.
 */
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
CHECK_OFFSET(struct dune_percpu, stack_gib, PC_STACK_GIB);
CHECK_OFFSET(struct dune_percpu, vcpu_fd, PC_VCPU_FD);
CHECK_OFFSET(struct dune_percpu, active, PC_ACTIVE);
CHECK_OFFSET(struct dune_percpu, moving, PC_MOVING);
CHECK_OFFSET(struct dune_percpu, gate_ret, PC_GATE_RET);
CHECK(sizeof(struct dune_percpu) <= 0x1000);
CHECK(sizeof(struct dune_tss) == 104);
CHECK_OFFSET(struct dune_child, busy, CH_BUSY);
CHECK_OFFSET(struct dune_child, host_rsp, CH_HOST_RSP);
CHECK_OFFSET(struct dune_child, regs, CH_REGS);
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
CHECK(DUNE_RUN == ASM_DUNE_RUN);
CHECK(DUNE_EXIT_SYSCALL == ASM_EXIT_SYSCALL);
CHECK(DUNE_EXIT_INTERRUPTED == ASM_EXIT_INTERRUPTED);

/*
 * Initial-exec: reading it is one instruction, never a call of the dynamic
 * linker's, also when the library was loaded by dlopen() (8 bytes of the
 * static TLS reserve).
 */
static __thread struct dune_percpu *this_percpu __attribute__((tls_model("initial-exec")));

/* Control registers (SDM 2.5, APM 3.1). */
#define CR0_GUEST	0x80050033ULL	/* PE MP ET NE WP AM PG */
#define CR4_PAE		(1ULL << 5)
#define CR4_WANTED	(1ULL << 7 | 1ULL << 9 | 1ULL << 10 | 1ULL << 16 | 1ULL << 18)
				/* PGE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE */

/*
 * SYSCALL from ring 0 loads cs = GD_KT, ss = GD_KD; SYSRET to ring 3 adds 16
 * and 8 to the upper selector: cs = GD_UT | 3, ss = GD_UD | 3 (SDM 5.8.8).
 */
#define STAR_GUEST	((GD_UD - 8ULL + 3) << 48 | (uint64_t)GD_KT << 32)

#define ARCH_GET_FS	0x1003
#define HYPERCALL_LEN	3	/* VMCALL and VMMCALL */

DUNE_EXPORT bool dune_in_guest(void)
{
	uint16_t cs;

	__asm__ volatile("mov %%cs, %0" : "=rm"(cs));
	return (cs & 3) == 0;
}

DUNE_EXPORT const struct dune_stats *dune_vcpu_stats(void)
{
	return this_percpu && this_percpu->active ? this_percpu->stats : NULL;
}

/* An aligned block: map twice as much and give back what stands over. */
static void *map_block(void)
{
	size_t size = DUNE_BLOCK_SIZE + DUNE_PERCPU_SIZE;
	uintptr_t raw, block;
	void *p;

	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	raw = (uintptr_t)p;
	block = (raw + DUNE_PERCPU_SIZE - 1) & ~(uintptr_t)(DUNE_PERCPU_SIZE - 1);
	if (block != raw)
		munmap(p, block - raw);
	if (raw + size != block + DUNE_BLOCK_SIZE)
		munmap((void *)(block + DUNE_BLOCK_SIZE), raw + size - block - DUNE_BLOCK_SIZE);
	return (void *)block;
}

static struct dune_percpu *percpu_alloc(void)
{
	char *block = map_block();
	struct dune_percpu *pc = (struct dune_percpu *)block;

	if (!block)
		return NULL;
	if (mprotect(block + DUNE_GUARD_OFFSET, 4096, PROT_NONE)) {
		munmap(block, DUNE_BLOCK_SIZE);
		return NULL;
	}
	pc->self = pc;
	pc->run = (struct dune_run *)(block + DUNE_RUN_OFFSET);
	pc->stats = (const struct dune_stats *)(block + DUNE_STATS_OFFSET);
	pc->host_rsp = (uint64_t)block + DUNE_BLOCK_SIZE;
	pc->vcpu_fd = -1;
	return pc;
}

static int map_vcpu_page(const void *at, int prot, int fd, off_t offset)
{
	void *p = mmap((void *)at, 4096, prot, MAP_SHARED | MAP_FIXED, fd, offset);

	return p == MAP_FAILED ? -errno : 0;
}

static int vcpu_create(struct dune_percpu *pc)
{
	int fd, ret;

	fd = ioctl(dune_fd, DUNE_CREATE_VCPU, 0);
	if (fd < 0)
		return -errno;
	ret = map_vcpu_page(pc->run, PROT_READ | PROT_WRITE, fd, DUNE_MMAP_RUN);
	if (!ret)
		ret = map_vcpu_page(pc->stats, PROT_READ, fd, DUNE_MMAP_STATS);
	if (!ret)
		ret = __dune_track_fd(fd);
	if (ret)
		close(fd);
	else
		pc->vcpu_fd = fd;
	return ret;
}

static void vcpu_close(struct dune_percpu *pc)
{
	if (pc->vcpu_fd < 0)
		return;
	__dune_untrack_fd(pc->vcpu_fd);
	close(pc->vcpu_fd);
	pc->vcpu_fd = -1;
}

static int vcpu_set_state(struct dune_percpu *pc)
{
	const char *gate = __dune_info.vendor == DUNE_VENDOR_SVM ?
			   __dune_syscall_svm : __dune_syscall_vmx;
	struct dune_state st = {
		.cr0 = CR0_GUEST,
		.cr3 = __dune_cr3(),
		.cr4 = CR4_PAE | (CR4_WANTED & __dune_info.cr4_allowed),
		.gs_base = (uint64_t)pc,
		.gdt_base = (uint64_t)pc->gdt,
		.gdt_limit = sizeof(pc->gdt) - 1,
		.idt_base = (uint64_t)__dune_idt,
		.idt_limit = sizeof(__dune_idt) - 1,
		.tr_base = (uint64_t)&pc->tss,
		.tr_limit = sizeof(pc->tss) - 1,
		.star = STAR_GUEST,
		.lstar = (uint64_t)gate,
		.cs = GD_KT,
		.ss = GD_KD,
		.tr = GD_TSS,
	};

	pc->gate_ret = (uint64_t)gate + HYPERCALL_LEN;
	if (syscall(SYS_arch_prctl, ARCH_GET_FS, &st.fs_base))
		return -errno;
	return ioctl(pc->vcpu_fd, DUNE_SET_STATE, &st) ? -errno : 0;
}

/*
 * What the first exception in guest mode needs must be mapped before it, and
 * so must the stack: the rest comes by page faults.
 */
static int map_essentials(struct dune_percpu *pc)
{
	int ret = __dune_map_range((uint64_t)pc, DUNE_BLOCK_SIZE);

	if (!ret)
		ret = __dune_map_gib((uint64_t)__dune_idt);
	if (!ret)
		ret = __dune_map_gib((uint64_t)__dune_trap_entries);
	if (!ret)
		ret = __dune_map_gib((uint64_t)__builtin_frame_address(0));
	return ret;
}

static int prepare(struct dune_percpu *pc)
{
	int ret = vcpu_create(pc);

	if (ret)
		return ret;
	pc->active = 0;
	pc->moving = 0;
	pc->stack_gib = ~0ULL;	/* none is known to take trap frames */
	__dune_segments_init(pc);
	ret = map_essentials(pc);
	return ret ? ret : vcpu_set_state(pc);
}

DUNE_EXPORT int dune_enter(void)
{
	struct dune_percpu *pc = this_percpu;
	int ret;

	if (dune_in_guest())
		return 0;
	if (pc && pc->active)
		return -EBUSY;
	ret = __dune_process_ready();
	if (ret)
		return ret;

	if (!pc) {
		pc = percpu_alloc();
		if (!pc)
			return -ENOMEM;
	}
	ret = prepare(pc);
	if (!ret) {
		this_percpu = pc;
		ret = __dune_enter_guest(pc);
		if (!ret)
			return 0;
	}
	this_percpu = NULL;
	vcpu_close(pc);
	munmap(pc, DUNE_BLOCK_SIZE);
	return ret;
}

DUNE_EXPORT int dune_init_and_enter(void)
{
	int ret = dune_init(true);

	return ret ? ret : dune_enter();
}
