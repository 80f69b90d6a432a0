/* SPDX-License-Identifier: MIT */
/* dunelab: timeout=60 */
/*
 * dune_enter_ex(): a block of the program's at %gs, in ordinary code, in an exception
 * handler and in a system-call handler of ring 3.
 */
#include "../dune_test.h"

#include <pthread.h>
#include <string.h>

struct block {
	char head[DUNE_PERCPU_SIZE];
	uint64_t data;
};

static struct block own __attribute__((aligned(64))) = { .data = 77 };
static struct block others __attribute__((aligned(64))) = { .data = 88 };
static volatile uint64_t in_handler, in_call;

static uint64_t self(void)
{
	uint64_t p;

	asm volatile("mov %%gs:0, %0" : "=r"(p));
	return p;
}

static uint64_t data(void)
{
	uint64_t v;

	asm volatile("mov %%gs:%c1, %0" : "=r"(v) : "i"(offsetof(struct block, data)));
	return v;
}

static void on_ud(struct dune_tf *tf)
{
	in_handler = data();
	tf->rip += 2;
}

static void on_call(struct dune_tf *tf)
{
	(void)tf;
	in_call = ((struct block *)self())->data;
	dune_ret_from_user(5);
}

asm(".text\nring3:	syscall\n");
extern char ring3[];
static char stack[4096] __attribute__((aligned(16)));

static void *thread(void *arg)
{
	if (dune_in_guest() || dune_enter_ex(&others) || !dune_in_guest())
		return NULL;
	*(uint64_t *)arg = data();
	return arg;
}

static pthread_barrier_t gate;

static void *outside(void *arg)
{
	pthread_barrier_wait(&gate);
	return thread(arg);
}

int main(void)
{
	bool native = getenv("DUNE_TEST_NATIVE");
	struct dune_tf tf = { .rip = (uint64_t)ring3, .rflags = 2,
			      .rsp = (uint64_t)stack + sizeof(stack) - 8 };
	uint64_t of_thread = 0, head;
	pthread_t t;

	ktap_plan(DUNE_TEST_ENTER + 10 + DUNE_TEST_LEAVE);
	if (dune_init(true))
		ktap_bail("dune_init() failed");
	pthread_barrier_init(&gate, NULL, 2);
	pthread_create(&t, NULL, outside, &of_thread);
	ktap_eq(dune_enter_ex(NULL), -EINVAL, "no block");
	ktap_eq(dune_enter_ex(own.head + 1), -EINVAL, "a block that is not aligned");
	if (!native)
		ktap_eq(dune_enter_ex(&own), 0, "dune_enter_ex()");
	else
		ktap_ok(false, "dune_enter_ex() was not called");
	dune_test_enter();
	ktap_eq(dune_enter_ex(&own), -EBUSY, "a second time");
	ktap_ok(self() == (uint64_t)&own && data() == 77, "gs points to the block");
	memcpy(&head, own.head, sizeof(head));
	ktap_eq(head, (uint64_t)&own, "whose head is its address");

	dune_register_intr_handler(6, on_ud);
	asm volatile("ud2");
	ktap_eq(in_handler, 77, "and in the handler of an exception");
	dune_register_syscall_handler(on_call);
	ktap_ok(dune_jump_to_user(&tf) == 5 && in_call == 77, "and, by gs:0, in ring 3's system call");
	ktap_eq(data(), 77, "and after it");

	pthread_barrier_wait(&gate);
	pthread_join(t, NULL);
	ktap_eq(of_thread, 88, "another thread has another block");
	return dune_test_done();
}
