// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel exports to no module, and why it is used all the same.
 *
 *   x64_sys_call       the dispatcher of system calls; in 5.10, which has none,
 *   sys_call_table     by kallsyms_lookup_name.  No exported function makes a call
 *                      for the calling thread.  Without either every forwarded
 *                      call goes through user space: slower, no more.
 *   switch_fpu_return  puts the thread's own registers into the FPU; KVM's alone
 *                      from 6.19 on.  Without it user space is bounced through
 *                      for that, and a thread whose system calls are traced,
 *                      which lends the FPU out in every one, does not get on.
 *   cr4_update_irqsoff changes CR4 and the kernel's copy of it, which context
 *                      switches write back; KVM's alone from 6.19 on.  Without
 *                      it VMXON fails.
 *   x86_virt_get_ref   since 7.1 do the whole of it, for KVM alone.  Without them
 *   x86_virt_put_ref   /dev/dune cannot be opened.
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

long (**dune_call_table)(const struct pt_regs *regs) __ro_after_init;

DEFINE_STATIC_CALL_NULL(dune_sys_call, long (const struct pt_regs *regs, unsigned int nr));
DEFINE_STATIC_CALL_NULL(dune_fpu_return, void (void));
DEFINE_STATIC_CALL_NULL(dune_cr4_update, void (unsigned long set, unsigned long clear));

static int no_virt_ref(int feature)
{
	return -EOPNOTSUPP;
}

DEFINE_STATIC_CALL(dune_virt_get, no_virt_ref);
DEFINE_STATIC_CALL_NULL(dune_virt_put, void (int feature));

/* ENDBR64, or what 6.12 and 7.0 put in the place of one that nobody needs. */
static bool __init was_endbr(u32 insn)
{
	return insn == 0xfa1e0ff3 || insn == 0x001f0f66 || insn == 0xd6401f0f;
}

static void * __init find_function(const char *name)
{
	struct kprobe kp = { .symbol_name = name, .flags = KPROBE_FLAG_DISABLED };
	int ret = register_kprobe(&kp);

	if (ret) {
		pr_info("%s cannot be found (%d): see ksyms.c\n", name, ret);
		return NULL;
	}
	unregister_kprobe(&kp);
	/* The probe sits behind the function's ENDBR. */
	return (void *)kp.addr - (was_endbr(*(u32 *)((void *)kp.addr - 4)) ? 4 : 0);
}

void __init dune_ksyms_init(void)
{
	void *virt_get, *virt_put, *sys_call = find_function("x64_sys_call");

	if (!sys_call)
		dune_call_table = dune_table(find_function("kallsyms_lookup_name"));
	if (dune_call_table)
		sys_call = dune_call_by_table;
	dune_has_sys_call = sys_call;
	dune_static_call_set(dune_sys_call, sys_call);
	dune_static_call_set(dune_fpu_return, find_function("switch_fpu_return"));
	if (!DUNE_SHARES_CPU) {
		dune_static_call_set(dune_cr4_update, find_function("cr4_update_irqsoff"));
		return;
	}
	virt_put = find_function("x86_virt_put_ref");
	virt_get = find_function("x86_virt_get_ref");
	if (virt_get && virt_put) {
		dune_static_call_set(dune_virt_put, virt_put);
		dune_static_call_set(dune_virt_get, virt_get);
	}
}
