/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Files in Dune mode: seals of a memfd, directories, and locks that a native
 * process sees.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../trap.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static char dir[] = "/tmp/sys_files-XXXXXX";

/* ---- seals ------------------------------------------------------------------ */

static bool fails(long ret, int want)
{
	bool ok = ret == -1 && errno == want;

	errno = 0;
	return ok;
}

static bool seals(void)
{
	int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int plain = memfd_create("plain", MFD_CLOEXEC);
	unsigned char *p, *q;
	bool ok = ftruncate(fd, 2 * PAGE) == 0;

	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	mem_fill(p, 2 * PAGE, 1);
	ok &= fails(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
	ok &= fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0;
	ok &= fails(ftruncate(fd, PAGE), EPERM) && fails(ftruncate(fd, 3 * PAGE), EPERM);
	ok &= fails(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);	/* a writable mapping */
	ok &= fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0;
	ok &= fails(write(fd, "x", 1), EPERM);
	mem_fill(p, 2 * PAGE, 2);		/* the old mapping still writes */
	q = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	ok &= q != MAP_FAILED && mem_wrong(q, 2 * PAGE, 2) == 0;
	ok &= fails(mprotect(q, PAGE, PROT_READ | PROT_WRITE), EACCES);
	ok &= TRAP_TRY("movb %%al, (%%rcx)", 1, q, 0) == TRAP_PF;
	munmap(p, 2 * PAGE);
	ok &= fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) == 0 &&
	      fails(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
	ok &= fcntl(fd, F_GET_SEALS) ==
	      (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
	ok &= mem_wrong(q, 2 * PAGE, 2) == 0;
	munmap(q, 2 * PAGE);
	close(fd);
	close(plain);
	return ok;
}

/* ---- directories -------------------------------------------------------------- */

#define FILES	300

static bool directories(void)
{
	static bool seen[FILES];
	char path[64];
	struct dirent *e;
	unsigned int others = 0, found = 0;
	bool ok = true;
	DIR *d;

	for (int i = 0; i < FILES; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/file%d", dir, i);
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
		ok &= fd >= 0 && close(fd) == 0;
	}
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		int i;

		if (sscanf(e->d_name, "file%d", &i) == 1 && i >= 0 && i < FILES && !seen[i]) {
			seen[i] = true;
			found++;
		} else {
			others++;
		}
	}
	ok &= found == FILES && others == 2;	/* . and .. */
	if (d)
		closedir(d);
	for (int i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "%s/file%d", dir, i);
		ok &= unlink(path) == 0;
	}
	return ok;
}

/* Small buffers: every call gives what fits, none gives an entry twice. */
static bool small_getdents(void)
{
	char path[64], buf[64];
	unsigned int found = 0, calls = 0;
	int fd, n;
	bool ok = true;

	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "%s/f%d", dir, i);
		ok &= mkdir(path, 0700) == 0;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	ok &= fails(syscall(SYS_getdents64, fd, buf, 8), EINVAL);
	while ((n = (int)syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		calls++;
		for (int at = 0; at < n; found++)
			at += *(unsigned short *)(void *)(buf + at + 16);
	}
	ok &= n == 0 && found == 22 && calls > 5;
	close(fd);
	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "%s/f%d", dir, i);
		ok &= rmdir(path) == 0;
	}
	return ok;
}

static bool names(void)
{
	char a[64], b[64], target[64] = "";
	struct stat st;
	struct statx stx;
	int fd;
	bool ok;

	snprintf(a, sizeof(a), "%s/a", dir);
	snprintf(b, sizeof(b), "%s/b", dir);
	fd = open(a, O_CREAT | O_RDWR, 0640);
	ok = fd >= 0 && link(a, b) == 0 && fstat(fd, &st) == 0 && st.st_nlink == 2;
	ok &= syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE) == -1 &&
	      errno == EEXIST;
	ok &= unlink(b) == 0 && symlink("somewhere", b) == 0;
	ok &= readlink(b, target, sizeof(target) - 1) == 9 && !strcmp(target, "somewhere");
	ok &= syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0;
	ok &= lstat(a, &st) == 0 && S_ISLNK(st.st_mode) && lstat(b, &st) == 0 && S_ISREG(st.st_mode);
	ok &= statx(AT_FDCWD, b, 0, STATX_ALL, &stx) == 0 && stx.stx_mode == (S_IFREG | 0640);
	ok &= fchmod(fd, 0600) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0600;
	ok &= setxattr(b, "trusted.dune", "value", 5, 0) == 0 &&
	      getxattr(b, "trusted.dune", target, sizeof(target)) == 5;
	close(fd);
	unlink(a);
	unlink(b);
	return ok;
}

