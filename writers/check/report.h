/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the checks found: lines for people as they come, or one JSON document at the end. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum verdict {
	VERDICT_PASS,
	VERDICT_FAIL,
	VERDICT_SKIP,
};

struct report {
	bool as_json;
	unsigned counts[3]; /* by verdict */
	json_t *checks, *timings, *writer;
};

void report_init(struct report *report, bool as_json);
void report_clear(struct report *report);
void report_verdict(struct report *report, const char *check, enum verdict verdict, uint64_t elapsed, const char *text);
void report_timing(struct report *report, const char *event, uint64_t elapsed);
void report_writer(struct report *report, json_t *metadata); /* borrowed */
/* The summary, or the document. */
void report_print_end(const struct report *report);
