// SPDX-License-Identifier: MIT
/*
 * dune-sandbox: options; the rest is libdunesandbox's.  dune-sandbox.1 is the manual.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/starter.h"
#include "../dunesandbox.h"
#include "ask.h"

const char own_name[] = "dune-sandbox";

static const char help[] =
	"Usage: dune-sandbox [OPTION]... [--] PROG [ARG]...\n"
	"Run PROG in ring 3 of a vCPU, its system calls checked by ring 0 of its own process.\n"
	"\n"
	"  --allow-all   no policy: only what would reach around the monitor is refused\n"
	"  --as NAME     give PROG the name NAME (argv[0])\n"
	"  --ask HOW     where the policy says ask: terminal (usual), allow, deny\n"
	"  --check FILE  read a policy, say whether it is right, and end\n"
	"  --explain     report each decision about a file, an address or a named call\n"
	"  --learn FILE  allow everything, and write a policy of it when PROG ends\n"
	"  --path        PROG is a path: no search in PATH, no shell for plain text\n"
	"  --policy FILE what PROG may do; without it: read and execute, write to a /tmp of its\n"
	"                own, no network\n"
	"  --quiet       do not report what was refused\n"
	"  -h, --help    show this help\n"
	"  --version     show the version\n"
	"\n"
	"Exit status: 127 PROG was not found, 126 it cannot be started, 125 dune-sandbox\n"
	"failed; otherwise that of PROG.\n";

static const char *next_value(char ***arg)
{
	const char *option = **arg;

	if (!*++*arg)
		die(EXIT_OWN, "%s needs a value\n  next: dune-sandbox --help", option);
	return **arg;
}

static struct ask_how ask_how;

static void set_ask(const char *how)
{
	if (!strcmp(how, "terminal"))
		ask_how.answer = ASK_TERMINAL;
	else if (!strcmp(how, "allow"))
		ask_how.answer = ASK_ALLOW;
	else if (!strcmp(how, "deny"))
		ask_how.answer = ASK_DENY;
	else
		die(EXIT_OWN, "--ask is terminal, allow or deny, not '%s'", how);
}

/* Returns the program and its arguments. */
static char **parse(struct dune_sandbox *o, char **argv)
{
	char **arg;

	for (arg = argv + 1; *arg && **arg == '-'; arg++) {
		if (!strcmp(*arg, "--as"))
			o->name = next_value(&arg);
		else if (!strcmp(*arg, "--ask"))
			set_ask(next_value(&arg));
		else if (!strcmp(*arg, "--path"))
			o->no_search = true;
		else if (!strcmp(*arg, "--quiet"))
			o->quiet = true;
		else if (!strcmp(*arg, "--allow-all"))
			o->allow_all = true;
		else if (!strcmp(*arg, "--explain"))
			o->explain = true;
		else if (!strcmp(*arg, "--policy"))
			o->policy = next_value(&arg);
		else if (!strcmp(*arg, "--learn"))
			o->learn = next_value(&arg);
		else if (!strcmp(*arg, "--check"))
			exit(dune_sandbox_check(next_value(&arg)) ? EXIT_OWN : 0);
		else if (!strcmp(*arg, "-h") || !strcmp(*arg, "--help"))
			print_and_exit(help);
		else if (!strcmp(*arg, "--version"))
			print_and_exit("dune-sandbox " VERSION "\n");
		else if (!strcmp(*arg, "--")) {
			arg++;
			break;
		} else
			die(EXIT_OWN, "unknown option '%s'\n  next: dune-sandbox --help", *arg);
	}
	if (!*arg)
		die(EXIT_OWN, "no program given\n  next: dune-sandbox --help");
	return arg;
}

int main(int argc, char **argv, char **envp)
{
	struct dune_sandbox sandbox = { .data = &ask_how, .data_size = sizeof(ask_how) };
	char **command;
	int terminal;

	(void)argc;
	dune_sandbox_begin(argv, envp, ask);
	command = parse(&sandbox, argv);
	if (ask_how.answer == ASK_TERMINAL) {
		terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
		sandbox.fd = terminal > 0 ? terminal : 0;	/* 0: nobody to be asked */
	}
	dune_sandbox_exec(&sandbox, command, envp);
}
