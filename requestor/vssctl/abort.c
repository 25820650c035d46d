/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "common/cleanup.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

static int report(struct vssctl *ctl, json_t *aborted)
{
	if (ctl->options.json)
		return print_json(ctl->out, "abort", "aborted", aborted);
	fprintf(ctl->out, "Aborted %zu sessions.\n", json_array_size(aborted));
	return EXIT_OK;
}

/* One that ended by itself meanwhile is as good as aborted. */
static int abort_all(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *aborted = json_array();
	size_t index;
	json_t *row;
	int r = EXIT_OK;

	if (vss_query(ctl->connection, "ListSessions", NULL, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	json_array_foreach(rows, index, row) {
		const char *id = row_text(row, "Id");

		if (vss_abort_session(ctl->connection, id, &ctl->failure) == 0)
			json_array_append_new(aborted, json_string(id));
		else if (strcmp(ctl->failure.name, "ObjectNotFound") != 0)
			r = vssctl_fail(ctl);
	}
	if (r != EXIT_OK && json_array_size(aborted) == 0)
		return r;
	report(ctl, aborted);
	return r == EXIT_OK ? EXIT_OK : EXIT_PARTIAL;
}

int run_abort(struct vssctl *ctl)
{
	autojson json_t *aborted = NULL;

	if ((ctl->options.session != NULL) == ctl->options.all)
		return vssctl_usage(ctl, "abort takes --session ID or --all");
	if (ctl->options.all)
		return abort_all(ctl);
	if (vss_abort_session(ctl->connection, ctl->options.session, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	aborted = json_pack("[s]", ctl->options.session);
	return report(ctl, aborted);
}
