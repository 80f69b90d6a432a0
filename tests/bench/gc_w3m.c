/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=600 slow=400 runs=1 spread=10 */
/*
 * A real program that was written for the collector: w3m lays out a large page and dumps it as
 * text.  Each child must print what the first one did.
 */
#include "gc.h"

#include <fcntl.h>

#define ROWS		250		/* of a table of six columns */
#define SECTIONS	60

int w3m_main(int argc, char **argv);

/* What w3m is linked with: src/apps/gc/build.mk. */
void *w3m_malloc(size_t size);
void *w3m_malloc_atomic(size_t size);

void *w3m_malloc(size_t size)
{
	return gc_new(size);
}

void *w3m_malloc_atomic(size_t size)
{
	return gc_new_atomic(size);
}

/* There is no terminal: who dumps asks for none. */
int tgetent(char *buffer, const char *name);
int tgetflag(const char *name);
int tgetnum(const char *name);
char *tgetstr(const char *name, char **area);
char *tgoto(const char *text, int column, int row);
int tputs(const char *text, int lines, int (*put)(int));

static __attribute__((noreturn)) void no_terminal(void)
{
	gc_give_up("w3m asked for a terminal");
}

int tgetent(char *buffer, const char *name)
{
	(void)buffer, (void)name;
	no_terminal();
}

int tgetflag(const char *name)
{
	(void)name;
	no_terminal();
}

int tgetnum(const char *name)
{
	(void)name;
	no_terminal();
}

char *tgetstr(const char *name, char **area)
{
	(void)name, (void)area;
	no_terminal();
}

char *tgoto(const char *text, int column, int row)
{
	(void)text, (void)column, (void)row;
	no_terminal();
}

int tputs(const char *text, int lines, int (*put)(int))
{
	(void)text, (void)lines, (void)put;
	no_terminal();
}

static void write_page(void)
{
	FILE *page = fopen("page.html", "w");

	if (!page)
		ktap_bail("page.html: %s", strerror(errno));
	fputs("<html><body><h1>A page</h1><table border=1>\n", page);
	for (int row = 0; row < ROWS; row++) {
		fputs("<tr>", page);
		for (int column = 0; column < 6; column++)
			fprintf(page, "<td><a href=\"at%d_%d\">cell %d</a> some <b>text</b> &amp; "
				"more words</td>", row, column, row * column % 97);
		fputs("</tr>\n", page);
	}
	fputs("</table>\n", page);
	for (int section = 0; section < SECTIONS; section++) {
		fprintf(page, "<h2>Section %d</h2><p>", section);
		for (int i = 0; i < 20; i++)
			fputs("lorem ipsum dolor sit amet ", page);
		fputs("</p><ul>", page);
		for (int i = 0; i < 10; i++)
			fprintf(page, "<li>item %d", i);
		fputs("</ul>\n", page);
	}
	fputs("</body></html>\n", page);
	if (fclose(page))
		ktap_bail("page.html: %s", strerror(errno));
}

/* Shared by all children: what the first printed, and how much. */
static struct printed {
	uint64_t sum, bytes;
} *first;

static struct printed read_back(void)
{
	FILE *text = fopen("text", "r");
	struct printed p = { .sum = 14695981039346656037UL };
	int c;

	while (text && (c = fgetc(text)) != EOF) {
		p.sum = (p.sum ^ (unsigned char)c) * 1099511628211UL;	/* FNV-1a */
		p.bytes++;
	}
	return p;
}

static void at_exit(void)
{
	struct printed p;

	fflush(stdout);
	gc_stop_clock();
	p = read_back();
	if (!first->bytes)
		*first = p;
	gc_check(p.bytes > 20 * ROWS && p.bytes == first->bytes && p.sum == first->sum);
	gc_finish();
}

static void work(void)
{
	static char *args[] = { "w3m", "-dump", "-cols", "200", "-T", "text/html", "page.html",
				NULL };
	int fd = open("text", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || dup2(fd, 1) != 1)
		gc_give_up("no file for the text");
	close(fd);
	if (atexit(at_exit))
		gc_give_up("atexit");
	exit(w3m_main(7, args));
}

int main(void)
{
	char folder[] = "/tmp/gc_w3m.XXXXXX";

	if (!mkdtemp(folder) || chdir(folder))
		ktap_bail("%s: %s", folder, strerror(errno));
	setenv("HOME", folder, 1);
	write_page();
	first = mmap(NULL, sizeof(*first), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (first == MAP_FAILED)
		ktap_bail("mmap: %s", strerror(errno));
	return gc_bench("w3m", work);
}
