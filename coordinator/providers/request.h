/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading the members of a request: each getter says in err which member is missing or wrong. */
#pragma once

#include <stdbool.h>

#include "coordinator/providers/provider.h"

/* NULL with err. */
const char *request_string(const json_t *object, const char *key, struct err *err);
const char *request_id(const json_t *object, const char *key, struct err *err); /* a valid id (common/id.h) */
json_t *request_object(const json_t *object, const char *key, struct err *err); /* borrowed */
json_t *request_array(const json_t *object, const char *key, struct err *err);	/* borrowed */

/* -1 with err; the descriptor stays the frame's. */
int request_fd(const json_t *object, const char *key, const struct fd_list *fds, struct err *err);

#define MACHINE_ID_SIZE 33

/* The request's host or, where it names none, this machine's id; empty where it has none. */
const char *request_host(const json_t *request, char machine[MACHINE_ID_SIZE]);

bool request_flag(const json_t *object, const char *key); /* false when absent */
