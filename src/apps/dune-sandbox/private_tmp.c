// SPDX-License-Identifier: MIT
/*
 * A /tmp of the sandbox's own: a tmpfs that nobody outside sees, in a mount namespace that
 * ends with the last process in it.
 *
 * Who may mount makes the namespace alone.  Others make a user namespace with it, in which
 * their user and group are what they were; once /tmp is mounted they lose for good the
 * capabilities that they have there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/starter.h"
#include "start.h"

static void __attribute__((noreturn)) refuse(const char *what)
{
	die(EXIT_OWN, "%s:%d: a private /tmp: %s: %s\n"
	    "  next: private = false there, or a kernel that lets users make namespaces",
	    policy.file, policy.private_tmp_line, what, strerror(errno));
}

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		refuse(file);
	close(fd);
}

static void make_user_namespace(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[64];

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		refuse("unshare");
	/* Groups can be mapped once nobody can drop any: user_namespaces(7). */
	put("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	put("/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	put("/proc/self/gid_map", map);
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2];

	memset(none, 0, sizeof(none));
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			refuse("PR_CAPBSET_DROP");
	if (syscall(SYS_capset, &head, none))
		refuse("capset");
}

/*
 * The folder that the process was in may lie below what /tmp was: then it is /tmp now, so
 * that no name leads to the other one.
 */
static void enter_folder(const char *folder)
{
	if ((*folder != '/' || chdir(folder)) && chdir("/tmp"))
		refuse("chdir");
}

void private_tmp(void)
{
	char folder[PATH_MAX] = "";
	bool user = false;

	if (!getcwd(folder, sizeof(folder)))
		*folder = '\0';
	if (unshare(CLONE_NEWNS)) {
		if (errno != EPERM)
			refuse("unshare");
		make_user_namespace();
		user = true;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		refuse("making the mounts private");
	if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"))
		refuse("mounting a tmpfs on /tmp");
	enter_folder(folder);
	if (user)
		drop_capabilities();
}
