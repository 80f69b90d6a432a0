// SPDX-License-Identifier: MIT
/*
 * The part of TOML (toml.io, v1.0) that policies are written in: comments, tables, arrays
 * of tables, bare keys; strings in one line, integers, booleans, arrays of strings.  What
 * is not in it is an error, with its line, and never read as something else.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

struct reader {
	char *at;
	int line;
};

static void skip_blanks(struct reader *r)
{
	while (*r->at == ' ' || *r->at == '\t')
		r->at++;
}

static void skip_comment(struct reader *r)
{
	if (*r->at == '#')
		while (*r->at && *r->at != '\n')
			r->at++;
}

/* Blanks, comments and line ends. */
static void skip_all(struct reader *r)
{
	for (;;) {
		skip_blanks(r);
		skip_comment(r);
		if (*r->at == '\r' && r->at[1] == '\n')
			r->at++;
		if (*r->at != '\n')
			return;
		r->at++;
		r->line++;
	}
}

static const char *end_of_line(struct reader *r)
{
	skip_blanks(r);
	skip_comment(r);
	if (*r->at == '\r' && r->at[1] == '\n')
		r->at++;
	if (!*r->at)
		return NULL;
	if (*r->at != '\n')
		return "something behind the value";
	r->at++;
	r->line++;
	return NULL;
}

static bool is_key(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-';
}

/* A bare key, ended by a NUL; *next is the character that stood there. */
static const char *read_key(struct reader *r, char **key, char *next)
{
	*key = r->at;
	while (is_key(*r->at))
		r->at++;
	if (r->at == *key)
		return "a key is missing: letters, digits, _ and -";
	*next = *r->at;
	*r->at = '\0';
	return NULL;
}

/* "basic" with escapes or 'literal', in place. */
static const char *read_string(struct reader *r, const char **text)
{
	char quote = *r->at, *out = r->at + 1, *in = out;

	*text = out;
	if (in[0] == quote && in[1] == quote)
		return "strings of several lines are not read here";
	for (; *in != quote; in++) {
		if (!*in || *in == '\n')
			return "the string does not end in its line";
		if ((unsigned char)*in < ' ' && *in != '\t')
			return "a control character in a string";
		if (*in != '\\' || quote == '\'') {
			*out++ = *in;
			continue;
		}
		switch (*++in) {
		case '"':
		case '\\':
			*out++ = *in;
			break;
		case 't':
			*out++ = '\t';
			break;
		case 'n':
			*out++ = '\n';
			break;
		default:
			return "an escape that is not read here: only \\\" \\\\ \\t \\n";
		}
	}
	r->at = in + 1;
	*out = '\0';
	return NULL;
}

static const char *read_array(struct reader *r, struct toml_value *v)
{
	const char *wrong;

	v->kind = TOML_ARRAY;
	v->nr_items = 0;
	r->at++;
	for (;;) {
		skip_all(r);
		if (*r->at == ']')
			break;
		if (*r->at != '"' && *r->at != '\'')
			return "an array holds strings here";
		if (v->nr_items == sizeof(v->items) / sizeof(v->items[0]))
			return "more than 64 strings in an array";
		wrong = read_string(r, &v->items[v->nr_items++]);
		if (wrong)
			return wrong;
		skip_all(r);
		if (*r->at == ',')
			r->at++;
		else if (*r->at != ']')
			return "a comma or ] is missing in an array";
	}
	r->at++;
	return NULL;
}

static const char *read_number(struct reader *r, struct toml_value *v)
{
	char digits[24];
	size_t n = 0;

	for (; isdigit((unsigned char)*r->at) || *r->at == '_'; r->at++) {
		if (*r->at == '_')
			continue;
		if (n == 18)
			return "the number is too large";
		digits[n++] = *r->at;
	}
	if (is_key(*r->at) || *r->at == '.')
		return "only whole numbers are read here";
	digits[n] = '\0';
	v->kind = TOML_INTEGER;
	v->number = strtoll(digits, NULL, 10);
	return NULL;
}

static const char *read_value(struct reader *r, struct toml_value *v)
{
	if (*r->at == '"' || *r->at == '\'') {
		v->kind = TOML_STRING;
		return read_string(r, &v->text);
	}
	if (*r->at == '[')
		return read_array(r, v);
	if (isdigit((unsigned char)*r->at))
		return read_number(r, v);
	v->kind = TOML_BOOL;
	if (!strncmp(r->at, "true", 4) && !is_key(r->at[4])) {
		v->number = 1;
		r->at += 4;
		return NULL;
	}
	if (!strncmp(r->at, "false", 5) && !is_key(r->at[5])) {
		v->number = 0;
		r->at += 5;
		return NULL;
	}
	return "a value is missing: a string, a number, true, false or an array of strings";
}

static const char *read_table(struct reader *r, const struct toml_reader *to)
{
	bool array = r->at[1] == '[';
	const char *wrong;
	char *name, next;
	int line = r->line;

	r->at += array ? 2 : 1;
	wrong = read_key(r, &name, &next);
	if (wrong)
		return wrong;
	if (next != ']' || (array && r->at[1] != ']'))
		return "a table is [name] or [[name]], one name without dots";
	r->at += array ? 2 : 1;
	wrong = to->begins(to->arg, name, array, line);
	return wrong ? wrong : end_of_line(r);
}

static const char *read_pair(struct reader *r, const struct toml_reader *to)
{
	static struct toml_value v;
	const char *wrong;
	char *key, next;
	int line = r->line;

	wrong = read_key(r, &key, &next);
	if (wrong)
		return wrong;
	if (next == ' ' || next == '\t') {
		r->at++;
		skip_blanks(r);
		next = *r->at;
	}
	if (next != '=')
		return "= is missing behind the key";
	r->at++;
	skip_blanks(r);
	wrong = read_value(r, &v);
	if (wrong)
		return wrong;
	/* The line end first: the NUL behind a bare value would hide what follows. */
	skip_blanks(r);
	wrong = to->sets(to->arg, key, &v, line);
	if (wrong) {
		r->line = line;
		return wrong;
	}
	return end_of_line(r);
}

const char *toml_read(char *text, const struct toml_reader *reader, int *line)
{
	struct reader r = { text, 1 };
	const char *wrong = NULL;

	/* Behind an error nothing is skipped: its line is the one to be told. */
	while (!wrong) {
		skip_all(&r);
		if (!*r.at)
			break;
		wrong = *r.at == '[' ? read_table(&r, reader) : read_pair(&r, reader);
	}
	*line = r.line;
	return wrong;
}
