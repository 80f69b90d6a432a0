/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 slow-bochs=11 */
/*
 * A core file shows the program: where it stood, its general and vector registers,
 * and the signal, as if it had not been in Dune mode.  So it does of another thread
 * that executes code, or that sleeps in a call that the module makes.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"

#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/procfs.h>
#include <sys/resource.h>
#include <sys/user.h>

#define PATTERN		"/proc/sys/kernel/core_pattern"
#define CORE		"/tmp/dunelab.core"
#define MAGIC		"0x1122334455667788"

static char own_stack[65536] __attribute__((used, aligned(4096)));

/* A function that loads every register it may and then does @action at NAME_at. */
#define ENDING(name, rax, action)						\
void name(void);								\
extern const char name##_at[];							\
asm(".text\n.globl " #name "\n" #name ":\n\t"					\
    "mov $" MAGIC ", %r8\n\tmovq %r8, %xmm5\n\tmovq %r8, %xmm12\n\t"		\
    "lea 1(%r8), %r9\n\tlea 2(%r8), %r10\n\tlea 4(%r8), %r12\n\t"		\
    "lea 5(%r8), %r13\n\tlea 6(%r8), %r14\n\tlea 7(%r8), %r15\n\t"		\
    "lea 8(%r8), %rbx\n\tlea 9(%r8), %rbp\n\t"					\
    "lea own_stack + 65536(%rip), %rsp\n\t"					\
    rax "\n\tcmp %r8, %r8\n"							\
    ".globl " #name "_at\n" #name "_at: " action "\n\tud2\n")

ENDING(by_write, "xor %edi, %edi", "movl $1, 24(%rdi)");
ENDING(by_jump, "mov $16, %edi", "jmp *%rdi");
ENDING(by_ud2, "xor %edi, %edi", "ud2");
ENDING(by_int3, "xor %edi, %edi", "int3");
ENDING(by_division, "xor %ecx, %ecx\n\txor %edx, %edx", "idivl %ecx");
ENDING(by_abort, "mov own_pid(%rip), %edi\n\tmov own_tid(%rip), %esi\n\tmov $6, %edx\n\t"
       "mov $234, %eax", "syscall");
ENDING(by_int80, "mov own_pid(%rip), %ebx\n\tmov $3, %ecx\n\tmov $37, %eax", "int $0x80");
#define ARRIVES "mov own_arrived(%rip), %rdi\n\tmovl $1, (%rdi)\n\t"
ENDING(by_quit, ARRIVES "xor %ecx, %ecx", "1: jmp 1b");
ENDING(by_sleep, ARRIVES "mov $34, %eax", "syscall");
ENDING(by_read, ARRIVES "mov own_pipe(%rip), %edi\n\tlea own_pid(%rip), %rsi\n\tmov $1, %edx\n\t"
       "xor %eax, %eax", "syscall");
ENDING(by_stack, "xor %esp, %esp", "push %rax");

int own_pid __attribute__((used)), own_tid __attribute__((used)), own_pipe[2];
/* Shared: whoever is to be found in a loop or a call is a few instructions before it. */
volatile int *own_arrived __attribute__((used));

struct ending {
	const char *name;
	void (*fn)(void);
	const char *at;
	int sig;
	long behind;		/* bytes from the label to where it stands at last */
	bool blocked;		/* the program blocks the signal */
	bool thread;		/* not in the first thread */
	const struct ending *beside;	/* what another thread does meanwhile */
};

static const struct ending looping = { .fn = by_quit, .at = by_quit_at };
static const struct ending reading = { .fn = by_read, .at = by_read_at, .behind = 2 };

static const struct ending endings[] = {
	{ "a write to nowhere", by_write, by_write_at, SIGSEGV, 0, false, false, NULL },
	{ "one while SIGSEGV is blocked", by_write, by_write_at, SIGSEGV, 0, true, false, NULL },
	{ "a jump to nowhere", by_jump, (const char *)16, SIGSEGV, 0, false, false, NULL },
	{ "a push without a stack", by_stack, by_stack_at, SIGSEGV, 0, false, false, NULL },
	{ "an invalid opcode", by_ud2, by_ud2_at, SIGILL, 0, false, false, NULL },
	{ "a breakpoint", by_int3, by_int3_at, SIGTRAP, 1, false, false, NULL },
	{ "a division", by_division, by_division_at, SIGFPE, 0, false, false, NULL },
	{ "a thread's division", by_division, by_division_at, SIGFPE, 0, false, true, NULL },
	{ "SIGABRT sent to itself", by_abort, by_abort_at, SIGABRT, 2, false, false, NULL },
	{ "SIGQUIT sent to itself by int $0x80", by_int80, by_int80_at, SIGQUIT, 2, false, false, NULL },
	{ "SIGQUIT in a loop", by_quit, by_quit_at, SIGQUIT, 0, false, false, NULL },
	{ "a division beside a loop", by_division, by_division_at, SIGFPE, 0, false, false,
	  &looping },
	{ "a division beside a read()", by_division, by_division_at, SIGFPE, 0, false, false,
	  &reading },
	{ "SIGQUIT in a pause", by_sleep, by_sleep_at, SIGQUIT, 2, false, false, NULL },
};

#define NR_ENDINGS (sizeof(endings) / sizeof(endings[0]))

static volatile pid_t thread_tid;

static void *thread(void *arg)
{
	thread_tid = (pid_t)syscall(SYS_gettid);
	sched_yield();		/* RAX is compared: 0, not the number */
	((const struct ending *)arg)->fn();
	return NULL;
}

/*
 * From one CPU to another, which takes @tid off both for a moment and so saves its vector
 * registers.  From 6.1 on a core file may show what was saved last and not what they are:
 * coredump_wait() asks wait_task_inactive() for a thread in TASK_ANY, and one that still
 * runs is in no such state.
 */
static void move(pid_t tid)
{
	for (int i = 0; cpus_count() > 1 && i < 2; i++)
		if (cpus_pin(tid, i))
			ktap_bail("sched_setaffinity: %s", strerror(errno));
}

/* @tid is where it stays: asleep in its call, or in its loop, whose code is one jump. */
static bool stays(const volatile pid_t *tid, const struct ending *e)
{
	/* No floating point: MXCSR is compared, and what is forked inherits it. */
	for (int i = 0; i < 60000 && !*own_arrived; i++)
		usleep(1000);
	if (e->fn != by_quit)
		return *own_arrived && child_asleep(*tid);
	move(*tid);
	usleep(20000);
	return *own_arrived;
}

static int end(void *arg)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	const struct ending *e = arg;
	sigset_t set;
	pthread_t t;

	setrlimit(RLIMIT_CORE, &all);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	own_pid = getpid();
	own_tid = (int)syscall(SYS_gettid);
	sigemptyset(&set);
	sigaddset(&set, e->sig);
	if (e->blocked)
		sigprocmask(SIG_BLOCK, &set, NULL);
	if (e->thread) {
		pthread_create(&t, NULL, thread, arg);
		pthread_join(t, NULL);
	}
	if (e->beside) {
		if (pipe(own_pipe) || pthread_create(&t, NULL, thread, (void *)e->beside) ||
		    (cpus_count() > 1 && cpus_pin(0, 0)) || !stays(&thread_tid, e->beside))
			return 2;
	}
	e->fn();
	return 1;
}

