/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/roles.h"

#include <string.h>

#include "common/cleanup.h"
#include "common/names.h"

#ifdef HAVE_BTRFS
#define WITH_BTRFS true
#else
#define WITH_BTRFS false
#endif
#ifdef HAVE_LVM
#define WITH_LVM true
#else
#define WITH_LVM false
#endif

const struct role_info roles[] = {
	{ .name = "btrfs", .id = VSS_PROVIDER_BTRFS_ID, .home = "FsUuid", .window = false, .in_build = WITH_BTRFS },
	{ .name = "lvm", .id = VSS_PROVIDER_LVM_ID, .home = "VgUuid", .window = true, .in_build = WITH_LVM },
};
const size_t n_roles = ARRAY_SIZE(roles);
_Static_assert(ARRAY_SIZE(roles) <= ROLES_MAX, "a set has room for a job of each role");

const struct role_info *role_find(const char *name)
{
	for (size_t i = 0; name && i < n_roles; i++)
		if (strcmp(roles[i].name, name) == 0)
			return &roles[i];
	return NULL;
}
