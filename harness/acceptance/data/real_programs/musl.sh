# SPDX-License-Identifier: MIT
# A program with threads, linked with musl, dynamically and statically.

cp "$DATA/hello.c" .
musl-gcc -O2 -o hello hello.c && ./hello a
echo "status $?"
musl-gcc -O2 -static -o static hello.c && ./static b
echo "status $?"
cat >many.c <<'END'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int turn, sum;

static void *take(void *arg)
{
	int own = (int)(long)arg;

	pthread_mutex_lock(&m);
	while (turn != own)
		pthread_cond_wait(&c, &m);
	turn++;
	sum += own;
	pthread_cond_broadcast(&c);
	pthread_mutex_unlock(&m);
	free(malloc(100000));
	return arg;
}

int main(void)
{
	char *argv[] = { "sh", "-c", "exit 5", 0 };
	pthread_t t[32];
	int status;
	pid_t pid;

	for (long i = 0; i < 32; i++)
		if (pthread_create(&t[i], 0, take, (void *)i))
			return 1;
	for (int i = 0; i < 32; i++)
		pthread_join(t[i], 0);
	posix_spawn(&pid, "/bin/sh", 0, 0, argv, 0);
	waitpid(pid, &status, 0);
	printf("%d %d %d\n", turn, sum, WEXITSTATUS(status));
	return 3;
}
END
musl-gcc -o many many.c && ./many
echo "status $?"
musl-gcc -static -o many many.c && ./many
