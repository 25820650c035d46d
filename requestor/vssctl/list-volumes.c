/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "common/cleanup.h"
#include "common/size.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/table.h"
#include "requestor/vssctl/vssctl.h"

static void print_long(FILE *out, json_t *row)
{
	autofree char *domains = row_join(row, "Domains", ", ");
	const char *why = row_text(row, "Why"), *provider = row_text(row, "Provider");

	fprintf(out, "Volume path: %s\n", row_text(row, "Path"));
	fprintf(out, "    Volume name: %s\n", row_text(row, "Id"));
	fprintf(out, "    Type: %s\n", row_text(row, "Type"));
	fprintf(out, "    Device: %s\n", row_text(row, "Device"));
	if (*row_text(row, "Label"))
		fprintf(out, "    Label: %s\n", row_text(row, "Label"));
	fprintf(out, "    Provider: %s\n", *provider ? provider : "none");
	if (*why)
		fprintf(out, "    Why not: %s\n", why);
	if (domains && *domains)
		fprintf(out, "    Shares with others: %s\n", domains);
}

void print_volumes(FILE *out, json_t *rows, bool verbose)
{
	struct table table;
	size_t index;
	json_t *row;

	if (verbose) {
		json_array_foreach(rows, index, row) {
			if (index > 0)
				fputc('\n', out);
			print_long(out, row);
		}
		return;
	}
	if (table_begin(&table, out, "VOLUME TYPE DEVICE PROVIDER NOTE") < 0)
		return;
	json_array_foreach(rows, index, row) {
		const char *provider = row_text(row, "Provider");

		table_row(&table);
		table_cell(&table, row_text(row, "Path"));
		table_cell(&table, row_text(row, "Type"));
		table_cell(&table, row_text(row, "Device"));
		table_cell(&table, *provider ? provider : "none");
		table_cell(&table, row_text(row, "Why"));
	}
	table_print(&table);
}

void print_candidates(FILE *out, json_t *rows)
{
	static const char *const kinds[][2] = { { "vg", "volume group" },
						{ "pv", "physical volume" },
						{ "pool", "thin pool" },
						{ "fs", "filesystem" } };
	struct table table;
	size_t index;
	json_t *row;

	if (table_begin(&table, out, "STORAGE KIND >SIZE >FREE MAY NOTE") < 0)
		return;
	json_array_foreach(rows, index, row) {
		char size[SIZE_TEXT], free_space[SIZE_TEXT];
		const char *kind = row_text(row, "Kind");

		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
			kind = strcmp(kind, kinds[i][0]) == 0 ? kinds[i][1] : kind;
		size_format((uint64_t)row_number(row, "Size"), size);
		size_format((uint64_t)row_number(row, "Free"), free_space);
		table_row(&table);
		table_cell(&table, row_text(row, "Name"));
		table_cell(&table, kind);
		table_cell(&table, size);
		table_cell(&table, free_space);
		table_cell(&table, row_true(row, "Candidate") ? "yes" : "no");
		table_cell(&table, row_text(row, "Why"));
	}
	table_print(&table);
}

static int list_candidates(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *printable = NULL, *options = NULL;
	char **paths = NULL;
	int r;

	if (ctl->options.for_paths.n > 1)
		return vssctl_usage(ctl, "list volumes takes one --for");
	r = absolute_paths(ctl, &ctl->options.for_paths, &paths);
	if (r != EXIT_OK)
		return r;
	options = json_pack("{ss}", "For", paths[0]);
	paths_free(paths, 1);
	if (vss_query(ctl->connection, "ListVolumes", options, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	if (ctl->options.json)
		return print_json(ctl->out, "list volumes", "candidates", rows);
	printable = rows_printable(rows);
	print_candidates(ctl->out, printable);
	return EXIT_OK;
}

int run_list_volumes(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *printable = NULL;

	if (ctl->options.for_paths.n > 0)
		return list_candidates(ctl);

	if (vss_query(ctl->connection, "ListVolumes", NULL, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	if (ctl->options.json)
		return print_json(ctl->out, "list volumes", "volumes", rows);
	if (json_array_size(rows) == 0) {
		fputs("No items found that satisfy the query.\n", ctl->out);
		return EXIT_OK;
	}
	printable = rows_printable(rows);
	print_volumes(ctl->out, printable, ctl->options.verbose);
	return EXIT_OK;
}