static bool vectors(void)
{
	int fd = memfd_create("vectors", 0);
	unsigned char *p = mem_new(8 * PAGE), *q = mem_new(8 * PAGE);
	struct iovec out[3] = { { p, 100 }, { p + 100, 5000 }, { p + 5100, 8 * PAGE - 5100 } };
	struct iovec in[2] = { { q, 3 * PAGE + 1 }, { q + 3 * PAGE + 1, 5 * PAGE - 1 } };
	bool ok;

	mem_fill(p, 8 * PAGE, 3);
	ok = pwritev2(fd, out, 3, 10, 0) == 8 * PAGE && preadv(fd, in, 2, 10) == 8 * PAGE;
	ok &= mem_wrong(q, 8 * PAGE, 3) == 0;
	ok &= lseek(fd, 0, SEEK_DATA) == 0 && fallocate(fd, 0, 0, 20 * PAGE) == 0;
	ok &= lseek(fd, 0, SEEK_END) == 20 * PAGE && posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) == 0;
	munmap(p, 8 * PAGE);
	munmap(q, 8 * PAGE);
	close(fd);
	return ok;
}

/* ---- locks -------------------------------------------------------------------- */

static int lock_file, go[2], done[2];

static bool record_lock(int cmd, short type, off_t from, off_t len)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = len };

	return fcntl(lock_file, cmd, &lock) == 0;
}

/* Meets the Dune process's locks, then waits for one of them. */
static int native(void *arg)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1 };
	int own = open((const char *)arg, O_RDWR);
	char c;

	close(go[1]);
	if (read(go[0], &c, 1) != 1)
		return 1;
	if (record_lock(F_SETLK, F_WRLCK, 5, 1) || (errno != EAGAIN && errno != EACCES))
		return 2;
	if (fcntl(lock_file, F_GETLK, &lock) || lock.l_type != F_WRLCK || lock.l_start != 0 ||
	    lock.l_len != 10 || lock.l_pid != getppid())
		return 3;
	if (!record_lock(F_SETLK, F_WRLCK, 20, 10))
		return 4;
	if (!fails(flock(own, LOCK_EX | LOCK_NB), EWOULDBLOCK))
		return 5;
	if (write(done[1], "x", 1) != 1)
		return 6;
	/* Woken when the Dune process lets go. */
	return record_lock(F_SETLKW, F_WRLCK, 0, 10) && flock(own, LOCK_EX) == 0 ? 0 : 7;
}

static bool locks(struct child *other)
{
	char c;
	int status;
	bool ok = record_lock(F_SETLK, F_WRLCK, 0, 10) && flock(lock_file, LOCK_EX) == 0;

	child_go(other);
	ok &= write(go[1], "x", 1) == 1 && read(done[0], &c, 1) == 1;
	ok &= !record_lock(F_SETLK, F_RDLCK, 25, 1);
	usleep(50000);
	ok &= record_lock(F_SETLK, F_UNLCK, 0, 10) && flock(lock_file, LOCK_UN) == 0;
	status = child_wait(other);
	if (status)
		ktap_note("the native process: %s", child_status(status));
	return ok && status == 0;
}

int main(void)
{
	char path[64];
	struct child other;

	ktap_plan(DUNE_TEST_ENTER + 7 + DUNE_TEST_LEAVE);
	if (!mkdtemp(dir) || pipe(go) || pipe(done))
		ktap_bail("set-up: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/lock", dir);
	lock_file = open(path, O_CREAT | O_RDWR, 0600);
	other = child_start(native, path);
	dune_test_enter();
	trap_install();
	ktap_ok(locks(&other), "record locks and flock against a native process");
	unlink(path);
	ktap_ok(seals(), "the seals of a memfd, for calls and for mappings");
	ktap_ok(directories(), "a directory of %d files", FILES);
	ktap_ok(small_getdents(), "getdents64 with a small buffer");
	ktap_ok(names(), "links, renames, modes, attributes");
	ktap_ok(vectors(), "vectors that do not fit the pages");
	ktap_ok(rmdir(dir) == 0, "nothing is left");
	return dune_test_done();
}
