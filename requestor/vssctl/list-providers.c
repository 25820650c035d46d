/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/cleanup.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

void print_providers(FILE *out, json_t *rows, bool verbose)
{
	size_t index;
	json_t *row;

	json_array_foreach(rows, index, row) {
		const char *type = row_text(row, "Type"), *problem = row_text(row, "Problem");

		fprintf(out, "%sProvider name: '%s'\n", index > 0 ? "\n" : "", row_text(row, "Name"));
		fprintf(out, "   Provider type: %s\n", *type ? type : "System");
		fprintf(out, "   Provider Id: {%s}\n", row_text(row, "Id"));
		fprintf(out, "   Version: %s\n", row_text(row, "Version"));
		if (verbose && *problem)
			fprintf(out, "   Problem: %s\n", problem);
	}
}

int run_list_providers(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *printable = NULL;

	if (vss_query(ctl->connection, "ListProviders", NULL, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	if (ctl->options.json)
		return print_json(ctl->out, "list providers", "providers", rows);
	if (json_array_size(rows) == 0)
		fputs("No items found that satisfy the query.\n", ctl->out);
	printable = rows_printable(rows);
	print_providers(ctl->out, printable, ctl->options.verbose);
	return EXIT_OK;
}
