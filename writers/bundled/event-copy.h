/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An event that outlives the library's: its answer may be given up while a thread is still at work on it. */
#pragma once

#include "writers/vsswriter.h"

struct event_copy {
	enum vss_event event;
	char *session, *set, *backup_type;
	bool persistent, succeeded, verify;
	uint64_t deadline;
	struct vss_volume *volumes; /* with descriptors of our own */
	size_t n_volumes;
	char **components;
	bool own; /* an abort of ours, which nobody waits for */
};

struct event_copy *event_copy_new(const struct vss_event_info *event); /* NULL: no memory, or no descriptors left */
struct event_copy *event_copy_free(struct event_copy *copy);	       /* returns NULL */
bool event_copy_names(const struct event_copy *copy, const char *component);
