/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <stdio.h>

#include "common/clock.h"

static const char *const verdict_names[] = { "PASS", "FAIL", "SKIP" };

void report_init(struct report *report, bool as_json)
{
	*report = (struct report){ .as_json = as_json, .checks = json_array(), .timings = json_object() };
}

void report_clear(struct report *report)
{
	json_decref(report->checks);
	json_decref(report->timings);
	json_decref(report->writer);
}

void report_verdict(struct report *report, const char *check, enum verdict verdict, uint64_t elapsed, const char *text)
{
	report->counts[verdict]++;
	json_array_append_new(report->checks,
			      json_pack("{ss ss ss sI}", "Check", check, "Result", verdict_names[verdict], "Text", text,
					"ElapsedUsec", (json_int_t)elapsed));
	if (report->as_json)
		return;
	printf("%s  %-16s  %s\n", verdict_names[verdict], check, text);
	fflush(stdout);
}

static json_int_t number(json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

void report_timing(struct report *report, const char *event, uint64_t elapsed)
{
	json_t *row = json_object_get(report->timings, event);
	json_int_t usec = (json_int_t)elapsed;

	if (!row) {
		row = json_pack("{sI sI sI}", "Count", (json_int_t)0, "MaxUsec", (json_int_t)0, "TotalUsec", (json_int_t)0);
		json_object_set_new(report->timings, event, row);
	}
	json_object_set_new(row, "Count", json_integer(number(row, "Count") + 1));
	json_object_set_new(row, "TotalUsec", json_integer(number(row, "TotalUsec") + usec));
	if (usec > number(row, "MaxUsec"))
		json_object_set_new(row, "MaxUsec", json_integer(usec));
}

void report_writer(struct report *report, json_t *metadata)
{
	json_decref(report->writer);
	report->writer = json_incref(metadata);
}

static double milliseconds(json_int_t usec)
{
	return (double)usec / (double)USEC_PER_MSEC;
}

static void print_timings(const struct report *report)
{
	const char *event;
	json_t *row;

	printf("\n%-16s %7s %12s %12s\n", "Event", "answers", "mean", "longest");
	json_object_foreach(report->timings, event, row) {
		json_int_t count = number(row, "Count");
		printf("%-16s %7lld %9.1f ms %9.1f ms\n", event, (long long)count,
		       milliseconds(number(row, "TotalUsec")) / (double)count, milliseconds(number(row, "MaxUsec")));
	}
}

void report_print_end(const struct report *report)
{
	const unsigned *n = report->counts;

	if (report->as_json) {
		json_t *all = json_pack("{sb sI sI sI sO sO sO?}", "Passed", n[VERDICT_FAIL] == 0, "Pass",
					(json_int_t)n[VERDICT_PASS], "Fail", (json_int_t)n[VERDICT_FAIL], "Skip",
					(json_int_t)n[VERDICT_SKIP], "Checks", report->checks, "Timings", report->timings,
					"Writer", report->writer);
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
		return;
	}
	if (json_object_size(report->timings) > 0)
		print_timings(report);
	printf("\n%u passed, %u failed, %u skipped.\n", n[VERDICT_PASS], n[VERDICT_FAIL], n[VERDICT_SKIP]);
}
