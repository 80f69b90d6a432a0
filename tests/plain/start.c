// SPDX-License-Identifier: MIT
/*
 * An ordinary program that looks at how it was started: it must see the same
 * under dune-run as natively.  Standard output is for comparing; what differs
 * goes to standard error: the privilege level and where things are.
 *
 * The entry point is first_instruction, which saves the registers and jumps to
 * _start.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "../ktap.h"

#define PAGE		4096UL
#define GROW_BRK	(1L << 20)
#define GROW_STACK	(7UL << 20)	/* of the usual 8 MB */

/* Filled by the constructors. */
static int constructed[2] = { -1, -1 }, constructors;

/* What first_instruction() found. */
struct {
	uint64_t gpr[15];	/* all but rsp */
	uint64_t rsp, rflags, fs, gs;
	struct {
		uint16_t fcw, fsw;
		uint32_t pad[5];
		uint32_t mxcsr, mask;
		uint8_t st[128];
		uint8_t xmm[256];
		uint8_t rest[96];
	} fx __attribute__((aligned(16)));
} entry __attribute__((visibility("hidden")));

asm(".text\n"
    ".globl first_instruction\n"
    "first_instruction:\n"
    "	mov %rax, entry(%rip)\n"
    "	mov %rbx, entry+8(%rip)\n"
    "	mov %rcx, entry+16(%rip)\n"
    "	mov %rdx, entry+24(%rip)\n"
    "	mov %rsi, entry+32(%rip)\n"
    "	mov %rdi, entry+40(%rip)\n"
    "	mov %rbp, entry+48(%rip)\n"
    "	mov %r8, entry+56(%rip)\n"
    "	mov %r9, entry+64(%rip)\n"
    "	mov %r10, entry+72(%rip)\n"
    "	mov %r11, entry+80(%rip)\n"
    "	mov %r12, entry+88(%rip)\n"
    "	mov %r13, entry+96(%rip)\n"
    "	mov %r14, entry+104(%rip)\n"
    "	mov %r15, entry+112(%rip)\n"
    "	mov %rsp, entry+120(%rip)\n"
    "	pushfq\n"
    "	popq entry+128(%rip)\n"
    "	fxsave64 entry+160(%rip)\n"
    "	mov %rdx, %r12\n"
    "	mov $0x1003, %edi\n"		/* ARCH_GET_FS */
    "	lea entry+136(%rip), %rsi\n"
    "	mov $158, %eax\n"		/* arch_prctl */
    "	syscall\n"
    "	mov $0x1004, %edi\n"		/* ARCH_GET_GS */
    "	lea entry+144(%rip), %rsi\n"
    "	mov $158, %eax\n"
    "	syscall\n"
    "	mov %r12, %rdx\n"
    "	jmp _start\n");

_Static_assert(__builtin_offsetof(__typeof__(entry), fs) == 136, "the asm above");
_Static_assert(__builtin_offsetof(__typeof__(entry), fx) == 160, "the asm above");

extern const Elf64_Ehdr own_header asm("__ehdr_start") __attribute__((visibility("hidden")));
extern char first_instruction[], end[];

static bool all_zero(const void *p, size_t n)
{
	const unsigned char *c = p;

	while (n)
		if (c[--n])
			return false;
	return true;
}

/* A dynamic program gets its registers from the dynamic linker. */
static void check_registers(void)
{
	bool first = getauxval(AT_BASE) == 0;

	ktap_eq((long)(entry.rsp & 15), 0, "the stack pointer is a multiple of 16");
	ktap_ok(!first || all_zero(entry.gpr, sizeof(entry.gpr)), "the registers are 0");
	ktap_ok(!first || (entry.rflags & ~4UL) == 0x202, "the flags are clear");
	ktap_ok(!first || (entry.fs == 0 && entry.gs == 0), "the segment bases are 0");
	ktap_ok(entry.fx.fcw == 0x37f && entry.fx.fsw == 0, "the x87 state is initial");
	ktap_ok(entry.fx.mxcsr == 0x1f80, "MXCSR is initial");
	ktap_ok(!first || all_zero(entry.fx.xmm, sizeof(entry.fx.xmm)), "the SSE registers are 0");
}

/* ---- the stack ------------------------------------------------------ */

static bool contiguous(char **strings, char *from, char **behind)
{
	for (; *strings; strings++) {
		if (*strings != from)
			return false;
		from += strlen(from) + 1;
	}
	*behind = from;
	return true;
}

