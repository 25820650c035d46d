/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The volumes worker's ops: from a path or an O_PATH descriptor to the volume it lies on.
 *
 * resolve  {"Paths": [s | fd index], "Below": bool}
 *       -> {"Volumes": [volume | {"Path": s, "Error": {"Name": error name, "Text": s}}]}, one for each, in order.
 *          Never touches (stat, open) a path whose mount, found by name in mountinfo first, is of a network, FUSE or
 *          autofs type: that is VSS_E_VOLUME_NOT_SUPPORTED at once. A path that does not exist resolves by its
 *          nearest existing parent only with "Missing": true in the request (components of writers).
 *          With "Brief": true (and not "Below") a volume is described once, later entries on it are {"Id", "Given",
 *          "Relative"}.
 * list     {} -> {"Volumes": [volume]}: every local filesystem and btrfs subvolume that is mounted, each once
 *
 * volume: {
 *   "Id":        "btrfs:FSUUID:SUBVOLID" | "dev:MAJ:MIN:FSUUID": equal for two paths (bind mounts too) on one volume
 *   "Path":      the volume's root as reached: for btrfs the subvolume's root directory, else the mount point
 *   "Given":     the path asked for
 *   "Relative":  the given path relative to the volume's root ("" for the root itself). Where only a directory of the
 *                volume is mounted (a bind mount), Path is that mount and Relative still counts from the root
 *   "Type":      "btrfs", "ext4", "xfs", ...      "FsUuid": s       "Label": s or absent
 *   "Device":    "/dev/loop0" (the mount's source)      "MountPoint": s      "ReadOnly": bool
 *   "SubvolumeId": n, "Subvolume": path below the top level, "SubvolumeUuid": s        (btrfs only)
 *   "Provider":  "btrfs" or "" with "Why": s saying why none supports it and what would help
 *   "Domains":   ["fs:FSUUID", "dev:7:0", ...]: what sets queue on: the filesystem and every block device beneath,
 *                and, through a loop device's backing file, the filesystem that holds it
 *   "Layers":    [{"Device": "loop0", "Number": "7:0", "Kind": "loop|partition|dm|disk|nbd", "Backing": s or absent}]
 *   "Below":     [{"Path": s, "Kind": "subvolume|mount", "Type": s, "Id": s or absent}]   what lies below the volume's
 *                root and is not part of it: nested subvolumes (at any depth) and mounts; only with "Below": true
 *   "Namespaces": n of other mount namespaces in which the filesystem is mounted; only in `list`; absent
 *                when 0
 * }
 */
#pragma once

#include "coordinator/providers/provider.h"

extern const struct provider_op volumes_ops[];
