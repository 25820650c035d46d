/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/namespaces.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define NAMESPACES_MAX 256u
#define SCAN_TIME (200 * USEC_PER_MSEC)
#define MOUNTINFO_MAX (8u << 20)

struct seen {
	ino_t inodes[NAMESPACES_MAX];
	size_t n;
};

/* true: full, or known already */
static bool is_seen(struct seen *seen, ino_t inode)
{
	for (size_t i = 0; i < seen->n; i++)
		if (seen->inodes[i] == inode)
			return true;
	if (seen->n == NAMESPACES_MAX)
		return true;
	seen->inodes[seen->n++] = inode;
	return false;
}

static ino_t namespace_of(int proc, const char *process)
{
	char path[280];
	struct stat info;

	snprintf(path, sizeof path, "%s/ns/mnt", process);
	return fstatat(proc, path, &info, 0) == 0 ? info.st_ino : 0;
}

/* NULL when it cannot be read or is out of all proportion. */
static char *read_mountinfo(int proc, const char *process)
{
	char path[280];
	size_t size = 0, room = 0;
	autofree char *text = NULL;

	snprintf(path, sizeof path, "%s/mountinfo", process);
	autoclose int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	for (ssize_t n = 1; fd >= 0 && n > 0; size += (size_t)n) {
		if (room - size < 4096) {
			room = room ? room * 2 : 16384;
			char *grown = room > MOUNTINFO_MAX ? NULL : realloc(text, room);
			if (!grown)
				return NULL;
			text = grown;
		}
		n = read(fd, text + size, room - size - 1);
		if (n < 0)
			return NULL;
	}
	if (text)
		text[size] = '\0';
	return steal_pointer(text);
}

static bool visit_process(int proc, const char *process, struct seen *seen, namespace_fn visit, void *data)
{
	ino_t namespace = namespace_of(proc, process);

	if (namespace == 0 || is_seen(seen, namespace))
		return true;
	autofree char *text = read_mountinfo(proc, process);
	return !text || visit((pid_t)atoi(process), text, data);
}

void namespaces_for_each(namespace_fn visit, void *data)
{
	uint64_t deadline = clock_now() + SCAN_TIME;
	struct seen seen = { 0 };
	DIR *proc = opendir("/proc");

	if (!proc)
		return;
	is_seen(&seen, namespace_of(dirfd(proc), "self"));
	for (struct dirent *entry; (entry = readdir(proc)) && clock_now() < deadline;)
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    !visit_process(dirfd(proc), entry->d_name, &seen, visit, data))
			break;
	closedir(proc);
}
