/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=600 slow=400 runs=1 spread=10 */
/*
 * expat parses a large document; it has its memory from the collector, and so has the tree
 * that the program makes of it.  Almost all of it lives to the end.
 */
#include "gc.h"

#include <expat.h>

#ifndef DOCUMENTS
#define NAME		"xml"
#define DOCUMENTS	1
#define RECORDS		12000UL		/* about 200 bytes each */
#endif

struct element {
	struct element *parent, *first, *last, *next;
	const char *name, *text;
	const char **attributes;
};

struct document {
	struct element root, *open;
	unsigned long elements;
};

static char *copy(const char *s, size_t n)
{
	char *text = gc_new_atomic(n + 1);

	memcpy(text, s, n);
	text[n] = 0;
	return text;
}

static void on_start(void *data, const char *name, const char **attributes)
{
	struct document *d = data;
	struct element *e = gc_new(sizeof(*e));
	size_t n = 0;

	while (attributes[n])
		n++;
	e->attributes = gc_new((n + 1) * sizeof(char *));
	for (size_t i = 0; i < n; i++)
		e->attributes[i] = copy(attributes[i], strlen(attributes[i]));
	e->name = copy(name, strlen(name));
	e->parent = d->open;
	if (d->open->last)
		d->open->last->next = e;
	else
		d->open->first = e;
	d->open->last = e;
	d->open = e;
	d->elements++;
}

static void on_end(void *data, const char *name)
{
	struct document *d = data;

	gc_check(!strcmp(d->open->name, name));
	d->open = d->open->parent;
}

static void on_text(void *data, const char *s, int n)
{
	struct document *d = data;

	d->open->text = copy(s, (size_t)n);
}

static void *new_memory(size_t size)
{
	return gc_new(size);
}

/* A part of the document at a time, as from a file. */
#define PART	16384UL

static struct document *parse(const char *text, size_t size)
{
	static const XML_Memory_Handling_Suite memory = { new_memory, GC_realloc, GC_free };
	XML_Parser parser = XML_ParserCreate_MM(NULL, &memory, NULL);
	struct document *d = gc_new(sizeof(*d));

	d->open = &d->root;
	XML_SetHashSalt(parser, 1);
	XML_SetUserData(parser, d);
	XML_SetElementHandler(parser, on_start, on_end);
	XML_SetCharacterDataHandler(parser, on_text);
	for (size_t at = 0; at < size; at += PART) {
		size_t n = size - at < PART ? size - at : PART;

		gc_check(XML_Parse(parser, text + at, (int)n, at + n == size) == XML_STATUS_OK);
	}
	XML_ParserFree(parser);
	return d;
}

static unsigned long count_elements(const struct element *at)
{
	unsigned long n = 0;

	for (at = at->first; at; at = at->next)
		n += 1 + count_elements(at);
	return n;
}

static size_t write_document(char *to, unsigned int seed)
{
	char *at = to;

	at += sprintf(at, "<?xml version='1.0'?>\n<catalogue>\n");
	for (unsigned long i = 0; i < RECORDS; i++)
		at += sprintf(at, "<record id='r%lu' kind='%lu'><title>Number %lu of %u</title>"
			      "<author born='%lu'>N. N. %lu</author><note>&lt;%lu&gt;</note>"
			      "<price currency='EUR'>%lu.%02lu</price></record>\n",
			      i, i % 7, i, seed, 1900 + i % 90, i * 31 % 1000, i * i % 100000,
			      i % 80, i % 100);
	at += sprintf(at, "</catalogue>\n");
	return (size_t)(at - to);
}

/* Not in the collector's heap. */
static char *text;

static void work(void)
{
	for (unsigned int i = 0; i < DOCUMENTS; i++) {
		size_t size = write_document(text, i);
		struct document *d = parse(text, size);

		gc_check(d->elements == 1 + 5 * RECORDS);
		gc_check(count_elements(&d->root) == d->elements);
	}
}

int main(void)
{
	text = mmap(NULL, RECORDS * 300, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	return text == MAP_FAILED ? 1 : gc_bench(NAME, work);
}
