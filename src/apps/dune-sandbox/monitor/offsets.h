/* SPDX-License-Identifier: MIT */
/* What C and assembly of the monitor share; entry.c checks the offsets. */
#ifndef SANDBOX_OFFSETS_H
#define SANDBOX_OFFSETS_H

#define STACK_SIZE	0x20000		/* of a thread in ring 0 */
#define THREAD_SIZE	512		/* struct thread, at its end */
#define START_ROOM	256		/* between it and the stack: the frame to start from */

#define T_STATE		0
#define T_PENDING	4
#define IN_RING3	0
#define IN_MONITOR	1
#define IN_START	2		/* on the way to ring 3 for the first time */

/* dune_tf.pad1: 0 the CPU or the gate just made the frame; see signal.c */
#define TF_PAD1		124
#define FRAME_FINAL	1
#define FRAME_SIGNAL	2

#endif /* SANDBOX_OFFSETS_H */
