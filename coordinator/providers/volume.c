/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/volume.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "coordinator/providers/subvolumes.h"

#ifdef HAVE_BTRFS
#define WITH_BTRFS true
#else
#define WITH_BTRFS false
#endif

#define BTRFS_ROOT_INODE 256
#define BACKING_DEPTH_MAX 8 /* an image in an image in an image ... */

/* What is learnt of one volume before it is written down. */
struct draft {
	const struct place *place;
	const struct mount *mount;
	char id[VOLUME_ID_SIZE];
	char uuid[FS_UUID_SIZE], label[FS_LABEL_SIZE];
	struct subvolume_place subvolume; /* btrfs only */
	char *base, *within, *root;
	struct layers layers;
};

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

static int draft_plain(const struct mounts *mounts, struct draft *draft, struct err *err)
{
	snprintf(draft->id, sizeof draft->id, "dev:%u:%u:%s", major(draft->mount->device), minor(draft->mount->device),
		 draft->uuid);
	return locate(mounts, draft, "/", 0, err);
}

static bool has_lvm(const struct layers *layers)
{
	for (size_t i = 0; i < layers->n; i++)
		if (layers->list[i].is_lvm)
			return true;
	return false;
}

/* Why no provider takes the volume, and what would help; NULL when btrfs does. */
static json_t *why_not(const struct draft *draft)
{
	const struct mount *mount = draft->mount;

	if (strcmp(mount->type, "btrfs") == 0 && !WITH_BTRFS)
		return json_sprintf("%s is btrfs, and this vssd was built without the provider for it", mount->target);
	if (strcmp(mount->type, "btrfs") == 0)
		return mount->read_only ? json_sprintf("%s is mounted read-only: nothing can be kept on it. Remount it "
						       "read-write, or back it up as it is, since nothing changes it",
						       mount->target)
					: NULL;
	if (strcmp(mount->type, "tmpfs") == 0 || strcmp(mount->type, "ramfs") == 0)
		return json_sprintf(
		    "%s lies in memory (%s) and is gone at the next start; keep what is to be backed up on "
		    "a disk",
		    mount->target, mount->type);
	if (strcmp(mount->type, "overlay") == 0)
		return json_sprintf("%s is an overlay, whose files lie on other volumes: name the volume of its upper "
				    "directory instead",
				    mount->target);
	if (mount->class == MOUNT_KERNEL)
		return json_sprintf("%s is a view of the kernel's (%s), there is nothing to copy", mount->target,
				    mount->type);
	if (has_lvm(&draft->layers))
		return json_sprintf("%s (%s) lies on a logical volume, and no provider for LVM is installed yet",
				    mount->target, mount->type);
	return json_sprintf(
	    "%s is %s on a plain disk or partition, of which no copy can be made at one instant; on btrfs or "
	    "a logical volume it could",
	    mount->target, mount->type);
}

static void add_domain(json_t *domains, const char *domain)
{
	const json_t *known;
	size_t i;

	json_array_foreach(domains, i, known) if (strcmp(json_string_value(known), domain) == 0) return;
	json_array_append_new(domains, json_string(domain));
}

static void add_domains(const struct mounts *mounts, json_t *domains, const char *uuid, const struct layers *layers,
			unsigned depth);

/* The filesystem that holds a loop device's image is shared with whatever else lies on it. */
static void add_backing(const struct mounts *mounts, json_t *domains, const char *path, unsigned depth)
{
	struct place place;
	struct err err = { 0 };
	char uuid[FS_UUID_SIZE], label[FS_LABEL_SIZE];
	struct layers layers = { 0 };

	if (place_find(mounts, path, true, &place, &err) == 0) {
		autoclose int directory = place_open_directory(&place);
		filesystem_identity(directory, place.mount, uuid, label);
		filesystem_layers(&layers, place.mount, uuid);
		add_domains(mounts, domains, uuid, &layers, depth + 1);
		layers_done(&layers);
	}
	place_done(&place);
}

