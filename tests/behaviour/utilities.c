/* SPDX-License-Identifier: MIT */
/* dunelab: timeout=60 */
/*
 * Small functions: dune_pop_trap_frame() loads every register, dune_dump_trap_frame()
 * prints them, dune_die() ends the process, model-specific registers are the thread's.
 */
#include "../dune_test.h"

#include <libdune/cpu-x86.h>

/* ---- dune_pop_trap_frame() ------------------------------------------------ */

enum { NR_GPRS = 15, AT_RSP = NR_GPRS, AT_RFLAGS, NR_SEEN };

/* What the code at landed finds: the order of struct dune_tf, then rsp and rflags. */
uint64_t landed_seen[NR_SEEN];
extern char landed[];
void landed_done(void);

#define STORE(reg, i) "	mov %" #reg ", landed_seen + 8 * " #i "(%rip)\n"
asm(".text\n" ".globl landed\n" "landed:\n"
    STORE(rdi, 0) STORE(rsi, 1) STORE(rdx, 2) STORE(rcx, 3) STORE(r8, 4) STORE(r9, 5)
    STORE(r10, 6) STORE(r11, 7) STORE(rbx, 8) STORE(rbp, 9) STORE(r12, 10) STORE(r13, 11)
    STORE(r14, 12) STORE(r15, 13) STORE(rax, 14) STORE(rsp, 15)
    "	pushfq\n" "	popq landed_seen + 8 * 16(%rip)\n"
    "	cld\n" "	and $-16, %rsp\n" "	call landed_done\n");

static sigjmp_buf landing;

void landed_done(void)
{
	siglongjmp(landing, 1);
}

#define FLAGS	(FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_DF | FL_OF)

static void pop_frame(bool in_heap)
{
	static char stack[8192] __attribute__((aligned(16)));
	struct dune_tf local = {}, *tf = in_heap ? calloc(1, sizeof(*tf)) : &local;
	volatile unsigned int wrong = 0;

	for (unsigned int i = 0; i < NR_GPRS; i++)
		((uint64_t *)tf)[i] = 0x1111111111111111UL * (i + 1);
	tf->rip = (uint64_t)landed;
	tf->rsp = (uint64_t)stack + sizeof(stack) - 8;
	tf->rflags = 2 | FL_IF | FLAGS;
	tf->cs = GD_KT;
	tf->ss = GD_KD;
	if (!sigsetjmp(landing, 0))
		dune_pop_trap_frame(tf);
	for (unsigned int i = 0; i < NR_GPRS; i++)
		if (landed_seen[i] != 0x1111111111111111UL * (i + 1))
			wrong = wrong + 1;
	ktap_ok(!wrong && landed_seen[AT_RSP] == (uint64_t)stack + sizeof(stack) - 8 &&
		(landed_seen[AT_RFLAGS] & (FLAGS | FL_IF)) == (FLAGS | FL_IF),
		"dune_pop_trap_frame() of a frame on the %s", in_heap ? "heap" : "stack");
}

/* ---- dune_dump_trap_frame(), dune_die() ----------------------------------- */

static bool exits_run;

static void at_exit(void)
{
	exits_run = true;
	(void)!write(1, "atexit", 6);
}

static void dump_and_die(void)
{
	struct dune_tf tf = {
		.rax = 0xa11ce, .r15 = 0xf1f7ee, .rip = 0xdeadbee, .rsp = 0x57ac6, .err = 0x77,
	};
	char text[4096] = "";
	int pipes[2], status = 0;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (pipe(pipes))
		ktap_bail("pipe");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(pipes[1], 1);
		atexit(at_exit);
		printf("lost");		/* in stdio's buffer */
		dune_dump_trap_frame(&tf);
		dune_die();
	}
	close(pipes[1]);
	while ((n = read(pipes[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	close(pipes[0]);
	waitpid(pid, &status, 0);
	ktap_ok(strstr(text, "a11ce") && strstr(text, "f1f7ee") && strstr(text, "deadbee") &&
		strstr(text, "57ac6") && strstr(text, "77"), "dune_dump_trap_frame() prints them");
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 1, "dune_die() ends with status 1");
	ktap_ok(!strstr(text, "lost") && !strstr(text, "atexit"), "without exit handlers or flushing");
}

/* ---- model-specific registers --------------------------------------------- */

static void msrs(void)
{
	uint64_t before, now, low;

	rdmsrl(MSR_KERNEL_GS_BASE, before);
	wrmsrl(MSR_KERNEL_GS_BASE, 0x123456789000UL);
	rdmsrl(MSR_KERNEL_GS_BASE, now);
	native_write_msr(MSR_KERNEL_GS_BASE, 0x89abc000, 0x4567);
	low = native_read_msr(MSR_KERNEL_GS_BASE);
	getppid();
	ktap_ok(now == 0x123456789000UL && low == 0x456789abc000UL &&
		native_read_msr(MSR_KERNEL_GS_BASE) == low, "an MSR reads as written, across an exit");
	wrmsrl(MSR_KERNEL_GS_BASE, before);
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 2 + 3 + 1 + DUNE_TEST_LEAVE);
	dune_test_enter();
	pop_frame(false);
	pop_frame(true);
	dump_and_die();
	msrs();
	return dune_test_done();
}
