/* SPDX-License-Identifier: MIT */
/*
 * Guests for ioctl_fuzz: page tables, states, and code made of the
 * instructions by which ring 0 might reach the host, in random order.
 */
#ifndef TESTS_FUZZ_GUEST_H
#define TESTS_FUZZ_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../raw.h"

#define REGION		(2UL << 20)

/* Where the pages of a worker's guest lie in its region. */
enum {
	PML4 = 0x0000, PDPT = 0x1000, PD = 0x2000,
	CODE = 0x3000, HANDLERS = 0x4000, STACK = 0x5000,
	GDT = 0x6000, TSS = 0x6080, IDT = 0x7000, IST_TOP = 0x9ff0, FORBIDDEN = 0x10000,
};

struct worker {
	uint64_t rng;
	int vm, vcpu;
	struct dune_run *run;
	struct dune_info info;
	unsigned char *region;		/* 2 MiB, aligned: the guest's memory */
	uint64_t gpa;			/* of the region */
};

/* xorshift64*: the same everywhere, unlike rand(). */
static uint64_t rnd(struct worker *w)
{
	w->rng ^= w->rng >> 12;
	w->rng ^= w->rng << 25;
	w->rng ^= w->rng >> 27;
	return w->rng * 0x2545f4914f6cdd1dUL;
}

static uint64_t below(struct worker *w, uint64_t n)
{
	return rnd(w) % n;
}

/* Numbers that tend to find the edge of something. */
static uint64_t odd_number(struct worker *w)
{
	static const uint64_t odd[] = {
		0, 1, 7, 8, 0xfff, 0x1000, 0x7fffffff, 0x80000000, 0xffffffff, 1UL << 32,
		(1UL << 47) - 4096, (1UL << 47) - 1, 1UL << 47, 1UL << 48, 1UL << 63, -1UL,
		0xffff800000000000UL, 0xffff888000000000UL, 0xffffffff81000000UL,
		0xffffffffffffff00UL, 0xffffffffff600000UL,
	};

	switch (below(w, 4)) {
	case 0:
		return rnd(w);
	case 1:
		return 1UL << below(w, 64);
	case 2:
		return (uint64_t)w->region + below(w, REGION);
	default:
		return odd[below(w, sizeof(odd) / sizeof(odd[0]))];
	}
}

/* ---- a guest ------------------------------------------------------------ */

static int open_all(struct worker *w)
{
	w->vm = raw_open();
	if (w->vm < 0 || raw_ioctl(w->vm, DUNE_GET_INFO, &w->info))
		return -1;
	w->vcpu = (int)raw_ioctl(w->vm, DUNE_CREATE_VCPU, NULL);
	if (w->vcpu < 0)
		return -1;
	w->run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, w->vcpu, DUNE_MMAP_RUN);
	return w->run == MAP_FAILED ? -1 : 0;
}

static void close_all(struct worker *w)
{
	munmap(w->run, 4096);
	close(w->vcpu);
	close(w->vm);
}

static void put(struct worker *w, size_t offset, unsigned int index, uint64_t entry)
{
	((uint64_t *)(void *)(w->region + offset))[index & 511] = entry;
}

/* Page tables that map the region, and only that, at its own address. */
static int build_tables(struct worker *w)
{
	uint64_t hva = (uint64_t)w->region;
	struct dune_window win = { .hva = hva };

	if (raw_ioctl(w->vm, DUNE_MAP_WINDOW, &win))
		return -1;
	w->gpa = win.gpa + (hva - win.hva);
	memset(w->region, 0, CODE);
	put(w, PML4, (unsigned int)(hva >> 39), (w->gpa + PDPT) | 7);
	put(w, PDPT, (unsigned int)(hva >> 30), (w->gpa + PD) | 7);
	put(w, PD, (unsigned int)(hva >> 21), w->gpa | 0x87);
	return 0;
}

static struct dune_state guest_state(struct worker *w)
{
	struct dune_state st = raw_state();

	st.cr3 = w->gpa + PML4;
	st.cr4 |= w->info.cr4_allowed & 0x600;		/* OSFXSR OSXMMEXCPT */
	st.gdt_base = (uint64_t)w->region + GDT;
	st.idt_base = (uint64_t)w->region + IDT;
	st.idt_limit = 0xfff;
	st.tr_base = (uint64_t)w->region + TSS;
	st.lstar = (uint64_t)w->region + CODE;
	st.star = (uint64_t)0x1b << 48 | (uint64_t)0x10 << 32;
	return st;
}

static void guest_regs(struct worker *w)
{
	memset(&w->run->regs, 0, sizeof(w->run->regs));
	w->run->regs.rip = (uint64_t)w->region + CODE;
	w->run->regs.rsp = (uint64_t)w->region + STACK + 0x800;
	w->run->regs.rflags = 2;
	w->run->inject.valid = 0;
}

/*
 * Length, bytes.  What ring 0 may try on the host.  LTR is not here: QEMU's
 * TCG takes a null selector, which no CPU does, and then aborts itself
 * ("invalid tss") on the next exception.
 */
