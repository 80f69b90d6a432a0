/* SPDX-License-Identifier: MIT */
/*
 * Every name that programs written for Dune may use, with its value, its layout or its
 * type.  A test that includes it compiles, as C and as C++, or does not.
 *
 * Different on purpose: PERM_USR3, which was PERM_USR1 | PERM_USR2, and
 * dune_vm_default_pgflt_handler(), which could not be registered.
 */
#ifndef TESTS_NAMES_H
#define TESTS_NAMES_H

#include "libdune/dune.h"
#include "libdune/cpu-x86.h"
#include "libdune/local.h"

#include <stddef.h>

#include "dune_test.h"

#ifdef __cplusplus
#define IS(name, value) static_assert((name) == (value), #name)
#else
#define IS(name, value) _Static_assert((name) == (value), #name)
#endif
#define AT(type, member, value) IS(offsetof(type, member), value)

/* ---- traps ------------------------------------------------------------ */

IS(T_DIVIDE, 0); IS(T_DEBUG, 1); IS(T_NMI, 2); IS(T_BRKPT, 3); IS(T_OFLOW, 4); IS(T_BOUND, 5);
IS(T_ILLOP, 6); IS(T_DEVICE, 7); IS(T_DBLFLT, 8); IS(T_TSS, 10); IS(T_SEGNP, 11);
IS(T_STACK, 12); IS(T_GPFLT, 13); IS(T_PGFLT, 14); IS(T_FPERR, 16); IS(T_ALIGN, 17);
IS(T_MCHK, 18); IS(T_SIMDERR, 19); IS(T_SYSCALL, 48);
IS(FEC_P, 1); IS(FEC_W, 2); IS(FEC_U, 4); IS(FEC_RSV, 8); IS(FEC_I, 0x10);
IS(GD_KT, 0x10); IS(GD_KD, 0x18); IS(GD_UD, 0x28); IS(GD_UT, 0x30); IS(GD_TSS, 0x38);
IS(GD_TSS2, 0x40); IS(NR_GDT_ENTRIES, 9); IS(DUNE_SIGNAL_INTR_BASE, 200);

IS(sizeof(struct dune_tf), 168);
AT(struct dune_tf, rdi, 0); AT(struct dune_tf, rsi, 8); AT(struct dune_tf, rdx, 16);
AT(struct dune_tf, rcx, 24); AT(struct dune_tf, r8, 32); AT(struct dune_tf, r9, 40);
AT(struct dune_tf, r10, 48); AT(struct dune_tf, r11, 56); AT(struct dune_tf, rbx, 64);
AT(struct dune_tf, rbp, 72); AT(struct dune_tf, r12, 80); AT(struct dune_tf, r13, 88);
AT(struct dune_tf, r14, 96); AT(struct dune_tf, r15, 104); AT(struct dune_tf, rax, 112);
AT(struct dune_tf, err, 120); AT(struct dune_tf, pad1, 124); AT(struct dune_tf, rip, 128);
AT(struct dune_tf, cs, 136); AT(struct dune_tf, pad2, 138); AT(struct dune_tf, rflags, 144);
AT(struct dune_tf, rsp, 152); AT(struct dune_tf, ss, 160); AT(struct dune_tf, pad3, 162);

/* ---- page tables ------------------------------------------------------ */

