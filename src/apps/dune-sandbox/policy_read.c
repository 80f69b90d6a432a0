// SPDX-License-Identifier: MIT
/*
 * A policy file becomes struct policy.  dune-sandbox.1 describes the file.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/monitor.h"
#include "policy.h"

#define MAX_FILE_SIZE	(1L << 20)

/* Used without --policy and --allow-all. */
static const char default_text[] =
	"[[file]]\npath = \"/**\"\nallow = [\"read\", \"exec\"]\n"
	"[[file]]\npath = \"/tmp/**\"\nallow = [\"write\"]\n"
	"[[file]]\npath = \"/dev/null\"\nallow = [\"write\"]\n"
	"[[file]]\npath = \"/dev/tty\"\nallow = [\"write\"]\n"
	"[[file]]\npath = \"/dev/pts/**\"\nallow = [\"write\"]\n"
	"[[file]]\npath = \"/dev/shm/**\"\nallow = [\"write\"]\n"
	"[[file]]\npath = \"/proc/**\"\nallow = [\"write\"]\n"
	"[network]\ndefault = \"deny\"\n"
	"[tmp]\nprivate = true\n";

enum table { NOTHING, TOP, CALLS, FILES, NETWORK, NETS, LIMITS, TMP };

struct reading {
	struct policy *p;
	enum table in;
	bool has_path, has_rights;	/* of the rule that is being read */
	int rule_line;
	bool seen[TMP + 1];
};

static const struct { const char *name; int error; } errors[] = {
	{ "EPERM", EPERM }, { "EACCES", EACCES }, { "ENOSYS", ENOSYS }, { "ENOENT", ENOENT },
	{ "EINVAL", EINVAL }, { "EROFS", EROFS }, { "ENOTSUP", ENOTSUP }, { "ENOMEM", ENOMEM },
	{ "ECONNREFUSED", ECONNREFUSED }, { "ENETUNREACH", ENETUNREACH },
	{ "EAFNOSUPPORT", EAFNOSUPPORT }, { "EMFILE", EMFILE }, { "EAGAIN", EAGAIN },
};

/* "allow", "ask", "log", "kill", "deny", "deny ENAME" */
static const char *read_verdict(const struct toml_value *v, struct decision *d, int usual,
				int line)
{
	if (v->kind != TOML_STRING)
		return "a verdict is a string";
	*d = (struct decision){ .line = (uint16_t)(line < 65535 ? line : 65535) };
	if (!strcmp(v->text, "allow"))
		d->verdict = ALLOW;
	else if (!strcmp(v->text, "log"))
		d->verdict = LOG;
	else if (!strcmp(v->text, "kill"))
		d->verdict = KILL;
	else if (!strcmp(v->text, "ask")) {
		d->verdict = ASK;
		d->error = (uint8_t)usual;
	} else if (!strncmp(v->text, "deny", 4) && (!v->text[4] || v->text[4] == ' ')) {
		d->verdict = DENY;
		d->error = (uint8_t)usual;
		if (!v->text[4])
			return NULL;
		for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
			if (!strcmp(v->text + 5, errors[i].name)) {
				d->error = (uint8_t)errors[i].error;
				return NULL;
			}
		return "an error that is not known";
	} else
		return "a verdict is allow, ask, log, kill, deny or \"deny ENAME\"";
	return NULL;
}

static const char *finish_rule(struct reading *r)
{
	if ((r->in == FILES && !r->has_path) || (r->in == NETS && !r->has_path))
		return r->in == FILES ? "the rule before has no path" :
					"the rule before has no family";
	if ((r->in == FILES || r->in == NETS) && !r->has_rights)
		return "the rule before allows and denies nothing";
	return NULL;
}

static const char *begins(void *arg, const char *table, bool array, int line)
{
	static const struct { const char *name; bool array; enum table table; } tables[] = {
		{ "calls", false, CALLS }, { "file", true, FILES }, { "network", false, NETWORK },
		{ "net", true, NETS }, { "limits", false, LIMITS },
		{ "tmp", false, TMP },
	};
	struct reading *r = arg;
	const char *wrong = finish_rule(r);

	if (wrong)
		return wrong;
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		if (strcmp(table, tables[i].name))
			continue;
		if (array != tables[i].array)
			return array ? "it is one table, not an array: [name]" :
				       "it is an array of tables: [[name]]";
		r->in = tables[i].table;
		if (!array && r->seen[r->in])
			return "the table is there already";
		r->seen[r->in] = true;
		r->has_path = r->has_rights = false;
		r->rule_line = line;
		if (r->in == FILES) {
			r->p->has_files = true;
			if (r->p->nr_files == MAX_FILE_RULES)
				return "more rules for files than 256";
			r->p->files[r->p->nr_files++] = (struct file_rule){ 0 };
		} else if (r->in == NETS) {
			r->p->has_net = true;
			if (r->p->nr_nets++ == MAX_NET_RULES)
				return "more rules for the network than 64";
			r->p->nets[r->p->nr_nets - 1].last_port = 65535;
		}
		return NULL;
	}
	return "a table that is not known: calls, file, network, net, limits, tmp";
}

