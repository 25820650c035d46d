/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A volume of a set while its copy is prepared. */
#pragma once

#include "coordinator/providers/lvm/group.h"
#include "coordinator/providers/lvm/placeholder.h"

struct preparing_member {
	const char *copy, *path; /* path: of the volume, for messages */
	json_t *entry, *volume;	 /* borrowed from the request */
	const char *vg_uuid, *lv_uuid, *vg, *lv;
	dev_t origin;	 /* the logical volume's device */
	dev_t top;	 /* the one that holds the filesystem */
	json_t *row;	 /* LVM's of the origin; borrowed from the report */
	bool thin, made; /* made: LVM has been asked for the copy's volume */
	char name[COPY_NAME_SIZE];
	uint64_t extents; /* of the store */
	int source;
	struct placeholder placeholder;
};

struct preparation {
	const char *set, *host;
	unsigned max_cow, max_thin;
	uint64_t deadline;
	struct groups groups;
	char locks[256];     /* where LVM's locks lie */
	struct preparing_member members[LVM_MEMBERS_MAX];
	size_t n_members;
};

/* The rules by which LVM and the volume allow a copy, and the sizes of the stores; each refusal names object and rule.
 */
int preparation_check(struct preparation *p, struct err *err);