static const unsigned char insns[][9] = {
	{ 3, 0x0f, 0x01, 0xc1 },		/* vmcall */
	{ 3, 0x0f, 0x01, 0xd9 },		/* vmmcall */
	{ 3, 0x0f, 0x01, 0xd8 },		/* vmrun */
	{ 3, 0x0f, 0x01, 0xda },		/* vmload */
	{ 3, 0x0f, 0x01, 0xdb },		/* vmsave */
	{ 3, 0x0f, 0x01, 0xdc },		/* stgi */
	{ 3, 0x0f, 0x01, 0xdd },		/* clgi */
	{ 3, 0x0f, 0x01, 0xdf },		/* invlpga */
	{ 3, 0x0f, 0x01, 0xc2 },		/* vmlaunch */
	{ 3, 0x0f, 0x01, 0xc4 },		/* vmxoff */
	{ 3, 0x0f, 0x01, 0xd1 },		/* xsetbv */
	{ 3, 0x0f, 0x01, 0xd0 },		/* xgetbv */
	{ 3, 0x0f, 0x01, 0xf8 },		/* swapgs */
	{ 3, 0x0f, 0x01, 0xf9 },		/* rdtscp */
	{ 3, 0x0f, 0x01, 0xc8 },		/* monitor */
	{ 3, 0x0f, 0x01, 0xc9 },		/* mwait */
	{ 3, 0x0f, 0x01, 0x38 },		/* invlpg (rax) */
	{ 3, 0x0f, 0x01, 0x10 },		/* lgdt (rax) */
	{ 3, 0x0f, 0x01, 0x18 },		/* lidt (rax) */
	{ 3, 0x0f, 0x01, 0xf0 },		/* lmsw ax */
	{ 3, 0x0f, 0x00, 0xd0 },		/* lldt ax */
	{ 2, 0x0f, 0x30 },			/* wrmsr */
	{ 2, 0x0f, 0x32 },			/* rdmsr */
	{ 2, 0x0f, 0x33 },			/* rdpmc */
	{ 2, 0x0f, 0x31 },			/* rdtsc */
	{ 2, 0x0f, 0xa2 },			/* cpuid */
	{ 2, 0x0f, 0x08 },			/* invd */
	{ 2, 0x0f, 0x09 },			/* wbinvd */
	{ 2, 0x0f, 0x06 },			/* clts */
	{ 2, 0x0f, 0x05 },			/* syscall */
	{ 3, 0x48, 0x0f, 0x07 },		/* sysretq */
	{ 2, 0x0f, 0x34 },			/* sysenter */
	{ 2, 0x0f, 0x0b },			/* ud2 */
	{ 3, 0x0f, 0x22, 0xc0 },		/* mov rax, cr0 */
	{ 3, 0x0f, 0x22, 0xd8 },		/* mov rax, cr3 */
	{ 3, 0x0f, 0x22, 0xe0 },		/* mov rax, cr4 */
	{ 4, 0x44, 0x0f, 0x22, 0xc0 },		/* mov rax, cr8 */
	{ 3, 0x0f, 0x20, 0xe3 },		/* mov cr4, rbx */
	{ 3, 0x0f, 0x23, 0xf8 },		/* mov rax, dr7 */
	{ 3, 0x0f, 0x23, 0xc0 },		/* mov rax, dr0 */
	{ 3, 0x0f, 0x23, 0xdb },		/* mov rbx, dr3 */
	{ 3, 0x0f, 0x23, 0xfb },		/* mov rbx, dr7 */
	{ 2, 0x0f, 0x31 },			/* rdtsc */
	{ 3, 0x0f, 0xc7, 0xf0 },		/* rdrand eax */
	{ 3, 0x0f, 0x21, 0xf3 },		/* mov dr6, rbx */
	{ 1, 0xf4 },				/* hlt */
	{ 1, 0xfa }, { 1, 0xfb },		/* cli, sti */
	{ 1, 0xec }, { 1, 0xee },		/* in, out */
	{ 2, 0xf3, 0x6e },			/* rep outsb */
	{ 2, 0xf3, 0x6c },			/* rep insb */
	{ 1, 0xcc }, { 1, 0xf1 },		/* int3, icebp */
	{ 2, 0xcd, 0x02 },			/* int 2 */
	{ 2, 0x48, 0xcf },			/* iretq */
	{ 2, 0xff, 0x28 },			/* ljmp *(rax) */
	{ 2, 0x8e, 0xd8 },			/* mov ax, ds */
	{ 2, 0x8e, 0xd0 },			/* mov ax, ss */
	{ 2, 0xf3, 0x90 },			/* pause */
	{ 3, 0x48, 0x89, 0x00 },		/* mov rax, (rax) */
	{ 2, 0x9d, 0x9c },			/* popf; pushf */
	{ 5, 0x48, 0x31, 0xe4, 0x0f, 0x0b },	/* xor rsp, rsp; ud2 */
	{ 5, 0x66, 0x0f, 0x38, 0x82, 0x08 },	/* invpcid (rax), rcx */
	{ 5, 0x66, 0x0f, 0x38, 0x80, 0x08 },	/* invept (rax), rcx */
};

