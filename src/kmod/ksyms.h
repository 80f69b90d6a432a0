/* SPDX-License-Identifier: GPL-2.0-only */
/* Symbols that ksyms.c finds. */
#ifndef _DUNE_KSYMS_H
#define _DUNE_KSYMS_H

#include <linux/static_call.h>
#include <linux/types.h>

struct pt_regs;

extern bool dune_has_sys_call;
extern long (**dune_call_table)(const struct pt_regs *regs);
DECLARE_STATIC_CALL(dune_sys_call, long (const struct pt_regs *regs, unsigned int nr));
DECLARE_STATIC_CALL(dune_fpu_return, void (void));
DECLARE_STATIC_CALL(dune_cr4_update, void (unsigned long set, unsigned long clear));
/* On this CPU; X86_FEATURE_VMX or _SVM.  -EBUSY: somebody has it on who did not ask. */
DECLARE_STATIC_CALL(dune_virt_get, int (int feature));
DECLARE_STATIC_CALL(dune_virt_put, void (int feature));

void dune_ksyms_init(void);

#endif /* _DUNE_KSYMS_H */
