/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=240 */
/*
 * Sthreads in threads of their own, several at once and on shared memory, as another user with
 * another root; many one after the other, which leave nothing.
 */
#define _GNU_SOURCE
#include "../wedge.h"
#include "../meminfo.h"

#include <pthread.h>

#define THREADS		6
#define ROUNDS		300

static struct wedge_tag *tag;

struct work {
	unsigned int lock, started, waiting;
	unsigned long sum, id;
	unsigned char *secret;
	struct wedge_gate *gate;
};

/* The classic one: 0 free, 1 taken, 2 somebody waits (Drepper, "Futexes are tricky"). */
static void take(unsigned int *l)
{
	unsigned int was = 0;

	if (__atomic_compare_exchange_n(l, &was, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(l, 2, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, l, 128, 2, NULL, NULL, 0);
}

static void give(unsigned int *l)
{
	if (__atomic_exchange_n(l, 0, __ATOMIC_RELEASE) == 2)
		syscall(SYS_futex, l, 129, 1, NULL, NULL, 0);
}

/* Waits for the others, so that all of them are there at once. */
static void *add(void *arg)
{
	struct work *w = arg;
	char *own;

	__atomic_add_fetch(&w->started, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&w->started, __ATOMIC_SEQ_CST) < w->waiting)
		sched_yield();
	for (unsigned int i = 0; i < 1000; i++) {
		own = malloc(100);
		take(&w->lock);
		w->sum++;
		give(&w->lock);
		free(own);
	}
	return (void *)1;
}

static void *fault(void *arg)
{
	struct work *w = arg;

	return (void *)(uintptr_t)*(volatile unsigned char *)w->secret;
}

static void *ids(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)(getuid() * 1000UL + getgid());
}

static long status(const char *name)
{
	static char text[1 << 14];

	meminfo_read("/proc/self/status", text, sizeof(text));
	return meminfo_sum(text, name);
}

static void at_once(struct work *w)
{
	struct sthread *s[THREADS];
	struct sthread_result r;
	struct sthread_sc sc;
	bool ok = true;

	sc_init(&sc);
	sc.flags = STHREAD_THREAD;
	wedge_must(sc_mem_add(&sc, tag, WEDGE_RW), "sc_mem_add");
	memset(w, 0, sizeof(*w));
	w->waiting = THREADS;
	for (unsigned int i = 0; i < THREADS; i++)
		wedge_must(sthread_create(&s[i], &sc, add, w), "sthread_create");
	for (unsigned int i = 0; i < THREADS; i++)
		ok &= !sthread_join(s[i], &r) && r.value == 1;
	ktap_ok(ok, "%u sthreads at once", THREADS);
	ktap_eq(w->sum, THREADS * 1000, "with a lock in a tag");
	w->secret = (unsigned char *)&tag;
	for (unsigned int i = 0; i < THREADS; i++)
		wedge_must(sthread_create(&s[i], &sc, fault, w), "sthread_create");
	for (unsigned int i = 0; i < THREADS; i++)
		ok &= sthread_join(s[i], &r) == -EFAULT && r.end == STHREAD_FAULT &&
		      r.addr == (uintptr_t)&tag;
	ktap_ok(ok, "each one's fault is its own");
}

/* Ordinary threads, each with sthreads of its own, and a gate that all of them call. */
static void *many(void *arg)
{
	struct work *w = arg;
	struct sthread_sc sc;

	sc_init(&sc);
	if (sc_mem_add(&sc, tag, WEDGE_RW))
		return "sc_mem_add";
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct sthread_result r;
		struct sthread *s;

		if (sthread_create(&s, &sc, i & 1 ? fault : ids, w))
			return "sthread_create";
		if (sthread_join(s, &r) != (i & 1 ? -EFAULT : -EACCES))
			return "sthread_join";
		if (i & 1 && r.addr != (uintptr_t)w->secret)
			return "another one's fault";
		if (gate_call(w->gate, (void *)(uintptr_t)i) != (long)i + 5)
			return "gate_call";
	}
	return NULL;
}

static long plus(void *trusted, void *arg)
{
	return (long)trusted + (long)arg;
}

