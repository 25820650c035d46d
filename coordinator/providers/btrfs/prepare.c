/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* prepare: all the slow work that can be done before anything is frozen. */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "common/cleanup.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/btrfs/store.h"
#include "coordinator/providers/btrfs/subvolume.h"
#include "coordinator/providers/request.h"

#define MAX_COPIES_DEFAULT 512
#define ROOM_MIN (4ull << 20) /* for the record and the metadata of the copy itself */

/* A filesystem of the set, mounted once for all its members. */
struct target {
	const char *uuid;
	int top, store;
};

struct member {
	const char *copy;
	json_t *volume;
	const char *id, *path;
	struct target *target;
	int source, place;
};

struct preparation {
	const char *set, *host;
	bool flush;
	unsigned max_copies;
	struct target targets[BTRFS_MEMBERS_MAX];
	size_t n_targets;
	struct member members[BTRFS_MEMBERS_MAX];
	size_t n_members;
};

static void preparation_done(struct preparation *p)
{
	for (size_t i = 0; i < p->n_members; i++) {
		cleanup_close(&p->members[i].source);
		cleanup_close(&p->members[i].place);
	}
	for (size_t i = 0; i < p->n_targets; i++) {
		cleanup_close(&p->targets[i].store);
		cleanup_close(&p->targets[i].top);
	}
}

static int volume_changed(const char *path, struct err *err)
{
	return err_set(
	    err, VSS_E_OBJECT_NOT_FOUND,
	    "%s is not the volume any more that it was when it was added to the set: it was unmounted or replaced",
	    path);
}

