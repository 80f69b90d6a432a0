/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 icount */
/*
 * Ring 3 of guest mode: a system call to a handler that does nothing, one that the
 * handler forwards, a switch to ring 3 and back.  Natively getpid(), and how another
 * process does the same: by ptrace, which lets the call pass, and by PTRACE_SYSEMU,
 * which answers it.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../tracer.h"
#include "bench.h"

#define CALLS		1000
#define TRACED		200
#define NR_END		100000
#define NR_NOTHING	100001

/* Executes the call in r14 r15 times. */
extern char user_calls[];
asm(".text\n"
    ".balign 16\n"
    "user_calls:\n"
    "1:	mov %r14, %rax\n"
    "	syscall\n"
    "	dec %r15\n"
    "	jnz 1b\n"
    "user_end:\n"
    "	mov $100000, %eax\n"
    "	syscall\n"
    "	ud2\n");
extern char user_end[];

static void on_call(struct dune_tf *tf)
{
	if (tf->rax == NR_END)
		dune_ret_from_user(0);
	dune_passthrough_syscall(tf);
}

static void on_nothing(struct dune_tf *tf)
{
	if (tf->rax == NR_END)
		dune_ret_from_user(0);
}

static struct dune_tf to_user(const char *code)
{
	static char stack[4096] __attribute__((aligned(64)));
	struct dune_tf tf;

	memset(&tf, 0, sizeof(tf));
	tf.rip = (uint64_t)code;
	tf.rsp = (uint64_t)stack + sizeof(stack);
	tf.rflags = 0x202;
	return tf;
}

static void calls(unsigned int n, void *arg)
{
	struct dune_tf tf = to_user(user_calls);

	tf.r14 = (uint64_t)arg;
	tf.r15 = n;
	dune_jump_to_user(&tf);
}

static void switches(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		struct dune_tf tf = to_user(user_end);

		dune_jump_to_user(&tf);
	}
}

static void natively(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		syscall(SYS_getpid);
}

static void traced(struct bench *b, void (*batch)(unsigned int, void *))
{
	pid_t pid = tracer_start();

	bench_run(b, batch, &pid, TRACED);
	tracer_end(pid);
}

int main(void)
{
	struct bench native, ptraced, emulated, nothing, forwarded, both_ways;
	struct dune_stats before, after;

	ktap_plan(DUNE_TEST_ENTER + 5 + DUNE_TEST_LEAVE);
	bench_pin();
	bench_run(&native, natively, NULL, CALLS);
	traced(&ptraced, tracer_forward);
	traced(&emulated, tracer_emulate);
	dune_test_enter();

	dune_register_syscall_handler(on_nothing);
	before = dune_test_stats();
	bench_run(&nothing, calls, (void *)NR_NOTHING, CALLS);
	after = dune_test_stats();
	ktap_ok(after.exit[DUNE_STAT_HYPERCALL].count - before.exit[DUNE_STAT_HYPERCALL].count < 4,
		"a call that the handler answers needs no exit");
	bench_run(&both_ways, switches, NULL, CALLS);

	dune_register_syscall_handler(on_call);
	before = dune_test_stats();
	bench_run(&forwarded, calls, (void *)SYS_getpid, CALLS);
	after = dune_test_stats();
	ktap_eq(after.exit[DUNE_STAT_HYPERCALL].count - before.exit[DUNE_STAT_HYPERCALL].count,
		CALLS * (BENCH_BATCHES + 1), "one that it forwards is one exit");

	bench_report("ring3_getpid_native", &native);
	bench_report("ptrace_native", &ptraced);
	bench_report("sysemu_native", &emulated);
	bench_report("ring3_call_empty", &nothing);
	bench_report("ring3_call_forwarded", &forwarded);
	bench_report("ring3_switch", &both_ways);
	ktap_ok(nothing.median < native.median, "ring 3 to ring 0 is cheaper than to the kernel");
	ktap_ok(forwarded.median < ptraced.median, "to intercept and forward than by ptrace");
	ktap_ok(nothing.median < emulated.median, "to intercept than by PTRACE_SYSEMU");
	return dune_test_done();
}
