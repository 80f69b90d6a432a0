// SPDX-License-Identifier: MIT
/*
 * What a process sees of itself in /proc and by calls that ask about it, and what
 * it may do with its own memory and limits.
 */
#include "probe.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/time.h>

#define PAGE	4096UL

/* Newer than some headers. */
#ifndef PR_GET_MDWE
#define PR_GET_MDWE	66
#endif
#ifndef PR_GET_MEMORY_MERGE
#define PR_GET_MEMORY_MERGE	68
#endif

static size_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	while (fd >= 0 && (n = read(fd, text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	if (fd >= 0)
		close(fd);
	return len;
}

static char text[1 << 16];

/* ---- names ------------------------------------------------------------ */

static void names(void)
{
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	read_file("/proc/self/comm", text, sizeof(text));
	say("%s, comm %s", name, strtok(text, "\n"));
	prctl(PR_SET_NAME, "another");
	read_file("/proc/thread-self/comm", text, sizeof(text));
	say("comm %s", strtok(text, "\n"));
	say("%zu bytes of arguments", read_file("/proc/self/cmdline", text, sizeof(text)));
	say("environment %s", read_file("/proc/self/environ", text, sizeof(text)) ? "yes" : "no");
}

static const char *const fields[] = {
	"Umask", "State", "TracerPid", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn",
	"CapPrm", "CapEff", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CoreDumping",
	"THP_enabled", "untag_mask", "Cpus_allowed", "Mems_allowed_list",
};

static void status(void)
{
	char *line, *rest;

	signal(SIGUSR2, SIG_IGN);
	read_file("/proc/self/status", text, sizeof(text));
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		for (unsigned int i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
			if (!strncmp(line, fields[i], strlen(fields[i])) &&
			    line[strlen(fields[i])] == ':')
				say("%s", line);
}

/* Of /proc/self/stat: where the kernel thinks that things are. */
static void places(void)
{
	unsigned long f[64] = { 0 }, here = (unsigned long)__builtin_frame_address(0);
	char *word, *rest;
	int n = 3;

	read_file("/proc/self/stat", text, sizeof(text));
	for (word = strtok_r(strrchr(text, ')') + 2, " ", &rest); word && n < 64;
	     word = strtok_r(NULL, " ", &rest))
		f[n++] = strtoul(word, NULL, 10);
	say("%d fields, %lu threads, signal %lu", n - 1, f[20], f[38]);
	say("code %d", f[26] <= (unsigned long)places && (unsigned long)places < f[27]);
	say("stack %d", f[28] > here && f[28] - here < 1UL << 20);
	say("data %d", f[45] < (unsigned long)text && (unsigned long)text < f[47]);
	say("break %d", f[47] <= (unsigned long)sbrk(0));
	say("arguments %d", f[48] < f[49] && f[49] <= f[50] && f[50] < f[51]);
}

static void mappings(void)
{
	static const char *const labels[] = { "[heap]", "[stack]", "[vdso]", "[vvar]", "[vsyscall]" };
	char *line, *rest, *name;
	int seen[5] = { 0 }, own = 0;

	sbrk(PAGE);
	read_file("/proc/self/maps", text, sizeof(text));
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		name = strrchr(line, ' ') + 1;
		for (int i = 0; i < 5; i++)
			seen[i] += !strcmp(name, labels[i]);
		own += !!strstr(name, "probe_self");
	}
	for (int i = 0; i < 5; i++)
		say("%s %d", labels[i], seen[i]);
	say("the program %d", own);
}

/* ---- questions -------------------------------------------------------- */

/* Those that only read; what they write is printed, too. */
static void questions(void)
{
	static const int asks[] = {
		PR_GET_PDEATHSIG, PR_GET_UNALIGN, PR_GET_FPEMU, PR_GET_FPEXC, PR_GET_ENDIAN,
		PR_GET_TSC, PR_GET_CHILD_SUBREAPER,
	};
	static const int plain[] = {
		PR_GET_DUMPABLE, PR_GET_KEEPCAPS, PR_GET_TIMING, PR_GET_SECCOMP, PR_GET_SECUREBITS,
		PR_GET_TIMERSLACK, PR_MCE_KILL_GET, PR_GET_NO_NEW_PRIVS, PR_GET_THP_DISABLE,
		PR_GET_FP_MODE, PR_GET_IO_FLUSHER, PR_GET_TAGGED_ADDR_CTRL, PR_GET_MDWE,
		PR_GET_MEMORY_MERGE,
	};

	for (unsigned int i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
		long value = 0;

		say("%d: %ld", asks[i], result(prctl(asks[i], &value, 0, 0, 0)));
		say("%d says %ld", asks[i], value);
	}
	for (unsigned int i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		say("%d: %ld", plain[i], result(prctl(plain[i], 0, 0, 0, 0)));
	for (int i = 0; i < 4; i++)
		say("speculation %d: %ld", i, result(prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0)));
	say("personality %lx", result(syscall(SYS_personality, 0xffffffff)));
}

static void barriers(void)
{
	static const int commands[] = {
		MEMBARRIER_CMD_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
		MEMBARRIER_CMD_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED,
		MEMBARRIER_CMD_GLOBAL_EXPEDITED, MEMBARRIER_CMD_GLOBAL,
		MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
		MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
		MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ,
		MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ,
	};

	say("offered %lx", result(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0)));
	for (unsigned int i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		say("%d: %ld", commands[i], result(syscall(SYS_membarrier, commands[i], 0, 0)));
}

/* ---- memory ----------------------------------------------------------- */

/* Another thread may ask for the same as often as it likes, and sees the same bytes. */
static void advice(void)
{
	static const int kinds[] = {
		0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
		26, 102, 103,
	};

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		unsigned char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		long ret;

		memset(p, 7, 4 * PAGE);
		ret = result(madvise(p, 4 * PAGE, kinds[i]));
		if (ret || kinds[i] == MADV_FREE)
			say("%d: %ld", kinds[i], ret);
		else	/* guard pages would kill */
			say("%d: 0, then %d", kinds[i], kinds[i] < 100 ? p[PAGE] : 0);
		munmap(p, 4 * PAGE);
	}
}

static void secret(void)
{
	int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	unsigned char *p;
	pid_t pid;

	if (fd < 0) {
		say("memfd_secret: %d", -errno);
		return;
	}
	if (ftruncate(fd, 2 * PAGE))
		say("ftruncate: %d", -errno);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		say("mmap: %d", -errno);
		return;
	}
	memset(p, 3, 2 * PAGE);
	pid = fork();
	if (!pid) {
		p[PAGE] = 4;
		_exit(p[0]);
	}
	say("child %x", (unsigned int)status_of(pid));
	say("read %d %d, written from there: %ld", p[0], p[PAGE],
	    result(write(STDERR_FILENO, p, 0) + write(fd, p, 1)));
}

