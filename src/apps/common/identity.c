// SPDX-License-Identifier: MIT
/*
 * What the kernel shows of the process: name, arguments, executable, heap.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "load.h"

/* mm->start_code and the rest, as load_elf_binary() finds them. */
static void set_segments(struct prctl_mm_map *mm, const struct elf_file *e)
{
	mm->start_code = ~0UL;
	for (int i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &e->ph[i];
		uint64_t start = e->bias + ph->p_vaddr, end = start + ph->p_filesz;

		if (ph->p_type != PT_LOAD)
			continue;
		if (ph->p_flags & PF_X && start < mm->start_code)
			mm->start_code = start;
		if (ph->p_flags & PF_X && end > mm->end_code)
			mm->end_code = end;
		if (start > mm->start_data)
			mm->start_data = start;
		if (end > mm->end_data)
			mm->end_data = end;
	}
}

static int set_mm(struct prctl_mm_map *mm, int exe_fd)
{
	mm->exe_fd = (uint32_t)exe_fd;
	return prctl(PR_SET_MM, PR_SET_MM_MAP, mm, sizeof(*mm), 0) ? -errno : 0;
}

static bool is_own_file(int fd)
{
	struct stat own, st;

	return !stat("/proc/self/exe", &own) && !fstat(fd, &st) &&
	       own.st_dev == st.st_dev && own.st_ino == st.st_ino;
}

/*
 * The kernel takes another executable only from who may checkpoint, and only
 * when nothing is mapped from the old one.  It is asked before dune-run copies
 * itself, for nothing.
 */
static int set_with_exe(struct prctl_mm_map *mm, int fd, int copy)
{
	int ret = set_mm(mm, fd);

	if (ret != -EBUSY)
		return ret;
	ret = self_detach(copy);
	return ret ? ret : set_mm(mm, fd);
}

/* The number in "/dev/fd/NUMBER", as execveat() names a descriptor; -1: another path. */
int descriptor_of(const char *path)
{
	static const char folder[] = "/dev/fd/";
	const char *digits = path + sizeof(folder) - 1;
	char *end;
	long fd;

	if (strncmp(path, folder, sizeof(folder) - 1) || !isdigit((unsigned char)*digits))
		return -1;
	fd = strtol(digits, &end, 10);
	return *end || fd > INT_MAX ? -1 : (int)fd;
}

/*
 * What is executed by descriptor is called by the file's own name since 6.14, and by
 * the number before.  dune-run was started so itself then.
 */
static bool named_by_file(void)
{
	char own[17] = "";

	prctl(PR_GET_NAME, own);
	return !isdigit((unsigned char)own[0]);
}

static void set_name(const struct command *c)
{
	const char *path = c->path, *slash;
	char link[32], file[PATH_MAX + 1], *deleted;
	ssize_t n = -1;

	if (c->given >= 0 && descriptor_of(path) >= 0 && named_by_file()) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", c->program.fd);
		n = readlink(link, file, sizeof(file) - 1);
	}
	if (n > 0) {
		file[n] = '\0';
		deleted = strstr(file, " (deleted)");
		if (deleted && !deleted[10])
			*deleted = '\0';
		path = file;
	}
	slash = strrchr(path, '/');
	prctl(PR_SET_NAME, slash ? slash + 1 : path, 0, 0, 0);
}

/*
 * @copy: as self_detach() wants it.  @exe_error: why /proc/self/exe still names dune-run, 0: it
 * does not.  The heap of libc ends with this call: no malloc() any more.
 */
int identity_set(const struct command *c, const struct stack_image *s, int copy, int *exe_error)
{
	uint64_t brk = place_brk(&c->program, c->interp.fd >= 0);
	struct prctl_mm_map mm = {
		.start_brk = brk,
		.brk = brk,
		.start_stack = s->at,
		.arg_start = s->arg_start,
		.arg_end = s->arg_end,
		.env_start = s->env_start,
		.env_end = s->env_end,
		.auxv = (__u64 *)s->auxv,
		.auxv_size = (uint32_t)s->auxv_size,
	};

	bool same = is_own_file(c->program.fd);

	set_name(c);
	set_segments(&mm, &c->program);
	*exe_error = same ? 0 : set_with_exe(&mm, c->program.fd, copy);
	return same || *exe_error ? set_mm(&mm, -1) : 0;
}
