/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/volumes.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/device-use.h"
#include "coordinator/providers/logical-volume.h"
#include "coordinator/providers/namespaces.h"
#include "coordinator/providers/request.h"
#include "coordinator/providers/subvolumes.h"
#include "coordinator/providers/volume.h"

struct below {
	const struct volume *volume;
	json_t *list;
	const char *uuid;
};

static void add_subvolume(const char *path, uint64_t id, void *data)
{
	struct below *below = data;
	const char *root = below->volume->root;
	char volume_id[VOLUME_ID_SIZE];

	if (path_below(path, VSS_STORE_DIR))
		return; /* copies */
	snprintf(volume_id, sizeof volume_id, "btrfs:%s:%llu", below->uuid, (unsigned long long)id);
	json_t *full = json_sprintf("%s%s%s", root, root[1] ? "/" : "", path);
	if (full)
		json_array_append_new(below->list, json_pack("{s:o, s:s, s:s, s:s}", "Path", full, "Kind", "subvolume",
							     "Type", "btrfs", "Id", volume_id));
}

/* A mount's own volume id is worth having where asking is safe. */
static void add_mount(struct volumes *volumes, const struct mount *mount, json_t *list)
{
	json_t *entry = json_pack("{s:s, s:s, s:s}", "Path", mount->target, "Kind", "mount", "Type", mount->type);
	struct place place = { .fd = -1 };
	struct err err = { 0 };
	const struct volume *volume;

	if (!entry)
		return;
	json_array_append_new(list, entry);
	if (mount->class != MOUNT_LOCAL)
		return;
	if (place_find(&volumes->mounts, mount->target, false, &place, &err) == 0 && place.mount == mount) {
		volume = volume_of(volumes, &place, &err);
		if (volume)
			json_object_set_new(entry, "Id", json_string(volume->id));
	}
	place_done(&place);
}

