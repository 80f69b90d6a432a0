/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Waiting in Dune mode: pipes, poll, select, epoll, eventfd, timerfd, signalfd
 * and inotify, with a native process and a thread in Dune mode at the other end.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>

#define ROUNDS	300

static int to_native[2], from_native[2];
static int *event_fd;

/* Sends every byte back, one higher; a byte 0xff asks for a sleep first. */
static int echo(void *arg)
{
	unsigned char c;

	(void)arg;
	close(to_native[1]);
	while (read(to_native[0], &c, 1) == 1) {
		if (c == 0xff)
			usleep(30000);
		c++;
		if (write(from_native[1], &c, 1) != 1)
			return 1;
	}
	return 0;
}

static bool pipes(void)
{
	bool ok = true;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned char c = (unsigned char)(i % 200), got = 0;

		ok &= write(to_native[1], &c, 1) == 1 && read(from_native[0], &got, 1) == 1;
		ok &= got == c + 1;
	}
	return ok;
}

/* A full pipe blocks, and what does not block says so; all bytes arrive in order. */
static void *drain(void *arg)
{
	int fd = *(int *)arg;
	unsigned char buf[5000];
	size_t total = 0, wrong = 0;
	ssize_t n;

	if (!mem_thread_inside())
		return (void *)1;
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			wrong += buf[i] != (unsigned char)((total + (size_t)i) % 251);
		total += (size_t)n;
	}
	return (void *)(uintptr_t)(wrong || total != 4 * MIB);
}

static bool full_pipe(void)
{
	int fds[2], other[2];
	unsigned char *all = mem_new(4 * MIB);
	void *wrong = (void *)1;
	pthread_t thread;
	size_t sent = 0;
	bool ok = pipe2(fds, O_CLOEXEC) == 0 && pipe2(other, O_NONBLOCK) == 0;

	for (size_t i = 0; i < 4 * MIB; i++)
		all[i] = (unsigned char)(i % 251);
	ok &= pthread_create(&thread, NULL, drain, &fds[0]) == 0;
	while (ok && sent < 4 * MIB) {
		ssize_t n = write(fds[1], all + sent, 4 * MIB - sent);

		if (n <= 0)
			return false;
		sent += (size_t)n;
	}
	close(fds[1]);
	ok &= pthread_join(thread, &wrong) == 0 && !wrong;
	errno = 0;
	ok &= read(other[0], all, 1) == -1 && errno == EAGAIN;
	while (write(other[1], all, 4096) > 0)
		;
	ok &= errno == EAGAIN;
	close(fds[0]);
	close(other[0]);
	close(other[1]);
	munmap(all, 4 * MIB);
	return ok;
}

static double elapsed(double since)
{
	return child_now() - since;
}

/* Each way to wait: a time-out first, then a byte that comes 30 ms later. */
static bool waits(int how)
{
	unsigned char slow = 0xff, got = 1;
	int fd = from_native[0], ep = epoll_create1(EPOLL_CLOEXEC), n = -1;
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 0x1234567887654321 }, out;
	bool ok = epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) == 0;

	for (int turn = 0; turn < 2; turn++) {
		struct timespec ts = { turn ? 20 : 0, turn ? 0 : 20000000 };
		struct timeval tv = { ts.tv_sec, ts.tv_nsec / 1000 };
		int ms = turn ? 20000 : 20;
		struct pollfd p = { .fd = fd, .events = POLLIN };
		double start;
		fd_set set;

		if (turn)
			ok &= write(to_native[1], &slow, 1) == 1;
		FD_ZERO(&set);
		FD_SET(fd, &set);
		start = child_now();
		switch (how) {
		case 0:
			n = poll(&p, 1, ms);
			break;
		case 1:
			n = ppoll(&p, 1, &ts, NULL);
			break;
		case 2:
			n = select(fd + 1, &set, NULL, NULL, &tv);
			break;
		case 3:
			n = pselect(fd + 1, &set, NULL, NULL, &ts, NULL);
			break;
		case 4:
			n = epoll_wait(ep, &out, 1, ms);
			ok &= n <= 0 || out.data.u64 == event.data.u64;
			break;
		}
		ok &= n == turn && (turn ? elapsed(start) < 15 : elapsed(start) >= 0.019);
	}
	ok &= read(fd, &got, 1) == 1 && got == 0;
	close(ep);
	return ok;
}

/* Edge-triggered and one-shot events come once. */
static bool epoll_kinds(void)
{
	int fds[2], ep = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET }, out;
	bool ok = pipe(fds) == 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &event) == 0;

	ok &= write(fds[1], "ab", 2) == 2 && epoll_wait(ep, &out, 1, 0) == 1;
	ok &= epoll_wait(ep, &out, 1, 0) == 0 && write(fds[1], "c", 1) == 1;
	ok &= epoll_wait(ep, &out, 1, 0) == 1;
	event.events = EPOLLIN | EPOLLONESHOT;
	ok &= epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &event) == 0;
	ok &= epoll_wait(ep, &out, 1, 0) == 1 && epoll_wait(ep, &out, 1, 0) == 0;
	close(fds[1]);
	ok &= epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &event) == 0 &&
	      epoll_wait(ep, &out, 1, 0) == 1 && (out.events & EPOLLHUP);
	close(fds[0]);
	close(ep);
	return ok;
}

