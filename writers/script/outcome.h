/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a script's end, or a co-process' line, means for VSS. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "writers/vsswriter.h"

/* From waitid: status is the exit code, or the signal if `killed`. */
enum vss_result outcome_of_exit(bool killed, int status);
/* "ended with exit code 3", "was killed by signal 9 (Killed)". */
void outcome_describe_exit(bool killed, int status, char *text, size_t size);

enum answer {
	ANSWER_OK,	/* "ok" or "ok TEXT" */
	ANSWER_FAIL,	/* "fail CODE TEXT" */
	ANSWER_ALIVE,	/* "alive": still at work */
	ANSWER_COMMENT, /* "# TEXT": for the log */
	ANSWER_GARBAGE,
};
/* *ret_result is set for OK and FAIL; *ret_text points to the text behind, "" if there is none. */
enum answer answer_parse(const char *line, enum vss_result *ret_result, const char **ret_text);
