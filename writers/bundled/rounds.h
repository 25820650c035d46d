/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rounds: an event carried out for all instances that it concerns, one round at a time, in the order in which events came. */
#pragma once

#include "writers/bundled/task-run.h"

#define ROUNDS_MAX 8 /* waiting for one that hangs */

struct round {
	struct event_copy *event;
	struct task_run **runs;
	size_t n, pending;
	bool given_up; /* the library has ended the event; the tasks' end is awaited */
	enum vss_result result;
	char message[1024];
	json_t *documents; /* {instance: document} */
	uint64_t kept_alive_at, keep_alive_every, alive_until;
	struct round *next;
};

struct rounds {
	const struct bundled_kind *kind;
	const json_t *settings;
	struct instances *instances;
	struct vss_writer *writer;
	struct done_list done;
	struct round *first; /* the one that is carried out */
};

/* Takes the event (NULL: no memory). What is under way is given up: whatever comes while an event is carried out means that
 * the library has ended that. -1: err; the event is freed. */
int rounds_add(struct rounds *rounds, struct event_copy *event, struct err *err);
/* An abort that nobody asked for, for all that is held. */
void rounds_abort(struct rounds *rounds, const char *why);
/* After done.fd was readable, and from time to time; what remains of a round may be answered in it. */
void rounds_turn(struct rounds *rounds);
uint64_t rounds_next_time(const struct rounds *rounds); /* by when rounds_turn is to be called; USEC_INFINITY */
