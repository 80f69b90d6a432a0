/* SPDX-License-Identifier: MIT */
/*
 * The ways to execute a file.  Each is tried by a child, which becomes this program
 * again and says what it finds: natively and in Dune mode it is the same.  Needs a
 * folder that it may write to.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *args[] = { "zero", "executed", "a b", NULL };
static char *const env[] = { "A=b", NULL };

static int executed(int argc, char **argv)
{
	const char *name = (const char *)getauxval(AT_EXECFN);
	char exe[200] = "", comm[17] = "";
	unsigned short cs;

	asm volatile("mov %%cs, %0" : "=r"(cs));
	fprintf(stderr, "cpl=%d\n", cs & 3);
	prctl(PR_GET_NAME, comm);
	if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0)
		return 1;
	printf("%d arguments, %s, %s; A=%s; name %s, comm %s, exe %s, descriptors", argc, argv[0],
	       argv[argc - 1], getenv("A"), name, comm, exe);
	for (int fd = 3; fd < 32; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf(" %d", fd);
	putchar('\n');
	return 7;
}

/* A copy of this program: in memory, or in a file that is still open for writing. */
static int copy(const char *path, int flags)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0755) :
		 memfd_create("memory", flags ? MFD_CLOEXEC : 0);
	struct stat st;

	if (from < 0 || fd < 0 || fstat(from, &st) || sendfile(fd, from, NULL, (size_t)st.st_size) < 0)
		exit(1);
	close(from);
	return fd;
}

static void write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	dprintf(fd, "%s", text);
	close(fd);
}

/* A copy whose byte @at is @value. */
static void write_damaged(const char *name, size_t at, char value)
{
	int fd = copy(name, O_CLOEXEC);

	if (pwrite(fd, &value, 1, (off_t)at) != 1)
		exit(1);
	close(fd);
}

/* A copy that wants @loader, of at most 12 characters. */
static void write_loaded_by(const char *name, const char *loader)
{
	int fd = copy(name, O_CLOEXEC);
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	off_t at;

	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh))
		exit(1);
	at = (off_t)eh.e_phoff;
	do {
		if (pread(fd, &ph, sizeof(ph), at) != sizeof(ph))
			exit(1);
		at += (off_t)sizeof(ph);
	} while (ph.p_type != PT_INTERP);
	at -= (off_t)sizeof(ph);
	if (pwrite(fd, loader, strlen(loader) + 1, (off_t)ph.p_offset) < 0)
		exit(1);
	ph.p_filesz = strlen(loader) + 1;
	if (pwrite(fd, &ph, sizeof(ph), at) != sizeof(ph))
		exit(1);
	close(fd);
}

/* Files that name others; what the kernel thinks of those it says when it executes these. */
static void write_files(void)
{
	write_file("script", "#! /bin/sh\necho script $0 $2; exit 7\n");
	write_file("text", "echo text\n");
	write_file("itself", "#!./itself\n");
	write_file("second", "#!./script with\n");
	write_file("third", "#!./second a b\n");
	write_file("fourth", "#!./third\n");
	write_file("fifth", "#!./fourth\n");
	write_file("sixth", "#!./fifth\n");
	write_file("of_text", "#!./text\n");
	write_file("of_nothing", "#!./nothing\n");
	write_file("of_folder", "#!/\n");
	write_file("of_of_nothing", "#!./of_nothing\n");
	write_file("no_rights", "#!./script\n");
	write_file("of_no_rights", "#!./no_rights\n");
	if (chmod("no_rights", 0600))
		exit(1);
	write_file("head", "\177ELF");
	write_damaged("no_headers", offsetof(Elf64_Ehdr, e_phnum), 0);
	write_damaged("odd_headers", offsetof(Elf64_Ehdr, e_phentsize), 55);
	write_damaged("far_headers", offsetof(Elf64_Ehdr, e_phoff) + 7, 0x10);
	write_damaged("other_machine", offsetof(Elf64_Ehdr, e_machine), 99);
	write_loaded_by("no_loader", "/nowhere");
	write_loaded_by("text_loader", "./text");
	write_loaded_by("folder_loader", "/");
	write_loaded_by("bad_loader", "./no_headers");
	write_file("of_no_loader", "#!./no_loader\n");
}

