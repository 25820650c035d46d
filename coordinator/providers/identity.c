/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A filesystem's UUID, label and devices. */
#include <blkid.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/id.h"
#include "coordinator/providers/volume.h"

/* Linux 6.9; newer than the headers that vssd is built with. */
struct fsuuid {
	__u8 length;
	__u8 uuid[16];
};
#define IOC_GETFSUUID _IOR(0x15, 0, struct fsuuid)

static void format_uuid(const unsigned char bytes[16], char uuid[FS_UUID_SIZE])
{
	char hex[ID_HEX_SIZE];

	for (size_t i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	uuid[0] = '\0';
	if (strspn(hex, "0") < 32)
		id_from_hex(hex, uuid);
}

static bool ask_kernel(int directory, const struct mount *mount, char uuid[FS_UUID_SIZE])
{
	struct btrfs_ioctl_fs_info_args btrfs = { 0 };
	struct fsuuid generic = { 0 };

	if (strcmp(mount->type, "btrfs") == 0) {
		if (ioctl(directory, BTRFS_IOC_FS_INFO, &btrfs) < 0)
			return false;
		format_uuid(btrfs.fsid, uuid);
		return true;
	}
	if (ioctl(directory, IOC_GETFSUUID, &generic) < 0 || generic.length != sizeof generic.uuid)
		return false;
	format_uuid(generic.uuid, uuid);
	return true;
}

static void probe_device(const char *device, char uuid[FS_UUID_SIZE], char label[FS_LABEL_SIZE])
{
	blkid_probe probe = blkid_new_probe_from_filename(device);
	const char *value;

	if (!probe)
		return;
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL);
	if (blkid_do_safeprobe(probe) == 0) {
		if (blkid_probe_lookup_value(probe, "UUID", &value, NULL) == 0)
			snprintf(uuid, FS_UUID_SIZE, "%s", value);
		if (blkid_probe_lookup_value(probe, "LABEL", &value, NULL) == 0)
			snprintf(label, FS_LABEL_SIZE, "%s", value);
	}
	blkid_free_probe(probe);
}

void filesystem_identity(int directory, const struct mount *mount, char uuid[FS_UUID_SIZE], char label[FS_LABEL_SIZE])
{
	char text[FSLABEL_MAX] = "";

	uuid[0] = label[0] = '\0';
	if (mount->class != MOUNT_LOCAL)
		return;
	if (ioctl(directory, FS_IOC_GETFSLABEL, text) == 0)
		snprintf(label, FS_LABEL_SIZE, "%.*s", FSLABEL_MAX, text);
	/* One of zeros only is none: it would make strangers' filesystems look alike. */
	if (!ask_kernel(directory, mount, uuid) && strncmp(mount->source, "/dev/", 5) == 0)
		probe_device(mount->source, uuid, label);
}

static void add_btrfs_devices(struct layers *layers, const char *uuid)
{
	char path[128], text[32];
	unsigned major, minor;
	DIR *devices;

	snprintf(path, sizeof path, "/sys/fs/btrfs/%.64s/devices", uuid);
	devices = opendir(path);
	for (struct dirent *entry; devices && (entry = readdir(devices));) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%.100s/dev", entry->d_name);
		autoclose int fd = openat(dirfd(devices), path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
		if (n <= 0)
			continue;
		text[n] = '\0';
		if (sscanf(text, "%u:%u", &major, &minor) == 2)
			layers_add(layers, makedev(major, minor));
	}
	if (devices)
		closedir(devices);
}

void filesystem_layers(struct layers *layers, const struct mount *mount, const char *uuid)
{
	struct stat info;

	if (strcmp(mount->type, "btrfs") == 0)
		add_btrfs_devices(layers, uuid);
	else if (major(mount->device) != 0)
		layers_add(layers, mount->device);
	else if (mount->class == MOUNT_LOCAL && strncmp(mount->source, "/dev/", 5) == 0 &&
		 stat(mount->source, &info) == 0 && S_ISBLK(info.st_mode))
		layers_add(layers, info.st_rdev);
}
