/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requestor/vssctl/root.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define STEADY_ROOT "/run/vssd/root"

static int refuse(char why[512], const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(char why[512], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, 512, format, args);
	va_end(args);
	return -1;
}

/* ---- the directory ---- */

static bool is_directory(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int make_private(struct root *root, char why[512])
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	const char *parent = runtime && *runtime == '/' && is_directory(runtime) ? runtime : "/tmp";

	if (asprintf(&root->path, "%s/vssctl-XXXXXX", parent) < 0) {
		root->path = NULL;
		return refuse(why, "out of memory");
	}
	if (!mkdtemp(root->path)) {
		refuse(why, "cannot make a directory below %s to mount the copies on: %s (name one with --root)",
		       parent, strerror(errno));
		free(root->path);
		root->path = NULL;
		return -1;
	}
	root->made = true;
	return 0;
}

int root_choose(struct root *root, const char *asked, char why[512])
{
	*root = (struct root){ 0 };
	if (!asked && !is_directory(STEADY_ROOT))
		return make_private(root, why);
	root->path = realpath(asked ? asked : STEADY_ROOT, NULL);
	if (!root->path)
		return refuse(why, "%s cannot be the root of the copies: %s", asked, strerror(errno));
	if (strcmp(root->path, "/") == 0 || !is_directory(root->path)) {
		root_release(root);
		return refuse(why, "%s cannot be the root of the copies: it has to be a directory other than /", asked);
	}
	return 0;
}

void root_release(struct root *root)
{
	if (root->made)
		rmdir(root->path);
	free(root->path);
	*root = (struct root){ 0 };
}

/* ---- the namespace ---- */

static int write_file(const char *path, const char *text)
{
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

/* The ids stay what they are: COMMAND is nobody new, it only gets to mount for a moment. */
static int map_ids(uid_t uid, gid_t gid)
{
	char text[64];

	snprintf(text, sizeof text, "%u %u 1", uid, uid);
	if (write_file("/proc/self/uid_map", text) < 0)
		return -1;
	if (write_file("/proc/self/setgroups", "deny") < 0 && errno != ENOENT)
		return -1;
	snprintf(text, sizeof text, "%u %u 1", gid, gid);
	return write_file("/proc/self/gid_map", text);
}

static int own_namespace(char why[512])
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWNS) < 0) {
		if (errno != EPERM || uid == 0)
			return refuse(why, "no mount namespace of its own for COMMAND: %s", strerror(errno));
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			return refuse(
			    why, "no mount namespace of its own for COMMAND: %s (are user namespaces forbidden here?)",
			    strerror(errno));
		if (map_ids(uid, gid) < 0)
			return refuse(why, "the user's ids cannot be kept in the namespace: %s", strerror(errno));
	}
	/* What is mounted or unmounted outside still comes in, nothing goes out. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return refuse(why, "the mounts of COMMAND cannot be kept apart: %s", strerror(errno));
	return 0;
}

static int make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		/* In a copy, which is read-only, the directory has to be there; and is, as something is mounted there.
		 */
		if (mkdir(path, 0755) < 0 && errno != EEXIST && !is_directory(path))
			return -1;
		if (!slash)
			return 0;
		*slash = '/';
	}
}

static int place(const char *root, const struct copy_mount *copy, char why[512])
{
	bool at_root = strcmp(copy->live, "/") == 0;
	autofree char *target = NULL;

	if (asprintf(&target, "%s%s", root, at_root ? "" : copy->live) < 0) {
		target = NULL;
		return refuse(why, "out of memory");
	}
	if (!at_root && make_parents(target) < 0)
		return refuse(why, "the copy of %s has no place to be mounted at: %s: %s", copy->live, target,
			      strerror(errno));
	if (move_mount(copy->fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return refuse(why, "the copy of %s cannot be mounted at %s: %s", copy->live, target, strerror(errno));
	return 0;
}

int root_enter(const char *path, const struct copy_mount *copies, size_t n, char why[512])
{
	if (own_namespace(why) < 0)
		return -1;
	if (mount("vssctl", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") < 0)
		return refuse(why, "nothing can be mounted at %s: %s", path, strerror(errno));
	for (size_t i = 0; i < n; i++)
		if (place(path, &copies[i], why) < 0)
			return -1;
	if (n > 0 && strcmp(copies[0].live, "/") == 0)
		return 0; /* the copy of / lies over it all */
	/* The frame between the copies is read-only too: a COMMAND that writes there would lose it. */
	if (mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
		return refuse(why, "%s cannot be made read-only: %s", path, strerror(errno));
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct copy_mount *left = a, *right = b;

	return strcmp(left->live, right->live);
}

void copies_sort(struct copy_mount *copies, size_t n)
{
	qsort(copies, n, sizeof *copies, compare);
}
