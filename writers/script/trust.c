/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/trust.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"

#define LINKS_MAX 40

/* What has been walked is trusted; what is left is a path relative to it. */
struct walk {
	const char *asked;
	char done[PATH_MAX]; /* "" is the root */
	char left[PATH_MAX];
	unsigned links;
	struct err *err;
};

static int refuse(const struct walk *walk, const char *why)
{
	return err_set(walk->err, VSS_E_ACCESS_DENIED, "%s is not used: %s %s", walk->asked,
		       *walk->done ? walk->done : "/", why);
}

static bool is_ours(const struct stat *st)
{
	return st->st_uid == 0 || st->st_uid == geteuid();
}

/* In a sticky directory (/tmp) others may add entries, but not replace those of root, and these alone are used. */
static bool others_may_write(const struct stat *st)
{
	if (S_ISLNK(st->st_mode) || (S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)))
		return false;
	return st->st_mode & (S_IWGRP | S_IWOTH);
}

static int judge(const struct walk *walk, int fd, struct stat *st)
{
	if (fstat(fd, st) < 0)
		return err_errno(walk->err, errno, VSS_E_UNEXPECTED, "%s cannot be examined", walk->done);
	if (!is_ours(st))
		return refuse(walk, "belongs to another user than root");
	if (others_may_write(st))
		return refuse(walk, "can be written by others than its owner");
	return 0;
}

/* Takes the next name off walk->left. False at the end. */
static bool next_name(struct walk *walk, char name[NAME_MAX + 1], struct err *err)
{
	const char *from = walk->left + strspn(walk->left, "/");
	size_t n = strcspn(from, "/");

	name[0] = '\0';
	if (n > NAME_MAX) {
		err_set(err, VSS_E_INVALID_ARGUMENT, "%s is not used: a name in it is too long", walk->asked);
		return false;
	}
	memcpy(name, from, n);
	name[n] = '\0';
	memmove(walk->left, from + n, strlen(from + n) + 1);
	return n > 0;
}

static int enter(struct walk *walk, const char *name)
{
	size_t n = strlen(walk->done);

	if (n + 1 + strlen(name) >= sizeof walk->done)
		return err_set(walk->err, VSS_E_INVALID_ARGUMENT, "%s is not used: the path is too long", walk->asked);
	snprintf(walk->done + n, sizeof walk->done - n, "/%s", name);
	return 0;
}

/* Puts the link's target in front of what is left, and goes back to where the target starts from. */
static int follow(struct walk *walk, int *dir, int link)
{
	char target[PATH_MAX], joined[PATH_MAX];
	ssize_t n = readlinkat(link, "", target, sizeof target - 1);

	if (n < 0)
		return err_errno(walk->err, errno, VSS_E_UNEXPECTED, "%s cannot be followed", walk->done);
	target[n] = '\0';
	if (++walk->links > LINKS_MAX)
		return refuse(walk, "is one symbolic link too many");
	if ((size_t)snprintf(joined, sizeof joined, "%s/%s", target, walk->left) >= sizeof joined)
		return err_set(walk->err, VSS_E_INVALID_ARGUMENT, "%s is not used: the path is too long", walk->asked);
	strcpy(walk->left, joined);
	*strrchr(walk->done, '/') = '\0';
	if (*target != '/')
		return 0;
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_errno(walk->err, errno, VSS_E_UNEXPECTED, "/ cannot be opened");
	close(*dir);
	*dir = root;
	walk->done[0] = '\0';
	return 0;
}

/* ".." is walked like any name (its directory is judged again); done loses its last name. */
static int step(struct walk *walk, int *dir, const char *name, struct stat *st)
{
	autoclose int next = openat(*dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (strcmp(name, ".") == 0)
		return 0;
	if (strcmp(name, "..") == 0) {
		char *last = strrchr(walk->done, '/');
		if (last)
			*last = '\0';
	} else if (enter(walk, name) < 0) {
		return -1;
	}
	if (next < 0)
		return err_errno(walk->err, errno, VSS_E_UNEXPECTED, "%s cannot be opened", walk->done);
	if (judge(walk, next, st) < 0)
		return -1;
	if (S_ISLNK(st->st_mode))
		return follow(walk, dir, next);
	close(*dir);
	*dir = steal_fd(next);
	return 0;
}

int trust_open(const char *path, mode_t type, char **ret_path, struct err *err)
{
	struct walk walk = { .asked = path, .err = err };
	char name[NAME_MAX + 1];
	struct err bad = { 0 };
	struct stat st;

	if (*path != '/' || strlen(path) >= sizeof walk.left)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" is not an absolute path", path);
	strcpy(walk.left, path);
	autoclose int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "/ cannot be opened");
	if (judge(&walk, at, &st) < 0)
		return -1;
	while (next_name(&walk, name, &bad))
		if (step(&walk, &at, name, &st) < 0)
			return -1;
	if (bad.code)
		return err_set(err, bad.code, "%s", bad.text);
	if (fstat(at, &st) < 0 || (st.st_mode & S_IFMT) != type)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s is not %s", path,
			       type == S_IFDIR ? "a directory" : "a regular file");
	if (ret_path && !(*ret_path = strdup(*walk.done ? walk.done : "/")))
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	return steal_fd(at);
}
