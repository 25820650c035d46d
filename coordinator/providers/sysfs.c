/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/sysfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "coordinator/providers/dm-table.h"

struct block_view block_view = { "/sys", dm_table_read };

int sysfs_open(dev_t number, char *name, size_t size)
{
	char path[PATH_MAX], link[PATH_MAX];

	snprintf(path, sizeof path, "%s/dev/block/%u:%u", block_view.sysfs, major(number), minor(number));
	ssize_t length = readlink(path, link, sizeof link - 1);
	if (length < 0)
		return -1;
	link[length] = '\0';
	if (name)
		snprintf(name, size, "%s", strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool sysfs_read(int device, const char *attribute, char *text, size_t size)
{
	autoclose int fd = openat(device, attribute, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	if (text[n - 1] == '\n')
		text[n - 1] = '\0';
	return true;
}

bool sysfs_read_number(int device, const char *attribute, dev_t *ret)
{
	char text[32];
	unsigned major, minor;

	if (!sysfs_read(device, attribute, text, sizeof text) || sscanf(text, "%u:%u", &major, &minor) != 2)
		return false;
	*ret = makedev(major, minor);
	return true;
}

static void visit_entries(int directory, const char *prefix, void (*visit)(dev_t number, void *data), void *data)
{
	DIR *entries = directory < 0 ? NULL : fdopendir(directory);
	char path[300];
	dev_t number;

	if (!entries) {
		cleanup_close(&directory);
		return;
	}
	for (struct dirent *entry; (entry = readdir(entries));) {
		snprintf(path, sizeof path, "%s/dev", entry->d_name);
		if (entry->d_name[0] != '.' && strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
		    sysfs_read_number(dirfd(entries), path, &number))
			visit(number, data);
	}
	closedir(entries);
}

void sysfs_for_each(int device, const char *kind, void (*visit)(dev_t number, void *data), void *data)
{
	visit_entries(openat(device, kind, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "", visit, data);
}

void sysfs_for_each_block(const char *prefix, void (*visit)(dev_t number, void *data), void *data)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/class/block", block_view.sysfs);
	visit_entries(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), prefix, visit, data);
}
