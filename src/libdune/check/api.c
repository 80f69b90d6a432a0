// SPDX-License-Identifier: MIT
/*
 * Compiles as C and as C++ and runs without /dev/dune: how the interface is used, and the
 * errors that come before a device is needed.  Names and layouts are in names.c.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <libdune/dune.h>
#include <libdune/cpu-x86.h>
#include <libdune/local.h>

#ifdef __cplusplus
#define ASSERT(what) static_assert(what, #what)
#else
#define ASSERT(what) _Static_assert(what, #what)
#endif

ASSERT(PERM_USR3 == 0x4000 && DUNE_PERCPU_SIZE == 512);
ASSERT(sizeof(struct fpu_area) % 64 == 0 && sizeof(struct fpu_area) >= 2688);

/* Of the types that programs pass them around as. */
typedef int (*mprotect_fn)(ptent_t *root, void *va, size_t len, int perm);
typedef int (*lookup_fn)(ptent_t *root, void *va, int create, ptent_t **pte);

static int visit(const void *arg, ptent_t *pte, void *va)
{
	return arg && *pte && va;
}

void use_tables(void *va);

/* Compiled, not called: without Dune mode there is nothing to work on. */
void use_tables(void *va)
{
	mprotect_fn protect = dune_vm_mprotect;
	lookup_fn lookup = dune_vm_lookup;
	ptent_t *pte, *root = dune_vm_clone(pgroot);

	protect(root, va, PGSIZE, PERM_R);
	lookup(root, va, CREATE_BIG, &pte);
	dune_vm_page_walk(root, VA_START, VA_END, visit, NULL);
	dune_register_pgflt_handler(dune_vm_default_pgflt_handler);
	load_cr3(dune_va_to_pa(root) | CR3_NOFLUSH);
	__invpcid(INVPCID_ADDR, (unsigned long)va);
	dune_flush_tlb_one((unsigned long)va);
	dune_flush_tlb();
	dune_vm_free(root);
}

static unsigned int mappings, of_stack;

static void on_mapping(const struct dune_procmap_entry *e)
{
	mappings++;
	of_stack += e->type == PROCMAP_TYPE_STACK && e->r && e->w && e->p;
}

static int on_segment(struct dune_elf *elf, Elf64_Phdr *phdr)
{
	(void)elf;
	return phdr->p_type == PT_LOAD ? 77 : 0;
}

/* What needs no Dune mode. */
static int use_files(void)
{
	static struct fpu_area area;
	struct dune_elf elf;
	int bad = dune_elf_open(&elf, "/proc/self/exe");

	if (bad)
		return 1;
	bad = dune_elf_iter_ph(&elf, on_segment) != 77;
	dune_elf_close(&elf);
	dune_procmap_iterate(on_mapping);
	dune_fpu_init(&area);
	dune_fpu_load(&area);
	dune_fpu_save(&area);
	dune_fpu_save_safe(&area);
	assert(area.xsave.fxsave.mxcsr == 0x1f80);
	return bad || mappings < 5 || of_stack != 1;
}

static int before(struct dune_tf *tf)
{
	return ARG0(tf) == 0;
}

static void after(struct dune_tf *tf)
{
	tf->rax = 0;
}

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
	bad += expect("page before init", dune_page_alloc() != NULL, 0);
	bad += expect("shootdown before init", dune_tlb_shootdown(&bad, 1), -EINVAL);
	bad += expect("layout before init", (long)(phys_limit | mmap_base | stack_base), 0);
	bad += expect("dune_fd", dune_fd, -1);
	bad += expect("enter before init", dune_enter(), -EINVAL);
	bad += expect("files", use_files(), 0);
	bad += expect("enter_ex without a block", dune_enter_ex(NULL), -EINVAL);
	bad += expect("APIC ID", (int)dune_apic_id(), -1);
	bad += expect("interrupt for nobody", dune_send_interrupt(0x40, 0), -ESRCH);
	bad += expect("trapped instructions", dune_trap_insn(0, NULL), -EINVAL);
	bad += expect("hooks", dune_hook_syscalls(before, after), 0);
	bad += expect("no hooks", dune_hook_syscalls(NULL, NULL), 0);
	bad += expect("signal 0", dune_register_signal_handler(0, on_divide), -EINVAL);
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
