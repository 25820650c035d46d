/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a live path to the same file in the copies. Purely lexical: nothing is looked up in the filesystem, so that it
 * works for files that are gone meanwhile, and cannot hang. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "requestor/connection.h"

/* An absolute path without empty and "." components; ".." is refused, as it may lead through a symbolic link. */
static char *normalize(const char *path)
{
	char *clean = path && *path == '/' ? malloc(strlen(path) + 2) : NULL;
	size_t n = 0;

	while (clean && *path) {
		size_t length = strcspn(path, "/");

		if (length == 2 && strncmp(path, "..", 2) == 0) {
			free(clean);
			return NULL;
		}
		if (length > 0 && !(length == 1 && *path == '.')) {
			clean[n++] = '/';
			memcpy(clean + n, path, length);
			n += length;
		}
		path += length + (path[length] == '/');
	}
	if (clean)
		memcpy(clean + n, n == 0 ? "/" : "", n == 0 ? 2 : 1);
	return clean;
}

/* The part of path below directory, beginning with "/" or empty; NULL if it does not lie there. */
static const char *below(const char *path, const char *directory)
{
	size_t n = strcmp(directory, "/") == 0 ? 0 : strlen(directory);

	if (strncmp(path, directory, n) != 0 || (path[n] != '/' && path[n] != '\0'))
		return NULL;
	return strcmp(path + n, "/") == 0 ? "" : path + n;
}

/* The row whose volume is the deepest one that holds path. */
static json_t *find_shadow(json_t *result, const char *path)
{
	json_t *row, *best = NULL;
	size_t index, deepest = 0;

	json_array_foreach(json_object_get(result, "Shadows"), index, row) {
		const char *volume = json_string_value(json_object_get(row, "Volume"));
		if (volume && below(path, volume) && strlen(volume) > deepest) {
			deepest = strlen(volume);
			best = row;
		}
	}
	return best;
}

/* A volume between the copied one and the path that is not in the set: there, the copy has an empty directory. */
static const char *find_gap(json_t *result, const char *path, const char *volume)
{
	json_t *item;
	size_t index;

	json_array_foreach(json_object_get(result, "NotIncluded"), index, item) {
		const char *left_out = json_string_value(item);
		if (left_out && below(path, left_out) && below(left_out, volume) && strcmp(left_out, volume) != 0)
			return left_out;
	}
	return NULL;
}

int vss_map_path(json_t *result, const char *root, const char *live_path, char **ret_path, struct vss_failure *error)
{
	autofree char *path = normalize(live_path);

	if (!path)
		return fail(error, VSS_E_INVALID_ARGUMENT, "\"%s\" is not an absolute path without \"..\"",
			    live_path ? live_path : "");
	json_t *row = find_shadow(result, path);
	if (!row)
		return fail(error, VSS_E_OBJECT_NOT_FOUND, "%s: the volume that holds it is not in the set", path);
	const char *volume = json_string_value(json_object_get(row, "Volume"));
	const char *gap = find_gap(result, path, volume);
	if (gap)
		return fail(error, VSS_E_OBJECT_NOT_FOUND,
			    "%s: the volume at %s that holds it is not in the set; add it, or use Recursive", path,
			    gap);
	const char *exposed = json_string_value(json_object_get(row, "Exposed"));
	bool mapped_root = root && *root;
	if (!mapped_root && (!exposed || !*exposed))
		return fail(error, VSS_E_BAD_STATE, "%s: the copy of %s is not exposed anywhere", path, volume);
	const char *base = mapped_root ? root : exposed;
	const char *rest = mapped_root ? (strcmp(path, "/") == 0 ? "" : path) : below(path, volume);
	size_t n = strlen(base);
	while (n > 1 && base[n - 1] == '/')
		n--;
	if (n == 1 && *base == '/')
		n = *rest ? 0 : 1;
	if (asprintf(ret_path, "%.*s%s", (int)n, base, rest) < 0)
		return fail(error, VSS_E_OUT_OF_MEMORY, "Out of memory for the path of %s in its copy", path);
	return 0;
}
