// SPDX-License-Identifier: MIT
/*
 * Files: opening, and the calls on descriptors that are more than their arguments.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor.h"

#define OPEN_FLAGS	((uint64_t)(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | \
				    O_NONBLOCK | O_DSYNC | O_SYNC | O_ASYNC | O_DIRECT |	   \
				    O_LARGEFILE_ | O_DIRECTORY | O_NOFOLLOW | O_NOATIME |	   \
				    O_CLOEXEC | O_PATH | O_TMPFILE))
#define O_LARGEFILE_	0100000
#define PATH_FLAGS	((uint64_t)(O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC))

/* The words of open_how, whatever the call was; -errno. */
static long read_how(const struct call *call, struct open_how *how, int *dir, uint64_t *path)
{
	__builtin_memset(how, 0, sizeof(*how));
	*dir = AT_FDCWD;
	switch (call->nr) {
	case SYS_creat:
		*path = call->arg[0];
		how->flags = O_CREAT | O_WRONLY | O_TRUNC;
		how->mode = call->arg[1];
		break;
	case SYS_open:
		*path = call->arg[0];
		how->flags = (uint32_t)call->arg[1];
		how->mode = call->arg[2];
		break;
	case SYS_openat:
		*dir = (int)call->arg[0];
		*path = call->arg[1];
		how->flags = (uint32_t)call->arg[2];
		how->mode = call->arg[3];
		break;
	default:
		*dir = (int)call->arg[0];
		*path = call->arg[1];
		if (call->arg[3] != sizeof(*how))
			return call->arg[3] < sizeof(*how) ? -EINVAL : -E2BIG;
		return copy_in(how, call->arg[2], sizeof(*how));
	}
	/* open() ignores what openat2() refuses (build_open_how() of Linux). */
	how->flags &= OPEN_FLAGS;
	if (how->flags & O_PATH)
		how->flags &= PATH_FLAGS;
	if (how->flags & O_CREAT || (how->flags & O_TMPFILE) == O_TMPFILE)
		how->mode &= 07777;
	else
		how->mode = 0;
	return 0;
}

static uint32_t rights_of(uint64_t flags)
{
	uint64_t mode = flags & O_ACCMODE;
	uint32_t rights = mode == O_RDONLY ? FILE_READ : mode == O_WRONLY ? FILE_WRITE :
			  FILE_READ | FILE_WRITE;

	if (flags & (O_CREAT | O_TRUNC) || (flags & O_TMPFILE) == O_TMPFILE)
		rights |= FILE_WRITE;
	return flags & O_PATH ? FILE_READ : rights;
}

/* By its name in /proc, what is open perhaps with other rights. */
static long reopen_checked(const char *name, const struct open_how *how)
{
	char path[PATH_SIZE];
	long n = sys4(SYS_readlinkat, AT_FDCWD, name, path, sizeof(path) - 1), ret;

	if (failed(n))
		return n;
	path[n] = '\0';
	if (*path != '/')	/* a pipe, a socket */
		return path_reopen(name, how);
	ret = policy_file(path, rights_of(how->flags));
	return ret ? ret : path_open(path, how);
}

long open_call(struct call *call, struct dune_tf *tf)
{
	char path[PATH_SIZE], full[PATH_SIZE];
	struct open_how how;
	uint64_t from;
	int dir;
	long ret = read_how(call, &how, &dir, &from);

	(void)tf;
	if (!ret)
		ret = copy_path(path, from);
	if (ret)
		return ret;
	if (is_own_fd((uint64_t)dir) && *path != '/')
		return -EBADF;
	if (how.resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT))
		return -ENOSYS;		/* as on a kernel without openat2(): callers cope */
	/* Nothing to be decided about, and most paths have no link: one call says so. */
	if (!policy.has_files && path_is_plain(path)) {
		ret = path_open(path, &how);
		if (ret != -ELOOP)
			return ret;
	}
	ret = path_resolve(full, dir, path, &how);
	if (ret == 0)
		ret = policy_file(full, rights_of(how.flags));
	else if (ret == 1 && policy.has_files)
		return reopen_checked(full, &how);
	if (ret < 0)
		return ret;
	return ret ? path_reopen(full, &how) : path_open(full, &how);
}

/* By name, but not opened.  Devices of ring 3's own would be ways to the kernel's memory. */
long path_call(struct call *call, struct dune_tf *tf)
{
	uint64_t mode = call->nr == SYS_mknod ? call->arg[1] : call->arg[2];

	(void)tf;
	if ((call->nr == SYS_mknod || call->nr == SYS_mknodat) &&
	    (S_ISCHR(mode) || S_ISBLK(mode))) {
		report("making a device was refused");
		return -EPERM;
	}
	return policy.has_files ? path_under_rules(call) : make_call(call);
}

