/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An event as it came over the bus, in the shape in which callbacks get it. */
#pragma once

#include <jansson.h>

#include "common/error.h"
#include "writers/vsswriter.h"

#define EVENT_VOLUMES_MAX 256

/* A zeroed one is empty. info points into the rest. */
struct event_input {
	struct vss_event_info info;
	json_t *texts; /* array of the messages' arguments, which own the strings */
	struct vss_volume *volumes;
	const char **components;
	bool more; /* further volumes come in a further message */
};

/* Takes the descriptor number index of the message; -1 if there is none. */
typedef int (*event_take_fd_fn)(void *data, json_int_t index);

/* args: [session, set, deadline, {...}], or [{...}] for Identify. input is zeroed on failure. */
int event_input_read(struct event_input *input, enum vss_event event, json_t *args, event_take_fd_fn take_fd,
		     void *data, struct err *err);
/* Adds the volumes of an earlier message to input and empties earlier. */
int event_input_join(struct event_input *input, struct event_input *earlier, struct err *err);
/* Closes the copies' descriptors. */
void event_input_clear(struct event_input *input);
