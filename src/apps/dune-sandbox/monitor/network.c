// SPDX-License-Identifier: MIT
/*
 * Addresses of sockets: copied, decided about, and the copy is what the kernel gets.
 */
#include <fcntl.h>
#include <linux/openat2.h>
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

/* 0: *to is a copy that may be used, to be given to drop_address() after the call. */
long read_address(struct address *to, uint64_t from, uint64_t len, uint32_t right)
{
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
	return policy_net(&to->is, len, right);
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
	if (sends && !call->arg[4])
		return make_call(call);
	ret = read_address(&a, call->arg[at], (uint32_t)call->arg[at + 1],
			   call->nr == SYS_bind ? NET_BIND : NET_CONNECT);
	if (ret)
		return ret;
	call->arg[at] = (uint64_t)&a.is;
	call->arg[at + 1] = a.len;
	ret = make_call(call);
	drop_address(&a);
	return ret;
}
