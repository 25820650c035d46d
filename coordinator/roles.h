/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The providers that vssd knows, as the coordinator sees them: each is a role of vss-worker. Volumes, copies and jobs name
 * their provider by its role. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ROLES_MAX 4

struct role_info {
	const char *name;     /* the worker's argument, and "Provider" of volumes and copies */
	const char *id;       /* UUID, fixed for ever */
	const char *home;     /* the member of a volume that says what its copies live in: "Filesystem" of a copy */
	bool window;          /* its volumes are held, by the guard, while the copies are cut */
	bool in_build;        /* else its worker answers that there are no copies, and it takes no volumes */
};

extern const struct role_info roles[];
extern const size_t n_roles;

/* NULL: unknown. */
const struct role_info *role_find(const char *name);
