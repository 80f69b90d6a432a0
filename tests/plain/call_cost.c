/* SPDX-License-Identifier: MIT */
/*
 * What a system call costs that somebody looks at before it is made.
 *
 *	call_cost		as it is: natively, under dune-run or dune-sandbox
 *	call_cost ptrace	a tracer is told before and after (PTRACE_SYSCALL)
 *	call_cost sysemu	a tracer is told, and answers itself (PTRACE_SYSEMU)
 *	call_cost notify	seccomp's user notification, and the call is made
 *
 * Prints ticks of the time-stamp counter per call, the least of some runs.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS	200
#define RUNS	10

#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU	31
#endif

static uint64_t ticks(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

static uint64_t measure(void)
{
	uint64_t best = ~0UL;

	for (int run = 0; run < RUNS; run++) {
		uint64_t from = ticks(), took;

		for (int i = 0; i < CALLS; i++)
			syscall(SYS_getppid);
		took = (ticks() - from) / CALLS;
		if (took < best)
			best = took;
	}
	return best;
}

static void print(const char *how)
{
	printf("# metric: call_%s=%lu ticks n=%d\n", how, measure(), RUNS);
	fflush(stdout);
}

static int traced(const char *how, int request)
{
	pid_t child = fork();
	int status;

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		print(how);
		_exit(0);
	}
	/* Under SYSEMU nothing is written: the calls of the measurement alone are emulated. */
	waitpid(child, &status, 0);
	while (WIFSTOPPED(status)) {
		long nr = ptrace(PTRACE_PEEKUSER, child, (void *)(15 * 8UL), 0);
		int next = request;

		if (request == PTRACE_SYSEMU && nr != SYS_getppid)
			next = PTRACE_SYSCALL;
		if (ptrace(next, child, 0, 0) || waitpid(child, &status, 0) != child)
			return 1;
	}
	return !WIFEXITED(status);
}

static int notified(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };
	struct seccomp_notif req;
	struct seccomp_notif_resp resp;
	int fd, sock[2], status;
	pid_t child;
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec part = { &byte, 1 };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control) };

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sock))
		return 1;
	child = fork();
	if (!child) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				  SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
		CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
		if (fd < 0 || sendmsg(sock[0], &m, 0) != 1)
			_exit(1);
		close(fd);
		print("notify");
		_exit(0);
	}
	close(sock[0]);
	if (recvmsg(sock[1], &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		return 1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	for (int i = 0; i < CALLS * RUNS; i++) {
		memset(&req, 0, sizeof(req));
		memset(&resp, 0, sizeof(resp));
		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &req))
			return 1;
		resp.id = req.id;
		resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp))
			return 1;
	}
	waitpid(child, &status, 0);
	return status != 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		print("plain");
		return 0;
	}
	if (!strcmp(argv[1], "ptrace"))
		return traced("ptrace", PTRACE_SYSCALL);
	if (!strcmp(argv[1], "sysemu"))
		return traced("sysemu", PTRACE_SYSEMU);
	return notified();
}
