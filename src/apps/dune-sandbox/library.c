// SPDX-License-Identifier: MIT
/*
 * The order of things until ring 3 runs.  dunesandbox.h says what the calls are, docs/sandbox.md
 * has the design.
 */
#include <errno.h>
#include <fcntl.h>
#include <libdune/dune.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/starter.h"
#include "arena.h"
#include "dunesandbox.h"
#include "learn.h"
#include "policy.h"
#include "start.h"

#define OWN_FDS		700	/* where our descriptors lie, if the limit lets them */
#define POOL_SIZE	(1UL << 30)

const char own_name[] = "dune-sandbox";
const char address_taken[] = "its fixed address is taken";

/* What is to be started. */
struct start {
	const char *name;	/* argv[0]; NULL: as given */
	int fd;			/* of the file to start, -1: its name says it */
	bool search;
	bool inside;		/* exec() in a sandbox started this process */
	char **command;
};

/* A descriptor as the monitor writes it: -1 is a large number there. */
static int own_number(const char *text)
{
	long n = strtol(text, NULL, 10);

	return n > INT_MAX ? -1 : (int)n;
}

/* What exec.c of the monitor writes: --inside LOADER REPORT POLICY LEARN ASK FD ARGV0 PATH ARG... */
static struct start parse_inside(char **arg)
{
	struct start o = { .fd = -1, .inside = true };

	for (int i = 0; i < 8; i++)
		if (!arg[i])
			die(EXIT_OWN, "--inside is for dune-sandbox itself");
	setup.loader_fd = atoi(arg[0]);
	setup.report_fd = own_number(arg[1]);
	setup.policy_fd = atoi(arg[2]);
	setup.learn_fd = own_number(arg[3]);
	setup.ask_fd = own_number(arg[4]);
	if (*arg[5])
		o.fd = atoi(arg[5]);
	o.name = arg[6];
	o.command = arg + 7;
	return o;
}

/* A descriptor that stays open across exec(), out of the way of the program's. */
static int raise_fd(int fd)
{
	int floor = OWN_FDS, high;

	for (; floor > 8; floor /= 2) {
		high = fcntl(fd, F_DUPFD, floor);
		if (high >= 0)
			return high;
	}
	return -1;
}

#ifndef MFD_EXEC
#define MFD_EXEC	0x10U
#endif
#define SEALS	(F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/*
 * A copy of this file, which nobody can change: a program that may write to the original
 * would have what it likes executed outside.
 */
