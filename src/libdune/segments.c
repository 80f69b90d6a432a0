// SPDX-License-Identifier: MIT
/*
 * Descriptor tables: the IDT of the process, the GDT and TSS of a thread; and by
 * them, where we are.
 */
#include "local.h"

/* One gate is two words (SDM 6.14.1, APM 4.8.4). */
uint64_t __dune_idt[256][2] __attribute__((aligned(4096)));

#define ENTRY_SIZE	16	/* of one stub at __dune_trap_entries */
#define GATE_INTERRUPT	0x8eULL	/* present, 64-bit interrupt gate, DPL 0 */
#define GATE_TRAP	0x8fULL	/* the same, and IF stays */
#define GATE_DPL3	0x60ULL
#define T_DF		8
#define NR_EXCEPTIONS	32

/*
 * Exceptions leave IF alone, which saves setting it again; an interrupt that comes
 * while the entry code stands on IST 1 has a stack of its own, and waits.
 */
void __dune_idt_init(void)
{
	for (unsigned int vec = 0; vec < 256; vec++) {
		uint64_t addr = (uint64_t)__dune_trap_entries + vec * ENTRY_SIZE;
		uint64_t ist = 1, type = GATE_TRAP;

		if (vec == T_DF) {
			ist = 2;
			type = GATE_INTERRUPT;
		} else if (vec == DUNE_VEC_KICK || vec >= NR_EXCEPTIONS) {
			ist = 3;
			type = GATE_INTERRUPT;
		}
		if (vec == 3 || vec == 4)	/* INT3, INTO: from ring 3 too */
			type |= GATE_DPL3;
		__dune_idt[vec][0] = (addr & 0xffff) | (uint64_t)GD_KT << 16 | ist << 32 |
				     type << 40 | (addr >> 16 & 0xffff) << 48;
		__dune_idt[vec][1] = addr >> 32;
	}
}

/*
 * Flat descriptors with the accessed bit set, so that the CPU never writes
 * to the table (SDM 3.4.5, APM 4.7).
 */
#define SEG_CODE(dpl)	(0x00af9b000000ffffULL | (uint64_t)(dpl) << 45)
#define SEG_DATA(dpl)	(0x00cf93000000ffffULL | (uint64_t)(dpl) << 45)
#define SEG_TSS_BUSY	0x00008b0000000000ULL
#define SEG_LIMIT_ONLY	0x0000f50000000000ULL	/* read-only data, DPL 3, as Linux has it */

static void set_tss(uint64_t *gdt, const struct dune_tss *tss)
{
	uint64_t base = (uint64_t)tss;

	gdt[GD_TSS / 8] = SEG_TSS_BUSY | (sizeof(*tss) - 1) | (base & 0xffffff) << 16 |
			  (base >> 24 & 0xff) << 56;
	gdt[GD_TSS / 8 + 1] = base >> 32;
}

/*
 * The thread has moved to another CPU since it last entered guest mode, where LSL
 * on Linux's own selector tells the vDSO's getcpu() which: node << 12 | cpu.
 */
void __dune_cpu_changed(struct dune_percpu *pc, uint32_t limit)
{
	pc->cpu = limit;
	pc->gdt[DUNE_GDT_CPU] = SEG_LIMIT_ONLY | (limit & 0xffff) |
				(uint64_t)(limit >> 16 & 0xf) << 48;
}

void __dune_segments_init(struct dune_percpu *pc)
{
	__dune_clear(pc->gdt, sizeof(pc->gdt));
	pc->gdt[GD_KT / 8] = SEG_CODE(0);
	pc->gdt[GD_KD / 8] = SEG_DATA(0);
	pc->gdt[GD_UD / 8] = SEG_DATA(3);
	pc->gdt[GD_UT / 8] = SEG_CODE(3);
	__dune_cpu_changed(pc, 0);
	set_tss(pc->gdt, &pc->tss);

	__dune_clear(&pc->tss, sizeof(pc->tss));
	pc->tss.ist[0] = (uint64_t)pc + DUNE_IST1_TOP;
	pc->tss.ist[1] = (uint64_t)pc + DUNE_IST2_TOP;
	pc->tss.ist[2] = (uint64_t)pc + DUNE_IST3_TOP;
	pc->tss.iomap_base = sizeof(pc->tss);	/* beyond the limit: no ports */

	pc->floor_normal = (uint64_t)pc + DUNE_LEVEL_LAST_TOP;
	if (!__dune_xsave_mask || __dune_fpu_size > DUNE_LEVEL_FPU_SIZE)
		pc->floor_normal = ~0ULL;	/* all take the long way */
	pc->floor = pc->floor_normal;
}

DUNE_EXPORT bool dune_in_guest(void)
{
	return __dune_ring0();
}