static int add_nested(const struct volume *volume, json_t *list, struct err *err)
{
	struct below below = {
		.volume = volume,
		.list = list,
		.uuid = json_string_value(json_object_get(volume->description, "FsUuid")),
	};
	autoclose int root = open(volume->root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (root < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot open %.400s", volume->root);
	return subvolume_for_each_nested(root, add_subvolume, &below, err);
}

/* What lies below the volume's root and is not part of it. */
static json_t *find_below(struct volumes *volumes, const struct volume *volume, struct err *err)
{
	autojson json_t *list = json_array();
	autofree char *root = strdup(volume->root); /* describing another volume moves this one */

	if (*volume->within == '\0' && json_object_get(volume->description, "SubvolumeId") &&
	    add_nested(volume, list, err) < 0)
		return NULL;
	for (size_t i = 0; root && i < volumes->mounts.n; i++) {
		const struct mount *mount = &volumes->mounts.list[i];
		const char *below = path_below(mount->target, root);
		if (below && *below && mounts_is_visible(&volumes->mounts, mount))
			add_mount(volumes, mount, list);
	}
	return json_incref(list);
}

struct namespace_count {
	char device[40];
	unsigned n;
};

static bool count_namespace(pid_t pid, const char *mountinfo, void *data)
{
	struct namespace_count *count = data;

	count->n += strstr(mountinfo, count->device) != NULL;
	return true;
}

/* Looks at every process of the machine: too dear for a volume that is only to be copied. */
static unsigned count_namespaces(dev_t device)
{
	struct namespace_count count = { .n = 0 };

	snprintf(count.device, sizeof count.device, " %u:%u ", major(device), minor(device));
	namespaces_for_each(count_namespace, &count);
	return count.n;
}

/* The volume's description, or its id alone, with what is only true of the path asked for. */
static json_t *answer_for(const struct volume *volume, const struct place *place, const char *given, bool brief)
{
	autojson json_t *answer = brief ? json_pack("{s:s}", "Id", volume->id) : json_copy(volume->description);
	const char *below = place->block ? "" : path_below(place->path, volume->base);
	const char *parts[] = { volume->within, below ? below : "", place->missing };
	char relative[3 * PATH_MAX] = "";
	size_t used = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (*parts[i])
			used += (size_t)snprintf(relative + used, sizeof relative - used, "%s%s", used ? "/" : "",
						 parts[i]);
	if (json_object_set_new(answer, "Given", json_string(given)) < 0 ||
	    json_object_set_new(answer, "Relative", json_string(relative)) < 0)
		return NULL;
	if (*place->missing)
		json_object_set_new(answer, "Absent", json_true());
	return json_incref(answer);
}

static int add_below(struct volumes *volumes, const struct volume *volume, json_t *answer, struct err *err)
{
	json_t *below = find_below(volumes, volume, err);

	return below ? json_object_set_new(answer, "Below", below) : -1;
}

struct resolution {
	json_t *request;
	const struct fd_list *fds;
	bool below, missing, brief;
};

static int find_place(const struct resolution *resolution, const struct mounts *mounts, json_t *path,
		      struct place *place, struct err *err)
{
	json_int_t index = json_integer_value(path);

	if (json_is_string(path))
		return place_find(mounts, json_string_value(path), resolution->missing, place, err);
	if (!json_is_integer(path) || index < 0 || (size_t)index >= resolution->fds->n)
		return err_set(
		    err, VSS_E_INVALID_ARGUMENT,
		    "A path in the request to the volumes worker is neither a string nor one of its %zu descriptors",
		    resolution->fds->n);
	return place_find_fd(mounts, resolution->fds->fds[index], place, err);
}

static bool is_listed(const json_t *list, const char *id)
{
	const json_t *volume;
	size_t i;

	json_array_foreach(list, i, volume)
	{
		const char *known = json_string_value(json_object_get(volume, "Id"));
		if (known && strcmp(known, id) == 0)
			return true;
	}
	return false;
}

/* The volumes described so far in this answer are all in memory: the first to be met is described in full. */
static bool is_described(struct volumes *volumes, const struct volume *volume)
{
	bool described = volume->described;

	for (size_t i = 0; i < volumes->n; i++)
		if (strcmp(volumes->list[i].id, volume->id) == 0)
			volumes->list[i].described = true;
	return described;
}

static json_t *resolve_one(const struct resolution *resolution, struct volumes *volumes, json_t *path, struct err *err)
{
	struct place place = { .fd = -1 };
	const struct volume *volume = NULL;
	autojson json_t *answer = NULL;

	if (find_place(resolution, &volumes->mounts, path, &place, err) == 0)
		volume = place.block ? volume_on_device(volumes, &place, err) : volume_of(volumes, &place, err);
	if (volume) {
		answer = answer_for(volume, &place, json_is_string(path) ? json_string_value(path) : place.path,
				    is_described(volumes, volume) && resolution->brief);
		if (!answer)
			err_set(err, VSS_E_INVALID_ARGUMENT, "The path is not UTF-8: vssd cannot name it");
		else if (resolution->below && add_below(volumes, volume, answer, err) < 0)
			json_object_clear(answer);
	}
	place_done(&place);
	return answer && json_object_size(answer) > 0 ? json_incref(answer) : NULL;
}

static json_t *refusal(json_t *path, const struct err *err)
{
	return json_pack("{s:s, s:{s:s, s:s}}", "Path", json_is_string(path) ? json_string_value(path) : "", "Error",
			 "Name", error_name(err->code), "Text", err->text);
}

static int op_resolve(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		      struct err *err)
{
	struct resolution resolution = {
		.request = request,
		.fds = fds,
		.below = request_flag(request, "Below"),
		.missing = request_flag(request, "Missing"),
		.brief = request_flag(request, "Brief") && !request_flag(request, "Below"),
	};
	json_t *paths = request_array(request, "Paths", err), *path, *list = json_array();
	cleanup(volumes_done) struct volumes volumes = { 0 };
	size_t i;

	json_object_set_new(answer, "Volumes", list);
	if (!paths || mounts_load(&volumes.mounts, err) < 0)
		return -1;
	json_array_foreach(paths, i, path)
	{
		struct err why = { 0 };
		json_t *volume = resolve_one(&resolution, &volumes, path, &why);
		if (json_array_append_new(list, volume ? volume : refusal(path, &why)) < 0)
			return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the volumes worker");
	}
	return 0;
}

/* whole: only mounts that show a volume from its root on; the others are for volumes that no such mount shows. */
static void list_mount(struct volumes *volumes, const struct mount *mount, bool whole, json_t *list)
{
	struct place place = { .fd = -1 };
	struct err err = { 0 };
	const struct volume *volume = NULL;

	if (place_find(&volumes->mounts, mount->target, false, &place, &err) == 0)
		volume = volume_of(volumes, &place, &err);
	if (volume && (!whole || *volume->within == '\0') && !is_listed(list, volume->id)) {
		json_t *answer = answer_for(volume, &place, volume->root, false);
		unsigned n = count_namespaces(mount->device);
		if (n > 0)
			json_object_set_new(answer, "Namespaces", json_integer(n));
		json_array_append_new(list, answer);
	}
	place_done(&place);
}

/* Storage of this machine: a block device, or a filesystem that manages devices itself. */
static bool is_storage(const struct mount *mount)
{
	return mount->class == MOUNT_LOCAL && (major(mount->device) != 0 || strncmp(mount->source, "/dev/", 5) == 0 ||
					       strcmp(mount->type, "zfs") == 0 || strcmp(mount->type, "bcachefs") == 0);
}

struct listing {
	struct volumes *volumes;
	json_t *list;
};

/* A logical volume that no mount shows. Snapshots and parts of others are not what people look for here. */
static void list_device(dev_t number, void *data)
{
	struct listing *listing = data;
	struct logical_volume lv;
	struct place place = { .fd = -1 };
	struct err err = { 0 };
	char path[DEVICE_PATH_SIZE];

	if (!logical_volume_read(number, &lv) || lv.is_part || lv.is_snapshot || !device_path(number, path) ||
	    place_find(&listing->volumes->mounts, path, false, &place, &err) < 0 || place.block != number) {
		place_done(&place);
		return;
	}
	const struct volume *volume = volume_on_device(listing->volumes, &place, &err);
	if (volume && !is_listed(listing->list, volume->id))
		json_array_append_new(listing->list, answer_for(volume, &place, volume->root, false));
	place_done(&place);
}

/* A btrfs subvolume that no mount shows by itself, by way of one that shows what it lies in. */
static bool list_subvolume(struct volumes *volumes, const struct mount *mount, const char *id, uint64_t number, json_t *list)
{
	struct place place = { .fd = -1 };
	const struct volume *volume = NULL;
	struct err err = { 0 };
	char absolute[PATH_MAX], path[2 * PATH_MAX];
	autoclose int directory = open(mount->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autofree char *subvolume = directory < 0 ? NULL : subvolume_path(directory, number);

	snprintf(absolute, sizeof absolute, "/%s", subvolume ? subvolume : "");
	const char *below = subvolume ? path_below(absolute, mount->root) : NULL;
	if (!below || !*below)
		return false;
	snprintf(path, sizeof path, "%s/%s", strcmp(mount->target, "/") == 0 ? "" : mount->target, below);
	if (place_find(&volumes->mounts, path, false, &place, &err) == 0)
		volume = volume_of(volumes, &place, &err);
	bool found = volume && strcmp(volume->id, id) == 0;
	if (found)
		json_array_append_new(list, answer_for(volume, &place, volume->root, false));
	place_done(&place);
	return found;
}

static void list_wanted(struct volumes *volumes, const char *id, json_t *list)
{
	const char *number = strncmp(id, "btrfs:", 6) == 0 ? strchr(id + 6, ':') : NULL;
	bool found = !number || is_listed(list, id);

	for (size_t i = 0; i < volumes->mounts.n && !found; i++) {
		const struct mount *mount = &volumes->mounts.list[i];
		if (strcmp(mount->type, "btrfs") == 0 && mounts_is_visible(&volumes->mounts, mount))
			found = list_subvolume(volumes, mount, id, strtoull(number + 1, NULL, 10), list);
	}
}

static int op_list(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		   struct err *err)
{
	cleanup(volumes_done) struct volumes volumes = { 0 };
	json_t *list = json_array();

	json_object_set_new(answer, "Volumes", list);
	if (mounts_load(&volumes.mounts, err) < 0)
		return -1;
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < volumes.mounts.n; i++) {
			const struct mount *mount = &volumes.mounts.list[i];
			if (is_storage(mount) && mounts_is_visible(&volumes.mounts, mount))
				list_mount(&volumes, mount, pass == 0, list);
		}
	}
	sysfs_for_each_block("dm-", list_device, &(struct listing){ &volumes, list });
	list_wanted(&volumes, json_string_value(json_object_get(request, "Wanted")) ?: "", list);
	return 0;
}

/* What a session froze its writers for must still be there, and nothing else. */
static int open_root(struct volumes *volumes, json_t *wanted, struct err *err)
{
	const char *path = request_string(wanted, "Path", err), *id = request_string(wanted, "Id", err);
	struct place place = { .fd = -1 };
	const struct volume *volume = NULL;
	int fd = -1;

	if (!path || !id)
		return -1;
	if (place_find(&volumes->mounts, path, false, &place, err) == 0 && !place.block)
		volume = volume_of(volumes, &place, err);
	if (volume && strcmp(volume->id, id) != 0)
		err_set(err, VSS_E_OBJECT_NOT_FOUND, "%s is another volume than before: it was unmounted or replaced", path);
	else if (volume && ((fd = place_open_directory(&place)) < 0 || syncfs(fd) < 0))
		err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "%s cannot be opened and written out", path);
	else if (!volume && !err->code)
		err_set(err, VSS_E_OBJECT_NOT_FOUND, "%s is not mounted", path);
	place_done(&place);
	if (err->code && fd >= 0)
		close(steal_fd(fd));
	return fd;
}

static int op_roots(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		    struct err *err)
{
	json_t *wanted = request_array(request, "Volumes", err), *volume, *list = json_array();
	cleanup(volumes_done) struct volumes volumes = { 0 };
	size_t i;

	json_object_set_new(answer, "Roots", list);
	if (!wanted || mounts_load(&volumes.mounts, err) < 0)
		return -1;
	json_array_foreach(wanted, i, volume)
	{
		int fd = open_root(&volumes, volume, err);
		int index = fd < 0 ? -1 : fd_list_add(answer_fds, fd);
		if (index < 0)
			return err->code ? -1 : err_set(err, VSS_E_LIMITS_EXCEEDED, "Too many volumes for one request");
		json_array_append_new(list, json_pack("{si}", "Fd", index));
	}
	return 0;
}

const struct provider_op volumes_ops[] = {
	{ "roots", op_roots },
	{ "resolve", op_resolve },
	{ "list", op_list },
	{ NULL, NULL },
};
