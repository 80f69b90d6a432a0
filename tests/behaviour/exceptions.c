/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Exceptions come to the program's own handlers, with the right vector,
 * error code, RIP and registers, and the program goes on where the handler
 * says.  Vectors that the CPU under test does not raise natively (emulators
 * leave some out) are compared with a native child.
 */
#include "../dune_test.h"
#include "../trap.h"

#include <sys/mman.h>

#define TF_FLAG		(1UL << 8)
#define BAD_SELECTOR	0x7ff8		/* re-injection may not carry bit 15 (SDM 27.2.1.3) */
#define NON_CANONICAL	0x8000000000000000UL

/* What a handler saw, and what it should have seen. */
static volatile uint64_t seen_rip, want_rip;
static volatile unsigned int seen_count;
static struct dune_tf seen_tf;

static void skip_idiv(struct dune_tf *tf)
{
	seen_rip = tf->rip;
	seen_count++;
	tf->rip += 2;		/* f7 f9: idiv %ecx */
	tf->rax = 77;
}

static void skip_ud2(struct dune_tf *tf)
{
	seen_rip = tf->rip;
	seen_count++;
	memcpy(&seen_tf, tf, sizeof(seen_tf));
	tf->rip += 2;		/* 0f 0b */
}

static int divide_by_zero(void)
{
	int quotient = 1, remainder = 0;

	asm volatile("leaq 1f(%%rip), %%r11\n\t"
		     "movq %%r11, %[want]\n"
		     "1:	idivl %[zero]"
		     : "+a"(quotient), "+d"(remainder), [want] "=m"(want_rip)
		     : [zero] "c"(0) : "r11", "cc");
	return quotient;
}

/*
 * Loads known values into all general registers, executes ud2, stores what the
 * registers hold afterwards: rax rbx rcx rdx rsi rdi rbp r8..r15.
 */
void registers_around_ud2(uint64_t got[15]);
asm(".text\n"
    ".globl registers_around_ud2\n"
    ".type registers_around_ud2, @function\n"
    "registers_around_ud2:\n"
    "	pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
    "	pushq %rdi\n"
    "	movq $0x1001, %rax; movq $0x1002, %rbx; movq $0x1003, %rcx\n"
    "	movq $0x1004, %rdx; movq $0x1005, %rsi; movq $0x1006, %rdi\n"
    "	movq $0x1007, %rbp; movq $0x1008, %r8;  movq $0x1009, %r9\n"
    "	movq $0x100a, %r10; movq $0x100b, %r11; movq $0x100c, %r12\n"
    "	movq $0x100d, %r13; movq $0x100e, %r14; movq $0x100f, %r15\n"
    "	ud2\n"
    "	xchgq %rax, (%rsp)\n"		/* rax = got; its value waits on the stack */
    "	movq %rbx, 8(%rax);   movq %rcx, 16(%rax); movq %rdx, 24(%rax)\n"
    "	movq %rsi, 32(%rax);  movq %rdi, 40(%rax); movq %rbp, 48(%rax)\n"
    "	movq %r8, 56(%rax);   movq %r9, 64(%rax);  movq %r10, 72(%rax)\n"
    "	movq %r11, 80(%rax);  movq %r12, 88(%rax); movq %r13, 96(%rax)\n"
    "	movq %r14, 104(%rax); movq %r15, 112(%rax)\n"
    "	popq %rbx\n"
    "	movq %rbx, (%rax)\n"
    "	popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx\n"
    "	ret\n"
    ".size registers_around_ud2, . - registers_around_ud2\n");

static bool registers_survive(void)
{
	uint64_t got[15];
	bool ok = true;

	registers_around_ud2(got);
	for (unsigned int i = 0; i < 15; i++)
		ok &= got[i] == 0x1001 + i;
	return ok;
}

static bool frame_is_right(void)
{
	return seen_tf.rax == 0x1001 && seen_tf.rbx == 0x1002 && seen_tf.rcx == 0x1003 &&
	       seen_tf.rdx == 0x1004 && seen_tf.rsi == 0x1005 && seen_tf.rdi == 0x1006 &&
	       seen_tf.rbp == 0x1007 && seen_tf.r8 == 0x1008 && seen_tf.r9 == 0x1009 &&
	       seen_tf.r10 == 0x100a && seen_tf.r11 == 0x100b && seen_tf.r12 == 0x100c &&
	       seen_tf.r13 == 0x100d && seen_tf.r14 == 0x100e && seen_tf.r15 == 0x100f &&
	       (seen_tf.cs & 3) == 0;
}

/* One step per instruction while TF is set; the handler clears it at the fourth. */
static volatile unsigned int steps;

static void on_step(struct dune_tf *tf)
{
	if (++steps == 4)
		tf->rflags &= ~TF_FLAG;
}

static void single_step(void)
{
	asm volatile("subq $128, %%rsp\n\t"
		     "pushfq\n\t"
		     "orq %[tf], (%%rsp)\n\t"
		     "popfq\n\t"		/* TF traps after the next instruction */
		     "nop\n\tnop\n\tnop\n\tnop\n\tnop\n\t"
		     "addq $128, %%rsp"
		     : : [tf] "i"(TF_FLAG) : "memory", "cc");
}

/* A handler that itself raises an exception. */
static volatile unsigned int inner;

static void on_inner(struct dune_tf *tf)
{
	inner++;
	tf->rip += 2;
}

static void on_outer(struct dune_tf *tf)
{
	asm volatile("ud2" : : : "memory");
	tf->rip += 2;
}

