/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * Hardware faults of a program that has no trap handlers of its own: in Dune
 * mode they become the signal, with the siginfo and the ucontext, that they are
 * natively.  Each case runs in a native child and in Dune mode, and the two
 * notes are compared.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <ucontext.h>

struct note {
	int sig, code;
	long addr;		/* less the address that the case is about */
	long rip;		/* less the place that faults */
	long trapno, err;
	int ran;
};

static struct note *notes;	/* [NR_CASES], shared with the native child */
static struct note now;
static sigjmp_buf back;
static uintptr_t about, place;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	now = (struct note) {
		.sig = sig, .code = info->si_code, .addr = (long)((uintptr_t)info->si_addr - about),
		.rip = uc->uc_mcontext.gregs[REG_RIP] - (long)place,
		.trapno = uc->uc_mcontext.gregs[REG_TRAPNO],
		.err = uc->uc_mcontext.gregs[REG_ERR], .ran = 1,
	};
	siglongjmp(back, 1);
}

static unsigned char *page(int prot)
{
	unsigned char *p = mmap(NULL, 8192, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		ktap_bail("mmap: %s", strerror(errno));
	return p;
}

/* The next instruction is the one that faults. */
#define HERE	"leaq 771f(%%rip), %%r11\n\tmovq %%r11, %[place]\n771:\n\t"

static void read_at(uintptr_t p)
{
	asm volatile(HERE "movb (%[p]), %%al" : [place] "=m"(place) : [p] "r"(p) : "rax", "r11", "memory");
}

static void write_at(uintptr_t p)
{
	asm volatile(HERE "movb $1, (%[p])" : [place] "=m"(place) : [p] "r"(p) : "r11", "memory");
}

static void null_read(void)
{
	about = 0x10;
	read_at(about);
}

static void unmapped_write(void)
{
	unsigned char *p = page(PROT_READ);

	munmap(p, 8192);
	about = (uintptr_t)p + 5;
	write_at(about);
}

static void readonly_write(void)
{
	about = (uintptr_t)page(PROT_READ) + 7;
	read_at(about);
	write_at(about);
}

static void none_read(void)
{
	about = (uintptr_t)page(PROT_NONE) + 9;
	read_at(about);
}

static void kernel_read(void)
{
	about = 0xffff888000000000UL;
	read_at(about);
}

static void noncanonical_read(void)
{
	about = 0;
	read_at(0x8000000000000000UL);
}

static void exec_data(void)
{
	unsigned char *p = page(PROT_READ | PROT_WRITE);

	p[0] = 0xc3;
	about = place = (uintptr_t)p;
	((void (*)(void))(void *)p)();
}

static void exec_unmapped(void)
{
	unsigned char *p = page(PROT_READ);

	munmap(p, 8192);
	about = place = (uintptr_t)p;
	((void (*)(void))(void *)p)();
}

static void truncated_file(void)
{
	int fd = memfd_create("truncated", MFD_CLOEXEC);
	unsigned char *p;

	if (ftruncate(fd, 8192))
		ktap_bail("ftruncate: %s", strerror(errno));
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	p[4096] = 1;
	if (ftruncate(fd, 4096))
		ktap_bail("ftruncate: %s", strerror(errno));
	close(fd);
	about = (uintptr_t)p + 4096;
	read_at(about);
}

static void divide(void)
{
	asm volatile(HERE "divl %%ecx" : [place] "=m"(place) : "a"(1), "c"(0), "d"(0) : "r11");
	about = 0;
}

static void invalid_opcode(void)
{
	asm volatile(HERE "ud2" : [place] "=m"(place) : : "r11");
}

static void breakpoint(void)
{
	about = 0;
	asm volatile(HERE "int3" : [place] "=m"(place) : : "r11");
}

static void single_step(void)
{
	asm volatile(HERE "pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop"
		     : [place] "=m"(place) : : "r11", "memory");
}

static void sse_divide(void)
{
	unsigned int mxcsr = 0x1f80 & ~(1U << 9);
	double zero = 0, one = 1;

	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	asm volatile(HERE "divsd %[zero], %[one]"
		     : [place] "=m"(place), [one] "+x"(one) : [zero] "x"(zero) : "r11");
}

static void x87_overflow(void)
{
	unsigned short control = 0x37f & ~(1U << 3);
	double big = 1e308;

	asm volatile("fldcw %0" : : "m"(control));
	asm volatile("fldl %[big]\n\tfmull %[big]\n\tfstpl %[big]\n\t" HERE "fwait"
		     : [place] "=m"(place), [big] "+m"(big) : : "r11");
}

static void misaligned_sse(void)
{
	unsigned char *p = page(PROT_READ | PROT_WRITE);

	about = 0;
	asm volatile(HERE "movaps %%xmm0, (%[p])" : [place] "=m"(place) : [p] "r"(p + 1)
		     : "r11", "memory");
}

/*
 * addr_at: si_addr is the faulting instruction.  emulators: not raised on every
 * one (QEMU's TCG has no SSE exceptions); then it is not raised here either.
 */
static const struct {
	const char *name;
	void (*fn)(void);
	bool addr_at, emulators;
} cases[] = {
	{ "read of a null pointer", null_read, false, false },
	{ "write to an unmapped page", unmapped_write, false, false },
	{ "write to a read-only page", readonly_write, false, false },
	{ "read of a PROT_NONE page", none_read, false, false },
	{ "read of a kernel address", kernel_read, false, false },
	{ "read of a non-canonical address", noncanonical_read, false, false },
	{ "jump into data", exec_data, false, false },
	{ "jump to an unmapped page", exec_unmapped, false, false },
	{ "read behind a truncated file", truncated_file, false, false },
	{ "division by zero", divide, true, false },
	{ "invalid opcode", invalid_opcode, true, false },
	{ "breakpoint", breakpoint, false, false },
	{ "single step", single_step, true, false },
	{ "SSE division by zero", sse_divide, true, true },
	{ "x87 overflow", x87_overflow, true, false },
	{ "misaligned SSE access", misaligned_sse, false, false },
};

#define NR_CASES	(sizeof(cases) / sizeof(cases[0]))

static void run_cases(struct note *into)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_fault;
	act.sa_flags = SA_SIGINFO;
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaction(sigs[i], &act, NULL);
	for (volatile size_t i = 0; i < NR_CASES; i++) {
		about = 0;
		memset(&now, 0, sizeof(now));
		if (sigsetjmp(back, 1) == 0)
			cases[i].fn();
		if (cases[i].addr_at && now.ran)	/* addresses differ between runs of the same code */
			now.addr -= (long)place;
		into[i] = now;
	}
}

