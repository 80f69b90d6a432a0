// SPDX-License-Identifier: MIT
/*
 * The initial stack: create_elf_tables() of Linux.
 *
 * The strings of the arguments behind PROG and of the environment stay where
 * the kernel put them.  In front of them comes what stands for PROG, so that
 * all arguments are one piece again, as programs expect that rewrite them to
 * show a title.  Below that lie the strings of the auxiliary vector, then the
 * vectors.  All of it is put together elsewhere and moved by launch(), since
 * dune-run's own stack is in the way.
 */
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "load.h"

#define RANDOM_BYTES	16	/* behind AT_RANDOM */

/* Text that grows down from an address of the new stack. */
struct strings {
	const struct stack_image *image;
	uint64_t at;		/* of the last one written */
};

static size_t count(char **list)
{
	size_t n = 0;

	while (list[n])
		n++;
	return n;
}

static uint64_t end_of_string(const char *s)
{
	return (uint64_t)(s + strlen(s) + 1);
}

/* @envp: as main() got it from the kernel. */
const Elf64_auxv_t *stack_auxv(char **envp)
{
	return (const Elf64_auxv_t *)(envp + count(envp) + 1);
}

static size_t count_auxv(const Elf64_auxv_t *av)
{
	size_t n = 0;

	while (av[n].a_type != AT_NULL)
		n++;
	return n + 1;
}

static void *byte_at(const struct stack_image *s, uint64_t at)
{
	return s->bytes + (at - s->at);
}

static uint64_t put_bytes(struct strings *text, const void *bytes, size_t len)
{
	text->at -= len;
	memcpy(byte_at(text->image, text->at), bytes, len);
	return text->at;
}

static uint64_t put_string(struct strings *text, const char *s)
{
	return put_bytes(text, s, strlen(s) + 1);
}

/* Where the kernel will look for the program headers: the segment with them. */
static uint64_t headers_address(const struct elf_file *e)
{
	for (int i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &e->ph[i];

		if (ph->p_type == PT_LOAD && ph->p_offset <= e->eh.e_phoff &&
		    e->eh.e_phoff < ph->p_offset + ph->p_filesz)
			return e->bias + ph->p_vaddr + (e->eh.e_phoff - ph->p_offset);
	}
	return 0;
}

/*
 * dune-run's own entry, made the program's; false: left out.  Restartable
 * sequences are not offered in Dune mode.
 */
static bool convert(Elf64_auxv_t *av, const struct command *c, struct strings *text)
{
	const struct elf_file *e = &c->program;

	switch (av->a_type) {
	case AT_PHDR:
		av->a_un.a_val = headers_address(e);
		break;
	case AT_PHENT:
		av->a_un.a_val = sizeof(Elf64_Phdr);
		break;
	case AT_PHNUM:
		av->a_un.a_val = e->eh.e_phnum;
		break;
	case AT_BASE:
		av->a_un.a_val = c->interp.fd >= 0 ? c->interp.bias : 0;
		break;
	case AT_ENTRY:
		av->a_un.a_val = e->bias + e->eh.e_entry;
		break;
	case AT_EXECFN:
		av->a_un.a_val = put_string(text, c->path);
		break;
	case AT_PLATFORM:
	case AT_BASE_PLATFORM:
		av->a_un.a_val = put_string(text, (const char *)av->a_un.a_val);
		break;
	case AT_RANDOM:
		av->a_un.a_val = put_bytes(text, (const void *)av->a_un.a_val, RANDOM_BYTES);
		break;
	case AT_RSEQ_FEATURE_SIZE:
	case AT_RSEQ_ALIGN:
		return false;
	}
	return true;
}

/* The strings that convert() will put. */
static size_t auxv_strings_size(const Elf64_auxv_t *av, const struct command *c)
{
	size_t size = 0;

	for (; av->a_type != AT_NULL; av++) {
		if (av->a_type == AT_EXECFN)
			size += strlen(c->path) + 1;
		else if (av->a_type == AT_PLATFORM || av->a_type == AT_BASE_PLATFORM)
			size += strlen((const char *)av->a_un.a_val) + 1;
		else if (av->a_type == AT_RANDOM)
			size += RANDOM_BYTES;
	}
	return size;
}

static void put_auxv(struct stack_image *s, const struct command *c, const Elf64_auxv_t *av,
		     struct strings *text, uint64_t *place)
{
	Elf64_auxv_t *out = (Elf64_auxv_t *)place;

	s->auxv = place;
	for (; av->a_type != AT_NULL; av++) {
		*out = *av;
		if (convert(out, c, text))
			out++;
	}
	*out++ = (Elf64_auxv_t){ .a_type = AT_NULL };
	s->auxv_size = (size_t)((char *)out - (char *)place);
}

/*
 * @args: the arguments behind PROG, or what stands for it; @envp: what the kernel gave to
 * main(), or its beginning; @av: what stack_auxv() found.
 */
int stack_build(struct stack_image *s, const struct command *c, char **args, char **envp,
		const Elf64_auxv_t *av)
{
	const char *const *head = &c->slots[c->first];
	size_t nr_slots = sizeof(c->slots) / sizeof(c->slots[0]);
	size_t nr_head = nr_slots - (size_t)c->first, nr_args = count(args), nr_env = count(envp);
	size_t words = 1 + nr_head + nr_args + 1 + nr_env + 1 + 2 * count_auxv(av);
	size_t size = 0;
	struct strings text = { .image = s };
	uint64_t top, *out;

	/* args[-1] is PROG, and args[nr_args] the NULL behind the arguments. */
	s->arg_end = end_of_string(args[(long)nr_args - 1]);
	s->env_start = nr_env ? (uint64_t)envp[0] : s->arg_end;
	s->env_end = nr_env ? end_of_string(envp[nr_env - 1]) : s->env_start;
	top = nr_args ? (uint64_t)args[0] : s->arg_end;

	for (size_t i = 0; i < nr_head; i++)
		size += strlen(head[i]) + 1;
	s->arg_start = top - size;
	size += auxv_strings_size(av, c);
	s->at = ((top - size) & ~15UL) - ((words + 1) & ~1UL) * sizeof(*out);
	s->len = top - s->at;
	s->bytes = mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->bytes == MAP_FAILED)
		return -errno;

	out = (uint64_t *)s->bytes;
	*out++ = nr_head + nr_args;
	text.at = top;
	for (size_t i = nr_head; i-- > 0; )
		out[i] = put_string(&text, head[i]);
	out += nr_head;
	for (size_t i = 0; i <= nr_args; i++)
		*out++ = (uint64_t)args[i];
	for (size_t i = 0; i <= nr_env; i++)
		*out++ = (uint64_t)envp[i];
	put_auxv(s, c, av, &text, out);
	return 0;
}
