/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/virtual-disks.h"

#include <string.h>

static const char *text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name)) ?: "";
}

static bool flag_of(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

static bool same(const json_t *a, const json_t *b, const char *name)
{
	const char *x = text_of(a, name);

	return *x && strcmp(x, text_of(b, name)) == 0;
}

static bool is_btrfs(const json_t *volume)
{
	return strcmp(text_of(volume, "Provider"), "btrfs") == 0;
}

json_t *virtual_disk(json_t *object)
{
	json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(object, "Disks"), i, disk)
		if (flag_of(disk, "Virtual"))
			return disk;
	return NULL;
}

/* Some of it lies on this disk, some elsewhere. */
static json_t *other_disk(json_t *object, json_t *than)
{
	json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(object, "Disks"), i, disk)
		if (!same(disk, than, "Device"))
			return disk;
	return NULL;
}

static bool lies_on(json_t *object, json_t *wanted)
{
	json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(object, "Disks"), i, disk)
		if (same(disk, wanted, "Device"))
			return true;
	return false;
}

/* ---- one volume ---- */

/* A volume that can be detached with its disk has to lie on that disk alone: its extents say so, whatever its name.
 * btrfs is exempt: its copies lie in the same filesystem and go where it goes. */
static int check_spread(json_t *volume, struct err *err)
{
	json_t *disk = virtual_disk(volume), *other = disk ? other_disk(volume, disk) : NULL;

	if (!other || is_btrfs(volume))
		return 0;
	return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
		       "%s lies on the virtual disk %s and on %s as well, so that it cannot be detached with its copies: move "
		       "all of it to one of them (pvmove)",
		       text_of(volume, "Path"), text_of(disk, "Device"), text_of(other, "Device"));
}

static int check_nesting(json_t *volume, struct err *err)
{
	json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(volume, "Disks"), i, disk)
		if (flag_of(disk, "Nested"))
			return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
				       "%s lies on the virtual disk %s, the image of which lies on a virtual disk itself: no copy "
				       "is made of a disk in a disk. Attach the inner image on the machine that has the outer one's "
				       "files",
				       text_of(volume, "Path"), text_of(disk, "Device"));
	return 0;
}

int virtual_check_volume(json_t *volume, struct err *err)
{
	return check_nesting(volume, err) < 0 ? -1 : check_spread(volume, err);
}

/* ---- two of them ---- */

static bool holds_image(json_t *volume, json_t *image)
{
	return strcmp(text_of(image, "Volume"), text_of(volume, "Id")) == 0 || same(image, volume, "FsUuid");
}

static json_t *find_image(json_t *inner, json_t *outer, json_t **ret_disk)
{
	json_t *disk, *image;
	size_t i, j;

	json_array_foreach(json_object_get(inner, "Disks"), i, disk) {
		json_array_foreach(json_object_get(disk, "Images"), j, image) {
			if (!holds_image(outer, image))
				continue;
			*ret_disk = disk;
			return image;
		}
	}
	return NULL;
}

bool virtual_is_image_on(json_t *upper, json_t *lower)
{
	json_t *disk;

	return find_image(upper, lower, &disk) != NULL;
}

/* Holding the outer one still would stop the inner one half-way. */
static int check_image(json_t *inner, json_t *outer, struct err *err)
{
	json_t *disk, *image = find_image(inner, outer, &disk);

	if (!image)
		return 0;
	return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
		       "%s lies on the virtual disk %s, the image of which (%s) is on %s: the two cannot be in one set. Copy "
		       "them in sets of their own",
		       text_of(inner, "Path"), text_of(disk, "Device"), text_of(image, "Path"), text_of(outer, "Path"));
}

/* What holds the image might be any local volume but one that lies on the very disk. */
static int check_unknown(json_t *volume, json_t *with, struct err *err)
{
	json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(volume, "Disks"), i, disk) {
		if (!flag_of(disk, "Unknown") || (lies_on(with, disk) && !other_disk(with, disk)))
			continue;
		return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
			       "%s lies on the virtual disk %s, and nothing on this machine tells where its image is: it could "
			       "be on %s, so that the two cannot be in one set. Copy %s in a set of its own",
			       text_of(volume, "Path"), text_of(disk, "Device"), text_of(with, "Path"),
			       text_of(volume, "Path"));
	}
	return 0;
}

int virtual_check_held(json_t *a, json_t *b, struct err *err)
{
	return check_unknown(a, b, err) < 0 ? -1 : check_unknown(b, a, err);
}

int virtual_check_pair(json_t *a, json_t *b, struct err *err)
{
	if (check_image(a, b, err) < 0 || check_image(b, a, err) < 0)
		return -1;
	return virtual_check_held(a, b, err);
}

/* ---- stores ---- */

int virtual_check_store(json_t *volume, json_t *store, const char *name, struct err *err)
{
	json_t *own = virtual_disk(volume), *theirs = virtual_disk(store), *other = own ? other_disk(store, own) : NULL;

	if (own && other)
		return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
			       "Self-hosting: %s lies on the virtual disk %s, which has to keep all copies of it to be "
			       "detached with them; %s lies on %s",
			       text_of(volume, "Path"), text_of(own, "Device"), name, text_of(other, "Device"));
	if (!own && theirs)
		return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
			       "Self-hosting: %s lies on the virtual disk %s, which keeps the copies of its own volumes alone; %s "
			       "does not lie on it",
			       name, text_of(theirs, "Device"), text_of(volume, "Path"));
	return 0;
}

static int refuse_group(json_t *volume, json_t *pv, json_t *disk, json_t *image, struct err *err)
{
	const char *path = text_of(volume, "Path"), *device = text_of(disk, "Device"), *name = text_of(pv, "Device");

	if (!image)
		return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
			       "The volume group %s of %s has the physical volume %s on the virtual disk %s, and nothing on this "
			       "machine tells where its image is: if on %s, LVM would have to write to it while it suspends that, "
			       "and both would stand still for ever. Give the virtual disk a group of its own (vgsplit)",
			       text_of(volume, "Vg"), path, name, device, path);
	return err_set(err, VSS_E_NESTED_VOLUME_LIMIT,
		       "%s holds the image (%s) of the virtual disk %s, and %s on that is a physical volume of its own volume "
		       "group %s: LVM would have to write to it while it suspends %s, and both would stand still for ever. "
		       "Give the virtual disk a group of its own (vgsplit)",
		       path, text_of(image, "Path"), device, name, text_of(volume, "Vg"), path);
}

int virtual_check_group(json_t *volume, json_t *pvs, struct err *err)
{
	json_t *pv, *disk, *image;
	size_t i, j, k;

	if (strcmp(text_of(volume, "Provider"), "lvm") != 0)
		return 0;
	json_array_foreach(pvs, i, pv) {
		json_array_foreach(json_object_get(pv, "Disks"), j, disk) {
			json_array_foreach(json_object_get(disk, "Images"), k, image)
				if (holds_image(volume, image))
					return refuse_group(volume, pv, disk, image, err);
			if (flag_of(disk, "Unknown") && !lies_on(volume, disk))
				return refuse_group(volume, pv, disk, NULL, err);
		}
	}
	return 0;
}