static int copy_of_self(void)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to;
	ssize_t n;

	if (from < 0)
		die(EXIT_OWN, "opening /proc/self/exe: %s\n  next: mount /proc", strerror(errno));
	to = memfd_create("dune-sandbox", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (to < 0 && errno == EINVAL)	/* before Linux 6.3 */
		to = memfd_create("dune-sandbox", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (to < 0)
		die(EXIT_OWN, "memfd_create: %s", strerror(errno));
	do {
		n = sendfile(to, from, NULL, 1 << 20);
	} while (n > 0);
	if (n < 0 || fchmod(to, 0700) || fcntl(to, F_ADD_SEALS, SEALS))
		die(EXIT_OWN, "copying /proc/self/exe: %s", strerror(errno));
	close(from);
	return to;
}

static void open_own(const struct dune_sandbox *o)
{
	int fd = copy_of_self();

	setup.loader_fd = raise_fd(fd);
	if (setup.loader_fd < 0)
		die(EXIT_OWN, "no descriptor for dune-sandbox itself: %s", strerror(errno));
	close(fd);
	setup.report_fd = o->quiet ? -1 : raise_fd(2);
	if (!o->fd)
		return;
	setup.ask_fd = raise_fd(o->fd);
	if (setup.ask_fd < 0)
		die(EXIT_OWN, "the callback's descriptor: %s", strerror(errno));
	close(o->fd);
}

/* The policy, and a copy of it behind a descriptor for what is executed. */
static void make_policy(const struct dune_sandbox *o)
{
	int fd;

	if (o->learn) {
		learn_policy(&policy);
		fd = learn_begin(o->learn);
		if (fd < 0)
			die(EXIT_OWN, "%s: %s", o->learn, strerror(-fd));
		setup.learn_fd = raise_fd(fd);
		if (setup.learn_fd < 0)
			die(EXIT_OWN, "no descriptor for what is learned: %s", strerror(errno));
		close(fd);
	} else if (o->allow_all) {
		policy_begin(&policy, "--allow-all");
	} else if (o->policy ? policy_read(&policy, o->policy) :
		   o->policy_text ? policy_of_text(&policy, o->policy_text) :
				    policy_default(&policy)) {
		exit(EXIT_OWN);
	}
	if (o->data_size > sizeof(policy.data))
		die(EXIT_OWN, "more than %zu bytes for the callback", sizeof(policy.data));
	if (o->data_size)
		memcpy(policy.data, o->data, o->data_size);
	policy.explain = o->explain;
	fd = memfd_create("policy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || write(fd, &policy, policy_bytes(&policy)) != (ssize_t)policy_bytes(&policy) ||
	    fcntl(fd, F_ADD_SEALS, SEALS))
		die(EXIT_OWN, "keeping the policy: %s", strerror(errno));
	setup.policy_fd = raise_fd(fd);
	if (setup.policy_fd < 0)
		die(EXIT_OWN, "no descriptor for the policy: %s", strerror(errno));
	close(fd);
}

static void take_policy(void)
{
	ssize_t got = pread(setup.policy_fd, &policy, sizeof(policy), 0);

	if (got < (ssize_t)offsetof(struct policy, files) || policy.version != POLICY_VERSION ||
	    policy.size != sizeof(policy) || got != (ssize_t)policy_bytes(&policy))
		die(EXIT_OWN, "the policy is gone, or not of this version");
}

static void set_limit(int what, uint64_t limit, const char *name)
{
	struct rlimit now, new = { limit, limit };

	if (!limit)
		return;
	if (getrlimit(what, &now) || (now.rlim_max != RLIM_INFINITY && now.rlim_max < limit))
		new.rlim_cur = new.rlim_max = now.rlim_max;
	if (setrlimit(what, &new))
		die(EXIT_OWN, "limit %s: %s", name, strerror(errno));
}

/* What the monitor itself maps counts too. */
#define OWN_MEMORY	(POOL_SIZE + (128UL << 20))

static void set_limits(void)
{
	if (policy.processes && !geteuid())
		die(EXIT_OWN, "%s: Linux does not count the superuser's processes\n"
		    "  next: take the limit away, or start as another user", policy.file);
	set_limit(RLIMIT_AS, policy.memory ? policy.memory + OWN_MEMORY : 0, "memory");
	set_limit(RLIMIT_NPROC, policy.processes, "processes");
	set_limit(RLIMIT_CPU, policy.cpu_seconds, "cpu_seconds");
}

/* Wherever procfs can be seen. */
static void find_procs(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *m;

	if (!mounts)
		die(EXIT_OWN, "reading /proc/self/mounts: %s\n  next: mount /proc", strerror(errno));
	while ((m = getmntent(mounts))) {
		if (strcmp(m->mnt_type, "proc"))
			continue;
		if (setup.nr_procs == MAX_PROCS || strlen(m->mnt_dir) >= sizeof(setup.procs[0]))
			die(EXIT_OWN, "procfs is mounted in too many places, or too deep: %s",
			    m->mnt_dir);
		strcpy(setup.procs[setup.nr_procs++], m->mnt_dir);
	}
	endmntent(mounts);
}

static void init(void)
{
	int ret = dune_set_private_memory(ARENA_LIBDUNE, ARENA_LIBDUNE_SIZE);

	if (ret)
		die(EXIT_OWN, "the arena: %s", strerror(-ret));
	dune_set_pool(false, POOL_SIZE);
	ret = dune_init(true);
	if (ret)
		die(EXIT_OWN, "%s (%s)", advice(ret), strerror(-ret));
}

static uint64_t entry_of(const struct elf_file *e)
{
	return e->bias + e->eh.e_entry;
}

/* Maps the program and becomes it. */
static void __attribute__((noreturn)) run(const struct start *o, char **envp)
{
	static struct command command;
	const char *name = o->command[0];
	struct stack_image stack;
	int ret, exe_error;

	ret = command_find(&command, name, o->name, o->search, o->fd);
	if (ret)
		cannot_start(&command, name, ret);
	if (!o->inside && policy.private_tmp)
		private_tmp();
	find_procs();
	if (o->fd >= 0)
		close(o->fd);
	map_command(&command, name);
	ret = stack_build(&stack, &command, o->command + 1, envp, stack_auxv(envp));
	if (ret)
		die(EXIT_OWN, "building the stack: %s", strerror(-ret));
	init();
	/* What exec() in a sandbox started runs from that copy itself. */
	ret = identity_set(&command, &stack, o->inside ? -1 : setup.loader_fd, &exe_error);
	if (ret)
		die(EXIT_OWN, "prctl(PR_SET_MM_MAP): %s\n  next: run a kernel with CONFIG_CHECKPOINT_RESTORE",
		    strerror(-ret));
	close(command.program.fd);
	setup.entry = entry_of(&command.program);
	if (command.interp.fd >= 0) {
		close(command.interp.fd);
		setup.entry = entry_of(&command.interp);
	}
	setup.stack = stack.at;
	setup.stack_bytes = stack.bytes;
	setup.stack_len = stack.len;
	self_forget_thread();
	room_give_back();
	if (!o->inside)
		set_limit(RLIMIT_NOFILE, policy.open_files, "files");
	ret = dune_enter();
	if (ret)
		die(EXIT_OWN, "entering Dune mode: %s\n  next: dmesg | grep dune", strerror(-ret));
	monitor_start();
}

static char **no_environment(char **envp)
{
	static char *none[] = { NULL };

	return envp ? envp : none;
}

void dune_sandbox_begin(char **argv, char **envp, dune_sandbox_ask ask)
{
	struct start o;

	setup.ask = ask;
	setup.libc_fs = (uint64_t)__builtin_thread_pointer();
	if (!argv[0] || !argv[1] || strcmp(argv[1], "--inside"))
		return;
	o = parse_inside(argv + 2);
	if (dune_in_guest())
		die(EXIT_OWN, "this is Dune mode already\n  next: start dune-sandbox natively");
	room_make();
	take_policy();
	run(&o, no_environment(envp));
}

void dune_sandbox_exec(const struct dune_sandbox *sandbox, char **command, char **envp)
{
	struct start o = {
		.name = sandbox->name, .fd = -1, .search = !sandbox->no_search, .command = command,
	};

	if (dune_in_guest())
		die(EXIT_OWN, "this is Dune mode already\n  next: start dune-sandbox natively");
	if (!*command)
		die(EXIT_OWN, "no program given");
	if (!setup.libc_fs)
		die(EXIT_OWN, "dune_sandbox_begin() was not called");
	room_make();
	open_own(sandbox);
	make_policy(sandbox);
	set_limits();
	run(&o, no_environment(envp));
}

int dune_sandbox_check(const char *file)
{
	static struct policy checked;

	return policy_read(&checked, file);
}
