/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/postgresql/copy-files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define PIECE ((size_t)4 << 20) /* between two looks at the clock */

static enum vss_result cannot(struct bundled_task *task, const char *path, int errno_value)
{
	struct err err = { 0 };

	if (errno_value == ETIMEDOUT)
		return bundled_fail(task, VSS_RESULT_TIMED_OUT, "Writing the WAL into the copy takes longer than the limit");
	err_errno(&err, errno_value, VSS_E_UNEXPECTED, "%s cannot be written into the copy", path);
	return bundled_fail(task,
			    err.code == VSS_E_INSUFFICIENT_STORAGE ? VSS_RESULT_OUT_OF_RESOURCES : VSS_RESULT_NON_RETRYABLE,
			    "%s", err.text);
}

static int open_target(struct bundled_task *task, const char *path)
{
	struct err err = { 0 };
	int fd = bundled_open_copy(task, path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);

	if (fd < 0)
		bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "%s", err.text);
	return fd;
}

/* By the filesystem, as far as it can. */
static int copy_ranges(const struct bundled_task *task, int from, int to, uint64_t *left)
{
	while (*left > 0) {
		int r = bundled_expired(task);
		if (r < 0)
			return r;
		ssize_t n = copy_file_range(from, NULL, to, NULL, *left < PIECE ? *left : PIECE, 0);
		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS))
			return 0;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		*left -= (uint64_t)n;
	}
	return 0;
}

static int copy_bytes(const struct bundled_task *task, int from, int to, uint64_t left)
{
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	int r = copy_ranges(task, from, to, &left);
	for (char buffer[1 << 16]; r == 0 && left > 0;) {
		ssize_t n = read(from, buffer, left < sizeof buffer ? left : sizeof buffer);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		ssize_t m = write(to, buffer, (size_t)n);
		if (m != n)
			return m < 0 ? -errno : -ENOSPC;
		left -= (uint64_t)n;
		r = bundled_expired(task);
	}
	return r;
}

enum vss_result copy_into_copy(struct bundled_task *task, const char *path, uint64_t size)
{
	autoclose int from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), to = -1;
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "%s is needed to make the copy consistent and cannot be opened: %s", path,
				    strerror(errno));
	if ((uint64_t)st.st_size != size)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "%s has not the size of a segment of WAL", path);
	to = open_target(task, path);
	if (to < 0)
		return VSS_RESULT_NON_RETRYABLE;
	int r = copy_bytes(task, from, to, size);
	if (r == 0 && fsync(to) < 0)
		r = -errno;
	return r == 0 ? VSS_RESULT_OK : cannot(task, path, -r);
}

enum vss_result write_into_copy(struct bundled_task *task, const char *path, const char *text)
{
	size_t n = strlen(text);
	autoclose int to = open_target(task, path);

	if (to < 0)
		return VSS_RESULT_NON_RETRYABLE;
	errno = 0;
	if (write(to, text, n) != (ssize_t)n || fsync(to) < 0)
		return cannot(task, path, errno ?: EIO);
	return VSS_RESULT_OK;
}

enum vss_result remove_from_copy(struct bundled_task *task, const char *directory, const char *name)
{
	struct err err = { 0 };
	autoclose int fd = bundled_open_copy(task, directory, O_RDONLY | O_DIRECTORY, 0, &err);

	if (fd < 0)
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "%s", err.text);
	if (unlinkat(fd, name, 0) < 0 && errno != ENOENT)
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "%s/%s cannot be removed from the copy: %s", directory,
				    name, strerror(errno));
	return VSS_RESULT_OK;
}