static void add_domains(const struct mounts *mounts, json_t *domains, const char *uuid, const struct layers *layers,
			unsigned depth)
{
	char text[FS_UUID_SIZE + 8];

	if (*uuid) {
		snprintf(text, sizeof text, "fs:%s", uuid);
		add_domain(domains, text);
	}
	for (size_t i = 0; i < layers->n; i++) {
		const struct layer *layer = &layers->list[i];
		snprintf(text, sizeof text, "dev:%u:%u", major(layer->number), minor(layer->number));
		add_domain(domains, text);
		if (layer->backing && depth < BACKING_DEPTH_MAX)
			add_backing(mounts, domains, layer->backing, depth);
	}
}

static json_t *describe_layers(const struct layers *layers)
{
	json_t *list = json_array();
	char number[32];

	for (size_t i = 0; i < layers->n; i++) {
		const struct layer *layer = &layers->list[i];
		snprintf(number, sizeof number, "%u:%u", major(layer->number), minor(layer->number));
		json_t *entry =
		    json_pack("{s:s, s:s, s:s}", "Device", layer->name, "Number", number, "Kind", layer->kind);
		if (layer->backing)
			json_object_set_new(entry, "Backing", json_string(layer->backing));
		json_array_append_new(list, entry);
	}
	return list;
}

static json_t *describe(const struct mounts *mounts, const struct draft *draft)
{
	const struct mount *mount = draft->mount;
	json_t *domains = json_array(), *why = why_not(draft), *volume;

	add_domains(mounts, domains, draft->uuid, &draft->layers, 0);
	volume = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:o, s:o}", "Id", draft->id, "Path", draft->root,
			   "Type", mount->type, "FsUuid", draft->uuid, "Device", mount->source, "MountPoint",
			   mount->target, "ReadOnly", mount->read_only, "Provider", why ? "" : "btrfs", "Domains",
			   domains, "Layers", describe_layers(&draft->layers));
	if (!volume) {
		json_decref(why);
		return NULL;
	}
	if (why)
		json_object_set_new(volume, "Why", why);
	if (*draft->label)
		json_object_set_new(volume, "Label", json_string(draft->label));
	if (draft->subvolume.path) {
		json_object_set_new(volume, "SubvolumeId", json_integer((json_int_t)draft->subvolume.id));
		json_object_set_new(volume, "Subvolume", json_string(draft->subvolume.path));
		json_object_set_new(volume, "SubvolumeUuid", json_string(draft->subvolume.uuid));
	}
	return volume;
}

static int draft_volume(const struct mounts *mounts, struct draft *draft, struct err *err)
{
	autoclose int directory = place_open_directory(draft->place);

	if (directory < 0 && draft->mount->class == MOUNT_LOCAL)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot open %.400s", draft->place->path);
	filesystem_identity(directory, draft->mount, draft->uuid, draft->label);
	filesystem_layers(&draft->layers, draft->mount, draft->uuid);
	if (WITH_BTRFS && strcmp(draft->mount->type, "btrfs") == 0)
		return draft_btrfs(mounts, draft, directory, err);
	return draft_plain(mounts, draft, err);
}

static const struct volume *keep(struct volumes *volumes, struct draft *draft, struct err *err)
{
	json_t *description = describe(&volumes->mounts, draft);
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
		.device = draft->place->device,
		.mount = draft->mount,
		.base = steal_pointer(draft->base),
		.within = steal_pointer(draft->within),
		.description = description,
		.id = json_string_value(json_object_get(description, "Id")),
		.root = json_string_value(json_object_get(description, "Path")),
	};
	return volume;
}

const struct volume *volume_of(struct volumes *volumes, const struct place *place, struct err *err)
{
	for (size_t i = 0; i < volumes->n; i++)
		if (volumes->list[i].device == place->device && volumes->list[i].mount == place->mount)
			return &volumes->list[i];
	cleanup(draft_done) struct draft draft = { .place = place, .mount = place->mount };
	if (draft_volume(&volumes->mounts, &draft, err) < 0)
		return NULL;
	return keep(volumes, &draft, err);
}
