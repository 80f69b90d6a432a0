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
#include <libdune/local.h>

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

ASSERT(sizeof(struct page) == 16 && sizeof(ptent_t) == 8);
ASSERT(PTE_ADDR(~0UL) == 0x000ffffffffff000UL && PTE_FLAGS(~0UL) == 0xfff0000000000fffUL);
ASSERT(PDX(3, 0x0000123456789abcUL) == 0x24 && PDX(0, 0x0000123456789abcUL) == 0x189);
ASSERT(PGSIZE == 4096 && BIG_PGSIZE == 2UL << 20 && PGADDR(0x1234) == 0x1000 && PGOFF(0x1234) == 0x234);
ASSERT(PERM_R == 1 && PERM_W == 2 && PERM_X == 4 && PERM_U == 8 && PERM_UC == 0x10 && PERM_COW == 0x20);
ASSERT(PERM_BIG == 0x100 && PERM_BIG_1GB == 0x200 && PERM_USR3 == 0x4000);
ASSERT(CREATE_NONE == 0 && CREATE_BIG_1GB == 3);
ASSERT(PTE_COW == 0x200 && PTE_USR1 == 1UL << 62 && PTE_NX == 1UL << 63 && CR3_NOFLUSH == 1UL << 63);
ASSERT(PAGEBASE == 0x200000000UL && MAX_PAGES == 1UL << 20);

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

ASSERT(sizeof(struct fpu_area) % 64 == 0 && sizeof(struct fpu_area) >= 2688);
ASSERT(offsetof(struct xsave_area, header) == 512 && offsetof(struct xsave_area, ymm_regs) == 576);
ASSERT(offsetof(struct fxsave_area, mxcsr) == 24 && offsetof(struct fxsave_area, xmm_regs) == 160);
ASSERT(offsetof(struct dune_elf, hdr) == 24 && offsetof(struct dune_elf, phdr) == 88);
ASSERT(offsetof(struct dune_procmap_entry, path) == 32);
ASSERT(PROCMAP_TYPE_UNKNOWN == 0 && PROCMAP_TYPE_FILE == 1 && PROCMAP_TYPE_ANONYMOUS == 2 &&
       PROCMAP_TYPE_HEAP == 3 && PROCMAP_TYPE_STACK == 4 && PROCMAP_TYPE_VSYSCALL == 5 &&
       PROCMAP_TYPE_VDSO == 6 && PROCMAP_TYPE_VVAR == 7);
ASSERT(GPA_STACK_SIZE + GPA_MAP_SIZE == 1UL << 36 && LG_ALIGN(1UL) == 1UL << 30);
ASSERT(DUNE_PERCPU_SIZE == 512);

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
