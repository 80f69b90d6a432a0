// SPDX-License-Identifier: MIT
/* The same server as an ordinary process, to compare with. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "httpsd.h"

static struct options *options;
static SSL_CTX *context;

static void must(bool done, const char *what)
{
	if (done)
		return;
	fprintf(stderr, "httpsd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct connection *connection_of(int fd)
{
	struct connection *c = calloc(1, sizeof(*c));

	must(c, "a connection");
	c->fd = fd;
	c->vulnerable = options->vulnerable;
	return c;
}

static void *serve_and_close(void *arg)
{
	struct connection *c = arg;

	serve_connection(c, context);
	SSL_free(c->ssl);
	close(c->fd);
	free(c);
	return NULL;
}

static void in_child(struct connection *c)
{
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (!pid) {
		serve_connection(c, context);
		_exit(0);
	}
	close(c->fd);
	free(c);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fewer = PTHREAD_COND_INITIALIZER;
static unsigned int running;

static void *serve_in_thread(void *arg)
{
	serve_and_close(arg);
	pthread_mutex_lock(&lock);
	running--;
	pthread_cond_signal(&fewer);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void wait_for_threads(void)
{
	pthread_mutex_lock(&lock);
	while (running)
		pthread_cond_wait(&fewer, &lock);
	pthread_mutex_unlock(&lock);
}

static void in_thread(struct connection *c)
{
	pthread_attr_t attr;
	pthread_t thread;
	bool done;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_mutex_lock(&lock);
	running++;
	pthread_mutex_unlock(&lock);
	done = !pthread_create(&thread, &attr, serve_in_thread, c);
	pthread_attr_destroy(&attr);
	must(done, "pthread_create");
}

static void *one_of_pool(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = next_connection(options)) >= 0)
		serve_and_close(connection_of(fd));
	return NULL;
}

static void pool(unsigned int threads)
{
	pthread_t *other = calloc(threads, sizeof(*other));

	must(other, "threads");
	for (unsigned int i = 1; i < threads; i++)
		must(!pthread_create(&other[i], NULL, one_of_pool, NULL), "pthread_create");
	one_of_pool(NULL);
	for (unsigned int i = 1; i < threads; i++)
		pthread_join(other[i], NULL);
	free(other);
}

long plain_serve(struct options *o)
{
	int fd;

	options = o;
	if (!o->http) {
		tls_warm_up();
		context = tls_context(o);
	}
	if (o->way == PLAIN_POOL) {
		pool(o->threads);
		return -1;
	}
	while ((fd = next_connection(o)) >= 0)
		(o->way == PLAIN_FORK ? in_child : in_thread)(connection_of(fd));
	while (waitpid(-1, NULL, 0) > 0)
		;
	wait_for_threads();
	return -1;
}
