/* SPDX-License-Identifier: MIT */
/*
 * For dune-sandbox --allow-all: what a hostile program would try with system calls, see
 * sandbox.h.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "sandbox.h"

static void accesses(void)
{
	ktap_ok(TRY((void)*(volatile char *)data) == SIGSEGV, "reading the monitor's data");
	ktap_ok(TRY(*(volatile char *)data = 1) == SIGSEGV, "writing the monitor's data");
	ktap_ok(TRY(*(volatile char *)code = 1) == SIGSEGV, "writing the monitor's code");
	ktap_ok(TRY(((void (*)(void))code)()) == SIGSEGV, "executing the monitor's code");
	ktap_ok(TRY(*(volatile char *)stack = 1) == SIGSEGV, "writing a ring-0 stack");
	ktap_ok(TRY((void)*(volatile char *)SLOT) == SIGSEGV, "reading where nothing is mapped");
}

/* Linux as a deputy: addresses in arguments. */
static void pointers(void)
{
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), p[2], s[2];
	struct iovec good = { &zero, 1 }, bad = { (void *)data, 8 }, two[2] = { good, bad };
	struct msghdr m = { .msg_iov = two, .msg_iovlen = 2 };
	char buf[16];
	int status;

	if (pipe(p) || socketpair(AF_UNIX, SOCK_DGRAM, 0, s))
		exit(1);
	REFUSED(read(zero, (void *)data, 8), "read() to the monitor");
	REFUSED(write(p[1], (void *)code, 8), "write() from the monitor");
	REFUSED(pread(zero, (void *)(SLOT - 4096), 8192, 0), "a buffer that begins below");
	REFUSED(readv(zero, two, 2), "readv() with one part in the monitor");
	REFUSED(readv(zero, (void *)data, 1), "an iovec in the monitor");
	REFUSED(writev(p[1], two, 2), "writev()");
	REFUSED(sendmsg(s[0], &m, 0), "sendmsg()");
	send(s[0], "12345678", 8, 0);
	REFUSED(recvmsg(s[1], &m, MSG_DONTWAIT), "recvmsg()");
	m = (struct msghdr){ .msg_iov = &good, .msg_iovlen = 1, .msg_control = (void *)data,
			     .msg_controllen = 64 };
	REFUSED(recvmsg(s[1], &m, MSG_DONTWAIT), "recvmsg() with its control data there");
	REFUSED(vmsplice(p[1], &bad, 1, 0), "vmsplice()");
	REFUSED(syscall(SYS_getrandom, data, 8, 0), "getrandom()");
	REFUSED(syscall(SYS_futex, data, FUTEX_WAKE, 1), "futex()");
	REFUSED(syscall(SYS_set_tid_address, data), "set_tid_address()");
	REFUSED(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, data, 8), "rt_sigprocmask()");
	REFUSED(syscall(SYS_rt_sigaction, SIGUSR1, NULL, data, 8), "rt_sigaction()");
	REFUSED(syscall(SYS_sigaltstack, NULL, data), "sigaltstack()");
	REFUSED(syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, 0, 0, data, 0), "clone()");
	REFUSED(syscall(SYS_arch_prctl, 0x1003, data), "arch_prctl()");
	REFUSED(syscall(SYS_wait4, -1, data, WNOHANG, 0), "wait4()");
	REFUSED(open((char *)code, O_RDONLY), "a path in the monitor");
	REFUSED(syscall(SYS_execve, "/bin/true", data, 0), "arguments of exec in the monitor");
	REFUSED(ioctl(p[0], FIONREAD, data), "ioctl()");
	REFUSED(syscall(SYS_prctl, 16 /* PR_GET_NAME */, data), "prctl()");
	REFUSED(setsockopt(s[0], SOL_SOCKET, 26, &(struct { short n; void *f; }){ 1, (void *)data },
			   16), "a socket filter in the monitor");
	/* The kernel would walk this list when the thread ends. */
	if (!fork()) {
		struct { void *next; long offset; void *pending; } head;

		head.next = (void *)data;
		head.offset = 0;
		head.pending = (void *)data;
		syscall(SYS_set_robust_list, &head, sizeof(head));
		_exit(3);
	}
	wait(&status);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 3, "a robust list in the monitor");
	(void)buf;
	close(zero);
	close(null);
	close(p[0]);
	close(p[1]);
	close(s[0]);
	close(s[1]);
}

