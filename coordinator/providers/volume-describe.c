/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes down what was learnt of a volume. */
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "coordinator/providers/device-use.h"
#include "coordinator/providers/volume-draft.h"

#define IMAGE_DEPTH_MAX 8u /* an image in an image in an image ... */

static json_t *number_text(dev_t number)
{
	return json_sprintf("%u:%u", major(number), minor(number));
}

static void add_domain(json_t *domains, json_t *domain)
{
	const json_t *known;
	size_t i;

	if (!domains) {
		json_decref(domain);
		return;
	}
	json_array_foreach(domains, i, known)
	{
		if (json_equal(known, domain)) {
			json_decref(domain);
			return;
		}
	}
	json_array_append_new(domains, domain);
}

/* ---- the disks beneath ---- */

/* The kernel's word on what a loop device is made of: the name may be another machine's by now, or another file's. */
struct backing {
	dev_t device, block; /* the file's device as stat tells it; the block device, where that is no file */
	ino_t inode;
};

/* As LOOP_GET_STATUS64 packs them. */
static dev_t unpack_device(uint64_t packed)
{
	return makedev((packed & 0xfff00) >> 8, (packed & 0xff) | (packed >> 12 & 0xfff00));
}

static bool read_backing(const struct layer *loop, struct backing *ret)
{
	struct loop_info64 info;
	char path[DEVICE_PATH_SIZE];
	autoclose int fd = device_path(loop->number, path) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
		return false;
	*ret = (struct backing){ unpack_device(info.lo_device), unpack_device(info.lo_rdevice), info.lo_inode };
	return true;
}

static bool is_backing(const struct backing *backing, const struct place *place)
{
	return place->block ? place->block == backing->block :
			      place->device == backing->device && place->inode == backing->inode;
}

/* A file that has no name here, deleted or seen from another mount namespace, still lies on a filesystem that may be mounted
 * here. Of btrfs the root of the subvolume has to be. */
static const struct volume *volume_with_device(struct volumes *volumes, dev_t device)
{
	for (size_t i = 0; i < volumes->mounts.n; i++) {
		const struct mount *mount = &volumes->mounts.list[i];
		struct place place = { .fd = -1 };
		const struct volume *found = NULL;
		struct err err = { 0 };
		if (mount->class == MOUNT_FOREIGN || (mount->device != device && strcmp(mount->type, "btrfs") != 0))
			continue;
		if (place_find(&volumes->mounts, mount->target, false, &place, &err) == 0 && place.device == device)
			found = volume_of(volumes, &place, &err);
		place_done(&place);
		if (found)
			return found;
	}
	return NULL;
}

/* Where the kernel cannot be asked the name is believed. */
static const struct volume *find_holder(struct volumes *volumes, const struct layer *loop)
{
	struct backing backing = { .block = 0 };
	bool told = read_backing(loop, &backing);
	struct place place = { .fd = -1 };
	struct err err = { 0 };
	const struct volume *holder = NULL;

	if (place_find(&volumes->mounts, loop->backing, false, &place, &err) == 0 &&
	    (!told || is_backing(&backing, &place)))
		holder = place.block ? volume_on_device(volumes, &place, &err) : volume_of(volumes, &place, &err);
	else if (told && !backing.block)
		holder = volume_with_device(volumes, backing.device);
	place_done(&place);
	return holder;
}

/* It has disks that are known, or lies in memory. The files of an overlay lie on other volumes, of which it does not tell
 * reliably; ZFS and the like have devices that are not seen here. */
static bool is_seen_through(const struct volume *holder)
{
	const char *type = json_string_value(json_object_get(holder->description, "Type"));

	return json_array_size(json_object_get(holder->description, "Disks")) > 0 ||
	       (mount_class_of(type) == MOUNT_KERNEL && strcmp(type, "overlay") != 0);
}

