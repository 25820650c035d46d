/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads that carry out tasks, and how the main loop hears of their end. */
#pragma once

#include <pthread.h>

#include "writers/bundled/event-copy.h"
#include "writers/bundled/instances.h"

/* Where threads say that they are done: fd is readable then. */
struct done_list {
	pthread_mutex_t lock;
	struct task_run *first;
	int fd;
};

struct task_run {
	struct bundled_task task;
	enum vss_result result;
	struct instance *instance;
	const struct bundled_kind *kind;
	struct done_list *done;
	pthread_t thread;
	int cancel_end; /* closing it makes task.cancel readable */
	json_t *row;
	struct task_run *next; /* in the list of those that are done */
};

int done_list_init(struct done_list *list); /* 0 or negative errno */
struct task_run *done_list_take(struct done_list *list);

/* Begins; NULL: err. The event must outlive the run. */
struct task_run *task_run_start(const struct bundled_kind *kind, const json_t *settings, struct instance *instance,
				const struct event_copy *event, uint64_t deadline, struct done_list *done, struct err *err);
void task_run_cancel(struct task_run *run);
/* Of one that is done. */
struct task_run *task_run_free(struct task_run *run);
