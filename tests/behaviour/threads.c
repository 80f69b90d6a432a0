/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 */
/*
 * Threads made in Dune mode are in Dune mode, each on a vCPU of its own, and all
 * that pthreads offer works between them.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <pthread.h>
#include <semaphore.h>

static __thread int tls_word = 5;

static bool in_dune_mode(void)
{
	return dune_test_cpl() == 0 && dune_in_guest() && dune_test_counters_move();
}

/* ---- many ---------------------------------------------------------------- */

#define MANY	256

static sem_t all_here, go;
static volatile unsigned int good;

static void *stay(void *arg)
{
	bool ok = in_dune_mode() && tls_word == 5;

	tls_word = (int)(uintptr_t)arg;
	sem_post(&all_here);
	sem_wait(&go);
	ok &= tls_word == (int)(uintptr_t)arg && in_dune_mode();
	if (ok)
		__atomic_add_fetch(&good, 1, __ATOMIC_SEQ_CST);
	return arg;
}

static void many(void)
{
	static pthread_t id[MANY];
	unsigned int made = 0, joined = 0;
	pthread_attr_t attr;

	sem_init(&all_here, 0, 0);
	sem_init(&go, 0, 0);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	while (made < MANY && !pthread_create(&id[made], &attr, stay, (void *)(uintptr_t)made))
		made++;
	for (unsigned int i = 0; i < made; i++)
		while (sem_wait(&all_here))
			;
	for (unsigned int i = 0; i < made; i++)
		sem_post(&go);
	for (uintptr_t i = 0; i < made; i++) {
		void *ret = NULL;

		joined += pthread_join(id[i], &ret) == 0 && ret == (void *)i;
	}
	ktap_ok(made == MANY && joined == MANY, "%d threads at once were made and joined", MANY);
	ktap_eq(good, MANY, "each in Dune mode with its own thread-local storage");
	ktap_ok(tls_word == 5 && in_dune_mode(), "and this one kept its own");
}

/* ---- contention ---------------------------------------------------------- */

#define WORKERS	8
#define ROUNDS	2000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static unsigned int counter, turn, torn;
static struct { unsigned int a, b; } pair;

static void *contend(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;

	pthread_barrier_wait(&barrier);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
		if (i % 8 == 0) {
			pthread_rwlock_wrlock(&rwlock);
			pair.a++;
			pair.b++;
		} else {
			pthread_rwlock_rdlock(&rwlock);
			if (pair.a != pair.b)
				torn++;
		}
		pthread_rwlock_unlock(&rwlock);
	}
	for (unsigned int i = 0; i < 50; i++) {	/* one after the other, by turns */
		pthread_mutex_lock(&mutex);
		while (turn % WORKERS != me)
			pthread_cond_wait(&cond, &mutex);
		turn++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static void contention(void)
{
	pthread_t id[WORKERS];

	pthread_barrier_init(&barrier, NULL, WORKERS);
	for (uintptr_t i = 0; i < WORKERS; i++)
		pthread_create(&id[i], NULL, contend, (void *)i);
	for (unsigned int i = 0; i < WORKERS; i++)
		pthread_join(id[i], NULL);
	ktap_eq(counter, WORKERS * ROUNDS, "a mutex under contention");
	ktap_ok(torn == 0 && pair.a == WORKERS * ROUNDS / 8, "a read-write lock");
	ktap_eq(turn, WORKERS * 50, "a condition variable and a barrier");
}

/* ---- robust, priority-inheriting ------------------------------------------ */

static pthread_mutex_t special;

static void *die_holding(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&special);
	return NULL;
}

static void robust(void)
{
	pthread_mutexattr_t attr;
	pthread_t id;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&special, &attr);
	pthread_create(&id, NULL, die_holding, NULL);
	pthread_join(id, NULL);
	ktap_ok(pthread_mutex_lock(&special) == EOWNERDEAD &&
		pthread_mutex_consistent(&special) == 0 && pthread_mutex_unlock(&special) == 0,
		"a robust, priority-inheriting mutex of a thread that died");
}

/* ---- signals and cancellation --------------------------------------------- */

static volatile int hit_cpl = -1;
static pthread_t hit;

static void on_usr1(int sig)
{
	(void)sig;
	hit = pthread_self();
	hit_cpl = (int)dune_test_cpl();
}

static void *spin(void *arg)
{
	volatile int *stop = arg;

	sem_post(&all_here);
	while (!*stop)
		asm volatile("pause");
	return NULL;
}

