/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stands in for subvolumes.c in a build without btrfs. */
#include "coordinator/providers/subvolumes.h"

#include <stddef.h>

int subvolume_locate(int directory, struct subvolume_place *ret, struct err *err)
{
	return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED, "vssd was built without btrfs");
}

char *subvolume_path(int directory, uint64_t id)
{
	return NULL;
}

int subvolume_for_each_nested(int directory, subvolume_fn visit, void *data, struct err *err)
{
	return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED, "vssd was built without btrfs");
}
