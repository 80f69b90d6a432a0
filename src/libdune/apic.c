// SPDX-License-Identifier: MIT
/*
 * Interrupts between threads: see apic.h of the public headers.
 *
 * A sender sets a bit in the receiver's words and has the module interrupt its vCPU with
 * DUNE_VEC_IPI; the trap entry of that vector takes the bits.  Nothing is remembered of
 * what has been asked of the module: a sender may be interrupted for good between the two.
 * The words are in the registry of blocks and not in the thread's block, which may be
 * gone while somebody sends.
 *
 * Lean code.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "local.h"

#define FIRST_VECTOR	32
#define MAX_CPUS	8192	/* CONFIG_NR_CPUS at most */

#define X2APIC_EOI	0x80b	/* SDM table 10-6 */
#define X2APIC_SELF_IPI	0x83f

static uint32_t cpus[MAX_CPUS];		/* ID + 1 */
bool __dune_apic_used;

/* @fd: -1: there is no such vCPU any more. */
void __dune_apic_set(uint32_t id, int fd)
{
	struct dune_slot *a = &__dune_slots[id];

	__atomic_store_n(&a->vcpu_fd, 0, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 4; i++)
		__atomic_store_n(&a->waits[i], 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&a->vcpu_fd, fd + 1, __ATOMIC_SEQ_CST);
}

/* Registers of the virtual x2APIC: no exit (DUNE_FEAT_POSTED). */
static void x2apic_write(uint32_t msr, uint32_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"(value), "d"(0) : "memory");
}

static bool posted(void)
{
	return __dune_info.features & DUNE_FEAT_POSTED;
}

/*
 * Have the CPU interrupt the thread.  @pc: the caller's, or NULL.  In Dune mode the
 * module does it without a way to user space, if it is asked at the gate: not where a
 * filter or a dispatcher of the program's would see that, nor from ring 3, where LSTAR
 * is the only way.  The thread may be gone by now, with its descriptor.
 */
static int announce(const struct dune_percpu *pc, const struct dune_slot *a, int fd)
{
	if (pc && dune_in_guest()) {
		if (posted() && a == &__dune_slots[pc->apic_id]) {
			x2apic_write(X2APIC_SELF_IPI, DUNE_VEC_IPI);
			return 0;
		}
		if (pc->gate_plain && !__dune_filtered)
			return __dune_gate_call(pc->gate_plain - DUNE_HYPERCALL_LEN, SYS_lseek, fd,
						DUNE_INTERRUPT_SEEK | DUNE_VEC_IPI, SEEK_SET) ?
			       -ESRCH : 0;
	}
	return __dune_syscall3(SYS_ioctl, fd, DUNE_INTERRUPT, DUNE_VEC_IPI) ? -ESRCH : 0;
}

static bool take(struct dune_slot *a, unsigned int *vector)
{
	for (int i = 3; i >= 0; i--) {
		uint64_t waits = __atomic_load_n(&a->waits[i], __ATOMIC_SEQ_CST);

		if (waits) {
			unsigned int bit = 63 - (unsigned int)__builtin_clzl(waits);

			__atomic_fetch_and(&a->waits[i], ~(1ULL << bit), __ATOMIC_SEQ_CST);
			*vector = (unsigned int)i * 64 + bit;
			return true;
		}
	}
	return false;
}

/* On an IST stack, IF clear: from here on the CPU may have the next one wait for IF. */
void __dune_apic_end(void)
{
	if (posted())
		x2apic_write(X2APIC_EOI, 0);
}

/* DUNE_VEC_IPI, on the handler's stack.  Returns with IF clear: IRETQ sets it again. */
void __dune_apic_interrupt(const struct dune_percpu *pc, struct dune_tf *tf)
{
	struct dune_slot *a = &__dune_slots[pc->apic_id];
	unsigned int vector;

	__asm__ volatile("cli" : : : "memory");
	while (take(a, &vector)) {
		dune_intr_cb cb = __atomic_load_n(&__dune_intr_handler[vector], __ATOMIC_ACQUIRE);

		if (cb)
			cb(tf);
		__asm__ volatile("cli" : : : "memory");	/* whatever it did */
	}
}

DUNE_EXPORT uint32_t dune_apic_id(void)
{
	struct dune_percpu *pc = __dune_this_percpu();

	return pc ? pc->apic_id : DUNE_APIC_NONE;
}

DUNE_EXPORT void dune_apic_init_rt_entry(void)
{
	struct dune_percpu *pc = __dune_this_percpu();
	unsigned int cpu;

	if (pc && !__dune_syscall3(SYS_getcpu, &cpu, 0, 0) && cpu < MAX_CPUS)
		__atomic_store_n(&cpus[cpu], pc->apic_id + 1, __ATOMIC_RELEASE);
}

DUNE_EXPORT uint32_t dune_apic_id_for_cpu(uint32_t cpu, bool *error)
{
	uint32_t id = cpu < MAX_CPUS ? __atomic_load_n(&cpus[cpu], __ATOMIC_ACQUIRE) : 0;

	if (error)
		*error = !id;
	return cpu < MAX_CPUS ? id - 1 : 0;
}

DUNE_EXPORT int dune_send_interrupt(unsigned int vector, uint32_t apic_id)
{
	struct dune_slot *a;
	int fd;

	if (vector < FIRST_VECTOR || vector > 255)
		return -EINVAL;
	if (apic_id >= DUNE_MAX_BLOCKS)
		return -ESRCH;
	a = &__dune_slots[apic_id];
	__dune_apic_used = true;
	fd = __atomic_load_n(&a->vcpu_fd, __ATOMIC_ACQUIRE) - 1;
	if (fd < 0)
		return -ESRCH;
	__atomic_fetch_or(&a->waits[vector / 64], 1ULL << vector % 64, __ATOMIC_SEQ_CST);
	return announce(__dune_this_percpu(), a, fd);
}

DUNE_EXPORT void dune_apic_send_ipi(uint8_t vector, uint32_t apic_id)
{
	dune_send_interrupt(vector, apic_id);
}

/* What waits is announced again: the handler may be one that never returns. */
DUNE_EXPORT void dune_apic_eoi(void)
{
	struct dune_percpu *pc = __dune_this_percpu();
	struct dune_slot *a;

	if (!pc)
		return;
	a = &__dune_slots[pc->apic_id];
	for (int i = 0; i < 4; i++)
		if (__atomic_load_n(&a->waits[i], __ATOMIC_SEQ_CST)) {
			announce(pc, a, a->vcpu_fd - 1);
			return;
		}
}

DUNE_EXPORT void dune_control_guest_ints(bool on)
{
	if (!dune_in_guest())
		return;
	if (on)
		__asm__ volatile("sti" : : : "memory");
	else
		__asm__ volatile("cli" : : : "memory");
}
