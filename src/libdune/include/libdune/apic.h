/* SPDX-License-Identifier: MIT */
/*
 * Interrupts between the threads of a process in Dune mode.
 *
 * Each thread in Dune mode has an APIC ID, from when it enters until it ends; it is a
 * number of libdune's, not of a CPU.  A thread has one bit for each vector (an IRR, SDM
 * 10.8.4): an interrupt that is sent again before it was taken is one interrupt.
 * None is lost: it is taken as soon as its thread executes code in Dune mode with
 * RFLAGS.IF set, in ring 0 or 3.  A thread that runs is stopped for it at once.  One
 * that sleeps in a system call goes on sleeping, and gets it when the call returns, like
 * a CPU with interrupts off; to end the sleep, send a signal.  Who waits for its own
 * interrupt with nothing else to do sleeps in short steps, or spins.
 *
 * Handlers are those of dune_register_intr_handler(), vectors 32 to 255, and run as
 * described there, with RFLAGS.IF clear: none interrupts another, and a storm of them
 * needs no more stack than one.  Of several that wait the highest vector comes first.
 * The flag is back when the handler returns; one that leaves by longjmp() or switches
 * stacks sets it itself (dune_control_guest_ints()), after dune_apic_eoi().  A vector
 * without a handler is dropped.
 *
 * An interrupt may come between any two instructions, also in the functions of mmu.h
 * and page.h, which take a lock: a handler calls these only if the thread that it
 * interrupts never does, or does so with RFLAGS.IF clear.
 *
 * Sending costs one exit.  Receiving costs one too if the thread runs, and none where the
 * CPU posts interrupts (VT-x with posted interrupts); nor is one to oneself an exit there.
 * A sender without any would need the CPU's own interrupt command register, which can
 * send any vector to any CPU.  A process that sends interrupts has no use for INT 255.  The child of a fork has the ID of the thread
 * that made it and none of its interrupts.
 */
#ifndef LIBDUNE_APIC_H
#define LIBDUNE_APIC_H

#include "types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Returned where there is no ID. */
#define DUNE_APIC_NONE	((uint32_t)-1)

/**
 * dune_apic_id - the caller's APIC ID
 *
 * Return: DUNE_APIC_NONE outside Dune mode.
 */
uint32_t dune_apic_id(void);

/**
 * dune_apic_init_rt_entry - the calling thread gets what is sent to its CPU
 *
 * For dune_apic_id_for_cpu(): notes the caller's ID for the CPU that it runs on at this
 * moment.  For programs that pin one thread to each CPU.  In Dune mode only; elsewhere
 * it does nothing.  Any thread, at any time.
 */
void dune_apic_init_rt_entry(void);

/**
 * dune_apic_id_for_cpu - the ID that dune_apic_init_rt_entry() noted
 * @cpu: the CPU's number, as Linux counts
 * @error: where it goes whether there is none; or NULL
 *
 * Return: the ID; if there is none, 0 for a CPU that cannot exist, else DUNE_APIC_NONE.
 */
uint32_t dune_apic_id_for_cpu(uint32_t cpu, bool *error);

/**
 * dune_send_interrupt - interrupt a thread
 * @vector: 32 .. 255
 * @apic_id: of the receiver, which may be the caller
 *
 * Any thread, in or out of Dune mode, from handlers of exceptions, interrupts and
 * signals.  What was written before is seen by the handler.  To itself, with RFLAGS.IF
 * set, the handler has run when the function returns.
 *
 * Return: 0; -EINVAL another vector; -ESRCH no thread in Dune mode has the ID.
 */
int dune_send_interrupt(unsigned int vector, uint32_t apic_id);

/**
 * dune_apic_send_ipi - dune_send_interrupt(), without an answer
 */
void dune_apic_send_ipi(uint8_t vector, uint32_t apic_id);

/**
 * dune_apic_eoi - end of interrupt
 *
 * For the handler of an interrupt, anywhere in it.  One that returns need not call it;
 * for one that does not, interrupts that wait are announced again.
 */
void dune_apic_eoi(void);

/**
 * dune_control_guest_ints - set or clear RFLAGS.IF
 *
 * In ring 0 of Dune mode (STI and CLI, SDM volume 2); outside it does nothing.
 */
void dune_control_guest_ints(bool on);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_APIC_H */
