// SPDX-License-Identifier: MIT
/*
 * The last act: from the process that has loaded the program to the monitor and ring 3.
 */
#include <libdune/mmu.h>
#include <sys/mman.h>

#include "monitor.h"

#define FLAGS_START	0x202UL		/* IF and the bit that is always set */

struct setup setup = { .report_fd = -1, .loader_fd = -1, .policy_fd = -1,
	.learn_fd = -1, .ask_fd = -1 };

struct fpu_area fresh_fpu;

/*
 * One entry of the top level covers the arena and nothing else.  It loses its user bit, and
 * with it everything below: SDM 4.6, APM 5.6.
 */
static void hide_arena(void)
{
	ptent_t *entry = &pgroot[PDX(3, ARENA_BASE)];

	if (!(*entry & PTE_P))
		stop("the page tables do not map the arena");
	__atomic_fetch_and(entry, ~PTE_U, __ATOMIC_ACQ_REL);
	dune_tlb_shootdown((void *)ARENA_BASE, ARENA_SIZE);
}

/* Of the handlers that the process inherits there are none: exec() took them. */
static struct actions first_actions = { .users = 1 };

static void begin(void *arg)
{
	struct thread *t = arg;
	struct dune_tf tf;

	/* The program's stack takes the place of the one that this was started on. */
	if (copy_out(setup.stack, setup.stack_bytes, setup.stack_len))
		stop("the stack cannot be written");
	sys2(SYS_munmap, setup.stack_bytes, setup.stack_len);
	__builtin_memset(&tf, 0, sizeof(tf));
	tf.rip = setup.entry;
	tf.rsp = setup.stack;
	tf.rflags = FLAGS_START;
	/* Nobody has TLS: the monitor never, ring 3 not yet. */
	__asm__ volatile("wrfsbase %0" : : "r"(0UL));
	dune_set_user_fs(0);
	dune_fpu_load(&fresh_fpu);
	thread_start(t, &tf);
}

/* In Dune mode, on the process's first stack. */
void monitor_start(void)
{
	struct thread *t;

	hide_arena();
	descriptors_init();
	frames_init();
	traps_init();
	dune_register_syscall_handler(ring3_call);
	dune_fpu_init(&fresh_fpu);
	t = thread_new();
	if (!t)
		stop("no memory for a stack");
	t->tid = (uint32_t)sys0(SYS_gettid);
	t->actions = &first_actions;
	run_on_stack(stack_top(t), begin, t);
}