#define MAX_THREADS 2

struct core {
	struct core_thread {		/* the one that ends the process is the first */
		struct elf_prstatus status;
		struct user_fpregs_struct fp;
		bool has_fp;
	} thread[MAX_THREADS];
	unsigned int nr_threads;
	siginfo_t info;
	bool has_info;
};

static void take_note(struct core *c, uint32_t type, const void *desc, size_t size)
{
	struct core_thread *t = &c->thread[c->nr_threads];

	if (type == NT_PRSTATUS && c->nr_threads < MAX_THREADS && size == sizeof(t->status)) {
		memcpy(&t->status, desc, size);
		c->nr_threads++;
	} else if (type == NT_FPREGSET && c->nr_threads && size == sizeof(t->fp) &&
		   !t[-1].has_fp) {
		memcpy(&t[-1].fp, desc, size);
		t[-1].has_fp = true;
	} else if (type == NT_SIGINFO && !c->has_info && size == sizeof(c->info)) {
		memcpy(&c->info, desc, size);
		c->has_info = true;
	}
}

static void read_notes(struct core *c, const char *at, size_t size)
{
	while (size >= sizeof(Elf64_Nhdr)) {
		const Elf64_Nhdr *n = (const void *)at;
		size_t name = (n->n_namesz + 3U) & ~3U, desc = (n->n_descsz + 3U) & ~3U;

		if (sizeof(*n) + name + desc > size)
			return;
		take_note(c, n->n_type, at + sizeof(*n) + name, n->n_descsz);
		at += sizeof(*n) + name + desc;
		size -= sizeof(*n) + name + desc;
	}
}

