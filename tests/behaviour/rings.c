/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * Ring 3 of guest mode: the way there and back, its system calls, exceptions and
 * signals, and what it cannot do.
 */
#include "../dune_test.h"
#include "../trap.h"

#include <pthread.h>
#include <string.h>
#include <sys/time.h>

#define NR_END		1000	/* the handler ends ring 3 with rdi */
#define NR_NOTHING	1001
#define NR_NEST		1002
#define NR_TLS		1003
#define NR_BAD_RIP	1004
#define NR_CLOBBER	1005

#define RFLAGS_TF	(1UL << 8)

/*
 * Code for ring 3: one stretch of text per case.  Each ends by the call NR_END with
 * its result in rdi; r15 is free for the case's argument.
 */
#define USER_CODE(name, text)						\
	extern char name[];						\
	asm(".text\n" ".balign 16\n" ".globl " #name "\n" #name ":\n" text "\n" \
	    "	mov $1000, %eax\n" "	syscall\n" "	ud2\n")

USER_CODE(user_cpl, "mov %cs, %edi");
USER_CODE(user_getpid, "mov $39, %eax; syscall; mov %rax, %rdi");
USER_CODE(user_stack, "push $77; pop %rdi");
USER_CODE(user_vmcall, "mov $39, %eax; vmcall; mov $1, %edi");
USER_CODE(user_vmmcall, "mov $39, %eax; vmmcall; mov $1, %edi");
USER_CODE(user_cr0, "mov %cr0, %rdi; mov $1, %edi");
USER_CODE(user_set_cr4, "xor %eax, %eax; mov %rax, %cr4; mov $1, %edi");
USER_CODE(user_dr7, "mov %dr7, %rdi; mov $1, %edi");
USER_CODE(user_set_dr0, "xor %eax, %eax; mov %rax, %dr0; mov $1, %edi");
USER_CODE(user_msr, "mov $0xc0000082, %ecx; rdmsr; mov $1, %edi");
USER_CODE(user_port, "mov $0x80, %edx; out %al, %dx; mov $1, %edi");
USER_CODE(user_cli, "cli; mov $1, %edi");
USER_CODE(user_lgdt, "lgdt (%rsp); mov $1, %edi");
USER_CODE(user_hlt, "hlt; mov $1, %edi");
USER_CODE(user_swapgs, "swapgs; mov $1, %edi");
USER_CODE(user_iopl, "pushfq; orl $0x3000, (%rsp); popfq; pushfq; pop %rdi; and $0x3000, %edi");
USER_CODE(user_load, "mov (%r15), %rdi");
USER_CODE(user_fs, "mov %fs:0, %rdi");
USER_CODE(user_fs_base, "rdfsbase %rdi");
USER_CODE(user_clone3, "mov $435, %eax; xor %edi, %edi; xor %esi, %esi; syscall; mov %rax, %rdi");
USER_CODE(user_gs, "wrgsbase %r15; mov $1001, %eax; syscall; rdgsbase %rdi; sub %r15, %rdi");
USER_CODE(user_nest, "mov $1002, %eax; syscall; mov %rax, %rdi");
USER_CODE(user_tls, "mov $1003, %eax; syscall; mov %rax, %rdi");
USER_CODE(user_int80, "int $0x80; mov $1, %edi");
USER_CODE(user_int3, "int3; mov $5, %edi");
USER_CODE(user_end, "mov $6, %edi");
USER_CODE(user_bad_rip, "mov $1004, %eax; syscall; mov $1, %edi");
USER_CODE(user_step,
	"pushfq; orl $0x100, (%rsp); popfq; nop; mov $1001, %eax; syscall; nop;"
	"pushfq; andl $~0x100, (%rsp); popfq; mov $7, %edi");
/* Until *r15 is not 0. */
USER_CODE(user_spin, "1: mov (%r15), %rdi; test %rdi, %rdi; jz 1b");
/* r15 calls in a loop; every register must keep what is put into it. */
USER_CODE(user_keep,
	"	mov $0x1111, %ebx; mov $0x2222, %ebp; mov $0x3333, %r12d; mov $0x4444, %r13d\n"
	"	mov $0x5555, %r14d; mov $0x6666, %r8d; mov $0x7777, %r9d; mov $0x8888, %r10d\n"
	"	mov $0x9999, %edi; mov $0xaaaa, %esi; mov $0xbbbb, %edx\n"
	"	movq %rbx, %xmm0; movq %rbp, %xmm15\n"
	"1:	mov $1005, %eax\n"
	"	syscall\n"
	"	cmp $1005, %rax; jne 2f\n"
	"	cmp $0x1111, %rbx; jne 2f; cmp $0x2222, %rbp; jne 2f\n"
	"	cmp $0x3333, %r12; jne 2f; cmp $0x4444, %r13; jne 2f\n"
	"	cmp $0x5555, %r14; jne 2f; cmp $0x6666, %r8; jne 2f\n"
	"	cmp $0x7777, %r9; jne 2f; cmp $0x8888, %r10; jne 2f\n"
	"	cmp $0x9999, %rdi; jne 2f; cmp $0xaaaa, %rsi; jne 2f; cmp $0xbbbb, %rdx; jne 2f\n"
	"	movq %xmm0, %rax; cmp $0x1111, %rax; jne 2f\n"
	"	movq %xmm15, %rax; cmp $0x2222, %rax; jne 2f\n"
	"	rdfsbase %rax; cmp $0x123000, %rax; jne 2f\n"
	"	dec %r15; jnz 1b\n"
	"2:	mov %r15, %rdi");

