/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/users.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"

#define NAMED_MAX 4u

static bool leads_below(int directory, const char *name, const char *path)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(directory, name, target, sizeof target - 1);
	size_t length = strlen(path);

	if (n < (ssize_t)length)
		return false;
	target[n] = '\0';
	return strncmp(target, path, length) == 0 && (target[length] == '/' || target[length] == '\0');
}

static bool has_file_below(int process, const char *path)
{
	int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *files = fd < 0 ? NULL : fdopendir(fd);
	bool found = false;

	if (!files) {
		cleanup_close(&fd);
		return false;
	}
	for (struct dirent *entry; !found && (entry = readdir(files));)
		found = leads_below(dirfd(files), entry->d_name, path);
	closedir(files);
	return found;
}

static void add_name(int process, const char *pid, char *text, size_t size)
{
	char name[32] = "?";
	size_t used = strlen(text);
	autoclose int fd = openat(process, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, name, sizeof name - 1);

	if (n > 0)
		name[n - 1] = '\0';
	snprintf(text + used, size - used, "%s%s (%.10s)", used ? ", " : "", name, pid);
}

void users_of_path(const char *path, char *text, size_t size)
{
	DIR *proc = opendir("/proc");
	unsigned named = 0;

	text[0] = '\0';
	for (struct dirent *entry; proc && named < NAMED_MAX && (entry = readdir(proc));) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		autoclose int process = openat(dirfd(proc), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (process < 0 || (!leads_below(process, "cwd", path) && !leads_below(process, "root", path) &&
				    !leads_below(process, "exe", path) && !has_file_below(process, path)))
			continue;
		add_name(process, entry->d_name, text, size);
		named++;
	}
	if (proc)
		closedir(proc);
}
