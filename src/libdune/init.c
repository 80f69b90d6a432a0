// SPDX-License-Identifier: MIT
/*
 * dune_init(): what the process needs once, and again after a fork.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "local.h"

struct dune_info __dune_info;
bool __dune_map_full;
uint8_t __dune_is_svm;

enum { INIT_NONE, INIT_BUSY, INIT_DONE };
static atomic_int init_state;

/* The kernel puts some random bytes there, for libc. */
static uint64_t initial_stack(void)
{
	uint64_t at = getauxval(AT_RANDOM);

	return at ? at : (uint64_t)__builtin_frame_address(0);
}

static int attach(void)
{
	int ret = __dune_attach();

	if (ret)
		return ret;
	ret = -EPROTO;
	if (ioctl(dune_fd, DUNE_GET_INFO, &__dune_info))
		ret = -errno;
	else if (__dune_info.abi_version == DUNE_ABI_VERSION &&
		 __dune_info.window_shift == GIB_SHIFT)
		ret = __dune_pgtable_init(initial_stack());
	if (ret) {
		*__dune_fork_mark = 0;
		close(dune_fd);
		dune_fd = -1;
	}
	__dune_is_svm = __dune_info.vendor == DUNE_VENDOR_SVM;
	if (!(__dune_info.features & DUNE_FEAT_PCID))
		dune_cr3_bits = ~(CR3_NOFLUSH | CR3_PCID_MASK);
	return ret;
}

static int init_once(bool map_full)
{
	int ret = __dune_fork_init();

	if (ret)
		return ret;
	__dune_fpu_init();
	__dune_frame_fpu_init();
	__dune_idt_init();
	__dune_map_full = map_full;
	return attach();
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
 * Before a thread enters: 0 if the process has a VM.  The child of a fork that
 * was made outside Dune mode has let go of its parent's.
 */
int __dune_process_ready(void)
{
	int ret = 0;

	if (!take_turn(INIT_DONE))
		return -EINVAL;
	if (!*__dune_fork_mark) {
		__dune_forget_parent(NULL);
		ret = __dune_attach();
	}
	if (!ret)
		__dune_sigactions_init();
	atomic_store(&init_state, INIT_DONE);
	return ret;
}
