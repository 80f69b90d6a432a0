// SPDX-License-Identifier: MIT
/*
 * Compiles as C and as C++ and runs without /dev/dune: the layouts that are
 * part of the interface, and the errors that come before a device is needed.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <libdune/dune.h>
#include <libdune/cpu-x86.h>

#ifdef __cplusplus
#define ASSERT(what) static_assert(what, #what)
#else
#define ASSERT(what) _Static_assert(what, #what)
#endif

ASSERT(sizeof(struct dune_tf) == 168);
ASSERT(offsetof(struct dune_tf, rax) == 112);
ASSERT(offsetof(struct dune_tf, err) == 120);
ASSERT(offsetof(struct dune_tf, rip) == 128);
ASSERT(offsetof(struct dune_tf, rsp) == 152);
ASSERT(GD_KT == 0x10 && GD_KD == 0x18 && GD_UD == 0x28 && GD_UT == 0x30 && GD_TSS == 0x38);

static void on_divide(struct dune_tf *tf)
{
	tf->rip = ARG0(tf);
}

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	dune_printf("%lx %lx\n", (unsigned long)addr, (unsigned long)fec);
	dune_dump_trap_frame(tf);
}

static int expect(const char *what, long got, long want)
{
	if (got == want)
		return 0;
	fprintf(stderr, "%s: %ld, expected %ld\n", what, got, want);
	return 1;
}

int main(void)
{
	int bad = 0;

	bad += expect("vector 256", dune_register_intr_handler(256, on_divide), -EINVAL);
	bad += expect("vector -1", dune_register_intr_handler(-1, on_divide), -EINVAL);
	bad += expect("vector 0", dune_register_intr_handler(T_DIVIDE, on_divide), 0);
	dune_register_pgflt_handler(on_fault);
	bad += expect("dune_fd", dune_fd, -1);
	bad += expect("enter before init", dune_enter(), -EINVAL);
	bad += expect("in guest", dune_in_guest(), false);
	bad += expect("stats", dune_vcpu_stats() != NULL, 0);
	bad += expect("printf", dune_printf("%s\n", "dune_printf"), 12);
	bad += expect("ticks", dune_get_ticks() != 0, 1);
	if (access("/dev/dune", F_OK)) {
		bad += expect("init without the module", dune_init_and_enter(), -ENOENT);
		bad += expect("dune_fd", dune_fd, -1);
	}
	return bad != 0;
}
