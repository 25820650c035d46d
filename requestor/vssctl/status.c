/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "common/size.h"
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

/* What vss-watch sees, from where it says it: it runs without vssd and without a bus. NULL: it does not run, or may not be
 * asked. */
static json_t *watch_state(void)
{
	json_t *state = json_load_file(VSS_WATCH_STATE, 0, NULL);

	if (json_is_object(state) && json_is_array(json_object_get(state, "Watched")))
		return state;
	json_decref(state);
	return NULL;
}

static void print_watched(FILE *out, json_t *watch, bool verbose)
{
	json_t *row;
	size_t index;

	json_array_foreach(json_object_get(watch, "Watched"), index, row) {
		char used[SIZE_TEXT], size[SIZE_TEXT];

		size_format((uint64_t)row_number(row, "Used"), used);
		size_format((uint64_t)row_number(row, "Size"), size);
		if (*row_text(row, "Alarm"))
			fprintf(out, "Storage %s: %s\n", row_text(row, "Device"), row_text(row, "Alarm"));
		else if (verbose)
			fprintf(out, "Storage %s: %s of %s used\n", row_text(row, "Device"), used, size);
	}
}

int run_status(struct vssctl *ctl)
{
	autojson json_t *properties = NULL, *sessions = NULL, *writers = NULL, *status = NULL, *printable = NULL;
	autojson json_t *held = held_rows(ctl);

	if (vssctl_connect(ctl) < 0 || vss_status(ctl->connection, &properties, &ctl->failure) < 0 ||
	    vss_query(ctl->connection, "ListSessions", NULL, 0, &sessions, &ctl->failure) < 0 ||
	    vss_query(ctl->connection, "ListWriters", NULL, 0, &writers, &ctl->failure) < 0)
		return vssctl_fail_beside(ctl, held ? "held" : NULL, held);
	autojson json_t *watch = watch_state();
	status = json_pack("{sOsOsO}", "properties", properties, "sessions", sessions, "writers", writers);
	if (held)
		json_object_set(status, "held", held);
	if (watch)
		json_object_set(status, "storage", watch);
	if (ctl->options.json)
		return print_json(ctl->out, "status", "status", status);
	printable = rows_printable(status);
	json_t *p = json_object_get(printable, "properties");
	fprintf(ctl->out, "vssd %s: %zu writers, %zu sessions\n", row_text(p, "Version"), json_array_size(writers),
		json_array_size(sessions));
	print_troubled(ctl->out, json_object_get(printable, "writers"));
	print_watched(ctl->out, json_object_get(printable, "storage"), ctl->options.verbose);
	if (json_array_size(sessions) > 0)
		print_sessions(ctl->out, json_object_get(printable, "sessions"), ctl->options.verbose,
			       (int64_t)time(NULL));
	return EXIT_OK;
}
