/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/table.h"
#include "requestor/vssctl/vssctl.h"

static void print_long(FILE *out, json_t *row, const char *age)
{
	json_t *member;
	size_t index;

	fprintf(out, "Session: {%s}\n   State: %s\n", row_text(row, "Id"), row_text(row, "State"));
	if (*row_text(row, "Operation"))
		fprintf(out, "   Operation: %s\n", row_text(row, "Operation"));
	if (*row_text(row, "SetId"))
		fprintf(out, "   Shadow copy set ID: {%s}\n", row_text(row, "SetId"));
	fprintf(out, "   Owner: %s, process %" PRId64 ", user %" PRId64 "\n", row_text(row, "Owner"),
		row_number(row, "Pid"), row_number(row, "Uid"));
	fprintf(out, "   Command: %s\n   Age: %s\n", row_text(row, "Command"), age);
	json_array_foreach(json_object_get(row, "Members"), index, member)
		fprintf(out, "   Volume: %s\n", row_text(member, "Path"));
}

void print_waiting(FILE *out, json_t *rows)
{
	size_t index, i;
	json_t *row, *what;

	json_array_foreach(rows, index, row) {
		json_array_foreach(json_object_get(row, "WaitingFor"), i, what) {
			const char *command = row_text(what, "Command");
			fprintf(out, "Session %s waits for %s%s%s%s%s%s\n", row_text(row, "Id"),
				row_text(what, "Domain"), *row_text(what, "Session") ? ", held by session " : "",
				row_text(what, "Session"), *command ? " (" : "", command, *command ? ")" : "");
		}
	}
}

void print_sessions(FILE *out, json_t *rows, bool verbose, int64_t now)
{
	struct table table;
	size_t index;
	json_t *row;

	if (!verbose && table_begin(&table, out, "SESSION STATE >USER >PID >AGE COMMAND") < 0)
		return;
	json_array_foreach(rows, index, row) {
		char age[32], user[24], pid[24];

		format_age(age, (now - row_number(row, "Created")) * 1000000);
		if (verbose) {
			fputs(index > 0 ? "\n" : "", out);
			print_long(out, row, age);
			continue;
		}
		snprintf(user, sizeof user, "%" PRId64, row_number(row, "Uid"));
		snprintf(pid, sizeof pid, "%" PRId64, row_number(row, "Pid"));
		table_row(&table);
		table_cell(&table, row_text(row, "Id"));
		table_cell(&table, row_text(row, "State"));
		table_cell(&table, user);
		table_cell(&table, pid);
		table_cell(&table, age);
		table_cell(&table, row_text(row, "Command"));
	}
	if (!verbose)
		table_print(&table);
	print_waiting(out, rows);
}

int run_list_sessions(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *printable = NULL;

	if (vss_query(ctl->connection, "ListSessions", NULL, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	if (ctl->options.json)
		return print_json(ctl->out, "list sessions", "sessions", rows);
	if (json_array_size(rows) == 0) {
		fputs("No items found that satisfy the query.\n", ctl->out);
		return EXIT_OK;
	}
	printable = rows_printable(rows);
	print_sessions(ctl->out, printable, ctl->options.verbose, (int64_t)time(NULL));
	return EXIT_OK;
}
