/* SPDX-License-Identifier: MIT */
/*
 * For sandbox_embed with the ending .txt: what a program sees of the callback, and what a hostile
 * one tries.  In the current folder, /tmp/shell, asked/a.txt holds "t" and asked/a.key "k".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "sandbox.h"

#define ROUNDS		300
#define THREADS		4
#define ASK_EACH	50

/* xmm0 to xmm15 from @in, a call that is asked about, and into @out. */
static long call_with_vectors(const uint64_t *in, uint64_t *out)
{
	long ret = SYS_getppid;

	__asm__ volatile(
		"movdqu (%1), %%xmm0\n\tmovdqu 16(%1), %%xmm1\n\tmovdqu 32(%1), %%xmm2\n\t"
		"movdqu 48(%1), %%xmm7\n\tmovdqu 64(%1), %%xmm15\n\tsyscall\n\t"
		"movdqu %%xmm0, (%2)\n\tmovdqu %%xmm1, 16(%2)\n\tmovdqu %%xmm2, 32(%2)\n\t"
		"movdqu %%xmm7, 48(%2)\n\tmovdqu %%xmm15, 64(%2)"
		: "+a"(ret) : "r"(in), "r"(out)
		: "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm7", "xmm15");
	return ret;
}

static __thread long own;

/* Registers and TLS are the thread's own, however many are asked about at once. */
static void *be_asked(void *arg)
{
	uint64_t in[10], out[10];
	long wrong = 0;

	own = (long)arg + 77;
	for (uint64_t i = 0; i < ASK_EACH; i++) {
		for (uint64_t k = 0; k < 10; k++)
			in[k] = ((uint64_t)arg << 32) + i * 100 + k;
		wrong += call_with_vectors(in, out) <= 0 || memcmp(in, out, sizeof(in)) ||
			 own != (long)arg + 77;
	}
	return (void *)wrong;
}

static void in_threads(void)
{
	pthread_t thread[THREADS];
	long wrong = 0;
	int status, left = 0;

	for (long i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, be_asked, (void *)i);
	/* Children that are made while a callback runs ask, too. */
	for (int i = 0; i < 10; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(be_asked((void *)9L) ? 1 : 0);
		left += waitpid(pid, &status, 0) != pid || status;
	}
	for (int i = 0; i < THREADS; i++) {
		void *ret;

		pthread_join(thread[i], &ret);
		wrong += (long)ret;
	}
	ktap_eq(wrong, 0, "vector registers and TLS are the program's after a callback");
	ktap_eq(left, 0, "a child that is made meanwhile is asked about, too");
}

/* ---- what is allowed is the copy ------------------------------------------------ */

static volatile char name[32] = "asked/a.txt";
static volatile bool stop_turning;

static void *turn(void *arg)
{
	(void)arg;
	while (!stop_turning) {
		memcpy((char *)name + 8, "key", 3);
		sched_yield();
		memcpy((char *)name + 8, "txt", 3);
		sched_yield();
	}
	return NULL;
}

static void race(void)
{
	int texts = 0, denied = 0, keys = 0;
	pthread_t thread;

	pthread_create(&thread, NULL, turn, NULL);
	for (int i = 0; i < ROUNDS * 20 && (i < ROUNDS || !texts || !denied); i++) {
		int fd = open((char *)name, O_RDONLY);
		char byte = 0;

		if (fd < 0 || read(fd, &byte, 1) != 1)
			denied++;
		texts += byte == 't';
		keys += byte == 'k';
		if (fd >= 0)
			close(fd);
	}
	stop_turning = true;
	pthread_join(thread, NULL);
	ktap_ok(texts && denied, "both names were asked about (%d, %d)", texts, denied);
	ktap_eq(keys, 0, "a name that changes while it is asked about opens nothing else");
}

static bool can_be_named(const char *log)
{
	struct stat wanted, st;

	if (stat(log, &wanted))
		return true;
	for (int fd = 0; fd < 4096; fd++)
		if (!fstat(fd, &st) && st.st_ino == wanted.st_ino && st.st_dev == wanted.st_dev)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	if (!begin(10))
		return 1;
	ktap_ok(argc > 1 && !can_be_named(argv[1]), "the callback's descriptor is nobody's");
	syscall(SYS_close_range, 3, ~0U, 0);
	ktap_ok(getppid() > 0, "nor is it closed by close_range()");
	REFUSED(open("asked/a.key", O_RDONLY), "reading what the callback denies");
	REFUSED(open("asked/b.key", O_WRONLY | O_CREAT, 0600), "making a file that it denies");
	ktap_ok(open("asked/b.txt", O_WRONLY | O_CREAT, 0600) >= 0, "one that it allows is made");
	in_threads();
	race();
	return ktap_done();
}
