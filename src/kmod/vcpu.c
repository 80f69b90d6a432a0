// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vCPU: the descriptor, the run loop, and what each exit leads to.
 *
 * Whatever the host has to do for the thread (a signal, a reschedule, task
 * work) ends DUNE_RUN with DUNE_EXIT_INTERRUPTED: on its way to user space the
 * kernel does all of it by its ordinary code, and the library comes straight
 * back.  So no private kernel function is called for any of these.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/fpu/api.h>
#include <asm/trapnr.h>
#include <asm/unistd.h>

#include "compat.h"
#include "dune.h"
#include "ksyms.h"

/**
 * dune_inject - deliver an exception to the guest at the next entry
 *
 * Overrides an event whose delivery was cut short only if none is waiting:
 * the caller's exit came from an instruction, so none can be.
 */
void dune_inject(struct dune_vcpu *vcpu, u8 vector, u32 error_code)
{
	vcpu->event = (struct dune_event) {
		.valid = true,
		.vector = vector,
		.type = DUNE_EVENT_EXCEPTION,
		.has_error_code = DUNE_WITH_ERROR >> vector & 1,
		.error_code = error_code,
	};
}

/* KVM leaves MSRs as its guest had them, to be put right on the way to user space. */
#define HOST_WORK	(XFER_TO_GUEST_MODE_WORK | _TIF_NEED_FPU_LOAD | _TIF_USER_RETURN_NOTIFY)

/*
 * There may be something that the way back to user space must do first: is there?  A thread
 * that is stopped at the beginning of each system call comes with work for its
 * rseq every time: @first lets it into guest mode all the same.
 */
static noinline bool host_work_pending(bool first)
{
	unsigned long *flags = &current_thread_info()->flags, work;

	if (READ_ONCE(*flags) & _TIF_NEED_FPU_LOAD)
		static_call(dune_fpu_return)();
	work = READ_ONCE(*flags) & HOST_WORK;
	return work && !(first && work == _TIF_NOTIFY_RESUME && dune_syscall_work());
}

/*
 * A debugger's breakpoints are not to be hit on the way, the guest's in it alone.  An exit
 * leaves DR7 disabled.  Out of line, for the sake of a path that has none.
 */
static noinline void enter_with_breakpoints(struct dune_vcpu *vcpu)
{
	if (hw_breakpoint_active())
		set_debugreg(0UL, 7);
	if (vcpu->dr7 & DUNE_DR7_ENABLE)
		dune_swap_breakpoints(vcpu);
	static_call(dune_enter)(vcpu);
	if (vcpu->dr7 & DUNE_DR7_ENABLE)
		dune_swap_breakpoints(vcpu);
	if (hw_breakpoint_active())
		set_debugreg(__this_cpu_read(cpu_dr7), 7);
}

/* A thread that came to another CPU, or enters for the first time.  IRQs off. */
static noinline void move_to(struct dune_vcpu *vcpu, int cpu)
{
	vcpu->last_cpu = cpu;
	vcpu->flush |= VCPU_FLUSH_TLB;
	if (!dune_ops->load)
		return;
	preempt_disable();
	local_irq_enable();
	dune_ops->load(vcpu);
	local_irq_disable();
	preempt_enable();
}

/*
 * Take the interrupt that ended guest mode now, while the time still counts as the
 * thread's own, then close the account.
 */
static noinline void take_interrupt(struct dune_vcpu *vcpu)
{
	preempt_disable();
	if (vcpu->exit.vector)
		dune_ops->take_irq(vcpu->exit.vector);
	local_irq_enable();
	asm volatile("nop");	/* STI holds interrupts off for one instruction */
	local_irq_disable();
	vtime_account_guest_exit();
	local_irq_enable();
	preempt_enable();
}

static __always_inline void add_ticks(u64 *sum, u64 from, u64 to)
{
	u64 ticks = to - from;

	OPTIMIZER_HIDE_VAR(ticks);	/* not (*sum + to) - from: an addition to memory */
	*sum += ticks;
}

/* One entry and exit.  False: the host has work, nothing was entered. */
static __always_inline bool enter_once(struct dune_vcpu *vcpu, struct dune_vm *vm,
				       struct dune_stats *stats, u64 *exit_tsc)
{
	s64 gen;
	u64 tsc;
	int cpu;

	local_irq_disable();	/* nor is the thread preempted */
	cpu = smp_processor_id();
	if (unlikely(cpu != vcpu->last_cpu))
		move_to(vcpu, cpu);
	if (unlikely(READ_ONCE(current_thread_info()->flags) & HOST_WORK &&
		     host_work_pending(!*exit_tsc)) || !__this_cpu_read(dune_cpu_is_on)) {
		local_irq_enable();
		return false;
	}