static void at(int dir, const char *path, int flags)
{
	syscall(SYS_execveat, dir, path, args, env, flags);
}

static const char *const ways[] = {
	"execve", "fexecve", "fexecve, closed on exec", "of memory", "of memory, closed on exec",
	"of /proc/self/exe", "of /proc/self/fd", "of a folder", "of a folder, closed on exec",
	"of the current folder", "with an absolute path", "of a link", "of no link",
	"of a script by descriptor", "of a script, closed on exec", "of a script in a folder",
	"of a file that is open for writing", "by descriptor of such a file", "of a folder itself",
	"of a bad descriptor", "with bad flags", "of nothing", "of a deleted file",
};

static const char *const files[] = {
	"text", "itself", "second", "third", "fourth", "fifth", "sixth", "of_text", "of_nothing",
	"of_folder", "of_of_nothing", "of_no_rights", "head", "no_headers", "odd_headers",
	"far_headers", "other_machine", "no_loader", "text_loader", "folder_loader", "bad_loader",
	"of_no_loader",
};

#define NR_WAYS	(sizeof(ways) / sizeof(ways[0]))
#define NR_FILES (sizeof(files) / sizeof(files[0]))

static void try(unsigned int way)
{
	char path[64], full[4200];
	int fd;

	switch (way) {
	case 0:
		execve("./copy", args, env);
		break;
	case 1:
	case 2:
		fexecve(open("copy", O_RDONLY | (way == 2 ? O_CLOEXEC : 0)), args, env);
		break;
	case 3:
	case 4:
		at(copy(NULL, way == 4), "", AT_EMPTY_PATH);
		break;
	case 5:
		execve("/proc/self/exe", args, env);
		break;
	case 6:
		snprintf(path, sizeof(path), "/proc/self/fd/%d", copy(NULL, 1));
		execve(path, args, env);
		break;
	case 7:
	case 8:
		at(open(".", O_PATH | (way == 8 ? O_CLOEXEC : 0)), "copy", 0);
		break;
	case 9:
		at(AT_FDCWD, "copy", 0);
		break;
	case 10:
		if (getcwd(full, 4100)) {
			strcat(full, "/copy");
			at(12345, full, 0);
		}
		break;
	case 11:
	case 12:
		at(AT_FDCWD, way == 11 ? "link" : "copy", AT_SYMLINK_NOFOLLOW);
		break;
	case 13:
	case 14:
		at(open("script", O_RDONLY | (way == 14 ? O_CLOEXEC : 0)), "", AT_EMPTY_PATH);
		break;
	case 15:
		at(open(".", O_PATH), "script", 0);
		break;
	case 16:
		copy("busy", O_CLOEXEC);
		execve("./busy", args, env);
		break;
	case 17:
		fd = copy("busy", O_CLOEXEC);
		at(open("busy", O_RDONLY | O_CLOEXEC), "", AT_EMPTY_PATH);
		close(fd);
		break;
	case 18:
		at(open(".", O_PATH), "", AT_EMPTY_PATH);
		break;
	case 19:
		at(12345, "", AT_EMPTY_PATH);
		break;
	case 20:
		at(AT_FDCWD, "copy", 0x40000000);
		break;
	case 21:
		at(AT_FDCWD, "", 0);
		break;
	case 22:
		close(copy("gone", O_CLOEXEC));
		fd = open("gone", O_RDONLY | O_CLOEXEC);
		unlink("gone");
		fexecve(fd, args, env);
		break;
	default:
		execve(files[way - NR_WAYS], args, env);
	}
	printf("%s\n", strerror(errno));
}

int main(int argc, char **argv)
{
	int status = 0;

	if (argc > 1 && !strcmp(argv[1], "executed"))
		return executed(argc, argv);
	setvbuf(stdout, NULL, _IONBF, 0);
	close(copy("copy", O_CLOEXEC));
	write_files();
	if (symlink("copy", "link") && errno != EEXIST)
		return 1;
	for (unsigned int way = 0; way < NR_WAYS + NR_FILES; way++) {
		printf("%s: ", way < NR_WAYS ? ways[way] : files[way - NR_WAYS]);
		if (fork() == 0) {
			try(way);
			_exit(0);
		}
		wait(&status);
		printf("  status 0x%x\n", (unsigned int)status);
	}
	return 0;
}
