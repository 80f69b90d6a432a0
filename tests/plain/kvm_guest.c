// SPDX-License-Identifier: MIT
/*
 * kvm_guest ROUNDS [FILE]: a virtual machine of KVM's, in long mode, that goes round by SYSCALL.
 *
 * Each round its counter goes up by one, through memory and a register, and out by an I/O
 * port; then this program lets others run.  Whatever else uses the CPU's virtualisation
 * meanwhile, the machine must not notice: a lost VMCS, save area, TLB entry or LSTAR is a
 * wrong number, or the end of the machine.  Goes on until there is FILE, then prints
 * "kvm_guest: N rounds".
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY		0x200000UL
#define CODE		0x1000
#define ENTRY		0x1100	/* of SYSCALL */
#define COUNTER		0x2000
#define TABLES		0x3000
#define PORT		0x3f8
#define PRESENT_RW	3UL
#define LARGE		0x80UL
#define MSR_STAR	0xc0000081U
#define MSR_LSTAR	0xc0000082U
#define PATTERN		0x5a5aa5a5deadbeefUL
#define NR_CPUIDS	100

static const uint8_t code[] = {
	0xff, 0xc3,			/* 1: inc %ebx */
	0x0f, 0x05,			/*    syscall */
	0xeb, 0xfa,			/*    jmp 1b */
};

static const uint8_t entry[] = {
	0xff, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00,	/* incl COUNTER */
	0x8b, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00,	/* mov COUNTER, %eax */
	0xef,						/* out %eax, %dx */
	0xff, 0xe1,					/* jmp *%rcx */
};

static int call(int fd, unsigned long request, unsigned long arg, const char *name)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		err(1, "%s", name);
	return ret;
}

#define CALL(fd, request, arg)	call(fd, request, (unsigned long)(arg), #request)

static struct kvm_segment segment(uint16_t selector, uint8_t type, uint8_t is_code)
{
	return (struct kvm_segment) { .selector = selector, .limit = ~0U, .type = type,
				      .present = 1, .s = 1, .g = 1, .l = is_code, .db = !is_code };
}

/* One GiB of identity, of which the first 2 MiB are memory. */
static void make_tables(uint8_t *memory)
{
	uint64_t *table = (uint64_t *)(memory + TABLES);

	table[0] = (TABLES + 0x1000) | PRESENT_RW;
	table[512] = (TABLES + 0x2000) | PRESENT_RW;
	table[1024] = LARGE | PRESENT_RW;
}

static void set_cpuid(int kvm, int vcpu)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) +
					  NR_CPUIDS * sizeof(cpuid->entries[0]));

	if (!cpuid)
		err(1, "calloc");
	cpuid->nent = NR_CPUIDS;
	CALL(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	CALL(vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

static void set_state(int vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = {
		.head.nmsrs = 2,
		.entry = {
			{ .index = MSR_STAR, .data = 8UL << 32 },
			{ .index = MSR_LSTAR, .data = ENTRY },
		},
	};
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rdx = PORT, .rsi = PATTERN,
				 .r15 = ~PATTERN };
	struct kvm_sregs sregs;

	CALL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = segment(8, 11, 1);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(16, 3, 0);
	sregs.cr3 = TABLES;
	sregs.cr4 = 1 << 5;		/* PAE */
	sregs.cr0 = 1U << 31 | 1;	/* PG, PE */
	sregs.efer = 1 << 10 | 1 << 8 | 1;	/* LMA, LME, SCE */
	CALL(vcpu, KVM_SET_SREGS, &sregs);
	CALL(vcpu, KVM_SET_REGS, &regs);
	if (CALL(vcpu, KVM_SET_MSRS, &msrs) != 2)
		errx(1, "KVM_SET_MSRS sets not all");
}

static void check(int vcpu, const uint8_t *memory, unsigned int round)
{
	struct kvm_regs regs;
	uint32_t counter;

	memcpy(&counter, memory + COUNTER, sizeof(counter));
	CALL(vcpu, KVM_GET_REGS, &regs);
	if (counter != round || regs.rbx != round || regs.rsi != PATTERN || regs.r15 != ~PATTERN)
		errx(1, "round %u: counter %u, rbx %llx, rsi %llx, r15 %llx", round, counter,
		     regs.rbx, regs.rsi, regs.r15);
}

int main(int argc, char **argv)
{
	unsigned int round, rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000;
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };
	int kvm, vm, vcpu;
	struct kvm_run *run;
	uint8_t *memory;
	uint32_t out;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(1, "/dev/kvm");
	vm = CALL(kvm, KVM_CREATE_VM, 0);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	memcpy(memory + CODE, code, sizeof(code));
	memcpy(memory + ENTRY, entry, sizeof(entry));
	make_tables(memory);
	region.userspace_addr = (uintptr_t)memory;
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &region);
	vcpu = CALL(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		   MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "mmap of the vCPU");
	set_cpuid(kvm, vcpu);
	set_state(vcpu);

	for (round = 1; round <= rounds || (argc > 2 && access(argv[2], F_OK)); round++) {
		CALL(vcpu, KVM_RUN, 0);
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT)
			errx(1, "round %u: the machine ends with exit %u", round, run->exit_reason);
		memcpy(&out, (uint8_t *)run + run->io.data_offset, sizeof(out));
		if (out != round)
			errx(1, "round %u: the machine says %u", round, out);
		check(vcpu, memory, round);
		if (round == 1)
			fprintf(stderr, "kvm_guest: runs\n");
		sched_yield();
	}
	printf("kvm_guest: %u rounds\n", round - 1);
	return 0;
}