static void add_images_below(json_t *disk, const struct volume *holder)
{
	json_t *value;
	size_t i;

	json_array_foreach(json_object_get(holder->description, "Disks"), i, value)
	{
		if (json_is_true(json_object_get(value, "Virtual")))
			json_object_set_new(disk, "Nested", json_true());
		if (json_is_true(json_object_get(value, "Unknown")))
			json_object_set_new(disk, "Unknown", json_true());
		json_array_extend(json_object_get(disk, "Images"), json_object_get(value, "Images"));
	}
}

/* What holds the image, with all that holds images further down; false when that cannot be told. */
static bool add_image(struct volumes *volumes, const struct layer *loop, json_t *disk, json_t *domains)
{
	const struct volume *holder = NULL;
	json_t *value;
	size_t i;

	if (volumes->depth >= IMAGE_DEPTH_MAX)
		return false;
	volumes->depth++;
	holder = find_holder(volumes, loop);
	volumes->depth--;
	if (!holder)
		return false;
	json_array_append_new(json_object_get(disk, "Images"),
			      json_pack("{ss ss sO sO}", "Path", loop->backing, "Volume", holder->id, "VolumePath",
					json_object_get(holder->description, "Path"), "FsUuid",
					json_object_get(holder->description, "FsUuid")));
	json_array_foreach(json_object_get(holder->description, "Domains"), i, value)
		add_domain(domains, json_incref(value));
	add_images_below(disk, holder);
	return is_seen_through(holder);
}

static json_t *describe_disk(struct volumes *volumes, const struct layer *layer, json_t *domains)
{
	bool is_virtual = layer_is_virtual(layer);
	struct err ignored = { 0 };
	json_t *disk = json_pack("{ss so ss sb}", "Device", layer->name, "Number", number_text(layer->number), "Kind",
				 layer->kind, "Virtual", is_virtual);

	if (!disk || !is_virtual)
		return disk;
	json_object_set_new(disk, "Images", json_array());
	if (!volumes->mounts.table)
		mounts_load(&volumes->mounts, &ignored);
	/* Of a network block device nothing on this side tells what its server keeps it in. */
	if (!layer->backing || !add_image(volumes, layer, disk, domains))
		json_object_set_new(disk, "Unknown", json_true());
	return disk;
}

json_t *volumes_describe_disks(struct volumes *volumes, const struct layers *layers, json_t *domains)
{
	json_t *disks = json_array();

	for (size_t i = 0; i < layers->n; i++)
		if (layers->list[i].is_leaf)
			json_array_append_new(disks, describe_disk(volumes, &layers->list[i], domains));
	return disks;
}

static json_t *describe_layers(const struct layers *layers)
{
	json_t *list = json_array();

	for (size_t i = 0; i < layers->n; i++) {
		const struct layer *layer = &layers->list[i];
		json_t *entry = json_pack("{s:s, s:o, s:s}", "Device", layer->name, "Number", number_text(layer->number),
					  "Kind", layer->kind);
		if (layer->backing)
			json_object_set_new(entry, "Backing", json_string(layer->backing));
		json_array_append_new(list, entry);
	}
	return list;
}

/* ---- what sets queue on ---- */

static json_t *describe_domains(const struct draft *draft)
{
	json_t *domains = json_array();

	if (*draft->uuid)
		add_domain(domains, json_sprintf("fs:%s", draft->uuid));
	for (size_t i = 0; i < draft->layers.n; i++) {
		dev_t number = draft->layers.list[i].number;
		add_domain(domains, json_sprintf("dev:%u:%u", major(number), minor(number)));
	}
	if (draft->on_lv)
		add_domain(domains, json_sprintf("vg:%s", draft->lv.vg_uuid));
	if (draft->on_lv && *draft->lv.pool_uuid)
		add_domain(domains, json_sprintf("pool:%s", draft->lv.pool_uuid));
	return domains;
}

/* ---- logical volumes ---- */

