/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/bundled/instances.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "writers/script/log.h"

static char *row_name(const json_t *row)
{
	const char *path = json_string_value(json_object_get(row, "LogicalPath"));
	const char *name = json_string_value(json_object_get(row, "Name"));
	char *text = NULL;

	if (name && asprintf(&text, "%s%s%s", path ?: "", path && *path ? "/" : "", name) < 0)
		return NULL;
	return text;
}

struct instance *instances_find(const struct instances *instances, const char *name)
{
	for (struct instance *i = instances->first; i; i = i->next)
		if (strcmp(i->name, name) == 0)
			return i;
	return NULL;
}

static void instance_free(const struct instances *instances, struct instance *instance)
{
	if (instance->state)
		instances->kind->forget(instance->state);
	json_decref(instance->row);
	free(instance->name);
	free(instance);
}

/* At the end, so that lists keep discovery's order. */
static struct instance *add(struct instances *instances, char *name)
{
	struct instance **link = &instances->first, *instance = calloc(1, sizeof *instance);

	if (!instance) {
		free(name);
		return NULL;
	}
	while (*link)
		link = &(*link)->next;
	instance->name = name;
	return *link = instance;
}

static void take(struct instances *instances, json_t *row)
{
	char *name = row_name(row);
	struct instance *instance = name ? instances_find(instances, name) : NULL;

	if (instance && instance->found) {
		log_line(LOG_WARNING, NULL, "there are two of %s: the second is left out", name);
		free(name);
		return;
	}
	if (instance)
		free(name);
	else if (!name || !(instance = add(instances, name)))
		return;
	instance->found = true;
	instance->served = !json_is_false(json_object_get(row, "Served"));
	json_decref(instance->row);
	instance->row = json_incref(row);
}

void instances_update(struct instances *instances, json_t *rows)
{
	struct instance **link = &instances->first;
	size_t i;
	json_t *row;

	for (struct instance *old = instances->first; old; old = old->next)
		old->found = false;
	json_array_foreach(rows, i, row)
		take(instances, row);
	while (*link) {
		struct instance *instance = *link;
		if (instance->found || instance->busy || instance->state) {
			link = &instance->next;
			continue;
		}
		*link = instance->next;
		instance_free(instances, instance);
	}
}

void instances_clear(struct instances *instances)
{
	while (instances->first) {
		struct instance *next = instances->first->next;
		instance_free(instances, instances->first);
		instances->first = next;
	}
}

bool instances_hold(const struct instances *instances)
{
	for (const struct instance *i = instances->first; i; i = i->next)
		if (i->state)
			return true;
	return false;
}

/* ---- components ---- */

static struct vss_file_set file_set(json_t *entry)
{
	json_t *recursive = json_object_get(entry, "Recursive");

	if (json_is_string(entry))
		return (struct vss_file_set){ json_string_value(entry), "*", true };
	return (struct vss_file_set){ json_string_value(json_object_get(entry, "Path")),
				      json_string_value(json_object_get(entry, "Spec")), !json_is_false(recursive) };
}

static void declare(const struct instance *instance, struct vss_writer *writer)
{
	json_t *paths = json_object_get(instance->row, "Paths"), *requires = json_object_get(instance->row, "Requires");
	autofree struct vss_file_set *files = calloc(json_array_size(paths) + 1, sizeof *files);
	autofree const char **needed = calloc(json_array_size(requires) + 1, sizeof *needed);
	json_t *entry;
	size_t i;

	if (!files || !needed)
		return;
	json_array_foreach(paths, i, entry)
		files[i] = file_set(entry);
	json_array_foreach(requires, i, entry)
		needed[i] = json_string_value(entry);
	const struct vss_component component = {
		.size = sizeof component,
		.logical_path = json_string_value(json_object_get(instance->row, "LogicalPath")),
		.name = json_string_value(json_object_get(instance->row, "Name")),
		.caption = json_string_value(json_object_get(instance->row, "Caption")),
		.database = json_is_true(json_object_get(instance->row, "Database")),
		.selectable = true,
		.files = files,
		.n_files = json_array_size(paths),
		.requires_paths = needed,
		.n_requires = json_array_size(requires),
	};
	int r = vss_writer_add_component(writer, &component);
	if (r < 0)
		log_line(LOG_ERR, NULL, "%s cannot be declared: %s", instance->name, strerror(-r));
}

void instances_declare(const struct instances *instances, struct vss_writer *writer)
{
	vss_writer_clear_components(writer);
	for (const struct instance *i = instances->first; i; i = i->next)
		if (i->found)
			declare(i, writer);
}
