/* SPDX-License-Identifier: MIT */
/*
 * Failures on demand, one after the other: the kernel's own fault injection
 * (Documentation/fault-injection).  fail_arm(n) makes the n-th place of this
 * thread where the kernel may fail do so: an allocation, or a copy from or to
 * user space.  fail_walk() does so for n = 1, 2, 3, ... until an operation is
 * through before anything failed: then all of its places were tried.
 */
#ifndef TESTS_FAIL_NTH_H
#define TESTS_FAIL_NTH_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ktap.h"

#define FAIL_FILE	"/proc/thread-self/fail-nth"
#define FAIL_ATTRS	"/sys/kernel/debug/"
#define FAIL_MOST	5000

static bool fail_set(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return done;
}

/* NULL, or why there is none.  By default the kernel spares all allocations that may wait. */
__attribute__((unused)) static const char *fail_setup(void)
{
	if (access(FAIL_FILE, W_OK))
		return "this kernel has no fault injection; debug-6.12 has (docs/kernels.md)";
	if (fail_set(FAIL_ATTRS "failslab/ignore-gfp-wait", "N") &&
	    fail_set(FAIL_ATTRS "failslab/verbose", "0") &&
	    fail_set(FAIL_ATTRS "fail_page_alloc/ignore-gfp-wait", "N") &&
	    fail_set(FAIL_ATTRS "fail_page_alloc/ignore-gfp-highmem", "N") &&
	    fail_set(FAIL_ATTRS "fail_page_alloc/min-order", "0") &&
	    fail_set(FAIL_ATTRS "fail_page_alloc/verbose", "0") &&
	    fail_set(FAIL_ATTRS "fail_usercopy/verbose", "0"))
		return NULL;
	ktap_bail("fault injection cannot be set up: %s", strerror(errno));
}

/* The file belongs to the thread that opens it. */
__attribute__((unused)) static int fail_open(void)
{
	int fd = open(FAIL_FILE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		ktap_bail("%s: %s", FAIL_FILE, strerror(errno));
	return fd;
}

__attribute__((unused)) static void fail_arm(int fd, unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(fd, text, (size_t)len, 0) != len)
		ktap_bail("%s: %s", FAIL_FILE, strerror(errno));
}

/* No more failures.  True: the one that was asked for has come. */
__attribute__((unused)) static bool fail_disarm(int fd)
{
	char text[16] = "";
	/* Reading is such a place itself: if it fails, nothing had before. */
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
	bool came = len > 0 && atoi(text) == 0;

	while (pwrite(fd, "0", 1, 0) != 1)
		;
	return came;
}

/* What an operation may say of a failure that it did not get over. */
static bool fail_said(long ret)
{
	return ret == -ENOMEM || ret == -EAGAIN || ret == -EFAULT;
}

struct fail_op {
	const char *name;
	void (*prepare)(void *arg);	/* may be NULL; nothing fails in it */
	long (*run)(void *arg);		/* negative errno, or what it is good for */
	void (*failed)(void *arg);	/* after a failure: is all as it was?  may be NULL */
	void (*undo)(void *arg, long ret);	/* of a success; may be NULL */
};

/* Two results.  Returns how many places there were; 0 if one was not as it should be. */
__attribute__((unused)) static unsigned int fail_walk(const struct fail_op *op, void *arg)
{
	int fd = fail_open();
	unsigned int n, failed = 0, odd = 0;
	bool came = true;
	long ret = 0;

	for (n = 1; came && !odd && n < FAIL_MOST; n++) {
		if (op->prepare)
			op->prepare(arg);
		fail_arm(fd, n);
		ret = op->run(arg);
		came = fail_disarm(fd);
		if (ret < 0) {
			failed++;
			if (!came || !fail_said(ret)) {
				ktap_note("%s: %s at place %u%s", op->name, strerror((int)-ret), n,
					  came ? "" : ", where nothing failed");
				odd++;
			}
			if (op->failed)
				op->failed(arg);
		} else if (op->undo) {
			op->undo(arg, ret);
		}
	}
	close(fd);
	n -= 2;		/* the last round had no failure */
	ktap_note("%s: %u places, %u failures that it reported", op->name, n, failed);
	ktap_ok(!odd, "%s fails by ENOMEM, EAGAIN or EFAULT", op->name);
	ktap_ok(!came && ret >= 0, "%s succeeds when nothing fails", op->name);
	return odd ? 0 : n;
}

#endif /* TESTS_FAIL_NTH_H */
