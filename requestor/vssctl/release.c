/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssctl release --all: the way out when something stays held; needs neither vssd nor the bus. */
#include "common/cleanup.h"
#include "requestor/vssctl/held.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

int run_release(struct vssctl *ctl)
{
	autojson json_t *result = NULL, *printable = NULL;

	if (!ctl->options.all)
		return vssctl_usage(ctl, "release takes --all: everything that vss-guard holds is released");
	if (held_release(&result, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	printable = rows_printable(result);
	if (ctl->options.json)
		print_json(ctl->out, "release", "released", result);
	else
		print_released(ctl->out, printable);
	return json_array_size(json_object_get(result, "Stuck")) > 0 ? EXIT_PARTIAL : EXIT_OK;
}