/* ---- descriptors ------------------------------------------------------------- */

/* All that is not the monitor's; libdune passes its own over. */
static long close_others(const struct call *call)
{
	uint64_t first = (uint32_t)call->arg[0], last = (uint32_t)call->arg[1];
	long ret = 0;

	if (first > last || call->arg[2] & ~(uint64_t)CLOSE_RANGE_CLOEXEC)
		return -EINVAL;
	table_share();
	while (!ret && first <= last) {
		uint64_t own = next_own_fd(first);

		if (own > first)
			ret = sys3(SYS_close_range, first, own > last ? last : own - 1,
				   call->arg[2]);
		first = own + 1;
	}
	table_unshare();
	return ret;
}

/* F_GET_RW_HINT to F_SET_FILE_RW_HINT, newer than some headers. */
#define FIRST_RW_HINT	1035
#define LAST_RW_HINT	1038

static long control(struct call *call)
{
	int cmd = (int)call->arg[1];

	switch (cmd) {
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
	case F_GETOWN_EX:
	case F_SETOWN_EX:
	case FIRST_RW_HINT ... LAST_RW_HINT:
		return is_ring3s_object(call->arg[2]) ? make_call(call) : -EFAULT;
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
	case F_SETFD:
		return call_on_table(call, "f");
	case F_GETFD:
	case F_GETFL:
	case F_SETFL:
	case F_GETOWN:
	case F_SETOWN:
	case F_GETSIG:
	case F_SETSIG:
	case F_GETLEASE:
	case F_SETLEASE:
	case F_NOTIFY:
	case F_GETPIPE_SZ:
	case F_SETPIPE_SZ:
	case F_ADD_SEALS:
	case F_GET_SEALS:
		return make_call(call);
	default:
		report("fcntl %d was refused", cmd);
		return -EINVAL;
	}
}

/*
 * Options that hold addresses, or that the kernel keeps mapping behind our back.  Of most
 * levels nobody has looked for such ones (SOL_XDP and SOL_MPTCP do have some): those are refused.
 */
#define SOL_TLS_		282
#define SO_ATTACH_FILTER_	26
#define SO_ATTACH_BPF_		50
#define SO_ATTACH_REUSEPORT_CBPF_ 51
#define SO_ATTACH_REUSEPORT_EBPF_ 52
#define TCP_ZEROCOPY_RECEIVE_	35
#define PACKET_FANOUT_DATA_	22
#define FIRST_TABLES		64	/* what iptables and its relatives set, in SOL_IP */
#define LAST_TABLES		127

static bool is_harmless(int level, int name)
{
	switch (level) {
	case SOL_SOCKET:
		return name != SO_ATTACH_FILTER_ && (name < SO_ATTACH_BPF_ ||
						     name > SO_ATTACH_REUSEPORT_EBPF_);
	case SOL_IP:
	case SOL_IPV6:
		return name < FIRST_TABLES || (level == SOL_IPV6 ? name > FIRST_TABLES + 1 :
							     name > LAST_TABLES);
	case IPPROTO_TCP:
		return name != TCP_ZEROCOPY_RECEIVE_;
	case SOL_PACKET:
		return name != PACKET_FANOUT_DATA_;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case SOL_ICMPV6:
	case SOL_RAW:
	case SOL_NETLINK:
	case SOL_TLS_:
		return true;
	default:
		return false;
	}
}

static long socket_option(struct call *call)
{
	int level = (int)call->arg[1], name = (int)call->arg[2];

	if (is_harmless(level, name))
		return make_call(call);
	report("socket option %d of level %d was refused", name, level);
	return -ENOPROTOOPT;
}

/* Of a vCPU some offsets before its beginning are commands. */
static long seek(struct call *call)
{
	bool before = (int64_t)call->arg[1] < 0 && (uint32_t)call->arg[2] == SEEK_SET;

	return before ? -EINVAL : make_call(call);
}

long descriptor_call(struct call *call, struct dune_tf *tf)
{
	(void)tf;
	switch (call->nr) {
	case SYS_close:
	case SYS_dup:
		return call_on_table(call, "f");
	case SYS_dup2:
	case SYS_dup3:
		return call_on_table(call, "ff");
	case SYS_lseek:
		return seek(call);
	case SYS_close_range:
		return close_others(call);
	case SYS_fcntl:
		return control(call);
	default:
		return socket_option(call);
	}
}
