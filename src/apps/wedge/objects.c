// SPDX-License-Identifier: MIT
/* What the process has: text, read-only data, the libraries' variables, the caller's TLS. */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/random.h>

#include "internal.h"

#define TCB_GUARD	0x28		/* the stack protector's canary, x86-64's ABI of libc */
#define TCB_DTV		8
#define PTHREAD_SIZE	2304		/* where libc does not tell */
#define FIXUPS_MAX	64
#define COPIED_MAX	(16 * MIB)

struct finding {
	struct object_range *ranges;
	unsigned int max, nr;
	int error;
};

static uintptr_t program_end;	/* of its variables: without randomization the heap follows */

static uintptr_t down(uintptr_t a)
{
	return a & ~PGMASK;
}

static uintptr_t up(uintptr_t a)
{
	return (a + PGMASK) & ~PGMASK;
}

static void note(struct finding *f, uintptr_t begin, uintptr_t end, bool exec, bool copy)
{
	if (begin >= end)
		return;
	if (f->nr == f->max) {
		f->error = -E2BIG;
		return;
	}
	f->ranges[f->nr++] = (struct object_range){ begin, end, exec, copy, false };
}

/* Linux has nothing at some pages of [vvar], a SIGBUS for who reads there. */
static void note_holes(struct finding *f, uintptr_t begin, uintptr_t end)
{
	unsigned int at = f->nr;

	note(f, begin, end, false, false);
	if (f->nr > at)
		f->ranges[at].holes = true;
}

static bool covers(const struct dl_phdr_info *o, const void *p)
{
	for (unsigned int i = 0; i < o->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &o->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && (uintptr_t)p - o->dlpi_addr - ph->p_vaddr < ph->p_memsz)
			return true;
	}
	return false;
}

/* Are all its functions bound?  Else the way to them is a variable that ring 0 uses. */
static bool bound(const struct dl_phdr_info *o, const ElfW(Phdr) *ph)
{
	bool lazy = false, now = false;

	for (const ElfW(Dyn) *d = (void *)(o->dlpi_addr + ph->p_vaddr); d->d_tag; d++) {
		lazy |= d->d_tag == DT_JMPREL;
		now |= d->d_tag == DT_BIND_NOW || (d->d_tag == DT_FLAGS && d->d_un.d_val & DF_BIND_NOW) ||
		       (d->d_tag == DT_FLAGS_1 && d->d_un.d_val & DF_1_NOW);
	}
	return now || !lazy;
}

static int on_object(struct dl_phdr_info *o, size_t size, void *arg)
{
	struct finding *f = arg;
	/* The program's variables stay its own, and so do libdune's and libwedge's. */
	bool program = !o->dlpi_name[0], interpreter = false;
	bool ours = program || covers(o, &arena) || strstr(o->dlpi_name, "/libdune.so");
	uintptr_t relro = 0, relro_end = 0;

	(void)size;
	for (unsigned int i = 0; i < o->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &o->dlpi_phdr[i];

		if (ph->p_type == PT_GNU_RELRO) {
			relro = down(o->dlpi_addr + ph->p_vaddr);
			relro_end = down(o->dlpi_addr + ph->p_vaddr + ph->p_memsz);
		}
		if (ph->p_type == PT_DYNAMIC && ours && !bound(o, ph))
			f->error = -ENOEXEC;
		interpreter |= ph->p_type == PT_INTERP;
	}
	if (program && !interpreter)	/* libc's variables are the program's */
		f->error = -ENOTSUP;
	note(f, relro, relro_end, false, false);
	for (unsigned int i = 0; i < o->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &o->dlpi_phdr[i];
		uintptr_t begin = down(o->dlpi_addr + ph->p_vaddr);
		uintptr_t end = up(o->dlpi_addr + ph->p_vaddr + ph->p_memsz);

		if (ph->p_type != PT_LOAD)
			continue;
		if (program && end > program_end)
			program_end = end;
		if (!(ph->p_flags & PF_W))
			note(f, begin, end, ph->p_flags & PF_X, false);
		else if (!ours)
			note(f, relro_end > begin && relro_end <= end ? relro_end : begin, end, false, true);
	}
	return f->error;
}

static struct finding *mapping;
static uintptr_t tls_first, tls_end;	/* the caller's, whole pages */

/*
 * The dynamic linker's books: who looks up a function or ends by exit() reads them.  Where
 * they begin in a mapping, by the lowest link_map, which is among the first that it
 * allocates; 0: they are not there.  What lies below came later and is no business of an
 * sthread's: libdune's blocks may, in the same mapping.
 */
static uintptr_t books_in(const struct dune_procmap_entry *e)
{
	uintptr_t first = 0;

	for (const struct link_map *m = _r_debug.r_map; m; m = m->l_next)
		if ((uintptr_t)m - e->begin < e->end - e->begin && (!first || (uintptr_t)m < first))
			first = (uintptr_t)m;
	return down(first);
}

