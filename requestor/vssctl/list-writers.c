/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>

#include "common/cleanup.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

#define PROBE_USEC UINT64_C(1900000) /* so that the whole command is done within two seconds */

/* Parsers of vssadmin's output know these five lines to the letter. */
void print_writer(FILE *out, json_t *row)
{
	fprintf(out, "Writer name: '%s'\n", row_text(row, "Name"));
	fprintf(out, "   Writer Id: {%s}\n", row_text(row, "WriterId"));
	fprintf(out, "   Writer Instance Id: {%s}\n", row_text(row, "InstanceId"));
	fprintf(out, "   State: [%" PRId64 "] %s\n", row_number(row, "State"), row_text(row, "StateText"));
	fprintf(out, "   Last error: %s\n", row_text(row, "LastError"));
}

static void print_if_any(FILE *out, const char *label, const char *text)
{
	if (*text)
		fprintf(out, "   %s: %s\n", label, text);
}

static void print_failure(FILE *out, json_t *row)
{
	if (row_number(row, "Code") == 0)
		return;
	fprintf(out, "   Failed at: %s, ", row_text(row, "Phase"));
	print_time(out, row_number(row, "FailedAt"));
	fputs(", after ", out);
	print_msec(out, row_number(row, "ElapsedUsec"));
	fprintf(out, "\n   Code: 0x%08" PRIx64 "\n", (uint64_t)row_number(row, "Code"));
}

static void print_components(FILE *out, json_t *row)
{
	json_t *component;
	size_t index;

	json_array_foreach(json_object_get(row, "Components"), index, component) {
		const char *logical = row_text(component, "LogicalPath");
		fprintf(out, "   Component: %s%s%s\n", logical, *logical ? "/" : "", row_text(component, "Name"));
	}
}

static void print_timings(FILE *out, json_t *row)
{
	const char *event;
	json_t *usec;

	json_object_foreach(json_object_get(row, "Timings"), event, usec) {
		fprintf(out, "   %s: ", event);
		print_msec(out, json_integer_value(usec));
		fputc('\n', out);
	}
}

static void print_details(FILE *out, json_t *row)
{
	char age[32];

	print_failure(out, row);
	print_if_any(out, "Message", row_text(row, "Message"));
	print_if_any(out, "Instance name", row_text(row, "Instance"));
	print_if_any(out, "Version", row_text(row, "Version"));
	print_if_any(out, "Level", row_text(row, "Level"));
	print_if_any(out, "Unit", row_text(row, "Unit"));
	print_if_any(out, "Bus name", row_text(row, "BusName"));
	if (row_true(row, "Present"))
		fprintf(out, "   Process: %" PRId64 ", user %" PRId64 "\n", row_number(row, "Pid"),
			row_number(row, "Uid"));
	fprintf(out, "   Present: %s, expected: %s\n", row_true(row, "Present") ? "yes" : "no",
		row_true(row, "Expected") ? "yes" : "no");
	if (row_true(row, "Present")) {
		format_age(age, row_number(row, "AgeUsec"));
		fprintf(out, "   Last heard of: %s ago\n", age);
	}
	print_if_any(out, "Scope", row_text(row, "Scope"));
	print_components(out, row);
	print_timings(out, row);
}

void print_writers(FILE *out, json_t *rows, bool verbose)
{
	size_t index;
	json_t *row;

	json_array_foreach(rows, index, row) {
		if (index > 0)
			fputc('\n', out);
		print_writer(out, row);
		if (verbose)
			print_details(out, row);
	}
}

int run_list_writers(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *options = NULL, *printable = NULL;
	bool probe = ctl->options.probe;

	if (probe) {
		fputs("Waiting for responses.\nThese may be delayed if a shadow copy is being prepared.\n", ctl->err);
		options = json_pack("{sI}", "TimeoutUsec", (json_int_t)PROBE_USEC);
	}
	if (vss_query(ctl->connection, probe ? "ProbeWriters" : "ListWriters", options, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	if (ctl->options.json)
		return print_json(ctl->out, "list writers", "writers", rows);
	if (json_array_size(rows) == 0)
		fputs("No items found that satisfy the query.\n", ctl->out);
	printable = rows_printable(rows);
	print_writers(ctl->out, printable, ctl->options.verbose);
	return EXIT_OK;
}
