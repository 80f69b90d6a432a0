// SPDX-License-Identifier: MIT
/*
 * What the policy says about a call, a file, an address.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../learn.h"
#include "monitor.h"

struct policy policy;

static void kill_now(void)
{
	siginfo_t info;

	__builtin_memset(&info, 0, sizeof(info));
	info.si_signo = SIGSYS;
	info.si_code = SI_KERNEL;
	die_by_signal(&info);
}

/* 0 or -errno.  @what and @name are for the line that tells, @q for who is asked. */
static long carry_out(const struct decision *d, const char *what, const char *name,
		      struct dune_sandbox_request *q)
{
	static const char *const words[] = { "allowed", "denied", "killed", "allowed" };
	const char *asked = d->verdict == ASK ? "asked, and " : "";
	enum verdict verdict = d->verdict == ASK ? ask(q, d) : d->verdict;

	if (policy.explain || d->verdict != ALLOW) {
		if (d->line)
			report("%s %s: %s%s by %s:%d", what, name, asked, words[verdict & 3],
			       policy.file, d->line);
		else
			report("%s %s: %s%s, for no rule of %s names it", what, name, asked,
			       words[verdict & 3], policy.file);
	}
	if (verdict == KILL)
		kill_now();
	return verdict == DENY ? -(long)d->error : 0;
}

static __attribute__((noinline)) long call_decided(const struct decision *d,
						   const struct call *call, const char *name)
{
	struct dune_sandbox_request q = { .kind = DUNE_SANDBOX_CALL, .call = name,
					  .nr = call->nr };

	for (int i = 0; i < 6; i++)
		q.arg[i] = call->arg[i];
	return carry_out(d, "system call", name, &q);
}

/* Most calls end at the first comparison. */
long policy_call(const struct call *call, const char *name)
{
	const struct decision *d = &policy.calls[call->nr];

	if (!d->line)
		d = &policy.call_default;
	if (d->verdict == ALLOW && !policy.explain)
		return 0;
	if (!policy.calls[call->nr].line && d->verdict == ALLOW)
		return 0;	/* most calls, and nothing to learn from */
	return call_decided(d, call, name);
}

/* For --learn; @n bytes of @what. */
static void learn(uint32_t kind, uint32_t rights, const void *what, size_t n)
{
	struct learned l;

	if (setup.learn_fd < 0 || n > sizeof(l.what))
		return;
	__builtin_memset(&l, 0, sizeof(l));
	l.kind = kind;
	l.rights = rights;
	copy_bytes(l.what, what, n);
	sys3(SYS_write, setup.learn_fd, &l, sizeof(l));
}

