/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * An unmodified libc works after entry: its system calls are SYSCALL
 * instructions at CPL 0, its memory is the process's, its vDSO reads pages
 * that belong to no file.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

#define BIG	(16UL << 20)

/* The guest's init may not have brought up lo. */
static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &ifr) == 0 && !(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		ioctl(fd, SIOCSIFFLAGS, &ifr);
	}
	if (fd >= 0)
		close(fd);
}

static bool formats(void)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	bool ok;

	if (!f)
		return false;
	fprintf(f, "%d %s %.3f %#lx", -5, "five", 5.125, 0x5555UL);
	fclose(f);
	ok = strcmp(text, "-5 five 5.125 0x5555") == 0;
	free(text);
	return ok && strtod("2.5e3", NULL) == 2500.0;
}

static bool big_malloc(void)
{
	uint64_t *p = malloc(BIG), sum = 0, want = 0;
	size_t n = BIG / sizeof(*p);

	if (!p)
		return false;
	for (size_t i = 0; i < n; i++)
		p[i] = i * 0x9e3779b97f4a7c15UL;
	for (size_t i = 0; i < n; i++)
		sum ^= p[i] + (sum << 1);
	for (size_t i = 0; i < n; i++)
		want ^= i * 0x9e3779b97f4a7c15UL + (want << 1);
	free(p);
	return sum == want;
}

static bool many_mallocs(void)
{
	static void *blocks[4096];
	unsigned int seed = 12345, bad = 0;

	for (unsigned int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < 4096; i++) {
			size_t size = 16 + rand_r(&seed) % 2000;

			free(blocks[i]);
			blocks[i] = malloc(size);
			memset(blocks[i], (int)i, size);
		}
	}
	for (unsigned int i = 0; i < 4096; i++) {
		bad += *(unsigned char *)blocks[i] != (unsigned char)i;
		free(blocks[i]);
	}
	return bad == 0;
}

static bool files(void)
{
	char name[] = "/tmp/dune-test-XXXXXX", buf[32] = "";
	struct stat st;
	struct iovec iov[2] = {
		{ .iov_base = "seven ", .iov_len = 6 }, { .iov_base = "words", .iov_len = 5 },
	};
	int fd = mkstemp(name);
	bool ok;

	if (fd < 0) {
		ktap_note("mkstemp: %s", strerror(errno));
		return false;
	}
	ok = writev(fd, iov, 2) == 11 && fstat(fd, &st) == 0 && st.st_size == 11;
	ok &= pread(fd, buf, sizeof(buf), 6) == 5 && strcmp(buf, "words") == 0;
	ok &= ftruncate(fd, 100000) == 0 && lseek(fd, 0, SEEK_END) == 100000;

	char *map = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	ok &= map != MAP_FAILED;
	if (map != MAP_FAILED) {
		strcpy(map + 99000, "mapped");
		memset(buf, 0, sizeof(buf));
		ok &= pread(fd, buf, 6, 99000) == 6 && strcmp(buf, "mapped") == 0;
		ok &= pwrite(fd, "MAPPED", 6, 99000) == 6 && strcmp(map + 99000, "MAPPED") == 0;
		munmap(map, 100000);
	}
	ok &= close(fd) == 0 && unlink(name) == 0 && access(name, F_OK) == -1 && errno == ENOENT;
	return ok;
}

static bool stdio_files(void)
{
	FILE *f = tmpfile();
	char line[64];
	int n = 0;
	bool ok = f != NULL;

	if (!ok)
		return false;
	for (int i = 0; i < 2000; i++)
		fprintf(f, "line %d\n", i);
	rewind(f);
	while (fgets(line, sizeof(line), f))
		ok &= atoi(line + 5) == n++;
	fclose(f);
	return ok && n == 2000;
}

static bool unix_sockets(void)
{
	char out[1000], in[1000];
	int sv[2];
	bool ok;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		return false;
	memset(out, 'x', sizeof(out));
	ok = send(sv[0], out, sizeof(out), 0) == sizeof(out) &&
	     recv(sv[1], in, sizeof(in), MSG_WAITALL) == sizeof(in) &&
	     memcmp(in, out, sizeof(out)) == 0;
	close(sv[0]);
	ok &= recv(sv[1], in, 1, 0) == 0;
	close(sv[1]);
	return ok;
}

static bool tcp(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(addr);
	char in[16] = "";
	int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
	int server;
	bool ok;

	if (bind(listener, (struct sockaddr *)&addr, len) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&addr, &len) ||
	    connect(client, (struct sockaddr *)&addr, len)) {
		ktap_note("TCP over loopback: %s", strerror(errno));
		return false;
	}
	server = accept(listener, NULL, NULL);
	ok = server >= 0 && send(client, "question", 8, 0) == 8 &&
	     recv(server, in, sizeof(in), 0) == 8 && send(server, "answer", 6, 0) == 6;
	memset(in, 0, sizeof(in));
	ok &= recv(client, in, sizeof(in), 0) == 6 && strcmp(in, "answer") == 0;
	close(server);
	close(client);
	close(listener);
	return ok;
}

