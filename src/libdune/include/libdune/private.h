/* SPDX-License-Identifier: MIT */
/*
 * Libdune's own memory and descriptors, for a program that keeps them from its ring 3
 * (see Ring 3 in dune.h): a monitor has to know where they are.
 *
 * Of libdune's memory a thread could make use against ring 0: page tables, descriptor
 * tables, stacks, saved registers, signal actions.  Its code and static data lie where
 * the program's do.
 */
#ifndef LIBDUNE_PRIVATE_H
#define LIBDUNE_PRIVATE_H

#include <stddef.h>

#include "types.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dune_tf;

/**
 * dune_set_private_memory - where libdune's own memory lies
 * @base: the first address, a multiple of 2 MiB
 * @size: bytes; at least 1 GiB more than the page pool (dune_set_pool())
 *
 * Before dune_init().  From then on all that libdune keeps lies there, for as long as it
 * is used: the pool, and a block per thread.  The area is libdune's to map; what
 * else is mapped there it leaves alone.  dune_init() and fork() use some pages elsewhere
 * for a moment, which hold nothing that another thread's changes could turn against ring 0
 * but the list of windows in the child of a fork, which has no other thread.
 *
 * Return: 0; -EINVAL not aligned, too small, no addresses of a process, or after
 * dune_init().
 */
int dune_set_private_memory(uintptr_t base, size_t size);

/**
 * dune_is_own_fd - is @fd a descriptor of libdune's?
 *
 * Those of the VM, the vCPUs and /dev/dune: who maps or calls one of them can do with the
 * vCPU what libdune can.  Any thread, in or out of Dune mode; async-signal-safe.
 */
bool dune_is_own_fd(int fd);

/**
 * dune_user_frame - the registers of ring 3, while the thread is in ring 0
 *
 * In a handler of a system call or an exception of ring 3 it is that handler's *tf.  A
 * signal handler, which is not given it, finds it here: what it changes is what ring 3
 * goes on with.
 *
 * Return: NULL if no dune_jump_to_user() lasts.
 */
struct dune_tf *dune_user_frame(void);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_PRIVATE_H */
