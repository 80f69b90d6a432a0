// SPDX-License-Identifier: MIT
/*
 * Signal frames on ring 3's stack, as Linux lays them out (arch/x86/kernel/signal_64.c).
 *
 * A frame comes back from ring 3 with whatever ring 3 put there.  Of it only what a program
 * may have is taken: general registers, rip, the flags that POPF would change in ring 3,
 * vector registers.  Selectors, IF and IOPL are not read.
 */
#include <cpuid.h>

#include "monitor.h"

#define RED_ZONE	128
#define UC_FP_XSTATE	1
#define UC_SIGCONTEXT_SS 2
#define UC_STRICT_RESTORE_SS 4
#define USER_CS		0x33
#define USER_SS		0x2b

/* CF PF AF ZF SF TF DF OF RF AC: FIX_EFLAGS of Linux. */
#define FLAGS_RING3S	0x50dd5UL
#define FLAGS_CLEARED	0x10500UL	/* for a handler: TF DF RF */
#define IOPL		0x3000UL

#define FP_MAGIC1	0x46505853U
#define FP_MAGIC2	0x46505845U
#define FX_SIZE		512
#define XSAVE_MAX	4096
#define MXCSR_DEFAULT_MASK 0xffbfU

/* x87, SSE, AVX, AVX-512; not AMX tiles and not PKRU */
#define COMPONENTS	0xe7UL

struct mcontext {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp,
		rip, rflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};

struct frame {
	uint64_t restorer;
	uint64_t uc_flags, uc_link;
	struct altstack stack;
	struct mcontext mc;
	uint64_t mask;
	siginfo_t info;
};

/* What FXSAVE leaves to software, from byte 464 on. */
struct sw_bytes {
	uint32_t magic1, extended_size;
	uint64_t features;
	uint32_t xstate_size, padding[7];
};

struct fp {
	uint16_t fcw, fsw, ftw, fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t registers[432];
	struct sw_bytes sw;
	uint64_t xstate_bv, xcomp_bv, header[6];
	uint8_t rest[XSAVE_MAX - FX_SIZE - 64 - 8];
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct fp, sw) == 464, "sw_reserved");
_Static_assert(offsetof(struct fp, xstate_bv) == FX_SIZE, "the XSAVE header");

static uint64_t components;
static uint32_t fp_size;
static uint32_t mxcsr_mask;

void frames_init(void)
{
	struct fp fp;
	uint32_t a, b, c, d;

	__builtin_memset(&fp, 0, sizeof(fp));
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	components = ((uint64_t)d << 32 | a) & COMPONENTS;
	fp_size = FX_SIZE + 64;
	for (uint32_t i = 2; i < 63; i++) {
		if (!(components >> i & 1))
			continue;
		__cpuid_count(0xd, i, a, b, c, d);
		if (a + b > fp_size)
			fp_size = a + b;
	}
	if (fp_size > sizeof(fp) - 4)
		stop("the CPU has more vector registers than the monitor knows");
	__asm__ volatile("fxsave64 %0" : "=m"(fp));
	mxcsr_mask = fp.mxcsr_mask ? fp.mxcsr_mask : MXCSR_DEFAULT_MASK;
}

/*
 * Ring 3's vector registers.  They are in the CPU, but not in a signal handler of ring 0,
 * which starts with fresh ones and has them in its own frame; what is left there is what
 * ring 3's handler starts with, and that is fresh ones, too.
 */
static void save_fp(const struct thread *t, struct fp *fp)
{
	struct fp *from = t->vectors;

	__builtin_memset(fp, 0, sizeof(*fp));
	if (from) {
		copy_bytes(fp, from, fp_size);
		if (from->sw.magic1 != FP_MAGIC1)
			fp->xstate_bv = 3;
		fp->xstate_bv &= components;
		fp->xcomp_bv = 0;
		from->xstate_bv = 0;
		from->fcw = 0x37f;
		from->mxcsr = 0x1f80;
	} else {
		__asm__ volatile("xsave64 %0" : "+m"(*fp) : "a"((uint32_t)components), "d"(0));
	}
	fp->sw = (struct sw_bytes) {
		.magic1 = FP_MAGIC1,
		.extended_size = fp_size + 4,
		.features = components,
		.xstate_size = fp_size,
	};
	*(uint32_t *)((char *)fp + fp_size) = FP_MAGIC2;
}

static void load_fp(const struct fp *fp)
{
	__asm__ volatile("xrstor64 %0" : : "m"(*fp), "a"((uint32_t)components), "d"(0));
}