IS(PGSHIFT, 12); IS(PGSIZE, 4096); IS(PGMASK, 4095); IS(BIG_PGSHIFT, 21);
IS(BIG_PGSIZE, 0x200000); IS(BIG_PGMASK, 0x1fffff); IS(NPTBITS, 9); IS(NPTENTRIES, 512);
IS(NPTLVLS, 3); IS(PDXMASK, 511); IS(PDSHIFT(0), 12); IS(PDSHIFT(3), 39);
IS(PDX(0, 0x123456789abcUL), 0x189); IS(PDX(1, 0x123456789abcUL), 0xb3);
IS(PDX(2, 0x123456789abcUL), 0xd1); IS(PDX(3, 0x123456789abcUL), 0x24);
IS(PPN(0x12345678UL), 0x12345); IS(PGOFF(0x12345678UL), 0x678);
IS(PGADDR(0x12345678UL), 0x12345000); IS(BIG_PGOFF(0x12345678UL), 0x145678);
IS(BIG_PGADDR(0x12345678UL), 0x12200000); IS(PD_SKIP, 6);
IS(PTE_P, 1); IS(PTE_W, 2); IS(PTE_U, 4); IS(PTE_PWT, 8); IS(PTE_PCD, 0x10); IS(PTE_A, 0x20);
IS(PTE_D, 0x40); IS(PTE_PS, 0x80); IS(PTE_PAT, 0x80); IS(PTE_G, 0x100); IS(PTE_AVAIL, 0xe00);
IS(PTE_PAT_PS, 0x1000); IS(PTE_AVAIL2, 0x7ff0000000000000); IS(PTE_COW, 0x200);
IS(PTE_USR1, 0x4000000000000000); IS(PTE_USR2, 0x2000000000000000);
IS(PTE_USR3, 0x1000000000000000); IS(PTE_NX, 0x8000000000000000);
IS(PTE_ADDR(~0UL), 0xffffffffff000); IS(PTE_FLAGS(~0UL), 0xfff0000000000fff);
IS(PERM_NONE, 0); IS(PERM_R, 1); IS(PERM_W, 2); IS(PERM_X, 4); IS(PERM_U, 8); IS(PERM_UC, 0x10);
IS(PERM_COW, 0x20); IS(PERM_BIG, 0x100); IS(PERM_BIG_1GB, 0x200); IS(PERM_USR1, 0x1000);
IS(PERM_USR2, 0x2000); IS(PERM_SCODE, 5); IS(PERM_STEXT, 3); IS(PERM_SSTACK, 3);
IS(PERM_UCODE, 13); IS(PERM_UTEXT, 11); IS(PERM_USTACK, 11);
IS(CREATE_NONE, 0); IS(CREATE_NORMAL, 1); IS(CREATE_BIG, 2); IS(CREATE_BIG_1GB, 3);
IS(CR3_NOFLUSH, 1UL << 63); IS(PAGEBASE, 0x200000000); IS(MAX_PAGES, 1UL << 20);
IS(GPA_STACK_SIZE, 1UL << 30); IS(GPA_MAP_SIZE, 63UL << 30); IS(LG_ALIGN(1UL), 1UL << 30);
IS(sizeof(ptent_t), 8); IS(sizeof(physaddr_t), 8); IS(sizeof(ppn_t), 8); IS(sizeof(bool_t), 4);
IS(sizeof(struct page), 16); AT(struct page, link, 0); AT(struct page, ref, 8);
IS(sizeof(page_entry_t), 8); IS(sizeof(struct page_head), 8);

/* ---- registers and descriptors ---------------------------------------- */