static __thread int in_tls = 1234;

struct seen {
	unsigned int calls, traps, vector;
	uint64_t cs, rip, err, addr, args[6];
};

static __thread struct seen seen;

static int run(const char *code, uint64_t arg);

static void on_call(struct dune_tf *tf)
{
	seen.calls++;
	seen.cs = tf->cs;
	switch (tf->rax) {
	case NR_END:
		dune_ret_from_user((int)ARG0(tf));
	case NR_NOTHING:
		break;
	case NR_NEST:
		tf->rax = (uint64_t)run(user_end, 0) + 100;
		break;
	case NR_TLS:
		tf->rax = (uint64_t)in_tls++;
		break;
	case NR_BAD_RIP:
		tf->rip = 1UL << 63;
		break;
	case NR_CLOBBER:
		asm volatile("pcmpeqd %%xmm0, %%xmm0\n\tpcmpeqd %%xmm15, %%xmm15"
			     : : : "xmm0", "xmm15");
		break;
	default:
		dune_passthrough_syscall(tf);
	}
}

/* An exception ends ring 3 with the vector, as a negative number. */
static void on_trap(struct dune_tf *tf, unsigned int vector)
{
	seen.traps++;
	seen.vector = vector;
	seen.cs = tf->cs;
	seen.rip = tf->rip;
	seen.err = tf->err;
	dune_ret_from_user(-(int)vector);
}

static void on_ud(struct dune_tf *tf)
{
	on_trap(tf, TRAP_UD);
}

static void on_gp(struct dune_tf *tf)
{
	on_trap(tf, TRAP_GP);
}

static void on_bp(struct dune_tf *tf)
{
	seen.traps++;
	seen.cs = tf->cs;
}

static unsigned int steps, steps_ring0;

static void on_db(struct dune_tf *tf)
{
	steps++;
	if (!(tf->cs & 3))
		steps_ring0++;
}

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	seen.addr = addr;
	tf->err = (uint32_t)fec;
	on_trap(tf, TRAP_PF);
}

static int run(const char *code, uint64_t arg)
{
	static __thread char stack[8192] __attribute__((aligned(64)));
	struct dune_tf tf;

	memset(&tf, 0, sizeof(tf));
	tf.rip = (uint64_t)code;
	tf.rsp = (uint64_t)stack + sizeof(stack);
	tf.rflags = 0x202;
	tf.r15 = arg;
	memset(&seen, 0, sizeof(seen));
	return dune_jump_to_user(&tf);
}

static volatile uint64_t go;
static volatile unsigned int signals, signals_wrong;

static void on_alarm(int sig)
{
	(void)sig;
	signals++;
	if (dune_test_cpl() != 0 || in_tls < 1234)
		signals_wrong++;
	go = 9;
}

static void on_tick(int sig)
{
	(void)sig;
	signals++;
	if (dune_test_cpl() != 0 || in_tls < 1234)
		signals_wrong++;
}

static void timer(long us, long interval)
{
	struct itimerval it = { { 0, interval }, { 0, us } };

	setitimer(ITIMER_REAL, &it, NULL);
}

static void refused(const char *code, int vector, const char *what)
{
	int ret = run(code, 0);

	ktap_ok(ret == -vector && (seen.cs & 3) == 3 && seen.traps == 1,
		"%s: vector %d in ring 3 (got %d)", what, vector, -ret);
}

/* Does the module make the calls of ring 0 itself, without an end of DUNE_RUN? */
static bool fast_calls(void)
{
	uint64_t runs = dune_test_stats().runs;

	for (unsigned int i = 0; i < 1000; i++)
		syscall(SYS_getpid);
	return dune_test_stats().runs - runs < 100;
}

static void *in_thread(void *arg)
{
	(void)arg;
	if (!fast_calls())
		return "no fast calls";
	in_tls = 2000;
	for (unsigned int i = 0; i < 200; i++) {
		if (run(user_getpid, 0) != getpid())
			return "a wrong pid";
		if (run(user_tls, 0) != 2000 + (int)i)
			return "another thread's TLS";
	}
	return fast_calls() ? NULL : "no fast calls any more";
}

static void threads(void)
{
	const char *wrong = NULL;
	pthread_t t[4];

	for (unsigned int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, in_thread, NULL);
	for (unsigned int i = 0; i < 4; i++) {
		void *ret;

		pthread_join(t[i], &ret);
		if (ret)
			wrong = ret;
	}
	ktap_ok(!wrong, "four threads in ring 3, with fast calls%s%s", wrong ? ": " : "", wrong ? wrong : "");
}

