/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * Hooks around system calls: what they see and may change, what the caller finds in
 * its registers, signals in the middle, and threads.
 */
#include "../dune_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/time.h>

static volatile unsigned int before, after, watched;
static volatile long watch_nr = -1, last_result;
static volatile uint64_t last_arg[6];
static volatile bool change, answer, bad_result;

static int pre(struct dune_tf *tf)
{
	before++;
	if ((long)tf->rax != watch_nr)
		return 0;
	watched++;
	last_arg[0] = ARG0(tf);
	last_arg[1] = ARG1(tf);
	last_arg[2] = ARG2(tf);
	last_arg[3] = ARG3(tf);
	last_arg[4] = ARG4(tf);
	last_arg[5] = ARG5(tf);
	getuid();				/* not hooked again */
	asm volatile("pxor %%xmm7, %%xmm7" : : : "xmm7");
	if (change)
		ARG0(tf) = 1000000;		/* no such descriptor */
	if (answer)
		tf->rax = 4711;
	return answer;
}

static void post(struct dune_tf *tf)
{
	after++;
	last_result = (long)tf->rax;
	asm volatile("pxor %%xmm8, %%xmm8" : : : "xmm8");
	if (bad_result)
		tf->rax = (uint64_t)-EPERM;
}

/* A call with all arguments and with values in registers that a call keeps. */
struct kept {
	uint64_t rdi, rsi, rdx, r10, r8, r9, rbx, r12, r13, r14, r15, xmm7, xmm8, red;
	bool returned_right;
};

static long call(long nr, uint64_t first, struct kept *k)
{
	register uint64_t r10 asm("r10") = 44, r8 asm("r8") = 55, r9 asm("r9") = 66;
	register uint64_t r12 asm("r12") = 12, r13 asm("r13") = 13, r14 asm("r14") = 14;
	uint64_t rdi = first, rsi = 22, rdx = 33, rbx = 77, x7, x8, red, rcx, here;
	long ret = nr;

	asm volatile("movq %[v], %%xmm7\n"
		     "	movq %[v], %%xmm8\n"
		     "	mov %[v], -64(%%rsp)\n"
		     "	syscall\n"
		     "1:	lea 1b(%%rip), %%r11\n"
		     "	mov %%r11, %[here]\n"
		     "	mov %%rcx, %[rcx]\n"
		     "	mov -64(%%rsp), %%r11\n"
		     "	mov %%r11, %[red]\n"
		     "	movq %%xmm7, %%r11\n"
		     "	mov %%r11, %[x7]\n"
		     "	movq %%xmm8, %%r11\n"
		     "	mov %%r11, %[x8]\n"
		     : "+a"(ret), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r10), "+r"(r8), "+r"(r9),
		       "+b"(rbx), "+r"(r12), "+r"(r13), "+r"(r14),
		       [x7]"=m"(x7), [x8]"=m"(x8), [red]"=m"(red), [rcx]"=m"(rcx),
		       [here]"=m"(here)
		     : [v]"r"(r14)
		     : "rcx", "r11", "xmm7", "xmm8", "memory");
	*k = (struct kept){ rdi, rsi, rdx, r10, r8, r9, rbx, r12, r13, r14, 0, x7, x8, red,
			    rcx == here };
	return ret;
}

static bool all_kept(const struct kept *k, uint64_t first)
{
	return k->rdi == first && k->rsi == 22 && k->rdx == 33 && k->r10 == 44 && k->r8 == 55 &&
	       k->r9 == 66 && k->rbx == 77 && k->r12 == 12 && k->r13 == 13 && k->r14 == 14 &&
	       k->xmm7 == 14 && k->xmm8 == 14 && k->red == 14 && k->returned_right;
}

static volatile int signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
	syscall(SYS_getppid);
}

static void *thread(void *arg)
{
	unsigned int had = watched;

	syscall(SYS_getppid);
	*(unsigned int *)arg = watched - had;
	return NULL;
}

static void alarm_in_20_ms(bool again)
{
	struct itimerval t = { .it_interval = { 0, again ? 20000 : 0 }, .it_value = { 0, 20000 } };

	setitimer(ITIMER_REAL, &t, NULL);
}

/* A read() of a pipe that nobody writes to, until a signal ends it. */
static void interrupted(int pipe_fd, int flags, const char *what)
{
	static const struct itimerval off;
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = flags };
	int error;
	char c;
	long ret;

	sigaction(SIGALRM, &act, NULL);
	signals = 0;
	watched = 0;
	watch_nr = SYS_read;
	alarm_in_20_ms(true);	/* the first may come before the call */
	ret = syscall(SYS_read, pipe_fd, &c, 1);
	error = errno;
	watch_nr = -1;
	setitimer(ITIMER_REAL, &off, NULL);
	ktap_ok(ret == -1 && error == EINTR && signals >= 1 && watched == 1, "%s", what);
}

