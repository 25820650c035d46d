/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coordinator/workers.h for tests: a provider and a volumes worker on a machine that the test draws up. Jobs go on the
 * tape as "job OP", those that are given up as "cancel OP". */
#pragma once

#include "coordinator/workers.h"
#include "tests/unit/fake-fanout.h"

/* Everything as if it had worked, on no storage at all. */
struct workers *fake_workers_new(sd_event *event);

/* A volume: paths at and below path lie on it. domain: what it shares with others (NULL: its own). */
void fake_workers_volume(struct workers *workers, const char *path, const char *id, const char *domain);
/* The same on a logical volume: its provider needs a window. */
void fake_workers_held_volume(struct workers *workers, const char *path, const char *id);
json_t *fake_workers_volume_row(const struct workers *workers, const char *id); /* borrowed */

/* What the next jobs of that op do ("list", or of one provider alone: "lvm list"); answer: JSON text in place of the usual
 * one. */
void fake_workers_rule(struct workers *workers, const char *op, enum fake_mode mode, enum vss_error error,
		       const char *answer);
void fake_workers_obey(struct workers *workers);
void fake_workers_cancel_all(struct workers *workers);
/* Ends the oldest open job of that op, which may be named as above: VSS_OK with the usual answer, or an error. */
void fake_workers_answer(struct workers *workers, const char *op, enum vss_error error);
/* The same, with this answer (JSON text). */
void fake_workers_answer_with(struct workers *workers, const char *op, const char *answer);
/* The newest request of that op (borrowed), NULL if there was none; and its deadline. */
json_t *fake_workers_request(const struct workers *workers, const char *op);
uint64_t fake_workers_deadline(const struct workers *workers, const char *op);

/* The storage: {copy: record, or null while it is unfinished}; borrowed. */
json_t *fake_workers_copies(const struct workers *workers);
/* Descriptors handed out by prepare, arm and open that nobody has closed yet. */
size_t fake_workers_open_fds(const struct workers *workers);
