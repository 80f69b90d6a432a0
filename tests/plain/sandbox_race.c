/* SPDX-License-Identifier: MIT */
/*
 * For dune-sandbox --allow-all: what a hostile program would try with several threads and
 * processes, see sandbox.h.
 *
 *	sandbox_race [ROUNDS]
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "sandbox.h"

#define RACES		600
#define MOST_RACES	60000	/* until the other thread was seen */

static int nr_races = RACES;

/* A process that was made by vfork() ends before its threads: they would stay. */
static void shared_memory(void)
{
	long ret = 0;
	pid_t child = vfork();

	if (!child) {
		ret = syscall(SYS_clone, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, 0, 0, 0, 0);
		_exit(ret < 0 ? 3 : 4);
	}
	waitpid(child, (int *)&ret, 0);
	ktap_ok(WIFEXITED((int)ret) && WEXITSTATUS((int)ret) == 3,
		"a thread of a process that shares this memory");
}

/* ---- races ----------------------------------------------------------------- */

static struct iovec turning;
static volatile char turning_path[32];
static volatile bool stop_turning;

/*
 * With one CPU the other thread sees what stands there when this one's time is up, which
 * on an emulator may be the same each time: so it ends its time itself, now and then.
 */
static void *turn(void *arg)
{
	static char good[8];
	uint32_t n = 1;
	bool odd = false;

	(void)arg;
	while (!stop_turning) {
		odd = !odd;
		__atomic_store_n(&turning.iov_base, odd ? (void *)data : good, __ATOMIC_RELAXED);
		memcpy((void *)turning_path, odd ? "/proc/self/mem" : "/proc/self/mpm", 15);
		n = n * 1664525 + 1013904223;
		if (n >> 24 == 0)
			sched_yield();
	}
	return NULL;
}

static void *link_turner(void *arg)
{
	(void)arg;
	while (!stop_turning) {
		unlink("/tmp/t2");
		if (symlink("/proc/self/mem", "/tmp/t2") || rename("/tmp/t2", "/tmp/t1"))
			continue;
		unlink("/tmp/t2");
		if (symlink("/dev/null", "/tmp/t2") || rename("/tmp/t2", "/tmp/t1"))
			continue;
	}
	return NULL;
}

/* Between what may be executed but is no program, and what may not be opened. */
static void *exec_link_turner(void *arg)
{
	(void)arg;
	while (!stop_turning) {
		unlink("/tmp/t4");
		if (symlink("/proc/self/mem", "/tmp/t4") || rename("/tmp/t4", "/tmp/t3"))
			continue;
		unlink("/tmp/t4");
		if (symlink("/tmp/plain", "/tmp/t4") || rename("/tmp/t4", "/tmp/t3"))
			continue;
	}
	return NULL;
}

static void races(void)
{
	int zero = open("/dev/zero", O_RDONLY), done = 0, refused = 0, got = 0, null = 0;
	int rounds = 0;
	pthread_t t, u;

	turning.iov_len = 8;
	pthread_create(&t, NULL, turn, NULL);
	for (; rounds < nr_races || (!(done && refused) && rounds < MOST_RACES); rounds++) {
		if (readv(zero, &turning, 1) == 8)
			done++;
		else
			refused++;
		int fd = open((const char *)turning_path, O_RDWR);

		if (fd >= 0)
			got++, close(fd);
	}
	stop_turning = true;
	pthread_join(t, NULL);
	ktap_ok(done && refused, "an iovec that changes: %d done, %d refused", done, refused);
	ktap_ok(!got, "a path that changes is never /proc/self/mem");
	stop_turning = false;
	unlink("/tmp/t1");
	pthread_create(&u, NULL, link_turner, NULL);
	for (int i = 0; i < nr_races; i++) {
		int fd = open("/tmp/t1", O_RDWR);
		char name[32], to[64];
		ssize_t n;

		if (fd < 0)
			continue;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, to, sizeof(to));
		if (n == 9 && !memcmp(to, "/dev/null", 9))
			null++;
		else
			got++;
		close(fd);
	}
	stop_turning = true;
	pthread_join(u, NULL);
	ktap_ok(!got, "a link that changes: %d times the harmless one, never the other", null);
	close(zero);
}

/*
 * What exec looks at before it executes: another thread takes its descriptor meanwhile.  It
 * is known by its file system, since names are read at another time than they are taken.
 */
static int taken = -1;
static dev_t proc_dev;
static char taken_name[64];

static void *take_descriptors(void *arg)
{
	int next = *(int *)arg;
	struct stat st;
	char name[40];

	while (!stop_turning && taken < 0) {
		int fd = dup(next);

		if (fd < 0)
			continue;
		if (fstat(fd, &st) || st.st_dev != proc_dev) {
			close(fd);
			continue;
		}
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		if (readlink(name, taken_name, sizeof(taken_name) - 1) < 0)
			strcpy(taken_name, "?");
		taken = fd;
	}
	return NULL;
}

