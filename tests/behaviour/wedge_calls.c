/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/*
 * System calls of sthreads: those that the context names, on the descriptors that it names,
 * with pointers to what the sthread has; libc in an sthread.
 */
#define _GNU_SOURCE
#include "../wedge.h"

#include <fcntl.h>
#include <libdune/cpu-x86.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

static char secret[64] = "the key of the kingdom";
static int file, other;
static struct wedge_tag *tag;

/* What an sthread may know of the test: variables of the program it has none. */
struct work {
	int fd, nr;
	char *buf;
	size_t len;
	void *addr;
};

static void refused(const struct sthread_sc *sc, void *(*fn)(void *), void *arg, long nr,
		    const char *what)
{
	int ret = wedge_run(sc, fn, arg);
	char text[120];

	sthread_describe(&wedge_last, text, sizeof(text));
	ktap_ok(ret == -EACCES && wedge_last.end == STHREAD_CALL && wedge_last.call == nr,
		"%s: %s", what, text);
}

static void *do_read(void *arg)
{
	struct work *w = arg;

	return (void *)read(w->fd, w->buf, w->len);
}

static void *do_write(void *arg)
{
	struct work *w = arg;

	return (void *)write(w->fd, w->buf, w->len);
}

static void *do_call(void *arg)
{
	struct work *w = arg;

	return (void *)syscall(w->nr, w->fd, w->buf, w->len, 0, 0, 0);
}

static void *do_close(void *arg)
{
	struct work *w = arg;
	long ret = close(w->fd);

	return (void *)(ret ? ret : write(w->fd, w->buf, w->len));
}

static void *do_printf(void *arg)
{
	(void)arg;
	printf("a line of %d\n", 42);
	fflush(stdout);
	return NULL;
}

static void *do_libc(void *arg)
{
	struct work *w = arg;
	char *p[100], text[100], *big = malloc(3 << 20);
	struct timespec ts;
	unsigned long sum = 0;

	for (unsigned int i = 0; i < 100; i++) {
		p[i] = malloc(i * 100 + 1);
		memset(p[i], (int)i, i * 100 + 1);
	}
	for (unsigned int i = 0; i < 100; i++) {
		sum += (unsigned char)p[i][i * 100];
		free(p[i]);
	}
	memset(big, 7, 3 << 20);
	big = realloc(big, 5 << 20);
	sum += (unsigned long)big[(3 << 20) - 1];
	free(big);
	snprintf(text, sizeof(text), "%lu %.3f", sum, 2.5);
	strcpy(w->buf, text);
	errno = 0;
	if (clock_gettime(CLOCK_MONOTONIC, &ts) || ts.tv_sec + ts.tv_nsec == 0)
		return (void *)1;
	if (read(w->fd, w->buf, 1) != -1 || errno != EBADF)
		return (void *)2;
	return (void *)sum;
}

static void *do_exit(void *arg)
{
	(void)arg;
	_exit(23);
}

static void *do_abort(void *arg)
{
	(void)arg;
	abort();
}

static void *do_deep(void *arg)
{
	volatile char big[200 << 10];

	for (size_t i = 0; i < sizeof(big); i += 1024)
		big[i] = 1;
	big[100] = *(char *)arg;
	return (void *)(uintptr_t)big[100];
}

static void *do_endless(void *arg)
{
	volatile char big[64 << 10];

	big[0] = *(char *)arg;
	return big[0] == 'x' ? (char *)do_endless(arg) + big[0] : arg;
}

#define CODE(name, text)							\
	static void *name(void *arg) { asm volatile(text : : "r"(arg) : "memory"); return NULL; }

CODE(do_ud, "ud2")
CODE(do_hlt, "hlt")
CODE(do_int80, "int $0x80")
CODE(do_int3, "int3")
CODE(do_vmcall, "vmcall")
CODE(do_vmmcall, "vmmcall")
CODE(do_cr3, "mov %%cr3, %%rax")
CODE(do_step, "pushfq; orl $0x100, (%%rsp); popfq; nop")