static bool read_core(struct core *c)
{
	static char notes[1 << 20];
	int fd = open(CORE, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr e;
	Elf64_Phdr ph;

	memset(c, 0, sizeof(*c));
	if (fd < 0 || pread(fd, &e, sizeof(e), 0) != sizeof(e))
		return false;
	for (int i = 0; i < e.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(e.e_phoff + i * sizeof(ph))) != sizeof(ph))
			break;
		if (ph.p_type == PT_NOTE && ph.p_filesz <= sizeof(notes) &&
		    pread(fd, notes, ph.p_filesz, (off_t)ph.p_offset) == (ssize_t)ph.p_filesz)
			read_notes(c, notes, ph.p_filesz);
	}
	close(fd);
	unlink(CORE);
	return c->nr_threads && c->thread[c->nr_threads - 1].has_fp && c->has_info;
}

static const struct user_regs_struct *regs(const struct core_thread *t)
{
	return (const void *)&t->status.pr_reg;
}

static uint64_t xmm(const struct core_thread *t, unsigned int nr)
{
	uint64_t low;

	memcpy(&low, &t->fp.xmm_space[nr * 4], sizeof(low));
	return low;
}

#define RF	0x10000ULL	/* of one instruction only */

static bool same(const char *what, uint64_t dune, uint64_t native)
{
	if (dune != native)
		ktap_note("%s: 0x%llx, natively 0x%llx", what, (unsigned long long)dune,
			  (unsigned long long)native);
	return dune == native;
}

#define SAME(reg) same(#reg, regs(dune)->reg, regs(native)->reg)

static bool same_registers(const struct ending *e, const struct core_thread *dune,
			   const struct core_thread *native)
{
	bool ok = SAME(rcx);

	/* Of a call that ends early the kernel shows an error of its own. */
	if (e->fn != by_sleep && e->fn != by_read)
		ok &= SAME(rax);
	if (e->fn != by_int80)		/* the process */
		ok &= SAME(rbx);
	ok &= SAME(rbp);
	ok &= SAME(rsp);
	ok &= SAME(r8);
	ok &= SAME(r9);
	ok &= SAME(r10);
	ok &= SAME(r12);
	ok &= SAME(r13);
	ok &= SAME(r14);
	ok &= SAME(r15);
	ok &= SAME(rip);
	ok &= SAME(cs);
	ok &= SAME(ss);
	ok &= same("eflags", regs(dune)->eflags & ~RF, regs(native)->eflags & ~RF);
	ok &= same("xmm5", xmm(dune, 5), xmm(native, 5));
	ok &= same("xmm12", xmm(dune, 12), xmm(native, 12));
	return ok & same("mxcsr", dune->fp.mxcsr, native->fp.mxcsr);
}

static bool same_info(const siginfo_t *dune, const siginfo_t *native)
{
	return same("si_code", (uint64_t)dune->si_code, (uint64_t)native->si_code) &&
	       (native->si_code <= 0 ||
		same("si_addr", (uint64_t)dune->si_addr, (uint64_t)native->si_addr));
}

static int wait_for_end(pid_t pid, const struct ending *e)
{
	int status = -1;

	if (e->fn == by_quit || e->fn == by_sleep)
		kill(pid, stays(&pid, e) ? SIGQUIT : SIGKILL);
	waitpid(pid, &status, 0);
	return status;
}

