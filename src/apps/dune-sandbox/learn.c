// SPDX-License-Identifier: MIT
/*
 * --learn: a policy of what a program did.
 *
 * The program runs in a child, under a policy that allows everything and asks about it, and
 * the monitor writes down each file and address (struct learned) in memory that all of the
 * sandbox's processes share.  When the program ends its parent makes a policy of that.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "learn.h"

/* Everything allowed, and each decision made. */
void learn_policy(struct policy *p)
{
	policy_begin(p, "--learn");
	p->has_files = p->has_net = true;
	p->nr_files = 1;
	p->files[0] = (struct file_rule){ .pattern = "/**",
					  .rights = FILE_READ | FILE_WRITE | FILE_EXEC };
	p->net_default.verdict = ALLOW;
}

static int compare(const void *a, const void *b)
{
	const struct learned *x = a, *y = b;

	if (x->kind != y->kind)
		return (int)x->kind - (int)y->kind;
	return memcmp(x->what, y->what, sizeof(x->what));
}

/* A pattern has no way to write these. */
static bool can_be_written(const char *path)
{
	for (; *path; path++)
		if (strchr("*?\"\\", *path) || (unsigned char)*path < ' ' || *path == 127)
			return false;
	return true;
}

static void put_rights(FILE *out, uint32_t rights, const char *const *names)
{
	const char *comma = "";

	fputs("allow = [", out);
	for (int bit = 0; names[bit]; bit++) {
		if (!(rights >> bit & 1))
			continue;
		fprintf(out, "%s\"%s\"", comma, names[bit]);
		comma = ", ";
	}
	fputs("]\n\n", out);
}

static void put_file(FILE *out, const struct learned *l, uint32_t rights)
{
	static const char *const names[] = { "read", "write", "exec", NULL };

	if (!can_be_written(l->what)) {
		fputs("# a file whose name no rule can hold was used\n\n", out);
		return;
	}
	fprintf(out, "[[file]]\npath = \"%s\"\nbelow = false\n", l->what);
	put_rights(out, rights, names);
}

static void put_net(FILE *out, const struct learned *l, uint32_t rights)
{
	static const char *const names[] = { "connect", "bind", NULL };
	struct sockaddr_storage a;
	char text[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in *in = (const void *)&a;
	const struct sockaddr_in6 *in6 = (const void *)&a;

	memcpy(&a, l->what, sizeof(a));
	switch (a.ss_family) {
	case AF_INET:
		inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
		fprintf(out, "[[net]]\nfamily = \"inet\"\naddress = \"%s\"\nport = %d\n", text,
			ntohs(in->sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
		fprintf(out, "[[net]]\nfamily = \"inet6\"\naddress = \"%s\"\nport = %d\n", text,
			ntohs(in6->sin6_port));
		break;
	case AF_UNIX:
		fputs("[[net]]\nfamily = \"unix\"\n", out);
		break;
	case AF_NETLINK:
		fputs("[[net]]\nfamily = \"netlink\"\n", out);
		break;
	default:
		fprintf(out, "# address family %d, which no rule can name, was used\n\n",
			a.ss_family);
		return;
	}
	put_rights(out, rights, names);
}

static int write_policy(const char *path, struct learned *list, size_t nr)
{
	FILE *out = fopen(path, "we");

	if (!out)
		return -errno;
	fputs("# made by dune-sandbox --learn: what one run did\n\n", out);
	qsort(list, nr, sizeof(*list), compare);
	for (size_t i = 0; i < nr; ) {
		uint32_t rights = 0;
		size_t first = i;

		for (; i < nr && !compare(&list[first], &list[i]); i++)
			rights |= list[i].rights;
		if (list[first].kind == LEARNED_FILE)
			put_file(out, &list[first], rights);
		else
			put_net(out, &list[first], rights);
	}
	fputs("[network]\ndefault = \"deny\"\n", out);
	return fclose(out) ? -errno : 0;
}

static void end_like(int status)
{
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	exit(WEXITSTATUS(status));
}

/* Returns in the child, which is to become the program, with a descriptor to write to. */
int learn_begin(const char *path)
{
	int fd = memfd_create("learned", MFD_CLOEXEC), status, ret;
	struct learned *list;
	struct stat st;
	pid_t child;

	if (fd < 0)
		return -errno;
	fflush(NULL);
	child = fork();
	if (child <= 0)
		return child ? -errno : fd;
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (fstat(fd, &st))
		return -errno;
	list = malloc((size_t)st.st_size + 1);
	if (!list || pread(fd, list, (size_t)st.st_size, 0) != st.st_size)
		return -ENOMEM;
	ret = write_policy(path, list, (size_t)st.st_size / sizeof(*list));
	if (ret)
		return ret;
	end_like(status);
	return 0;
}
