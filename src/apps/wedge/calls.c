// SPDX-License-Identifier: MIT
/*
 * System calls of ring 3, in ring 0 on pgroot.
 *
 * Linux goes past the page tables of the process, so it never gets a pointer of an sthread's.
 * What a call reads is copied first, by the sthread's own page tables and after they were
 * asked; what it writes is copied back in the same way.  The copy lies in the cell, where
 * only ring 0 reaches it.  So only calls whose arguments are known can be allowed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "internal.h"

#define ANY		4	/* the descriptor with any right */
#define NO		7	/* no such argument */

/* How a call looks: the numbers are those of arguments. */
struct shape {
	short nr;
	unsigned char fd;	/* the right that its argument 0 needs, as descriptor; 0: none */
	unsigned char in, out;	/* a pointer to what it reads, to what it writes; or NO */
	unsigned char len;	/* argument with the size; NO: @bytes */
	unsigned char zero;	/* those that must be 0, as bits */
	short bytes;
};

static const struct shape shapes[] = {
	{ SYS_read, WEDGE_R, NO, 1, 2, 0, 0 },
	{ SYS_pread64, WEDGE_R, NO, 1, 2, 0, 0 },
	{ SYS_recvfrom, WEDGE_R, NO, 1, 2, 1 << 4 | 1 << 5, 0 },
	{ SYS_write, WEDGE_W, 1, NO, 2, 0, 0 },
	{ SYS_pwrite64, WEDGE_W, 1, NO, 2, 0, 0 },
	{ SYS_sendto, WEDGE_W, 1, NO, 2, 1 << 4 | 1 << 5, 0 },
	{ SYS_fsync, WEDGE_W, NO, NO, NO, 0, 0 },
	{ SYS_fdatasync, WEDGE_W, NO, NO, NO, 0, 0 },
	{ SYS_ftruncate, WEDGE_W, NO, NO, NO, 0, 0 },
	{ SYS_lseek, ANY, NO, NO, NO, 0, 0 },
	{ SYS_close, ANY, NO, NO, NO, 0, 0 },
	{ SYS_shutdown, ANY, NO, NO, NO, 0, 0 },
	{ SYS_fstat, ANY, NO, 1, NO, 0, sizeof(struct stat) },
	{ SYS_clock_gettime, 0, NO, 1, NO, 0, sizeof(struct timespec) },
	{ SYS_clock_getres, 0, NO, 1, NO, 0, sizeof(struct timespec) },
	{ SYS_gettimeofday, 0, NO, 0, NO, 1 << 1, sizeof(struct timeval) },
	{ SYS_nanosleep, 0, 0, NO, NO, 1 << 1, sizeof(struct timespec) },
	{ SYS_clock_nanosleep, 0, 2, NO, NO, 1 << 3, sizeof(struct timespec) },
	{ SYS_getrandom, 0, NO, 0, 1, 0, 0 },
	{ SYS_getpid, 0, NO, NO, NO, 0, 0 },
	{ SYS_getppid, 0, NO, NO, NO, 0, 0 },
	{ SYS_gettid, 0, NO, NO, NO, 0, 0 },
	{ SYS_getuid, 0, NO, NO, NO, 0, 0 },
	{ SYS_geteuid, 0, NO, NO, NO, 0, 0 },
	{ SYS_getgid, 0, NO, NO, NO, 0, 0 },
	{ SYS_getegid, 0, NO, NO, NO, 0, 0 },
};

