/* SPDX-License-Identifier: MIT */
/*
 * A program on libdunesandbox: runs another one, which may write to files with one ending alone.
 *
 *	sandbox_embed SUFFIX LOG PROG ARG...
 *
 * What is asked goes to LOG, with the answer.
 */
#define _GNU_SOURCE
#include <dunesandbox.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char policy[] =
	"[calls]\ngetppid = \"ask\"\n"
	"[[file]]\npath = \"/tmp/shell/asked/**\"\nask = [\"read\", \"write\"]\n"
	"[[file]]\npath = \"/**\"\nallow = [\"read\", \"exec\", \"write\"]\n"
	"[[net]]\nfamily = \"inet\"\naddress = \"127.0.0.0/8\"\nask = [\"connect\", \"bind\"]\n"
	"[network]\ndefault = \"deny\"\n";

static enum dune_sandbox_verdict ask(const struct dune_sandbox_request *q, void *data)
{
	const char *what = q->kind == DUNE_SANDBOX_CALL ? q->call :
			   q->kind == DUNE_SANDBOX_FILE ? q->path : "an address";
	const char *suffix = data;
	size_t end = strlen(what), n = strlen(suffix);
	bool yes = q->kind == DUNE_SANDBOX_CALL || (end >= n && !strcmp(what + end - n, suffix));
	double share = (double)q->line / 7;	/* the vector registers are ours here */
	char line[5000];

	sched_yield();				/* whoever wants to change what was asked */
	n = (size_t)snprintf(line, sizeof(line), "%s %s %u %.3f\n", yes ? "yes" : "no", what,
			     q->right, share);
	return write(q->fd, line, n) == (ssize_t)n && yes ? DUNE_SANDBOX_ALLOW : DUNE_SANDBOX_DENY;
}

int main(int argc, char **argv, char **envp)
{
	struct dune_sandbox sandbox = { .policy_text = policy };

	dune_sandbox_begin(argv, envp, ask);
	if (argc < 4)
		return 2;
	sandbox.data = argv[1];
	sandbox.data_size = strlen(argv[1]) + 1;
	sandbox.fd = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (sandbox.fd < 0)
		return 1;
	dune_sandbox_exec(&sandbox, argv + 3, envp);
}