	cpumask_set_cpu(cpu, vm->running);
	smp_mb__after_atomic();	/* pairs with flush_all() */
	gen = atomic64_read(&vm->tlb_gen);
	if (unlikely(gen != vcpu->tlb_gen)) {
		vcpu->flush |= VCPU_FLUSH_TLB;
		vcpu->tlb_gen = gen;
	}

	stats->entries++;
	vtime_account_guest_enter();
	tsc = rdtsc();
	if (*exit_tsc)
		add_ticks(&stats->exit[vcpu->exit.stat].ticks, *exit_tsc, tsc);

	if (unlikely(hw_breakpoint_active() || vcpu->dr7 & DUNE_DR7_ENABLE))
		enter_with_breakpoints(vcpu);
	else
		static_call(dune_enter)(vcpu);

	*exit_tsc = rdtsc();
	add_ticks(&stats->guest_ticks, tsc, *exit_tsc);
	stats->exit[vcpu->exit.stat].count++;
	cpumask_clear_cpu(cpu, vm->running);

	if (vcpu->exit.stat == DUNE_STAT_INTERRUPT) {
		take_interrupt(vcpu);
		return true;
	}
	vtime_account_guest_exit();
	local_irq_enable();
	return true;
}

static int report(struct dune_vcpu *vcpu, u32 reason)
{
	struct dune_run *run = vcpu->run;

	run->exit_reason = reason;
	run->hw_reason = vcpu->exit.hw_reason;
	run->hw_info = vcpu->exit.hw_info;
	return 0;
}

static int handle_fault(struct dune_vcpu *vcpu)
{
	int ret = dune_mmu_fault(vcpu, &vcpu->run->fault);

	if (ret >= 0)
		return RUN_AGAIN;
	return report(vcpu, ret == -EFAULT ? DUNE_EXIT_FAULT : DUNE_EXIT_INTERRUPTED);
}

/*
 * #DB and #AC exit only so that a guest whose handler raises them again
 * cannot hold the CPU in an endless delivery (CVE-2015-5307, CVE-2015-8104):
 * they are given to the guest's own IDT.
 */
static int handle_exception(struct dune_vcpu *vcpu)
{
	struct dune_exit *x = &vcpu->exit;

	if (x->vector == X86_TRAP_MC)	/* the host had it in enter() */
		return RUN_AGAIN;
	if (x->vector == X86_TRAP_DB)
		vcpu->dr6 |= x->dr6;
	else if (x->vector != X86_TRAP_AC)
		return report(vcpu, DUNE_EXIT_UNHANDLED);
	dune_inject(vcpu, x->vector, x->error_code);
	return RUN_AGAIN;
}

/*
 * Waiting may be restarted with what is left of the time; waking up is over at once.
 * A vCPU is not run inside of another's DUNE_RUN, or its own.
 */
static bool is_for_user_space(u64 nr, u64 arg)
{
	return (nr == __NR_futex && (arg & FUTEX_CMD_MASK) != FUTEX_WAKE) ||
	       (nr == __NR_lseek && arg == (u64)DUNE_RUN_SEEK);
}

/*
 * Make the call that a hypercall asks for, if it may be: see calls.c.
 *
 * Return: RUN_AGAIN it is made; 0 it is for user space; -ERESTART*: DUNE_RUN itself is
 * to be restarted or interrupted, and the hypercall with it.
 */
static __always_inline int fast_call(struct dune_vcpu *vcpu)
{
	struct dune_regs *r = &vcpu->regs;
	struct pt_regs *args = &vcpu->args;
	u64 nr = r->rax;
	long ret;

	if (nr >= DUNE_NR_FAST_CALLS || r->rip != vcpu->gate || dune_syscall_work() ||
	    r->r11 & X86_EFLAGS_TF)	/* one step of the program's: libdune sees to it */
		return 0;
	/* What follows is no index out of range, not even speculatively. */
	OPTIMIZER_HIDE_VAR(nr);
	nr &= DUNE_NR_FAST_CALLS - 1;
	if (!test_bit(nr, vcpu->fast))
		return 0;

	args->di = r->rdi;
	args->si = r->rsi;
	if (!test_bit(nr, vcpu->private)) {
		if (is_for_user_space(nr, r->rsi))
			return 0;
		args->dx = r->rdx;
		args->r10 = r->r10;
		args->r8 = r->r8;
		args->r9 = r->r9;
		/* mmap, mprotect, munmap and brk touch what a page fault does, and no contents. */
		if (nr < __NR_mmap || nr > __NR_brk)
			vcpu->flush |= VCPU_FLUSH_L1D;
	}
	ret = static_call(dune_sys_call)(args, nr);

	if (unlikely(ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK))
		return ret == -ERESTART_RESTARTBLOCK ? -ERESTARTNOHAND : ret;
	r->rax = ret;
	r->rflags = dune_rflags(r->r11);	/* as SYSRET does */
	dune_skip_insn(vcpu);
	return RUN_AGAIN;
}

