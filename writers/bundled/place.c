/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where files lie in a set: the volume of a path, and its counterpart in the copy. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "writers/bundled/bundled.h"

/* The part of the path below the directory; NULL if it is not in it. */
static const char *below(const char *path, const char *directory)
{
	size_t n = strlen(directory);

	while (n > 0 && directory[n - 1] == '/')
		n--;
	if (strncmp(path, directory, n) != 0 || (path[n] != '/' && path[n] != '\0'))
		return NULL;
	path += n;
	path += strspn(path, "/");
	return *path ? path : ".";
}

const struct vss_volume *bundled_place(const struct bundled_task *task, const char *path, const char **ret_below)
{
	const struct vss_volume *found = NULL;
	size_t longest = 0;

	for (size_t i = 0; i < task->n_volumes; i++) {
		const struct vss_volume *volume = &task->volumes[i];
		const char *rest = below(path, volume->path);
		if (!rest || (found && strlen(volume->path) <= longest))
			continue;
		found = volume;
		longest = strlen(volume->path);
		*ret_below = rest;
	}
	return found;
}

bool bundled_is_one_instant(const struct bundled_task *task, const json_t *paths)
{
	const struct vss_volume *first = NULL;
	json_t *path;
	size_t i;

	json_array_foreach((json_t *)paths, i, path) {
		const char *rest;
		const struct vss_volume *volume = bundled_place(task, json_string_value(path), &rest);
		if (!volume || (first && volume->instant_group != first->instant_group))
			return false;
		first = volume;
	}
	return first;
}

int bundled_open_copy(const struct bundled_task *task, const char *path, int flags, unsigned mode, struct err *err)
{
	const char *rest;
	const struct vss_volume *volume = bundled_place(task, path, &rest);
	struct open_how how = {
		.flags = (unsigned)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};

	if (!volume || volume->copy < 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "%s is in none of the set's copies", path);
	int fd = (int)syscall(SYS_openat2, volume->copy, rest, &how, sizeof how);
	return fd >= 0 ? fd : err_errno(err, errno, VSS_E_UNEXPECTED, "%s in the copy cannot be opened", path);
}
