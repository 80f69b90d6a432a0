// SPDX-License-Identifier: MIT
/*
 * Output and ending for programs: dune_printf(), dune_dump_trap_frame(),
 * dune_die().
 */
#include <stdio.h>
#include <sys/syscall.h>

#include "local.h"
#include "vm.h"

DUNE_EXPORT int dune_printf(const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (len < 0)
		return len;
	if (len > (int)sizeof(buf) - 1)
		len = sizeof(buf) - 1;
	return (int)__dune_syscall3(SYS_write, 1, buf, len);
}

DUNE_EXPORT void dune_dump_trap_frame(struct dune_tf *tf)
{
	dune_printf("dune: --- begin trap frame dump ---\n"
		    "dune: rip 0x%016lx cs 0x%04x ss 0x%04x err 0x%x rflags 0x%lx\n"
		    "dune: rsp 0x%016lx rbp 0x%016lx rax 0x%016lx\n"
		    "dune: rbx 0x%016lx rcx 0x%016lx rdx 0x%016lx\n"
		    "dune: rsi 0x%016lx rdi 0x%016lx r8  0x%016lx\n"
		    "dune: r9  0x%016lx r10 0x%016lx r11 0x%016lx\n"
		    "dune: r12 0x%016lx r13 0x%016lx r14 0x%016lx\n"
		    "dune: r15 0x%016lx\n"
		    "dune: --- end trap frame dump ---\n",
		    tf->rip, tf->cs, tf->ss, tf->err, tf->rflags, tf->rsp, tf->rbp, tf->rax,
		    tf->rbx, tf->rcx, tf->rdx, tf->rsi, tf->rdi, tf->r8, tf->r9, tf->r10,
		    tf->r11, tf->r12, tf->r13, tf->r14, tf->r15);
}

DUNE_EXPORT void dune_die(void)
{
	for (;;)
		__dune_syscall3(SYS_exit_group, 1, 0, 0);
}

DUNE_EXPORT void dune_page_stats(void)
{
	uint64_t used, have = __dune_page_counts(&used);

	dune_printf("DUNE Page Allocator: %lu of %lu pages in use\n", (unsigned long)used,
		    (unsigned long)have);
}
