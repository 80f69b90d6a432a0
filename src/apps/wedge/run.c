// SPDX-License-Identifier: MIT
/* Running a cell in ring 3, and what ends that. */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

#define DEPTH_MAX	8	/* callgates that call callgates: some 4 KB of stack each */

__thread struct cell *wedge_current;
static __thread unsigned int depth;

/*
 * fn(a, b); its value ends the sthread.  FS becomes its thread pointer and GS nothing here, not in
 * ring 0: what they were before is an address, and of no use.
 */
extern const char wedge_start[];
asm(".text\n"
    ".balign 16\n"
    ".type wedge_start, @function\n"
    "wedge_start:\n"
    "	wrfsbase %r12\n"
    "	wrgsbase %r13\n"
    "	call	*%rbx\n"
    "	mov	%rax, %rdi\n"
    "	mov	$0x77650000, %eax\n"
    "	syscall\n"
    "	ud2\n"
    ".size wedge_start, . - wedge_start\n");

/* For XRSTOR: all components in their initial state (SDM 13.8, APM volume 4, XRSTOR). */
static struct {
	char head[24];
	uint32_t mxcsr;
	char rest[4096 - 28];
} __attribute__((aligned(64))) fpu_clean = { .mxcsr = 0x1f80 };

/* Ring 3 begins with nothing of ring 0's in the vector registers, and leaves nothing there. */
static void clean_fpu(void)
{
	uint32_t mxcsr;
	uint16_t fcw;

	asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(fcw));
	asm volatile("xrstor64 %0" : : "m"(fpu_clean), "a"(~0U), "d"(~0U) : "memory");
	asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(fcw));
}

static void on_pgroot(void)
{
	load_cr3(entry_of(pgroot));
}

/* ---- exceptions ------------------------------------------------------------------------- */

static unsigned int lost;	/* vectors whose handler stepped aside */

static void on_exception(struct dune_tf *tf, unsigned int vector)
{
	if (wedge_current && tf->cs & 3) {
		wedge_current->result.vector = vector;
		wedge_current->result.rip = tf->rip;
		wedge_current->result.err = tf->err;
		run_end(STHREAD_EXCEPTION, 0);
	}
	/*
	 * The program's own.  Traps are behind their instruction, all others will be there
	 * again, with nobody but Linux to handle them.
	 */
	if (vector == T_DEBUG || vector == T_BRKPT || vector == T_OFLOW) {
		syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGTRAP);
		return;
	}
	__atomic_or_fetch(&lost, 1U << vector, __ATOMIC_SEQ_CST);
	dune_register_intr_handler((int)vector, NULL);
}

#define EXCEPTIONS(X) X(0) X(1) X(3) X(4) X(5) X(6) X(7) X(11) X(12) X(13) X(16) X(17) X(19)
#define HANDLER(n) static void on_##n(struct dune_tf *tf) { on_exception(tf, n); }
EXCEPTIONS(HANDLER)

static void register_exceptions(void)
{
	static const struct {
		int vector;
		dune_intr_cb cb;
	} all[] = {
#define ROW(n) { n, on_##n },
		EXCEPTIONS(ROW)
	};

	for (unsigned int i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		dune_register_intr_handler(all[i].vector, all[i].cb);
}

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	struct cell *c = wedge_current;
	bool done;

	if (!c || !(tf->cs & 3)) {
		dune_vm_default_pgflt_handler(addr, fec, tf);
		return;
	}
	on_pgroot();
	/* An access that the tables allow is one that Linux refuses. */
	done = cell_resolve(c, addr, fec & FEC_W);
	load_cr3(c->cr3);
	if (done)
		return;
	c->result.addr = addr;
	c->result.err = (uint32_t)fec;
	c->result.rip = tf->rip;
	run_end(STHREAD_FAULT, 0);
}

static void on_call(struct dune_tf *tf)
{
	struct cell *c = wedge_current;

	if (!c) {
		dune_printf("libwedge: system call %lu from ring 3 outside of an sthread\n",
			    (unsigned long)tf->rax);
		dune_die();
	}
	if (tf->rax == NR_END)
		run_end(STHREAD_RETURNED, tf->rdi);
	on_pgroot();
	calls_handle(tf);
	load_cr3(c->cr3);
}

int run_handlers(void)
{
	register_exceptions();
	dune_register_pgflt_handler(on_fault);
	dune_register_syscall_handler(on_call);
	return 0;
}

/* ---- there and back ------------------------------------------------------------------------- */

void run_end(enum sthread_end end, uint64_t value)
{
	wedge_current->result.end = end;
	wedge_current->result.value = value;
	dune_ret_from_user(1);
}

int run(struct cell *c, uintptr_t fn, uint64_t a, uint64_t b)
{
	struct cell *outer = wedge_current;
	unsigned long fs = 0, cr3 = dune_read_cr3();
	unsigned long long gs = 0;
	int ret;

	if (depth == DEPTH_MAX)
		return -EAGAIN;
	if (c->result.end != STHREAD_RETURNED)
		c->result = (struct sthread_result){ 0 };
	if (__atomic_load_n(&lost, __ATOMIC_ACQUIRE)) {
		__atomic_store_n(&lost, 0, __ATOMIC_SEQ_CST);
		register_exceptions();
	}
	c->start.rdi = a;
	c->start.rsi = b;
	c->start.rbx = fn;
	if (outer) {
		fs = dune_get_user_fs();
		rdmsrl(MSR_KERNEL_GS_BASE, gs);
	}
	depth++;
	wedge_current = c;
	clean_fpu();
	load_cr3(c->cr3);
	ret = dune_jump_to_user(&c->start);
	load_cr3(cr3);
	clean_fpu();
	wedge_current = outer;
	depth--;
	if (outer) {
		dune_set_user_fs(fs);
		wrmsrl(MSR_KERNEL_GS_BASE, gs);
	}
	return ret < 0 ? ret : 0;
}

void run_prepare(struct cell *c)
{
	c->start.r12 = c->tp;
	c->start.rip = (uint64_t)wedge_start;
	c->start.rsp = c->base + STACK_TOP - 64;
	c->start.rflags = 2 | FL_IF;
}

int result_error(const struct sthread_result *r)
{
	switch (r->end) {
	case STHREAD_RETURNED:
		return 0;
	case STHREAD_CALL:
		return -EACCES;
	default:
		return -EFAULT;
	}
}