static size_t length(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

/* ---- patterns ------------------------------------------------------------------ */

/*
 * "*" any text without "/", "**" any text, "?" a character but "/".  Without recursion, and
 * in time that is the product of the lengths: of each kind of star the last one is where a
 * mismatch goes back to.
 */
static bool matches(const char *p, const char *s, bool below)
{
	const char *star = NULL, *star_s = NULL, *deep = NULL, *deep_s = NULL;

	for (;;) {
		if (p[0] == '*' && p[1] == '*') {
			p += 2;
			deep = p;
			deep_s = s;
			star = NULL;
			continue;
		}
		if (*p == '*') {
			star = ++p;
			star_s = s;
			continue;
		}
		if (!*s && !*p)
			return true;
		if (below && !*p && *s == '/')	/* below the folder that it names */
			return true;
		if (*s && (*p == *s || (*p == '?' && *s != '/'))) {
			p++;
			s++;
			continue;
		}
		if (star && *star_s && *star_s != '/') {
			p = star;
			s = ++star_s;
		} else if (deep && *deep_s) {
			p = deep;
			s = ++deep_s;
			star = NULL;
		} else {
			return false;
		}
	}
}

/* A pattern of all below a folder means the folder itself, too. */
static bool covers(const char *pattern, const char *path, bool below)
{
	size_t n = 0;

	while (pattern[n])
		n++;
	if (n > 3 && pattern[n - 1] == '*' && pattern[n - 2] == '*' && pattern[n - 3] == '/') {
		size_t i = 0;

		while (i < n - 3 && path[i] == pattern[i])
			i++;
		if (i == n - 3 && !path[i])
			return true;
	}
	return matches(pattern, path, below);
}

/*
 * A process's own files in /proc have its number in their whole path, which no rule can
 * know: rules call them /proc/self/..., and so they are learned.
 */
static const char *as_rules_say(const char *path, char to[PATH_SIZE])
{
	static const char proc[] = "/proc/", self[] = "self";
	uint64_t pid, n = 0;
	size_t i, at = 0;

	for (i = 0; proc[i]; i++)
		if (path[i] != proc[i])
			return path;
	pid = (uint64_t)sys0(SYS_getpid);
	for (; path[i] >= '0' && path[i] <= '9' && n <= pid; i++)
		n = n * 10 + (uint64_t)(path[i] - '0');
	if (n != pid || (path[i] && path[i] != '/'))
		return path;
	for (const char *s = proc; *s; s++)
		to[at++] = *s;
	for (const char *s = self; *s; s++)
		to[at++] = *s;
	for (; path[i] && at < PATH_SIZE - 1; i++)
		to[at++] = path[i];
	to[at] = '\0';
	return path[i] ? path : to;
}

/* Each right by the first rule that names it. */
long policy_file(const char *whole, uint32_t rights)
{
	char own[PATH_SIZE];
	const char *path = policy.has_files ? as_rules_say(whole, own) : whole;
	static const char *const names[] = { "reading", "writing", "executing" };
	const struct decision none = { .verdict = DENY, .error = EACCES };
	struct dune_sandbox_request q = { .kind = DUNE_SANDBOX_FILE, .path = path };

	learn(LEARNED_FILE, rights, path, length(path));
	for (uint32_t bit = 0; bit < 3 && policy.has_files; bit++) {
		const struct decision *d = &none;
		long ret;

		if (!(rights >> bit & 1))
			continue;
		for (uint32_t i = 0; i < policy.nr_files; i++)
			if (policy.files[i].rights >> bit & 1 &&
			    covers(policy.files[i].pattern, path, !policy.files[i].exact)) {
				d = &policy.files[i].is;
				break;
			}
		q.right = 1U << bit;
		ret = carry_out(d, names[bit], path, &q);
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- the network ------------------------------------------------------------------ */

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned int bits)
{
	for (; bits >= 8; bits -= 8)
		if (*a++ != *b++)
			return false;
	return !bits || !((*a ^ *b) >> (8 - bits));
}

static bool fits(const struct net_rule *n, const struct sockaddr_storage *a, uint64_t len)
{
	const struct sockaddr_in *in = (const void *)a;
	const struct sockaddr_in6 *in6 = (const void *)a;
	const struct sockaddr_un *un = (const void *)a;
	uint16_t port;

	if (n->family && n->family != a->ss_family)
		return false;
	switch (a->ss_family) {
	case AF_INET:
		port = (uint16_t)(in->sin_port >> 8 | in->sin_port << 8);
		return len >= sizeof(*in) && port >= n->first_port && port <= n->last_port &&
		       same_bits((const uint8_t *)&in->sin_addr, n->address, n->prefix_bits);
	case AF_INET6:
		port = (uint16_t)(in6->sin6_port >> 8 | in6->sin6_port << 8);
		return len >= 24 && port >= n->first_port && port <= n->last_port &&
		       same_bits((const uint8_t *)&in6->sin6_addr, n->address, n->prefix_bits);
	case AF_UNIX:
		return !n->pattern[0] || (len > 2 && covers(n->pattern, un->sun_path, true));
	default:
		return n->family == a->ss_family;
	}
}

/* ::ffff:1.2.3.4 goes to 1.2.3.4, and rules call it that. */
static bool is_mapped(const struct sockaddr_storage *from, uint64_t len, struct sockaddr_storage *to)
{
	const struct sockaddr_in6 *in6 = (const void *)from;
	struct sockaddr_in *in = (void *)to;
	const uint8_t *a = (const uint8_t *)&in6->sin6_addr;

	if (from->ss_family != AF_INET6 || len < 24)
		return false;
	for (int i = 0; i < 12; i++)
		if (a[i] != (i < 10 ? 0 : 0xff))
			return false;
	__builtin_memset(to, 0, sizeof(*to));
	in->sin_family = AF_INET;
	in->sin_port = in6->sin6_port;
	__builtin_memcpy(&in->sin_addr, a + 12, 4);
	return true;
}

/* @a: zero behind @len. */
long policy_net(const struct sockaddr_storage *a, uint64_t len, uint32_t right)
{
	struct sockaddr_storage mapped;
	static const char *const names[] = { "", "connecting to", "binding to" };
	const struct decision *d = &policy.net_default;
	struct dune_sandbox_request q = { .kind = DUNE_SANDBOX_NET, .right = right };

	if (!policy.has_net || len < 2 || a->ss_family == AF_UNSPEC)
		return 0;
	if (is_mapped(a, len, &mapped)) {
		a = &mapped;
		len = sizeof(struct sockaddr_in);
	}
	learn(LEARNED_NET, right, a, len < sizeof(*a) ? len : sizeof(*a));
	for (uint32_t i = 0; i < policy.nr_nets; i++)
		if (policy.nets[i].rights & right && fits(&policy.nets[i], a, len)) {
			d = &policy.nets[i].is;
			break;
		}
	q.address = (const struct sockaddr *)a;
	q.address_len = (unsigned int)len;
	return carry_out(d, names[right & 3],
			 a->ss_family == AF_UNIX ? "a unix address" :
			 a->ss_family == AF_INET ? "an inet address" :
			 a->ss_family == AF_INET6 ? "an inet6 address" : "an address", &q);
}

/* A family of which no rule speaks is of no use, and some have other ways in and out. */
long policy_socket(uint64_t family)
{
	if (!policy.has_net || policy.net_default.verdict == ALLOW)
		return 0;
	if (family == AF_UNIX)	/* each address is looked at */
		return 0;
	for (uint32_t i = 0; i < policy.nr_nets; i++)
		if (policy.nets[i].is.verdict != DENY &&
		    (!policy.nets[i].family || policy.nets[i].family == (int)family ||
		     (policy.nets[i].family == AF_INET && family == AF_INET6)))
			return 0;	/* inet6: for IPv4 addresses in IPv6 ones */
	return carry_out(&policy.net_default, "socket of a family", "that no rule allows", NULL);
}
