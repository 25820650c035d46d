/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/place.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"

#define LINKS_MAX 40

static int refuse_foreign(const char *path, const struct mount *mount, struct err *err)
{
	if (!mount || mount->class != MOUNT_FOREIGN)
		return 0;
	return err_set(
	    err, VSS_E_VOLUME_NOT_SUPPORTED,
	    "%.400s lies on %.200s, which is of type %s: no provider copies that. Run vssd on the machine that has "
	    "the disks",
	    path, mount->target, mount->type);
}

/* Appends one component; ".." goes up, which is right on a path without links. */
static int append(char path[PATH_MAX], const char *name, size_t length)
{
	size_t used = strlen(path);

	if (length == 0 || (length == 1 && name[0] == '.'))
		return 0;
	if (length == 2 && name[0] == '.' && name[1] == '.') {
		char *slash = strrchr(path, '/');
		slash[slash == path] = '\0';
		return 0;
	}
	if (used == 1)
		used = 0; /* "/" */
	if (used + 1 + length >= PATH_MAX)
		return -1;
	path[used] = '/';
	memcpy(path + used + 1, name, length);
	path[used + 1 + length] = '\0';
	return 0;
}

static int append_all(char path[PATH_MAX], const char *rest)
{
	while (*rest) {
		size_t length = strcspn(rest, "/");
		if (append(path, rest, length) < 0)
			return -1;
		rest += length + (rest[length] == '/');
	}
	return 0;
}

static int open_plain(const char *path)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };

	return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

static bool has_dot_dot(const char *path)
{
	for (const char *at = path; (at = strstr(at, "..")); at += 2)
		if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0'))
			return true;
	return false;
}

