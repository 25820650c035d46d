/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A child process in a session and process group of its own, whose output comes as lines, whose end is noticed by
 * pidfd, and which is killed, group and all, at its limit. Nothing here blocks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/error.h"
#include "writers/script/config.h"
#include "writers/script/lines.h"

#define CHILD_FIRST_FD 3 /* inherited descriptors begin here */

struct child;

enum child_output {
	CHILD_STDOUT,
	CHILD_STDERR, /* only of a child that converses; otherwise stderr goes where stdout goes */
};

struct child_handlers {
	void (*line)(enum child_output from, const char *line, void *data);
	/* All output has been delivered. killed: status is the signal. The child may be freed in here. */
	void (*exit)(bool killed, int status, void *data);
};

struct child_spec {
	const char *path;
	char *const *argv, *const *environment;
	const int *fds; /* inherited as CHILD_FIRST_FD and following */
	size_t n_fds;
	const struct config *config; /* its User= */
	bool converses;		     /* has a stdin that child_write reaches */
};

/* An executable that cannot be executed says so on its output and ends with exit code 127. */
int child_start(struct child **ret, sd_event *loop, const struct child_spec *spec,
		const struct child_handlers *handlers, void *data, struct err *err);
/* Kills the group if it has not ended. Accepts NULL, returns NULL. */
struct child *child_free(struct child *child);

/* SIGTERM to the group at `terminate`, SIGKILL at `kill` (absolute); USEC_INFINITY: never. */
int child_set_limit(struct child *child, uint64_t terminate, uint64_t kill);
bool child_passed_limit(const struct child *child); /* it has been sent SIGTERM or SIGKILL for its limit */
/* All of text or nothing. -1: the child does not read. */
int child_write(struct child *child, const char *text, struct err *err);
void child_close_stdin(struct child *child);
