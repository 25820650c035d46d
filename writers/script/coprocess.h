/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A co-process: one long-lived executable that gets a line for each event on its stdin and answers each with a line on
 * its stdout. It is started at once, started again when it has died (after a second, later after up to a minute; at
 * once when there is an event for it), and killed when it does not answer in time or answers what makes no sense. */
#pragma once

#include <systemd/sd-event.h>

#include "writers/script/config.h"
#include "writers/script/task.h"
#include "writers/vsswriter.h"

struct coprocess;

struct coprocess_handlers {
	void (*alive)(void *data);
	void (*done)(enum vss_result result, const char *message, void *data);
	/* It has ended outside any event: whatever it held is lost. */
	void (*lost)(const char *why, void *data);
};

struct coprocess *coprocess_new(sd_event *loop, const struct config *config, const struct coprocess_handlers *handlers,
				void *data);
/* Its stdin is closed, which tells it to let go and end, for which it has two seconds. It is not started again; lost
 * follows. False: it does not run. */
bool coprocess_stop(struct coprocess *coprocess);
/* Kills it. Accepts NULL, returns NULL. */
struct coprocess *coprocess_free(struct coprocess *coprocess);

/* One event at a time; task is borrowed until done. */
int coprocess_send(struct coprocess *coprocess, const struct task *task, struct err *err);
/* The event is off, done will not come for it; its answer, still due, is read and dropped. */
void coprocess_cancel(struct coprocess *coprocess);
void coprocess_extend(struct coprocess *coprocess);