static void in_threads(struct work *w)
{
	const char *wrong = NULL;
	pthread_t t[THREADS];
	struct sthread_sc sc;

	sc_init(&sc);
	wedge_must(gate_new(&w->gate, &sc, plus, (void *)5, GATE_RECYCLED), "gate_new");
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, many, w);
	for (unsigned int i = 0; i < THREADS; i++) {
		void *ret;

		pthread_join(t[i], &ret);
		if (ret)
			wrong = ret;
	}
	ktap_ok(!wrong, "threads with sthreads of their own, and one gate%s%s", wrong ? ": " : "",
		wrong ? wrong : "");
	wedge_must(gate_delete(w->gate), "gate_delete");
}

static void another_user(void)
{
	struct sthread_sc sc;
	struct sthread *s;
	char here[100];

	sc_init(&sc);
	ktap_eq(sc_user(&sc, 1234, 567, NULL), -EINVAL, "another user needs a thread");
	sc.flags = STHREAD_THREAD;
	wedge_must(sc_call_add(&sc, SYS_getuid), "sc_call_add");
	wedge_must(sc_call_add(&sc, SYS_getgid), "sc_call_add");
	wedge_must(sc_user(&sc, 1234, 567, "/tmp"), "sc_user");
	wedge_returns(&sc, ids, NULL, 1234567, "another user and group");
	ktap_ok(getuid() == 0 && getgid() == 0, "for this thread alone");
	ktap_ok(getcwd(here, sizeof(here)) && !access("/proc/self/maps", R_OK),
		"and so is the root");
	wedge_must(sc_user(&sc, 0, 0, "/nothing/there"), "sc_user");
	ktap_eq(sthread_create(&s, &sc, ids, NULL), -ENOENT, "a root that is not there");
}

static void leaks(struct work *w)
{
	struct dune_stats before, after;
	long kb, vm;
	struct sthread_sc sc;
	bool ok = true;

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, tag, WEDGE_RW), "sc_mem_add");
	w->waiting = 0;
	for (unsigned int i = 0; i < 20; i++)
		ok &= !wedge_run(&sc, add, w);
	kb = status("VmRSS:");
	vm = status("VmSize:");
	before = dune_test_stats();
	for (unsigned int i = 0; i < 1000; i++)
		ok &= wedge_run(&sc, fault, w) == -EFAULT;
	after = dune_test_stats();
	for (unsigned int i = 0; i < 20; i++)
		ok &= !wedge_run(&sc, add, w);
	ktap_ok(ok, "1,000 sthreads with a fault each");
	ktap_ok(after.exit[DUNE_STAT_HYPERCALL].count - before.exit[DUNE_STAT_HYPERCALL].count < 20,
		"need no system call");
	/* Linux counts on each CPU and adds up by 32 pages; one page for each were 4,000 kB. */
	ktap_ok(status("VmRSS:") < kb + 1000, "no memory is lost (%ld, %ld kB)", kb,
		status("VmRSS:"));
	ktap_eq(status("VmSize:"), vm, "nor addresses");
	sc.flags = STHREAD_THREAD;
	for (unsigned int i = 0; i < 10; i++)
		ok &= wedge_run(&sc, fault, w) == -EFAULT;
	kb = status("VmRSS:");
	vm = status("VmSize:");
	for (unsigned int i = 0; i < 100; i++)
		ok &= wedge_run(&sc, fault, w) == -EFAULT;
	ktap_ok(ok && status("VmRSS:") < kb + 350 && status("VmSize:") <= vm + 64,
		"nor by 100 in threads (%ld, %ld kB)", kb, status("VmRSS:"));
}

int main(void)
{
	struct work *w;

	ktap_plan(DUNE_TEST_ENTER + 3 + 1 + 5 + 5 + DUNE_TEST_LEAVE);
	dune_test_enter();
	wedge_must(wedge_init(), "wedge_init");
	tag = wedge_tag(1);
	w = smalloc(sizeof(*w), tag);
	at_once(w);
	in_threads(w);
	another_user();
	leaks(w);
	return dune_test_done();
}