static void *add_events(void *arg)
{
	uint64_t one = 1;
	int fd = *(int *)arg;

	if (!mem_thread_inside())
		return (void *)1;
	for (unsigned int i = 0; i < ROUNDS; i++)
		if (write(fd, &one, 8) != 8)
			return (void *)2;
	return NULL;
}

static bool eventfds(void)
{
	int fd = eventfd(0, EFD_CLOEXEC), sem = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
	uint64_t got, sum = 0;
	void *ret = (void *)9;
	pthread_t thread;
	bool ok;

	event_fd = &fd;
	ok = pthread_create(&thread, NULL, add_events, event_fd) == 0;
	while (ok && sum < ROUNDS && read(fd, &got, 8) == 8)
		sum += got;
	ok &= pthread_join(thread, &ret) == 0 && !ret && sum == ROUNDS;
	for (int i = 0; i < 3; i++)
		ok &= read(sem, &got, 8) == 8 && got == 1;
	errno = 0;
	ok &= read(sem, &got, 8) == -1 && errno == EAGAIN;
	close(fd);
	close(sem);
	return ok;
}

static bool timerfds(void)
{
	struct itimerspec every = { { 0, 5000000 }, { 0, 5000000 } }, left;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	double start = child_now();
	uint64_t got, sum = 0;
	bool ok = timerfd_settime(fd, 0, &every, NULL) == 0;

	while (ok && sum < 8) {
		ok &= read(fd, &got, 8) == 8;
		sum += got;
	}
	ok &= elapsed(start) >= 0.039 && timerfd_gettime(fd, &left) == 0;
	ok &= left.it_interval.tv_nsec == 5000000 && left.it_value.tv_nsec <= 5000000;
	close(fd);
	return ok;
}

/* Signals that are blocked are read, with who sent them and what came along. */
static bool signalfds(void)
{
	struct signalfd_siginfo info;
	union sigval value = { .sival_int = 4711 };
	sigset_t set, old;
	bool ok;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 2);
	sigprocmask(SIG_BLOCK, &set, &old);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	errno = 0;
	ok = fd >= 0 && read(fd, &info, sizeof(info)) == -1 && errno == EAGAIN;
	kill(getpid(), SIGUSR1);
	ok &= read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1 &&
	      (pid_t)info.ssi_pid == getpid() && info.ssi_code == SI_USER;
	sigqueue(getpid(), SIGRTMIN + 2, value);
	value.sival_int++;
	sigqueue(getpid(), SIGRTMIN + 2, value);
	for (int i = 0; i < 2; i++)
		ok &= read(fd, &info, sizeof(info)) == sizeof(info) &&
		      info.ssi_signo == (uint32_t)SIGRTMIN + 2 && info.ssi_int == 4711 + i;
	ok &= read(fd, &info, sizeof(info)) == -1;
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(fd);
	return ok;
}

static bool inotifies(void)
{
	char dir[] = "/tmp/sys_poll-XXXXXX", name[64], buf[1024];
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), file, watch;
	struct inotify_event *e = (struct inotify_event *)buf;
	bool ok = mkdtemp(dir) != NULL;

	watch = inotify_add_watch(fd, dir, IN_CREATE | IN_MODIFY | IN_DELETE);
	snprintf(name, sizeof(name), "%s/file", dir);
	ok &= watch >= 0 && read(fd, buf, sizeof(buf)) == -1 && errno == EAGAIN;
	file = open(name, O_CREAT | O_WRONLY, 0600);
	ok &= read(fd, buf, sizeof(buf)) > 0 && e->mask == IN_CREATE && !strcmp(e->name, "file");
	ok &= write(file, "x", 1) == 1 && read(fd, buf, sizeof(buf)) > 0 && e->mask == IN_MODIFY;
	close(file);
	unlink(name);
	ok &= read(fd, buf, sizeof(buf)) > 0 && e->mask == IN_DELETE && e->wd == watch;
	rmdir(dir);
	close(fd);
	return ok;
}

int main(void)
{
	static const char *const names[] = { "poll", "ppoll", "select", "pselect", "epoll_wait" };
	struct child other;
	int status;

	ktap_plan(DUNE_TEST_ENTER + 13 + DUNE_TEST_LEAVE);
	if (pipe(to_native) || pipe(from_native))
		ktap_bail("pipe: %s", strerror(errno));
	other = child_start(echo, NULL);
	dune_test_enter();
	child_go(&other);

	ktap_ok(pipes(), "pipes to a native process and back");
	ktap_ok(full_pipe(), "4 MiB through a pipe to a thread in Dune mode; full and empty pipes");
	for (int how = 0; how < 5; how++)
		ktap_ok(waits(how), "%s: a time-out, then what comes later", names[how]);
	ktap_ok(epoll_kinds(), "epoll: edge-triggered, one-shot, hang-up");
	ktap_ok(eventfds(), "eventfd");
	ktap_ok(timerfds(), "timerfd");
	ktap_ok(signalfds(), "signalfd");
	ktap_ok(inotifies(), "inotify");
	close(to_native[1]);
	status = child_wait(&other);
	ktap_ok(status == 0, "the native process ends well (%s)", child_status(status));
	return dune_test_done();
}
