/* SPDX-License-Identifier: GPL-2.0-only */
/* What vmx.c and vmx_entry.S agree on. */
#ifndef _DUNE_VMX_H
#define _DUNE_VMX_H

#define VMX_ENTER_RESUME_BIT	0
#define VMX_ENTER_RESUME	1	/* VMRESUME, not VMLAUNCH */
#define VMX_ENTER_VERW		2	/* clear CPU buffers on the way */

#define VMX_FAILED		1	/* VMfailValid or VMfailInvalid, SDM 30.2 */
#define VMX_FAULTED		2

#define VMX_HOST_RSP		0x6c14	/* HOST_RSP, for assembly */

#ifndef __ASSEMBLY__
struct dune_regs;

int dune_vmx_enter(struct dune_regs *regs, u64 *host_rsp, unsigned int flags);
extern const char dune_vmx_exit[];	/* HOST_RIP */
#endif

#endif /* _DUNE_VMX_H */