IS(UINT64(7), 7); IS(CAST64(-1), ~0UL); IS(ONE << 63, 1UL << 63);
IS(CR0_PE, 1); IS(CR0_MP, 2); IS(CR0_EM, 4); IS(CR0_TS, 8); IS(CR0_ET, 0x10); IS(CR0_NE, 0x20);
IS(CR0_WP, 0x10000); IS(CR0_AM, 0x40000); IS(CR0_NW, 0x20000000); IS(CR0_CD, 0x40000000);
IS(CR0_PG, 0x80000000); IS(CR3_PWT, 8); IS(CR3_PCD, 0x10);
IS(CR4_VME, 1); IS(CR4_PVI, 2); IS(CR4_TSD, 4); IS(CR4_DE, 8); IS(CR4_PSE, 0x10);
IS(CR4_PAE, 0x20); IS(CR4_MCE, 0x40); IS(CR4_PGE, 0x80); IS(CR4_PCE, 0x100);
IS(CR4_OSFXSR, 0x200); IS(CR4_OSX, 0x400);
IS(FL_CF, 1); IS(FL_PF, 4); IS(FL_AF, 0x10); IS(FL_ZF, 0x40); IS(FL_SF, 0x80); IS(FL_TF, 0x100);
IS(FL_IF, 0x200); IS(FL_DF, 0x400); IS(FL_OF, 0x800); IS(FL_IOPL_MASK, 0x3000);
IS(FL_IOPL_0, 0); IS(FL_IOPL_1, 0x1000); IS(FL_IOPL_2, 0x2000); IS(FL_IOPL_3, 0x3000);
IS(FL_NT, 0x4000); IS(FL_RF, 0x10000); IS(FL_VM, 0x20000); IS(FL_AC, 0x40000);
IS(FL_VIF, 0x80000); IS(FL_VIP, 0x100000); IS(FL_ID, 0x200000);
IS(EFER, 0xc0000080); IS(EFER_SCE, 1); IS(EFER_LME, 0x100); IS(EFER_LMA, 0x400);
IS(EFER_NXE, 0x800); IS(EFER_FFXSR, 0x4000);
IS(MSR_FS_BASE, 0xc0000100); IS(MSR_GS_BASE, 0xc0000101); IS(MSR_KERNEL_GS_BASE, 0xc0000102);
IS(MSR_LSTAR, 0xc0000082); IS(MSR_DEBUG_CTL, 0x1d9); IS(DEBUG_CTL_LBR, 1);
IS(MSR_LBR_FROM_IP, 0x1db); IS(MSR_LBR_TO_IP, 0x1dc); IS(MSR_LEX_FROM_IP, 0x1dd);
IS(MSR_LEX_TO_IP, 0x1de);
IS(MTRR_CAP, 0xfe); IS(MTRR_CAP_VCNT_MASK, 0xff); IS(MTRR_CAP_FIX, 0x100);
IS(MTRR_CAP_WC, 0x400); IS(MTRR_BASE(1), 0x202); IS(MTRR_MASK(1), 0x203);
IS(MTRR_BASE_UC, 0); IS(MTRR_BASE_WC, 1); IS(MTRR_BASE_WT, 4); IS(MTRR_BASE_WP, 5);
IS(MTRR_BASE_WB, 6); IS(MTRR_MASK_FULL, 0xffffff000); IS(MTRR_MASK_VALID, 0x800);
IS(DR7_L(3), 0x40); IS(DR7_G(3), 0x80); IS(DR7_LE, 0x100); IS(DR7_GE, 0x200);
IS(DR7_GD, 0x2000); IS(DR7_RW_SHIFT(2), 24); IS(DR7_LEN_SHIFT(2), 26);
IS(DR7_RW_EXEC, 0); IS(DR7_RW_WRITE, 1); IS(DR7_RW_IO, 2); IS(DR7_RW_RW, 3);
IS(DR7_LEN_1, 0); IS(DR7_LEN_2, 1); IS(DR7_LEN_8, 2); IS(DR7_LEN_4, 3);
IS(STA_A, 1); IS(STA_W, 2); IS(STA_E, 4); IS(STA_X, 8); IS(STA_R, 2); IS(STA_C, 4);
IS(SEG_A, 1UL << 40); IS(SEG_W, 1UL << 41); IS(SEG_E, 1UL << 42); IS(SEG_X, 1UL << 43);
IS(SEG_R, 1UL << 41); IS(SEG_C, 1UL << 42); IS(SEG_S, 1UL << 44); IS(SEG_LDT, 2UL << 40);
IS(SEG_TSSA, 9UL << 40); IS(SEG_TSSB, 10UL << 40); IS(SEG_CG, 12UL << 40);
IS(SEG_IG, 14UL << 40); IS(SEG_TG, 15UL << 40); IS(SEG_DPL(3), 3UL << 45);
IS(SEG_P, 1UL << 47); IS(SEG_L, 1UL << 53); IS(SEG_D, 1UL << 54); IS(SEG_G, 1UL << 55);
IS(SEG_LIM(0xfffff), 0xf00000000ffff); IS(SEG_BASELO(0x12345678), 0x1200003456780000);
IS(SEG_BASEHI(0x123456789abcdef0), 0x12345678); IS(SEG_SEL(0x10), 0x100000);
IS(SEG_TARGETLO(0x123456789abcdef0), 0x9abc00000000def0);
IS(SEG_TARGETHI(0x123456789abcdef0), 0x12345678);
IS(SEG32(SEG_X | SEG_R, 0, 0xffffffff, 0), 0xcf9b000000ffff);
IS(SEG64(SEG_X | SEG_R, 3), 0xaffb000000ffff);
IS(GATE32(SEG_TG, 0x10, 0x12345678, 3), 0x1234ef0000105678);
IS(IDT_ENTRIES, 256); IS(IDTD_P, 0x80); IS(IDTD_CPL3, 0x60); IS(IDTD_TRAP_GATE, 15);
IS(IDTD_INTERRUPT_GATE, 14); IS(sizeof(struct idtd), 16); AT(struct idtd, ist, 4);
AT(struct idtd, type, 5); AT(struct idtd, middle, 6); AT(struct idtd, high, 8);
IS(sizeof(struct tptr), 10); AT(struct tptr, base, 2); IS(sizeof(u64), 8);
IS(sizeof(struct Gatedesc), 16); AT(struct Gatedesc, gd_hi, 8);
IS(sizeof(struct Pseudodesc), 16); AT(struct Pseudodesc, pd_lim, PD_SKIP);
AT(struct Pseudodesc, pd_base, 8); IS(sizeof(struct Tss), 104); AT(struct Tss, tss_rsp, 4);
AT(struct Tss, tss_ist, 28); AT(struct Tss, tss_iomb, 102); IS(sizeof(struct Fpregs), 512);
AT(struct Fpregs, mxcsr, 24); AT(struct Fpregs, st_space, 32); AT(struct Fpregs, xmm_space, 160);

