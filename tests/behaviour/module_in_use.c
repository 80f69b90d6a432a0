/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * The module cannot be unloaded under a Dune process.  With a file's name as
 * argument it stays in guest mode until there is such a file, for others to try,
 * but no longer than MOST_NAPS; "# ready" says when.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <fcntl.h>
#include <time.h>

#define MOST_NAPS	600

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
	const struct timespec nap = { .tv_nsec = 100000000 };

	ktap_plan(DUNE_TEST_ENTER + 3 + DUNE_TEST_LEAVE);
	dune_test_enter();
	ktap_ok(references() > 0, "the module counts this process (%ld)", references());
	errno = 0;
	ktap_ok(syscall(SYS_delete_module, "dune", O_NONBLOCK) == -1 && errno == EWOULDBLOCK,
		"delete_module says that it is in use (%s)", strerror(errno));
	ktap_note("ready pid=%d", (int)getpid());
	for (int i = 0; argc > 1 && i < MOST_NAPS && access(argv[1], F_OK); i++)
		nanosleep(&nap, NULL);
	ktap_ok(references() > 0, "and it is there to the end");
	return dune_test_done();
}