static const char *set_call(struct policy *p, const char *key, const struct toml_value *v,
			    int line)
{
	if (!strcmp(key, "default"))
		return read_verdict(v, &p->call_default, EPERM, line);
	for (int nr = 0; nr < NR_CALLS; nr++)
		if (call_specs[nr].name && !strcmp(call_specs[nr].name, key)) {
			if (p->calls[nr].line)
				return "the call is there already";
			return read_verdict(v, &p->calls[nr], EPERM, line);
		}
	return "no such system call";
}

static const char *read_rights(const struct toml_value *v, const char *const *names,
			       uint32_t *rights)
{
	if (v->kind != TOML_ARRAY || !v->nr_items)
		return "it is an array of what is allowed or denied";
	for (int i = 0; i < v->nr_items; i++) {
		int n = 0;

		while (names[n] && strcmp(names[n], v->items[i]))
			n++;
		if (!names[n])
			return "a right that is not known";
		*rights |= 1U << n;
	}
	return NULL;
}

/* "allow", "ask", "deny" and so on: what is to be done about the rights that follow. */
static bool read_effect(const char *key, struct decision *d, int line)
{
	d->line = (uint16_t)(line < 65535 ? line : 65535);
	d->error = EACCES;
	if (!strcmp(key, "allow"))
		d->verdict = ALLOW;
	else if (!strcmp(key, "deny"))
		d->verdict = DENY;
	else if (!strcmp(key, "kill"))
		d->verdict = KILL;
	else if (!strcmp(key, "log"))
		d->verdict = LOG;
	else if (!strcmp(key, "ask"))
		d->verdict = ASK;
	else
		return false;
	return true;
}

static const char *set_file(struct reading *r, const char *key, const struct toml_value *v)
{
	static const char *const names[] = { "read", "write", "exec", NULL };
	struct file_rule *f = &r->p->files[r->p->nr_files - 1];

	if (!strcmp(key, "path")) {
		if (r->has_path)
			return "the rule has a path already";
		if (v->kind != TOML_STRING || *v->text != '/')
			return "a path begins with /";
		if (strlen(v->text) >= sizeof(f->pattern))
			return "the path is longer than 255 bytes";
		strcpy(f->pattern, v->text);
		r->has_path = true;
		return NULL;
	}
	if (!strcmp(key, "below")) {
		if (v->kind != TOML_BOOL)
			return "below is true or false";
		f->exact = !v->number;
		return NULL;
	}
	if (r->has_rights)
		return "one rule allows, asks, denies, logs or kills: the other is a rule of its own";
	if (!read_effect(key, &f->is, r->rule_line))
		return "a rule for files has path, below, and allow, ask, deny, log or kill";
	r->has_rights = true;
	return read_rights(v, names, &f->rights);
}

static const char *parse_address(struct net_rule *n, const char *text)
{
	char address[INET6_ADDRSTRLEN + 1];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	long bits, most = n->family == AF_INET ? 32 : 128;
	char *end;

	if (n->family == AF_UNIX) {
		if (strlen(text) >= sizeof(n->pattern))
			return "the path is longer than 107 bytes";
		strcpy(n->pattern, text);
		return NULL;
	}
	if (n->family != AF_INET && n->family != AF_INET6)
		return "family inet, inet6 or unix comes before an address";
	if (len >= sizeof(address))
		return "no address";
	memcpy(address, text, len);
	address[len] = '\0';
	if (inet_pton(n->family, address, n->address) != 1)
		return "no address of this family";
	bits = slash ? strtol(slash + 1, &end, 10) : most;
	if (slash && (*end || end == slash + 1 || bits < 0 || bits > most))
		return "the number of bits behind / is none";
	n->prefix_bits = (uint8_t)bits;
	return NULL;
}

static const char *set_net(struct reading *r, const char *key, const struct toml_value *v)
{
	static const char *const rights[] = { "connect", "bind", NULL };
	struct net_rule *n = &r->p->nets[r->p->nr_nets - 1];

	if (!strcmp(key, "family")) {
		if (v->kind != TOML_STRING)
			return "a family is a string";
		if (!strcmp(v->text, "inet"))
			n->family = AF_INET;
		else if (!strcmp(v->text, "inet6"))
			n->family = AF_INET6;
		else if (!strcmp(v->text, "unix"))
			n->family = AF_UNIX;
		else if (!strcmp(v->text, "netlink"))
			n->family = AF_NETLINK;
		else
			return "a family is inet, inet6, unix or netlink";
		r->has_path = true;
		return NULL;
	}
	if (!strcmp(key, "address"))
		return v->kind == TOML_STRING ? parse_address(n, v->text) : "an address is a string";
	if (!strcmp(key, "port")) {
		if (v->kind != TOML_INTEGER || v->number > 65535)
			return "a port is a number up to 65535";
		n->first_port = n->last_port = (uint16_t)v->number;
		return NULL;
	}
	if (r->has_rights)
		return "one rule allows, asks, denies, logs or kills: the other is a rule of its own";
	if (!read_effect(key, &n->is, r->rule_line))
		return "a rule for the network has family, address, port, and allow, ask, deny, log or kill";
	r->has_rights = true;
	return read_rights(v, rights, &n->rights);
}

