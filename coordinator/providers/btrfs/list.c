/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* list: the catalogue, as the filesystems themselves hold it. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/btrfs/copy.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/record.h"
#include "coordinator/providers/btrfs/store.h"
#include "coordinator/providers/request.h"

#define TOKEN_SIZE 80
#define PLACES_MAX 100000u

/* One filesystem being listed. */
struct listing {
	const char *uuid, *host;
	const json_t *known; /* copy id: token */
	const struct mounts *mounts; /* ours, to say where copies are exposed */
	int store;
	uint64_t digest;             /* of all that would be reported */
	json_t *copies, *unfinished; /* borrowed from the answer */
};

/* Changes with whatever list reports: the change times of the place and of the record cannot be set by hand. */
static bool read_token(int store, const char *copy, char token[TOKEN_SIZE])
{
	char path[ID_SIZE + sizeof VSS_STORE_RECORD];
	struct stat place, record = { 0 };

	if (fstatat(store, copy, &place, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	snprintf(path, sizeof path, "%s/" VSS_STORE_RECORD, copy);
	fstatat(store, path, &record, AT_SYMLINK_NOFOLLOW);
	snprintf(token, TOKEN_SIZE, "%llx-%llx.%lx-%llx-%llx.%lx", (unsigned long long)place.st_ino,
		 (unsigned long long)place.st_ctim.tv_sec, (unsigned long)place.st_ctim.tv_nsec,
		 (unsigned long long)record.st_ino, (unsigned long long)record.st_ctim.tv_sec,
		 (unsigned long)record.st_ctim.tv_nsec);
	return true;
}

static json_t *add_copy(const struct listing *listing, const char *copy, const char *token)
{
	json_t *entry = json_object();

	json_object_set_new_nocheck(entry, "Copy", json_string_nocheck(copy));
	json_object_set_new_nocheck(entry, "Token", json_string_nocheck(token));
	json_object_set_new_nocheck(entry, "Filesystem", json_string_nocheck(listing->uuid));
	const char *exposed = copy_mount_point(listing->mounts, copy);
	if (exposed)
		json_object_set_new(entry, "Exposed", json_string(exposed));
	json_array_append_new(listing->copies, entry);
	return entry;
}

static void add_unfinished(const struct listing *listing, const char *copy, const char *host, const char *set)
{
	json_array_append_new(listing->unfinished,
			      json_pack("{s:s, s:s, s:s}", "Copy", copy, "Host", host, "Set", set));
}

static bool is_there(int place, const char *name)
{
	struct stat info;

	return fstatat(place, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

static void add_broken(const struct listing *listing, const char *copy, const char *token, const char *why)
{
	char text[sizeof((struct err *)0)->text];

	snprintf(text, sizeof text, "The copy cannot be used: %.900s. Delete it", why);
	json_object_set_new(add_copy(listing, copy, token), "Error", json_string(text));
}

/* Of one that is being made the mark may have come a moment after we looked; without one it is anybody's to remove. */
static void list_empty(const struct listing *listing, int place, const char *copy)
{
	struct mark mark = { .host = "" };
	bool made = place_is_being_made(listing->store, place, &mark);

	if (!made)
		add_unfinished(listing, copy, listing->host, "00000000-0000-0000-0000-000000000000");
	else if (*mark.host)
		add_unfinished(listing, copy, mark.host, mark.set);
}

/* A place without a readable record: cut short while it was made or removed, or damaged later. */
static void list_without_record(const struct listing *listing, int place, const char *copy, const char *token,
				enum record_state state, const struct err *why)
{
	bool cut_short = state == RECORD_ABSENT || why->code == VSS_E_INVALID_DOCUMENT;
	struct mark mark;

	if (cut_short && mark_read(place, MARK_UNFINISHED, &mark))
		add_unfinished(listing, copy, mark.host, mark.set);
	else if (state == RECORD_ABSENT && !is_there(place, VSS_STORE_COPY) && !is_there(place, STORE_WORK))
		list_empty(listing, place, copy);
	else
		add_broken(listing, copy, token, state == RECORD_ABSENT ? "its record is missing" : why->text);
}

static void list_place(struct listing *listing, const char *copy)
{
	const char *known = json_string_value(json_object_get(listing->known, copy));
	char token[TOKEN_SIZE];
	autojson json_t *record = NULL;
	struct err why = { 0 };

	if (!read_token(listing->store, copy, token))
		return;
	if (known && strcmp(known, token) == 0) {
		add_copy(listing, copy, token);
		return;
	}
	autoclose int place = place_open(listing->store, copy);
	if (place < 0)
		return;
	enum record_state state = record_read(place, copy, &record, &why);
	if (state != RECORD_VALID)
		list_without_record(listing, place, copy, token, state, &why);
	else if (!is_there(place, VSS_STORE_COPY))
		add_broken(listing, copy, token, "its subvolume is gone, somebody removed it");
	else
		json_object_set(add_copy(listing, copy, token), "Record", record);
}

/* FNV-1a; summed over the places, so that their order in the directory does not matter. */
static uint64_t digest_text(uint64_t digest, const char *text)
{
	for (; *text; text++)
		digest = (digest ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return digest;
}

static uint64_t digest_number(uint64_t digest, uint64_t number)
{
	for (int i = 0; i < 64; i += 8)
		digest = (digest ^ (number >> i & 0xFF)) * UINT64_C(0x100000001b3);
	return digest;
}

/* Of the place alone: a record is complete when it gets its name there, and whatever comes or goes in a place changes the
 * place's own change time. That somebody wrote over a record is seen when the filesystem is read whole again. */
static void digest_place(struct listing *listing, const char *copy)
{
	const char *exposed = copy_mount_point(listing->mounts, copy);
	struct stat place;
	uint64_t digest;

	if (fstatat(listing->store, copy, &place, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	digest = digest_text(UINT64_C(0xcbf29ce484222325), copy);
	digest = digest_number(digest, (uint64_t)place.st_ino);
	digest = digest_number(digest, (uint64_t)place.st_ctim.tv_sec);
	digest = digest_number(digest, (uint64_t)place.st_ctim.tv_nsec);
	listing->digest += digest_text(digest, exposed ? exposed : "");
}

static int for_each_place(struct listing *listing, void (*fn)(struct listing *listing, const char *copy), struct err *err)
{
	int again = openat(listing->store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = again < 0 ? NULL : fdopendir(again);
	unsigned n = 0;

	if (!directory) {
		cleanup_close(&again);
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot read /" VSS_STORE_DIR);
	}
	for (struct dirent *entry; n < PLACES_MAX && (entry = readdir(directory));) {
		if (!id_is_valid(entry->d_name) || entry->d_type != DT_DIR)
			continue;
		fn(listing, entry->d_name);
		n++;
	}
	closedir(directory);
	return 0;
}

/* Lists the store, or says that it is as the request knows it. */
static int list_store(struct listing *listing, json_t *request, json_t *entry, struct err *err)
{
	const char *known = json_string_value(json_object_get(json_object_get(request, "Tokens"), listing->uuid));
	char token[32];

	if (for_each_place(listing, digest_place, err) < 0)
		return -1;
	snprintf(token, sizeof token, "%016llx", (unsigned long long)listing->digest);
	json_object_set_new(entry, "Token", json_string(token));
	if (known && strcmp(known, token) == 0) {
		json_object_set_new(entry, "Unchanged", json_true());
		return 0;
	}
	return json_is_true(json_object_get(request, "Brief")) ? 0 : for_each_place(listing, list_place, err);
}

/* Lists the filesystem below top. What fails is said in the answer: the other filesystems are listed all the same. */
static void list_filesystem(json_t *request, const struct mounts *mounts, json_t *filesystems, const char *uuid,
			    const char *device, int top, struct err *err)
{
	json_t *host = json_object_get(request, "Host");
	struct listing listing = {
		.uuid = uuid,
		.host = json_is_string(host) ? json_string_value(host) : "",
		.known = json_object_get(json_object_get(request, "Known"), uuid),
		.mounts = mounts,
		.copies = json_array(),
		.unfinished = json_array(),
	};
	json_t *entry = json_pack("{s:s, s:s, s:o, s:o}", "Uuid", uuid, "Device", device, "Copies", listing.copies,
				  "Unfinished", listing.unfinished);
	int r = top < 0 ? -1 : store_open(top, false, &listing.store, err);

	json_array_append_new(filesystems, entry);
	if (r > 0) {
		r = list_store(&listing, request, entry, err);
		close(listing.store);
	}
	if (r < 0)
		json_object_set_new(entry, "Error", json_string(err->text));
}

static bool is_listed(const json_t *filesystems, const char *uuid)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(filesystems, i,
			   entry) if (strcmp(json_string_value(json_object_get(entry, "Uuid")), uuid) == 0) return true;
	return false;
}

/* From sysfs, not from the mounts: those of other namespaces are there as well, and no path is touched. */
static void list_mounted(json_t *request, const struct mounts *mounts, json_t *filesystems)
{
	DIR *directory = opendir("/sys/fs/btrfs");

	if (!directory)
		return; /* btrfs is not in this kernel, or not loaded yet */
	for (struct dirent *entry; (entry = readdir(directory));) {
		char device[DEVICE_NODE_SIZE] = "";
		struct err failure = { 0 };
		if (!id_is_valid(entry->d_name))
			continue;
		autoclose int top = filesystem_open(entry->d_name, &failure);
		if (top < 0 && failure.code == VSS_E_OBJECT_NOT_FOUND)
			continue; /* unmounted meanwhile */
		filesystem_device(entry->d_name, device);
		list_filesystem(request, mounts, filesystems, entry->d_name, device, top, &failure);
	}
	closedir(directory);
}

static void list_device(json_t *request, const struct mounts *mounts, json_t *filesystems, const char *device)
{
	struct err failure = { 0 };
	char uuid[ID_SIZE] = "";
	struct stat info;

	if (stat(device, &info) < 0 || !S_ISBLK(info.st_mode))
		return;
	autoclose int top = filesystem_open_device(device, &failure);
	if (top >= 0 && filesystem_uuid(top, uuid, &failure) == 0 && is_listed(filesystems, uuid))
		return;
	list_filesystem(request, mounts, filesystems, uuid, device, top, &failure);
}

int btrfs_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	json_t *filesystems = json_array(), *device;
	cleanup(mounts_done) struct mounts mounts = { 0 };
	size_t i;

	json_object_set_new(answer, "Filesystems", filesystems);
	if (mounts_load(&mounts, err) < 0)
		return -1;
	list_mounted(request, &mounts, filesystems);
	json_array_foreach(json_object_get(request, "Devices"), i, device) if (json_is_string(device))
	    list_device(request, &mounts, filesystems, json_string_value(device));
	return 0;
}

int btrfs_record(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds, struct err *err)
{
	const char *copy = request_id(request, "Copy", err);
	const char *uuid = copy ? request_id(request, "Filesystem", err) : NULL;
	autoclose int directory = uuid ? copy_open(uuid, copy, err) : -1;
	autoclose int place = directory < 0 ? -1 : openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	json_t *record = NULL;
	struct err why = { 0 };

	if (directory < 0)
		return -1;
	if (place < 0 || record_read(place, copy, &record, &why) != RECORD_VALID)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "The copy %s: %.900s", copy, why.text);
	json_object_set_new(answer, "Record", record);
	return 0;
}
