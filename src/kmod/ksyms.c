// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel exports to no module, and why it is used all the same.
 *
 *   x64_sys_call       the dispatcher of system calls.  No exported function
 *                      makes one for the calling thread.  Without it every
 *                      forwarded call goes through user space: slower, no more.
 *   switch_fpu_return  puts the thread's own registers into the FPU; KVM's alone
 *                      from 6.19 on.  Without it user space is bounced through
 *                      for that, and a thread whose system calls are traced,
 *                      which lends the FPU out in every one, does not get on.
 *   cr4_update_irqsoff changes CR4 and the kernel's copy of it, which context
 *                      switches write back; KVM's alone from 6.19 on.  Without
 *                      it VMXON fails.  x86_virt_get_ref(), which since 7.1 does
 *                      the whole of it, is for those who share VMX with KVM: it
 *                      keeps a current VMCS per CPU that it believes its own.
 *
 * An address comes from a kprobe that is never armed.  It is called by a static
 * call, whose sites become direct calls: IBT does not check those, and the
 * kernel seals what it takes no address of itself.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <linux/kprobes.h>
#include <linux/static_call.h>

#include "compat.h"
#include "ksyms.h"

bool dune_has_sys_call __ro_after_init;

static long no_sys_call(const struct pt_regs *regs, unsigned int nr)
{
	return -EOPNOTSUPP;
}

DEFINE_STATIC_CALL(dune_sys_call, no_sys_call);

static void no_fpu_return(void) { }

DEFINE_STATIC_CALL(dune_fpu_return, no_fpu_return);

static void no_cr4_update(unsigned long set, unsigned long clear) { }

DEFINE_STATIC_CALL(dune_cr4_update, no_cr4_update);

/* ENDBR64, or what 6.12 and 7.0 put in the place of one that nobody needs. */
static bool __init was_endbr(u32 insn)
{
	return insn == 0xfa1e0ff3 || insn == 0x001f0f66 || insn == 0xd6401f0f;
}

static void * __init find_function(const char *name, void *otherwise)
{
	struct kprobe kp = { .symbol_name = name, .flags = KPROBE_FLAG_DISABLED };
	int ret = register_kprobe(&kp);

	if (ret) {
		pr_info("%s cannot be found (%d): see ksyms.c\n", name, ret);
		return otherwise;
	}
	unregister_kprobe(&kp);
	/* The probe sits behind the function's ENDBR. */
	return (void *)kp.addr - (was_endbr(*(u32 *)((void *)kp.addr - 4)) ? 4 : 0);
}

#define FIND(call, name, stub)	\
	static_call_update(call, (typeof(stub) *)find_function(name, stub))

void __init dune_ksyms_init(void)
{
	void *sys_call = find_function("x64_sys_call", no_sys_call);

	static_call_update(dune_sys_call, (typeof(no_sys_call) *)sys_call);
	dune_has_sys_call = sys_call != no_sys_call;
	FIND(dune_fpu_return, "switch_fpu_return", no_fpu_return);
	FIND(dune_cr4_update, "cr4_update_irqsoff", no_cr4_update);
}
