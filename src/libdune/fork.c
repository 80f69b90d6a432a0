// SPDX-License-Identifier: MIT
/*
 * Telling a process from its copy.
 *
 * The child of a fork inherits the descriptors of its parent's VM and vCPUs.
 * They are useless there and would keep the parent's VM alive, so the child
 * closes them at once: here, by pthread_atfork(), after a fork outside Dune
 * mode; in child.c after one inside.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "local.h"

static void after_fork_in_child(void)
{
	if (!*__dune_fork_mark) {
		__dune_descriptors_copied();
		__dune_forget_parent(NULL);
	}
}

int __dune_fork_init(void)
{
	long page;
	int ret;

	if (__dune_fork_mark)
		return 0;
	page = __dune_map_own(4096, 4096, PROT_READ | PROT_WRITE, 0);
	if (page < 0 && page > -4096)
		return (int)page;
	ret = madvise((void *)page, 4096, MADV_WIPEONFORK) ? errno :
		pthread_atfork(NULL, NULL, after_fork_in_child);
	if (ret) {
		munmap((void *)page, 4096);
		return -ret;
	}
	__dune_fork_mark = (uint32_t *)page;
	return 0;
}
