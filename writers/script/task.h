/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One event to carry out, with everything that it takes: it outlives the library's event, which may be called off while
 * executables still run. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "writers/script/commands.h"
#include "writers/script/config.h"
#include "writers/vsswriter.h"

struct task {
	enum vss_event event;
	bool own; /* not vssd's: nobody waits for an answer */
	uint64_t begin, deadline;
	struct commands commands; /* none: line is for the co-process; no line either: nothing to do */
	char **environment;	  /* for the commands */
	char *line;
	int *fds; /* the copies' directories, in the order of the volumes */
	size_t n_fds;
};

/* -1: err says why the event cannot be carried out. An abort for which there is nothing runs what thaw would. */
int task_new(struct task **ret, const struct config *config, const struct vss_event_info *event, struct err *err);
struct task *task_free(struct task *task); /* accepts NULL, returns NULL */

/* Is there anything to do for this event? (Thaw's executables do not count for abort here.) */
bool task_is_served(const struct config *config, const struct commands *commands, enum vss_event event);
