/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Sockets between a Dune process and a native one, descriptors that travel over
 * them, and the calls that move data without copying it.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#define LEN	(256 * 1024UL)

static int listener[2], packets[2], control[2];

/* ---- the native side ------------------------------------------------------ */

/* Takes one connection and returns what comes, until the end. */
static int echo_stream(int fd)
{
	static char buf[20000];
	int c = accept(fd, NULL, NULL);
	ssize_t n;

	while ((n = read(c, buf, sizeof(buf))) > 0)
		for (ssize_t done = 0, m; done < n; done += m) {
			m = write(c, buf + done, (size_t)(n - done));
			if (m <= 0)
				return 1;
		}
	close(c);
	return n < 0;
}

static int send_fd(int via, int fd, const char *text)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
		.msg_controllen = sizeof(space),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(via, &msg, 0) == (ssize_t)strlen(text) ? 0 : -1;
}

static int receive_fd(int via, char *text, size_t size)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { text, size };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
		.msg_controllen = sizeof(space),
	};
	ssize_t n = recvmsg(via, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fd = -1;

	if (n > 0 && c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}

/* Gets a memfd with a pattern, checks and changes it through a mapping, sends back another. */
static int exchange(void)
{
	char text[16] = "";
	int fd = receive_fd(control[1], text, sizeof(text)), own;
	unsigned char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED || strcmp(text, "take this") || mem_wrong(p, LEN, 1))
		return 2;
	mem_fill(p, LEN, 2);
	own = memfd_create("native", 0);
	if (ftruncate(own, LEN))
		return 3;
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
	mem_fill(p, LEN, 3);
	return send_fd(control[1], own, "and that") ? 4 : 0;
}

static int native(void *arg)
{
	char buf[64];
	ssize_t n;

	(void)arg;
	if (echo_stream(listener[0]) || echo_stream(listener[1]))
		return 1;
	for (int i = 0; i < 100; i++) {
		n = recv(packets[1], buf, sizeof(buf), 0);
		if (n != 1 + i % 50 || send(packets[1], buf, (size_t)n, 0) != n)
			return 5;
	}
	return exchange();
}

/* ---- the side in Dune mode -------------------------------------------------- */

static bool stream(int fd)
{
	unsigned char *out = mem_new(LEN), *in = mem_new(LEN);
	size_t sent = 0, got = 0;
	bool ok = true;

	mem_fill(out, LEN, 5);
	while (ok && got < LEN) {
		struct pollfd p = { .fd = fd, .events = POLLIN | (sent < LEN ? POLLOUT : 0) };
		ssize_t n;

		if (poll(&p, 1, 20000) != 1)
			return false;
		if (p.revents & POLLOUT) {
			n = send(fd, out + sent, LEN - sent, MSG_DONTWAIT);
			ok &= n > 0;
			sent += (size_t)n;
			if (sent == LEN)
				ok &= shutdown(fd, SHUT_WR) == 0;
		}
		if (p.revents & POLLIN) {
			n = recv(fd, in + got, LEN - got, 0);
			ok &= n > 0;
			got += (size_t)n;
		}
	}
	ok &= recv(fd, in, 1, 0) == 0 || got == LEN;
	ok = ok && mem_wrong(in, LEN, 5) == 0;
	close(fd);
	munmap(out, LEN);
	munmap(in, LEN);
	return ok;
}

static bool unix_stream(void)
{
	struct sockaddr_un to;
	socklen_t len = sizeof(to);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct ucred cred;
	bool ok = getsockname(listener[0], (struct sockaddr *)&to, &len) == 0 &&
		  connect(fd, (struct sockaddr *)&to, len) == 0;

	len = sizeof(cred);
	ok &= getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == getuid();
	return ok && stream(fd);
}

static bool tcp_stream(void)
{
	struct sockaddr_in to;
	socklen_t len = sizeof(to);
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1, got = 0;
	bool ok = getsockname(listener[1], (struct sockaddr *)&to, &len) == 0 &&
		  connect(fd, (struct sockaddr *)&to, len) == 0;

	len = sizeof(got);
	ok &= setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
	      getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &got, &len) == 0 && got == 1;
	return ok && stream(fd);
}

static bool datagrams(void)
{
	char out[64], in[64];
	bool ok = true;

	for (int i = 0; i < 100; i++) {
		size_t n = 1 + (size_t)i % 50;

		memset(out, i, sizeof(out));
		ok &= send(packets[0], out, n, 0) == (ssize_t)n;
		ok &= recv(packets[0], in, sizeof(in), 0) == (ssize_t)n && !memcmp(in, out, n);
	}
	return ok;
}

static bool descriptors(void)
{
	int fd = memfd_create("dune", 0), other;
	char text[16] = "";
	unsigned char *p, *q;
	bool ok = ftruncate(fd, LEN) == 0;

	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	mem_fill(p, LEN, 1);
	ok &= send_fd(control[0], fd, "take this") == 0;
	other = receive_fd(control[0], text, sizeof(text));
	q = mmap(NULL, LEN, PROT_READ, MAP_SHARED, other, 0);
	ok &= q != MAP_FAILED && !strcmp(text, "and that") && mem_wrong(q, LEN, 3) == 0;
	ok &= mem_wrong(p, LEN, 2) == 0;
	munmap(p, LEN);
	munmap(q, LEN);
	close(fd);
	close(other);
	return ok;
}

