/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <time.h>

#include "common/cleanup.h"
#include "requestor/vssctl/held.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

/* Writers that an administrator should look at: failed, or expected and not there. */
static void print_troubled(FILE *out, json_t *writers)
{
	size_t index;
	json_t *row;

	json_array_foreach (writers, index, row) {
		if (row_true(row, "Expected") && !row_true(row, "Present"))
			fprintf(out, "Writer '%s' is expected and not there%s%s\n", row_text(row, "Name"),
				*row_text(row, "Unit") ? ": see systemctl status " : "", row_text(row, "Unit"));
		else if (row_number(row, "Code") != 0)
			fprintf(out, "Writer '%s': [%" PRId64 "] %s, %s (vssctl list writers -v)\n",
				row_text(row, "Name"), row_number(row, "State"), row_text(row, "StateText"),
				row_text(row, "LastError"));
	}
}

/* What is held comes first: it is asked of the guard, and there where vssd or the bus is not. */
static json_t *held_rows(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *printable = NULL;
	struct vss_failure ignored;

	if (held_list(&rows, &ignored) < 0)
		return NULL;
	printable = rows_printable(rows);
	if (!ctl->options.json)
		print_held(ctl->out, printable);
	return steal_pointer(rows);
}

int run_status(struct vssctl *ctl)
{
	autojson json_t *properties = NULL, *sessions = NULL, *writers = NULL, *status = NULL, *printable = NULL;
	autojson json_t *held = held_rows(ctl);

	if (vssctl_connect(ctl) < 0 || vss_status(ctl->connection, &properties, &ctl->failure) < 0 ||
	    vss_query(ctl->connection, "ListSessions", NULL, 0, &sessions, &ctl->failure) < 0 ||
	    vss_query(ctl->connection, "ListWriters", NULL, 0, &writers, &ctl->failure) < 0)
		return vssctl_fail_beside(ctl, held ? "held" : NULL, held);
	status = json_pack("{sOsOsO}", "properties", properties, "sessions", sessions, "writers", writers);
	if (held)
		json_object_set(status, "held", held);
	if (ctl->options.json)
		return print_json(ctl->out, "status", "status", status);
	printable = rows_printable(status);
	json_t *p = json_object_get(printable, "properties");
	fprintf(ctl->out, "vssd %s: %zu writers, %zu sessions\n", row_text(p, "Version"), json_array_size(writers),
		json_array_size(sessions));
	print_troubled(ctl->out, json_object_get(printable, "writers"));
	if (json_array_size(sessions) > 0)
		print_sessions(ctl->out, json_object_get(printable, "sessions"), ctl->options.verbose,
			       (int64_t)time(NULL));
	return EXIT_OK;
}
