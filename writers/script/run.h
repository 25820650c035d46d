/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs the executables of one task, one after the other. */
#pragma once

#include <systemd/sd-event.h>

#include "writers/script/config.h"
#include "writers/script/task.h"
#include "writers/vsswriter.h"

struct run;

struct run_handlers {
	/* One has ended. complete: by itself; what was killed may have done half of its work. May be NULL. */
	void (*ended)(const char *path, bool succeeded, bool complete, void *data);
	void (*alive)(void *data); /* there was output: it is at work */
	/* message: the last line of the one that failed, or of the last one; "" if they were silent. The run may be
	 * freed. */
	void (*done)(enum vss_result result, const char *message, void *data);
};

/* task and config are borrowed until done. */
int run_start(struct run **ret, sd_event *loop, const struct config *config, const struct task *task,
	      const struct run_handlers *handlers, void *data, struct err *err);
/* The event is off: what runs is terminated, killed a moment later, and done follows. */
void run_cancel(struct run *run);
/* Starts the limit anew. */
void run_extend(struct run *run);
struct run *run_free(struct run *run); /* kills what runs; accepts NULL, returns NULL */

/* When an executable is terminated and killed, so that the answer is in time: after 90 % of span, counted from `from`,
 * or when event_limit (0: none) has passed since begin; killed a second later, or sooner if span is short. */
void run_limits(uint64_t event_limit, uint64_t begin, uint64_t from, uint64_t span, uint64_t *ret_terminate,
		uint64_t *ret_kill);
