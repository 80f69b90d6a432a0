/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Namespaces, capabilities and roots of a Dune process: each case runs natively
 * and in Dune mode, in a child, and must come out the same way.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

/* The line of the first thing that is wrong. */
#define CHECK(cond)			\
do {					\
	if (!(cond))			\
		return __LINE__ % 250;	\
} while (0)

static int host_names(void *arg)
{
	struct utsname before, after;

	(void)arg;
	CHECK(uname(&before) == 0 && unshare(CLONE_NEWUTS) == 0);
	CHECK(sethostname("inner", 5) == 0 && uname(&after) == 0);
	CHECK(!strcmp(after.nodename, "inner") && strcmp(before.nodename, "inner"));
	return 0;
}

static int network(void *arg)
{
	struct ifreq ifr = { .ifr_name = "eth0" };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	(void)arg;
	CHECK(ioctl(fd, SIOCGIFFLAGS, &ifr) == 0 && close(fd) == 0);
	CHECK(unshare(CLONE_NEWNET) == 0);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(ioctl(fd, SIOCGIFFLAGS, &ifr) == -1 && errno == ENODEV);
	strcpy(ifr.ifr_name, "lo");
	CHECK(ioctl(fd, SIOCGIFFLAGS, &ifr) == 0 && !(ifr.ifr_flags & IFF_UP));
	ifr.ifr_flags |= IFF_UP;
	CHECK(ioctl(fd, SIOCSIFFLAGS, &ifr) == 0);
	return 0;
}

static int users(void *arg)
{
	char map[32];

	(void)arg;
	CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
	CHECK(prctl(PR_SET_DUMPABLE, 1) == 0 && sethostname("x", 1) == -1 && errno == EPERM);
	CHECK(unshare(CLONE_NEWUSER | CLONE_NEWUTS) == 0 && getuid() == 65534);
	snprintf(map, sizeof(map), "0 %d 1", 1000);
	CHECK(mem_write_text("/proc/self/setgroups", "deny"));
	CHECK(mem_write_text("/proc/self/uid_map", map) && mem_write_text("/proc/self/gid_map", map));
	CHECK(getuid() == 0 && getgid() == 0 && sethostname("x", 1) == 0);
	CHECK(setuid(5) == -1 && errno == EINVAL);
	return 0;
}

/* The first child of a new PID namespace is 1 there, and all die with it. */
static int pids(void *arg)
{
	pid_t outer, inner;
	int status;

	(void)arg;
	CHECK(unshare(CLONE_NEWPID) == 0);
	outer = fork();
	if (outer == 0) {
		if (getpid() != 1 || getppid() != 0)
			_exit(1);
		inner = fork();
		if (inner == 0) {
			for (;;)
				pause();
		}
		_exit(inner == 2 ? 42 : 3);
	}
	CHECK(outer > 1 && waitpid(outer, &status, 0) == outer);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	CHECK(fork() == -1 && errno == ENOMEM);		/* its init is gone */
	return 0;
}

static int joins(void *arg)
{
	int old = open("/proc/self/ns/uts", O_RDONLY);
	struct utsname name;

	(void)arg;
	CHECK(unshare(CLONE_NEWUTS) == 0 && sethostname("one", 3) == 0);
	CHECK(setns(old, CLONE_NEWUTS) == 0 && uname(&name) == 0 && strcmp(name.nodename, "one"));
	CHECK(setns(old, CLONE_NEWNET) == -1 && errno == EINVAL);
	return 0;
}

/* ---- roots --------------------------------------------------------------------- */

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static int change_root(void *arg)
{
	char dir[] = "/tmp/sys_ns-XXXXXX", path[64];
	int outside;

	(void)arg;
	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/inside", dir);
	CHECK(write_file(path, "x"));
	outside = open("/", O_RDONLY | O_DIRECTORY);
	CHECK(chroot(dir) == 0 && chdir("/") == 0);
	CHECK(access("/inside", F_OK) == 0 && access("/proc/self", F_OK) == -1 && errno == ENOENT);
	CHECK(access("/../proc", F_OK) == -1 && unlink("/inside") == 0);
	CHECK(fchdir(outside) == 0 && chroot(".") == 0);	/* the well-known way out */
	CHECK(access("/proc/self", F_OK) == 0 && rmdir(dir) == 0);
	return 0;
}

