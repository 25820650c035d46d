/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Does a path lie on a volume of the set? Answered from the mount table, without touching the path. */
#include "writers/libvsswriter/covers.h"

#include <string.h>

#include "common/cleanup.h"

bool path_is_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	while (n > 1 && top[n - 1] == '/')
		n--;
	if (n == 1 && *top == '/')
		return *path == '/';
	return strncmp(path, top, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* The kernel writes space, tab, newline and backslash as three octal digits. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* The fifth field of a line of mountinfo. */
static char *mount_point(char *line)
{
	char *rest = line, *field = NULL;

	for (int i = 0; i < 5; i++)
		field = strsep(&rest, " ");
	if (!field)
		return NULL;
	unescape(field);
	return field;
}

size_t mount_prefix_length(FILE *mountinfo, const char *path)
{
	autofree char *line = NULL;
	size_t size = 0, longest = 0;

	while (getline(&line, &size, mountinfo) > 0) {
		const char *point = mount_point(line);
		if (point && path_is_below(path, point) && strlen(point) > longest)
			longest = strlen(point);
	}
	return longest;
}

bool vss_event_covers_path(const struct vss_event_info *event, const char *path)
{
	size_t longest = 0, mounted = 0;

	for (size_t i = 0; i < event->n_volumes; i++) {
		size_t n = strlen(event->volumes[i].path);
		if (path_is_below(path, event->volumes[i].path) && n > longest)
			longest = n;
	}
	if (longest == 0)
		return false;
	FILE *mountinfo = fopen("/proc/self/mountinfo", "re");
	if (mountinfo) {
		mounted = mount_prefix_length(mountinfo, path);
		fclose(mountinfo);
	}
	/* Something that is not in the set is mounted between the volume and the path. */
	return mounted <= longest;
}
