/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/volume.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "coordinator/providers/device-use.h"
#include "coordinator/providers/volume-draft.h"

#define BTRFS_ROOT_INODE 256

static void draft_done(struct draft *draft)
{
	free(draft->subvolume.path);
	free(draft->base);
	free(draft->within);
	free(draft->root);
	layers_done(&draft->layers);
}

void volumes_done(struct volumes *volumes)
{
	for (size_t i = 0; i < volumes->n; i++) {
		free(volumes->list[i].base);
		free(volumes->list[i].within);
		json_decref(volumes->list[i].description);
	}
	free(volumes->list);
	mounts_done(&volumes->mounts);
	*volumes = (struct volumes){ 0 };
}

int place_open_directory(const struct place *place)
{
	char path[PATH_MAX];

	if (S_ISDIR(place->mode))
		return openat(place->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (S_ISREG(place->mode)) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", place->fd);
		return open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	snprintf(path, sizeof path, "%.*s/", (int)(strrchr(place->path, '/') - place->path), place->path);
	return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* a/b; either may be empty */
static char *join(const char *a, const char *b)
{
	char *joined;
	bool slash = *a && *b && a[strlen(a) - 1] != '/';

	return asprintf(&joined, "%s%s%s", a, slash ? "/" : "", b) < 0 ? NULL : joined;
}

static bool leads_to(const char *path, dev_t device, ino_t inode)
{
	struct stat info;
	autoclose int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 && fstat(fd, &info) == 0 && info.st_dev == device && (inode == 0 || info.st_ino == inode);
}

/* The volume's root by way of another mount of the filesystem, for a bind mount that shows only a part of it. */
static char *root_elsewhere(const struct mounts *mounts, const struct draft *draft, const char *subvolume, ino_t inode)
{
	for (size_t i = 0; i < mounts->n; i++) {
		const struct mount *mount = &mounts->list[i];
		const char *below = path_below(subvolume, mount->root);
		if (mount->device != draft->mount->device || !below || !mounts_is_visible(mounts, mount))
			continue;
		autofree char *path = join(mount->target, below);
		if (path && leads_to(path, draft->place->device, inode))
			return steal_pointer(path);
	}
	return NULL;
}

/* Base, within and root. subvolume is the volume's root as the mounts count it, from the filesystem's own root: "/",
 * or "/path/of/subvolume". */
static int locate(const struct mounts *mounts, struct draft *draft, const char *subvolume, ino_t inode, struct err *err)
{
	const char *nested = path_below(subvolume, draft->mount->root);
	const char *part = path_below(draft->mount->root, subvolume);

	draft->base = nested ? join(draft->mount->target, nested) : strdup(draft->mount->target);
	draft->within = strdup(nested || !part ? "" : part);
	if (!draft->base || !draft->within)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the volumes worker");
	if (*draft->within)
		draft->root = root_elsewhere(mounts, draft, subvolume, inode);
	if (!draft->root)
		draft->root = strdup(draft->base);
	return draft->root ? 0 : err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the volumes worker");
}

static int draft_btrfs(const struct mounts *mounts, struct draft *draft, int directory, struct err *err)
{
	if (subvolume_locate(directory, &draft->subvolume, err) < 0)
		return -1;
	autofree char *absolute = join("/", draft->subvolume.path);
	if (!absolute)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the volumes worker");
	snprintf(draft->id, sizeof draft->id, "btrfs:%s:%llu", draft->uuid, (unsigned long long)draft->subvolume.id);
	return locate(mounts, draft, absolute, BTRFS_ROOT_INODE, err);
}

/* A logical volume is known by LVM's own ids, which go with it to other machines. */
static void identify(struct draft *draft)
{
	dev_t number;

	draft->on_lv = logical_volume_beneath(draft->top, &number) && logical_volume_read(number, &draft->lv);
	draft->encrypted = draft->on_lv && number != draft->top;
	if (draft->on_lv)
		snprintf(draft->id, sizeof draft->id, "lvm:%s:%s", draft->lv.vg_uuid, draft->lv.lv_uuid);
	else
		snprintf(draft->id, sizeof draft->id, "dev:%u:%u:%s", major(draft->top), minor(draft->top), draft->uuid);
}

static int draft_plain(const struct mounts *mounts, struct draft *draft, struct err *err)
{
	draft->top = draft->mount->device;
	identify(draft);
	return locate(mounts, draft, "/", 0, err);
}

static int draft_mounted(const struct mounts *mounts, struct draft *draft, struct err *err)
{
	autoclose int directory = place_open_directory(draft->place);

	if (directory < 0 && draft->mount->class == MOUNT_LOCAL)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot open %.400s", draft->place->path);
	snprintf(draft->type, sizeof draft->type, "%s", draft->mount->type);
	filesystem_identity(directory, draft->mount, draft->uuid, draft->label);
	filesystem_layers(&draft->layers, draft->mount, draft->uuid);
	if (WITH_BTRFS && strcmp(draft->mount->type, "btrfs") == 0)
		return draft_btrfs(mounts, draft, directory, err);
	return draft_plain(mounts, draft, err);
}

/* The name under which people know a logical volume, whichever name was given. */
static char *device_name(const struct draft *draft)
{
	char *name = NULL;
	struct stat info;

	if (draft->on_lv && asprintf(&name, "/dev/%s/%s", draft->lv.vg, draft->lv.lv) > 0) {
		if (stat(name, &info) == 0 && info.st_rdev == draft->lv.number)
			return name;
		free(name);
		name = NULL;
	}
	if (draft->on_lv && asprintf(&name, "/dev/mapper/%s", draft->lv.dm_name) > 0) {
		if (stat(name, &info) == 0 && info.st_rdev == draft->lv.number)
			return name;
		free(name);
	}
	return strdup(draft->place->path);
}

static int draft_unmounted(struct draft *draft, struct err *err)
{
	struct device_content content;
	char path[DEVICE_PATH_SIZE];

	draft->top = draft->place->block;
	layers_add(&draft->layers, draft->top);
	if (device_path(draft->top, path)) {
		device_probe(path, &content);
		snprintf(draft->type, sizeof draft->type, "%s", content.type);
		snprintf(draft->uuid, sizeof draft->uuid, "%s", content.uuid);
		snprintf(draft->label, sizeof draft->label, "%s", content.label);
	}
	identify(draft);
	draft->base = strdup(draft->place->path);
	draft->within = strdup("");
	draft->root = device_name(draft);
	if (!draft->base || !draft->within || !draft->root)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory in the volumes worker");
	return 0;
}

/* Describing a volume on a loop device describes what holds its image first: the list may have grown. */
static const struct volume *keep(struct volumes *volumes, struct draft *draft, struct err *err)
{
	json_t *description = draft_describe(volumes, draft);
	struct volume *grown = description ? realloc(volumes->list, (volumes->n + 1) * sizeof *grown) : NULL;

	if (!grown) {
		json_decref(description);
		err_set(err, VSS_E_UNEXPECTED, "Cannot describe %.400s: its path is not UTF-8, or memory is short",
			draft->place->path);
		return NULL;
	}
	volumes->list = grown;
	struct volume *volume = &grown[volumes->n++];
	*volume = (struct volume){
		.device = draft->mount ? draft->place->device : draft->top,
		.mount = draft->mount,
		.base = steal_pointer(draft->base),
		.within = steal_pointer(draft->within),
		.description = description,
		.id = json_string_value(json_object_get(description, "Id")),
		.root = json_string_value(json_object_get(description, "Path")),
	};
	return volume;
}

static const struct volume *known(const struct volumes *volumes, dev_t device, const struct mount *mount)
{
	for (size_t i = 0; i < volumes->n; i++)
		if (volumes->list[i].device == device && volumes->list[i].mount == mount)
			return &volumes->list[i];
	return NULL;
}

const struct volume *volume_of(struct volumes *volumes, const struct place *place, struct err *err)
{
	const struct volume *volume = known(volumes, place->device, place->mount);
	cleanup(draft_done) struct draft draft = { .place = place, .mount = place->mount };

	if (volume)
		return volume;
	if (draft_mounted(&volumes->mounts, &draft, err) < 0)
		return NULL;
	return keep(volumes, &draft, err);
}

/* The volume of which mount shows the root, or a part where no other mount shows more. */
static const struct volume *volume_of_mount(struct volumes *volumes, const struct mount *mount, struct err *err)
{
	struct place place = { .fd = -1 };
	const struct volume *volume = NULL;

	if (place_find(&volumes->mounts, mount->target, false, &place, err) == 0)
		volume = volume_of(volumes, &place, err);
	place_done(&place);
	return volume;
}

const struct volume *volume_on_device(struct volumes *volumes, const struct place *place, struct err *err)
{
	const struct volume *volume = known(volumes, place->block, NULL);
	const struct mount *mount = volume ? NULL : device_mount(&volumes->mounts, place->block);
	cleanup(draft_done) struct draft draft = { .place = place };

	if (volume)
		return volume;
	if (mount)
		return volume_of_mount(volumes, mount, err);
	if (draft_unmounted(&draft, err) < 0)
		return NULL;
	return keep(volumes, &draft, err);
}
