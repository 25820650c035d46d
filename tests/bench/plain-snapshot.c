/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What anybody would do without vssd to make a copy that survives the power, in as few steps as can be:
 *   plain-snapshot FILE                    writes 1 KiB beside a snapshot that is there, durably (file, then directory)
 *   plain-snapshot SUBVOLUME SNAPSHOT FILE makes the read-only snapshot first */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/btrfs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/cleanup.h"

static int make_snapshot(const char *subvolume, const char *snapshot)
{
	struct btrfs_ioctl_vol_args_v2 args = { .flags = BTRFS_SUBVOL_RDONLY };
	autofree char *copy = strdup(snapshot), *base = strdup(snapshot);
	autoclose int source = open(subvolume, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autoclose int parent = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (source < 0 || parent < 0 || !base)
		return -1;
	args.fd = source;
	snprintf(args.name, sizeof args.name, "%s", basename(base));
	return ioctl(parent, BTRFS_IOC_SNAP_CREATE_V2, &args);
}

static int write_durably(const char *path)
{
	static const char text[1024] = { [0 ... 1023] = 'x' };
	autofree char *copy = strdup(path);
	autoclose int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	autoclose int parent = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (file < 0 || parent < 0 || write(file, text, sizeof text) != sizeof text)
		return -1;
	return fsync(file) < 0 ? -1 : fsync(parent);
}

int main(int argc, char **argv)
{
	if ((argc != 2 && argc != 4) || (argc == 4 && make_snapshot(argv[1], argv[2]) < 0) ||
	    write_durably(argv[argc - 1]) < 0) {
		fprintf(stderr, "plain-snapshot: %s\n", strerror(errno));
		return 1;
	}
	return 0;
}
