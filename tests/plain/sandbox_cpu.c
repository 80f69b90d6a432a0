/* SPDX-License-Identifier: MIT */
/*
 * For dune-sandbox --allow-all: what a hostile program would try with instructions, signal
 * frames and registers, see sandbox.h.
 */
#define _GNU_SOURCE
#include <ucontext.h>

#include "sandbox.h"

INSN(i_vmcall, "mov $39, %eax; vmcall");
INSN(i_vmmcall, "mov $39, %eax; vmmcall");
INSN(i_int80, "mov $20, %eax; int $0x80");
INSN(i_int14, "int $14");
INSN(i_int255, "int $255");
INSN(i_sysenter, "push %rbp; mov %rsp, %rbp; sysenter; pop %rbp");
INSN(i_vsyscall, "mov $0xffffffffff600000, %rax; xor %edi, %edi; xor %esi, %esi; call *%rax");
INSN(i_in, "mov $0x60, %edx; in %dx, %al");
INSN(i_out, "mov $0x80, %edx; out %al, %dx");
INSN(i_outs, "mov $0x80, %edx; mov %rsp, %rsi; outsb");
INSN(i_rdmsr, "mov $0xc0000082, %ecx; rdmsr");
INSN(i_wrmsr, "mov $0xc0000082, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr");
INSN(i_lgdt, "lgdt -16(%rsp)");
INSN(i_lidt, "lidt -16(%rsp)");
INSN(i_ltr, "mov $0x38, %eax; ltr %ax");
INSN(i_lldt, "xor %eax, %eax; lldt %ax");
INSN(i_cr0, "mov %cr0, %rax");
INSN(i_cr3, "mov %cr3, %rax; mov %rax, %cr3");
INSN(i_cr4, "mov %cr4, %rax");
INSN(i_dr7, "mov %dr7, %rax");
INSN(i_cli, "cli");
INSN(i_hlt, "hlt");
INSN(i_invlpg, "invlpg (%rsp)");
INSN(i_swapgs, "swapgs");
INSN(i_clts, "clts");
INSN(i_wbinvd, "wbinvd");
INSN(i_xsetbv, "xor %ecx, %ecx; mov $7, %eax; xor %edx, %edx; xsetbv");
INSN(i_sysret, "mov (%rsp), %rcx; mov $0x3202, %r11d; sysretq");
INSN(i_far, "push $0x10; lea 1f(%rip), %rax; push %rax; lretq; 1: ");
INSN(i_iret, "mov %rsp, %rcx; push $0x18; push %rcx; pushfq; push $0x10; lea 1f(%rip), %rax;"
	     "push %rax; iretq; 1: ");
INSN(i_icebp, ".byte 0xf1");
INSN(i_rdpmc, "xor %ecx, %ecx; rdpmc");
INSN(i_mwait, "xor %eax, %eax; xor %ecx, %ecx; mwait");
INSN(i_rsm, "rsm");
INSN(i_getsec, "xor %eax, %eax; .byte 0x0f, 0x37");
INSN(i_vmrun, "mov %rsp, %rax; vmrun");
INSN(i_vmload, "mov %rsp, %rax; vmload");
INSN(i_stgi, "stgi");
INSN(i_clgi, "clgi");
INSN(i_skinit, "xor %eax, %eax; .byte 0x0f, 0x01, 0xde");
INSN(i_invlpga, "xor %ecx, %ecx; mov %rsp, %rax; invlpga");
INSN(i_vmxon, "vmxon -16(%rsp)");
INSN(i_vmxoff, "vmxoff");
INSN(i_vmptrld, "vmptrld -16(%rsp)");
INSN(i_vmwrite, "xor %eax, %eax; vmwrite %rax, %rax");
INSN(i_vmlaunch, "vmlaunch");
INSN(i_vmfunc, "xor %eax, %eax; xor %ecx, %ecx; vmfunc");
INSN(i_invept, "xor %eax, %eax; invept -16(%rsp), %rax");
INSN(i_sysexit, "mov %rsp, %rcx; mov (%rsp), %rdx; sysexitq");
INSN(i_ds, "mov $0x10, %eax; mov %ax, %ss");

static void instructions(void)
{
	static const struct { const char *name; char *at; } list[] = {
		{ "VMCALL", i_vmcall }, { "VMMCALL", i_vmmcall }, { "INT 0x80", i_int80 },
		{ "INT 14", i_int14 }, { "INT 255", i_int255 }, { "SYSENTER", i_sysenter },
		{ "the vsyscall page", i_vsyscall }, { "IN", i_in }, { "OUT", i_out },
		{ "OUTS", i_outs }, { "RDMSR", i_rdmsr }, { "WRMSR", i_wrmsr },
		{ "LGDT", i_lgdt }, { "LIDT", i_lidt }, { "LTR", i_ltr }, { "LLDT", i_lldt },
		{ "MOV CR0", i_cr0 }, { "MOV CR3", i_cr3 }, { "MOV CR4", i_cr4 },
		{ "MOV DR7", i_dr7 }, { "CLI", i_cli }, { "HLT", i_hlt },
		{ "INVLPG", i_invlpg }, { "SWAPGS", i_swapgs }, { "CLTS", i_clts },
		{ "WBINVD", i_wbinvd }, { "XSETBV", i_xsetbv }, { "SYSRET", i_sysret },
		{ "a far return to ring 0", i_far }, { "IRET to ring 0", i_iret },
		{ "a ring-0 stack segment", i_ds }, { "ICEBP", i_icebp }, { "RDPMC", i_rdpmc },
		{ "MWAIT", i_mwait }, { "RSM", i_rsm }, { "GETSEC", i_getsec },
		{ "VMRUN", i_vmrun }, { "VMLOAD", i_vmload }, { "STGI", i_stgi },
		{ "CLGI", i_clgi }, { "SKINIT", i_skinit }, { "INVLPGA", i_invlpga },
		{ "VMXON", i_vmxon }, { "VMXOFF", i_vmxoff }, { "VMPTRLD", i_vmptrld },
		{ "VMWRITE", i_vmwrite }, { "VMLAUNCH", i_vmlaunch }, { "VMFUNC", i_vmfunc },
		{ "INVEPT", i_invept }, { "SYSEXIT", i_sysexit },
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		int sig = TRY(((void (*)(void))list[i].at)());

		ktap_ok(sig, "%s is signal %d", list[i].name, sig);
	}
}