static int native(void *arg)
{
	(void)arg;
	run_cases(notes);
	return 0;
}

/* ---- the end of a process ------------------------------------------------ */

static int overflow(int depth)
{
	volatile char frame[4096];

	frame[0] = (char)depth;
	return depth < 0 ? 0 : overflow(depth + 1) + frame[0];
}

static char alternate[65536];
static volatile int survived;

static void on_overflow(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	survived = sig;
	siglongjmp(back, 1);
}

static void stack_overflow(void)
{
	stack_t st = { .ss_sp = alternate, .ss_size = sizeof(alternate), .ss_flags = 0 };
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_overflow;
	act.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigaltstack(&st, NULL);
	sigaction(SIGSEGV, &act, NULL);
	if (sigsetjmp(back, 1) == 0)
		overflow(0);
	ktap_eq(survived, SIGSEGV, "a stack overflow is handled on the alternate stack");
}

static int end_of(void (*fn)(void), bool blocked)
{
	int status = -1;
	sigset_t all;
	pid_t pid = fork();

	if (pid == 0) {
		for (int sig = 1; sig < 32; sig++)
			signal(sig, SIG_DFL);
		sigfillset(&all);
		if (blocked)
			sigprocmask(SIG_SETMASK, &all, NULL);
		fn();
		_exit(100);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void abort_now(void)
{
	abort();
}

static void term_now(void)
{
	kill(getpid(), SIGTERM);
	for (;;)
		asm volatile("pause");
}

static void ends(void)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	ktap_eq(WTERMSIG(end_of(null_read, false)), SIGSEGV, "default action: SIGSEGV");
	ktap_eq(WTERMSIG(end_of(null_read, true)), SIGSEGV, "also when it is blocked");
	ktap_eq(WTERMSIG(end_of(divide, false)), SIGFPE, "SIGFPE");
	ktap_eq(WTERMSIG(end_of(invalid_opcode, true)), SIGILL, "a blocked SIGILL");
	ktap_eq(WTERMSIG(end_of(breakpoint, false)), SIGTRAP, "SIGTRAP");
	ktap_eq(WTERMSIG(end_of(truncated_file, false)), SIGBUS, "SIGBUS");
	ktap_eq(WTERMSIG(end_of(abort_now, false)), SIGABRT, "abort()");
	ktap_eq(WTERMSIG(end_of(term_now, false)), SIGTERM, "SIGTERM in a busy loop");
}

int main(void)
{
	struct note *mine = calloc(NR_CASES, sizeof(*mine));
	struct child c;

	ktap_plan(1 + DUNE_TEST_ENTER + (int)NR_CASES + 9 + DUNE_TEST_LEAVE);
	notes = child_shared(NR_CASES * sizeof(*notes));
	c = child_start(native, NULL);
	child_go(&c);
	ktap_eq(child_wait(&c), 0, "the native child noted all cases");
	dune_test_enter();

	run_cases(mine);
	for (size_t i = 0; i < NR_CASES; i++) {
		const struct note *n = &notes[i], *m = &mine[i];

		if (!ktap_ok((n->ran || cases[i].emulators) && !memcmp(n, m, sizeof(*n)), "%s: signal %d, code %d",
			     cases[i].name, n->sig, n->code))
			ktap_note("native: addr %lx rip %lx trapno %ld err %lx; here: ran %d sig %d code %d addr %lx rip %lx trapno %ld err %lx",
				  n->addr, n->rip, n->trapno, n->err, m->ran, m->sig, m->code,
				  m->addr, m->rip, m->trapno, m->err);
	}
	stack_overflow();
	ends();
	return dune_test_done();
}