static void exec_races(void)
{
	int dir = open("/proc/self", O_RDONLY | O_DIRECTORY), fd, next;
	char *const args[] = { "x", NULL };
	char name[40];
	struct stat st;
	pthread_t t, u;

	fd = open("/tmp/plain", O_WRONLY | O_CREAT | O_TRUNC, 0755);
	if (dir < 0 || fstat(dir, &st) || fd < 0 || write(fd, "no program", 10) != 10)
		exit(1);
	proc_dev = st.st_dev;
	close(fd);
	next = dup(dir);	/* the number that the next one gets */
	close(next);
	stop_turning = false;
	pthread_create(&t, NULL, take_descriptors, &next);
	for (int i = 0; i < nr_races && taken < 0; i++)
		syscall(SYS_execveat, dir, "mem", args, environ, 0);
	pthread_create(&u, NULL, exec_link_turner, NULL);
	for (int i = 0; i < nr_races && taken < 0; i++)
		execve("/tmp/t3", args, environ);
	stop_turning = true;
	pthread_join(t, NULL);
	pthread_join(u, NULL);
	ktap_ok(taken < 0, "exec opens nothing of /proc for a moment (%d: %s)", taken, taken_name);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", taken);
	REFUSED(open(name, O_RDWR), "and none can be opened again to write");
	close(dir);
}

/*
 * A new thread's vCPU is a descriptor, the lowest that is free for a moment.  Others take
 * second ones of such numbers, map them, send them, fork with them and close them, while
 * threads are made.
 */
static int low_first, low_last;		/* nothing of this program's is there */
static volatile int stolen;
static char stolen_name[64];

static bool is_foreign(int fd, char to[64])
{
	char name[40];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = readlink(name, to, 63);
	if (n <= 0)
		return false;
	to[n] = '\0';
	return strstr(to, "dune") && !strstr(to, "sandbox_race");
}

static void examine(int fd)
{
	char to[64];

	if (fd < 0)
		return;
	if (is_foreign(fd, to)) {
		memcpy(stolen_name, to, sizeof(stolen_name));
		stolen++;
	}
	close(fd);
}

static void *take_low(void *arg)
{
	(void)arg;
	while (!stop_turning)
		for (int fd = low_first; fd < low_last && !stop_turning; fd++) {
			void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

			examine(dup(fd));
			if (at == MAP_FAILED)
				continue;
			stolen++;
			munmap(at, 4096);
		}
	return NULL;
}

/* The copy of a table stays as it is, so it is looked at in peace. */
static void *fork_low(void *arg)
{
	int status;

	(void)arg;
	while (!stop_turning) {
		pid_t child = fork();

		if (!child) {
			for (int fd = low_first; fd < low_last; fd++)
				examine(dup(fd));
			_exit(stolen ? 3 : 0);
		}
		if (child > 0 && waitpid(child, &status, 0) == child && status)
			stolen++;
	}
	return NULL;
}

static int pair[2];

static void *send_low(void *arg)
{
	int got;

	(void)arg;
	while (!stop_turning)
		for (int fd = low_first; fd < low_last && !stop_turning; fd++) {
			char byte = 0, room[CMSG_SPACE(sizeof(int))] = { 0 };
			struct iovec part = { &byte, 1 };
			struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1,
					    .msg_control = room, .msg_controllen = sizeof(room) };
			struct cmsghdr *c = CMSG_FIRSTHDR(&m);

			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(c), &fd, sizeof(fd));
			if (sendmsg(pair[0], &m, 0) != 1 || recvmsg(pair[1], &m, 0) != 1)
				continue;
			c = CMSG_FIRSTHDR(&m);
			if (!c)
				continue;
			memcpy(&got, CMSG_DATA(c), sizeof(got));
			examine(got);
		}
	return NULL;
}

static void *close_low(void *arg)
{
	(void)arg;
	while (!stop_turning)
		for (int fd = low_first; fd < low_last && !stop_turning; fd++)
			if (!close(fd))
				stolen++;
	return NULL;
}

static void *nothing(void *arg)
{
	return arg;
}

static void vcpu_race(void *(*thief)(void *), const char *how)
{
	pthread_t t, u;
	int failed = 0;

	stop_turning = false;
	stolen = 0;
	stolen_name[0] = '\0';
	pthread_create(&t, NULL, thief, NULL);
	for (int i = 0; i < nr_races / 10 && !stolen; i++)
		if (pthread_create(&u, NULL, nothing, NULL))
			failed++;
		else
			pthread_join(u, NULL);
	stop_turning = true;
	pthread_join(t, NULL);
	ktap_ok(!stolen && !failed, "a new thread's vCPU is not had by %s (%d: %s, %d failed)", how,
		stolen, stolen_name, failed);
}

static void vcpu_races(void)
{
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
		exit(1);
	low_first = dup(0);
	low_last = low_first + 16;
	close(low_first);
	vcpu_race(take_low, "dup or mmap");
	vcpu_race(fork_low, "fork");
	vcpu_race(send_low, "a message");
	vcpu_race(close_low, "closing it");
}

int main(int argc, char **argv)
{
	if (argc > 1)
		nr_races = atoi(argv[1]);
	if (!begin(11))
		return ktap_done();
	shared_memory();
	races();
	exec_races();
	vcpu_races();
	return ktap_done();
}