/* ---- files and vector registers --------------------------------------- */

IS(PROCMAP_TYPE_UNKNOWN, 0); IS(PROCMAP_TYPE_FILE, 1); IS(PROCMAP_TYPE_ANONYMOUS, 2);
IS(PROCMAP_TYPE_HEAP, 3); IS(PROCMAP_TYPE_STACK, 4); IS(PROCMAP_TYPE_VSYSCALL, 5);
IS(PROCMAP_TYPE_VDSO, 6); IS(PROCMAP_TYPE_VVAR, 7);
AT(struct dune_procmap_entry, begin, 0); AT(struct dune_procmap_entry, end, 8);
AT(struct dune_procmap_entry, offset, 16); AT(struct dune_procmap_entry, r, 24);
AT(struct dune_procmap_entry, w, 25); AT(struct dune_procmap_entry, x, 26);
AT(struct dune_procmap_entry, p, 27); AT(struct dune_procmap_entry, path, 32);
AT(struct dune_procmap_entry, type, 40);
AT(struct dune_elf, fd, 0); AT(struct dune_elf, mem, 8); AT(struct dune_elf, len, 16);
AT(struct dune_elf, hdr, 24); AT(struct dune_elf, phdr, 88); AT(struct dune_elf, shdr, 96);
AT(struct dune_elf, shdrstr, 104); AT(struct dune_elf, priv, 112);
IS(sizeof(struct fxsave_area), 512); AT(struct fxsave_area, st_regs, 32);
AT(struct fxsave_area, xmm_regs, 160); IS(sizeof(struct xsave_header), 64);
AT(struct xsave_area, header, 512); AT(struct xsave_area, ymm_regs, 576);
AT(struct fpu_area, xsave, 0);

/* ---- functions, by their types; the program does not link without them - */

#define HAS(ret, name, args) __attribute__((used)) static ret (*const has_##name) args = name

HAS(int, dune_init, (bool));
HAS(int, dune_enter, (void));
HAS(int, dune_enter_ex, (void *));
HAS(int, dune_init_and_enter, (void));
HAS(int, dune_register_intr_handler, (int, dune_intr_cb));
HAS(int, dune_register_signal_handler, (int, dune_intr_cb));
HAS(void, dune_register_pgflt_handler, (dune_pgflt_cb));
HAS(void, dune_register_syscall_handler, (dune_syscall_cb));
HAS(void, dune_dump_trap_frame, (struct dune_tf *));
HAS(void, dune_pop_trap_frame, (struct dune_tf *));
HAS(sighandler_t, dune_signal, (int, sighandler_t));
HAS(int, dune_jump_to_user, (struct dune_tf *));
HAS(void, dune_ret_from_user, (int));
HAS(void, dune_passthrough_syscall, (struct dune_tf *));
HAS(unsigned long, dune_get_user_fs, (void));
HAS(void, dune_set_user_fs, (unsigned long));
HAS(struct page *, dune_page_alloc, (void));
HAS(void, dune_page_free, (struct page *));
HAS(struct page *, dune_page_get, (struct page *));
HAS(void, dune_page_put, (struct page *));
HAS(void, dune_page_stats, (void));
HAS(bool, dune_page_isfrompool, (physaddr_t));
HAS(struct page *, dune_pa2page, (physaddr_t));
HAS(physaddr_t, dune_page2pa, (struct page *));
HAS(int, dune_vm_map_phys, (ptent_t *, void *, size_t, void *, int));
HAS(int, dune_vm_map_pages, (ptent_t *, void *, size_t, int));
HAS(int, dune_vm_mprotect, (ptent_t *, void *, size_t, int));
HAS(void, dune_vm_unmap, (ptent_t *, void *, size_t));
HAS(int, dune_vm_lookup, (ptent_t *, void *, int, ptent_t **));
HAS(int, dune_vm_insert_page, (ptent_t *, void *, struct page *, int));
HAS(struct page *, dune_vm_lookup_page, (ptent_t *, void *));
HAS(int, dune_vm_page_walk, (ptent_t *, void *, void *, page_walk_cb, const void *));
HAS(int, __dune_vm_page_walk,
    (ptent_t *, void *, void *, page_walk_cb, const void *, int, int));
