// SPDX-License-Identifier: MIT
/*
 * dune-run: options, errors, and the order of things.  dune-run.1 is the
 * manual.
 */
#include <errno.h>
#include <fcntl.h>
#include <libdune/dune.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/starter.h"
#include "dune-run.h"

/* Exit statuses, those of env(1) and nice(1). */
const char own_name[] = "dune-run";
const char address_taken[] = "its fixed address is taken; another try finds another layout";

struct options {
	const char *argv0;
	int fd;			/* of the file to start, -1: PROG says it */
	bool follow;
	bool search;
	bool verify;
	const char *name;	/* PROG */
	char **command;		/* PROG, or argv[0] for it, and its arguments */
};

static const char help[] =
	"Usage: dune-run [OPTION]... [--] PROG [ARG]...\n"
	"Run PROG in Dune mode: ring 0 of a vCPU, in an ordinary process.\n"
	"\n"
	"  --as NAME     give PROG the name NAME (argv[0])\n"
	"  --no-follow   programs that PROG executes run outside Dune mode\n"
	"  --path        PROG is a path: no search in PATH, no shell for plain text\n"
	"  --verify      before PROG starts, say on standard error where it runs\n"
	"  -h, --help    show this help\n"
	"  --version     show the version\n"
	"\n"
	"Exit status: 127 PROG was not found, 126 it cannot be started, 125 dune-run\n"
	"failed; otherwise that of PROG.\n";

/* The value of "--as NAME" or "--as=NAME"; NULL: *arg is another option. */
static const char *value_of(const char *option, char ***arg)
{
	size_t len = strlen(option);

	if (strncmp(**arg, option, len))
		return NULL;
	if ((**arg)[len] == '=')
		return **arg + len + 1;
	if ((**arg)[len])
		return NULL;
	if (!*++*arg)
		die(EXIT_OWN, "%s needs a value\n  next: dune-run --help", option);
	return **arg;
}

/*
 * What libdune says to the loader of a program that Dune mode executes
 * (dune_exec_through()).  The arguments are that program's then, and so is the
 * environment without the note.
 */
static bool take_note(struct options *o, char **argv, char **envp)
{
	static const char start[] = DUNE_EXEC_NOTE;
	char *note, *end;
	size_t n = 0;

	while (envp[n])
		n++;
	if (!n || !argv[0] || strncmp(envp[n - 1], start, sizeof(start) - 1))
		return false;
	note = envp[n - 1] + sizeof(start) - 1;
	envp[n - 1] = NULL;
	if (*note != ':')
		o->fd = (int)strtol(note, &end, 10);
	else
		end = note;
	if (*end != ':' || (end > note && fcntl(o->fd, F_GETFD) < 0))
		die(EXIT_OWN, "%s%s is not what libdune says\n  next: env -u DUNE_EXEC", start, note);
	o->argv0 = argv[0];
	o->name = end + 1;
	o->search = false;
	o->command = argv;
	return true;
}

static struct options parse(char **argv, char **envp)
{
	struct options o = { .fd = -1, .follow = true, .search = true };
	char **arg;

	if (take_note(&o, argv, envp))
		return o;
	for (arg = argv + 1; *arg && **arg == '-'; arg++) {
		const char *value = value_of("--as", &arg);

		if (value)
			o.argv0 = value;
		else if (!strcmp(*arg, "--no-follow"))
			o.follow = false;
		else if (!strcmp(*arg, "--path"))
			o.search = false;
		else if (!strcmp(*arg, "--verify"))
			o.verify = true;
		else if (!strcmp(*arg, "-h") || !strcmp(*arg, "--help"))
			print_and_exit(help);
		else if (!strcmp(*arg, "--version"))
			print_and_exit("dune-run " VERSION "\n");
		else if (!strcmp(*arg, "--")) {
			arg++;
			break;
		} else
			die(EXIT_OWN, "unknown option '%s'\n  next: dune-run --help", *arg);
	}
	if (!*arg)
		die(EXIT_OWN, "no program given\n  next: dune-run --help");
	o.name = *arg;
	o.command = arg;
	return o;
}

/* dune-run's own path: what Dune mode executes starts here again. */
static const char *own_path(void)
{
	static char own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (n <= 0)
		die(EXIT_OWN, "reading /proc/self/exe: %s\n  next: mount /proc, or --no-follow",
		    strerror(errno));
	return own;
}

static void follow(void)
{
	int ret = dune_exec_through(own_path());

	if (ret)
		die(EXIT_OWN, "following what the program executes: %s", strerror(-ret));
}