static void locked(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY }, none = { 0, 0 };
	unsigned char *p;

	setrlimit(RLIMIT_MEMLOCK, &all);
	say("mlockall %ld", result(mlockall(MCL_CURRENT | MCL_FUTURE)));
	p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p[0] = 1;
	say("munlockall %ld", result(munlockall()));
	say("mlock2 %ld", result(mlock2(p, PAGE, MLOCK_ONFAULT)));
	say("MADV_DONTNEED of it %ld", result(madvise(p, PAGE, MADV_DONTNEED)));
	setrlimit(RLIMIT_MEMLOCK, &none);
	say("mlock %ld", result(mlock(p + PAGE, PAGE)));
}

/* ---- limits ----------------------------------------------------------- */

static void *nothing(void *arg)
{
	return arg;
}

/* What a process near its limits may still do. */
static void try_all(const char *what)
{
	char *const argv[] = { "true", NULL };
	pthread_t t;
	pid_t pid;
	int ret;

	ret = pthread_create(&t, NULL, nothing, NULL);
	if (!ret)
		pthread_join(t, NULL);
	say("%s: thread %d", what, ret);
	pid = fork();
	if (!pid) {
		close(STDERR_FILENO);	/* the dynamic linker complains */
		execv("/bin/true", argv);
		_exit(errno);
	}
	say("%s: child %ld, %x", what, pid < 0 ? (long)-errno : 0L,
	    pid < 0 ? 0 : (unsigned int)status_of(pid));
	pid = vfork();
	if (!pid) {
		close(STDERR_FILENO);	/* the dynamic linker complains */
		execv("/bin/true", argv);
		_exit(errno);
	}
	say("%s: vforked %x", what, pid < 0 ? 0 : (unsigned int)status_of(pid));
	say("%s: open %ld", what, result(open("/dev/null", O_RDONLY)));
	say("%s: memory %d", what, mmap(NULL, 64UL << 20, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
}

static void few_descriptors(void)
{
	struct rlimit few = { 4, 4 }, none = { 0, 0 }, now;

	setrlimit(RLIMIT_NOFILE, &few);
	try_all("four");
	setrlimit(RLIMIT_NOFILE, &none);
	try_all("none");
	getrlimit(RLIMIT_NOFILE, &now);
	say("limits %lu %lu", (unsigned long)now.rlim_cur, (unsigned long)now.rlim_max);
}

static unsigned long mapped(void)
{
	read_file("/proc/self/statm", text, sizeof(text));
	return strtoul(text, NULL, 10) * PAGE;
}

static void little_memory(void)
{
	struct rlimit limit = { mapped() + (48UL << 20), RLIM_INFINITY };

	setrlimit(RLIMIT_AS, &limit);
	try_all("48 MiB of addresses");
	limit.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = 32UL << 20;
	setrlimit(RLIMIT_DATA, &limit);
	try_all("32 MiB of data");
}

static void small_stack(void)
{
	struct rlimit small = { 128UL << 10, RLIM_INFINITY };

	setrlimit(RLIMIT_STACK, &small);
	try_all("128 KiB of stack");
}

static const struct probe probes[] = {
	{ "names", names },
	{ "status", status },
	{ "places", places },
	{ "mappings", mappings },
	{ "questions", questions },
	{ "barriers", barriers },
	{ "advice", advice },
	{ "secret memory", secret },
	{ "locked memory", locked },
	{ "few descriptors", few_descriptors },
	{ "little memory", little_memory },
	{ "small stack", small_stack },
	{ NULL, NULL },
};

int main(void)
{
	return probe_all(probes);
}
