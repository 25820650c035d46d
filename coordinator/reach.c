/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/reach.h"

void reach_component_paths(json_t *component, json_t *paths)
{
	size_t i;
	json_t *value;

	json_array_foreach(json_object_get(component, "Files"), i, value)
		json_object_set_new(paths, json_string_value(json_object_get(value, "Path")), json_true());
	json_array_foreach(json_object_get(component, "Requires"), i, value)
		json_object_set_new(paths, json_string_value(value), json_true());
}

json_t *reach_all_paths(const struct registry *registry)
{
	json_t *paths = json_object(), *component;
	size_t i;

	for (const struct writer *w = registry_first(registry); w; w = w->next) {
		json_array_foreach(w->components, i, component)
			reach_component_paths(component, paths);
		for (i = 0; w->manifest && i < w->manifest->n_paths; i++)
			json_object_set_new(paths, w->manifest->paths[i], json_true());
	}
	return paths;
}

json_t *reach_volumes(json_t *answer)
{
	json_t *volumes = json_object(), *row;
	size_t i;

	json_array_foreach(json_object_get(answer, "Volumes"), i, row) {
		const char *given = json_string_value(json_object_get(row, "Given"));
		if (given && json_object_get(row, "Id"))
			json_object_set(volumes, given, row);
	}
	return volumes;
}
