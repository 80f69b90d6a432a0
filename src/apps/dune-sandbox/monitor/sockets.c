// SPDX-License-Identifier: MIT
/*
 * Calls whose arguments hold addresses: struct iovec, struct msghdr and their like.  They
 * are copied, checked in the copy, and the copy is what the kernel reads.
 */
#include <sys/socket.h>
#include <sys/uio.h>

#include "address.h"

#define MAX_PARTS	1024	/* UIO_MAXIOV */
#define CONTROL_SIZE	4096
#define MAX_WAITERS	128	/* FUTEX_WAITV_MAX */
#define MAX_RIGHTS	253	/* SCM_MAX_FD */

/* 0: @to is a copy of which each part is ring 3's. */
static long copy_parts(struct iovec *to, uint64_t from, uint64_t nr)
{
	if (nr > MAX_PARTS)
		return -EMSGSIZE;
	if (copy_in(to, from, nr * sizeof(*to)))
		return -EFAULT;
	for (uint64_t i = 0; i < nr; i++)
		if (!is_ring3s_object((uint64_t)to[i].iov_base))
			return -EFAULT;
	return 0;
}

/* ppoll's relative: the last argument is a pair, address and size of a mask. */
static long select_masked(struct call *call)
{
	uint64_t pair[2];

	if (!call->arg[5])
		return make_call(call);
	if (copy_in(pair, call->arg[5], sizeof(pair)) || !is_ring3s_object(pair[0]))
		return -EFAULT;
	call->arg[5] = (uint64_t)pair;
	return make_call(call);
}

struct waiter {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};

static long wait_for_many(struct call *call)
{
	struct waiter w[MAX_WAITERS];

	if (call->arg[1] > MAX_WAITERS)
		return -EINVAL;
	if (copy_in(w, call->arg[0], call->arg[1] * sizeof(*w)) || !is_ring3s_object(call->arg[3]))
		return -EFAULT;
	for (uint64_t i = 0; i < call->arg[1]; i++)
		if (!is_ring3s_object(w[i].uaddr))
			return -EFAULT;
	call->arg[0] = (uint64_t)w;
	return make_call(call);
}

long vector_call(struct call *call, struct dune_tf *tf)
{
	struct iovec parts[MAX_PARTS];
	long ret;

	(void)tf;
	if (call->nr == SYS_pselect6)
		return select_masked(call);
	if (call->nr == SYS_futex_waitv)
		return wait_for_many(call);
	if (call->arg[2] > MAX_PARTS)
		return -EINVAL;
	ret = copy_parts(parts, call->arg[1], call->arg[2]);
	if (ret)
		return ret;
	call->arg[1] = (uint64_t)parts;
	return make_call(call);
}

/* ---- messages -------------------------------------------------------------------- */

struct message {
	struct msghdr hdr;
	struct iovec parts[MAX_PARTS];
	char control[CONTROL_SIZE] __attribute__((aligned(16)));
	uint32_t nr_rights;
	uint32_t rights[MAX_RIGHTS];	/* held until the message is sent */
};

static void drop_rights(struct message *m)
{
	while (m->nr_rights)
		release(m->rights[--m->nr_rights]);
}

/* What a message hands on is decided about here, so it is held from here on. */
static long hold_rights(struct message *m, uint32_t *fds, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		long own = m->nr_rights < MAX_RIGHTS ? duplicate_held((int)fds[i]) : -EINVAL;

		if (failed(own))
			return own;
		fds[i] = m->rights[m->nr_rights++] = (uint32_t)own;
	}
	return 0;
}

static long read_rights(struct message *m)
{
	struct msghdr *h = &m->hdr;
	struct cmsghdr *c;
	long ret;

	for (c = CMSG_FIRSTHDR(h); c; ) {
		size_t at = (size_t)((char *)c - (char *)h->msg_control);
		size_t step;

		if (c->cmsg_len < sizeof(*c) || c->cmsg_len > h->msg_controllen - at)
			return 0;	/* the kernel says EINVAL */
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			ret = hold_rights(m, (uint32_t *)CMSG_DATA(c),
					  (c->cmsg_len - sizeof(*c)) / sizeof(uint32_t));
			if (ret)
				return ret;
		}
		step = CMSG_ALIGN(c->cmsg_len);
		if (step > h->msg_controllen - at - sizeof(*c))
			return 0;
		c = (struct cmsghdr *)((char *)c + step);
	}
	return 0;
}

