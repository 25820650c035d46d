/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the writer says of itself: its components and its metadata. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/libvsswriter/writer.h"

#define COMPONENTS_MAX 256
#define FILE_SETS_MAX 1024

static const char *const level_names[] = {
	[VSS_LEVEL_FRONT_END] = "front-end",
	[VSS_LEVEL_BACK_END] = "back-end",
	[VSS_LEVEL_SYSTEM] = "system",
};

static json_t *absolute_path(const char *path)
{
	if (!path || *path != '/' || strlen(path) > PATH_MAX)
		return NULL;
	return json_string(path);
}

static int add_files(json_t *files, const struct vss_component *component)
{
	if (component->n_files > FILE_SETS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < component->n_files; i++) {
		const struct vss_file_set *set = &component->files[i];
		json_t *path = absolute_path(set->path);
		if (!path)
			return -EINVAL;
		json_t *row = json_pack("{so ss sb}", "Path", path, "Spec", set->spec ? set->spec : "*", "Recursive",
					set->recursive);
		if (!row)
			return -EILSEQ;
		json_array_append_new(files, row);
	}
	return 0;
}

static int add_requires(json_t *requires, const struct vss_component *component)
{
	if (component->n_requires > FILE_SETS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < component->n_requires; i++) {
		json_t *path = absolute_path(component->requires_paths[i]);
		if (!path)
			return -EINVAL;
		json_array_append_new(requires, path);
	}
	return 0;
}

static bool same_text(json_t *row, const char *key, const char *text)
{
	return strcmp(json_string_value(json_object_get(row, key)), text ? text : "") == 0;
}

static bool exists(json_t *components, const struct vss_component *component)
{
	size_t i;
	json_t *row;

	json_array_foreach(components, i, row)
		if (same_text(row, "LogicalPath", component->logical_path) && same_text(row, "Name", component->name))
			return true;
	return false;
}

int vss_writer_add_component(struct vss_writer *writer, const struct vss_component *component)
{
	struct vss_component c = { 0 };
	autojson json_t *files = json_array(), *requires = json_array();

	if (component->size < offsetof(struct vss_component, name) + sizeof component->name)
		return -EINVAL;
	memcpy(&c, component, component->size < sizeof c ? component->size : sizeof c);
	if (!c.name || !*c.name || strchr(c.name, '/'))
		return -EINVAL;
	if (exists(writer->components, &c))
		return -EEXIST;
	if (json_array_size(writer->components) >= COMPONENTS_MAX)
		return -E2BIG;
	int r = add_files(files, &c);
	if (r == 0)
		r = add_requires(requires, &c);
	if (r < 0)
		return r;
	json_t *row = json_pack("{ss ss ss ss sb}", "LogicalPath", c.logical_path ? c.logical_path : "", "Name", c.name,
				"Type", c.database ? "database" : "filegroup", "Caption", c.caption ? c.caption : "",
				"Selectable", c.selectable);
	if (!row)
		return -EILSEQ;
	if (json_array_size(files) > 0)
		json_object_set(row, "Files", files);
	if (json_array_size(requires) > 0)
		json_object_set(row, "Requires", requires);
	return json_array_append_new(writer->components, row) < 0 ? -ENOMEM : 0;
}

void vss_writer_clear_components(struct vss_writer *writer)
{
	/* Metadata that was given away may still hold the old array. */
	json_decref(writer->components);
	writer->components = json_array();
}

static json_t *wanted_events(const struct vss_writer_ops *ops)
{
	json_t *events = json_array();

	for (enum vss_event event = 0; event < EVENT_COUNT; event++) {
		bool always = event == VSS_EVENT_FREEZE || event == VSS_EVENT_THAW || event == VSS_EVENT_ABORT;
		/* The library answers Identify by itself: it shows that the writer is alive. */
		if (!always && (event == VSS_EVENT_IDENTIFY || ops_callback(ops, event)))
			json_array_append_new(events, json_string(vss_event_name(event)));
	}
	return events;
}

json_t *writer_metadata(const struct vss_writer *writer)
{
	const struct vss_writer_ops *ops = &writer->ops;
	json_t *metadata = json_pack("{ss ss ss ss ss ss so ss sI}", "Id", ops->id, "Instance", writer->instance, "Name",
				     ops->name, "InstanceName", ops->instance_name ? ops->instance_name : "", "Version",
				     ops->app_version ? ops->app_version : "", "Level", level_names[ops->level], "Events",
				     wanted_events(ops), "Scope", ops->all_volumes ? "all-volumes" : "components",
				     "FreezeLimitUsec", (json_int_t)(ops->freeze_limit_msec * USEC_PER_MSEC));

	/* An empty array would go out as an array of strings. */
	if (metadata && json_array_size(writer->components) > 0)
		json_object_set(metadata, "Components", writer->components);
	return metadata;
}