static bool mmsgs(void)
{
	int sv[2];
	char out[8][16], in[8][16];
	struct mmsghdr tx[8], rx[8];
	struct iovec txv[8], rxv[8];
	bool ok = socketpair(AF_UNIX, SOCK_DGRAM, 0, sv) == 0;

	memset(tx, 0, sizeof(tx));
	memset(rx, 0, sizeof(rx));
	for (int i = 0; i < 8; i++) {
		snprintf(out[i], sizeof(out[i]), "message %d", i);
		txv[i] = (struct iovec){ out[i], strlen(out[i]) + 1 };
		rxv[i] = (struct iovec){ in[i], sizeof(in[i]) };
		tx[i].msg_hdr = (struct msghdr){ .msg_iov = &txv[i], .msg_iovlen = 1 };
		rx[i].msg_hdr = (struct msghdr){ .msg_iov = &rxv[i], .msg_iovlen = 1 };
	}
	ok &= sendmmsg(sv[0], tx, 8, 0) == 8 && recvmmsg(sv[1], rx, 8, 0, NULL) == 8;
	for (int i = 0; i < 8; i++)
		ok &= !strcmp(in[i], out[i]) && rx[i].msg_len == txv[i].iov_len;
	close(sv[0]);
	close(sv[1]);
	return ok;
}

/* From a file through two pipes into another file, and from memory by reference. */
static bool splices(void)
{
	int a = memfd_create("a", 0), b = memfd_create("b", 0), one[2], two[2];
	unsigned char *p = mem_new(4 * PAGE), *buf = mem_new(4 * PAGE);
	struct iovec iov = { p, 4 * PAGE };
	loff_t from = 0, to = 0;
	bool ok = pipe(one) == 0 && pipe(two) == 0;

	mem_fill(p, 4 * PAGE, 7);
	ok &= write(a, p, 4 * PAGE) == 4 * PAGE;
	ok &= splice(a, &from, one[1], NULL, 4 * PAGE, 0) == 4 * PAGE;
	ok &= tee(one[0], two[1], 4 * PAGE, 0) == 4 * PAGE;
	ok &= splice(one[0], NULL, b, &to, 4 * PAGE, 0) == 4 * PAGE;
	ok &= pread(b, buf, 4 * PAGE, 0) == 4 * PAGE && mem_wrong(buf, 4 * PAGE, 7) == 0;
	memset(buf, 0, 4 * PAGE);
	ok &= read(two[0], buf, 4 * PAGE) == 4 * PAGE && mem_wrong(buf, 4 * PAGE, 7) == 0;

	mem_fill(p, 4 * PAGE, 8);
	ok &= vmsplice(one[1], &iov, 1, 0) == 4 * PAGE;
	mem_fill(p, 4 * PAGE, 9);	/* the pipe holds the pages, not a copy */
	ok &= read(one[0], buf, 4 * PAGE) == 4 * PAGE && mem_wrong(buf, 4 * PAGE, 9) == 0;
	iov.iov_base = buf;
	memset(buf, 0, 4 * PAGE);
	ok &= write(one[1], p, 4 * PAGE) == 4 * PAGE && vmsplice(one[0], &iov, 1, 0) == 4 * PAGE;
	ok &= mem_wrong(buf, 4 * PAGE, 9) == 0;

	from = 0;
	ok &= lseek(b, 0, SEEK_SET) == 0 && sendfile(b, a, &from, 4 * PAGE) == 4 * PAGE;
	to = 0;
	from = 0;
	ok &= copy_file_range(a, &from, b, &to, PAGE, 0) == (ssize_t)PAGE || errno == EXDEV;
	ok &= pread(b, buf, 4 * PAGE, 0) == 4 * PAGE && mem_wrong(buf, 4 * PAGE, 7) == 0;
	for (int i = 0; i < 2; i++) {
		close(one[i]);
		close(two[i]);
	}
	close(a);
	close(b);
	munmap(p, 4 * PAGE);
	munmap(buf, 4 * PAGE);
	return ok;
}

int main(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "\0dune-sys-socket" };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct child other;
	int status;

	ktap_plan(DUNE_TEST_ENTER + 7 + DUNE_TEST_LEAVE);
	listener[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	listener[1] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener[0], (struct sockaddr *)&un, sizeof(sa_family_t) + 16) ||
	    bind(listener[1], (struct sockaddr *)&in, sizeof(in)) || listen(listener[0], 1) ||
	    listen(listener[1], 1) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, control))
		ktap_bail("sockets: %s", strerror(errno));
	other = child_start(native, NULL);
	dune_test_enter();
	child_go(&other);
	ktap_ok(unix_stream(), "256 KiB over a unix socket and back");
	ktap_ok(tcp_stream(), "256 KiB over TCP and back");
	ktap_ok(datagrams(), "packets keep their borders");
	ktap_ok(descriptors(), "descriptors in both directions (SCM_RIGHTS)");
	status = child_wait(&other);
	ktap_ok(status == 0, "the native process ends well (%s)", child_status(status));
	ktap_ok(mmsgs(), "sendmmsg and recvmmsg");
	ktap_ok(splices(), "splice, tee, vmsplice, sendfile, copy_file_range");
	return dune_test_done();
}