HAS(ptent_t *, dune_vm_clone, (ptent_t *));
HAS(void, dune_vm_free, (ptent_t *));
HAS(uintptr_t, dune_va_to_pa, (void *));
HAS(uintptr_t, dune_mmap_addr_to_pa, (void *));
HAS(uintptr_t, dune_stack_addr_to_pa, (void *));
HAS(void, dune_flush_tlb_one, (unsigned long));
HAS(void, dune_flush_tlb, (void));
HAS(void, load_cr3, (unsigned long));
HAS(void, __invpcid, (unsigned long, unsigned long));
HAS(void, dune_procmap_iterate, (dune_procmap_cb));
HAS(void, dune_procmap_dump, (void));
HAS(int, dune_elf_open, (struct dune_elf *, const char *));
HAS(int, dune_elf_open_mem, (struct dune_elf *, void *, int));
HAS(int, dune_elf_close, (struct dune_elf *));
HAS(int, dune_elf_dump, (struct dune_elf *));
HAS(int, dune_elf_iter_sh, (struct dune_elf *, dune_elf_shcb));
HAS(int, dune_elf_iter_ph, (struct dune_elf *, dune_elf_phcb));
HAS(int, dune_elf_load_ph, (struct dune_elf *, Elf64_Phdr *, off_t));
HAS(unsigned long, dune_get_ticks, (void));
HAS(int, dune_printf, (const char *, ...));
HAS(void, dune_die, (void));
HAS(void *, dune_mmap, (void *, size_t, int, int, int, off_t));
HAS(void, dune_fpu_init, (struct fpu_area *));
HAS(void, dune_fpu_load, (struct fpu_area *));
HAS(void, dune_fpu_save, (struct fpu_area *));
HAS(void, dune_fpu_save_safe, (struct fpu_area *));
HAS(uint32_t, dune_apic_id, (void));
HAS(uint32_t, dune_apic_id_for_cpu, (uint32_t, bool *));
HAS(void, dune_apic_init_rt_entry, (void));
HAS(void, dune_apic_send_ipi, (uint8_t, uint32_t));
HAS(void, dune_apic_eoi, (void));
HAS(unsigned long long, native_read_msr, (unsigned int));
HAS(void, native_write_msr, (unsigned int, unsigned int, unsigned int));

/* What is no constant. */
static int names_main(void)
{
	struct dune_tf tf = {};
	struct Gatedesc gate;

	ktap_plan(5 + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	ktap_ok(!pgroot && !pages && !num_pages && !(phys_limit | mmap_base | stack_base) &&
		dune_fd == -1, "variables before dune_init()");
	ktap_ok(VA_START == NULL && VA_END == (void *)~0UL, "VA_START, VA_END");
	SETGATE(gate, SEG_IG, 0x10, 0x123456789abcdef0, 0);
	ktap_ok(gate.gd_lo == 0x9abc8e000010def0 && gate.gd_hi == 0x12345678, "SETGATE()");
	ARG0(&tf) = 10;
	ARG1(&tf) = 11;
	ARG2(&tf) = 12;
	ARG3(&tf) = 13;
	ARG4(&tf) = 14;
	ARG5(&tf) = 15;
	ktap_ok(tf.rdi == 10 && tf.rsi == 11 && tf.rdx == 12 && tf.rcx == 13 && tf.r8 == 14 &&
		tf.r9 == 15, "ARG0() to ARG5()");
	dune_test_enter();
	ktap_ok(pgroot && pages && phys_limit && mmap_base && stack_base && dune_fd >= 0,
		"variables in Dune mode");
	return dune_test_done();
}

#endif /* TESTS_NAMES_H */