static int handle_hypercall(struct dune_vcpu *vcpu)
{
	int ret;

	/* Ring 3 leaves by ring 0 or not at all. */
	if (vcpu->exit.cpl) {
		dune_inject(vcpu, X86_TRAP_UD, 0);
		return RUN_AGAIN;
	}
	ret = fast_call(vcpu);
	if (ret)
		return ret;
	dune_skip_insn(vcpu);
	return report(vcpu, DUNE_EXIT_SYSCALL);
}

/* 0: back to user space, exit_reason is set.  RUN_AGAIN.  -errno. */
static int handle_exit(struct dune_vcpu *vcpu)
{
	if (likely(vcpu->exit.stat == DUNE_STAT_HYPERCALL))
		return handle_hypercall(vcpu);
	switch (vcpu->exit.stat) {
	case DUNE_STAT_INTERRUPT:
	case DUNE_STAT_NMI:
		return RUN_AGAIN;
	case DUNE_STAT_FAULT:
		return handle_fault(vcpu);
	case DUNE_STAT_EXCEPTION:
		return handle_exception(vcpu);
	case DUNE_STAT_HLT:
		/* Nothing wakes a halted guest yet: give the CPU to others. */
		dune_skip_insn(vcpu);
		set_tsk_need_resched(current);
		return RUN_AGAIN;
	case DUNE_STAT_SHUTDOWN:
		return report(vcpu, DUNE_EXIT_SHUTDOWN);
	case DUNE_STAT_OTHER:
		return report(vcpu, vcpu->exit.entry_failed ?
				    DUNE_EXIT_ENTRY_FAILED : DUNE_EXIT_UNHANDLED);
	default:
		dune_emulate(vcpu);
		return RUN_AGAIN;
	}
}

/* Copy from the shared page once: it may change under our eyes. */
#define read_shared(dst, src)	do { *(dst) = *(src); barrier(); } while (0)

static int take_inject(struct dune_vcpu *vcpu)
{
	struct dune_inject in;

	if (!READ_ONCE(vcpu->run->inject.valid))
		return 0;
	read_shared(&in, &vcpu->run->inject);
	/* Vectors up to 31 are exceptions, except the NMI. */
	if (in.vector > 31 || in.vector == X86_TRAP_NMI)
		return -EINVAL;
	vcpu->run->inject.valid = 0;
	if (in.vector == X86_TRAP_PF)
		vcpu->cr2 = in.cr2;
	dune_inject(vcpu, in.vector, in.error_code);
	return 0;
}

static void vcpu_sched_out(struct preempt_notifier *pn, struct task_struct *next)
{
	dune_ops->put(container_of(pn, struct dune_vcpu, preempt));
}

static void vcpu_sched_in(struct preempt_notifier *pn, int cpu)
{
	/* The next entry takes what it needs. */
}

static struct preempt_ops vcpu_preempt_ops = {
	.sched_in	= vcpu_sched_in,
	.sched_out	= vcpu_sched_out,
};

/*
 * The thread is being killed, maybe for another's core file: that shows it where the
 * program stood and not in DUNE_RUN, whose result this becomes.  As by PTRACE_SETREGS;
 * SIGKILL comes before user mode.
 */
static long show_guest(const struct dune_vcpu *vcpu)
{
	const struct dune_regs *r = &vcpu->regs;
	struct pt_regs *regs = current_pt_regs();
	bool call = vcpu->gate && r->rip - vcpu->gate <= 3;	/* SYSCALL, to the program */

	regs->bx = r->rbx;
	regs->cx = r->rcx;
	regs->dx = r->rdx;
	regs->si = r->rsi;
	regs->di = r->rdi;
	regs->bp = r->rbp;
	regs->sp = r->rsp;
	regs->r8 = r->r8;
	regs->r9 = r->r9;
	regs->r10 = r->r10;
	regs->r11 = r->r11;
	regs->r12 = r->r12;
	regs->r13 = r->r13;
	regs->r14 = r->r14;
	regs->r15 = r->r15;
	regs->ip = call ? r->rcx : r->rip;
	regs->flags = dune_rflags(call ? r->r11 : r->rflags) | X86_EFLAGS_IF;
	regs->flags &= ~(X86_EFLAGS_IOPL | X86_EFLAGS_NT);
	regs->orig_ax = -1;		/* nothing to restart */
	return r->rax;
}