/* 0, or not. */
int push_frame(struct thread *t, struct dune_tf *tf, int sig, const siginfo_t *info,
	       uint64_t mask, const struct action *act, const struct trap_words *trap)
{
	uint64_t sp = tf->rsp - RED_ZONE, at;
	struct frame f;
	struct fp fp;

	if (!(act->flags & 0x04000000UL))	/* SA_RESTORER */
		return -EFAULT;
	if (act->flags & SA_ONSTACK && t->altstack.size && !on_altstack(t, tf->rsp))
		sp = t->altstack.sp + t->altstack.size;
	save_fp(t, &fp);
	sp = (sp - (fp_size + 4)) & ~63UL;
	at = ((sp - sizeof(f)) & ~15UL) - 8;

	__builtin_memset(&f, 0, sizeof(f));
	f.restorer = act->restorer;
	f.uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
	f.stack = t->altstack;
	if (!f.stack.size)
		f.stack.flags |= SS_DISABLE;
	else if (on_altstack(t, tf->rsp))
		f.stack.flags |= SS_ONSTACK;
	f.mc = (struct mcontext) {
		.r8 = tf->r8, .r9 = tf->r9, .r10 = tf->r10, .r11 = tf->r11, .r12 = tf->r12,
		.r13 = tf->r13, .r14 = tf->r14, .r15 = tf->r15, .rdi = tf->rdi, .rsi = tf->rsi,
		.rbp = tf->rbp, .rbx = tf->rbx, .rdx = tf->rdx, .rax = tf->rax, .rcx = tf->rcx,
		.rsp = tf->rsp, .rip = tf->rip, .rflags = tf->rflags & ~IOPL,
		.cs = USER_CS, .ss = USER_SS, .oldmask = mask, .fpstate = sp,
	};
	if (trap) {
		f.mc.trapno = trap->vec;
		f.mc.err = trap->err;
		f.mc.cr2 = trap->cr2;
	}
	f.mask = mask;
	f.info = *info;
	if (copy_out(sp, &fp, fp_size + 4) || copy_out(at, &f, sizeof(f)))
		return -EFAULT;
	if (t->altstack.flags & (int)SS_AUTODISARM_)
		t->altstack = (struct altstack){ .flags = SS_DISABLE };

	tf->rdi = (uint64_t)sig;
	tf->rsi = at + offsetof(struct frame, info);
	tf->rdx = at + offsetof(struct frame, uc_flags);
	tf->rax = 0;
	tf->rip = act->handler;
	tf->rsp = at;
	tf->rflags &= ~FLAGS_CLEARED;
	return 0;
}

static void initial_fp(struct fp *fp)
{
	__builtin_memset(fp, 0, sizeof(*fp));
	fp->fcw = 0x37f;
	fp->mxcsr = 0x1f80;
}

/* Vector registers from ring 3: nothing that XRSTOR would choke on. */
static int restore_fp(uint64_t at)
{
	struct fp fp;
	uint32_t magic2;
	bool extended;

	initial_fp(&fp);
	if (at) {
		if (copy_in(&fp, at, FX_SIZE))
			return -EFAULT;
		extended = fp.sw.magic1 == FP_MAGIC1 && fp.sw.xstate_size <= fp_size &&
			   fp.sw.xstate_size >= FX_SIZE + 64 &&
			   fp.sw.extended_size >= fp.sw.xstate_size + 4;
		if (extended) {
			uint32_t size = fp.sw.xstate_size;

			if (copy_in(&magic2, at + size, 4) || magic2 != FP_MAGIC2)
				extended = false;
			else if (copy_in((char *)&fp + FX_SIZE, at + FX_SIZE, size - FX_SIZE))
				return -EFAULT;
		}
		if (!extended)
			fp.xstate_bv = 3;
	}
	fp.xstate_bv &= components;
	fp.xcomp_bv = 0;
	__builtin_memset(fp.header, 0, sizeof(fp.header));
	fp.mxcsr &= mxcsr_mask;
	load_fp(&fp);
	return 0;
}

/* 0: *tf, the vector registers, the alternate stack and *mask are the frame's. */
int pop_frame(struct thread *t, struct dune_tf *tf, uint64_t *mask)
{
	const struct mcontext *mc;
	struct frame f;

	if (copy_in(&f, tf->rsp - 8, sizeof(f)) || restore_fp(f.mc.fpstate))
		return -EFAULT;
	mc = &f.mc;
	tf->r8 = mc->r8;
	tf->r9 = mc->r9;
	tf->r10 = mc->r10;
	tf->r11 = mc->r11;
	tf->r12 = mc->r12;
	tf->r13 = mc->r13;
	tf->r14 = mc->r14;
	tf->r15 = mc->r15;
	tf->rdi = mc->rdi;
	tf->rsi = mc->rsi;
	tf->rbp = mc->rbp;
	tf->rbx = mc->rbx;
	tf->rdx = mc->rdx;
	tf->rax = mc->rax;
	tf->rcx = mc->rcx;
	tf->rsp = mc->rsp;
	tf->rip = mc->rip;
	tf->rflags = (tf->rflags & ~FLAGS_RING3S) | (mc->rflags & FLAGS_RING3S);
	*mask = f.mask;
	f.stack.flags &= (int)SS_AUTODISARM_ | SS_DISABLE;
	if (f.stack.flags & SS_DISABLE)
		t->altstack = (struct altstack){ .flags = SS_DISABLE };
	else if (f.stack.size >= MINSIGSTKSZ_)
		t->altstack = f.stack;
	return 0;
}