/* The caller's TLS is often in the same mapping, and stays its own: ring 0 uses it. */
static void note_books(uintptr_t begin, uintptr_t end)
{
	uintptr_t first = tls_first < begin || tls_first > end ? end : tls_first;

	note(mapping, begin, first, false, true);
	note(mapping, tls_end < first ? first : tls_end, end, false, true);
}

static void on_mapping(const struct dune_procmap_entry *e)
{
	if (e->end - e->begin > COPIED_MAX)
		return;
	if (e->type == PROCMAP_TYPE_HEAP)	/* in one mapping with the end of .bss, maybe */
		note(mapping, e->begin < program_end ? program_end : e->begin, e->end, false, true);
	else if (e->type == PROCMAP_TYPE_ANONYMOUS && e->w && e->p && books_in(e))
		note_books(books_in(e), e->end);
	else if (e->type == PROCMAP_TYPE_VVAR)
		note_holes(mapping, e->begin, e->end);
}

int objects_find(struct object_range *ranges, unsigned int max, unsigned int *nr)
{
	struct finding f = { .ranges = ranges, .max = max };

	dl_iterate_phdr(on_object, &f);
	mapping = &f;
	if (!f.error)
		dune_procmap_iterate(on_mapping);
	mapping = NULL;
	*nr = f.nr;
	return f.error;
}

/* ---- thread-local storage -------------------------------------------------------- */

size_t tls_size;

static char image[TLS_MAX] __attribute__((aligned(4096)));
static size_t tp_at;			/* the thread pointer's place in it */
static unsigned int fixups;
static uint32_t fixup[FIXUPS_MAX + 1];	/* words that point into it, by their offset */
static uint64_t seed;

static int on_tls(struct dl_phdr_info *o, size_t size, void *arg)
{
	uintptr_t *lo = arg, at = (uintptr_t)o->dlpi_tls_data;
	uintptr_t tp = (uintptr_t)__builtin_thread_pointer();

	(void)size;
	if (at && at < tp && tp - at < TLS_MAX && at < *lo)
		*lo = at;
	return 0;
}

/* The words of [@from, @end) of the image that point into [@lo, @hi) point into the image. */
static int find_fixups(size_t from, size_t end, uintptr_t lo, uintptr_t hi, uintptr_t base)
{
	for (size_t at = from; at + 8 <= end; at += 8) {
		uint64_t *word = (uint64_t *)(image + at);

		if (*word < lo || *word >= hi)
			continue;
		if (fixups == FIXUPS_MAX)
			return -E2BIG;
		*word -= base;
		fixup[fixups++] = (uint32_t)at;
	}
	return 0;
}

/*
 * A thread's TLS as libc sets it up is the block of each module below the thread pointer, libc's
 * own above, and a vector of the blocks (dtv).  It is copied from the caller's.
 */
int tls_find(void)
{
	uintptr_t tp = (uintptr_t)__builtin_thread_pointer(), lo = tp, hi, base;
	const unsigned int *size = dlsym(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
	const uint64_t *dtv = *(const uint64_t **)(tp + TCB_DTV);
	size_t dtv_at, dtv_len = (dtv[-2] + 2) * 16;
	int ret;

	dl_iterate_phdr(on_tls, &lo);
	hi = tp + (size ? *size : PTHREAD_SIZE);
	base = down(lo);
	tls_first = base;
	tls_end = up(hi);
	dtv_at = (hi - base + 15) & ~15UL;
	if (dtv_at + dtv_len > TLS_MAX - 4 * PGSIZE)
		return -E2BIG;
	memcpy(image + (lo - base), (void *)lo, hi - lo);
	memcpy(image + dtv_at, dtv - 2, dtv_len);
	tp_at = tp - base;
	fixups = 0;
	ret = find_fixups((lo - base + 7) & ~7UL, dtv_at, lo, hi, base);
	if (!ret)
		ret = find_fixups(dtv_at, dtv_at + dtv_len, lo, tp, base);
	if (ret)
		return ret;
	*(uint64_t *)(image + tp_at + TCB_DTV) = dtv_at + 16;
	fixup[fixups++] = (uint32_t)(tp_at + TCB_DTV);
	tls_size = up(dtv_at + dtv_len);
	return getrandom(&seed, sizeof(seed), 0) == sizeof(seed) ? 0 : -errno;
}

/* splitmix64, from a secret: no sthread can tell another one's. */
static uint64_t guard(void)
{
	uint64_t z = __atomic_add_fetch(&seed, 0x9e3779b97f4a7c15UL, __ATOMIC_RELAXED);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9UL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebUL;
	return (z ^ z >> 31) & ~0xffUL;
}

uintptr_t tls_put(uintptr_t at)
{
	copy_words((void *)at, image, tls_size);
	for (unsigned int i = 0; i < fixups; i++)
		*(uint64_t *)(at + fixup[i]) += at;
	tls_guard(at + tp_at);
	return at + tp_at;
}

void tls_guard(uintptr_t tp)
{
	*(uint64_t *)(tp + TCB_GUARD) = guard();
}