static void mappings(void)
{
	uint64_t page = data & ~4095UL, mine;
	int id = shmget(IPC_PRIVATE, 8192, 0600), mem = memfd_create("m", 0), chunks = 0;
	bool outside = true;
	void *p;

	mine = (uint64_t)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ftruncate(mem, 8192))
		exit(1);
	REFUSED(mmap((void *)page, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		"mmap() over the monitor");
	REFUSED(mmap((void *)(SLOT - 4096), 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		"mmap() into the arena from below");
	REFUSED(mmap((void *)page, 4096, 3, MAP_SHARED | MAP_FIXED, mem, 0),
		"a shared memfd over the monitor");
	REFUSED(mmap((void *)SLOT, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
		"mmap() in an empty part of the arena");
	p = mmap((void *)SLOT, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ktap_ok(p != MAP_FAILED && ((uint64_t)p < SLOT || (uint64_t)p >= SLOT_END),
		"a hint in the arena is not followed");
	REFUSED(munmap((void *)page, 4096), "munmap() of the monitor");
	REFUSED(mprotect((void *)page, 4096, 7), "mprotect() of the monitor");
	REFUSED(mprotect((void *)(code & ~4095UL), 4096, 7), "mprotect() of its code");
	REFUSED(syscall(SYS_pkey_mprotect, page, 4096, 7, -1), "pkey_mprotect() of the monitor");
	REFUSED(mremap((void *)page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)mine),
		"mremap() of the monitor");
	REFUSED(mremap((void *)mine, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)page),
		"mremap() over the monitor");
	REFUSED(madvise((void *)page, 4096, MADV_DONTNEED), "madvise() of the monitor");
	REFUSED(mlock((void *)page, 4096), "mlock() of the monitor");
	REFUSED(shmat(id, (void *)page, SHM_REMAP), "shmat() over the monitor");
	REFUSED(shmat(id, (void *)(SLOT - 4096), SHM_REMAP), "shmat() into the arena from below");
	shmctl(id, IPC_RMID, NULL);
	ktap_ok(syscall(SYS_brk, SLOT + 4096) == syscall(SYS_brk, 0), "brk() to the arena");
	REFUSED(syscall(SYS_remap_file_pages, page, 4096, 0, 0, 0), "remap_file_pages()");

	/* All addresses: the last ones to be had would be the arena's. */
	while (chunks < 4096) {
		p = mmap(NULL, 1UL << 38, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			 -1, 0);
		if (p == MAP_FAILED)
			break;
		if ((uint64_t)p + (1UL << 38) > SLOT && (uint64_t)p < SLOT_END)
			outside = false;
		chunks++;
		if (chunks > 1)		/* keep only what is needed to push on */
			continue;
	}
	ktap_ok(outside && chunks > 100 && chunks < 4096, "%d pieces use all addresses up, none in the arena",
		chunks);
}

static void memory_files(void)
{
	char name[64], path[128];
	struct open_how how = { .flags = O_RDWR };
	int dir, status;

	REFUSED(open("/proc/self/mem", O_RDWR), "/proc/self/mem");
	REFUSED(open("/proc/self/mem", O_RDONLY), "/proc/self/mem to read");
	REFUSED(open("/proc/self/mem", O_PATH), "/proc/self/mem as a path");
	REFUSED(open("/proc/thread-self/mem", O_RDWR), "/proc/thread-self/mem");
	snprintf(name, sizeof(name), "/proc/%d/mem", getpid());
	REFUSED(open(name, O_RDWR), "/proc/PID/mem");
	snprintf(name, sizeof(name), "/proc/%d/task/%d/mem", getpid(), getpid());
	REFUSED(open(name, O_RDWR), "/proc/PID/task/TID/mem");
	REFUSED(open("//proc/./self/../self//mem", O_RDWR), "with dots");
	dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
	REFUSED(openat(dir, "mem", O_RDWR), "by a folder");
	REFUSED(openat(dir, "../self/mem", O_RDWR), "by a folder and dots");
	REFUSED(syscall(SYS_openat2, dir, "mem", &how, sizeof(how)), "openat2()");
	how.resolve = RESOLVE_BENEATH;
	REFUSED(syscall(SYS_openat2, dir, "mem", &how, sizeof(how)), "openat2() beneath");
	snprintf(path, sizeof(path), "/proc/self/fd/%d/mem", dir);
	REFUSED(open(path, O_RDWR), "by a descriptor's link");
	unlink("/tmp/link");
	if (symlink("/proc/self/mem", "/tmp/link"))
		exit(1);
	REFUSED(open("/tmp/link", O_RDWR), "by a symbolic link");
	unlink("/tmp/link");
	if (symlink("/proc/self", "/tmp/link"))
		exit(1);
	REFUSED(open("/tmp/link/mem", O_RDWR), "by a symbolic link to its folder");
	unlink("/tmp/link");
	if (!fork()) {
		_exit(chdir("/proc/self") || open("mem", O_RDWR) >= 0);
	}
	wait(&status);
	ktap_ok(WIFEXITED(status) && !WEXITSTATUS(status), "in its folder");
	if (!fork()) {		/* of another process of the sandbox */
		snprintf(name, sizeof(name), "/proc/%d/mem", getppid());
		_exit(open(name, O_RDWR) >= 0);
	}
	wait(&status);
	ktap_ok(WIFEXITED(status) && !WEXITSTATUS(status), "the parent's");
	REFUSED(open("/dev/mem", O_RDWR), "/dev/mem");
	REFUSED(open("/dev/dune", O_RDWR), "/dev/dune");
	REFUSED(mknod("/tmp/dev", S_IFCHR | 0600, 1 << 8 | 1), "a device of its own");
	close(dir);
}

static void calls(void)
{
	struct iovec mine = { &mine, 8 }, theirs = { (void *)data, 8 };
	char params[256] = { 0 };

	REFUSED(process_vm_writev(getpid(), &mine, 1, &theirs, 1, 0), "process_vm_writev()");
	REFUSED(process_vm_readv(getpid(), &mine, 1, &theirs, 1, 0), "process_vm_readv()");
	REFUSED(ptrace(PTRACE_TRACEME, 0, 0, 0), "ptrace()");
	REFUSED(syscall(SYS_userfaultfd, 1), "userfaultfd()");
	REFUSED(syscall(SYS_io_uring_setup, 4, params), "io_uring_setup()");
	REFUSED(syscall(SYS_io_setup, 4, params), "io_setup()");
	REFUSED(syscall(SYS_seccomp, 1, 0, params), "seccomp()");
	REFUSED(syscall(SYS_bpf, 0, params, sizeof(params)), "bpf()");
	REFUSED(syscall(SYS_perf_event_open, params, 0, -1, -1, 0), "perf_event_open()");
	REFUSED(syscall(SYS_modify_ldt, 1, params, 16), "modify_ldt()");
	REFUSED(syscall(SYS_iopl, 3), "iopl()");
	REFUSED(syscall(SYS_ioperm, 0, 16, 1), "ioperm()");
	REFUSED(syscall(SYS_unshare, CLONE_NEWUSER), "unshare()");
	REFUSED(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), "clone() with a namespace");
	REFUSED(syscall(SYS_clone, CLONE_VM | SIGCHLD, 0, 0, 0, 0), "a process with this memory");
	REFUSED(syscall(SYS_mount, "proc", "/tmp", "proc", 0, 0), "mount()");
	REFUSED(syscall(SYS_chroot, "/tmp"), "chroot()");
	REFUSED(syscall(SYS_prctl, 35 /* PR_SET_MM */, 1, data, 0, 0), "prctl(PR_SET_MM)");
	REFUSED(syscall(SYS_personality, 0x0400000), "READ_IMPLIES_EXEC");
	REFUSED(syscall(SYS_process_madvise, 0, &theirs, 1, 4, 0), "process_madvise()");
	REFUSED(syscall(500), "a number that nobody knows");
	REFUSED(syscall(511), "the last number of the table");
	REFUSED(syscall(512), "the first behind it");
	REFUSED(syscall(1L << 40), "a large number");
	REFUSED(syscall(-1L), "a negative number");
	REFUSED(syscall(0x40000000 | SYS_getpid), "a number of x32");
}

