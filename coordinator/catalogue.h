/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The copies that exist. Their storage is the truth: this is vssd's view of it, read again whenever somebody asks, at
 * start, and when filesystems come or go. No D-Bus in here. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "common/error.h"
#include "coordinator/config.h"
#include "coordinator/workers.h"

struct catalogue;

struct catalogue_listener {
	void (*added)(const char *copy, void *data);
	void (*removed)(const char *copy, void *data);
	/* Is this session alive? A volatile copy or an unfinished one without a live session is swept. */
	bool (*session_lives)(const char *session, void *data);
	bool (*set_lives)(const char *set, void *data);
	void *data;
};

struct catalogue *catalogue_new(sd_event *event, struct workers *workers, const struct config *config,
				const char *machine_id, const struct catalogue_listener *listener);
struct catalogue *catalogue_free(struct catalogue *catalogue);

typedef void (*catalogue_fn)(const struct err *err, void *data);

/* Reads storage again; what several ask for meanwhile is one reading. fn (nullable) runs when it is done. Errors of
 * single filesystems are in catalogue_errors, not here. device (nullable): an unmounted one that the request names. */
void catalogue_refresh(struct catalogue *catalogue, catalogue_fn fn, void *data);
/* Soon, unless it happens anyway: filesystems have come or gone. */
void catalogue_storage_changed(struct catalogue *catalogue);

/* A copy that has just been sealed. */
void catalogue_add(struct catalogue *catalogue, json_t *volume, json_t *record);
void catalogue_forget(struct catalogue *catalogue, const char *copy);
bool catalogue_has(const struct catalogue *catalogue, const char *copy);
/* As a row of ListShadows; NULL if unknown. */
json_t *catalogue_row(const struct catalogue *catalogue, const char *copy);
/* Of all, or of those that fit the filter {"Shadow", "Set", "VolumeId"}; oldest first. */
json_t *catalogue_rows(const struct catalogue *catalogue, json_t *filter);
/* The same as one JSON text (an array); caller frees. NULL: out of memory. brief: without what is empty, and what only
 * details need. */
char *catalogue_text(const struct catalogue *catalogue, json_t *filter, bool brief);
size_t catalogue_count(const struct catalogue *catalogue);

/* Deletes the copy. fn runs exactly once, perhaps at once. VSS_E_VOLUME_IN_USE while it is exposed. */
void catalogue_remove(struct catalogue *catalogue, const char *copy, catalogue_fn fn, void *data);
/* Starts the provider's op on a copy: "mount", "expose", "unexpose", "record", "usage". request (taken) may be NULL. */
struct job *catalogue_run(struct catalogue *catalogue, const char *copy, const char *op, json_t *request, job_done_fn fn,
			  void *data, struct err *err);
void catalogue_set_exposed(struct catalogue *catalogue, const char *copy, const char *path);
bool catalogue_is_busy(const struct catalogue *catalogue);
