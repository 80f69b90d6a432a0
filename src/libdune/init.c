// SPDX-License-Identifier: MIT
/*
 * dune_init(): what the process needs once, and again after a fork.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "local.h"

DUNE_EXPORT int dune_fd = -1;

struct dune_info __dune_info;
bool __dune_map_full;

enum { INIT_NONE, INIT_BUSY, INIT_DONE };
static atomic_int init_state;

/* Everything that belongs to one mm: the VM, and the tables that name its GPAs. */
static int attach(void)
{
	int fd, ret;

	fd = open("/dev/dune", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, DUNE_GET_INFO, &__dune_info)) {
		ret = -errno;
		goto err_close;
	}
	ret = -EPROTO;
	if (__dune_info.abi_version != DUNE_ABI_VERSION ||
	    __dune_info.window_shift != GIB_SHIFT)
		goto err_close;

	dune_fd = fd;
	ret = __dune_pgtable_init();
	if (ret)
		goto err_fd;
	return 0;

err_fd:
	dune_fd = -1;
err_close:
	close(fd);
	return ret;
}

static int init_once(bool map_full)
{
	int ret = __dune_fork_init();

	if (ret)
		return ret;
	__dune_fpu_init();
	__dune_idt_init();
	__dune_map_full = map_full;
	ret = attach();
	if (!ret)
		*__dune_fork_mark = 1;
	return ret;
}

/* Take init_state from @from to INIT_BUSY; false: it is in the other state. */
static bool take_turn(int from)
{
	int state = from;

	while (!atomic_compare_exchange_strong(&init_state, &state, INIT_BUSY)) {
		if (state != INIT_BUSY)
			return false;
		sched_yield();
		state = from;
	}
	return true;
}

DUNE_EXPORT int dune_init(bool map_full)
{
	int ret;

	if (!take_turn(INIT_NONE))
		return 0;
	ret = init_once(map_full);
	atomic_store(&init_state, ret ? INIT_NONE : INIT_DONE);
	return ret;
}

/*
 * Before a thread enters: 0 if the process has a VM.  The child of a fork
 * has inherited tables that name its parent's guest-physical addresses and a
 * descriptor that the module refuses; it starts afresh.
 */
int __dune_process_ready(void)
{
	int ret = 0;

	if (!take_turn(INIT_DONE))
		return -EINVAL;
	if (!*__dune_fork_mark) {
		__dune_forget_parent();
		ret = attach();
		if (!ret)
			*__dune_fork_mark = 1;
	}
	atomic_store(&init_state, INIT_DONE);
	return ret;
}