static const char *set_tmp(struct policy *p, const char *key, const struct toml_value *v,
			   int line)
{
	if (strcmp(key, "private") || v->kind != TOML_BOOL)
		return "only private = true or false stands in [tmp]";
	p->private_tmp = v->number;
	p->private_tmp_line = (uint16_t)(line < 65535 ? line : 65535);
	return NULL;
}

/* A number, or a string with K, M or G. */
static const char *set_limit(struct policy *p, const char *key, const struct toml_value *v)
{
	uint64_t *limit = !strcmp(key, "memory") ? &p->memory :
			  !strcmp(key, "files") ? &p->open_files :
			  !strcmp(key, "processes") ? &p->processes :
			  !strcmp(key, "cpu_seconds") ? &p->cpu_seconds : NULL;
	char *end;

	if (!limit)
		return "a limit that is not known: memory, files, processes, cpu_seconds";
	if (*limit)
		return "the limit is there already";
	if (v->kind == TOML_INTEGER) {
		*limit = (uint64_t)v->number;
	} else if (v->kind == TOML_STRING && limit == &p->memory) {
		*limit = strtoull(v->text, &end, 10);
		if (end == v->text || (*end && end[1]))
			return "a size is a number, or one with K, M or G in quotes";
		*limit <<= *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
		if (*end && !strchr("KMG", *end))
			return "a size is a number, or one with K, M or G in quotes";
	} else
		return "a limit is a number";
	return *limit ? NULL : "a limit is more than 0";
}

static const char *sets(void *arg, const char *key, const struct toml_value *v, int line)
{
	struct reading *r = arg;
	struct decision d;
	const char *wrong;

	switch (r->in) {
	case CALLS:
		return set_call(r->p, key, v, line);
	case FILES:
		return set_file(r, key, v);
	case NETS:
		return set_net(r, key, v);
	case LIMITS:
		return set_limit(r->p, key, v);
	case TMP:
		return set_tmp(r->p, key, v, line);
	case NETWORK:
		if (strcmp(key, "default"))
			return "only default stands in [network]; rules are [[net]]";
		wrong = read_verdict(v, &d, EACCES, line);
		if (wrong)
			return wrong;
		if (d.verdict != ALLOW && d.verdict != DENY)
			return "it is allow or deny";
		r->p->has_net = true;
		r->p->net_default = d;
		return NULL;
	default:
		return "a key before the first table";
	}
}

void policy_begin(struct policy *p, const char *name)
{
	memset(p, 0, offsetof(struct policy, files));
	p->version = POLICY_VERSION;
	p->size = sizeof(*p);
	snprintf(p->file, sizeof(p->file), "%s", name);
}

static int read_text(struct policy *p, char *text, const char *name)
{
	struct reading r = { .p = p };
	const struct toml_reader reader = { begins, sets, &r };
	const char *wrong;
	int line;

	policy_begin(p, name);
	p->net_default = (struct decision){ .verdict = DENY, .error = EACCES };
	wrong = toml_read(text, &reader, &line);
	if (!wrong && finish_rule(&r)) {
		wrong = finish_rule(&r);
		line = r.rule_line;
	}
	if (!wrong && p->private_tmp && !p->has_files) {
		/* Without rules Linux follows links of /proc, which lead to others' /tmp. */
		wrong = "a private /tmp needs rules for files";
		line = p->private_tmp_line;
	}
	if (!wrong)
		return 0;
	fprintf(stderr, "dune-sandbox: %s:%d: %s\n", name, line, wrong);
	return -1;
}

int policy_of_text(struct policy *p, const char *from)
{
	char *text = strdup(from);
	int ret;

	if (!text) {
		fprintf(stderr, "dune-sandbox: %s\n", strerror(errno));
		return -1;
	}
	ret = read_text(p, text, "the policy");
	free(text);
	return ret;
}

int policy_default(struct policy *p)
{
	char text[sizeof(default_text)];

	memcpy(text, default_text, sizeof(text));
	return read_text(p, text, "the default policy");
}

int policy_read(struct policy *p, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret = -1;
	struct stat st;
	char *text = NULL;

	if (fd < 0 || fstat(fd, &st)) {
		fprintf(stderr, "dune-sandbox: %s: %s\n", path, strerror(errno));
	} else if (st.st_size > MAX_FILE_SIZE) {
		fprintf(stderr, "dune-sandbox: %s: longer than 1 MiB\n", path);
	} else {
		ssize_t got;

		text = calloc(1, (size_t)st.st_size + 1);
		got = text ? read(fd, text, (size_t)st.st_size) : -1;
		if (got != st.st_size)
			fprintf(stderr, "dune-sandbox: %s: cannot be read\n", path);
		else if (memchr(text, '\0', (size_t)got))
			fprintf(stderr, "dune-sandbox: %s: it holds a NUL byte\n", path);
		else
			ret = read_text(p, text, path);
	}
	free(text);
	if (fd >= 0)
		close(fd);
	return ret;
}
