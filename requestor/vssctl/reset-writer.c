/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/cleanup.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

int run_reset_writer(struct vssctl *ctl)
{
	const char *writer = ctl->options.words.items[0];
	autojson json_t *result = json_pack("{ss}", "Writer", writer);
	autofree char *printable = text_printable(writer);

	if (vss_reset_writer(ctl->connection, writer, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	if (ctl->options.json)
		return print_json(ctl->out, "reset writer", "result", result);
	fprintf(ctl->out, "The failure record of writer '%s' is cleared.\n", printable ? printable : "");
	return EXIT_OK;
}
