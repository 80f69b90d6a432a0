// SPDX-License-Identifier: MIT
/*
 * Descriptors for dune-run itself.  It opens more files than execve() does, and the
 * program may be one of those that run with next to none: the limit is raised while
 * the program is loaded, and the program finds it as it was.
 */
#include <sys/resource.h>

#include "load.h"

#define ENOUGH	64

static struct rlimit asked;
static bool raised;

/* Only the superuser can go above the hard limit; others get what there is. */
void room_make(void)
{
	struct rlimit more = { ENOUGH, ENOUGH };

	if (getrlimit(RLIMIT_NOFILE, &asked) || asked.rlim_cur >= ENOUGH)
		return;
	if (asked.rlim_max > more.rlim_max)
		more.rlim_max = asked.rlim_max;
	raised = !setrlimit(RLIMIT_NOFILE, &more);
	if (raised)
		return;
	more.rlim_cur = more.rlim_max = asked.rlim_max;
	raised = !setrlimit(RLIMIT_NOFILE, &more);
}

void room_give_back(void)
{
	if (raised)
		setrlimit(RLIMIT_NOFILE, &asked);
	raised = false;
}