static uint32_t some_msr(struct worker *w)
{
	static const uint32_t msrs[] = {
		0x10, 0x1b, 0x3a, 0x48, 0x49, 0x8b, 0x10a, 0x174, 0x175, 0x176, 0x1a0, 0x1d9,
		0x277, 0x2ff, 0x38f, 0x480, 0x48b, 0x6e0, 0x802, 0x830, 0xda0, 0xc0000080,
		0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101,
		0xc0000102, 0xc0000103, 0xc0010010, 0xc0010015, 0xc0010114, 0xc0010117,
	};

	return below(w, 3) ? msrs[below(w, sizeof(msrs) / sizeof(msrs[0]))] : (uint32_t)rnd(w);
}

/* mov $value, reg */
static size_t emit_load(unsigned char *p, unsigned char opcode, uint64_t value)
{
	p[0] = 0x48;
	p[1] = opcode;
	memcpy(p + 2, &value, 8);
	return 10;
}

/* From @offset to the end of the page NOPs, then an access that ends the run in any ring. */
static void slide_out(struct worker *w, size_t offset)
{
	unsigned char *end = w->region + (offset | 0xfff) + 1;
	uint64_t forbidden = (uint64_t)w->region + FORBIDDEN;

	memset(w->region + offset, 0x90, (size_t)(end - w->region) - offset);
	end[-9] = 0xa0;				/* mov forbidden, %al */
	memcpy(end - 8, &forbidden, 8);
}

/*
 * Some hundred instructions, with registers loaded to make some of them
 * meaningful; then both vendors' hypercalls.
 */
static void write_code(struct worker *w)
{
	unsigned char *code = w->region + CODE;
	size_t at = 0;

	while (at < 600) {
		const unsigned char *insn = insns[below(w, sizeof(insns) / sizeof(insns[0]))];

		switch (below(w, 6)) {
		case 0:
			at += emit_load(code + at, 0xb9, some_msr(w));	/* rcx */
			break;
		case 1:
			at += emit_load(code + at, 0xb8, odd_number(w));	/* rax */
			break;
		case 2:
			at += emit_load(code + at, 0xba, odd_number(w));	/* rdx */
			break;
		case 3:
			if (!below(w, 8))
				code[at++] = (unsigned char)rnd(w);	/* any byte */
			break;
		}
		memcpy(code + at, insn + 1, insn[0]);
		at += insn[0];
	}
	if (!below(w, 40))
		memcpy(code + below(w, at), (unsigned char[]){ 0xeb, 0xfe }, 2);	/* jmp . */
	memcpy(code + at, (unsigned char[]){ 0x0f, 0x01, 0xc1, 0x0f, 0x01, 0xd9 }, 6);
	slide_out(w, CODE + at + 6);
}

/* Vectors that push an error code (SDM 6.13). */
#define ERROR_CODES	(1U << 8 | 0x1fU << 10 | 1U << 17 | 1U << 21 | 3U << 29)

/*
 * Descriptor tables.  The handlers step three bytes ahead, so that a guest
 * gets through its code whatever that raises; a few gates lead elsewhere.
 */
static void write_tables(struct worker *w)
{
	static const unsigned char step[] = {
		0x48, 0x83, 0xc4, 0x08,			/* add $8, %rsp: the error code */
		0x48, 0x83, 0x04, 0x24, 0x03,		/* addq $3, (%rsp) */
		0x48, 0xcf,				/* iretq */
	};
	uint64_t *gdt = (uint64_t *)(void *)(w->region + GDT);
	uint64_t *idt = (uint64_t *)(void *)(w->region + IDT);
	uint64_t handlers = (uint64_t)w->region + HANDLERS;
	uint64_t ist = (uint64_t)w->region + IST_TOP;

	slide_out(w, HANDLERS);
	memcpy(w->region + HANDLERS, step, sizeof(step));
	memset(w->region + GDT, 0, 0x1000);
	gdt[2] = 0x00af9b000000ffffUL;
	gdt[3] = 0x00cf93000000ffffUL;
	gdt[5] = 0x00cff3000000ffffUL;
	gdt[6] = 0x00affb000000ffffUL;
	gdt[7] = 0x0000890000000067UL;
	memcpy(w->region + TSS + 4, &ist, 8);		/* RSP0, for ring 3 */
	memcpy(w->region + TSS + 36, &ist, 8);		/* IST1 */
	for (unsigned int i = 0; i < 256; i++) {
		bool error = i < 32 && (ERROR_CODES >> i & 1);
		uint64_t to = below(w, 200) ? handlers + (error ? 0 : 4) : odd_number(w);

		idt[2 * i] = (to & 0xffff) | 0x10UL << 16 | 0xee01UL << 32 |
			     (to >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = to >> 32;
	}
}

/* All of a guest's memory as it should be: the one before may have spoilt it. */
static int build_guest(struct worker *w)
{
	if (build_tables(w))
		return -1;
	write_code(w);
	write_tables(w);
	return 0;
}

#endif /* TESTS_FUZZ_GUEST_H */
