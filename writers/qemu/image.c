/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/image.h"

#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define QCOW2_MAGIC 0x514649FBu
#define QCOW2_EXTENSION_END 0u
#define QCOW2_EXTENSION_DATA_FILE 0x44415441u
#define REFERENCE_MAX 1023 /* as in QEMU's own documentation of the format */
#define EXTENSIONS_MAX 64
/* QEMU's file-posix driver: shared locks on bytes from here on say what an image is used for. */
#define LOCK_BYTES_FIRST 100
#define LOCK_BYTES_N 200

struct qcow2_header {
	uint32_t magic, version;
	uint64_t backing_offset;
	uint32_t backing_size, cluster_bits;
	uint64_t size;
	uint32_t unused[17];
	uint32_t header_length; /* version 3 */
} __attribute__((packed));

/* ---- references ---- */

static char *absolute(const char *image, const char *path, struct err *err)
{
	const char *slash = strrchr(image, '/');
	char *text = NULL;
	int n = *path == '/' || !slash ? asprintf(&text, "%s", path)
				       : asprintf(&text, "%.*s/%s", (int)(slash - image), image, path);

	if (n >= 0)
		return text;
	err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	return NULL;
}

/* {"driver": "qcow2", "file": {"driver": "file", "filename": F}}, or the same with dots in the keys. */
static const char *filename_in(json_t *value, int depth)
{
	static const char *const keys[] = { "filename", "file.filename", "file.file.filename" };
	const char *driver = json_string_value(json_object_get(value, "driver"));
	json_t *file = json_object_get(value, "file");

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_is_string(json_object_get(value, keys[i])))
			return driver && (strcmp(driver, "nbd") == 0 || strncmp(driver, "http", 4) == 0) ?
				       NULL :
				       json_string_value(json_object_get(value, keys[i]));
	return json_is_object(file) && depth < 8 ? filename_in(file, depth + 1) : NULL;
}

static char *elsewhere(const char *reference, struct err *err)
{
	err_set(err, VSS_E_WRITER_INCONSISTENT_SNAPSHOT, "%.200s is no file of this host, so no copy holds it", reference);
	return NULL;
}

char *image_reference(const char *image, const char *reference, struct err *err)
{
	if (strncmp(reference, "json:", 5) == 0) {
		autojson json_t *value = json_loads(reference + 5, 0, NULL);
		const char *file = value ? filename_in(value, 0) : NULL;
		return file ? image_reference(image, file, err) : elsewhere(reference, err);
	}
	if (strncmp(reference, "file:", 5) == 0)
		return absolute(image, reference + 5, err);
	/* As QEMU does: what has a colon before its first slash names a protocol. */
	size_t plain = strcspn(reference, ":/");
	if (reference[plain] == ':')
		return elsewhere(reference, err);
	return absolute(image, reference, err);
}

/* ---- qcow2 ---- */

static int read_reference(int fd, const char *path, uint64_t offset, uint32_t size, char text[REFERENCE_MAX + 1],
			  struct err *err)
{
	if (size > REFERENCE_MAX || offset > INT64_MAX || pread(fd, text, size, (off_t)offset) != (ssize_t)size)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "The qcow2 header of %s is damaged", path);
	text[size] = '\0';
	return 0;
}

/* data: "" where there is none. */
static int read_data_file(int fd, const char *path, uint32_t header_length, char data[REFERENCE_MAX + 1], struct err *err)
{
	uint64_t offset = header_length;

	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		uint32_t head[2];
		if (pread(fd, head, sizeof head, (off_t)offset) != sizeof head)
			return err_set(err, VSS_E_INVALID_DOCUMENT, "The qcow2 header of %s is damaged", path);
		uint32_t kind = be32toh(head[0]), size = be32toh(head[1]);
		if (kind == QCOW2_EXTENSION_END)
			return 0;
		if (kind == QCOW2_EXTENSION_DATA_FILE)
			return read_reference(fd, path, offset + sizeof head, size, data, err);
		offset += sizeof head + ((uint64_t)size + 7) / 8 * 8;
	}
	return 0;
}

static int add_file(const char *path, bool probe, json_t *files, struct err *err);

static int add_reference(const char *image, const char *reference, bool probe, json_t *files, struct err *err)
{
	if (!*reference)
		return 0;
	autofree char *path = image_reference(image, reference, err);
	return path ? add_file(path, probe, files, err) : -1;
}

static int add_qcow2(int fd, const char *path, json_t *files, struct err *err)
{
	struct qcow2_header header = { 0 };
	char backing[REFERENCE_MAX + 1] = "", data[REFERENCE_MAX + 1] = "";
	ssize_t n = pread(fd, &header, sizeof header, 0);

	if (n < (ssize_t)offsetof(struct qcow2_header, unused) || be32toh(header.magic) != QCOW2_MAGIC)
		return 0; /* raw, or a format without further files */
	uint64_t backing_offset = be64toh(header.backing_offset);
	uint32_t length = be32toh(header.version) >= 3 && n == sizeof header ? be32toh(header.header_length) : 72;
	if (backing_offset &&
	    read_reference(fd, path, backing_offset, be32toh(header.backing_size), backing, err) < 0)
		return -1;
	if (be32toh(header.version) >= 2 && read_data_file(fd, path, length, data, err) < 0)
		return -1;
	/* A data file is raw: a guest writes its first bytes. */
	if (add_reference(path, data, false, files, err) < 0)
		return -1;
	return add_reference(path, backing, true, files, err);
}

/* ---- chains ---- */

static bool holds(json_t *files, const char *path)
{
	size_t i;
	json_t *file;

	json_array_foreach(files, i, file)
		if (strcmp(json_string_value(file), path) == 0)
			return true;
	return false;
}

static int add_file(const char *path, bool probe, json_t *files, struct err *err)
{
	char real[PATH_MAX];
	struct stat st;
	autoclose int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "The disk image %s cannot be opened", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The disk image %s is neither a file nor a block device", path);
	/* A device keeps the name that was given: /dev/VG/LV says more than /dev/dm-3. */
	if (S_ISBLK(st.st_mode) || !realpath(path, real))
		snprintf(real, sizeof real, "%s", path);
	if (holds(files, real))
		return 0;
	if (json_array_size(files) >= IMAGE_FILES_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "The disks consist of more than %d files", IMAGE_FILES_MAX);
	if (json_array_append_new(files, json_string(real)) < 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The name of a disk image is not UTF-8");
	return probe ? add_qcow2(fd, real, files, err) : 0;
}

int image_files(const char *path, bool probe, json_t *files, struct err *err)
{
	return add_file(path, probe, files, err);
}

bool image_is_open_in_qemu(const char *path)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_BYTES_FIRST, .l_len = LOCK_BYTES_N
	};
	autoclose int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}