static volatile unsigned int cleaned;

static void clean(void *arg)
{
	(void)arg;
	cleaned++;
}

static void *sleep_long(void *arg)
{
	pthread_cleanup_push(clean, NULL);
	sem_post(&all_here);
	for (;;)
		sleep(100);
	pthread_cleanup_pop(0);
	return arg;
}

static void *spin_async(void *arg)
{
	int old;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	sem_post(&all_here);
	for (;;)
		asm volatile("pause");
	return arg;
}

static void signals(void)
{
	volatile int stop = 0;
	double end = child_now() + 20;
	pthread_t id;
	void *ret = NULL;

	signal(SIGUSR1, on_usr1);
	pthread_create(&id, NULL, spin, (void *)&stop);
	sem_wait(&all_here);
	pthread_kill(id, SIGUSR1);
	while (hit_cpl < 0 && child_now() < end)
		usleep(1000);
	ktap_ok(hit_cpl == 0 && pthread_equal(hit, id), "pthread_kill reaches a thread that spins");
	stop = 1;
	pthread_join(id, NULL);

	pthread_create(&id, NULL, sleep_long, NULL);
	sem_wait(&all_here);
	pthread_cancel(id);
	ktap_ok(pthread_join(id, &ret) == 0 && ret == PTHREAD_CANCELED && cleaned == 1,
		"cancellation in a system call runs the clean-up");
	ret = NULL;
	pthread_create(&id, NULL, spin_async, NULL);
	sem_wait(&all_here);
	pthread_cancel(id);
	ktap_ok(pthread_join(id, &ret) == 0 && ret == PTHREAD_CANCELED,
		"asynchronous cancellation in a busy loop");
}

/* ---- coming and going ------------------------------------------------------ */

static void *short_life(void *arg)
{
	if (in_dune_mode())
		__atomic_add_fetch((unsigned int *)arg, 1, __ATOMIC_SEQ_CST);
	sem_post(&all_here);
	return NULL;
}

static void detached(void)
{
	unsigned int lived = 0;
	pthread_attr_t attr;
	pthread_t id;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (unsigned int i = 0; i < 300; i++) {
		if (pthread_create(&id, &attr, short_life, &lived))
			break;
		while (sem_wait(&all_here))
			;
	}
	ktap_eq(lived, 300, "three hundred detached threads, one after the other");
}

static void *end_all(void *arg)
{
	usleep(20000);
	if (arg)
		execl("/proc/self/exe", "threads", "--exec", (char *)NULL);
	exit(33);
}

static int end_by_thread(bool exec)
{
	int status = -1;
	pthread_t id;
	pid_t pid = fork();

	if (pid == 0) {
		for (int i = 0; i < 4; i++)
			pthread_create(&id, NULL, spin, (void *)&(volatile int){ 0 });
		pthread_create(&id, NULL, end_all, exec ? &id : NULL);
		for (;;)
			pause();
	}
	waitpid(pid, &status, 0);
	return status;
}

/* A fork in a process of many threads: the child has one, and may make more. */
static void forks(void)
{
	volatile int stop = 0;
	pthread_t id[4];
	unsigned int ok = 0;

	for (int i = 0; i < 4; i++)
		pthread_create(&id[i], NULL, spin, (void *)&stop);
	for (int i = 0; i < 20; i++) {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0) {
			unsigned int lived = 0;
			pthread_t mine;

			pthread_create(&mine, NULL, short_life, &lived);
			pthread_join(mine, NULL);
			_exit(lived == 1 && in_dune_mode() ? 5 : 6);
		}
		waitpid(pid, &status, 0);
		ok += WIFEXITED(status) && WEXITSTATUS(status) == 5;
	}
	stop = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(id[i], NULL);
	ktap_eq(ok, 20, "twenty forks beside four busy threads");
}

int main(int argc, char **argv)
{
	int status;

	if (argc > 1 && !strcmp(argv[1], "--exec"))
		_exit(dune_test_cpl() == 3 ? 44 : 45);
	ktap_plan(DUNE_TEST_ENTER + 14 + DUNE_TEST_LEAVE);
	dune_test_enter();
	many();
	contention();
	robust();
	signals();
	detached();
	forks();
	status = end_by_thread(false);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 33, "any thread's exit() ends all (%s)",
		child_status(status));
	status = end_by_thread(true);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 44, "any thread's exec replaces all (%s)",
		child_status(status));
	return dune_test_done();
}