static void *do_divide(void *arg)
{
	volatile int zero = 0;

	(void)arg;
	return (void *)(uintptr_t)(7 / zero);
}

static void raises(void *(*fn)(void *), unsigned int vector, const char *what)
{
	struct sthread_sc sc;
	int ret;

	sc_init(&sc);
	ret = wedge_run(&sc, fn, NULL);
	ktap_ok(ret == -EFAULT && wedge_last.end == STHREAD_EXCEPTION && wedge_last.vector == vector,
		"%s is exception %u (got %u)", what, vector, wedge_last.vector);
}

static void instructions(void)
{
	raises(do_ud, T_ILLOP, "UD2");
	raises(do_hlt, T_GPFLT, "HLT");
	raises(do_int80, T_GPFLT, "INT 0x80");
	raises(do_int3, T_BRKPT, "INT3");
	raises(do_vmcall, T_ILLOP, "VMCALL");
	raises(do_vmmcall, T_ILLOP, "VMMCALL");
	raises(do_cr3, T_GPFLT, "MOV from CR3");
	raises(do_divide, T_DIVIDE, "a division by 0");
	raises(do_step, T_DEBUG, "a single step");
}

static void descriptors(struct work *w)
{
	struct sthread_sc sc;
	char text[8] = "";

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, tag, WEDGE_RW), "sc_mem_add");
	w->fd = file;
	w->len = 4;
	strcpy(w->buf, "new");
	refused(&sc, do_read, w, SYS_read, "a call that is not in the context");
	wedge_must(sc_call_add(&sc, SYS_read), "sc_call_add");
	wedge_must(sc_call_add(&sc, SYS_write), "sc_call_add");
	refused(&sc, do_read, w, SYS_read, "a descriptor that is not");
	wedge_must(sc_fd_add(&sc, file, WEDGE_R), "sc_fd_add");
	wedge_returns(&sc, do_read, w, 4, "both are");
	ktap_ok(!memcmp(w->buf, "abcd", 4), "and the data is there");
	refused(&sc, do_write, w, SYS_write, "one to be read is not for writing");
	w->fd = other;
	refused(&sc, do_read, w, SYS_read, "and only that one");
	wedge_must(sc_fd_add(&sc, other, WEDGE_W), "sc_fd_add");
	wedge_returns(&sc, do_write, w, 4, "one for writing");
	ktap_ok(pread(other, text, 4, 0) == 4 && !memcmp(text, "abcd", 4), "which comes there");
	refused(&sc, do_read, w, SYS_read, "is not to be read");
	refused(&sc, do_close, w, SYS_close, "nor closed, unless the context has close()");
	wedge_must(sc_call_add(&sc, SYS_close), "sc_call_add");
	w->fd = dup(other);
	wedge_must(sc_fd_add(&sc, w->fd, WEDGE_W), "sc_fd_add");
	refused(&sc, do_close, w, SYS_write, "what was closed is in the context no more");
}

static void pointers(struct work *w)
{
	char *mine = w->buf, text[64];
	struct sthread_sc sc;
	int ret, pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		ktap_bail("socketpair: %s", strerror(errno));
	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, tag, WEDGE_R), "sc_mem_add");
	wedge_must(sc_fd_add(&sc, pair[0], WEDGE_RW), "sc_fd_add");
	wedge_must(sc_call_add(&sc, SYS_write), "sc_call_add");
	wedge_must(sc_call_add(&sc, SYS_read), "sc_call_add");
	w->fd = pair[0];
	w->buf = secret;
	w->len = sizeof(secret);
	wedge_faults(&sc, do_write, w, secret, "write() of a secret");
	ktap_ok(recv(pair[1], text, sizeof(text), MSG_DONTWAIT) < 0 && errno == EAGAIN,
		"which did not get out");
	w->buf = mine;
	ktap_ok(write(pair[1], "12345678", 8) == 8, "there is something to be read");
	wedge_faults(&sc, do_read, w, mine, "read() into a tag that is read-only");
	w->buf = mine + tag_size(tag) - 64 - 4;
	w->len = 64;
	ret = wedge_run(&sc, do_write, w);
	ktap_ok(ret == -EFAULT && wedge_last.end == STHREAD_FAULT, "write() beyond the end of it");
	w->buf = (char *)-4096;
	ret = wedge_run(&sc, do_write, w);
	ktap_ok(ret == -EFAULT && wedge_last.end == STHREAD_FAULT, "write() of the kernel's memory");
	w->buf = mine;
	w->len = 4;
	wedge_returns(&sc, do_write, w, 4, "write() of what it has");
	ktap_eq(sc_call_add(&sc, SYS_openat), -ENOTSUP, "openat() cannot be allowed");
	ktap_eq(sc_call_add(&sc, WEDGE_CALLS), -EINVAL, "nor a call that Linux does not have");
	w->nr = SYS_openat;
	refused(&sc, do_call, w, SYS_openat, "and is refused");
	w->nr = 451;
	refused(&sc, do_call, w, 451, "as calls of high numbers");
	w->nr = 1 << 30;
	refused(&sc, do_call, w, 1 << 30, "and of no numbers");
	close(pair[0]);
	close(pair[1]);
}