static int check_room(int top, const char *path, struct err *err)
{
	struct statvfs info;
	unsigned long long room;

	if (fstatvfs(top, &info) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot see how much room %s has", path);
	room = (unsigned long long)info.f_bavail * info.f_frsize;
	if (room >= ROOM_MIN)
		return 0;
	return err_set(
	    err, VSS_E_INSUFFICIENT_STORAGE,
	    "The filesystem of %s has %llu KiB left; a copy needs at least %llu KiB there. Delete files or older "
	    "copies",
	    path, room >> 10, ROOM_MIN >> 10);
}

static int open_target(struct target *target, const char *path, struct err *err)
{
	target->top = filesystem_open(target->uuid, err);
	if (target->top < 0)
		return err && err->code == VSS_E_OBJECT_NOT_FOUND ? volume_changed(path, err) : -1;
	if (filesystem_is_read_only(target->top))
		return err_set(
		    err, VSS_E_PROVIDER_VETO,
		    "The filesystem of %s is mounted read-only: nothing can be kept on it. Remount it read-write, or "
		    "back it up as it is, since nothing changes it",
		    path);
	if (check_room(target->top, path, err) < 0)
		return -1;
	return store_open(target->top, true, &target->store, err) < 0 ? -1 : 0;
}

static struct target *get_target(struct preparation *p, const char *uuid, const char *path, struct err *err)
{
	for (size_t i = 0; i < p->n_targets; i++)
		if (strcmp(p->targets[i].uuid, uuid) == 0)
			return &p->targets[i];
	struct target *target = &p->targets[p->n_targets++];
	*target = (struct target){ .uuid = uuid, .top = -1, .store = -1 };
	return open_target(target, path, err) < 0 ? NULL : target;
}

/* Looks before it opens: whatever has come to lie there must not be touched. */
static int open_directory(const char *path)
{
	struct statfs info;
	autoclose int where = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (where < 0 || fstatfs(where, &info) < 0 || info.f_type != BTRFS_SUPER_MAGIC)
		return -1;
	return openat(where, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool is_volume(int fd, const struct member *member)
{
	const char *uuid = json_string_value(json_object_get(member->volume, "SubvolumeUuid"));
	json_int_t id = json_integer_value(json_object_get(member->volume, "SubvolumeId"));
	struct subvolume found;
	char filesystem[ID_SIZE];

	return filesystem_uuid(fd, filesystem, NULL) == 0 && strcmp(filesystem, member->target->uuid) == 0 &&
	       subvolume_get(fd, &found, NULL) == 0 && found.id == (uint64_t)id &&
	       (!uuid || strcmp(uuid, found.uuid) == 0);
}

/* Where only a directory of the subvolume is mounted (a bind mount), its root is reached through the top level. */
static int open_source(struct member *member, struct err *err)
{
	const char *subvolume = json_string_value(json_object_get(member->volume, "Subvolume"));
	autoclose int source = open_directory(member->path);

	if (source < 0 || !is_volume(source, member))
		return volume_changed(member->path, err);
	if (!subvolume_is_root(source)) {
		cleanup_close(&source);
		source = open_beneath(member->target->top, subvolume && *subvolume ? subvolume : ".",
				      O_RDONLY | O_DIRECTORY);
		if (source < 0 || !subvolume_is_root(source) || !is_volume(source, member))
			return volume_changed(member->path, err);
	}
	member->source = steal_fd(source);
	return 0;
}

static int check_count(const struct preparation *p, const struct member *member, struct err *err)
{
	if (store_count(member->target->store, member->id, p->max_copies) < p->max_copies)
		return 0;
	return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
		       "%s has %u copies, as many as it may: delete some, or raise the limit", member->path,
		       p->max_copies);
}

static int parse_member(struct preparation *p, json_t *entry, struct err *err)
{
	struct member *member = &p->members[p->n_members++];
	const char *uuid;

	*member = (struct member){ .source = -1, .place = -1 };
	member->copy = request_id(entry, "Copy", err);
	member->volume = member->copy ? request_object(entry, "Volume", err) : NULL;
	if (!member->volume)
		return -1;
	member->id = request_string(member->volume, "Id", err);
	member->path = member->id ? request_string(member->volume, "Path", err) : NULL;
	uuid = member->path ? request_id(member->volume, "FsUuid", err) : NULL;
	member->target = uuid ? get_target(p, uuid, member->path, err) : NULL;
	return member->target ? 0 : -1;
}

static int make_place(struct preparation *p, struct member *member, struct err *err)
{
	struct mark mark;

	if (!mark_init(&mark, p->host, p->set, member->id))
		return err_set(
		    err, VSS_E_INVALID_ARGUMENT,
		    "\"Host\", \"Set\" or a volume's \"Id\" in the request to the btrfs worker is malformed");
	return place_create(member->target->store, member->copy, &mark, &member->place, err);
}

static int prepare_members(struct preparation *p, struct err *err)
{
	for (size_t i = 0; i < p->n_members; i++)
		if (open_source(&p->members[i], err) < 0 || check_count(p, &p->members[i], err) < 0)
			return -1;
	for (size_t i = 0; i < p->n_targets; i++)
		if (p->flush && filesystem_flush(p->targets[i].top, err) < 0)
			return -1;
	for (size_t i = 0; i < p->n_members; i++)
		if (make_place(p, &p->members[i], err) < 0)
			return -1;
	return 0;
}

static void remove_places(struct preparation *p)
{
	for (size_t i = 0; i < p->n_members; i++)
		if (p->members[i].place >= 0)
			place_remove(p->members[i].target->store, p->members[i].copy, p->host, NULL);
}

static int answer_members(struct preparation *p, json_t *answer, struct fd_list *answer_fds)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n_members; i++) {
		struct member *member = &p->members[i];
		int source = fd_list_add(answer_fds, steal_fd(member->source));
		int place = fd_list_add(answer_fds, steal_fd(member->place));
		json_array_append_new(
		    list, json_pack("{s:s, s:i, s:i}", "Copy", member->copy, "Source", source, "Store", place));
	}
	return json_object_set_new(answer, "Members", list);
}

static int parse(struct preparation *p, json_t *request, struct err *err)
{
	json_t *members = request_array(request, "Members", err), *entry;
	json_t *max_copies = json_object_get(request, "MaxCopies");
	size_t i;

	p->set = members ? request_id(request, "Set", err) : NULL;
	p->host = p->set ? request_string(request, "Host", err) : NULL;
	if (!p->host)
		return -1;
	if (json_array_size(members) > BTRFS_MEMBERS_MAX)
		return err_set(err, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
			       "A set may hold %u btrfs volumes, this one has %zu", BTRFS_MEMBERS_MAX,
			       json_array_size(members));
	p->max_copies =
	    json_integer_value(max_copies) > 0 ? (unsigned)json_integer_value(max_copies) : MAX_COPIES_DEFAULT;
	json_array_foreach (members, i, entry) {
		p->flush |= !json_is_false(json_object_get(entry, "Flush"));
		if (parse_member(p, entry, err) < 0)
			return -1;
	}
	return 0;
}

int btrfs_prepare(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		  struct err *err)
{
	cleanup(preparation_done) struct preparation p = { 0 };

	if (parse(&p, request, err) < 0)
		return -1;
	if (prepare_members(&p, err) < 0) {
		remove_places(&p);
		return -1;
	}
	if (answer_members(&p, answer, answer_fds) < 0)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the btrfs worker");
	return 0;
}
