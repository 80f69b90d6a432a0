// SPDX-License-Identifier: MIT
/*
 * Addresses of sockets: copied, decided about, and the copy is what the kernel gets.
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "address.h"

#define NAME_AT	offsetof(struct sockaddr_un, sun_path)

void drop_address(struct address *a)
{
	if (a->held >= 0)
		release(a->held);
	a->held = -1;
}

/*
 * A socket in the file system: the kernel would follow links to it.  So it gets the file
 * itself, or for bind() the folder, by its link in /proc.
 */
static long hold_socket(struct address *a, uint32_t right)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&a->is;
	struct open_how how = { .flags = right == NET_BIND ? O_NOFOLLOW : 0 };
	char full[PATH_SIZE], link[32], *name = NULL, *to = un->sun_path;
	struct sockaddr_storage whole = a->is;
	long ret;

	un->sun_path[sizeof(un->sun_path) - 1] = '\0';
	ret = path_resolve(full, AT_FDCWD, un->sun_path, &how);
	if (ret)
		return ret == 1 ? -EACCES : ret;
	ret = policy_file(full, FILE_WRITE);
	if (!ret) {
		char *copy = ((struct sockaddr_un *)&whole)->sun_path;
		size_t i = 0;

		for (; full[i] && i < sizeof(un->sun_path) - 1; i++)
			copy[i] = full[i];
		copy[i] = '\0';
		ret = full[i] ? -ENAMETOOLONG : policy_net(&whole, sizeof(*un), right);
	}
	if (ret)
		return ret;
	if (right == NET_BIND) {
		name = cut(full);
		if (!name)
			return -EADDRINUSE;
	}
	a->held = hold(*full ? full : "/", O_PATH | (name ? O_DIRECTORY : 0));
	if (failed(a->held))
		return a->held;
	hold_link(link, a->held);
	for (const char *s = link; *s; s++)
		*to++ = *s;
	if (name) {
		*to++ = '/';
		for (; *name; name++) {
			if (to == un->sun_path + sizeof(un->sun_path) - 1) {
				drop_address(a);
				return -ENAMETOOLONG;
			}
			*to++ = *name;
		}
	}
	*to = '\0';
	a->len = NAME_AT + (uint64_t)(to - un->sun_path) + 1;
	return 0;
}

/* ---- what Linux takes for what ------------------------------------------------------ */

#define IN6_SIZE	24	/* without the scope: SIN6_LEN_RFC2133 */

/* The last four bytes of an IPv6 address whose others are those of @head. */
static uint8_t *tail_behind(struct sockaddr_in6 *in6, const uint8_t head[12])
{
	uint8_t *a = (uint8_t *)&in6->sin6_addr;

	for (int i = 0; i < 12; i++)
		if (a[i] != head[i])
			return NULL;
	return a + 12;
}

static bool is_zero(const uint8_t *a)
{
	return a && !(a[0] | a[1] | a[2] | a[3]);
}

/*
 * Who says 0.0.0.0 or :: gets the machine itself, and AF_UNSPEC is IPv4 to bind() and to
 * datagrams.  Rules are about what is meant; so that Linux means the same, the copy says it.
 */
static void say_what_is_meant(struct sockaddr_storage *is, uint64_t len, uint64_t nr)
{
	static const uint8_t plain[12], mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct sockaddr_in *in = (void *)is;
	struct sockaddr_in6 *in6 = (void *)is;
	uint8_t *tail;

	if (is->ss_family == AF_UNSPEC && nr != SYS_connect && len >= sizeof(*in))
		is->ss_family = AF_INET;
	if (nr == SYS_bind)
		return;
	if (is->ss_family == AF_INET && len >= sizeof(*in) && !in->sin_addr.s_addr)
		in->sin_addr.s_addr = __builtin_bswap32(INADDR_LOOPBACK);
	if (is->ss_family != AF_INET6 || len < IN6_SIZE)
		return;
	tail = tail_behind(in6, plain);
	if (is_zero(tail))
		tail[3] = 1;
	tail = tail_behind(in6, mapped);
	if (is_zero(tail)) {
		tail[0] = 127;
		tail[3] = 1;
	}
}

/* A server on :: is one for IPv4, too, unless an option says no, which may change. */
static long bind_both(const struct sockaddr_storage *is, uint64_t len)
{
	static const uint8_t plain[12];
	struct sockaddr_storage both = *is;
	struct sockaddr_in *in = (void *)&both;
	uint16_t port = ((struct sockaddr_in6 *)&both)->sin6_port;

	if (both.ss_family != AF_INET6 || len < IN6_SIZE ||
	    !is_zero(tail_behind((struct sockaddr_in6 *)&both, plain)))
		return 0;
	__builtin_memset(&both, 0, sizeof(both));
	in->sin_family = AF_INET;
	in->sin_port = port;
	return policy_net(&both, sizeof(*in), NET_BIND);
}

static long may_bind(const struct sockaddr_storage *is, uint64_t len)
{
	long ret = policy_net(is, len, NET_BIND);

	return ret ? ret : bind_both(is, len);
}

/* 0: *to is a copy that may be used, to be given to drop_address() after the call. */
long read_address(struct address *to, uint64_t from, uint64_t len, uint64_t nr)
{
	uint32_t right = nr == SYS_bind ? NET_BIND : NET_CONNECT;

	__builtin_memset(to, 0, sizeof(*to));
	to->held = -1;
	if (len > sizeof(to->is))
		return -EINVAL;
	if (copy_in(&to->is, from, len))
		return -EFAULT;
	to->len = len;
	if (to->is.ss_family == AF_UNIX && len > NAME_AT &&
	    ((struct sockaddr_un *)&to->is)->sun_path[0] && (policy.has_files || policy.has_net)) {
		long ret = len <= sizeof(struct sockaddr_un) ? hold_socket(to, right) : -EINVAL;

		if (ret)
			to->held = -1;
		return ret;
	}
	if (!policy.has_net)
		return 0;
	say_what_is_meant(&to->is, len, nr);
	return right == NET_BIND ? may_bind(&to->is, len) : policy_net(&to->is, len, right);
}

/* Without bind() Linux chooses a port. */
static long listen_call(struct call *call)
{
	struct sockaddr_storage is = { 0 };
	uint32_t len = sizeof(is);
	long own, ret;

	if (!policy.has_net)
		return make_call(call);
	own = duplicate_held((int)call->arg[0]);	/* what is asked is what listens */
	if (failed(own))
		return own;
	ret = sys3(SYS_getsockname, own, &is, &len);
	if (!ret && (is.ss_family == AF_INET || is.ss_family == AF_INET6) &&
	    !((struct sockaddr_in *)&is)->sin_port)
		ret = may_bind(&is, len);
	call->arg[0] = (uint64_t)own;
	if (!ret)
		ret = make_call(call);
	release(own);
	return ret;
}

long network_call(struct call *call, struct dune_tf *tf)
{
	bool sends = call->nr == SYS_sendto;
	int at = sends ? 4 : 1;
	struct address a;
	long ret;

	(void)tf;
	if (call->nr == SYS_socket) {
		ret = policy_socket(call->arg[0]);
		return ret ? ret : make_call(call);
	}
	if (call->nr == SYS_listen)
		return listen_call(call);
	if (sends && !call->arg[4])
		return make_call(call);
	ret = read_address(&a, call->arg[at], (uint32_t)call->arg[at + 1], call->nr);
	if (ret)
		return ret;
	call->arg[at] = (uint64_t)&a.is;
	call->arg[at + 1] = a.len;
	ret = make_call(call);
	drop_address(&a);
	return ret;
}