static const struct shape *shape_of(unsigned long nr)
{
	for (unsigned int i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if ((unsigned long)shapes[i].nr == nr)
			return &shapes[i];
	return NULL;
}

bool calls_known(unsigned int nr)
{
	return shape_of(nr) || nr == SYS_newfstatat || nr == SYS_ioctl;
}

/* ---- ends ---------------------------------------------------------------------------------- */

static void __attribute__((noreturn)) refuse(struct dune_tf *tf)
{
	struct sthread_result *r = &wedge_current->result;

	r->call = (long)tf->rax;
	r->rip = tf->rip;
	for (unsigned int i = 0; i < 6; i++)
		r->args[i] = (&tf->rdi)[i];
	run_end(STHREAD_CALL, 0);
}

static void __attribute__((noreturn)) bad_pointer(struct dune_tf *tf, uintptr_t addr, bool write)
{
	struct sthread_result *r = &wedge_current->result;

	r->call = (long)tf->rax;
	r->addr = addr;
	r->rip = tf->rip;
	r->err = FEC_U | (write ? FEC_W : 0);
	run_end(STHREAD_FAULT, 0);
}

/* ---- arguments --------------------------------------------------------------------------------- */

static uint64_t arg(const struct dune_tf *tf, unsigned int i)
{
	return (&tf->rdi)[i];
}

_Static_assert(offsetof(struct dune_tf, r9) - offsetof(struct dune_tf, rdi) == 40,
	       "the arguments follow each other");

static void *bounce(void)
{
	return (void *)(wedge_current->base + BOUNCE_AT);
}

static void copy_in(struct dune_tf *tf, uintptr_t from, size_t len)
{
	if (!cell_may(wedge_current, from, len, false))
		bad_pointer(tf, from, false);
	load_cr3(wedge_current->cr3);
	copy_bytes(bounce(), (void *)from, len);
	load_cr3(entry_of(pgroot));
}

static void copy_out(uintptr_t to, size_t len)
{
	load_cr3(wedge_current->cr3);
	copy_bytes((void *)to, bounce(), len);
	load_cr3(entry_of(pgroot));
}

static bool fd_allowed(uint64_t fd, unsigned int right)
{
	const struct sthread_sc *sc = &wedge_current->sc;
	bool allowed = false;

	for (unsigned int i = 0; i < sc->fds; i++)
		if (sc->fd[i].fd == (int)fd)
			allowed = right == ANY || sc->fd[i].rights & right;
	return learn_fd(wedge_current, (int)fd, right, allowed);
}

/* malloc() asks for random bytes. */
static bool call_allowed(unsigned long nr)
{
	bool allowed = nr < WEDGE_CALLS && wedge_current->sc.calls[nr / 64] >> nr % 64 & 1;

	return nr == SYS_getrandom || learn_call(wedge_current, nr, allowed);
}

static long linux_call(long nr, const uint64_t a[6])
{
	register uint64_t r10 asm("r10") = a[3];
	register uint64_t r8 asm("r8") = a[4];
	register uint64_t r9 asm("r9") = a[5];
	long ret;

	asm volatile("syscall" : "=a"(ret)
		     : "0"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}

/* ---- calls of a known shape --------------------------------------------------------------------- */

static void forget_fd(int fd)
{
	struct sthread_sc *sc = &wedge_current->sc;

	for (unsigned int i = 0; i < sc->fds; i++)
		if (sc->fd[i].fd == fd)
			sc->fd[i--] = sc->fd[--sc->fds];
}

static long shaped(struct dune_tf *tf, const struct shape *s)
{
	uint64_t a[6];
	size_t len = s->len == NO ? (size_t)s->bytes : arg(tf, s->len);
	long ret;

	for (unsigned int i = 0; i < 6; i++) {
		a[i] = arg(tf, i);
		if (s->zero >> i & 1 && a[i])
			refuse(tf);
	}
	if (s->fd && !fd_allowed(a[0], s->fd))
		refuse(tf);
	if (len > BOUNCE_SIZE)
		len = BOUNCE_SIZE;	/* Linux may do less than it is asked for, too */
	if (s->len != NO)
		a[s->len] = len;
	if (s->in != NO) {
		copy_in(tf, a[s->in], len);
		a[s->in] = (uint64_t)bounce();
	}
	if (s->out != NO) {
		if (!cell_may(wedge_current, a[s->out], len, true))
			bad_pointer(tf, a[s->out], true);
		a[s->out] = (uint64_t)bounce();
	}
	ret = linux_call(s->nr, a);
	if (s->out != NO && ret >= 0)
		copy_out(arg(tf, s->out), s->len == NO || (size_t)ret > len ? len : (size_t)ret);
	if (s->nr == SYS_close && !ret)
		forget_fd((int)a[0]);
	return ret;
}

/* libc's fstat(). */
static long stat_of_fd(struct dune_tf *tf)
{
	static const struct shape as_fstat = { SYS_fstat, ANY, NO, 2, NO, 0, sizeof(struct stat) };
	uint64_t a[6] = { arg(tf, 0), (uint64_t)bounce() };
	long ret;

	if (arg(tf, 3) != AT_EMPTY_PATH)
		refuse(tf);
	copy_in(tf, arg(tf, 1), 1);
	if (*(char *)bounce() || !fd_allowed(a[0], ANY))
		refuse(tf);
	if (!cell_may(wedge_current, arg(tf, 2), (size_t)as_fstat.bytes, true))
		bad_pointer(tf, arg(tf, 2), true);
	ret = linux_call(SYS_fstat, a);
	if (!ret)
		copy_out(arg(tf, 2), (size_t)as_fstat.bytes);
	return ret;
}

/* ---- memory ---------------------------------------------------------------------------------------- */

static bool in_heap(uint64_t addr, uint64_t len)
{
	const struct cell *c = wedge_current;

	return !PGOFF(addr) && addr >= c->base + HEAP_AT && addr <= c->heap_end &&
	       len <= c->heap_end - addr;
}

static long map(struct dune_tf *tf)
{
	uintptr_t at;

	if (arg(tf, 2) & ~(uint64_t)(PROT_READ | PROT_WRITE) ||
	    (arg(tf, 3) & ~(uint64_t)(MAP_NORESERVE | MAP_STACK)) != (MAP_PRIVATE | MAP_ANONYMOUS))
		refuse(tf);
	if (!arg(tf, 1))
		return -EINVAL;
	at = cell_heap_grow(wedge_current, arg(tf, 1));
	return at ? (long)at : -ENOMEM;
}

static long discard(uint64_t addr, uint64_t len)
{
	uint64_t a[6] = { addr, len, MADV_DONTNEED };

	return len ? linux_call(SYS_madvise, a) : 0;
}

static long memory(struct dune_tf *tf)
{
	struct cell *c = wedge_current;
	uint64_t addr = arg(tf, 0), len = (arg(tf, 1) + PGMASK) & ~PGMASK;
	long ret;

	switch (tf->rax) {
	case SYS_mmap:
		return map(tf);
	case SYS_brk:
		return 0;	/* less than was asked for: there is none, and libc asks mmap() */
	case SYS_mremap:
		return -ENOMEM;	/* libc copies then */
	default:
		break;
	}
	if (!in_heap(addr, len))
		refuse(tf);
	if (tf->rax == SYS_mprotect)
		return arg(tf, 2) & PROT_EXEC ? -EACCES : 0;
	if (tf->rax == SYS_madvise)
		return arg(tf, 2) == MADV_DONTNEED ? discard(addr, len) : 0;
	ret = discard(addr, len);
	if (!ret && addr + len == c->heap_end)
		c->heap_end = addr;
	return ret;
}

/*
 * On a word of a tag or of the cell, which Linux knows at the same address.  A library's
 * variable is not: nobody else can have such a lock, so there is nobody to wait for or to wake.
 */
static long futex(struct dune_tf *tf)
{
	unsigned int op = (unsigned int)arg(tf, 1) & FUTEX_CMD_MASK;
	bool wait = op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET;
	uint64_t a[6] = { arg(tf, 0), arg(tf, 1), arg(tf, 2), 0, 0, arg(tf, 5) };

	if ((!wait && op != FUTEX_WAKE && op != FUTEX_WAKE_BITSET) || a[0] & 3)
		refuse(tf);
	if (!cell_may(wedge_current, a[0], 4, !wait))
		bad_pointer(tf, a[0], !wait);
	if (a[0] - arena >= ARENA_SIZE) {
		if (wait)
			refuse(tf);
		return 0;
	}
	if (wait && arg(tf, 3)) {
		copy_in(tf, arg(tf, 3), sizeof(struct timespec));
		a[3] = (uint64_t)bounce();
	}
	return linux_call(SYS_futex, a);
}

/* ---- libwedge's own ----------------------------------------------------------------------------- */

static unsigned int rights_to(const struct wedge_tag *tag)
{
	const struct sthread_sc *sc = &wedge_current->sc;

	for (unsigned int i = 0; i < sc->tags; i++)
		if (sc->tag[i].tag && sc->tag[i].tag == tag)
			return sc->tag[i].rights;
	return 0;
}

static long tag_alloc(struct dune_tf *tf)
{
	struct wedge_tag *tag = (struct wedge_tag *)arg(tf, 1);

	if (!(rights_to(tag) & WEDGE_W))
		refuse(tf);
	return (long)smalloc(arg(tf, 0), tag);
}

static long tag_release(struct dune_tf *tf)
{
	struct wedge_tag *tag = tag_at(arg(tf, 0));

	if (!tag || !(rights_to(tag) & WEDGE_W))
		refuse(tf);
	if (!piece_free(tag, arg(tf, 0)))
		bad_pointer(tf, arg(tf, 0), true);
	return 0;
}

static long gate(struct dune_tf *tf)
{
	struct wedge_gate *g = (struct wedge_gate *)arg(tf, 0);

	if (!sc_has_gate(&wedge_current->sc, g))
		return -EACCES;
	return gate_do(g, (void *)arg(tf, 1));
}

static long handle(struct dune_tf *tf)
{
	const struct shape *s;

	switch (tf->rax) {
	case NR_GATE:
		return gate(tf);
	case NR_SMALLOC:
		return tag_alloc(tf);
	case NR_SFREE:
		return tag_release(tf);
	case SYS_exit:
	case SYS_exit_group:
		run_end(STHREAD_RETURNED, arg(tf, 0));
	case SYS_mmap:
	case SYS_munmap:
	case SYS_mprotect:
	case SYS_madvise:
	case SYS_mremap:
	case SYS_brk:
		return memory(tf);
	case SYS_futex:
		return futex(tf);
	case SYS_sched_yield:
		return linux_call(SYS_sched_yield, (uint64_t[6]){ 0 });
	default:
		break;
	}
	if (!call_allowed(tf->rax))
		refuse(tf);
	if (tf->rax == SYS_newfstatat)
		return stat_of_fd(tf);
	if (tf->rax == SYS_ioctl)	/* libc asks whether a descriptor is a terminal */
		return -ENOTTY;
	s = shape_of(tf->rax);
	return s ? shaped(tf, s) : -ENOSYS;
}

void calls_handle(struct dune_tf *tf)
{
	tf->rax = (uint64_t)handle(tf);
}
