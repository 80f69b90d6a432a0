/* SPDX-License-Identifier: MIT */
/* dunelab: timeout=60 */
/*
 * dune_elf_*() on this program's own file, on copies that are wrong, and loading; the
 * memory map by dune_procmap_*().
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOAD_AT	0x300000000000UL

static unsigned int loads, sections, dynamic_sections, entries, same;

static int count_ph(struct dune_elf *elf, Elf64_Phdr *p)
{
	(void)elf;
	loads += p->p_type == PT_LOAD;
	return 0;
}

static int stop_at_load(struct dune_elf *elf, Elf64_Phdr *p)
{
	(void)elf;
	return p->p_type == PT_LOAD ? 42 : 0;
}

static int count_sh(struct dune_elf *elf, const char *name, int nr, Elf64_Shdr *s)
{
	(void)elf;
	sections += (unsigned int)nr == sections;
	dynamic_sections += !strcmp(name, ".dynamic") && s->sh_type == SHT_DYNAMIC;
	return 0;
}

static int load(struct dune_elf *elf, Elf64_Phdr *p)
{
	int ret = p->p_type == PT_LOAD ? dune_elf_load_ph(elf, p, LOAD_AT) : 0;

	if (!ret && p->p_type == PT_LOAD)
		same += !memcmp((char *)LOAD_AT + p->p_vaddr, elf->mem + p->p_offset, p->p_filesz);
	return ret;
}

static char *file;
static int file_len;

/* A copy of the file that @breaks changes: must not open. */
static void refused(void (*breaks)(Elf64_Ehdr *), const char *what)
{
	char *copy = malloc((size_t)file_len);
	struct dune_elf elf;

	memcpy(copy, file, (size_t)file_len);
	breaks((Elf64_Ehdr *)copy);
	ktap_eq(dune_elf_open_mem(&elf, copy, file_len), -ENOEXEC, "%s", what);
	free(copy);
}

static void no_magic(Elf64_Ehdr *h) { h->e_ident[0] = 0; }
static void class_32(Elf64_Ehdr *h) { h->e_ident[EI_CLASS] = ELFCLASS32; }
static void ph_far(Elf64_Ehdr *h) { h->e_phoff = (uint64_t)file_len - 8; }
static void ph_wraps(Elf64_Ehdr *h) { h->e_phoff = ~7UL; }
static void sh_far(Elf64_Ehdr *h) { h->e_shnum = 0xfe00; }
static void ph_odd(Elf64_Ehdr *h) { h->e_phentsize = 1; }
static void names_far(Elf64_Ehdr *h) { h->e_shstrndx = h->e_shnum; }
static void names_wrap(Elf64_Ehdr *h)
{
	((Elf64_Shdr *)((char *)h + h->e_shoff))[h->e_shstrndx].sh_size = ~0UL;
}

/* Lines that @elf's dump (NULL: the map's) has. */
static unsigned int dumped(struct dune_elf *elf)
{
	char name[] = "/tmp/dumpXXXXXX", c;
	int fd = mkstemp(name), out = dup(STDOUT_FILENO);
	unsigned int lines = 0;

	if (fd < 0 || out < 0 || dup2(fd, STDOUT_FILENO) < 0)
		ktap_bail("%s: %s", name, strerror(errno));
	if (elf)
		dune_elf_dump(elf);
	else
		dune_procmap_dump();
	dup2(out, STDOUT_FILENO);
	lseek(fd, 0, SEEK_SET);
	while (read(fd, &c, 1) == 1)
		lines += c == '\n';
	close(fd);
	close(out);
	unlink(name);
	return lines;
}

