/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/lvm/copy-mount.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "coordinator/providers/device-use.h"
#include "coordinator/providers/lvm/dm.h"
#include "coordinator/providers/mounts.h"
#include "coordinator/providers/namespaces.h"

#define BUSY_PATIENCE (2 * USEC_PER_SEC)
#define BUSY_INTERVAL (20 * 1000)

#define EXT_SUPERBLOCK 1024
#define EXT_MAGIC 0xEF53u
#define EXT_MAGIC_AT 0x38
#define EXT_INCOMPAT_AT 0x60
#define EXT_INCOMPAT_RECOVER 0x4u

static const char *const types[] = { "ext2", "ext3", "ext4", "xfs", "f2fs", "jfs", "nilfs2", "reiserfs" };

void copy_filesystem(dev_t number, char type[COPY_TYPE_SIZE])
{
	struct device_content content = { .type = "" };
	char node[32];

	dm_node(number, node);
	device_probe(node, &content);
	type[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (strcmp(content.type, types[i]) == 0)
			text_format(type, COPY_TYPE_SIZE, "%s", types[i]);
}

bool copy_is_clean(dev_t number, const char *type)
{
	unsigned char block[1024];
	uint16_t magic;
	uint32_t features;

	if (strncmp(type, "ext", 3) != 0)
		return true;
	autoclose int fd = dm_open(number, O_RDONLY);
	if (fd < 0 || pread(fd, block, sizeof block, EXT_SUPERBLOCK) != (ssize_t)sizeof block)
		return false;
	memcpy(&magic, block + EXT_MAGIC_AT, sizeof magic);
	memcpy(&features, block + EXT_INCOMPAT_AT, sizeof features);
	return le16toh(magic) == EXT_MAGIC && !(le32toh(features) & EXT_INCOMPAT_RECOVER);
}

/* ---- mounting ---- */

/* A copy has its origin's UUID, which XFS would refuse; and its log, however empty, XFS would replay. */
static int configure(int context, const char *device, const char *type, bool writable)
{
	bool is_xfs = strcmp(type, "xfs") == 0;

	if (fsconfig(context, FSCONFIG_SET_STRING, "source", device, 0) < 0 ||
	    (is_xfs && fsconfig(context, FSCONFIG_SET_FLAG, "nouuid", NULL, 0) < 0) ||
	    (!writable && fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) ||
	    (!writable && is_xfs && fsconfig(context, FSCONFIG_SET_FLAG, "norecovery", NULL, 0) < 0))
		return -1;
	return fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}

int copy_mount(dev_t number, const char *type, bool writable, struct err *err)
{
	autoclose int context = fsopen(type, FSOPEN_CLOEXEC);
	unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (writable ? 0 : MOUNT_ATTR_RDONLY);
	char device[32];
	int mount;

	dm_node(number, device);
	if (context < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The kernel cannot mount %s", type);
	if (configure(context, device, type, writable) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot mount the %s in the copy (%s)",
				 type, device);
	mount = fsmount(context, FSMOUNT_CLOEXEC, attributes);
	if (mount < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot mount the %s in the copy (%s)",
				 type, device);
	return mount;
}

/* Busy as long as somebody has a file open for writing. */
static int make_mount_read_only(int mount)
{
	autoclose int context = fspick(mount, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);

	if (context < 0 || fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return -1;
	return fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
}

int copy_end_writing(int mount, const char *name, struct err *err)
{
	uint64_t end = clock_now() + BUSY_PATIENCE;
	autoclose int root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root < 0 || syncfs(root) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot write out the copy %s", name);
	while (make_mount_read_only(mount) < 0) {
		if (errno != EBUSY)
			return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
					 "Cannot make the copy %s read-only", name);
		if (clock_now() >= end)
			return err_set(err, VSS_E_VOLUME_IN_USE,
				       "The copy %s cannot be sealed: a writer still has a file in it open for writing",
				       name);
		usleep(BUSY_INTERVAL);
	}
	return 0;
}

int copy_set_read_only(dev_t number, const char *name, struct err *err)
{
	autoclose int fd = dm_open(number, O_RDONLY);
	int yes = 1;

	if (fd >= 0 && ioctl(fd, BLKROSET, &yes) == 0)
		return 0;
	return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot make the device of the copy %s read-only",
			 name);
}

/* ---- who mounts it ---- */

struct search {
	char text[32]; /* " 254:8 ", as in a line of mountinfo */
	char *where;
	size_t size;
	bool found;
};

static bool search_namespace(pid_t pid, const char *mountinfo, void *data)
{
	struct search *search = data;
	const char *hit = strstr(mountinfo, search->text);
	int skip = 0;

	if (!hit)
		return true;
	hit += strlen(search->text);
	skip = (int)strcspn(hit, " "); /* the root within the filesystem; then the mount point */
	hit += skip + (hit[skip] == ' ');
	text_format(search->where, search->size, "%.*s of process %d", (int)strcspn(hit, " "), hit, (int)pid);
	search->found = true;
	return false;
}

bool copy_mounted_where(dev_t number, char *where, size_t size)
{
	cleanup(mounts_done) struct mounts mounts = { 0 };
	struct search search = { .where = where, .size = size };

	if (mounts_load(&mounts, NULL) == 0)
		for (size_t i = 0; i < mounts.n; i++)
			if (mounts.list[i].device == number) {
				text_format(where, size, "%s", mounts.list[i].target);
				return true;
			}
	snprintf(search.text, sizeof search.text, " %u:%u ", major(number), minor(number));
	namespaces_for_each(search_namespace, &search);
	return search.found;
}
