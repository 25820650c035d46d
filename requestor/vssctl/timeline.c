/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What took how long in a set: the answer to "why were writes held". */
#include "common/cleanup.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

void print_timeline(FILE *out, json_t *rows)
{
	json_t *row;
	size_t index;

	fprintf(out, "Timeline, in ms:\n       begin        took\n");
	json_array_foreach(rows, index, row) {
		double begin = (double)row_number(row, "BeginUsec") / 1000, end = (double)row_number(row, "EndUsec") / 1000;
		const char *writer = row_text(row, "Writer"), *outcome = row_text(row, "Outcome");

		/* States that are over at once say nothing here. */
		if (!*writer && end - begin < 0.05)
			continue;
		fprintf(out, "  %10.1f  %10.1f  %s%s%s%s", begin, end - begin, row_text(row, "Phase"), *writer ? " '" : "",
			writer, *writer ? "'" : "");
		fprintf(out, *writer ? ": %s\n" : "\n", outcome);
	}
}

void tell_timeline(struct vssctl *ctl, struct vss_backup *backup, FILE *out)
{
	autojson json_t *properties = NULL, *printable = NULL;

	/* It is an extra: the set is what counts, and that went well. */
	if (vss_backup_properties(backup, &properties, NULL) < 0)
		return;
	printable = rows_printable(json_object_get(properties, "Timeline"));
	print_timeline(out, printable);
}