static long vcpu_run(struct dune_vcpu *vcpu)
{
	u64 exit_tsc = 0, rip = vcpu->regs.rip;
	struct dune_stats *stats = vcpu->stats;
	struct dune_vm *vm = vcpu->vm;
	int ret;

	if (!vcpu->has_state)
		return -ENODATA;

	read_shared(&vcpu->regs, &vcpu->run->regs);
	/* To a signal handler, for example: the cut-short delivery comes again. */
	if (vcpu->regs.rip != rip)
		vcpu->event.valid = false;
	vcpu->regs.rflags = dune_rflags(vcpu->regs.rflags);
	if (!dune_is_canonical(vcpu->regs.rip))
		return -EINVAL;
	ret = take_inject(vcpu);
	if (ret)
		return ret;

	stats->runs++;
	if (dune_ops->put)
		preempt_notifier_register(&vcpu->preempt);
	do {
		if (enter_once(vcpu, vm, stats, &exit_tsc))
			ret = handle_exit(vcpu);
		else
			ret = report(vcpu, DUNE_EXIT_INTERRUPTED);
	} while (ret == RUN_AGAIN);
	if (dune_ops->put) {
		local_irq_disable();
		preempt_notifier_unregister(&vcpu->preempt);
		dune_ops->put(vcpu);
		local_irq_enable();
	}

	vcpu->run->regs = vcpu->regs;
	stats->returns++;
	if (exit_tsc)
		add_ticks(&stats->exit[vcpu->exit.stat].ticks, exit_tsc, rdtsc());
	return unlikely(fatal_signal_pending(current)) ? show_guest(vcpu) : ret;
}

static long vcpu_set_state(struct dune_vcpu *vcpu, const void __user *argp)
{
	struct dune_state st;

	if (copy_from_user(&st, argp, sizeof(st)))
		return -EFAULT;
	if (!dune_state_valid(&st))
		return -EINVAL;
	vcpu->cr2 = st.cr2;
	vcpu->traps = st.traps;
	dune_ops->set_state(vcpu, &st);
	vcpu->event.valid = false;
	vcpu->has_state = true;
	return 0;
}

static long vcpu_get_state(struct dune_vcpu *vcpu, void __user *argp)
{
	struct dune_state st = { };

	if (!vcpu->has_state)
		return -ENODATA;
	dune_ops->get_state(vcpu, &st);
	st.cr2 = vcpu->cr2;
	st.traps = vcpu->traps;
	return copy_to_user(argp, &st, sizeof(st)) ? -EFAULT : 0;
}

/*
 * A maskable interrupt for the guest, from any thread of the mm.  In guest mode it is
 * stopped for it; elsewhere the next entry finds it.
 */
static long vcpu_interrupt(struct dune_vcpu *vcpu, unsigned long vector)
{
	struct task_struct *task;

	if (vector < 32 || vector > 255)
		return -EINVAL;
	preempt_disable();	/* between post() and notify() */
	if (!dune_ops->post)
		xchg(&vcpu->irq, vector);	/* a barrier: before it is looked at who runs */
	else if (!dune_ops->post(vcpu, vector))
		goto out;
	rcu_read_lock();
	task = pid_task(READ_ONCE(vcpu->owner), PIDTYPE_PID);
	if (task && dune_ops->notify)
		dune_ops->notify(vcpu, task_cpu(task));
	else if (task)
		kick_process(task);
	rcu_read_unlock();
out:
	preempt_enable();
	return 0;
}

/*
 * Whoever comes first owns the vCPU for good.  From then on all else runs in
 * that one thread, so nobody waits behind a vCPU in guest mode.  @prepare: it
 * may be nobody's yet, and stay so.
 */
static __always_inline int claim(struct dune_vcpu *vcpu, bool prepare)
{
	struct pid *me = task_pid(current), *owner = READ_ONCE(vcpu->owner);

	if (current->mm != vcpu->vm->mn.mm)
		return -EIO;
	if (likely(owner == me) || (prepare && !owner))
		return 0;
	if (cmpxchg(&vcpu->owner, NULL, me))
		return -EPERM;
	get_pid(me);	/* it cannot go away while current is here */
	return 0;
}

