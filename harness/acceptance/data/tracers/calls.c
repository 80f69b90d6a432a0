/* SPDX-License-Identifier: MIT */
/* System calls of many kinds, for strace: the same in each run. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_signal(int sig)
{
	(void)!write(1, sig == SIGUSR1 ? "usr1\n" : "alrm\n", 5);
}

static void *thread(void *arg)
{
	return (void *)(getppid() ? arg : NULL);
}

int main(void)
{
	struct itimerval soon = { { 0, 0 }, { 0, 300000 } };
	char *argv[] = { "sh", "-c", "exit 4", NULL }, byte;
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	int pipes[2], status;
	stack_t st = { .ss_sp = NULL, .ss_flags = SS_DISABLE };
	pthread_t t;
	pid_t pid;

	close(open("/etc/passwd", O_RDONLY));
	open("/no/such/file", O_RDONLY);
	munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
	write(-1, "x", 1);
	syscall(SYS_close_range, 100, 200, 0);
	dup2(1, 50);
	close(50);
	close(777);
	syscall(999);
	sigaltstack(&st, NULL);
	for (int i = 0; i < 2; i++) {
		pthread_create(&t, NULL, thread, argv);
		pthread_join(t, NULL);
	}
	sigaction(SIGUSR1, &act, NULL);
	sigaction(SIGALRM, &act, NULL);
	raise(SIGUSR1);
	pipe(pipes);
	pid = fork();
	if (pid == 0) {
		read(pipes[0], &byte, 1);
		_exit(getppid() == 1);
	}
	setitimer(ITIMER_REAL, &soon, NULL);
	errno = 0;
	pause();
	write(pipes[1], "", 1);
	waitpid(pid, &status, 0);
	posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, NULL);
	waitpid(pid, &status, 0);
	pid = fork();
	if (pid == 0)
		kill(getpid(), SIGTERM);
	waitpid(pid, &status, 0);
	execl("/bin/echo", "echo", "the end", NULL);
	return 1;
}
