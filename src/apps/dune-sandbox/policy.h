/* SPDX-License-Identifier: MIT */
/*
 * A policy as the monitor uses it: one block of memory without addresses in it, which main
 * makes of a file and which an exec hands on by a descriptor.
 */
#ifndef SANDBOX_POLICY_H
#define SANDBOX_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dunesandbox.h"

#define POLICY_VERSION	3
#define POLICY_CALLS	512
#define MAX_FILE_RULES	256
#define MAX_NET_RULES	64
#define PATTERN_SIZE	256

enum verdict { ALLOW, DENY, KILL, LOG, ASK };

/* What a rule says; line 0: no rule, but the default. */
struct decision {
	uint8_t verdict;	/* enum verdict */
	uint8_t error;		/* of DENY, and of ASK if the answer is no */
	uint16_t line;
};

/* What is done with a file. */
#define FILE_READ	1U
#define FILE_WRITE	2U	/* also: make, remove, rename, change its attributes */
#define FILE_EXEC	4U

/*
 * The first rule whose pattern matches and that names the right decides about it.  In a
 * pattern "*" is any text without "/", "?" one character of it, and "**" any text; a
 * pattern also matches what lies below the folder that it names, but for an exact one.
 */
struct file_rule {
	char pattern[PATTERN_SIZE];
	uint32_t rights;
	bool exact;
	struct decision is;
};

#define NET_CONNECT	1U	/* connect, send to */
#define NET_BIND	2U

struct net_rule {
	uint16_t family;	/* AF_*; 0: any */
	uint16_t first_port, last_port;
	uint8_t address[16];	/* inet, inet6 */
	uint8_t prefix_bits;
	uint32_t rights;
	char pattern[108];	/* unix: as of files; "": any */
	struct decision is;
};

struct policy {
	uint32_t version, size;
	char file[PATTERN_SIZE];	/* where it comes from, for messages */
	struct decision call_default;
	struct decision calls[POLICY_CALLS];
	bool has_files;		/* then what no rule names is denied */
	bool has_net;
	struct decision net_default;
	uint32_t nr_files, nr_nets;
	struct net_rule nets[MAX_NET_RULES];
	bool private_tmp;	/* a tmpfs on /tmp: private_tmp.c */
	uint16_t private_tmp_line;
	uint64_t memory, open_files, processes, cpu_seconds;	/* 0: no limit */
	bool explain;
	uint8_t data[DUNE_SANDBOX_DATA] __attribute__((aligned(16)));	/* the callback's */
	struct file_rule files[MAX_FILE_RULES];	/* the largest part; most policies use little of it */
};

/* The bytes of *p that are used: those of rules that there are not may be anything. */
static inline size_t policy_bytes(const struct policy *p)
{
	return offsetof(struct policy, files) + p->nr_files * sizeof(p->files[0]);
}

/* policy_read.c: make *p one without rules, @name of it being for messages. */
void policy_begin(struct policy *p, const char *name);
/* Fill *p; on failure a message "FILE:LINE: what" on standard error, -1. */
int policy_read(struct policy *p, const char *path);
int policy_of_text(struct policy *p, const char *text);
int policy_default(struct policy *p);

/* private_tmp.c: makes one, or ends the process with a message. */
void private_tmp(void);

/* toml.c: the part of TOML that policies are written in. */
struct toml_value {
	enum { TOML_STRING, TOML_INTEGER, TOML_BOOL, TOML_ARRAY } kind;
	const char *text;	/* TOML_STRING */
	int64_t number;		/* TOML_INTEGER, TOML_BOOL */
	const char *items[64];	/* TOML_ARRAY: of strings */
	int nr_items;
};

/*
 * @begins: a table begins; another: whether it is one of an array.  @sets: a key of it.
 * Both return NULL, or what is wrong, and then the reader ends with that.
 */
struct toml_reader {
	const char *(*begins)(void *arg, const char *table, bool array, int line);
	const char *(*sets)(void *arg, const char *key, const struct toml_value *value, int line);
	void *arg;
};

/* @text is changed.  NULL, or what is wrong at *line. */
const char *toml_read(char *text, const struct toml_reader *reader, int *line);

#endif /* SANDBOX_POLICY_H */