/* ---- frames ------------------------------------------------------------------ */

static volatile int forge;

static void forger(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *r = uc->uc_mcontext.gregs;

	(void)sig;
	(void)info;
	switch (forge) {
	case 0:
		r[REG_CSGSFS] = 0x10 | (0x18L << 48);
		break;
	case 1:
		r[REG_EFL] |= 0x3000;
		r[REG_EFL] &= ~0x200;
		break;
	case 2:
		r[REG_RIP] = (greg_t)0x800000000000;
		break;
	case 3:
		r[REG_RIP] = (greg_t)code;
		break;
	case 4:
		memset(uc->uc_mcontext.fpregs, 0xff, 512 + 64);
		break;
	case 5:
		uc->uc_mcontext.fpregs = (void *)data;
		break;
	case 6:
		r[REG_RSP] = (greg_t)stack;
		r[REG_RIP] = (greg_t)i_in;
		break;
	}
}

INSN(call_with_stack, "mov %rsp, %r10; mov %rdi, %rsp; mov $39, %eax; syscall; mov %r10, %rsp");

static void frames(void)
{
	static const char *const names[] = { "selectors of ring 0", "IOPL 3 and IF 0",
		"a rip that is not canonical", "a rip in the monitor", "vector registers of ones",
		"vector registers in the monitor", "a stack in the monitor" };
	struct sigaction sa = { .sa_sigaction = forger, .sa_flags = SA_SIGINFO };

	sigaction(SIGUSR2, &sa, NULL);
	for (forge = 0; forge < 7; forge++) {
		bool lives = forge == 0 || forge == 1 || forge == 4;
		int sig = TRY(raise(SIGUSR2));

		ktap_ok(lives ? !sig : sig == SIGSEGV, "a signal frame with %s", names[forge]);
	}
	ktap_ok(TRY(((void (*)(uint64_t))call_with_stack)(stack)) == 0,
		"a system call with the stack pointer in the monitor");
	ktap_ok(TRY(__asm__ volatile("pushfq; orl $0x3000, (%%rsp); popfq; in $0x60, %%al"
				     ::: "rax", "cc", "memory")) == SIGSEGV, "POPF of IOPL");
}

/* ---- what ring 0 finds in the registers that SYSCALL leaves alone ---------------- */

INSN(i_step, "pushfq; orl $0x100, (%rsp); popfq; mov $39, %eax; syscall; nop");
INSN(i_step_ss, "mov %ss, %ecx; pushfq; orl $0x100, (%rsp); popfq; mov %ecx, %ss;"
     "mov $39, %eax; syscall; nop");
/* NT DF AC; then as before */
INSN(i_flags, "pushfq; pushfq; orl $0x44400, (%rsp); mov $39, %eax; popfq; syscall; popfq");
INSN(call_with_bases, "rdfsbase %r8; rdgsbase %r9; wrfsbase %rdi; wrgsbase %rdi; mov $39, %eax;"
     "syscall; mov %gs:0, %rax; wrfsbase %r8; wrgsbase %r9");
INSN(call_with_bases_2, "rdfsbase %r8; rdgsbase %r9; wrfsbase %rdi; wrgsbase %rdi; mov $39, %eax;"
     "syscall; ud2");

__attribute__((used)) static uint64_t own_fs;

/* The handler has FS of the monitor's memory: without libc until it is put right. */
static void __attribute__((naked)) on_fault_without_fs(void)
{
	__asm__("mov own_fs(%rip), %rax; wrfsbase %rax; jmp on_fault");
}

static void registers(void)
{
	struct sigaction sa = { .sa_handler = (void (*)(int))on_fault_without_fs,
				.sa_flags = SA_ONSTACK }, old[2];

	ktap_ok(TRY(((void (*)(void))i_step)()) == SIGTRAP, "a single step over a system call");
	ktap_ok(TRY(((void (*)(void))i_step_ss)()) == SIGTRAP, "one behind MOV SS");
	ktap_ok(!TRY(((void (*)(void))i_flags)()), "a system call with NT, DF and AC");
	__asm__ volatile("rdfsbase %0" : "=r"(own_fs));
	sigaction(SIGSEGV, &sa, &old[0]);
	sigaction(SIGILL, &sa, &old[1]);
	ktap_ok(TRY(((void (*)(uint64_t))call_with_bases)(data)) == SIGSEGV,
		"a system call with segment bases in the monitor, and a use of one");
	ktap_ok(TRY(((void (*)(uint64_t))call_with_bases_2)(data)) == SIGILL,
		"the same, and an exception");
	sigaction(SIGSEGV, &old[0], NULL);
	sigaction(SIGILL, &old[1], NULL);
}

int main(void)
{
	if (!begin(65))
		return ktap_done();
	instructions();
	frames();
	registers();
	return ktap_done();
}
