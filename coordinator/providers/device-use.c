/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/device-use.h"

#include <blkid.h>
#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "coordinator/providers/sysfs.h"

bool device_path(dev_t number, char path[DEVICE_PATH_SIZE])
{
	char name[64];
	struct stat info;
	autoclose int device = sysfs_open(number, name, sizeof name);

	if (device < 0)
		return false;
	for (char *at = name; (at = strchr(at, '!'));)
		*at = '/';
	snprintf(path, DEVICE_PATH_SIZE, "/dev/%s", name);
	return stat(path, &info) == 0 && S_ISBLK(info.st_mode) && info.st_rdev == number;
}

static void take_value(blkid_probe probe, const char *name, char *text, size_t size)
{
	const char *value;

	if (blkid_probe_lookup_value(probe, name, &value, NULL) == 0)
		snprintf(text, size, "%s", value);
}

void device_probe(const char *path, struct device_content *ret)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);

	*ret = (struct device_content){ .type = "" };
	if (!probe)
		return;
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL);
	if (blkid_do_safeprobe(probe) == 0) {
		take_value(probe, "TYPE", ret->type, sizeof ret->type);
		take_value(probe, "UUID", ret->uuid, sizeof ret->uuid);
		take_value(probe, "LABEL", ret->label, sizeof ret->label);
	}
	blkid_free_probe(probe);
}

/* ---- parts on other devices ---- */

/* The fields of the two superblocks that tell it: ext's at 1024, XFS's at 0. */
#define EXT_AT 1024u
#define EXT_MAGIC 0xef53u
#define EXT_HAS_JOURNAL 0x4u

static uint32_t le32(const unsigned char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof value);
	return le32toh(value);
}

static uint64_t be64(const unsigned char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof value);
	return be64toh(value);
}

bool device_has_outside_part(const char *path, const char **ret_what)
{
	unsigned char block[4096];
	const unsigned char *ext = block + EXT_AT;
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	*ret_what = NULL;
	if (fd < 0 || pread(fd, block, sizeof block, 0) != (ssize_t)sizeof block)
		return false;
	if (memcmp(block, "XFSB", 4) == 0) {
		if (be64(block + 16) > 0)
			*ret_what = "its realtime part";
		else if (be64(block + 48) == 0)
			*ret_what = "its log";
	} else if ((ext[0x38] | ext[0x39] << 8) == EXT_MAGIC && (le32(ext + 0x5c) & EXT_HAS_JOURNAL) &&
		   le32(ext + 0xe0) == 0) {
		*ret_what = "its journal";
	}
	return *ret_what != NULL;
}

static bool option_names(const struct mount *mount, const char *option, dev_t number)
{
	char path[PATH_MAX];
	struct stat info;
	const char *at = strstr(mount->options, option);

	if (!at)
		return false;
	at += strlen(option);
	snprintf(path, sizeof path, "%.*s", (int)strcspn(at, ","), at);
	return strncmp(path, "/dev/", 5) == 0 && stat(path, &info) == 0 && S_ISBLK(info.st_mode) &&
	       info.st_rdev == number;
}

const struct mount *device_serves(const struct mounts *mounts, dev_t number)
{
	static const char *const options[] = { "logdev=", "rtdev=", "journal_path=" };

	for (size_t i = 0; i < mounts->n; i++)
		for (size_t j = 0; j < ARRAY_SIZE(options); j++)
			if (mounts->list[i].class == MOUNT_LOCAL &&
			    option_names(&mounts->list[i], options[j], number))
				return &mounts->list[i];
	return NULL;
}

bool device_is_swap(dev_t number)
{
	char line[PATH_MAX], path[PATH_MAX];
	struct stat info;
	FILE *swaps = fopen("/proc/swaps", "re");
	bool found = false;

	while (swaps && !found && fgets(line, sizeof line, swaps))
		found = sscanf(line, "%4095s", path) == 1 && strncmp(path, "/dev/", 5) == 0 && stat(path, &info) == 0 &&
			S_ISBLK(info.st_mode) && info.st_rdev == number;
	if (swaps)
		fclose(swaps);
	return found;
}

bool device_is_claimed(const char *path)
{
	autoclose int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 && errno == EBUSY;
}

/* ---- what lies on it ---- */

