/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/beneath.h"

static int write_all(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, text, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		text += n;
		length -= (size_t)n;
	}
	return 0;
}

/* A file without a name, named once it is complete: the one sync that follows makes content and name durable. */
static int write_named(int place, const char *name, const char *text, size_t length)
{
	autoclose int fd = openat(place, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	char path[32];

	if (fd < 0 || write_all(fd, text, length) < 0)
		return -1;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, path, place, name, AT_SYMLINK_FOLLOW) < 0)
		return -1;
	return steal_fd(fd);
}

static int write_as(int place, const char *name, const char *copy, json_t *record, struct err *err)
{
	autojson json_t *file = json_pack("{s:s, s:O}", "Copy", copy, "Record", record);
	autofree char *text = file ? json_dumps(file, JSON_COMPACT) : NULL;
	int fd;

	if (!text)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the record of the copy %s", copy);
	if (strlen(text) > RECORD_SIZE_MAX)
		return err_set(
		    err, VSS_E_LIMITS_EXCEEDED,
		    "The record of the copy %s has %zu bytes, more than the %u that are kept beside a copy: the "
		    "writers' documents are too large",
		    copy, strlen(text), RECORD_SIZE_MAX);
	fd = write_named(place, name, text, strlen(text));
	if (fd < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot write the record of the copy %s",
				 copy);
	return fd;
}

int record_write(int place, const char *copy, json_t *record, struct err *err)
{
	return write_as(place, VSS_STORE_RECORD, copy, record, err);
}

int record_replace(int place, const char *copy, json_t *record, struct err *err)
{
	unlinkat(place, RECORD_TEMPORARY, 0);
	autoclose int fd = write_as(place, RECORD_TEMPORARY, copy, record, err);

	if (fd < 0)
		return -1;
	if (renameat(place, RECORD_TEMPORARY, place, VSS_STORE_RECORD) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot replace the record of the copy %s", copy);
	return 0;
}

static char *read_bounded(int fd, size_t *ret_length, struct err *err)
{
	struct stat info;
	size_t length = 0;

	if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
		err_set(err, VSS_E_INVALID_DOCUMENT, "its record is not a file");
		return NULL;
	}
	if (info.st_size > RECORD_SIZE_MAX) {
		err_set(err, VSS_E_INVALID_DOCUMENT, "its record has %lld bytes, more than vssd writes",
			(long long)info.st_size);
		return NULL;
	}
	autofree char *text = malloc((size_t)info.st_size + 1);
	for (ssize_t n = 1; text && n > 0 && length < (size_t)info.st_size; length += (size_t)n) {
		n = read(fd, text + length, (size_t)info.st_size - length);
		if (n < 0) {
			err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "its record cannot be read");
			return NULL;
		}
	}
	*ret_length = length;
	if (!text)
		err_set(err, VSS_E_OUT_OF_MEMORY, "there is no memory for its record");
	return steal_pointer(text);
}

static json_t *parse(const char *text, size_t length, const char *copy, struct err *err)
{
	json_error_t error;
	autojson json_t *file = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
	json_t *record = json_object_get(file, "Record");
	const char *id = json_string_value(json_object_get(file, "Copy"));

	if (!file)
		err_set(err, VSS_E_INVALID_DOCUMENT, "its record is not JSON: %s", error.text);
	else if (!id || strcmp(id, copy) != 0)
		err_set(err, VSS_E_INVALID_DOCUMENT, "its record is that of another copy (%.40s)", id ? id : "no id");
	else if (!json_is_object(record))
		err_set(err, VSS_E_INVALID_DOCUMENT, "its record describes nothing");
	else
		return json_incref(record);
	return NULL;
}

enum record_state record_read(int place, const char *copy, json_t **ret, struct err *err)
{
	autoclose int fd = open_beneath(place, VSS_STORE_RECORD, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	size_t length;

	if (fd < 0 && errno == ENOENT)
		return RECORD_ABSENT;
	if (fd < 0) {
		err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "its record cannot be opened");
		return RECORD_BROKEN;
	}
	autofree char *text = read_bounded(fd, &length, err);
	*ret = text ? parse(text, length, copy, err) : NULL;
	return *ret ? RECORD_VALID : RECORD_BROKEN;
}
