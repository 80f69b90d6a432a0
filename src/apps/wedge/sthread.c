// SPDX-License-Identifier: MIT
/* sthread_create(), sthread_join(). */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

static int begin(struct sthread *s)
{
	int ret = cell_get(s->sc, &s->cell);

	if (!ret)
		s->cell->result = (struct sthread_result){ 0 };
	return ret;
}

static int end(struct sthread *s)
{
	int ret = run(s->cell, (uintptr_t)s->fn, (uint64_t)s->arg, 0);

	s->result = s->cell->result;
	cell_put(s->cell);
	return ret;
}

/* ---- in a thread of its own ------------------------------------------------------------------ */

static int failed(long ret)
{
	return ret < 0 ? -errno : 0;
}

/* libc's functions would change all threads; these are the kernel's, for one. */
static int change_user(const struct sthread_sc *sc)
{
	int ret = 0;

	if (sc->root) {
		ret = failed(unshare(CLONE_FS));
		if (!ret)
			ret = failed(chroot(sc->root));
		if (!ret)
			ret = failed(chdir("/"));
	}
	if (!ret && sc->gid != (gid_t)-1) {
		ret = failed(syscall(SYS_setgroups, 0, NULL));
		if (!ret)
			ret = failed(syscall(SYS_setresgid, sc->gid, sc->gid, sc->gid));
	}
	if (!ret && sc->uid != (uid_t)-1)
		ret = failed(syscall(SYS_setresuid, sc->uid, sc->uid, sc->uid));
	return ret;
}

static void tell(struct sthread *s, int error)
{
	s->error = error;
	__atomic_store_n(&s->ready, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &s->ready, 129, 1, NULL, NULL, 0);	/* FUTEX_WAKE_PRIVATE */
}

static void *thread(void *arg)
{
	struct sthread *s = arg;
	int ret = change_user(s->sc);

	if (!ret)
		ret = begin(s);
	tell(s, ret);
	if (!ret)
		s->error = end(s);
	return NULL;
}

static int start_thread(struct sthread *s)
{
	int ret = -pthread_create(&s->thread, NULL, thread, s);

	if (ret)
		return ret;
	while (!__atomic_load_n(&s->ready, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &s->ready, 128, 0, NULL, NULL, 0);	/* FUTEX_WAIT_PRIVATE */
	ret = s->error;
	if (ret)
		pthread_join(s->thread, NULL);
	return ret;
}

/* ---- */

static void discard(struct sthread *s)
{
	free(s->sc);
	free(s);
}

int sthread_create(struct sthread **sthread, const struct sthread_sc *sc,
		   void *(*fn)(void *arg), void *arg)
{
	struct sthread *s;
	int ret;

	if (!wedge_ready || ring())
		return -EPERM;
	if (!fn || sc->flags & ~(unsigned int)STHREAD_THREAD)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (s)
		s->sc = malloc(sizeof(*s->sc));
	if (!s || !s->sc) {
		free(s);
		return -ENOMEM;
	}
	*s->sc = *sc;
	s->fn = fn;
	s->arg = arg;
	ret = sc_hold(sc);
	if (!ret) {
		ret = sc->flags & STHREAD_THREAD ? start_thread(s) : begin(s);
		if (ret)
			sc_drop(sc);
	}
	if (ret)
		discard(s);
	else
		*sthread = s;
	return ret;
}

int sthread_join(struct sthread *s, struct sthread_result *result)
{
	int ret;

	if (s->sc->flags & STHREAD_THREAD) {
		pthread_join(s->thread, NULL);
		ret = s->error;
	} else {
		ret = end(s);
	}
	if (!ret)
		ret = result_error(&s->result);
	if (result)
		*result = s->result;
	sc_drop(s->sc);
	discard(s);
	return ret;
}

void sthread_describe(const struct sthread_result *r, char *text, size_t size)
{
	const char *how = r->err & FEC_I ? "execute" : r->err & FEC_W ? "write to" : "read";

	switch (r->end) {
	case STHREAD_RETURNED:
		snprintf(text, size, "returned 0x%lx", (unsigned long)r->value);
		break;
	case STHREAD_FAULT:
		snprintf(text, size, "may not %s 0x%lx (at 0x%lx)", how, (unsigned long)r->addr,
			 (unsigned long)r->rip);
		break;
	case STHREAD_EXCEPTION:
		snprintf(text, size, "exception %u, error code 0x%x (at 0x%lx)", r->vector, r->err,
			 (unsigned long)r->rip);
		break;
	default:
		snprintf(text, size, "may not make system call %ld(0x%lx, 0x%lx, 0x%lx) (at 0x%lx)",
			 r->call, (unsigned long)r->args[0], (unsigned long)r->args[1],
			 (unsigned long)r->args[2], (unsigned long)r->rip);
		break;
	}
}
