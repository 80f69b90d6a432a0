// SPDX-License-Identifier: MIT
/*
 * The arguments of calls, checked by a word of one letter for each.
 *
 *	.	a number
 *	f	a descriptor; not one of the monitor's
 *	p	NULL, or the address of an object, of a string, or of a buffer
 *	b	the same; its length is the next argument
 *
 * No call reaches as far from an address as ARENA_GUARD (reading and writing end at 2 GiB,
 * MAX_RW_COUNT; all others sooner), so the address is enough.  What only the kernel reads
 * or writes is not copied: the arena does not move, so what lies outside it now lies
 * outside it when the kernel gets there.  What holds addresses itself, and what a decision
 * depends on, is copied; such calls have functions of their own.
 */
#include "monitor.h"

static long check(char kind, const struct call *call, int i)
{
	switch (kind) {
	case 'f':
		return is_own_fd(call->arg[i]) ? -EBADF : 0;
	case 'p':
	case 'b':
		return is_ring3s_object(call->arg[i]) ? 0 : -EFAULT;
	default:
		return 0;
	}
}

long check_arguments(const char *args, struct call *call)
{
	long ret = 0;

	for (int i = 0; args[i] && i < 6 && !ret; i++)
		ret = check(args[i], call, i);
	return ret;
}
