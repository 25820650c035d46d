/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/btrfs/filesystem.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/providers/beneath.h"

#define SYSFS_BTRFS "/sys/fs/btrfs"
#define WORTH_FLUSHING (1ull << 20) /* bytes; less is written by the snapshot's own commit in no time */

int filesystem_uuid(int fd, char uuid[ID_SIZE], struct err *err)
{
	struct btrfs_ioctl_fs_info_args info = { 0 };
	char hex[ID_HEX_SIZE];

	if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot read a btrfs filesystem's UUID");
	for (size_t i = 0; i < BTRFS_FSID_SIZE; i++)
		snprintf(hex + 2 * i, 3, "%02x", info.fsid[i]);
	id_from_hex(hex, uuid);
	return 0;
}

bool filesystem_is_read_only(int fd)
{
	struct statvfs info;

	return fstatvfs(fd, &info) == 0 && (info.f_flag & ST_RDONLY);
}

int filesystem_sync(int fd, struct err *err)
{
	if (syncfs(fd) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot write out the btrfs filesystem");
	return 0;
}

/* "ro" makes this mount join the filesystem as it is; without it the kernel would make a read-only one writable. */
static int configure(int context, const char *device, uint64_t subvolume)
{
	char number[24];

	snprintf(number, sizeof number, "%llu", (unsigned long long)subvolume);
	if (fsconfig(context, FSCONFIG_SET_STRING, "source", device, 0) < 0 ||
	    fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
	    fsconfig(context, FSCONFIG_SET_STRING, "subvolid", number, 0) < 0)
		return -1;
	return fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}

static int mount_device(const char *device, uint64_t subvolume, unsigned attributes, struct err *err)
{
	autoclose int context = fsopen("btrfs", FSOPEN_CLOEXEC);
	int mount;

	if (context < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot ask the kernel for a btrfs mount");
	if (configure(context, device, subvolume) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot mount btrfs from %s for vssd alone", device);
	mount = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | attributes);
	if (mount < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot mount btrfs from %s for vssd alone", device);
	return mount;
}

/* The kernel's name of a device, as in sysfs, to its node. */
static void device_node(const char *name, char node[DEVICE_NODE_SIZE])
{
	snprintf(node, DEVICE_NODE_SIZE, "/dev/%.100s", name);
	for (char *c = node + strlen("/dev/"); *c; c++)
		if (*c == '!')
			*c = '/';
}

static int open_root(int mount, struct err *err)
{
	int root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot open a btrfs subvolume");
	return root;
}

/* Mounts from the first device that is of the filesystem: a node may be missing or stale. */
static int mount_from_devices(DIR *devices, const char *uuid, uint64_t subvolume, unsigned attributes, struct err *err)
{
	char node[DEVICE_NODE_SIZE], found[ID_SIZE];

	err_set(err, VSS_E_OBJECT_NOT_FOUND, "The btrfs filesystem %s has no device", uuid);
	for (struct dirent *entry; (entry = readdir(devices));) {
		if (entry->d_name[0] == '.')
			continue;
		device_node(entry->d_name, node);
		autoclose int mount = mount_device(node, subvolume, attributes, err);
		autoclose int root = mount < 0 ? -1 : open_root(mount, err);
		if (root < 0)
			continue;
		if (filesystem_uuid(root, found, err) == 0 && strcmp(found, uuid) == 0)
			return steal_fd(mount);
		err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "%s is not of the btrfs filesystem %s any more", node,
			uuid);
	}
	return -1;
}

static DIR *open_devices(const char *uuid)
{
	char path[sizeof SYSFS_BTRFS + ID_SIZE + sizeof "/devices"];

	snprintf(path, sizeof path, SYSFS_BTRFS "/%s/devices", uuid);
	return opendir(path);
}

static bool mapper_node(const char *name, char node[DEVICE_NODE_SIZE])
{
	char path[DEVICE_NODE_SIZE], text[128];

	snprintf(path, sizeof path, "/sys/class/block/%.100s/dm/name", name);
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	snprintf(node, DEVICE_NODE_SIZE, "/dev/mapper/%s", text);
	return true;
}

void filesystem_device(const char *uuid, char node[DEVICE_NODE_SIZE])
{
	DIR *devices = open_devices(uuid);

	node[0] = '\0';
	if (!devices)
		return;
	for (struct dirent *entry; !node[0] && (entry = readdir(devices));)
		if (entry->d_name[0] != '.' && !mapper_node(entry->d_name, node))
			device_node(entry->d_name, node);
	closedir(devices);
}

int filesystem_mount(const char *uuid, uint64_t subvolume, unsigned attributes, struct err *err)
{
	DIR *devices;
	int mount;

	if (!id_is_valid(uuid))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Not the UUID of a filesystem: %.100s", uuid);
	devices = open_devices(uuid);
	if (!devices)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND,
			       "The btrfs filesystem %s is not mounted on this machine; mount it and try again", uuid);
	mount = mount_from_devices(devices, uuid, subvolume, attributes, err);
	closedir(devices);
	return mount;
}

int filesystem_open(const char *uuid, struct err *err)
{
	autoclose int mount = filesystem_mount(uuid, TOP_LEVEL_SUBVOLUME, 0, err);

	return mount < 0 ? -1 : open_root(mount, err);
}

int filesystem_open_device(const char *device, struct err *err)
{
	autoclose int mount = mount_device(device, TOP_LEVEL_SUBVOLUME, 0, err);

	return mount < 0 ? -1 : open_root(mount, err);
}

/* Adds a counter of the filesystem's own account to total; false where this kernel does not show it. */
static bool add_counter(int directory, const char *name, unsigned long long *total)
{
	char text[32] = "";
	autoclose int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		return false;
	*total += strtoull(text, NULL, 10);
	return true;
}

/* Space reserved for data not yet written, and metadata changed since the last commit. */
static bool is_nearly_clean(const char *uuid)
{
	char path[sizeof SYSFS_BTRFS + ID_SIZE + sizeof "/allocation"];
	unsigned long long waiting = 0;

	snprintf(path, sizeof path, SYSFS_BTRFS "/%s/allocation", uuid);
	autoclose int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0 || !add_counter(directory, "data/bytes_may_use", &waiting) ||
	    !add_counter(directory, "data/bytes_reserved", &waiting) ||
	    !add_counter(directory, "metadata/bytes_reserved", &waiting) ||
	    !add_counter(directory, "metadata/bytes_pinned", &waiting))
		return false;
	return waiting < WORTH_FLUSHING;
}

int filesystem_flush(int fd, struct err *err)
{
	char uuid[ID_SIZE];

	if (filesystem_uuid(fd, uuid, err) < 0)
		return -1;
	return is_nearly_clean(uuid) ? 0 : filesystem_sync(fd, err);
}