static json_t *describe_pvs(const struct logical_volume *lv)
{
	json_t *pvs = json_array();
	char path[DEVICE_PATH_SIZE];

	for (size_t i = 0; i < lv->n_pvs; i++) {
		device_path(lv->pvs[i], path);
		json_array_append_new(pvs, json_pack("{ss so}", "Device", path, "Number", number_text(lv->pvs[i])));
	}
	return pvs;
}

static void add_top(json_t *volume, const struct draft *draft)
{
	char name[DM_NAME_SIZE] = "", uuid[DM_UUID_SIZE] = "";
	autoclose int device = sysfs_open(draft->top, NULL, 0);

	if (device < 0)
		return;
	sysfs_read(device, "dm/name", name, sizeof name);
	sysfs_read(device, "dm/uuid", uuid, sizeof uuid);
	json_object_set_new(volume, "Top",
			    json_pack("{ss so ss}", "Name", name, "Number", number_text(draft->top), "Uuid", uuid));
}

static uint64_t device_bytes(dev_t number)
{
	char text[32] = "";
	autoclose int device = sysfs_open(number, NULL, 0);

	return device >= 0 && sysfs_read(device, "size", text, sizeof text) ? strtoull(text, NULL, 10) * 512 : 0;
}

static void add_lv(json_t *volume, const struct draft *draft)
{
	const struct logical_volume *lv = &draft->lv;

	json_object_update_new(
	    volume, json_pack("{ss ss ss ss s{ss so ss} ss sI sb so ss ss}", "Vg", lv->vg, "Lv", lv->lv, "VgUuid",
			      lv->vg_uuid, "LvUuid", lv->lv_uuid, "Dm", "Name", lv->dm_name, "Number",
			      number_text(lv->number), "Uuid", lv->dm_uuid, "Kind", *lv->pool_uuid ? "thin" : "cow",
			      "LvSize", (json_int_t)device_bytes(lv->number), "Open", lv->open_count > 0, "Pvs",
			      describe_pvs(lv), "Instant", "set", "InstantReason", ""));
	if (*lv->pool_uuid)
		json_object_set_new(volume, "PoolUuid", json_string(lv->pool_uuid));
	if (draft->encrypted)
		add_top(volume, draft);
}

/* ---- the whole ---- */

static void add_subvolume(json_t *volume, const struct subvolume_place *subvolume)
{
	json_object_update_new(volume, json_pack("{sI ss ss}", "SubvolumeId", (json_int_t)subvolume->id, "Subvolume",
						 subvolume->path, "SubvolumeUuid", subvolume->uuid));
}

static const char *provider_of(const struct draft *draft, const json_t *why)
{
	return why ? "" : strcmp(draft->type, "btrfs") == 0 ? "btrfs" : "lvm";
}

json_t *draft_describe(struct volumes *volumes, const struct draft *draft)
{
	const struct mount *mount = draft->mount;
	json_t *domains = describe_domains(draft), *disks;
	json_t *why = draft_why_not(volumes, draft), *volume;

	disks = volumes_describe_disks(volumes, &draft->layers, domains);
	volume = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:o, s:o, s:o}", "Id", draft->id, "Path",
			   draft->root, "Type", draft->type, "FsUuid", draft->uuid, "Device",
			   mount ? mount->source : draft->root, "MountPoint", mount ? mount->target : "", "Mounted",
			   mount != NULL, "ReadOnly", mount && mount->read_only, "Provider", provider_of(draft, why),
			   "Domains", domains, "Disks", disks, "Layers", describe_layers(&draft->layers));
	if (!volume) {
		json_decref(why);
		return NULL;
	}
	if (why)
		json_object_set_new(volume, "Why", why);
	if (*draft->label)
		json_object_set_new(volume, "Label", json_string(draft->label));
	if (draft->subvolume.path)
		add_subvolume(volume, &draft->subvolume);
	if (draft->on_lv)
		add_lv(volume, draft);
	return volume;
}