static void elf_files(void)
{
	struct dune_elf elf, mem;
	Elf64_Phdr wrong;

	ktap_eq(dune_elf_open(&elf, "/no/such/file"), -ENOENT, "a missing file");
	ktap_eq(dune_elf_open(&elf, "/proc/self/maps"), -ENOEXEC, "a file that is none");
	ktap_eq(dune_elf_open(&elf, "/proc/self/exe"), 0, "this program");
	file = (char *)elf.mem;
	file_len = elf.len;
	ktap_eq(dune_elf_open_mem(&mem, file, file_len), 0, "the same from memory");
	ktap_eq(dune_elf_iter_ph(&mem, count_ph), 0, "segments");
	ktap_ok(loads >= 2 && elf.phdr && mem.hdr.e_phnum == elf.hdr.e_phnum,
		"there are some to load");
	ktap_eq(dune_elf_iter_ph(&elf, stop_at_load), 42, "a callback ends the iteration");
	ktap_eq(dune_elf_iter_sh(&elf, count_sh), 0, "sections");
	ktap_ok(sections == elf.hdr.e_shnum && dynamic_sections == 1, "with numbers and names");
	ktap_eq(dumped(&elf), elf.hdr.e_phnum + elf.hdr.e_shnum + 1, "a dump has a line for each");

	refused(no_magic, "no magic number");
	refused(class_32, "a 32-bit file");
	refused(ph_far, "program headers beyond the end");
	refused(ph_wraps, "an offset that wraps");
	refused(sh_far, "more section headers than the file takes");
	refused(ph_odd, "headers of another size");
	refused(names_far, "section names in no section");
	refused(names_wrap, "a size that wraps");
	ktap_eq(dune_elf_open_mem(&mem, file, 30), -ENOEXEC, "half a header");
	ktap_eq(dune_elf_open_mem(&mem, NULL, 30), -EINVAL, "no memory");

	ktap_eq(dune_elf_iter_ph(&elf, load), 0, "its segments are loaded");
	ktap_eq(same, loads, "with the file's contents");
	wrong = elf.phdr[0];
	wrong.p_filesz = wrong.p_memsz + 1;
	ktap_eq(dune_elf_load_ph(&elf, &wrong, LOAD_AT), -ENOEXEC, "more in the file than in memory");
	wrong.p_filesz = 1;
	wrong.p_offset = (uint64_t)file_len;
	ktap_eq(dune_elf_load_ph(&elf, &wrong, LOAD_AT), -ENOEXEC, "a segment beyond the end");
	wrong.p_offset = 0;
	wrong.p_vaddr = ~0UL - 100;
	wrong.p_memsz = 4096;
	ktap_eq(dune_elf_load_ph(&elf, &wrong, 0), -ENOEXEC, "addresses that wrap");
	ktap_eq(dune_elf_load_ph(&elf, &wrong, 4096), -ENOEXEC, "by the offset, too");
	ktap_eq(dune_elf_close(&elf), 0, "close");
}

static unsigned long shared_page, long_page;
static unsigned int right, stacks, vdsos, own_text, long_right;
static uintptr_t last_end;
static bool ordered = true;

static void visit(const struct dune_procmap_entry *e)
{
	entries++;
	ordered &= e->begin >= last_end && e->begin < e->end;
	last_end = e->end;
	stacks += e->type == PROCMAP_TYPE_STACK && e->begin <= (uintptr_t)&e && e->end > (uintptr_t)&e;
	vdsos += e->type == PROCMAP_TYPE_VDSO && !strcmp(e->path, "[vdso]");
	own_text += e->type == PROCMAP_TYPE_FILE && e->x && e->r && !e->w && e->p && *e->path == '/' &&
		    e->begin <= (uintptr_t)visit && e->end > (uintptr_t)visit;
	right += e->begin == shared_page && e->end == shared_page + 4096 && e->r && e->w && !e->x &&
		 !e->p && e->offset == 8192;
	if (e->begin == long_page)
		long_right = (unsigned int)strlen(e->path);
}

/* A file below so many folders that its name is longer than any buffer of 4 KB. */
static unsigned int make_long_name(void)
{
	char name[201];
	int at = open("/tmp", O_PATH | O_DIRECTORY), fd;
	unsigned int len = 4;

	memset(name, 'n', 200);
	name[200] = '\0';
	for (int i = 0; i < 45; i++) {
		int next;

		mkdirat(at, name, 0700);
		next = openat(at, name, O_PATH | O_DIRECTORY);
		if (next < 0)
			ktap_bail("folder %d: %s", i, strerror(errno));
		close(at);
		at = next;
		len += 201;
	}
	fd = openat(at, "a b", O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, 4096))
		ktap_bail("file: %s", strerror(errno));
	long_page = (unsigned long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	close(at);
	return len + 4;
}

static void procmap(void)
{
	char name[] = "/tmp/procmapXXXXXX";
	int fd = mkstemp(name);
	unsigned int len = make_long_name();

	if (fd < 0 || ftruncate(fd, 16384))
		ktap_bail("%s: %s", name, strerror(errno));
	shared_page = (unsigned long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 8192);
	dune_procmap_iterate(visit);
	ktap_ok(entries > 10 && ordered, "the map, by rising address");
	ktap_eq(stacks, 1, "the stack");
	ktap_eq(vdsos, 1, "the vDSO");
	ktap_eq(own_text, 1, "this program's code");
	ktap_eq(right, 1, "a shared page, with its offset");
	ktap_eq(long_right, len, "a name of 9 KB with a blank in it");
	ktap_eq(dumped(NULL), entries, "a dump has a line for each");
	unlink(name);
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 27 + 7 + DUNE_TEST_LEAVE);
	dune_test_enter();
	elf_files();
	procmap();
	return dune_test_done();
}
