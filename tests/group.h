/* SPDX-License-Identifier: MIT */
/*
 * A cgroup (v2) of a test's own, in a mount of its own: GROUP_NAME names it.
 */
#ifndef TESTS_GROUP_H
#define TESTS_GROUP_H

#include "mem.h"

#include <sys/mount.h>
#include <sys/stat.h>

static char root[] = "/tmp/" GROUP_NAME "-XXXXXX", group[64];

static const char *file_in_group(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return path;
}

/* @controllers: as cgroup.subtree_control takes them. */
static void make_group(const char *controllers)
{
	char path[64];

	if (!mkdtemp(root) || mount("none", root, "cgroup2", 0, NULL))
		ktap_bail("cgroup2: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", root);
	snprintf(group, sizeof(group), "%s/" GROUP_NAME, root);
	if (!mem_write_text(path, controllers) || mkdir(group, 0755))
		ktap_bail("the cgroup: %s", strerror(errno));
}

/* Its processes may be gone for wait() and not yet for the group. */
static bool remove_group(void)
{
	double end = child_now() + 10;

	while (rmdir(group) && errno == EBUSY && child_now() < end)
		usleep(10000);
	return access(group, F_OK) == -1 && umount(root) == 0 && rmdir(root) == 0;
}

#endif /* TESTS_GROUP_H */