/* What the core file of a native child is, and that it is what we think. */
static bool good_native(const struct core *c, const struct ending *e)
{
	const struct ending *who[] = { e, e->beside };
	bool ok = c->thread[0].status.pr_cursig == e->sig;

	for (unsigned int i = 0; i < MAX_THREADS && who[i]; i++)
		ok &= c->nr_threads > i &&
		      same("rip", regs(&c->thread[i])->rip,
			   (uint64_t)who[i]->at + (uint64_t)who[i]->behind) &&
		      same("r8", regs(&c->thread[i])->r8, strtoull(MAGIC, NULL, 16));
	return ok;
}

static void compare(struct child *native, const struct ending *e)
{
	struct core want, got;
	bool ok, complete;
	int status;
	pid_t pid;

	*own_arrived = 0;
	child_go(native);
	status = wait_for_end(native->pid, e);
	ok = read_core(&want) && good_native(&want, e);
	ok &= same("the native end", (uint64_t)status, (uint64_t)e->sig | 0x80);

	/* Another thread may just wait for a CPU, or be between two DUNE_RUN: known-issues.md. */
	for (int tries = 3; tries; tries--) {
		*own_arrived = 0;
		pid = fork();
		if (pid == 0)
			_exit(dune_test_cpl() ? 99 : end((void *)e));
		status = wait_for_end(pid, e);
		complete = read_core(&got);
		if (!complete || !e->beside || cpus_count() == 1 ||
		    regs(&got.thread[1])->rip == regs(&want.thread[1])->rip)
			break;
		ktap_note("%s: the other thread is shown in the stub", e->name);
	}
	ok &= same("the end", (uint64_t)status, (uint64_t)e->sig | 0x80);
	ok &= complete && got.thread[0].status.pr_cursig == e->sig &&
	      same_registers(e, &got.thread[0], &want.thread[0]) &&
	      same_info(&got.info, &want.info);
	/* With one CPU the other thread waits for it behind DUNE_RUN: docs/known-issues.md. */
	if (e->beside && cpus_count() == 1)
		ktap_note("%s: with one CPU only that there is another thread", e->name);
	if (ok && e->beside)
		ok = got.nr_threads > 1 && (cpus_count() == 1 ||
		     same_registers(e->beside, &got.thread[1], &want.thread[1]));
	ktap_ok(ok, "%s", e->name);
}

/* An action that was asked for and is still the default one looks like it. */
static bool actions_look_default(void)
{
	struct sigaction old = { .sa_handler = SIG_IGN };
	bool ok = true;

	for (int sig = 1; sig < 32; sig++)
		ok &= sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_DFL;
	signal(SIGQUIT, SIG_IGN);
	ok &= signal(SIGQUIT, SIG_DFL) == SIG_IGN;
	return ok && signal(SIGQUIT, SIG_DFL) == SIG_DFL;
}

int main(void)
{
	struct child native[NR_ENDINGS];
	char old[256] = "";
	int fd = open(PATTERN, O_RDWR | O_CLOEXEC);

	ktap_plan(DUNE_TEST_ENTER + 1 + NR_ENDINGS + DUNE_TEST_LEAVE);
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	if (fd < 0 || read(fd, old, sizeof(old) - 1) < 1 ||
	    pwrite(fd, CORE, sizeof(CORE) - 1, 0) != sizeof(CORE) - 1)
		ktap_bail("%s: %s", PATTERN, strerror(errno));
	own_arrived = child_shared(sizeof(*own_arrived));
	for (unsigned int i = 0; i < NR_ENDINGS; i++)
		native[i] = child_start(end, (void *)&endings[i]);
	dune_test_enter();
	ktap_ok(actions_look_default(), "the default actions look like it");
	for (unsigned int i = 0; i < NR_ENDINGS; i++)
		compare(&native[i], &endings[i]);
	if (pwrite(fd, old, strlen(old), 0) < 0)
		ktap_note("%s: %s", PATTERN, strerror(errno));
	return dune_test_done();
}
