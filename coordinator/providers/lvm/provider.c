/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/names.h"
#include "coordinator/providers/lvm/ops.h"

/* clang-format off */
static const struct provider_op ops[] = {
	{ "prepare", lvm_prepare },
	{ "flush", lvm_flush },
	{ "arm", lvm_arm },
	{ "open", lvm_open },
	{ "seal", lvm_seal },
	{ "abort", lvm_abort },
	{ "list", lvm_list },
	{ "record", lvm_record },
	{ "remove", lvm_remove },
	{ "mount", lvm_mount },
	{ "expose", lvm_expose },
	{ "unexpose", lvm_unexpose },
	{ "usage", lvm_usage },
	{ "check-revert", lvm_check_revert },
	{ "revert", lvm_revert },
	{ "reverts", lvm_reverts },
	{ "end-reverts", lvm_end_reverts },
	{ "storage-list", lvm_storage_list },
	{ "storage-set", lvm_storage_set },
	{ "extend", lvm_extend },
	{ NULL, NULL },
};
/* clang-format on */

const struct provider lvm_provider = {
	.id = VSS_PROVIDER_LVM_ID,
	.name = "vssd LVM provider",
	.role = "lvm",
	.version = VSSD_VERSION,
	.ops = ops,
};
