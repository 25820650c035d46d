/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where writers' data lie, as their components say. */
#pragma once

#include <jansson.h>

#include "coordinator/registry.h"

/* Adds the component's paths as keys of the object paths. */
void reach_component_paths(json_t *component, json_t *paths);
/* Every path that any writer or manifest names, each once, as the keys of a new object: what to ask the volumes worker. */
json_t *reach_all_paths(const struct registry *registry);
/* From that worker's answer: {path: volume}, of those that lie on a volume of this machine. */
json_t *reach_volumes(json_t *answer);
