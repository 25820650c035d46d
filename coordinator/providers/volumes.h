/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The volumes worker's ops: from a path or an O_PATH descriptor to the volume it lies on.
 *
 * resolve  {"Paths": [s | fd index], "Below": bool}
 *       -> {"Volumes": [volume | {"Path": s, "Error": {"Name": error name, "Text": s}}]}, one for each, in order.
 *          Never touches (stat, open) a path whose mount, found by name in mountinfo first, is of a network, FUSE or
 *          autofs type: that is VSS_E_VOLUME_NOT_SUPPORTED at once. A path that does not exist resolves by its
 *          nearest existing parent only with "Missing": true in the request (components of writers), and has "Absent": true.
 *          With "Brief": true (and not "Below") a volume is described once, later entries on it are {"Id", "Given",
 *          "Relative"}.
 *          A path that leads to a block device's node means the volume on that device: where it is mounted (also by way
 *          of dm-crypt) the same, with the same Id, as by its mount point.
 * list     {"Wanted": id or absent, of a volume that is listed even where only a mount above it shows it}
 *       -> {"Volumes": [volume]}: every local filesystem and btrfs subvolume that is mounted, and every logical
 *          volume that is not (but snapshots, pools and parts of others), each once
 *
 * roots    {"Volumes": [{"Path": s, "Id": s}]} -> {"Roots": [{"Fd": fd}]}: the directory of each, opened to be frozen, and
 *          what was written there has reached the disk. Fails when any is another volume by now.
 *
 * volume: {
 *   "Id":        "btrfs:FSUUID:SUBVOLID" | "lvm:VGUUID:LVUUID" (LVM's uuids, with dashes) | "dev:MAJ:MIN:FSUUID": equal
 *                for two paths (bind mounts, device nodes) on one volume
 *   "Path":      the volume's root as reached: for btrfs the subvolume's root directory, else the mount point; of an
 *                unmounted one its device (/dev/VG/LV)
 *   "Given":     the path asked for
 *   "Relative":  the given path relative to the volume's root ("" for the root itself). Where only a directory of the
 *                volume is mounted (a bind mount), Path is that mount and Relative still counts from the root
 *   "Type":      "btrfs", "ext4", "xfs", ... ("" for an unmounted one without a known signature)
 *   "FsUuid": s (may be "")      "Label": s or absent
 *   "Device":    "/dev/loop0" (the mount's source)      "Mounted": bool      "MountPoint": s ("")      "ReadOnly": bool
 *   "SubvolumeId": n, "Subvolume": path below the top level, "SubvolumeUuid": s        (btrfs only)
 *   "Provider":  "btrfs" | "lvm", or "" with "Why": s saying the rule why none supports it and what would help.
 *                btrfs on a logical volume is btrfs'.
 *   "Domains":   ["fs:FSUUID", "dev:7:0", "vg:VGUUID", "pool:LVUUID", ...]: what sets queue on: the filesystem and every
 *                block device beneath, the volume group and thin pool, and, through a loop device's backing file, those of
 *                the volume that holds it
 *   "Disks":     [{"Device": "loop0", "Number": "7:0", "Kind": "disk|loop|nbd|ublk", "Virtual": bool}]: the disks at the bottom
 *                of all that the volume really has extents on. Of virtual ones also "Images": [{"Path", "Volume": Id,
 *                "VolumePath", "FsUuid"}], the volumes that hold its image, and theirs if they are virtual too; "Nested":
 *                true when one of those is itself on a virtual disk; "Unknown": true when nothing on this side tells what
 *                holds the image (nbd; an image on an overlay, a network filesystem, or on what is not mounted here)
 *   "Layers":    [{"Device": "loop0", "Number": "7:0", "Kind": "loop|partition|dm|disk|nbd", "Backing": s or absent}]
 *   on a logical volume, whether it can be copied or not:
 *   "Vg", "Lv": names      "VgUuid", "LvUuid"      "Dm": {"Name", "Number": "254:3", "Uuid"}
 *   "Kind":      how a copy of it would be kept: "cow" | "thin" (with "PoolUuid": the pool's LV uuid)
 *   "LvSize":    bytes      "Open": bool, somebody has it open, mounted or not
 *   "Pvs":       [{"Device": "/dev/sda2", "Number": "8:2"}]: the physical volumes on which it really has extents
 *   "Instant":   "set" | "volume" with "InstantReason": whether its copy can share an instant with others'
 *   "Top":       {"Name", "Number", "Uuid"}: the dm-crypt device that holds the filesystem, where that is not the logical
 *                volume itself: what is frozen lies there, what is copied is the encrypted volume beneath
 *   "Below":     [{"Path": s, "Kind": "subvolume|mount", "Type": s, "Id": s or absent}]   what lies below the volume's
 *                root and is not part of it: nested subvolumes (at any depth) and mounts; only with "Below": true
 *   "Namespaces": n of other mount namespaces in which the filesystem is mounted; only in `list`; absent
 *                when 0
 * }
 */
#pragma once

#include "coordinator/providers/provider.h"

extern const struct provider_op volumes_ops[];
