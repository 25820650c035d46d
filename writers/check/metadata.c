/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "metadata.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/id.h"
#include "writers/libvsswriter/covers.h"

#define FREEZE_LIMIT_MAX (60 * USEC_PER_SEC)
#define PATH_LENGTH_MAX 4096

struct complaint {
	char *text;
	size_t size;
};

static bool wrong(const struct complaint *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(const struct complaint *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(c->text, c->size, format, args);
	va_end(args);
	return false;
}

static const char *text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static bool is_one_of(const char *text, const char *const *list)
{
	while (*list && strcmp(*list, text) != 0)
		list++;
	return *list;
}

static size_t characters(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xC0) != 0x80;
	return n;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (iscntrl((unsigned char)*text))
			return false;
	return true;
}

static bool check_names(json_t *m, const struct complaint *c)
{
	static const char *const levels[] = { "front-end", "back-end", "system", NULL };
	static const char *const scopes[] = { "", "components", "all-volumes", NULL };
	const char *name = text_of(m, "Name");

	if (!id_is_valid(text_of(m, "Id")))
		return wrong(c, "Id must be a UUID in lower case, not \"%s\"", text_of(m, "Id"));
	if (!id_is_valid(text_of(m, "Instance")))
		return wrong(c, "Instance must be a UUID in lower case, not \"%s\"", text_of(m, "Instance"));
	if (characters(name) < 1 || characters(name) > 80 || !is_printable(name))
		return wrong(c, "Name must have 1 to 80 printable characters");
	if (!is_one_of(text_of(m, "Level"), levels))
		return wrong(c, "Level must be front-end, back-end or system, not \"%s\"", text_of(m, "Level"));
	if (!is_one_of(text_of(m, "Scope"), scopes))
		return wrong(c, "Scope must be components or all-volumes, not \"%s\"", text_of(m, "Scope"));
	return true;
}

static bool check_events(json_t *m, const struct complaint *c)
{
	static const char *const known[] = { "Identify", "PrepareBackup", "PrepareSnapshot", "Freeze", "Thaw",
					     "PostSnapshot", "BackupComplete", "BackupShutdown", "Abort", "PreRestore",
					     "PostRestore", NULL };
	json_t *event;
	size_t i;

	json_array_foreach(json_object_get(m, "Events"), i, event) {
		if (!json_is_string(event))
			return wrong(c, "Events must be an array of strings");
		if (!is_one_of(json_string_value(event), known))
			return wrong(c, "Events names \"%s\", which is no event", json_string_value(event));
	}
	return true;
}

static bool check_path(const char *path, const char *where, const struct complaint *c)
{
	if (*path != '/')
		return wrong(c, "%s must be an absolute path, not \"%s\"", where, path);
	if (strlen(path) > PATH_LENGTH_MAX)
		return wrong(c, "%s is longer than %d bytes", where, PATH_LENGTH_MAX);
	return true;
}

static bool check_component(json_t *component, const struct complaint *c)
{
	static const char *const types[] = { "database", "filegroup", NULL };
	json_t *files = json_object_get(component, "Files"), *requires = json_object_get(component, "Requires"), *row;
	size_t i;

	if (!*text_of(component, "Name"))
		return wrong(c, "A component has no Name");
	if (!is_one_of(text_of(component, "Type"), types))
		return wrong(c, "Type of component \"%s\" must be database or filegroup", text_of(component, "Name"));
	if (json_array_size(files) > 1024)
		return wrong(c, "Component \"%s\" has more than 1024 file sets", text_of(component, "Name"));
	json_array_foreach(files, i, row)
		if (!check_path(text_of(row, "Path"), "Files.Path", c))
			return false;
	json_array_foreach(requires, i, row)
		if (!json_is_string(row) || !check_path(json_string_value(row), "Requires", c))
			return json_is_string(row) ? false : wrong(c, "Requires must be an array of strings");
	return true;
}

bool metadata_is_valid(json_t *m, char *why, size_t size)
{
	const struct complaint c = { why, size };
	json_t *components = json_object_get(m, "Components"), *row;
	json_int_t limit = json_integer_value(json_object_get(m, "FreezeLimitUsec"));
	size_t i;

	if (!check_names(m, &c) || !check_events(m, &c))
		return false;
	if (limit < 0 || (uint64_t)limit > FREEZE_LIMIT_MAX)
		return wrong(&c, "FreezeLimitUsec is %lld; the most is 60000000", (long long)limit);
	if (json_array_size(components) > 256)
		return wrong(&c, "There are more than 256 components");
	json_array_foreach(components, i, row)
		if (!check_component(row, &c))
			return false;
	return true;
}

bool metadata_wants(json_t *metadata, const char *event)
{
	static const char *const always[] = { "Freeze", "Thaw", "Abort", NULL };
	json_t *name;
	size_t i;

	if (is_one_of(event, always))
		return true;
	json_array_foreach(json_object_get(metadata, "Events"), i, name)
		if (json_is_string(name) && strcmp(json_string_value(name), event) == 0)
			return true;
	return false;
}

uint64_t metadata_freeze_limit(json_t *metadata)
{
	json_int_t limit = json_integer_value(json_object_get(metadata, "FreezeLimitUsec"));

	return limit > 0 ? (uint64_t)limit : FREEZE_LIMIT_MAX;
}

static void add_volume_of(json_t *volumes, const char *path)
{
	char point[PATH_LENGTH_MAX + 1];
	FILE *mountinfo = fopen("/proc/self/mountinfo", "re");
	size_t n = mountinfo ? mount_prefix_length(mountinfo, path) : 1, i;
	json_t *row;

	if (mountinfo)
		fclose(mountinfo);
	snprintf(point, sizeof point, "%.*s", (int)(n ? n : 1), path);
	json_array_foreach(volumes, i, row)
		if (strcmp(text_of(row, "Path"), point) == 0)
			return;
	json_array_append_new(volumes, json_pack("{ss ss si}", "Path", point, "Id", point, "InstantGroup", 1));
}

json_t *metadata_volumes(json_t *metadata)
{
	json_t *volumes = json_array(), *component, *row;
	size_t i, j;

	json_array_foreach(json_object_get(metadata, "Components"), i, component) {
		json_array_foreach(json_object_get(component, "Files"), j, row)
			add_volume_of(volumes, text_of(row, "Path"));
		json_array_foreach(json_object_get(component, "Requires"), j, row)
			add_volume_of(volumes, json_string_value(row));
	}
	if (json_array_size(volumes) == 0)
		add_volume_of(volumes, "/");
	return volumes;
}