/* A mount namespace with a tmpfs as its root; nobody else sees it. */
static int pivot(void *arg)
{
	char dir[] = "/tmp/sys_ns-XXXXXX", old[64];

	(void)arg;
	CHECK(mkdtemp(dir) && unshare(CLONE_NEWNS) == 0);
	CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount("none", dir, "tmpfs", 0, NULL) == 0);
	snprintf(old, sizeof(old), "%s/old", dir);
	CHECK(mkdir(old, 0700) == 0);
	/* The initial ramfs cannot be moved away: EINVAL, as the manual says. */
	if (syscall(SYS_pivot_root, dir, old)) {
		CHECK(errno == EINVAL && chdir(dir) == 0);
		CHECK(mount(dir, "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0);
		CHECK(access("/old", F_OK) == 0 && access("/proc", F_OK) == -1);
		return 0;
	}
	CHECK(chdir("/") == 0 && access("/old/proc/self", F_OK) == 0);
	CHECK(umount2("/old", MNT_DETACH) == 0 && access("/old/proc", F_OK) == -1);
	return 0;
}

/* ---- capabilities ---------------------------------------------------------------- */

static bool set_caps(uint32_t low)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = {
		{ .effective = low, .permitted = low },
	};

	return syscall(SYS_capset, &head, data) == 0;
}

static int capabilities(void *arg)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	(void)arg;
	CHECK(syscall(SYS_capget, &head, data) == 0 && data[0].effective & 1U << CAP_SYS_ADMIN);
	CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME) == 0 && prctl(PR_CAPBSET_READ, CAP_SYS_TIME) == 0);
	CHECK(set_caps(1U << CAP_NET_RAW));
	CHECK(syscall(SYS_capget, &head, data) == 0 && data[0].effective == 1U << CAP_NET_RAW);
	CHECK(sethostname("x", 1) == -1 && errno == EPERM);
	CHECK(unshare(CLONE_NEWNS) == -1 && errno == EPERM);
	CHECK(chroot("/tmp") == -1 && errno == EPERM);
	CHECK(socket(AF_INET, SOCK_RAW, 1) >= 0);
	CHECK(!set_caps(1U << CAP_SYS_ADMIN) && errno == EPERM);
	CHECK(set_caps(0) && socket(AF_INET, SOCK_RAW, 1) == -1 && errno == EPERM);
	return 0;
}

/* Guest mode goes on after the last privilege is gone: memory, calls, children. */
static int works_without(void *arg)
{
	unsigned char *p;
	int status;
	pid_t pid;

	(void)arg;
	CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
	CHECK(set_caps(0));
	p = mem_new(4 * MIB);
	mem_fill(p, 4 * MIB, 1);
	CHECK(mem_wrong(p, 4 * MIB, 1) == 0);
	pid = fork();
	if (pid == 0)
		_exit(mem_wrong(p, 4 * MIB, 1) ? 1 : 42);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42);
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(void *);
} cases[] = {
	{ "UTS namespace", host_names }, { "network namespace", network },
	{ "user namespace", users }, { "PID namespace", pids }, { "setns", joins },
	{ "chroot, and out of it", change_root }, { "a root of its own", pivot },
	{ "capabilities", capabilities }, { "no privileges at all", works_without },
};

#define CASES	(sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	struct child native[CASES];
	struct utsname before, after;

	ktap_plan(DUNE_TEST_ENTER + 2 * CASES + 1 + DUNE_TEST_LEAVE);
	for (size_t i = 0; i < CASES; i++)
		native[i] = child_start(cases[i].fn, NULL);
	dune_test_enter();
	uname(&before);
	for (size_t i = 0; i < CASES; i++) {
		int status;

		child_go(&native[i]);
		status = child_wait(&native[i]);
		ktap_ok(status == 0, "%s, natively: %s", cases[i].name, child_status(status));
		status = mem_child(cases[i].fn, NULL);
		ktap_ok(status == 0, "%s, in Dune mode: %s", cases[i].name, child_status(status));
	}
	ktap_ok(uname(&after) == 0 && !strcmp(before.nodename, after.nodename) &&
		access("/proc/self", F_OK) == 0, "the parent is where it was");
	return dune_test_done();
}
