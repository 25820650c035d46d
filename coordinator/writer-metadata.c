/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/writer-metadata.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define FREEZE_LIMIT_DEFAULT (60 * USEC_PER_SEC)
#define LOGICAL_PATH_MAX 512

struct member {
	const char *name;
	json_type type;
};

static int refuse(struct err *err, const char *where, const char *rule)
{
	return err_set(err, VSS_E_INVALID_ARGUMENT, "The writer's metadata were refused: %s %s", where, rule);
}

static bool has_type(json_t *value, json_type type)
{
	return type == JSON_TRUE ? json_is_boolean(value) : json_typeof(value) == type;
}

static int check_members(json_t *object, const struct member *members, const char *what, struct err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return refuse(err, what, "is not a dictionary");
	json_object_foreach(object, key, value) {
		const struct member *m = members;
		while (m->name && strcmp(m->name, key) != 0)
			m++;
		if (!m->name)
			return err_set(err, VSS_E_INVALID_ARGUMENT,
				       "The writer's metadata were refused: %s has an unknown member \"%.64s\"", what, key);
		if (!has_type(value, m->type))
			return err_set(err, VSS_E_INVALID_ARGUMENT,
				       "The writer's metadata were refused: the member \"%.64s\" of %s has the wrong type",
				       key, what);
	}
	return 0;
}

/* Printable: it goes to terminals. */
static bool is_printable(const char *text, size_t max)
{
	size_t n = strlen(text);

	if (n == 0 || n > max)
		return false;
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7F)
			return false;
	return true;
}

static bool is_absolute_path(json_t *value)
{
	const char *path = json_string_value(value);

	return path && path[0] == '/' && strlen(path) < WRITER_PATH_MAX;
}

static int check_file(json_t *file, struct err *err)
{
	static const struct member members[] = {
		{ "Path", JSON_STRING }, { "Spec", JSON_STRING }, { "Recursive", JSON_TRUE }, { NULL }
	};

	if (check_members(file, members, "a file set", err) < 0)
		return -1;
	if (!is_absolute_path(json_object_get(file, "Path")))
		return refuse(err, "the Path of a file set", "is not an absolute path below 4096 bytes");
	return 0;
}

static int check_component(json_t *component, struct err *err)
{
	static const struct member members[] = {
		{ "LogicalPath", JSON_STRING }, { "Name", JSON_STRING },     { "Type", JSON_STRING },
		{ "Caption", JSON_STRING },	{ "Selectable", JSON_TRUE }, { "Files", JSON_ARRAY },
		{ "Requires", JSON_ARRAY },	{ NULL },
	};
	const char *name, *type, *logical;
	size_t i;
	json_t *value;

	if (check_members(component, members, "a component", err) < 0)
		return -1;
	name = json_string_value(json_object_get(component, "Name"));
	logical = json_string_value(json_object_get(component, "LogicalPath"));
	type = json_string_value(json_object_get(component, "Type"));
	if (!name || !is_printable(name, WRITER_NAME_MAX))
		return refuse(err, "the Name of a component", "is missing or not 1 to 80 printable characters");
	if (logical && *logical && !is_printable(logical, LOGICAL_PATH_MAX))
		return refuse(err, "the LogicalPath of a component", "is not at most 512 printable characters");
	if (type && strcmp(type, "database") != 0 && strcmp(type, "filegroup") != 0)
		return refuse(err, "the Type of a component", "is neither \"database\" nor \"filegroup\"");
	if (json_array_size(json_object_get(component, "Files")) > WRITER_FILES_MAX ||
	    json_array_size(json_object_get(component, "Requires")) > WRITER_FILES_MAX)
		return refuse(err, "a component", "has more than 1024 file sets");
	json_array_foreach(json_object_get(component, "Files"), i, value)
		if (check_file(value, err) < 0)
			return -1;
	json_array_foreach(json_object_get(component, "Requires"), i, value)
		if (!is_absolute_path(value))
			return refuse(err, "a member of Requires", "is not an absolute path below 4096 bytes");
	return 0;
}

static bool same_component(json_t *a, json_t *b)
{
	const char *pa = json_string_value(json_object_get(a, "LogicalPath")) ?: "";
	const char *pb = json_string_value(json_object_get(b, "LogicalPath")) ?: "";

	return strcmp(pa, pb) == 0 && json_equal(json_object_get(a, "Name"), json_object_get(b, "Name"));
}

static int check_components(json_t *components, struct err *err)
{
	size_t n = json_array_size(components);

	if (n > WRITER_COMPONENTS_MAX)
		return refuse(err, "the writer", "has more than 256 components");
	for (size_t i = 0; i < n; i++) {
		if (check_component(json_array_get(components, i), err) < 0)
			return -1;
		for (size_t j = 0; j < i; j++)
			if (same_component(json_array_get(components, i), json_array_get(components, j)))
				return refuse(err, "a component", "has the LogicalPath and Name of another one");
	}
	return 0;
}