/* The short way to DUNE_RUN and DUNE_INTERRUPT: no LSM is asked, no ioctl looked up. */
static loff_t vcpu_llseek(struct file *file, loff_t offset, int whence)
{
	struct dune_vcpu *vcpu = file->private_data;

	if (whence != SEEK_SET)
		return -ESPIPE;
	if (offset == DUNE_RUN_SEEK)
		return claim(vcpu, false) ?: vcpu_run(vcpu);
	if ((offset & ~0xffLL) != DUNE_INTERRUPT_SEEK)
		return -ESPIPE;
	return current->mm == vcpu->vm->mn.mm ? vcpu_interrupt(vcpu, offset & 0xff) : -EIO;
}

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dune_vcpu *vcpu = file->private_data;
	int ret;

	if (cmd == DUNE_INTERRUPT && current->mm == vcpu->vm->mn.mm)
		return vcpu_interrupt(vcpu, arg);
	ret = claim(vcpu, cmd == DUNE_SET_FAST_CALLS);
	if (ret)
		return ret;

	switch (cmd) {
	case DUNE_RUN:
		return arg ? -EINVAL : vcpu_run(vcpu);
	case DUNE_SET_STATE:
		return vcpu_set_state(vcpu, (void __user *)arg);
	case DUNE_GET_STATE:
		return vcpu_get_state(vcpu, (void __user *)arg);
	case DUNE_SET_FAST_CALLS:
		return dune_set_fast_calls(vcpu, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct dune_vcpu *vcpu = file->private_data;
	bool stats = vma->vm_pgoff == DUNE_MMAP_STATS >> PAGE_SHIFT;
	unsigned long refused = stats ? VM_WRITE | VM_EXEC : VM_EXEC;
	void *page = stats ? (void *)vcpu->stats : vcpu->run;

	if (vma->vm_end - vma->vm_start != PAGE_SIZE ||
	    (!stats && vma->vm_pgoff != DUNE_MMAP_RUN >> PAGE_SHIFT))
		return -EINVAL;
	if (vma->vm_flags & refused)
		return -EPERM;
	/* Nor later, by VM_MAY*.  The child of a fork has no business with this vCPU. */
	dune_vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND, refused << 4);
	return vm_insert_page(vma, vma->vm_start, virt_to_page(page));
}

/* Also of a vCPU that was made in part. */
static void vcpu_free(struct dune_vcpu *vcpu)
{
	if (vcpu->arch)
		dune_ops->vcpu_free(vcpu);
	dune_mmu_cache_free(&vcpu->cache);
	free_page((unsigned long)vcpu->stats);
	free_page((unsigned long)vcpu->run);
	put_pid(vcpu->owner);
	fput(vcpu->vm_file);
	kfree(vcpu);
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	dune_stats_del(file->private_data);
	vcpu_free(file->private_data);
	return 0;
}

static const struct file_operations vcpu_fops = {
	.owner		= THIS_MODULE,
	.release	= vcpu_release,
	.unlocked_ioctl	= vcpu_ioctl,
	.mmap		= vcpu_mmap,
	.llseek		= vcpu_llseek,
};

/**
 * dune_vcpu_create - make a vCPU, which belongs to nobody yet
 *
 * It keeps the VM's @file, and so the VM and the extension, when user space
 * has closed it.  Return: a descriptor or -errno.
 */
int dune_vcpu_create(struct file *file)
{
	struct dune_vcpu *vcpu;
	int ret = -ENOMEM;

	vcpu = kzalloc(sizeof(*vcpu), GFP_KERNEL_ACCOUNT);
	if (!vcpu)
		return -ENOMEM;
	vcpu->vm_file = get_file(file);
	vcpu->vm = file->private_data;
	preempt_notifier_init(&vcpu->preempt, &vcpu_preempt_ops);
	vcpu->last_cpu = -1;
	vcpu->dr6 = DR6_RESERVED;
	vcpu->dr7 = DR7_FIXED_1;
	vcpu->run = (struct dune_run *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vcpu->stats = (struct dune_stats *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!vcpu->run || !vcpu->stats)
		goto err_free;
	ret = dune_ops->vcpu_init(vcpu);
	if (ret)
		goto err_free;

	dune_stats_add(vcpu);
	ret = dune_getfd("dune-vcpu", &vcpu_fops, vcpu, O_RDWR | O_CLOEXEC);
	if (ret >= 0)
		return ret;
	dune_stats_del(vcpu);
err_free:
	vcpu_free(vcpu);
	return ret;
}
