// SPDX-License-Identifier: MIT
/*
 * The first line of a script, read as load_script() of Linux reads it
 * (fs/binfmt_script.c).
 */
#include <errno.h>
#include <string.h>

#include "load.h"

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The first character of [from, last] that is no blank, or NULL. */
static char *skip_blanks(char *from, char *last)
{
	for (; from <= last; from++)
		if (!blank(*from))
			return from;
	return NULL;
}

/* The first blank or NUL of [from, last], or NULL. */
static char *word_end(char *from, char *last)
{
	for (; from <= last; from++)
		if (blank(*from) || !*from)
			return from;
	return NULL;
}

/*
 * @head: the first bytes of the file, zeros behind its end; cut into strings
 * that *line points to.  -ENOEXEC: no script, or its interpreter's path does
 * not end within the head.
 */
int script_parse(char head[HEAD_SIZE], struct script_line *line)
{
	char *last = head + HEAD_SIZE - 1;
	char *end, *name, *sep, *arg = NULL;

	if (head[0] != '#' || head[1] != '!')
		return -ENOEXEC;

	end = memchr(head, '\n', strnlen(head, HEAD_SIZE));
	if (!end) {
		name = skip_blanks(head + 2, last);
		if (!name || !word_end(name, last))
			return -ENOEXEC;
		end = last;
	}
	while (blank(end[-1]))
		end--;

	name = skip_blanks(head + 2, end);
	if (!name || name == end)
		return -ENOEXEC;
	sep = word_end(name, end);
	if (sep && *sep)
		arg = skip_blanks(sep, end);

	*end = '\0';
	if (arg)
		*sep = '\0';
	line->interp = name;
	line->arg = arg;
	return 0;
}
