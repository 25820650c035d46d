/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A writer's metadata under the rules of docs/protocol.md. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False with the reason, for people, in why. */
bool metadata_is_valid(json_t *metadata, char *why, size_t size);
bool metadata_wants(json_t *metadata, const char *event);
uint64_t metadata_freeze_limit(json_t *metadata); /* usec */
/* An aa{sv} of the mounted volumes that hold its components; "/" if there are none. */
json_t *metadata_volumes(json_t *metadata);
