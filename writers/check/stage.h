/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Plays vssd for one writer: owns its name, takes registrations and keep-alives, sends events and waits for answers.
 * For vss-writer-check and for tests. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/bus.h"
#include "common/id.h"

struct stage;

struct stage_answer {
	enum vss_error error; /* VSS_OK: body is set */
	char error_name[128]; /* the D-Bus error's, "" without one */
	char message[1024];
	json_t *body;
	uint64_t elapsed;     /* usec */
};

struct stage_event {
	const char *name;     /* method; "Freeze" */
	const char *session, *set;
	uint64_t deadline;    /* absolute; 0: a minute from now */
	json_t *details;      /* borrowed; NULL: a plain event without volumes */
	const int *fds;
	size_t n_fds;
};

int stage_open(struct stage **ret_stage, const char *address, struct err *err);
struct stage *stage_close(struct stage *stage);

/* vssd dies: every connection closes at once. stage_appear is its restart. */
void stage_vanish(struct stage *stage);
int stage_appear(struct stage *stage, struct err *err);
/* Only the connection that events are sent from is replaced. */
int stage_new_sender(struct stage *stage, struct err *err);

/* Polled along with the stage's own connections whenever it waits, so that a writer can live in the same thread. */
typedef int (*stage_dispatch_fn)(void *data);
void stage_set_companion(struct stage *stage, int fd, stage_dispatch_fn dispatch, void *data);

/* Registrations since the start of the instance that came first; metadata and sender are those of its last one. */
unsigned stage_registrations(const struct stage *stage);
unsigned stage_keep_alives(const struct stage *stage);
json_t *stage_metadata(const struct stage *stage); /* borrowed, NULL before the first */
const char *stage_writer_name(const struct stage *stage);
const char *stage_writer_path(const struct stage *stage);
void stage_refuse_registrations(struct stage *stage, bool refuse);

/* Both wait until it is so; false after that long. */
bool stage_wait_registrations(struct stage *stage, unsigned count, unsigned milliseconds);
void stage_wait(struct stage *stage, unsigned milliseconds);

/* Sends and waits for the answer, for at most a second more than the deadline. Clear the answer afterwards. */
void stage_send(struct stage *stage, const struct stage_event *event, struct stage_answer *answer);
/* Calls a method of the writer with the arguments as given (taken). */
void stage_call(struct stage *stage, const char *method, const char *signature, json_t *args, struct stage_answer *answer);
void stage_answer_clear(struct stage_answer *answer);

/* The same without waiting: *answer is filled by a later stage_wait... or stage_settle. At most one at a time. */
void stage_begin(struct stage *stage, const struct stage_event *event, struct stage_answer *answer, bool *done);
bool stage_settle(struct stage *stage, const bool *done, unsigned milliseconds);
