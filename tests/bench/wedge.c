/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=300 icount spread=10 */
/*
 * Compartments, against what a program has without them.
 *
 *	wedge_create	one is made, does nothing, and is waited for: fork() natively, an sthread
 *			in Dune mode; pthread_create() natively, which keeps nobody from anything
 *	wedge_gate	another compartment is asked for a number: natively a process behind
 *			a pair of sockets, in Dune mode a callgate, from ring 0 and from an sthread
 *	wedge_switchN	to another one's page tables and N of its pages, and back: natively the other
 *			is a process
 */
#define _GNU_SOURCE
#include "../wedge.h"
#include "bench.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define PAGE		4096UL
#define PAGES		64UL

static struct wedge_tag *tag;

static void forks(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		int status = 0;
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			ktap_bail("fork: %s", strerror(errno));
	}
}

static void *nothing(void *arg)
{
	return arg;
}

static void threads(unsigned int n, void *arg)
{
	for (unsigned int i = 0; i < n; i++) {
		pthread_t t;

		if (pthread_create(&t, NULL, nothing, arg) || pthread_join(t, NULL))
			ktap_bail("pthread_create");
	}
}

static void sthreads(unsigned int n, void *arg)
{
	for (unsigned int i = 0; i < n; i++) {
		struct sthread *s;

		if (sthread_create(&s, arg, nothing, NULL) || sthread_join(s, NULL))
			ktap_bail("sthread_create");
	}
}

/* ---- asking another one ------------------------------------------------------------------ */

struct pages {
	unsigned char *at;
	unsigned long nr;
};

static long touch(const struct pages *p)
{
	unsigned long sum = 1;

	for (unsigned long i = 0; i < p->nr; i++)
		sum += ++p->at[i * PAGE];
	return (long)sum;
}

static long answer(void *trusted, void *arg)
{
	const struct pages *p = trusted;

	(void)arg;
	return p ? touch(p) : 1;
}

/* A process that answers: it ends with the socket. */
static int serve(struct pages *p, pid_t *pid)
{
	int pair[2];
	long value;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		ktap_bail("socketpair: %s", strerror(errno));
	*pid = fork();
	if (!*pid) {
		close(pair[0]);
		while (read(pair[1], &value, sizeof(value)) == sizeof(value)) {
			value = answer(p, NULL);
			if (write(pair[1], &value, sizeof(value)) != sizeof(value))
				break;
		}
		_exit(0);
	}
	close(pair[1]);
	return pair[0];
}

struct asked {
	int fd;
	struct wedge_gate *gate;
	struct pages *own;	/* what the asker touches in between */
};

static void ask_process(unsigned int n, void *arg)
{
	const struct asked *a = arg;
	long value = 0;

	for (unsigned int i = 0; i < n; i++) {
		if (write(a->fd, &value, sizeof(value)) != sizeof(value) ||
		    read(a->fd, &value, sizeof(value)) != sizeof(value) || !value)
			ktap_bail("the other process: %s", strerror(errno));
		if (a->own)
			touch(a->own);
	}
}

static void ask_gate(unsigned int n, void *arg)
{
	const struct asked *a = arg;

	for (unsigned int i = 0; i < n; i++) {
		if (gate_call(a->gate, NULL) <= 0)
			ktap_bail("gate_call");
		if (a->own)
			touch(a->own);
	}
}

/* In an sthread, which measures n calls itself: in a tag. */
struct inside {
	struct wedge_gate *gate;
	unsigned long n, failed;
};

static void *ask_inside(void *arg)
{
	struct inside *in = arg;

	for (unsigned long i = 0; i < in->n; i++)
		in->failed += gate_call(in->gate, NULL) <= 0;
	return NULL;
}

struct from {
	struct sthread_sc sc;
	struct inside *in;
};

static void ask_from_sthread(unsigned int n, void *arg)
{
	struct from *f = arg;

	f->in->n = n;
	f->in->failed = 0;
	if (wedge_run(&f->sc, ask_inside, f->in) || f->in->failed)
		ktap_bail("gate_call in an sthread");
}

static struct bench gate_bench(const struct pages *p, struct pages *own, unsigned int flags)
{
	struct asked a = { .own = own };
	struct sthread_sc sc;
	struct bench b;

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, tag, WEDGE_RW), "sc_mem_add");
	wedge_must(gate_new(&a.gate, &sc, answer, (void *)p, flags), "gate_new");
	bench_run(&b, ask_gate, &a, 200);
	wedge_must(gate_delete(a.gate), "gate_delete");
	return b;
}

