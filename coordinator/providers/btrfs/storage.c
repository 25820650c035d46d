/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* storage-list, storage-set: copies of a subvolume are kept in its own filesystem. Associations that somebody made lie
 * beside the copies: .vss/storage.json, {"Version": 1, "Associations": {volume id: {"Max", "Guaranteed"}}}. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/btrfs/store.h"
#include "coordinator/providers/mounts.h"
#include "coordinator/providers/request.h"

#define FILE_SIZE_MAX (1u << 20)
#define PLACES_MAX 100000u
#define TEMPORARY VSS_STORE_ASSOCIATIONS ".new"

/* ---- the file ---- */

/* {volume id: {...}}; empty where nobody has made any, or where the file is none of ours. */
static json_t *read_associations(int store)
{
	autofree char *text = malloc(FILE_SIZE_MAX);
	autoclose int fd = open_beneath(store, VSS_STORE_ASSOCIATIONS, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 || !text ? -1 : read(fd, text, FILE_SIZE_MAX);
	autojson json_t *file = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	json_t *associations = json_object_get(file, "Associations");

	return json_is_object(associations) ? json_incref(associations) : json_object();
}

/* Complete or not at all, whatever happens to the power. */
static int write_associations(int store, json_t *associations, struct err *err)
{
	autojson json_t *file = json_pack("{si sO}", "Version", 1, "Associations", associations);
	autofree char *text = file ? json_dumps(file, JSON_INDENT(1)) : NULL;

	if (text && strlen(text) >= FILE_SIZE_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "/" VSS_STORE_DIR "/" VSS_STORE_ASSOCIATIONS " is full");
	autoclose int fd = openat(store, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (!text || fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd) < 0 ||
	    renameat(store, TEMPORARY, store, VSS_STORE_ASSOCIATIONS) < 0 || fsync(store) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot write /" VSS_STORE_DIR "/" VSS_STORE_ASSOCIATIONS);
	return 0;
}

void associations_move(int store, const char *from, const char *to)
{
	autojson json_t *associations = read_associations(store);
	json_t *entry = json_object_get(associations, from);
	struct err ignored = { 0 };

	if (!entry)
		return;
	json_object_set(associations, to, entry);
	json_object_del(associations, from);
	write_associations(store, associations, &ignored);
}

/* ---- listing ---- */

struct tally {
	const char *uuid;
	bool with_usage;
	json_t *associations; /* {volume id: row of the facts} */
};

static json_t *row_of(struct tally *tally, const char *volume)
{
	json_t *row = json_object_get(tally->associations, volume);

	if (row)
		return row;
	row = json_pack("{ss so si sb sb si s[]}", "For", volume, "On", json_sprintf("fs:%s", tally->uuid), "Max", -1,
			"Guaranteed", 0, "Explicit", 0, "Copies", 0, "Stores");
	json_object_set_new(tally->associations, volume, row);
	return row;
}

static json_int_t exclusive_bytes(const char *uuid, const char *copy)
{
	autojson json_t *request = json_pack("{ss ss}", "Copy", copy, "Filesystem", uuid), *answer = json_object();
	struct fd_list none = { .n = 0 };
	struct err ignored = { 0 };
	json_t *bytes = btrfs_usage(request, &none, answer, &none, &ignored) == 0 ? json_object_get(answer, "Exclusive") :
										    NULL;

	return bytes ? json_integer_value(bytes) : -1;
}

static void add(json_t *row, const char *key, json_int_t value)
{
	json_object_set_new(row, key, json_integer(json_integer_value(json_object_get(row, key)) + value));
}

/* Only where quotas account for it does anybody know what a copy takes. */
static void count_copy(struct tally *tally, int store, const char *copy)
{
	autoclose int place = place_open(store, copy);
	struct mark mark;

	if (place < 0 || !mark_read(place, MARK_SEALED, &mark))
		return;
	json_t *row = row_of(tally, mark.volume), *entry = json_pack("{ss}", "Copy", copy);
	json_int_t bytes = tally->with_usage ? exclusive_bytes(tally->uuid, copy) : -1;
	add(row, "Copies", 1);
	if (bytes >= 0) {
		json_object_set_new(entry, "Used", json_integer(bytes));
		json_object_set_new(entry, "Allocated", json_integer(bytes));
		add(row, "Used", bytes);
		add(row, "Allocated", bytes);
	}
	json_array_append_new(json_object_get(row, "Stores"), entry);
}

static void count_copies(struct tally *tally, int store)
{
	int again = openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = again < 0 ? NULL : fdopendir(again);
	unsigned n = 0;

	if (!directory) {
		cleanup_close(&again);
		return;
	}
	for (struct dirent *entry; n < PLACES_MAX && (entry = readdir(directory));)
		if (id_is_valid(entry->d_name) && ++n)
			count_copy(tally, store, entry->d_name);
	closedir(directory);
}

static void take_explicit(struct tally *tally, int store)
{
	autojson json_t *made = read_associations(store);
	const char *volume;
	json_t *entry;

	json_object_foreach(made, volume, entry) {
		json_t *row = row_of(tally, volume);
		json_object_set_new(row, "Explicit", json_true());
		json_object_set_new(row, "Guaranteed", json_boolean(json_is_true(json_object_get(entry, "Guaranteed"))));
	}
}

static const char *mount_path(const struct mounts *mounts, const char *uuid)
{
	for (size_t i = 0; i < mounts->n; i++) {
		const struct mount *mount = &mounts->list[i];
		char own[ID_SIZE];
		struct err ignored = { 0 };
		if (strcmp(mount->type, "btrfs") != 0 || !mounts_is_visible(mounts, mount))
			continue;
		autoclose int fd = open(mount->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && filesystem_uuid(fd, own, &ignored) == 0 && strcmp(own, uuid) == 0)
			return mount->target;
	}
	return "";
}

static void list_one(const struct mounts *mounts, json_t *answer, const char *uuid, bool with_usage)
{
	autojson json_t *associations = json_object();
	struct tally tally = { uuid, with_usage, associations };
	struct err ignored = { 0 };
	struct statvfs space;
	autoclose int top = filesystem_open(uuid, &ignored), store = -1;
	const char *path = mount_path(mounts, uuid), *volume;
	json_t *row;

	if (top < 0 || fstatvfs(top, &space) < 0)
		return; /* unmounted meanwhile */
	json_array_append_new(json_object_get(answer, "Filesystems"),
			      json_pack("{ss ss sI sI}", "Uuid", uuid, "Path", path, "Size",
					(json_int_t)(space.f_blocks * space.f_frsize), "Free",
					(json_int_t)(space.f_bavail * space.f_frsize)));
	if (store_open(top, false, &store, &ignored) > 0) {
		take_explicit(&tally, store);
		count_copies(&tally, store);
	}
	json_object_foreach(associations, volume, row) {
		json_object_set_new(row, "Volume", json_string(path));
		json_object_set_new(row, "OnName", json_string(path));
		json_array_append(json_object_get(answer, "Associations"), row);
	}
}

int btrfs_storage_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		       struct err *err)
{
	cleanup(mounts_done) struct mounts mounts = { 0 };
	DIR *directory = opendir("/sys/fs/btrfs");

	json_object_update_new(answer, json_pack("{s[] s[]}", "Filesystems", "Associations"));
	if (mounts_load(&mounts, err) < 0) {
		if (directory)
			closedir(directory);
		return -1;
	}
	for (struct dirent *entry; directory && (entry = readdir(directory));)
		if (id_is_valid(entry->d_name))
			list_one(&mounts, answer, entry->d_name, request_flag(request, "Usage"));
	if (directory)
		closedir(directory);
	return 0;
}

/* ---- setting ---- */

/* "btrfs:UUID:SUBVOLUME" */
static int parse_volume(const char *volume, char uuid[ID_SIZE], struct err *err)
{
	const char *colon = strncmp(volume, "btrfs:", 6) == 0 ? strchr(volume + 6, ':') : NULL;

	if (colon && (size_t)(colon - volume - 6) < ID_SIZE) {
		snprintf(uuid, ID_SIZE, "%.*s", (int)(colon - volume - 6), volume + 6);
		if (id_is_valid(uuid))
			return 0;
	}
	return err_set(err, VSS_E_INVALID_ARGUMENT, "Not the id of a btrfs volume: %.100s", volume);
}

int btrfs_storage_set(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		      struct err *err)
{
	const char *volume = request_string(request, "For", err), *on = json_string_value(json_object_get(request, "On"));
	char uuid[ID_SIZE];
	autoclose int top = -1, store = -1;

	if (!volume || parse_volume(volume, uuid, err) < 0)
		return -1;
	if (on && (strncmp(on, "fs:", 3) != 0 || strcmp(on + 3, uuid) != 0))
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
			       "Copies of btrfs volumes are kept in their own filesystem, not on %.100s", on);
	top = filesystem_open(uuid, err);
	if (top < 0 || store_open(top, true, &store, err) < 0)
		return -1;
	autojson json_t *associations = read_associations(store);
	if (on)
		json_object_set_new(associations, volume,
				    json_pack("{si sb}", "Max", -1, "Guaranteed", request_flag(request, "Guaranteed")));
	else
		json_object_del(associations, volume);
	return write_associations(store, associations, err);
}
