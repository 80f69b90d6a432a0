// SPDX-License-Identifier: MIT
/*
 * ioctl: what is not known to be harmless is refused, since a driver may take its argument
 * for anything.
 */
#include <asm/termbits.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "monitor.h"

/* struct ifconf */
struct interfaces {
	int32_t len, pad;
	uint64_t buf;
};

/* The one that holds an address, and that programs use. */
static long list_interfaces(struct call *call)
{
	uint64_t user = call->arg[2];
	struct interfaces c;
	long ret;

	if (copy_in(&c, user, sizeof(c)) || !is_ring3s_object(c.buf))
		return -EFAULT;
	call->arg[2] = (uint64_t)&c;
	ret = make_call(call);
	if (!ret && copy_out(user, &c.len, sizeof(c.len)))
		ret = -EFAULT;
	return ret;
}

long ioctl_call(struct call *call, struct dune_tf *tf)
{
	uint32_t what = (uint32_t)call->arg[1];

	(void)tf;
	switch (what) {
	case TCGETS:
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
	case TCGETS2:
	case TCSETS2:
	case TCSETSW2:
	case TCSETSF2:
	case TCGETA:
	case TCSETA:
	case TCSETAW:
	case TCSETAF:
	case TCSBRK:
	case TCSBRKP:
	case TCXONC:
	case TCFLSH:
	case TIOCEXCL:
	case TIOCNXCL:
	case TIOCSCTTY:
	case TIOCNOTTY:
	case TIOCGPGRP:
	case TIOCSPGRP:
	case TIOCGSID:
	case TIOCOUTQ:
	case TIOCGWINSZ:
	case TIOCSWINSZ:
	case TIOCMGET:
	case TIOCPKT:
	case TIOCGPTN:
	case TIOCSPTLCK:
	case TIOCGPTLCK:
	case TIOCGPTPEER:
	case FIONREAD:
	case FIONBIO:
	case FIOASYNC:
	case FIOCLEX:
	case FIONCLEX:
	case FIOQSIZE:
	case FIGETBSZ:
	case FS_IOC_GETFLAGS:
	case FS_IOC_GETVERSION:
	case FS_IOC_FSGETXATTR:
	case SIOCATMARK:
	case SIOCGPGRP:
	case SIOCSPGRP:
	case SIOCGIFNAME:
	case SIOCGIFINDEX:
	case SIOCGIFFLAGS:
	case SIOCGIFADDR:
	case SIOCGIFDSTADDR:
	case SIOCGIFBRDADDR:
	case SIOCGIFNETMASK:
	case SIOCGIFMTU:
	case SIOCGIFHWADDR:
	case SIOCGIFMETRIC:
	case SIOCGIFTXQLEN:
	case SIOCOUTQNSD:
		return is_ring3s_object(call->arg[2]) ? make_call(call) : -EFAULT;
	case FICLONE:
		return is_own_fd(call->arg[2]) ? -EBADF : make_call(call);
	case SIOCGIFCONF:
		return list_interfaces(call);
	default:
		report("ioctl 0x%x was refused", what);
		return -ENOTTY;
	}
}