/* drop_rights() afterwards, whatever it returns. */
static long read_message(struct message *m, uint64_t from, bool sends)
{
	struct msghdr *h = &m->hdr;
	long ret;

	m->nr_rights = 0;
	if (copy_in(h, from, sizeof(*h)))
		return -EFAULT;
	if (!is_ring3s_object((uint64_t)h->msg_name) ||
	    !is_ring3s_object((uint64_t)h->msg_control))
		return -EFAULT;
	ret = copy_parts(m->parts, (uint64_t)h->msg_iov, h->msg_iovlen);
	if (ret)
		return ret;
	h->msg_iov = m->parts;
	if (!sends || !h->msg_control || !h->msg_controllen)
		return 0;
	if (h->msg_controllen > sizeof(m->control))
		return -ENOBUFS;
	if (copy_in(m->control, (uint64_t)h->msg_control, h->msg_controllen))
		return -EFAULT;
	h->msg_control = m->control;
	return read_rights(m);
}

static long one_message(struct call *call)
{
	uint64_t user = call->arg[1];
	struct message m;
	struct address to = { .held = -1 };
	long ret = read_message(&m, user, call->nr == SYS_sendmsg);

	if (!ret && call->nr == SYS_sendmsg && m.hdr.msg_name) {
		ret = read_address(&to, (uint64_t)m.hdr.msg_name, m.hdr.msg_namelen, call->nr);
		m.hdr.msg_name = &to.is;
		m.hdr.msg_namelen = (socklen_t)to.len;
	}
	if (!ret) {
		call->arg[1] = (uint64_t)&m.hdr;
		ret = make_call(call);
		drop_address(&to);
	}
	drop_rights(&m);
	if (failed(ret) || call->nr == SYS_sendmsg)
		return ret;
	/* What the kernel writes of it. */
	if (copy_out(user + offsetof(struct msghdr, msg_namelen), &m.hdr.msg_namelen,
		     sizeof(m.hdr.msg_namelen)) ||
	    copy_out(user + offsetof(struct msghdr, msg_controllen), &m.hdr.msg_controllen,
		     sizeof(m.hdr.msg_controllen)) ||
	    copy_out(user + offsetof(struct msghdr, msg_flags), &m.hdr.msg_flags,
		     sizeof(m.hdr.msg_flags)))
		return -EFAULT;
	return ret;
}

/* One after the other, as the kernel does. */
static long many_messages(struct call *call)
{
	bool sends = call->nr == SYS_sendmmsg;
	uint64_t nr = (uint32_t)call->arg[2], flags = call->arg[3], done = 0;

	if (!sends && call->arg[4]) {
		report("recvmmsg with a time limit was refused");
		return -ENOSYS;
	}
	for (; done < nr && done < MAX_PARTS; done++) {
		uint64_t user = call->arg[1] + done * sizeof(struct mmsghdr);
		struct call one = { sends ? SYS_sendmsg : SYS_recvmsg,
				    { call->arg[0], user, flags & ~(uint64_t)MSG_WAITFORONE } };
		long ret;
		uint32_t len;

		if (!sends && done && flags & MSG_WAITFORONE)
			one.arg[2] |= MSG_DONTWAIT;
		ret = one_message(&one);
		if (failed(ret) || ret == RESTART)
			return done ? (long)done : ret;
		len = (uint32_t)ret;
		if (copy_out(user + offsetof(struct mmsghdr, msg_len), &len, sizeof(len)))
			return -EFAULT;
	}
	return (long)done;
}

long message_call(struct call *call, struct dune_tf *tf)
{
	(void)tf;
	return call->nr == SYS_sendmsg || call->nr == SYS_recvmsg ? one_message(call) :
								    many_messages(call);
}