static int64_t ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

/* The vDSO's clock lies between two readings by system call. */
static bool clocks_agree(void)
{
	for (int i = 0; i < 100; i++) {
		struct timespec before, vdso, after;

		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &before);
		clock_gettime(CLOCK_MONOTONIC, &vdso);
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &after);
		if (ns(&vdso) < ns(&before) || ns(&vdso) > ns(&after)) {
			ktap_note("vDSO %lld not within %lld..%lld", (long long)ns(&vdso),
				  (long long)ns(&before), (long long)ns(&after));
			return false;
		}
	}
	return true;
}

static bool sleeps(void)
{
	struct timespec start, end, nap = { .tv_nsec = 20000000 };
	struct timeval tv;

	clock_gettime(CLOCK_MONOTONIC, &start);
	nanosleep(&nap, NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	return ns(&end) - ns(&start) >= 20000000 && gettimeofday(&tv, NULL) == 0 &&
	       labs(tv.tv_sec - time(NULL)) <= 1;
}

static bool randomness(void)
{
	unsigned char a[64] = { 0 }, b[64] = { 0 };

	return getrandom(a, sizeof(a), 0) == sizeof(a) && getrandom(b, sizeof(b), 0) == sizeof(b) &&
	       memcmp(a, b, sizeof(a)) != 0;
}

/* 3 GiB of address space, touched here and there, unmapped, mapped again. */
static bool address_space(void)
{
	const size_t size = 3UL << 30, step = 64UL << 20;
	bool ok = true;

	for (int round = 0; round < 2; round++) {
		char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			return false;
		for (size_t i = 0; i < size; i += step) {
			ok &= p[i] == 0;
			p[i] = 1;
		}
		ok &= mprotect(p, step, PROT_READ) == 0 && p[0] == 1;
		ok &= munmap(p, size) == 0;
	}
	return ok;
}

/* The kernel grows the stack one page fault at a time. */
__attribute__((noinline)) static unsigned long deep(unsigned int depth)
{
	volatile unsigned char frame[8192];
	unsigned long sum;

	frame[0] = (unsigned char)depth;
	frame[8191] = 1;
	sum = depth ? deep(depth - 1) : 0;
	return sum + frame[8191] + (frame[0] != (unsigned char)depth);
}

static int descending(const void *a, const void *b)
{
	return *(const int *)b - *(const int *)a;
}

static bool sorts(void)
{
	int v[1000];

	for (int i = 0; i < 1000; i++)
		v[i] = (i * 7919) % 1000;
	qsort(v, 1000, sizeof(v[0]), descending);
	for (int i = 0; i < 1000; i++)
		if (v[i] != 999 - i)
			return false;
	return true;
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 18 + DUNE_TEST_LEAVE);
	loopback_up();
	dune_test_enter();

	int printed = printf("# printf works: %d %s %.2f\n", 42, "words", 1.5);

	ktap_ok(fflush(stdout) == 0 && printed == (int)strlen("# printf works: 42 words 1.50\n"),
		"printf");
	ktap_eq(dune_printf("# dune_printf works: %d\n", 42),
		strlen("# dune_printf works: 42\n"), "dune_printf");
	ktap_ok(formats(), "formatting and parsing");
	ktap_ok(big_malloc(), "malloc of 16 MB, written and read back");
	ktap_ok(many_mallocs(), "many small mallocs");
	ktap_ok(files(), "files: write, read, truncate, map, unlink");
	ktap_ok(stdio_files(), "stdio: two thousand lines");
	ktap_ok(unix_sockets(), "a pair of sockets");
	ktap_ok(tcp(), "TCP over the loopback");
	ktap_ok(clocks_agree(), "the vDSO's clock and the system call's agree");
	ktap_ok(sleeps(), "nanosleep, gettimeofday, time");
	ktap_ok(randomness(), "getrandom");
	ktap_ok(address_space(), "3 GiB of address space, twice");
	ktap_eq(deep(700), 701, "5.7 MB of stack");
	ktap_ok(sorts(), "qsort");
	ktap_ok(setenv("DUNE_TEST_WORD", "set", 1) == 0 &&
		strcmp(getenv("DUNE_TEST_WORD"), "set") == 0, "the environment");
	errno = 0;
	ktap_ok(open("/nowhere/at/all", O_RDONLY) == -1 && errno == ENOENT, "errno");
	ktap_ok(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && getuid() == geteuid(), "facts about the system");
	return dune_test_done();
}
