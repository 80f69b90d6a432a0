/* SPDX-License-Identifier: MIT */
/*
 * libdunesandbox: a program that runs another one in ring 3 of a virtual CPU, its system calls
 * checked by a policy, and asks a function of its own where the policy says "ask".
 * dune-sandbox(1) is such a program, and its manual describes policies.
 *
 *	static enum dune_sandbox_verdict ask(const struct dune_sandbox_request *q, void *data)
 *	{
 *		return q->kind == DUNE_SANDBOX_FILE && ... ? DUNE_SANDBOX_ALLOW : DUNE_SANDBOX_DENY;
 *	}
 *
 *	int main(int argc, char **argv, char **envp)
 *	{
 *		struct dune_sandbox sandbox = { .policy = "policy.toml" };
 *
 *		dune_sandbox_begin(argv, envp, ask);
 *		dune_sandbox_exec(&sandbox, argv + 1, envp);
 *	}
 *
 * The sandbox is the process itself: dune_sandbox_exec() puts the program in the place of the
 * caller, as execve() does; who wants to go on calls fork() first.  The caller's code and data
 * stay, as ring 0 of that process, in a part of the address space that ring 3 cannot reach.
 * So it is linked as a static PIE and then given that address:
 *
 *	cc -fPIE -o prog prog.c $(pkg-config --cflags --libs --static dunesandbox)
 *	dune-sandbox-base prog
 */
#ifndef DUNESANDBOX_H
#define DUNESANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dune_sandbox_verdict {
	DUNE_SANDBOX_DENY,	/* EPERM for a call, EACCES for a file or an address */
	DUNE_SANDBOX_ALLOW,	/* what the request says, once */
	DUNE_SANDBOX_KILL,	/* the process ends by SIGSYS */
};

enum dune_sandbox_kind {
	DUNE_SANDBOX_CALL,	/* of [calls] */
	DUNE_SANDBOX_FILE,	/* of [[file]] */
	DUNE_SANDBOX_NET,	/* of [[net]] */
};

/* Rights; each is asked for by itself. */
#define DUNE_SANDBOX_READ	1U	/* of a file */
#define DUNE_SANDBOX_WRITE	2U
#define DUNE_SANDBOX_EXEC	4U
#define DUNE_SANDBOX_CONNECT	1U	/* of an address */
#define DUNE_SANDBOX_BIND	2U

struct sockaddr;

/*
 * What is decided about.  All of it are copies that the program cannot change, and what Linux
 * is asked for afterwards is these copies; it belongs to the library, until the callback
 * returns.
 */
struct dune_sandbox_request {
	enum dune_sandbox_kind kind;
	int pid, tid;			/* whose call it is */
	const char *policy;		/* the rule that says "ask": its file */
	unsigned int line;		/* and line */
	const char *call;		/* the system call's name: DUNE_SANDBOX_CALL */
	/* Its number and arguments.  Those that are addresses are the program's: not to be
	 * read or written, what lies there may change.  DUNE_SANDBOX_CALL */
	unsigned long nr, arg[6];
	unsigned int right;		/* one of the above: DUNE_SANDBOX_FILE, _NET */
	const char *path;		/* absolute, without links: DUNE_SANDBOX_FILE */
	const struct sockaddr *address;	/* DUNE_SANDBOX_NET */
	unsigned int address_len;	/* bytes */
	int fd;				/* struct dune_sandbox's, as it is here; -1: none */
};

/*
 * The callback.  @data: what struct dune_sandbox gave, this process's copy of it.
 *
 * It runs in ring 0 of the sandboxed process, in the thread that made the call, on a stack of
 * which 32 KB are left.  In a process one runs at a time, and none during fork(); processes
 * do not wait for each other, and what one writes to variables another does not see, nor
 * does the program that an exec() starts there.
 *
 * The process is the sandboxed one in all it does: it is interrupted by its signals (EINTR),
 * counts against its limits, and a descriptor that it opens can be named by the program.
 * Libc's functions may be called that are async-signal-safe (signal-safety(7)), and those
 * that format or compare memory; nothing may be allocated, and no thread or process made.
 * The vector registers are saved around it.  It must return.
 */
typedef enum dune_sandbox_verdict (*dune_sandbox_ask)(const struct dune_sandbox_request *request,
						      void *data);

#define DUNE_SANDBOX_DATA	256	/* bytes of data at the most */

/* All fields may be 0.  The caller's; nothing of it is needed after the call. */
struct dune_sandbox {
	const char *policy;		/* a file; NULL: */
	const char *policy_text;	/* the text of one; NULL: the default policy, or: */
	bool allow_all;			/* no policy */
	const char *learn;		/* a file to be written: what was used; no policy */
	const char *name;		/* the program's argv[0]; NULL: as given */
	bool no_search;			/* the first word is a path: no search in PATH */
	bool explain;			/* report each decision */
	bool quiet;			/* report nothing; else to standard error */
	int fd;				/* for the callback; 0: none.  The program cannot name it */
	const void *data;		/* for the callback */
	size_t data_size;		/* bytes */
};

/**
 * dune_sandbox_begin - the first call of main()
 * @ask: the callback; NULL: what is to be asked is denied
 *
 * What the program executes starts this program again: then this call does not return.
 * Before it main() does nothing that should not happen there.  One thread.
 */
void dune_sandbox_begin(char **argv, char **envp, dune_sandbox_ask ask);

/**
 * dune_sandbox_exec - put a program into the place of this process, in a sandbox
 * @command: its name and arguments, up to NULL
 *
 * Does not return: if it fails there is a message on standard error, and the process ends with
 * status 127 (not found), 126 (cannot be started) or 125 (all else).  One thread, which is not
 * in Dune mode, after dune_sandbox_begin().
 */
void dune_sandbox_exec(const struct dune_sandbox *sandbox, char **command, char **envp)
	__attribute__((noreturn));

/**
 * dune_sandbox_check - is a file a policy?
 *
 * 0, or -1 and a message on standard error.
 */
int dune_sandbox_check(const char *policy);

#ifdef __cplusplus
}
#endif

#endif /* DUNESANDBOX_H */
