/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=10 */
/*
 * futexes in Dune mode: wait, wake, requeue and bitsets between threads, with
 * time-outs; priority inheritance; and the list of robust ones, which the
 * kernel walks when their owner dies.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#define WAITERS	4

static uint32_t a, b;
static volatile unsigned int inside, woken, begun, waiting;
static volatile pid_t waiter[WAITERS];

static long futex(uint32_t *at, int op, uint32_t value, const void *time, uint32_t *second,
		  uint32_t third)
{
	long ret = syscall(SYS_futex, at, op, value, time, second, third);

	return ret < 0 ? -errno : ret;
}

static double since(double start)
{
	return child_now() - start;
}

static bool times_out(void)
{
	struct timespec rel = { 0, 30000000 }, when, past = { 1, 0 }, bad = { 0, -1 };
	uint32_t word = 5;
	double start = child_now();
	bool ok = futex(&word, FUTEX_WAIT, 5, &rel, NULL, 0) == -ETIMEDOUT;

	ok &= since(start) >= 0.029 && futex(&word, FUTEX_WAIT, 4, &rel, NULL, 0) == -EAGAIN;
	ok &= futex(&word, FUTEX_WAIT, 5, &bad, NULL, 0) == -EINVAL;
	start = child_now();
	clock_gettime(CLOCK_MONOTONIC, &when);
	when.tv_nsec += 30000000;
	if (when.tv_nsec >= 1000000000) {
		when.tv_nsec -= 1000000000;
		when.tv_sec++;
	}
	ok &= futex(&word, FUTEX_WAIT_BITSET, 5, &when, NULL, ~0U) == -ETIMEDOUT;
	ok &= since(start) >= 0.029;
	ok &= futex(&word, FUTEX_WAIT_BITSET, 5, &past, NULL, ~0U) == -ETIMEDOUT;
	ok &= futex(&word, FUTEX_WAIT_BITSET, 5, NULL, NULL, 0) == -EINVAL;
	ok &= futex(&word, FUTEX_WAKE, 9, NULL, NULL, 0) == 0;
	ok &= futex((uint32_t *)((char *)&word + 1), FUTEX_WAKE, 1, NULL, NULL, 0) == -EINVAL;
	return ok;
}

/* Waits on @a until its value changes, whatever futex it is moved to meanwhile. */
static void *wait_on_a(void *arg)
{
	struct timespec limit = { 20, 0 };

	if (mem_thread_inside())
		__atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
	waiter[__atomic_fetch_add(&begun, 1, __ATOMIC_SEQ_CST)] = (pid_t)syscall(SYS_gettid);
	__atomic_fetch_add(&waiting, 1, __ATOMIC_SEQ_CST);
	if (arg)
		futex(&a, FUTEX_WAIT_BITSET, 0, NULL, NULL, (uint32_t)(uintptr_t)arg);
	else
		futex(&a, FUTEX_WAIT, 0, &limit, NULL, 0);
	__atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void start_waiters(pthread_t *threads, bool bits)
{
	a = b = inside = woken = begun = waiting = 0;
	for (uintptr_t i = 0; i < WAITERS; i++)
		if (pthread_create(&threads[i], NULL, wait_on_a, bits ? (void *)(1UL << i) : NULL))
			ktap_bail("pthread_create failed");
	while (waiting < WAITERS)
		sched_yield();
	for (unsigned int i = 0; i < WAITERS; i++)
		if (!child_asleep(waiter[i]))
			ktap_bail("a thread does not wait");
}

static bool join(pthread_t *threads)
{
	for (int i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	return inside == WAITERS && woken == WAITERS;
}

static bool wait_woken(unsigned int n)
{
	double end = child_now() + 20;

	while (woken < n && child_now() < end)
		usleep(1000);
	usleep(20000);		/* nobody else */
	return woken == n;
}

static bool wakes(void)
{
	pthread_t threads[WAITERS];
	bool ok;

	start_waiters(threads, false);
	ok = futex(&a, FUTEX_WAKE, 1, NULL, NULL, 0) == 1 && wait_woken(1);
	ok &= futex(&a, FUTEX_WAKE, 2, NULL, NULL, 0) == 2 && wait_woken(3);
	ok &= futex(&a, FUTEX_WAKE, 99, NULL, NULL, 0) == 1;
	return join(threads) && ok;
}

static bool requeues(void)
{
	pthread_t threads[WAITERS];
	bool ok;

	start_waiters(threads, false);
	ok = futex(&a, FUTEX_CMP_REQUEUE, 1, (void *)(uintptr_t)WAITERS, &b, 1) == -EAGAIN;
	ok &= futex(&a, FUTEX_CMP_REQUEUE, 1, (void *)(uintptr_t)WAITERS, &b, 0) == WAITERS;
	ok &= wait_woken(1) && futex(&a, FUTEX_WAKE, 99, NULL, NULL, 0) == 0;
	ok &= futex(&b, FUTEX_WAKE, 99, NULL, NULL, 0) == WAITERS - 1;
	return join(threads) && ok;
}

static bool bitsets(void)
{
	pthread_t threads[WAITERS];
	bool ok;

	start_waiters(threads, true);
	ok = futex(&a, FUTEX_WAKE_BITSET, 99, NULL, NULL, 1U << 2) == 1 && wait_woken(1);
	ok &= futex(&a, FUTEX_WAKE_BITSET, 99, NULL, NULL, 3U << 0) == 2 && wait_woken(3);
	ok &= futex(&a, FUTEX_WAKE, 99, NULL, NULL, 0) == 1;
	return join(threads) && ok;
}

/* FUTEX_WAKE_OP changes the second word and wakes there if the old value says so. */
static bool wake_op(void)
{
	pthread_t threads[WAITERS];
	bool ok;

	start_waiters(threads, false);
	b = 7;
	ok = futex(&b, FUTEX_WAKE_OP, 1, (void *)2, &a,
		   FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)) == 2 && a == 5;
	ok &= wait_woken(2) && futex(&a, FUTEX_WAKE, 99, NULL, NULL, 0) == 2;
	return join(threads) && ok;
}

/* ---- priority inheritance -------------------------------------------------- */

static uint32_t pi;
static volatile int pi_taken, pi_result;

static void *take_pi(void *arg)
{
	(void)arg;
	if (!mem_thread_inside())
		return (void *)1;
	pi_taken = 1;
	pi_result = (int)futex(&pi, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
	if ((pi & FUTEX_TID_MASK) != (uint32_t)syscall(SYS_gettid))
		return (void *)2;
	return (void *)futex(&pi, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
}

static bool inherits(void)
{
	struct timespec past = { 1, 0 };
	pthread_t thread;
	void *ret = (void *)9;
	bool ok;

	pi = 0;
	ok = futex(&pi, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0 &&
	     pi == (uint32_t)syscall(SYS_gettid);
	ok &= futex(&pi, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == -EDEADLK;
	pi_result = 99;
	ok &= pthread_create(&thread, NULL, take_pi, NULL) == 0;
	while (!pi_taken || !(__atomic_load_n(&pi, __ATOMIC_ACQUIRE) & FUTEX_WAITERS))
		sched_yield();
	ok &= pi_result == 99 && futex(&pi, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0;
	ok &= pthread_join(thread, &ret) == 0 && !ret && pi_result == 0 && pi == 0;
	ok &= futex(&pi, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == -EPERM;
	pi = 1;			/* a thread that cannot be waited for: init's */
	ok &= futex(&pi, FUTEX_LOCK_PI, 0, &past, NULL, 0) != 0;
	return ok;
}

/* The same through libc: a PI mutex that two threads take in turn. */
static pthread_mutex_t mutex;
static volatile unsigned long guarded;

static void *add(void *arg)
{
	(void)arg;
	if (!mem_thread_inside())
		return (void *)1;
	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&mutex);
		guarded = guarded + 1;
		if (i % 64 == 0)
			sched_yield();
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static bool pi_mutex(void)
{
	pthread_mutexattr_t attr;
	pthread_t threads[WAITERS];
	bool ok = true;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&mutex, &attr);
	for (int i = 0; i < WAITERS; i++)
		ok &= pthread_create(&threads[i], NULL, add, NULL) == 0;
	for (int i = 0; ok && i < WAITERS; i++) {
		void *ret;

		ok &= pthread_join(threads[i], &ret) == 0 && !ret;
	}
	return ok && guarded == 2000UL * WAITERS;
}

/* ---- robust ones ------------------------------------------------------------ */

static pthread_mutex_t *robust;

static int dies_with_it(void *arg)
{
	(void)arg;
	pthread_mutex_lock(robust);
	kill(getpid(), SIGKILL);
	return 1;
}

static void *leaves_with_it(void *arg)
{
	(void)arg;
	if (!mem_thread_inside())
		return (void *)1;
	pthread_mutex_lock(robust);
	return NULL;
}

static bool robusts(void)
{
	pthread_mutexattr_t attr;
	pthread_t thread;
	void *head = NULL, *ret = (void *)9;
	size_t len = 0;
	bool ok;

	robust = child_shared(sizeof(*robust));
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(robust, &attr);
	ok = syscall(SYS_get_robust_list, 0, &head, &len) == 0 && head && len == 24;

	ok &= mem_child(dies_with_it, NULL) == SIGKILL;
	ok &= pthread_mutex_lock(robust) == EOWNERDEAD && pthread_mutex_consistent(robust) == 0;
	ok &= pthread_mutex_unlock(robust) == 0;

	ok &= pthread_create(&thread, NULL, leaves_with_it, NULL) == 0;
	ok &= pthread_join(thread, &ret) == 0 && !ret;
	ok &= pthread_mutex_lock(robust) == EOWNERDEAD;
	ok &= pthread_mutex_unlock(robust) == 0 &&	/* not made consistent */
	      pthread_mutex_lock(robust) == ENOTRECOVERABLE;
	return ok;
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 8 + DUNE_TEST_LEAVE);
	dune_test_enter();
	ktap_ok(times_out(), "time-outs, relative and absolute, and errors");
	ktap_ok(wakes(), "wake one, two, the rest");
	ktap_ok(requeues(), "requeue to another futex");
	ktap_ok(bitsets(), "bitsets");
	ktap_ok(wake_op(), "FUTEX_WAKE_OP");
	ktap_ok(inherits(), "FUTEX_LOCK_PI: owner, waiter, deadlock");
	ktap_ok(pi_mutex(), "a PI mutex under four threads");
	ktap_ok(robusts(), "robust mutexes of a process that is killed and a thread that ends");
	return dune_test_done();
}
