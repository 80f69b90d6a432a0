/* SPDX-License-Identifier: MIT */
/*
 * libwedge: default-deny compartments inside of one process.
 *
 * An sthread is a function that runs in ring 3 on page tables of its own.  What is there:
 * the text and the read-only data of the program and its libraries; the libraries' own
 * variables as they were at wedge_init(), a private copy; a stack, thread-local storage and
 * a heap of its own; and the tags that its security context names.  Nothing else of the
 * process: no global variable of the program, no heap, no other stack.  Its system calls come to
 * ring 0, which makes those that the context allows, with arguments that it has copied.
 * Whatever else it tries ends the sthread, not the process, and is reported to
 * sthread_join().  docs/wedge.md.
 *
 * Errors are negative errno values.  All of it wants Dune mode, ring 0, and dune_init(true).
 * libwedge takes the handlers of ring 3's system calls, of page faults and of exceptions.
 *
 * Threads.  Any thread in Dune mode may call any function, but no signal handler.  A
 * security context belongs to who fills it in.  Functions marked "in an sthread" are for
 * code in ring 3, all others for code that is not.  fork() with an sthread running in
 * another thread is not supported.
 */
#ifndef WEDGE_H
#define WEDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* System calls have numbers below this. */
#define WEDGE_CALLS		512
#define WEDGE_TAGS_MAX		32	/* in one context */
#define WEDGE_FDS_MAX		32
#define WEDGE_GATES_MAX		16

/* Rights to memory and to descriptors. */
#define WEDGE_R			1
#define WEDGE_W			2
#define WEDGE_RW		3

/**
 * wedge_init - prepare the process
 *
 * Once, early in main(): what the libraries' variables and the heap hold now is what each
 * sthread finds.  So before secrets are read; after all libraries are loaded.  Calling it
 * again does nothing.  A library's random generator is such a variable: an sthread that draws
 * from it has to seed it first, or draws what the others draw.
 * Return: 0; -EPERM not in ring 0 of Dune mode; -ENOTSUP the CPU lacks what ring 3 needs, or
 * libc is not a shared library; -ENOEXEC the program is not linked with -z now;
 * -E2BIG thread-local storage of more than 48 KB; -ENOMEM.
 */
int wedge_init(void);

/* ---- memory ------------------------------------------------------------- */

/* A piece of memory that contexts can name. */
struct wedge_tag;

/**
 * tag_new - memory for smalloc()
 * @size: bytes, rounded up to a multiple of 2 MiB; used as it is touched; at most 1 GiB
 *
 * Return: 0; -EINVAL; -ENOSPC; -ENOMEM.
 */
int tag_new(size_t size, struct wedge_tag **tag);

/**
 * tag_delete - give it back, with all that was allocated from it
 *
 * Return: 0; -EBUSY an sthread or a callgate has it.
 */
int tag_delete(struct wedge_tag *tag);

/**
 * tag_base - where a tag begins, and tag_size, its size in bytes
 */
void *tag_base(const struct wedge_tag *tag);
size_t tag_size(const struct wedge_tag *tag);

/**
 * smalloc - allocate from a tag
 *
 * Aligned to 16 bytes, zeroed.  What is known of free pieces is kept outside of the tag, so
 * that who may write to the tag cannot mislead it.
 * Return: NULL: no memory.
 */
void *smalloc(size_t size, struct wedge_tag *tag);

/**
 * sfree - give back
 * @p: from smalloc() or NULL
 *
 * Anything else ends the process with a message, and an sthread with STHREAD_FAULT.
 */
void sfree(void *p);

/**
 * WEDGE_BOUNDARY - global variables with a boundary around them
 *
 *	WEDGE_BOUNDARY_BEGIN(counters);
 *	WEDGE_BOUNDARY(counters) static int hits, misses;
 *	WEDGE_BOUNDARY_END(counters);
 *
 *	sc_boundary_add(&sc, counters, WEDGE_RW);
 *
 * The variables of one name, in one file, are on pages of their own, which a context can name.
 * The first and the last line are pages of padding, since the compiler may turn the order
 * round; should it choose another one, sc_boundary_add() says -EINVAL.
 */