static int check_ids(json_t *metadata, struct err *err)
{
	const char *id = json_string_value(json_object_get(metadata, "Id"));
	const char *instance = json_string_value(json_object_get(metadata, "Instance"));
	const char *name = json_string_value(json_object_get(metadata, "Name"));

	if (!id || !id_is_valid(id))
		return refuse(err, "Id", "is missing or not a UUID in lower case");
	if (!instance || !id_is_valid(instance))
		return refuse(err, "Instance", "is missing or not a UUID in lower case");
	if (!name || !is_printable(name, WRITER_NAME_MAX))
		return refuse(err, "Name", "is missing or not 1 to 80 printable characters");
	return 0;
}

static int check_texts(json_t *metadata, struct err *err)
{
	const char *level = json_string_value(json_object_get(metadata, "Level"));
	const char *scope = json_string_value(json_object_get(metadata, "Scope"));
	const char *instance_name = json_string_value(json_object_get(metadata, "InstanceName"));
	const char *version = json_string_value(json_object_get(metadata, "Version"));

	if (level && writer_level_from_name(level) < 0)
		return refuse(err, "Level", "is not \"front-end\", \"back-end\" or \"system\"");
	if (scope && strcmp(scope, "components") != 0 && strcmp(scope, "all-volumes") != 0)
		return refuse(err, "Scope", "is neither \"components\" nor \"all-volumes\"");
	if (instance_name && *instance_name && !is_printable(instance_name, WRITER_NAME_MAX))
		return refuse(err, "InstanceName", "is not at most 80 printable characters");
	if (version && *version && !is_printable(version, WRITER_NAME_MAX))
		return refuse(err, "Version", "is not at most 80 printable characters");
	return 0;
}

int writer_metadata_check(json_t *metadata, struct err *err)
{
	static const struct member members[] = {
		{ "Id", JSON_STRING },	    { "Instance", JSON_STRING }, { "Name", JSON_STRING },
		{ "InstanceName", JSON_STRING }, { "Version", JSON_STRING },  { "Level", JSON_STRING },
		{ "Events", JSON_ARRAY },   { "Scope", JSON_STRING },	 { "FreezeLimitUsec", JSON_INTEGER },
		{ "Components", JSON_ARRAY }, { NULL },
	};
	json_t *limit = json_object_get(metadata, "FreezeLimitUsec"), *event;
	size_t i;

	if (check_members(metadata, members, "it", err) < 0 || check_ids(metadata, err) < 0 ||
	    check_texts(metadata, err) < 0)
		return -1;
	if (limit && json_integer_value(limit) < 0)
		return refuse(err, "FreezeLimitUsec", "is negative");
	if (json_array_size(json_object_get(metadata, "Events")) > WRITER_EVENT_COUNT)
		return refuse(err, "Events", "names more events than there are");
	json_array_foreach(json_object_get(metadata, "Events"), i, event)
		if (!json_is_string(event) || writer_event_from_name(json_string_value(event)) < 0)
			return refuse(err, "Events", "names an event that does not exist");
	return check_components(json_object_get(metadata, "Components"), err);
}

static void apply_events(struct writer *writer, json_t *events)
{
	size_t i;
	json_t *event;

	for (int e = 0; e < WRITER_EVENT_COUNT; e++)
		writer->events[e] = !events;
	writer->events[WRITER_EVENT_FREEZE] = true;
	writer->events[WRITER_EVENT_THAW] = true;
	writer->events[WRITER_EVENT_ABORT] = true;
	json_array_foreach(events, i, event)
		writer->events[writer_event_from_name(json_string_value(event))] = true;
}

static int set_text(char **text, json_t *value)
{
	char *copy = strdup(json_string_value(value) ?: "");

	if (!copy)
		return -1;
	free(*text);
	*text = copy;
	return 0;
}

int writer_metadata_apply(struct writer *writer, json_t *metadata, struct err *err)
{
	const char *level = json_string_value(json_object_get(metadata, "Level"));
	const char *scope = json_string_value(json_object_get(metadata, "Scope"));
	json_int_t limit = json_integer_value(json_object_get(metadata, "FreezeLimitUsec"));
	json_t *components = json_object_get(metadata, "Components");

	if (set_text(&writer->name, json_object_get(metadata, "Name")) < 0 ||
	    set_text(&writer->instance_name, json_object_get(metadata, "InstanceName")) < 0 ||
	    set_text(&writer->version, json_object_get(metadata, "Version")) < 0)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a writer");
	writer->level = level ? (enum writer_level)writer_level_from_name(level) : WRITER_LEVEL_FRONT_END;
	if (writer->manifest && writer->manifest->level >= 0)
		writer->level = (enum writer_level)writer->manifest->level;
	writer->all_volumes = scope && strcmp(scope, "all-volumes") == 0;
	writer->freeze_limit = FREEZE_LIMIT_DEFAULT;
	if (limit > 0 && (uint64_t)limit < FREEZE_LIMIT_DEFAULT)
		writer->freeze_limit = (uint64_t)limit;
	apply_events(writer, json_object_get(metadata, "Events"));
	json_decref(writer->components);
	writer->components = components ? json_incref(components) : json_array();
	json_decref(writer->metadata);
	writer->metadata = json_incref(metadata);
	return 0;
}