static void check_strings(int argc, char **argv, char **envp)
{
	uint64_t *sp = (uint64_t *)entry.rsp;
	char *behind = argv[0];
	bool ok;

	ktap_ok(sp[0] == (uint64_t)argc && (char **)&sp[1] == argv && envp == argv + argc + 1,
		"argc, argv and envp lie at the stack pointer");
	ktap_ok(contiguous(argv, argv[0], &behind), "the arguments are one piece");
	ok = !envp[0] || (envp[0] == behind && contiguous(envp, envp[0], &behind));
	ktap_ok(ok, "the environment follows them");
	for (int i = 0; i < argc; i++)
		printf("# argv[%d]=%s\n", i, argv[i]);
	for (int i = 0; envp[i]; i++)
		printf("# env %s\n", envp[i]);
}

static const char *const aux_names[] = {
	[AT_PHDR] = "PHDR", [AT_BASE] = "BASE", [AT_ENTRY] = "ENTRY", [AT_EXECFN] = "EXECFN",
	[AT_RANDOM] = "RANDOM", [AT_PLATFORM] = "PLATFORM", [AT_SYSINFO_EHDR] = "SYSINFO_EHDR",
};

/* Restartable sequences are not offered in Dune mode (27 and 28). */
static void print_auxv(char **envp)
{
	const Elf64_auxv_t *av;

	while (*envp)
		envp++;
	for (av = (const Elf64_auxv_t *)(envp + 1); av->a_type != AT_NULL; av++) {
		unsigned long type = av->a_type;

		if (type == 27 || type == 28)
			continue;
		if (type < sizeof(aux_names) / sizeof(aux_names[0]) && aux_names[type])
			printf("# auxv %s %s\n", aux_names[type], av->a_un.a_val ? "set" : "0");
		else
			printf("# auxv %lu=%lu\n", type, (unsigned long)av->a_un.a_val);
	}
}

static int first_object(struct dl_phdr_info *info, size_t size, void *data)
{
	const char *name = info->dlpi_name;

	(void)size;
	if (strstr(name, "ld-linux"))
		*(uint64_t *)data = info->dlpi_addr;
	return 0;
}

static void check_auxv(void)
{
	uint64_t base = 0, bytes[2] = { };
	const char *execfn = (const char *)getauxval(AT_EXECFN);
	const char *vdso = (const char *)getauxval(AT_SYSINFO_EHDR);

	dl_iterate_phdr(first_object, &base);
	ktap_ok(getauxval(AT_PHDR) == (uint64_t)&own_header + own_header.e_phoff,
		"AT_PHDR is where the program headers are");
	ktap_eq((long)getauxval(AT_PHNUM), own_header.e_phnum, "AT_PHNUM");
	ktap_eq((long)getauxval(AT_PHENT), sizeof(Elf64_Phdr), "AT_PHENT");
	ktap_ok(getauxval(AT_ENTRY) == (uint64_t)first_instruction, "AT_ENTRY is the entry point");
	ktap_ok(getauxval(AT_BASE) == base, "AT_BASE is the dynamic linker's");
	ktap_ok(vdso && !memcmp(vdso, ELFMAG, SELFMAG), "AT_SYSINFO_EHDR is the vDSO's");
	memcpy(bytes, (void *)getauxval(AT_RANDOM), sizeof(bytes));
	ktap_ok(bytes[0] && bytes[1], "AT_RANDOM has random bytes");
	printf("# execfn=%s platform=%s secure=%lu\n", execfn, (char *)getauxval(AT_PLATFORM),
	       getauxval(AT_SECURE));
}

/* ---- memory --------------------------------------------------------- */

/* Without allocating: the heap is being looked at. */
static size_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	close(fd);
	text[len] = '\0';
	return len;
}

/* Does /proc/self/maps have @addr in a mapping whose line ends so? */
static bool in_mapping(uint64_t addr, const char *name)
{
	static char text[65536];
	char *next = text, *line;

	read_file("/proc/self/maps", text, sizeof(text));
	while ((line = strsep(&next, "\n"))) {
		size_t len = strlen(line);
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && addr >= from && addr < to)
			return len >= strlen(name) && !strcmp(line + len - strlen(name), name);
	}
	return false;
}

/* Where the kernel puts things: see proc_pid_stat(5) for the numbers in /proc/self/stat. */
static unsigned long stat_field(int wanted)
{
	char text[1024], *p;

	read_file("/proc/self/stat", text, sizeof(text));
	p = strrchr(text, ')') + 2;
	for (int field = 3; field < wanted; field++)
		p = strchr(p, ' ') + 1;
	return strtoul(p, NULL, 10);
}

__attribute__((noinline)) static unsigned long use_stack(unsigned long bytes)
{
	volatile char frame[PAGE];

	frame[0] = (char)bytes;
	return bytes <= PAGE ? (unsigned char)frame[0] : use_stack(bytes - PAGE) + (frame[0] & 0);
}