/* Libdune's and the monitor's own, by what /proc says. */
static void descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0, other = open("/dev/null", O_RDWR), s[2], status;
	bool kept = true;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s))
		exit(1);
	while (d && (e = readdir(d))) {
		int fd = atoi(e->d_name);
		char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
		struct iovec part = { &byte, 1 };
		struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				    .msg_controllen = sizeof(control) };
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		char name[32];

		if (fd < 400)
			continue;
		n++;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		if (dup(fd) >= 0 || dup2(other, fd) >= 0 || fcntl(fd, F_DUPFD, 3) >= 0 ||
		    close(fd) == 0 || sendmsg(s[0], &m, 0) >= 0 || open(name, O_RDWR) >= 0 ||
		    lseek(fd, 0, SEEK_SET) >= 0 || ioctl(fd, 0x4401, 0) >= 0 ||
		    mmap(NULL, 4096, 3, MAP_SHARED, fd, 0) != MAP_FAILED)
			kept = false;
	}
	if (d)
		closedir(d);
	syscall(SYS_close_range, 400, ~0U, 0);
	ktap_ok(kept && n >= 3, "%d descriptors are not there for the program", n);
	/* A child needs a VM, which it gets by one of them. */
	if (!fork())
		_exit(5);
	wait(&status);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 5, "and survive close_range()");
}

static void children(void)
{
	char line[512];
	FILE *maps = popen("cat /proc/self/maps", "r");
	bool inside = false;

	while (maps && fgets(line, sizeof(line), maps))
		if (strtoul(line, NULL, 16) >= SLOT && strtoul(line, NULL, 16) < SLOT_END)
			inside = true;
	if (maps)
		pclose(maps);
	ktap_ok(inside, "what is executed is in a sandbox");
}

int main(void)
{
	if (!begin(98))
		return ktap_done();
	accesses();
	pointers();
	memory_files();
	calls();
	descriptors();
	children();
	mappings();
	return ktap_done();
}