/* The UUID of the btrfs that has the device, as sysfs keeps it. */
static bool btrfs_of(dev_t number, char uuid[64])
{
	char path[PATH_MAX], name[64];
	autoclose int device = sysfs_open(number, name, sizeof name);
	bool found = false;

	snprintf(path, sizeof path, "%s/fs/btrfs", block_view.sysfs);
	DIR *filesystems = device < 0 ? NULL : opendir(path);
	for (struct dirent *entry; filesystems && !found && (entry = readdir(filesystems));) {
		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= 64)
			continue;
		snprintf(path, sizeof path, "%s/devices/%s", entry->d_name, name);
		found = faccessat(dirfd(filesystems), path, F_OK, 0) == 0;
		snprintf(uuid, 64, "%.63s", entry->d_name);
	}
	if (filesystems)
		closedir(filesystems);
	return found;
}

/* One of a btrfs' devices is the source of its mounts, any of them. */
static bool is_of_btrfs(const struct mount *mount, const char *uuid)
{
	struct stat info;
	char own[64];

	return strcmp(mount->type, "btrfs") == 0 && strncmp(mount->source, "/dev/", 5) == 0 &&
	       stat(mount->source, &info) == 0 && S_ISBLK(info.st_mode) && btrfs_of(info.st_rdev, own) &&
	       strcmp(own, uuid) == 0;
}

static const struct mount *own_mount(const struct mounts *mounts, dev_t number)
{
	const struct mount *best = NULL;
	char uuid[64];
	bool is_btrfs = btrfs_of(number, uuid);

	for (size_t i = 0; i < mounts->n; i++) {
		const struct mount *mount = &mounts->list[i];
		bool whole = strcmp(mount->root, "/") == 0;
		if (!(is_btrfs ? is_of_btrfs(mount, uuid) : mount->device == number) ||
		    !mounts_is_visible(mounts, mount))
			continue;
		if (!best || (whole && strcmp(best->root, "/") != 0))
			best = mount;
	}
	return best;
}

struct holder {
	const struct mounts *mounts;
	const struct mount *mount;
	char *text;
	size_t size, n;
};

static void look_at_holder(dev_t number, void *data)
{
	struct holder *holder = data;
	char uuid[8];
	autoclose int device = sysfs_open(number, NULL, 0);

	if (holder->mount || device < 0 || !sysfs_read(device, "dm/uuid", uuid, sizeof uuid) ||
	    strncmp(uuid, "CRYPT-", 6) != 0)
		return;
	holder->mount = device_mount(holder->mounts, number);
}

const struct mount *device_mount(const struct mounts *mounts, dev_t number)
{
	struct holder holder = { .mounts = mounts, .mount = own_mount(mounts, number) };
	autoclose int device = sysfs_open(number, NULL, 0);

	if (!holder.mount && device >= 0)
		sysfs_for_each(device, "holders", look_at_holder, &holder);
	return holder.mount;
}

static void add_holder(dev_t number, void *data)
{
	struct holder *holder = data;
	char name[DM_NAME_SIZE];
	autoclose int device = sysfs_open(number, name, sizeof name);

	if (device < 0)
		return;
	sysfs_read(device, "dm/name", name, sizeof name);
	text_append(holder->text, holder->size, "%s%s", holder->n++ ? ", " : "", name);
}

bool device_holders(dev_t number, char *text, size_t size)
{
	struct holder holder = { .text = text, .size = size };
	autoclose int device = sysfs_open(number, NULL, 0);

	text[0] = '\0';
	if (device >= 0)
		sysfs_for_each(device, "holders", add_holder, &holder);
	return holder.n > 0;
}

struct image {
	dev_t number;
	char *name;
	size_t size;
	bool found;
};

static void look_at_loop(dev_t number, void *data)
{
	struct image *image = data;
	char name[64], path[PATH_MAX];
	struct stat info;
	autoclose int device = image->found ? -1 : sysfs_open(number, name, sizeof name);

	if (device < 0 || !sysfs_read(device, "loop/backing_file", path, sizeof path) ||
	    strncmp(path, "/dev/", 5) != 0 || stat(path, &info) < 0 || !S_ISBLK(info.st_mode) ||
	    info.st_rdev != image->number)
		return;
	image->found = true;
	snprintf(image->name, image->size, "%s", name);
}

bool device_is_loop_image(dev_t number, char *name, size_t size)
{
	struct image image = { number, name, size, false };

	sysfs_for_each_block("loop", look_at_loop, &image);
	return image.found;
}