static void check_memory(void)
{
	bool apart = getauxval(AT_BASE) == 0;	/* static: its heap may be elsewhere */
	char *brk = sbrk(0), *grown = sbrk(GROW_BRK);
	bool zeros = grown != (char *)-1 && all_zero(grown, GROW_BRK);

	ktap_ok(grown == brk && zeros, "the heap grows, filled with zeros");
	if (zeros)
		memset(grown, 1, GROW_BRK);
	ktap_ok(in_mapping((uint64_t)brk, "[heap]"), "/proc/self/maps calls it the heap");
	ktap_ok(sbrk(-GROW_BRK) == brk + GROW_BRK && sbrk(0) == brk, "it shrinks");
	ktap_ok(brk >= end || apart, "it begins behind the program");

	ktap_ok(in_mapping(entry.rsp, "[stack]"), "the stack is the kernel's");
	ktap_ok(stat_field(28) == entry.rsp, "its start in /proc/self/stat");
	ktap_eq((long)use_stack(GROW_STACK), 0, "it grows to 7 MB");
	ktap_ok(stat_field(26) <= (uint64_t)check_memory && stat_field(27) > (uint64_t)check_memory,
		"the code in /proc/self/stat");
	ktap_ok(stat_field(45) <= (uint64_t)constructed && stat_field(46) <= (uint64_t)end,
		"the data in /proc/self/stat");
	ktap_ok(stat_field(47) <= (uint64_t)brk && (stat_field(47) >= (uint64_t)end || apart),
		"the heap in /proc/self/stat");
}

/* ---- what the C library sets up ------------------------------------- */

static __thread int tls_value = 42;
static __thread char tls_zeros[256] __attribute__((aligned(64)));

__attribute__((constructor(101))) static void construct_first(void)
{
	constructed[constructors++] = 1;
}

__attribute__((constructor(102))) static void construct_second(void)
{
	constructed[constructors++] = 2;
}

static int chosen(void)
{
	return 7;
}

static int (*resolve(void))(void)
{
	return chosen;
}

int indirect(void) __attribute__((ifunc("resolve")));

static void check_libc(void)
{
	uint64_t fs;

	asm("mov %%fs:0, %0" : "=r"(fs));
	ktap_ok(tls_value == 42 && all_zero(tls_zeros, sizeof(tls_zeros)) &&
		!((uint64_t)tls_zeros & 63), "thread-local variables");
	ktap_ok(fs == (uint64_t)__builtin_thread_pointer(), "FS is the thread pointer");
	ktap_eq(indirect(), 7, "an indirect function");
	ktap_ok(constructors == 2 && constructed[0] == 1 && constructed[1] == 2, "constructors");
}

/* ---- what others see ------------------------------------------------ */

/* NUL-terminated strings, as /proc/self/cmdline and environ have them. */
static bool file_has(const char *path, char **strings)
{
	static char text[65536];
	size_t n = read_file(path, text, sizeof(text)), at = 0;

	for (; *strings; at += strlen(*strings++) + 1)
		if (at >= n || strcmp(text + at, *strings))
			return false;
	return at == n;
}

static bool auxv_agrees(char **envp)
{
	static char text[4096];
	size_t n = read_file("/proc/self/auxv", text, sizeof(text));

	while (*envp)
		envp++;
	return n >= sizeof(Elf64_auxv_t) && !memcmp(text, envp + 1, n);
}

static void check_proc(char **argv, char **envp)
{
	char text[512];
	ssize_t n;

	ktap_ok(file_has("/proc/self/cmdline", argv), "/proc/self/cmdline");
	ktap_ok(file_has("/proc/self/environ", envp), "/proc/self/environ");
	ktap_ok(auxv_agrees(envp), "/proc/self/auxv");
	read_file("/proc/self/comm", text, sizeof(text));
	printf("# comm=%s", text);
	n = readlink("/proc/self/exe", text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	printf("# exe=%s\n", text);
}

int main(int argc, char **argv, char **envp)
{
	unsigned short cs;

	asm volatile("mov %%cs, %0" : "=r"(cs));
	fprintf(stderr, "cpl=%u main=%lx heap=%lx stack=%lx\n", cs & 3, (unsigned long)main,
		(unsigned long)sbrk(0), entry.rsp);
	setvbuf(stdout, NULL, _IONBF, 0);

	ktap_plan(7 + 3 + 7 + 10 + 4 + 3);
	check_registers();
	check_strings(argc, argv, envp);
	print_auxv(envp);
	check_auxv();
	check_memory();
	check_libc();
	check_proc(argv, envp);
	return ktap_done();
}
