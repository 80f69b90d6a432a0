/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * The module cannot be unloaded under a Dune process.  With a number of
 * seconds as argument it stays that long in guest mode, for others to try;
 * "# ready" says when.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <fcntl.h>
#include <time.h>

static long references(void)
{
	char buf[32] = "";
	int fd = open("/sys/module/dune/refcnt", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 ? strtol(buf, NULL, 10) : -1;
}

int main(int argc, char **argv)
{
	struct timespec nap = { .tv_sec = argc > 1 ? atol(argv[1]) : 0 };

	ktap_plan(DUNE_TEST_ENTER + 3 + DUNE_TEST_LEAVE);
	dune_test_enter();
	ktap_ok(references() > 0, "the module counts this process (%ld)", references());
	errno = 0;
	ktap_ok(syscall(SYS_delete_module, "dune", O_NONBLOCK) == -1 && errno == EWOULDBLOCK,
		"delete_module says that it is in use (%s)", strerror(errno));
	ktap_note("ready pid=%d", (int)getpid());
	while (nanosleep(&nap, &nap) == -1 && errno == EINTR)
		;
	ktap_ok(references() > 0, "and it is there to the end");
	return dune_test_done();
}