#define WEDGE_BOUNDARY(name)	__attribute__((section("wedge_" #name)))
#define WEDGE_BOUNDARY_PAGE(name, where)					\
	__attribute__((section("wedge_" #name), aligned(4096), used))		\
	static char wedge_##where##_##name[4096] = { 1 }
#define WEDGE_BOUNDARY_BEGIN(name)	WEDGE_BOUNDARY_PAGE(name, first)
#define WEDGE_BOUNDARY_END(name)						\
	WEDGE_BOUNDARY_PAGE(name, last);					\
	extern char __start_wedge_##name[], __stop_wedge_##name[]
#define sc_boundary_add(sc, name, rights)					\
	sc_pages_add(sc, __start_wedge_##name, __stop_wedge_##name, rights)

/* ---- security contexts --------------------------------------------------- */

struct wedge_gate;

/* What an sthread may do.  Filled in by the functions below. */
struct sthread_sc {
	unsigned int tags, fds, gates;
	struct {
		struct wedge_tag *tag;		/* NULL: pages of the program */
		uintptr_t begin, end;
		unsigned int rights;
	} tag[WEDGE_TAGS_MAX];
	struct {
		int fd;
		unsigned int rights;
	} fd[WEDGE_FDS_MAX];
	struct wedge_gate *gate[WEDGE_GATES_MAX];
	uint64_t calls[WEDGE_CALLS / 64];
	unsigned int flags;
	uid_t uid;
	gid_t gid;
	const char *root;
};

/* In a thread of its own that is started at once; else in the one that joins it. */
#define STHREAD_THREAD		1

/**
 * sc_init - nothing: only an sthread's own end, memory and what needs no right
 */
void sc_init(struct sthread_sc *sc);

/**
 * sc_mem_add - a tag; sc_fd_add, a descriptor; sc_gate_add, a callgate; sc_pages_add, pages
 * @rights: WEDGE_R or WEDGE_RW; for a descriptor WEDGE_W alone, too
 * @begin, @end: whole pages, 1 MiB at most
 *
 * Return: 0; -EINVAL a bad right, or not of that kind; -ENOSPC too many.
 */
int sc_mem_add(struct sthread_sc *sc, struct wedge_tag *tag, unsigned int rights);
int sc_fd_add(struct sthread_sc *sc, int fd, unsigned int rights);
int sc_gate_add(struct sthread_sc *sc, struct wedge_gate *gate);
int sc_pages_add(struct sthread_sc *sc, void *begin, void *end, unsigned int rights);

/**
 * sc_call_add - allow a system call
 * @nr: one of those that libwedge can check: docs/wedge.md has the list
 *
 * Return: 0; -EINVAL no system call; -ENOTSUP one that cannot be checked.
 */
int sc_call_add(struct sthread_sc *sc, unsigned int nr);

/**
 * sc_user - another user and another root directory for it
 * @root: or NULL
 *
 * With STHREAD_THREAD only: these are properties of a thread in Linux, and the way back may
 * not exist.  The thread gets a root and a working directory of its own (CLONE_FS), then
 * the group, no supplementary groups, then the user, by system calls that change this
 * thread alone.  sthread_create() fails if one of them does.
 * Return: 0; -EINVAL without STHREAD_THREAD in @sc->flags.
 */
int sc_user(struct sthread_sc *sc, uid_t uid, gid_t gid, const char *root);

/* ---- sthreads ------------------------------------------------------------ */

struct sthread;

enum sthread_end {
	STHREAD_RETURNED,	/* @value: of its function, or of exit() */
	/*
	 * An access to @addr, with @err as the CPU tells it (FEC_*): also where the stack is at its
	 * end, or there is no memory for a private copy.
	 */
	STHREAD_FAULT,
	STHREAD_EXCEPTION,	/* the exception @vector */
	STHREAD_CALL,		/* system call @call, which it may not make */
};

struct sthread_result {
	enum sthread_end end;
	uint64_t value;
	uintptr_t addr, rip;
	uint32_t err;
	unsigned int vector;
	long call;
	uint64_t args[6];	/* of the call */
};

/**
 * sthread_create - a compartment with a function to run in it
 * @sc: is copied
 * @fn: text of the program or of a library
 *
 * Without STHREAD_THREAD it begins when it is joined, on the thread that joins.
 * Return: 0; -EINVAL; -EAGAIN too many; -ENOMEM; with STHREAD_THREAD, what made that fail.
 */
int sthread_create(struct sthread **sthread, const struct sthread_sc *sc,
		   void *(*fn)(void *arg), void *arg);

/**
 * sthread_join - run it, or wait for it, and give it back
 * @result: or NULL
 *
 * Return: 0 if it returned; -EACCES for STHREAD_CALL, -EFAULT for the others.
 */
int sthread_join(struct sthread *sthread, struct sthread_result *result);

/**
 * sthread_describe - what a result says, in words, as one line into @text
 * @size: of @text, in bytes; what does not fit is left out
 */
void sthread_describe(const struct sthread_result *result, char *text, size_t size);

/**
 * sthread_learn - what would it need?
 * @sc: what it is given anyway; flags 0
 * @out: a descriptor that the report is written to
 *
 * Runs @fn as an sthread would, but memory, descriptors and system calls that it is
 * refused are noted and given.  The report has a line for each tag with the pages
 * that were read and written (by the accessed and dirty bits), for each run of other pages
 * with the object that they belong to, for each descriptor and each system call; "+" where the
 * context did not have it.  No other sthread may use the same tags meanwhile.  Calls whose
 * arguments cannot be checked are refused nevertheless.
 * Return: as sthread_create() and sthread_join().
 */
int sthread_learn(const struct sthread_sc *sc, void *(*fn)(void *arg), void *arg, int out,
		  struct sthread_result *result);

/* ---- callgates ------------------------------------------------------------- */

/**
 * gate_new - something that an sthread can have done without the right to do it
 * @sc: of the compartment that @fn runs in, with flags 0; is copied
 * @trusted: what @fn gets first; the caller can neither see nor change it
 * @flags: 0: each call gets a compartment; or one of those below
 *
 * Return: 0; -EINVAL; -EAGAIN too many compartments; -ENOMEM.
 */
int gate_new(struct wedge_gate **gate, const struct sthread_sc *sc,
	     long (*fn)(void *trusted, void *arg), void *trusted, unsigned int flags);

/* One compartment for all calls, wiped in between; a call while it is in use gets another. */
#define GATE_RECYCLED		1
/* The same, but it is wiped after a failure alone: what a call left, the next one can find. */
#define GATE_KEPT		2

/**
 * gate_delete - take it back
 *
 * No context may have it any more.  Return: 0; -EBUSY it is being called.
 */
int gate_delete(struct wedge_gate *gate);

/**
 * gate_call - call it; in an sthread that has it, or from the program
 * @arg: what @fn gets second.  What it points to must be in a tag that both have.
 *
 * On the caller's thread.  Return: what @fn returned; -EACCES the sthread does not have it, or
 * the gate made a system call that it may not make; -EFAULT it failed; -ENOMEM; -EAGAIN.
 */
long gate_call(struct wedge_gate *gate, void *arg);

/**
 * gate_failure - how the last call of it that failed ended
 *
 * Return: false: none did, and @result is as it was.
 */
bool gate_failure(struct wedge_gate *gate, struct sthread_result *result);

#ifdef __cplusplus
}
#endif

#endif /* WEDGE_H */