static void forked(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(!fast_calls() ? 2 :
		      run(user_getpid, 0) == getpid() && run(user_nest, 0) == 106 ? 0 : 1);
	waitpid(pid, &status, 0);
	ktap_ok(WIFEXITED(status) && !WEXITSTATUS(status),
		"the child of a fork, with fast calls (status 0x%x)", status);
}

static void under_fire(void)
{
	unsigned long saved = dune_get_user_fs();
	int left;

	signal(SIGALRM, on_tick);
	signals = 0;
	dune_set_user_fs(0x123000);
	timer(1000, 1000);
	left = run(user_keep, 20000);
	for (unsigned int i = 0; i < 40 && !left && signals < 20; i++)
		left = run(user_keep, 20000);
	timer(0, 0);
	dune_set_user_fs(saved);
	ktap_ok(left == 0 && signals > 0 && !signals_wrong,
		"registers, vector registers and FS under %u signals", signals);
}

int main(void)
{
	uint64_t user_tls_block[1] = { 4711 };
	unsigned long fs;

	ktap_plan(DUNE_TEST_ENTER + 38 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_syscall_handler(on_call);
	dune_register_intr_handler(TRAP_UD, on_ud);
	dune_register_intr_handler(TRAP_GP, on_gp);
	dune_register_intr_handler(TRAP_BP, on_bp);
	dune_register_intr_handler(TRAP_DB, on_db);
	dune_register_pgflt_handler(on_fault);

	asm volatile("rdfsbase %0" : "=r"(fs));
	ktap_ok(dune_get_user_fs() == fs, "ring 3's FS base is that of ring 0 at first");
	dune_set_user_fs(0);
	ktap_eq(run(user_fs_base, 0), 0, "and 0 if it is set to 0 before ring 3 is used");
	dune_set_user_fs(fs);
	ktap_eq(run(user_cpl, 0), GD_UT | 3, "CS in ring 3");
	ktap_eq(seen.cs, GD_UT | 3, "and in the frame of its call");
	ktap_eq(dune_test_cpl(), 0, "ring 0 after it");
	ktap_eq(run(user_stack, 0), 77, "a stack of its own");
	ktap_eq(run(user_getpid, 0), getpid(), "a call that is passed through");
	ktap_eq(run(user_clone3, 0), -ENOSYS, "clone3() is not passed through");
	ktap_eq(run(user_nest, 0), 106, "ring 3 from a handler, and back");
	ktap_eq(run(user_tls, 0), 1234, "the handler has ring 0's TLS");
	ktap_eq(in_tls, 1235, "and changes it");

	refused(user_vmcall, TRAP_UD, "VMCALL");
	refused(user_vmmcall, TRAP_UD, "VMMCALL");
	refused(user_cr0, TRAP_GP, "MOV from CR0");
	refused(user_set_cr4, TRAP_GP, "MOV to CR4");
	refused(user_dr7, TRAP_GP, "MOV from DR7");
	refused(user_set_dr0, TRAP_GP, "MOV to DR0");
	refused(user_msr, TRAP_GP, "RDMSR");
	refused(user_port, TRAP_GP, "OUT");
	refused(user_cli, TRAP_GP, "CLI");
	refused(user_lgdt, TRAP_GP, "LGDT");
	refused(user_hlt, TRAP_GP, "HLT");
	refused(user_swapgs, TRAP_GP, "SWAPGS");
	refused(user_int80, TRAP_GP, "INT 0x80");
	ktap_eq(run(user_iopl, 0), 0x1000, "POPF leaves IOPL alone");

	ktap_eq(run(user_load, 0x1000), -TRAP_PF, "an access to nothing is a page fault");
	ktap_ok(seen.addr == 0x1000 && seen.err & FEC_U, "with the address and FEC_U");
	ktap_eq(run(user_int3, 0), 5, "INT3 comes to the handler and goes on");
	ktap_eq(run(user_bad_rip, 0), -TRAP_GP, "a return to nowhere is the ring's own fault");
	ktap_eq(seen.cs, GD_UT | 3, "in ring 3");
	ktap_eq(run(user_step, 0), 7, "single steps in ring 3");
	ktap_ok(steps >= 4 && !steps_ring0, "%u, none in ring 0", steps);

	fs = dune_get_user_fs();
	dune_set_user_fs((unsigned long)user_tls_block);
	ktap_eq(run(user_fs, 0), 4711, "an FS base of its own");
	dune_set_user_fs(fs);
	ktap_eq(run(user_gs, 0x7000), 0, "a GS base of its own, across a call");

	signal(SIGALRM, on_alarm);
	timer(20000, 0);
	ktap_ok(run(user_spin, (uint64_t)&go) == 9 && signals == 1 && !signals_wrong,
		"a signal in a loop of ring 3");
	under_fire();
	threads();
	forked();
	return dune_test_done();
}
