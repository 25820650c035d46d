/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/mount-search.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/btrfs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *text)
{
	char *out = text;

	for (char *p = text; *p; p++) {
		unsigned value;
		if (p[0] == '\\' && sscanf(p + 1, "%3o", &value) == 1) {
			*out++ = (char)value;
			p += 3;
		} else {
			*out++ = *p;
		}
	}
	*out = '\0';
}

static bool leads_to(int fd, const struct object *object)
{
	struct btrfs_ioctl_fs_info_args info = { 0 };
	struct stat st;

	if (object->is_btrfs)
		return ioctl(fd, BTRFS_IOC_FS_INFO, &info) == 0 &&
		       memcmp(info.fsid, object->fsid, sizeof object->fsid) == 0;
	return fstat(fd, &st) == 0 && major(st.st_dev) == object->major && minor(st.st_dev) == object->minor;
}

/* A line of a process' mountinfo: a descriptor if its mount leads to the object. */
static int try_line(char *line, const char *process, const struct object *object)
{
	uint32_t dev_major, dev_minor;
	int begin = 0, end = 0;
	autofree char *path = NULL;

	if (sscanf(line, "%*u %*u %" SCNu32 ":%" SCNu32 " %*s %n%*s%n", &dev_major, &dev_minor, &begin, &end) < 2 ||
	    !end)
		return -1;
	if (object->is_btrfs ? !strstr(line + end, " - btrfs ")
			     : dev_major != object->major || dev_minor != object->minor)
		return -1;
	line[end] = '\0';
	unescape(line + begin);
	if (asprintf(&path, "/proc/%s/root%s", process, line + begin) < 0)
		return -1;
	autoclose int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && leads_to(fd, object) ? steal_fd(fd) : -1;
}

static int search_process(const char *process, const struct object *object)
{
	autofree char *line = NULL;
	char path[64];
	size_t size = 0;
	int fd = -1;

	snprintf(path, sizeof path, "/proc/%.20s/mountinfo", process);
	FILE *mounts = fopen(path, "re");
	while (mounts && fd < 0 && getline(&line, &size, mounts) > 0)
		fd = try_line(line, process, object);
	if (mounts)
		fclose(mounts);
	return fd;
}

static int search_processes(const struct object *object)
{
	DIR *proc = opendir("/proc");
	int fd = -1;

	for (struct dirent *e; proc && fd < 0 && (e = readdir(proc));)
		if (isdigit((unsigned char)*e->d_name))
			fd = search_process(e->d_name, object);
	if (proc)
		closedir(proc);
	return fd;
}

/* Most filesystems are where everybody sees them; some only in another process' namespace. */
int mount_open(const struct object *object)
{
	int fd = search_process("self", object);

	if (fd < 0)
		fd = search_processes(object);
	return fd < 0 ? -ENOENT : fd;
}
