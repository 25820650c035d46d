/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <unistd.h>

#include "requestor/vssctl/vssctl.h"

/* "FreezingFrontEnd" as "freezing front end"; other characters than letters are left out. */
static void show(const char *phase, unsigned percent, json_t *details, void *data)
{
	struct vssctl *ctl = data;

	fputs("\r\033[K", ctl->err);
	for (const char *c = phase; *c; c++) {
		if (!isalpha((unsigned char)*c))
			continue;
		if (isupper((unsigned char)*c) && c != phase)
			fputc(' ', ctl->err);
		fputc(tolower((unsigned char)*c), ctl->err);
	}
	if (percent > 0 && percent <= 100)
		fprintf(ctl->err, " (%u %%)", percent);
	fputs(" ...", ctl->err);
	fflush(ctl->err);
}

static bool wanted(const struct vssctl *ctl)
{
	return !ctl->options.json && isatty(fileno(ctl->err));
}

void progress_on(struct vssctl *ctl, struct vss_backup *backup)
{
	if (wanted(ctl))
		vss_backup_on_progress(backup, show, ctl);
}

void progress_clear(struct vssctl *ctl)
{
	if (wanted(ctl)) {
		fputs("\r\033[K", ctl->err);
		fflush(ctl->err);
	}
}
