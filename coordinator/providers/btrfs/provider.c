/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/names.h"
#include "coordinator/providers/btrfs/ops.h"

static const struct provider_op ops[] = {
	{ "prepare", btrfs_prepare },
	{ "flush", btrfs_flush },
	{ "cut", btrfs_cut },
	{ "arm", btrfs_arm },
	{ "open", btrfs_open },
	{ "seal", btrfs_seal },
	{ "abort", btrfs_abort },
	{ "list", btrfs_list },
	{ "record", btrfs_record },
	{ "remove", btrfs_remove },
	{ "mount", btrfs_mount },
	{ "expose", btrfs_expose },
	{ "unexpose", btrfs_unexpose },
	{ "usage", btrfs_usage },
	{ "check-revert", btrfs_check_revert },
	{ "revert", btrfs_revert },
	{ "storage-list", btrfs_storage_list },
	{ "storage-set", btrfs_storage_set },
	{ NULL, NULL },
};

const struct provider btrfs_provider = {
	.id = VSS_PROVIDER_BTRFS_ID,
	.name = "vssd btrfs provider",
	.role = "btrfs",
	.version = VSSD_VERSION,
	.ops = ops,
};