static void cannot_init(int err)
{
	if (err)
		die(EXIT_OWN, "%s (%s)", advice(err), strerror(-err));
}

static bool leads_to(const char *path, int fd)
{
	struct stat by_path, st;

	return !stat(path, &by_path) && !fstat(fd, &st) && st.st_dev == by_path.st_dev &&
	       st.st_ino == by_path.st_ino;
}

/* Let go of the number of a file that stays open. */
static void make_way(struct elf_file *e, int number)
{
	int other = e->fd == number && number >= 0 ?
		    fcntl(number, F_DUPFD_CLOEXEC, number + 1) : -1;

	if (other < 0)
		return;
	close(number);
	e->fd = other;
}

/*
 * What to execute in place of the path, which may lead elsewhere from here: a descriptor,
 * by the number that it had; -1: the path.
 */
static int executable_fd(struct command *c, int fd)
{
	int number = descriptor_of(c->path);

	if (leads_to(c->path, fd))
		return number;
	make_way(&c->program, number);
	make_way(&c->interp, number);
	if (number >= 0 && fcntl(number, F_GETFD) < 0 && dup3(fd, number, O_CLOEXEC) == number)
		return number;
	return fd;
}

/*
 * Let the kernel load the program.  Returns why no helper could be had: then it is
 * loaded here, and /proc/self/exe names dune-run.
 */
static int execute(struct command *c, const struct options *o, const char *name, char **envp)
{
	struct start s = { .path = c->path, .fd = -1, .envp = envp, .verify = o->verify };
	size_t n = 0;
	char **out;
	bool executed;
	int ret, fd;

	while (o->command[n])
		n++;
	s.argv = out = calloc(n + 2, sizeof(*out));
	if (!out)
		die(EXIT_OWN, "out of memory");
	*out++ = (char *)c->argv0;
	if (c->script)
		*out++ = (char *)c->script;
	memcpy(out, o->command + 1, (n - 1) * sizeof(*out));

	/* What can go wrong with the device is better said now. */
	fd = open("/dev/dune", O_RDWR | O_CLOEXEC);
	cannot_init(fd < 0 ? -errno : 0);
	close(fd);
	if (o->fd >= 0)
		s.fd = executable_fd(c, o->fd);
	s.loader = o->follow ? own_path() : "";
	ret = inject(&s, &executed);
	if (executed)
		cannot_start(c, name, ret);
	free(s.argv);
	return ret;
}

static void enter(void)
{
	int ret = dune_enter();

	if (ret)
		die(EXIT_OWN, "entering Dune mode: %s\n  next: dmesg | grep dune", strerror(-ret));
}

static uint64_t entry_of(const struct elf_file *e)
{
	return e->bias + e->eh.e_entry;
}

int main(int argc, char **argv, char **envp)
{
	static struct command command;
	const Elf64_auxv_t *auxv = stack_auxv(envp);
	struct options o = parse(argv, envp);
	const char *name = o.name;
	struct stack_image stack;
	uint64_t entry;
	int ret, exe_error, no_helper = 0;

	(void)argc;
	room_make();
	ret = command_find(&command, name, o.argv0, o.search, o.fd);
	if (ret)
		cannot_start(&command, name, ret);
	if (o.fd >= 0)
		fcntl(o.fd, F_SETFD, FD_CLOEXEC);
	if (!dune_in_guest() && !may_name_executable())
		no_helper = execute(&command, &o, name, envp);
	if (o.fd >= 0)
		close(o.fd);
	map_command(&command, name);
	ret = stack_build(&stack, &command, o.command + 1, envp, auxv);
	if (ret)
		die(EXIT_OWN, "building the stack: %s", strerror(-ret));

	/* A dune-run inside another is in Dune mode, and libdune is the outer one's. */
	if (!dune_in_guest()) {
		dune_set_pool(false, 0);	/* the addresses are the program's */
		cannot_init(dune_init(true));
		if (o.follow)
			follow();
	}
	ret = identity_set(&command, &stack, -1, &exe_error);
	if (ret)
		die(EXIT_OWN, "prctl(PR_SET_MM_MAP): %s\n  next: run a kernel with CONFIG_CHECKPOINT_RESTORE",
		    strerror(-ret));
	close(command.program.fd);
	entry = entry_of(&command.program);
	if (command.interp.fd >= 0) {
		close(command.interp.fd);
		entry = entry_of(&command.interp);
	}
	self_forget_thread();
	room_give_back();
	enter();
	if (o.verify)
		say_where(exe_error ? strerror(no_helper ? -no_helper : -exe_error) : NULL);
	launch(stack.at, stack.bytes, stack.len, entry, xsave_components());
}