static struct bench inside_bench(void)
{
	struct from f;
	struct bench b;

	f.in = smalloc(sizeof(*f.in), tag);
	sc_init(&f.sc);
	wedge_must(gate_new(&f.in->gate, &f.sc, answer, NULL, GATE_KEPT), "gate_new");
	wedge_must(sc_gate_add(&f.sc, f.in->gate), "sc_gate_add");
	wedge_must(sc_mem_add(&f.sc, tag, WEDGE_RW), "sc_mem_add");
	bench_run(&b, ask_from_sthread, &f, 2000);
	wedge_must(gate_delete(f.in->gate), "gate_delete");
	sfree(f.in);
	return b;
}

static const unsigned long sizes[] = { 1, 8, 64 };
#define SIZES	3

static void native(struct bench *create, struct bench *thread, struct bench *gate,
		   struct bench *change)
{
	unsigned char *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct asked a = { 0 };
	pid_t pid;

	bench_run(create, forks, NULL, 20);
	bench_run(thread, threads, NULL, 50);
	a.fd = serve(NULL, &pid);
	bench_run(gate, ask_process, &a, 200);
	close(a.fd);
	waitpid(pid, NULL, 0);
	for (unsigned int i = 0; i < SIZES; i++) {
		struct pages p = { area, sizes[i] };

		memset(area, 1, PAGES * PAGE);
		a.own = &p;
		a.fd = serve(&p, &pid);
		bench_run(&change[i], ask_process, &a, 200);
		close(a.fd);
		waitpid(pid, NULL, 0);
	}
}

static void dune(struct bench *create, struct bench *own_thread, struct bench *change)
{
	struct sthread_sc sc;
	unsigned char *area = smalloc(PAGES * PAGE, tag);
	struct pages *p = smalloc(sizeof(*p), tag), own;

	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, tag, WEDGE_RW), "sc_mem_add");
	bench_run(create, sthreads, &sc, 100);
	sc.flags = STHREAD_THREAD;
	bench_run(own_thread, sthreads, &sc, 20);
	own.at = calloc(PAGES, PAGE);
	for (unsigned int i = 0; i < SIZES; i++) {
		p->at = area;
		p->nr = own.nr = sizes[i];
		change[i] = gate_bench(p, &own, GATE_KEPT);
	}
	free(own.at);
}

int main(void)
{
	struct bench fork_native, thread_native, gate_native, change_native[SIZES];
	struct bench create, own_thread, change[SIZES], gate, recycled, kept, inside;
	char name[40];

	ktap_plan(DUNE_TEST_ENTER + 3 + DUNE_TEST_LEAVE);
	bench_pin();
	native(&fork_native, &thread_native, &gate_native, change_native);
	dune_test_enter();
	wedge_must(wedge_init(), "wedge_init");
	tag = wedge_tag(1);
	dune(&create, &own_thread, change);
	gate = gate_bench(NULL, NULL, 0);
	recycled = gate_bench(NULL, NULL, GATE_RECYCLED);
	kept = gate_bench(NULL, NULL, GATE_KEPT);
	inside = inside_bench();
	bench_report("wedge_create_native", &fork_native);
	bench_report("wedge_create_dune", &create);
	bench_report("wedge_pthread_native", &thread_native);
	bench_report("wedge_thread_dune", &own_thread);
	bench_report("wedge_gate_native", &gate_native);
	bench_report("wedge_gate_new_dune", &gate);
	bench_report("wedge_gate_recycled_dune", &recycled);
	bench_report("wedge_gate_kept_dune", &kept);
	bench_report("wedge_gate_inside_dune", &inside);
	for (unsigned int i = 0; i < SIZES; i++) {
		snprintf(name, sizeof(name), "wedge_switch%lu_native", sizes[i]);
		bench_report(name, &change_native[i]);
		snprintf(name, sizeof(name), "wedge_switch%lu_dune", sizes[i]);
		bench_report(name, &change[i]);
	}
	ktap_ok(create.exits < 50, "an sthread needs no exit (%ld hundredths)", create.exits);
	ktap_ok(kept.exits < 50 && recycled.exits < 50, "nor does a recycled gate");
	ktap_ok(create.median * 10 < fork_native.median && change[0].median < change_native[0].median,
		"and both are cheaper than processes");
	return dune_test_done();
}
