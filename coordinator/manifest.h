/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Manifests of installed writers (docs/protocol.md, "Manifests"): who is expected, who may own it, how it is started. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/id.h"

#define MANIFEST_PATHS_MAX 32

struct manifest {
	char *file; /* the path it was read from */
	char id[ID_SIZE];
	char *name;
	int level; /* enum vss_level of writers/vsswriter.h by number, or -1: as the writer says */
	char *user;
	uid_t uid; /* (uid_t)-1 when there is no such user (yet): then only root may own it */
	char *unit, *bus_name; /* NULL where not given */
	char *paths[MANIFEST_PATHS_MAX];
	size_t n_paths;
};

struct manifests {
	struct manifest *items;
	size_t n;
};

/* Called for each file that is refused; err names file, line and rule. The others are used. */
typedef void (*manifest_error_fn)(const struct err *err, void *data);

/* Reads *.writer of the directories (later ones override earlier ones by file name; an empty file or a link to
 * /dev/null masks). directories ends with NULL; missing ones are skipped. A file that is writable by others than its
 * owner or not owned by root (or by our own user) is refused. Two with the same id: the second (by name) is refused. */
int manifests_read(struct manifests *manifests, const char *const *directories, manifest_error_fn on_error, void *data,
		   struct err *err);
void manifests_done(struct manifests *manifests);
const struct manifest *manifests_find(const struct manifests *manifests, const char *id);