/* Where a link at path leads, joined with what is still to walk; 0: no link; -1: errno. */
static int follow(const char *path, char rest[PATH_MAX], bool *ret_absolute)
{
	char target[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t length = readlink(path, target, sizeof target - 1);

	if (length < 0)
		return errno == EINVAL ? 0 : -1;
	target[length] = '\0';
	if ((size_t)snprintf(joined, sizeof joined, "%s/%s", target, rest) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(rest, joined, strlen(joined) + 1);
	*ret_absolute = target[0] == '/';
	return 1;
}

/* One step of a walk that looks, by name, at what each component lies on before it touches it. */
static int step(const struct mounts *mounts, char path[PATH_MAX], char rest[PATH_MAX], unsigned *links, struct err *err)
{
	char candidate[PATH_MAX];
	size_t length = strcspn(rest, "/");
	bool absolute;
	int r;

	memcpy(candidate, path, strlen(path) + 1);
	if (append(candidate, rest, length) < 0)
		return err_errno(err, ENAMETOOLONG, VSS_E_INVALID_ARGUMENT, "Cannot resolve %.400s", path);
	memmove(rest, rest + length + (rest[length] == '/'), strlen(rest + length + (rest[length] == '/')) + 1);
	if (refuse_foreign(candidate, mounts_find(mounts, candidate), err) < 0)
		return -1;
	r = follow(candidate, rest, &absolute);
	if (r < 0 && errno != ENOENT && errno != ENOTDIR)
		return err_errno(err, errno, VSS_E_INVALID_ARGUMENT, "Cannot resolve %.400s", candidate);
	if (r > 0 && ++*links > LINKS_MAX)
		return err_errno(err, ELOOP, VSS_E_INVALID_ARGUMENT, "Cannot resolve %.400s", candidate);
	if (r > 0 && absolute)
		memcpy(path, "/", 2);
	else if (r <= 0)
		memcpy(path, candidate, strlen(candidate) + 1);
	return 0;
}

static int walk(const struct mounts *mounts, const char *given, char path[PATH_MAX], struct err *err)
{
	char rest[PATH_MAX];
	unsigned links = 0;

	memcpy(rest, given, strlen(given) + 1);
	memcpy(path, "/", 2);
	while (*rest)
		if (step(mounts, path, rest, &links, err) < 0)
			return -1;
	return 0;
}

/* Drops the last component of path and puts it in front of what is missing; false at the root. */
static bool step_back(struct place *place)
{
	char *slash = strrchr(place->path, '/');
	char joined[2 * PATH_MAX];

	if (slash[1] == '\0')
		return false;
	snprintf(joined, sizeof joined, "%s%s%s", slash + 1, *place->missing ? "/" : "", place->missing);
	memcpy(place->missing, joined, strlen(joined) + 1);
	slash[slash == place->path] = '\0';
	return true;
}

static int open_place(const struct mounts *mounts, bool allow_missing, struct place *place, struct err *err)
{
	if (refuse_foreign(place->path, mounts_find(mounts, place->path), err) < 0)
		return -1;
	place->fd = open_plain(place->path);
	while (place->fd < 0 && allow_missing && (errno == ENOENT || errno == ENOTDIR) && step_back(place)) {
		if (refuse_foreign(place->path, mounts_find(mounts, place->path), err) < 0)
			return -1;
		place->fd = open_plain(place->path);
	}
	return place->fd;
}

/* Which mount, device and inode the opened place is: the kernel's word, exact even under over-mounts. */
static int identify(const struct mounts *mounts, struct place *place, struct err *err)
{
	struct statx info;

	if (statx(place->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID | STATX_TYPE | STATX_INO, &info) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot look at %.400s", place->path);
	place->mount = mounts_by_id(mounts, (int)info.stx_mnt_id);
	place->device = makedev(info.stx_dev_major, info.stx_dev_minor);
	place->inode = info.stx_ino;
	place->mode = info.stx_mode;
	place->block = S_ISBLK(info.stx_mode) ? makedev(info.stx_rdev_major, info.stx_rdev_minor) : 0;
	if (!place->mount)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND,
			       "%.400s lies on a mount that this machine's own mount namespace does not have",
			       place->path);
	return 0;
}

int place_find(const struct mounts *mounts, const char *path, bool allow_missing, struct place *ret, struct err *err)
{
	ret->fd = -1;
	ret->missing[0] = '\0';
	memcpy(ret->path, "/", 2);
	if (path[0] != '/')
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Not an absolute path: %.400s", path);
	if (strlen(path) >= PATH_MAX)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "A path is longer than %d bytes: %.400s", PATH_MAX, path);
	if (has_dot_dot(path)) {
		if (walk(mounts, path, ret->path, err) < 0)
			return -1;
	} else if (append_all(ret->path, path) < 0) {
		return err_errno(err, ENAMETOOLONG, VSS_E_INVALID_ARGUMENT, "Cannot resolve %.400s", path);
	}
	if (open_place(mounts, allow_missing, ret, err) < 0) {
		if (err->code)
			return -1;
		if (errno != ELOOP)
			return err_errno(err, errno, VSS_E_INVALID_ARGUMENT, "Cannot resolve %.400s", path);
		ret->missing[0] = '\0';
		if (walk(mounts, path, ret->path, err) < 0)
			return -1;
		if (open_place(mounts, allow_missing, ret, err) < 0)
			return err->code ? -1
					 : err_errno(err, errno, VSS_E_INVALID_ARGUMENT, "Cannot resolve %.400s", path);
	}
	return identify(mounts, ret, err);
}

/* The mount of a descriptor from fdinfo, which asks nothing of the filesystem. */
static int mount_id_of(int fd)
{
	char path[48], text[256], *line;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	autoclose int info = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = info < 0 ? -1 : read(info, text, sizeof text - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	line = strstr(text, "mnt_id:");
	return line ? atoi(line + strlen("mnt_id:")) : -1;
}

static bool is_same(const struct place *a, const struct place *b)
{
	return a->mount == b->mount && a->device == b->device && a->inode == b->inode;
}

/* A name can be had only while the object has one: it is looked up again and must lead to the same object. */
int place_find_fd(const struct mounts *mounts, int fd, struct place *ret, struct err *err)
{
	char link[48];
	struct place again = { .fd = -1 };
	struct err ignored = { 0 };
	const struct mount *mount = mounts_by_id(mounts, mount_id_of(fd));

	*ret = (struct place){ .fd = -1 };
	if (!mount)
		return err_set(
		    err, VSS_E_OBJECT_NOT_FOUND,
		    "The descriptor lies on a mount that this machine's own mount namespace does not have: name the "
		    "volume by its path on the host");
	if (refuse_foreign("The descriptor", mount, err) < 0)
		return -1;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, ret->path, sizeof ret->path - 1);
	ret->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (length < 0 || ret->fd < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot look at the descriptor");
	ret->path[length] = '\0';
	if (identify(mounts, ret, err) < 0)
		return -1;
	int r = ret->path[0] == '/' ? place_find(mounts, ret->path, false, &again, &ignored) : -1;
	place_done(&again);
	if (r < 0 || !is_same(ret, &again))
		return err_set(err, VSS_E_OBJECT_NOT_FOUND,
			       "What the descriptor leads to (%.400s) was deleted, moved or covered by another mount",
			       ret->path);
	return 0;
}

void place_done(struct place *place)
{
	cleanup_close(&place->fd);
	place->fd = -1;
}
