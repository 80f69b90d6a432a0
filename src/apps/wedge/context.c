// SPDX-License-Identifier: MIT
/* Security contexts, and wedge_init(). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

bool wedge_ready;

int wedge_init(void)
{
	int ret;

	if (wedge_ready)
		return 0;
	if (ring() || !dune_in_guest())
		return -EPERM;
	fflush(NULL);	/* what is in stdio's buffers now, each sthread would have too */
	ret = arena_init();
	if (!ret)
		ret = tls_find();
	if (!ret)
		ret = model_init();
	if (!ret)
		ret = run_handlers();
	wedge_ready = !ret;
	return ret;
}

void sc_init(struct sthread_sc *sc)
{
	memset(sc, 0, sizeof(*sc));
	sc->uid = (uid_t)-1;
	sc->gid = (gid_t)-1;
}

static int memory(struct sthread_sc *sc, struct wedge_tag *tag, uintptr_t begin, uintptr_t end,
		  unsigned int rights)
{
	if (rights != WEDGE_R && rights != WEDGE_RW)
		return -EINVAL;
	if (sc->tags == WEDGE_TAGS_MAX)
		return -ENOSPC;
	sc->tag[sc->tags].tag = tag;
	sc->tag[sc->tags].begin = begin;
	sc->tag[sc->tags].end = end;
	sc->tag[sc->tags++].rights = rights;
	return 0;
}

int sc_mem_add(struct sthread_sc *sc, struct wedge_tag *tag, unsigned int rights)
{
	return memory(sc, tag, tag->base, tag->base + tag->size, rights);
}

int sc_pages_add(struct sthread_sc *sc, void *begin, void *end, unsigned int rights)
{
	/* What shares a page with them would be given, too. */
	if (PGOFF(begin) || PGOFF(end) || begin >= end || (uintptr_t)end - (uintptr_t)begin > MIB)
		return -EINVAL;
	return memory(sc, NULL, (uintptr_t)begin, (uintptr_t)end, rights);
}

int sc_fd_add(struct sthread_sc *sc, int fd, unsigned int rights)
{
	if (fd < 0 || !rights || rights & ~(unsigned int)WEDGE_RW)
		return -EINVAL;
	if (sc->fds == WEDGE_FDS_MAX)
		return -ENOSPC;
	sc->fd[sc->fds].fd = fd;
	sc->fd[sc->fds++].rights = rights;
	return 0;
}

int sc_gate_add(struct sthread_sc *sc, struct wedge_gate *gate)
{
	if (sc->gates == WEDGE_GATES_MAX)
		return -ENOSPC;
	sc->gate[sc->gates++] = gate;
	return 0;
}

bool sc_has_gate(const struct sthread_sc *sc, const struct wedge_gate *gate)
{
	for (unsigned int i = 0; i < sc->gates; i++)
		if (sc->gate[i] == gate)
			return true;
	return false;
}

int sc_call_add(struct sthread_sc *sc, unsigned int nr)
{
	if (nr >= WEDGE_CALLS)
		return -EINVAL;
	if (!calls_known(nr))
		return -ENOTSUP;
	sc->calls[nr / 64] |= 1UL << nr % 64;
	return 0;
}

int sc_user(struct sthread_sc *sc, uid_t uid, gid_t gid, const char *root)
{
	if (!(sc->flags & STHREAD_THREAD))
		return -EINVAL;
	sc->uid = uid;
	sc->gid = gid;
	sc->root = root;
	return 0;
}

/* ---- who uses what ---------------------------------------------------------------------- */

static void drop_first(const struct sthread_sc *sc, unsigned int tags)
{
	for (unsigned int i = 0; i < tags; i++)
		if (sc->tag[i].tag)
			tag_drop(sc->tag[i].tag);
}

int sc_hold(const struct sthread_sc *sc)
{
	if (sc->tags > WEDGE_TAGS_MAX || sc->fds > WEDGE_FDS_MAX || sc->gates > WEDGE_GATES_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < sc->tags; i++)
		if (sc->tag[i].tag && !tag_hold(sc->tag[i].tag)) {
			drop_first(sc, i);
			return -EINVAL;
		}
	return 0;
}

void sc_drop(const struct sthread_sc *sc)
{
	drop_first(sc, sc->tags);
}
