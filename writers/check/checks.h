/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The checks, in the order in which they run. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "report.h"
#include "stage.h"

struct check_run {
	struct stage *stage;
	struct report *report;
	pid_t writer_pid;
	int copy_fd; /* directory that plays a copy in PostSnapshot */
	char session[ID_SIZE], set[ID_SIZE];
	char text[1536]; /* of the verdict */
};

struct check {
	const char *name;
	const char *about;
	/* Fills run->text. */
	enum verdict (*fn)(struct check_run *run);
};

extern const struct check checks[];
extern const size_t n_checks;

bool writer_has_ended(pid_t pid);
void check_run(struct check_run *run, const struct check *check);