/* With SA_RESTART the call goes on: the handler's second alarm writes to the pipe. */
static int restart_fd;

static void on_restart(int sig)
{
	(void)sig;
	if (++signals == 2)
		syscall(SYS_write, restart_fd, "x", 1);
	else
		alarm_in_20_ms(false);
}

static void restarted(const int *fds)
{
	struct sigaction act = { .sa_handler = on_restart, .sa_flags = SA_RESTART };
	char c = 0;
	long ret;

	restart_fd = fds[1];
	sigaction(SIGALRM, &act, NULL);
	signals = 0;
	watched = 0;
	watch_nr = SYS_read;
	alarm_in_20_ms(false);
	ret = syscall(SYS_read, fds[0], &c, 1);
	watch_nr = -1;
	ktap_ok(ret == 1 && c == 'x' && signals == 2 && watched == 1,
		"a call that restarts goes on, and the first hook ran once");
}

int main(void)
{
	unsigned int hooked = 0, count;
	struct kept k;
	pthread_t t;
	int fds[2], status, child;
	uint64_t exits;
	long ret;

	ktap_plan(DUNE_TEST_ENTER + 18 + DUNE_TEST_LEAVE);
	dune_test_enter();
	if (pipe(fds))
		ktap_bail("pipe: %s", strerror(errno));

	ktap_eq(dune_hook_syscalls(pre, post), 0, "hooks are registered");
	count = after;
	syscall(SYS_getppid);
	ktap_eq(after - count, 1, "a system call is hooked once");
	watch_nr = SYS_getppid;
	exits = dune_test_hypercalls();
	ret = call(SYS_getppid, 11, &k);
	exits = dune_test_hypercalls() - exits;
	watch_nr = -1;
	ktap_ok(ret == getppid() && last_result == ret, "the result is right, and the hook sees it");
	ktap_ok(last_arg[0] == 11 && last_arg[1] == 22 && last_arg[2] == 33 &&
		last_arg[3] == 44 && last_arg[4] == 55 && last_arg[5] == 66,
		"the hook sees all arguments");
	ktap_ok(all_kept(&k, 11), "the caller keeps its registers, vector registers and red zone");
	ktap_eq(exits, 2, "exits: the call, and the one that the hook makes");

	watch_nr = SYS_close;
	change = true;
	child = dup(0);
	ret = call(SYS_close, (uint64_t)child, &k);
	change = false;
	watch_nr = -1;
	ktap_ok(ret == -EBADF && fcntl(child, F_GETFD) >= 0, "a changed argument is what is used");
	ktap_ok(all_kept(&k, (uint64_t)child), "and the caller finds its own");
	close(child);

	watch_nr = SYS_getppid;
	answer = true;
	count = after;
	ret = call(SYS_getppid, 11, &k);
	answer = false;
	ktap_ok(ret == 4711 && after == count && all_kept(&k, 11),
		"a call that the hook answers is not made");
	bad_result = true;
	ret = call(SYS_getppid, 11, &k);
	bad_result = false;
	ktap_eq(ret, -EPERM, "a changed result");

	interrupted(fds[0], 0, "a signal ends a call with EINTR");
	restarted(fds);

	watch_nr = SYS_getppid;
	pthread_create(&t, NULL, thread, &hooked);
	pthread_join(t, NULL);
	ktap_eq(hooked, 1, "a thread made later is hooked");
	child = fork();
	if (!child) {
		hooked = watched;
		syscall(SYS_getppid);
		_exit(dune_in_guest() && watched == hooked + 1 ? 33 : 1);
	}
	waitpid(child, &status, 0);
	ktap_eq(status, 33 << 8, "so is a process");
	child = vfork();
	if (!child)
		_exit(34);
	waitpid(child, &status, 0);
	ktap_eq(status, 34 << 8, "vfork()");

	ktap_eq(dune_hook_syscalls(NULL, NULL), 0, "hooks are taken away");
	count = before;
	ret = call(SYS_getppid, 11, &k);
	ktap_ok(before == count && ret == getppid(), "and are not called any more");
	dune_hook_syscalls(NULL, post);
	count = after;
	syscall(SYS_getppid);
	hooked = after - count;
	dune_hook_syscalls(NULL, NULL);
	ktap_eq(hooked, 1, "one hook alone");
	return dune_test_done();
}
