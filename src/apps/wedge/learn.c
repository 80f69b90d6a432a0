// SPDX-License-Identifier: MIT
/* sthread_learn(): an sthread that is given what it asks for, and what that was. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define PAGES_MAX	1024
#define FDS_MAX		64
#define MISSING		8	/* beside rights: the context has not all of them */

struct learned {
	unsigned int nr_pages, nr_fds;
	struct {
		uintptr_t va;
		bool write;
	} page[PAGES_MAX];
	struct {
		int fd;
		unsigned int rights;
	} fd[FDS_MAX];
	unsigned int calls[WEDGE_CALLS];
	bool missing[WEDGE_CALLS];
};

/* Asked for twice: it is nothing that this could give. */
bool learn_page(struct cell *c, uintptr_t va, bool write)
{
	struct learned *l = c->learning;
	unsigned int i;

	if (va >> 47)
		return false;
	va &= ~PGMASK;
	for (i = 0; i < l->nr_pages && l->page[i].va != va; i++)
		;
	if (i == PAGES_MAX || (i < l->nr_pages && (l->page[i].write || !write)))
		return false;
	if (!cell_give(c, va, write))
		return false;
	l->page[i].va = va;
	l->page[i].write = write;
	l->nr_pages += i == l->nr_pages;
	return true;
}

bool learn_call(struct cell *c, unsigned long nr, bool allowed)
{
	struct learned *l = c->learning;

	if (!l || nr >= WEDGE_CALLS || !calls_known((unsigned int)nr))
		return allowed;
	l->calls[nr]++;
	l->missing[nr] |= !allowed;
	return true;
}

bool learn_fd(struct cell *c, int fd, unsigned int right, bool allowed)
{
	struct learned *l = c->learning;
	unsigned int i;

	if (!l)
		return allowed;
	for (i = 0; i < l->nr_fds && l->fd[i].fd != fd; i++)
		;
	if (i == FDS_MAX)
		return false;
	if (i == l->nr_fds)
		l->fd[l->nr_fds++].rights = 0;
	l->fd[i].fd = fd;
	l->fd[i].rights |= (right & WEDGE_RW) | (allowed ? 0 : MISSING);
	return true;
}

/* ---- the report --------------------------------------------------------------------------- */

static const char *words(unsigned int rights)
{
	static const char *const all[] = { "-", "r", "w", "rw" };

	return all[rights & WEDGE_RW];
}

/* By the bits of the tag's own tables; then they are cleared. */
static void count_pages(const struct wedge_tag *t, unsigned int *read, unsigned int *written)
{
	*read = *written = 0;
	for (size_t i = 0; i < t->size / BIG_PGSIZE; i++)
		for (unsigned int k = 0; k < NPTENTRIES; k++) {
			*read += !!(t->l0[i][k] & PTE_A);
			*written += !!(t->l0[i][k] & PTE_D);
			t->l0[i][k] &= ~(PTE_A | PTE_D);
		}
}

static bool in_context(const struct sthread_sc *sc, const struct wedge_tag *t, bool write)
{
	for (unsigned int i = 0; i < sc->tags; i++)
		if (sc->tag[i].tag == t && (!write || sc->tag[i].rights & WEDGE_W))
			return true;
	return false;
}

static void report_tag(int out, const struct sthread_sc *sc, const struct wedge_tag *t)
{
	unsigned int read, written;

	count_pages(t, &read, &written);
	if (read)
		dprintf(out, "%c tag 0x%lx %s: %u pages read, %u written\n",
			in_context(sc, t, written) ? ' ' : '+', (unsigned long)t->base,
			words(written ? WEDGE_RW : WEDGE_R), read, written);
}

static int by_address(const void *a, const void *b)
{
	const uintptr_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void report_pages(int out, struct learned *l)
{
	qsort(l->page, l->nr_pages, sizeof(l->page[0]), by_address);
	for (unsigned int i = 0, k; i < l->nr_pages; i = k) {
		uintptr_t va = l->page[i].va, base;
		Dl_info where = { 0 };

		for (k = i + 1; k < l->nr_pages && l->page[k].va == va + (k - i) * PGSIZE &&
		     l->page[k].write == l->page[i].write; k++)
			;
		if (tag_at(va))
			continue;
		dladdr((void *)va, &where);
		base = (uintptr_t)where.dli_fbase;
		dprintf(out, "+ 0x%lx %s: %u pages of %s", (unsigned long)va,
			l->page[i].write ? "rw" : "r", k - i,
			where.dli_fname ? where.dli_fname : "no object");
		dprintf(out, where.dli_fname ? "+0x%lx\n" : "\n", (unsigned long)(va - base));
	}
}

static void report(int out, const struct sthread_sc *sc, struct learned *l)
{
	tags_each(report_tag, out, sc);
	report_pages(out, l);
	for (unsigned int i = 0; i < l->nr_fds; i++)
		dprintf(out, "%c descriptor %d %s\n", l->fd[i].rights & MISSING ? '+' : ' ',
			l->fd[i].fd, words(l->fd[i].rights));
	for (unsigned int i = 0; i < WEDGE_CALLS; i++)
		if (l->calls[i])
			dprintf(out, "%c system call %u: %u times\n", l->missing[i] ? '+' : ' ', i,
				l->calls[i]);
}

static void forget(int out, const struct sthread_sc *sc, const struct wedge_tag *t)
{
	unsigned int read, written;

	(void)out;
	(void)sc;
	count_pages(t, &read, &written);
}

int sthread_learn(const struct sthread_sc *sc, void *(*fn)(void *arg), void *arg, int out,
		  struct sthread_result *result)
{
	struct learned *l;
	struct cell *c;
	int ret;

	if (!wedge_ready || ring())
		return -EPERM;
	if (!fn || sc->flags)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	ret = cell_get(sc, &c);
	if (ret) {
		free(l);
		return ret;
	}
	tags_each(forget, out, sc);
	c->learning = l;
	ret = run(c, (uintptr_t)fn, (uint64_t)arg, 0);
	c->learning = NULL;
	if (!ret)
		ret = result_error(&c->result);
	if (result)
		*result = c->result;
	report(out, sc, l);
	for (unsigned int i = 0; i < l->nr_pages; i++)
		cell_take(c, l->page[i].va);
	cell_put(c);
	free(l);
	return ret;
}