/* A handler for #UD that raises #UD, once. */
static void on_recursive(struct dune_tf *tf)
{
	if (++inner == 1)
		asm volatile("ud2" : : : "memory");
	tf->rip += 2;
}

static volatile unsigned int softint;

static void on_softint(struct dune_tf *tf)
{
	(void)tf;
	softint++;		/* RIP is behind the INT already */
}

/* Each unmasks the divide-by-zero exception and divides 1 by 0; RDI is scratch. */
#define SSE_DIVIDE							\
	"stmxcsr (%%rdi)\n\t" "andl $~0x200, (%%rdi)\n\t" "ldmxcsr (%%rdi)\n\t"	\
	"movl $0x3f800000, %%eax\n\t" "movd %%eax, %%xmm1\n\t"		\
	"xorps %%xmm0, %%xmm0\n\t" "divss %%xmm0, %%xmm1"
#define X87_DIVIDE							\
	"fninit\n\t" "fnstcw (%%rdi)\n\t" "andw $~4, (%%rdi)\n\t" "fldcw (%%rdi)\n\t" \
	"fld1\n\t" "fldz\n\t" "fdivrp\n\t" "fwait"

static void sse_divide(void)
{
	uint64_t scratch;

	asm volatile(SSE_DIVIDE : : "D"(&scratch) : "rax", "xmm0", "xmm1", "memory");
}

static void x87_divide(void)
{
	uint64_t scratch;

	asm volatile(X87_DIVIDE : : "D"(&scratch) : "memory", "st", "st(1)");
}

/* Does a native process get SIGFPE for this?  Before entry only. */
static bool natively_traps(void (*fn)(void))
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		fn();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGFPE;
}

static int try_sse(void)
{
	uint32_t mxcsr = 0x1f80;
	int vector = TRAP_TRY(SSE_DIVIDE, 0, 0, 0);

	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	return vector;
}

static int try_x87(void)
{
	int vector = TRAP_TRY(X87_DIVIDE, 0, 0, 0);

	asm volatile("fninit");
	return vector;
}

int main(void)
{
	bool sse_native = natively_traps(sse_divide);
	bool x87_native = natively_traps(x87_divide);

	ktap_plan(DUNE_TEST_ENTER + 21 + DUNE_TEST_LEAVE);
	dune_test_enter();

	dune_register_intr_handler(TRAP_DE, skip_idiv);
	dune_register_intr_handler(TRAP_UD, skip_ud2);

	int quotient = divide_by_zero();

	ktap_eq(seen_count, 1, "divide error: the handler ran once");
	ktap_eq(seen_rip, want_rip, "divide error: RIP is the idiv");
	ktap_eq(quotient, 77, "divide error: the handler's RAX is the quotient");

	seen_count = 0;
	ktap_ok(registers_survive(), "invalid opcode: the registers survive");
	ktap_eq(seen_count, 1, "invalid opcode: the handler ran once");
	ktap_ok(frame_is_right(), "invalid opcode: the frame holds the registers");

	for (unsigned int i = 0; i < 1000; i++)
		divide_by_zero();
	ktap_eq(seen_count, 1001, "a thousand more");

	ktap_eq(trap_install(), 0, "handlers for all vectors are accepted");
	TRAP_TRY("movw %%ax, %%fs", BAD_SELECTOR, 0, 0);
	ktap_ok(trap.vector == TRAP_GP && trap.count == 1, "a bad selector raises general protection");
	ktap_eq(trap.err, BAD_SELECTOR, "and the error code names the selector");
	TRAP_TRY("movq (%%rcx), %%rax", 0, NON_CANONICAL, 0);
	ktap_ok(trap.vector == TRAP_GP && trap.err == 0, "a non-canonical address raises it with 0");

	TRAP_TRY("int3", 0, 0, 0);
	ktap_ok(trap.vector == TRAP_BP && trap.rip == trap.resume,
		"breakpoint: RIP is behind the int3");

	dune_register_intr_handler(TRAP_DB, on_step);
	single_step();
	ktap_eq(steps, 4, "single step: four steps, then the handler clears TF");

	dune_register_intr_handler(0x42, on_softint);
	asm volatile("int $0x42" : : : "memory");
	ktap_eq(softint, 1, "INT 0x42 reaches its handler");
	ktap_eq(dune_register_intr_handler(256, on_softint), (unsigned long long)-EINVAL,
		"there is no vector 256");

	dune_register_intr_handler(TRAP_DE, on_outer);
	dune_register_intr_handler(TRAP_UD, on_inner);
	divide_by_zero();
	ktap_eq(inner, 1, "an exception in a handler for another one");
	inner = 0;
	dune_register_intr_handler(TRAP_UD, on_recursive);
	asm volatile("ud2" : : : "memory");
	ktap_eq(inner, 2, "an exception in a handler for the same one");

	dune_register_intr_handler(TRAP_UD, trap_on_UD);
	TRAP_TRY("ud2", 0, 0, 0);
	ktap_ok(trap.vector == TRAP_UD && trap.count == 1, "a handler can be replaced");

	if (x87_native)
		ktap_eq(try_x87(), TRAP_MF, "x87 divide by zero");
	else
		ktap_skip("x87 divide by zero", "this CPU raises nothing natively");
	if (sse_native)
		ktap_eq(try_sse(), TRAP_XM, "SSE divide by zero");
	else
		ktap_skip("SSE divide by zero", "this CPU raises nothing natively");

	/* After all that the syscall path and libc still stand. */
	ktap_ok(getppid() > 0, "a system call after the exceptions");
	return dune_test_done();
}
