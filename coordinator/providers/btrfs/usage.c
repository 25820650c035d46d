/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* usage: what the filesystem accounts already. Quotas are never switched on for this: they cost every writer. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/providers/btrfs/copy.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/request.h"

static bool read_line(int directory, const char *name, char *text, size_t size)
{
	autoclose int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return true;
}

/* Simple quotas count a snapshot's own new data only, and an inconsistent account counts nothing. */
static bool is_account_good(int qgroups)
{
	char text[32];

	if (read_line(qgroups, "inconsistent", text, sizeof text) && strcmp(text, "0") != 0)
		return false;
	return !read_line(qgroups, "mode", text, sizeof text) || strcmp(text, "qgroup") == 0;
}

static void add_number(json_t *answer, const char *key, int qgroups, const char *name)
{
	char text[32];

	if (read_line(qgroups, name, text, sizeof text))
		json_object_set_new(answer, key, json_integer(strtoll(text, NULL, 10)));
}

int btrfs_usage(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	const char *copy = request_id(request, "Copy", err);
	const char *uuid = copy ? request_id(request, "Filesystem", err) : NULL;
	char path[sizeof "/sys/fs/btrfs//qgroups" + ID_SIZE], name[64];
	struct subvolume subvolume;

	autoclose int directory = uuid ? copy_open(uuid, copy, err) : -1;
	if (directory < 0 || subvolume_get(directory, &subvolume, err) < 0)
		return -1;
	snprintf(path, sizeof path, "/sys/fs/btrfs/%s/qgroups", uuid);
	autoclose int qgroups = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (qgroups < 0 || !is_account_good(qgroups))
		return 0;
	snprintf(name, sizeof name, "0_%llu/exclusive", (unsigned long long)subvolume.id);
	add_number(answer, "Exclusive", qgroups, name);
	snprintf(name, sizeof name, "0_%llu/referenced", (unsigned long long)subvolume.id);
	add_number(answer, "Referenced", qgroups, name);
	return 0;
}
