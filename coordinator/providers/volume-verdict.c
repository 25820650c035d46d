/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which volumes cannot be copied, each with the rule and what helps. */
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/providers/device-use.h"
#include "coordinator/providers/volume-draft.h"

/* Filesystems that FIFREEZE holds. */
static const char *const freezable[] = { "ext2", "ext3", "ext4", "xfs", "f2fs", "jfs", "nilfs2", "reiserfs" };

static bool can_freeze(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(freezable); i++)
		if (strcmp(type, freezable[i]) == 0)
			return true;
	return false;
}

static bool has_lvm(const struct layers *layers)
{
	for (size_t i = 0; i < layers->n; i++)
		if (layers->list[i].is_lvm)
			return true;
	return false;
}

/* A copy of the one device without the other could not be mounted, and would not be one instant with it. */
static json_t *outside_part(const struct draft *draft, const char *name)
{
	char path[DEVICE_PATH_SIZE];
	const char *what;

	if (!device_path(draft->top, path) || !device_has_outside_part(path, &what))
		return NULL;
	return json_sprintf("%s keeps %s on another device, and a copy of one without the other cannot be mounted: move "
			    "it inside (for ext4: tune2fs -O ^has_journal, then -j; an XFS has to be made anew)",
			    name, what);
}

static json_t *why_not_mounted_lv(const struct draft *draft)
{
	const struct mount *mount = draft->mount;

	if (!can_freeze(mount->type))
		return json_sprintf("%s is %s, which cannot be held still while it is mounted: unmount it for the copy, "
				    "or use ext4 or xfs",
				    mount->target, mount->type);
	return outside_part(draft, mount->target);
}

/* Signatures of what is no volume to be copied by itself. */
static json_t *why_not_content(const struct draft *draft, const char *name)
{
	static const struct {
		const char *type, *rule;
	} rules[] = {
		{ "btrfs", "is btrfs and not mounted: mount it, its copies are then made inside" },
		{ "swap", "is swap space: there is nothing in it to be copied" },
		{ "LVM2_member", "is a physical volume of another volume group: name the logical volumes in that" },
		{ "linux_raid_member", "is a part of an array: name the filesystem on the array" },
		{ "jbd", "is the journal of another filesystem: name that" },
		{ "xfs_external_log", "is the log of another filesystem: name that" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (strcmp(draft->type, rules[i].type) == 0)
			return json_sprintf("%s %s", name, rules[i].rule);
	return NULL;
}

/* What an unmounted logical volume serves besides. */
static json_t *why_not_used(const struct volumes *volumes, const struct draft *draft, const char *name)
{
	char holders[200], path[DEVICE_PATH_SIZE];
	const struct mount *served = device_serves(&volumes->mounts, draft->lv.number);

	if (served)
		return json_sprintf("%s is a part (log, journal or realtime) of %s: name that", name, served->target);
	if (device_is_swap(draft->lv.number))
		return json_sprintf("%s is swap space in use: there is nothing in it to be copied", name);
	if (device_holders(draft->lv.number, holders, sizeof holders))
		return json_sprintf("%s is held by %s, on which no filesystem is mounted here, so that nobody could be "
				    "held still: mount what lies on it, or close it",
				    name, holders);
	if (device_is_loop_image(draft->lv.number, holders, sizeof holders))
		return json_sprintf("%s is attached as %s: name the volume on that, or detach it (losetup -d)", name,
				    holders);
	if (device_path(draft->lv.number, path) && device_is_claimed(path))
		return json_sprintf("%s is in use by the kernel, and not by a mount that can be seen from here (another "
				    "mount namespace, a journal, an array): nobody could be held still. Unmount or stop "
				    "what uses it",
				    name);
	return NULL;
}

static json_t *why_not_unmounted(const struct volumes *volumes, const struct draft *draft)
{
	const char *name = draft->root;
	json_t *why;

	if (!draft->on_lv)
		return json_sprintf("%s is no logical volume and not mounted: only mounted btrfs and logical volumes can "
				    "be copied",
				    name);
	if (*draft->lv.why)
		return json_string(draft->lv.why);
	why = why_not_used(volumes, draft, name);
	if (!why)
		why = why_not_content(draft, name);
	return why ? why : outside_part(draft, name);
}

static json_t *why_not_lvm(const struct volumes *volumes, const struct draft *draft)
{
	const char *name = draft->mount ? draft->mount->target : draft->root;

	if (!WITH_LVM)
		return json_sprintf("%s lies on a logical volume, and this vssd was built without the provider for LVM",
				    name);
	if (!draft->mount)
		return why_not_unmounted(volumes, draft);
	return *draft->lv.why ? json_string(draft->lv.why) : why_not_mounted_lv(draft);
}

static json_t *why_not_btrfs(const struct mount *mount)
{
	if (!WITH_BTRFS)
		return json_sprintf("%s is btrfs, and this vssd was built without the provider for it", mount->target);
	if (!mount->read_only)
		return NULL;
	return json_sprintf("%s is mounted read-only: nothing can be kept on it. Remount it read-write, or back it up as "
			    "it is, since nothing changes it",
			    mount->target);
}

static json_t *why_not_kernel(const struct mount *mount)
{
	if (strcmp(mount->type, "tmpfs") == 0 || strcmp(mount->type, "ramfs") == 0)
		return json_sprintf("%s lies in memory (%s) and is gone at the next start; keep what is to be backed up on "
				    "a disk",
				    mount->target, mount->type);
	if (strcmp(mount->type, "overlay") == 0)
		return json_sprintf("%s is an overlay, whose files lie on other volumes: name the volume of its upper "
				    "directory instead",
				    mount->target);
	return json_sprintf("%s is a view of the kernel's (%s), there is nothing to copy", mount->target, mount->type);
}

json_t *draft_why_not(const struct volumes *volumes, const struct draft *draft)
{
	const struct mount *mount = draft->mount;

	if (draft->layers.cut_off)
		return json_sprintf("%s lies on more than %u block devices, of which vssd cannot judge the whole",
				    draft->root, LAYERS_MAX);
	if (mount && strcmp(mount->type, "btrfs") == 0)
		return why_not_btrfs(mount);
	if (mount && mount->class == MOUNT_KERNEL)
		return why_not_kernel(mount);
	if (draft->on_lv)
		return why_not_lvm(volumes, draft);
	if (!mount)
		return why_not_unmounted(volumes, draft);
	if (has_lvm(&draft->layers))
		return json_sprintf("%s (%s) lies on logical volumes, but not on exactly one with nothing else than "
				    "dm-crypt between: such a stack cannot be copied at one instant",
				    mount->target, mount->type);
	return json_sprintf("%s is %s on a plain disk or partition, of which no copy can be made at one instant; on btrfs or "
			    "a logical volume it could",
			    mount->target, mount->type);
}