static void libc(struct work *w)
{
	struct sthread_sc sc;
	char text[64] = "", how[120];
	int saved, out = open("/tmp", O_TMPFILE | O_RDWR, 0600);

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, tag, WEDGE_RW), "sc_mem_add");
	wedge_must(sc_call_add(&sc, SYS_read), "sc_call_add");
	wedge_must(sc_call_add(&sc, SYS_clock_gettime), "sc_call_add");
	wedge_must(sc_fd_add(&sc, 900, WEDGE_R), "sc_fd_add");
	w->fd = 900;
	wedge_returns(&sc, do_libc, w, 4957, "malloc(), snprintf(), the clock, errno");
	ktap_ok(!strcmp(w->buf, "4957 2.500"), "with their results (%s)", w->buf);

	fflush(stdout);
	saved = dup(1);
	dup2(out, 1);
	wedge_must(sc_call_add(&sc, SYS_write), "sc_call_add");
	wedge_must(sc_call_add(&sc, SYS_newfstatat), "sc_call_add");
	wedge_must(sc_call_add(&sc, SYS_fstat), "sc_call_add");
	wedge_must(sc_call_add(&sc, SYS_ioctl), "sc_call_add");
	wedge_must(sc_fd_add(&sc, 1, WEDGE_W), "sc_fd_add");
	wedge_run(&sc, do_printf, w);
	dup2(saved, 1);
	close(saved);
	sthread_describe(&wedge_last, how, sizeof(how));
	ktap_ok(wedge_last.end == STHREAD_RETURNED && pread(out, text, sizeof(text) - 1, 0) == 13 &&
		!strcmp(text, "a line of 42\n"), "printf(): %s", how);
	close(out);
	wedge_returns(&sc, do_exit, NULL, 23, "_exit() ends the sthread alone");
	ktap_eq(wedge_run(&sc, do_abort, NULL), -EACCES, "abort() is a call it may not make");
	strcpy(w->buf, "x");
	wedge_returns(&sc, do_deep, w->buf, 'x', "a stack of 200 KB");
	ktap_eq(wedge_run(&sc, do_endless, w->buf), -EFAULT, "endless recursion");
	wedge_returns(&sc, do_deep, w->buf, 'x', "after which all is as before");
}

int main(void)
{
	struct work *w;

	ktap_plan(DUNE_TEST_ENTER + 11 + 12 + 9 + 8 + DUNE_TEST_LEAVE);
	dune_test_enter();
	wedge_must(wedge_init(), "wedge_init");
	tag = wedge_tag(1);
	w = smalloc(sizeof(*w), tag);
	w->buf = smalloc(4096, tag);
	file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	other = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	if (file < 0 || other < 0 || pwrite(file, "abcdefgh", 8, 0) != 8)
		ktap_bail("files: %s", strerror(errno));
	descriptors(w);
	pointers(w);
	instructions();
	libc(w);
	return dune_test_done();
}
