/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* revert shadow, query reverts. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

static int revert(struct vssctl *ctl, const char *shadow, bool preview, json_t **ret_result)
{
	autojson json_t *options = json_pack("{sb sb}", "Preview", preview, "Force", ctl->options.force);

	return vss_revert(ctl->connection, shadow, options, ret_result, &ctl->failure) < 0 ? vssctl_fail(ctl) : EXIT_OK;
}

void print_revert_preview(FILE *out, json_t *result)
{
	size_t younger = json_array_size(json_object_get(result, "Younger"));

	fprintf(out, "%s will be as it was at ", row_text(result, "Volume"));
	print_time(out, row_number(result, "Created"));
	fprintf(out, ".\nEverything that has changed on it since is lost. The shadow copy %s.\n",
		json_is_true(json_object_get(result, "Kept")) ? "stays" : "is used up");
	if (younger == 1)
		fputs("1 younger shadow copy of it stays.\n", out);
	else if (younger > 1)
		fprintf(out, "%zu younger shadow copies of it stay.\n", younger);
}

static int confirm(struct vssctl *ctl, const char *shadow)
{
	autojson json_t *result = NULL, *printable = NULL;
	char answer[16] = "";
	int r;

	if (ctl->options.quiet)
		return EXIT_OK;
	if (!isatty(STDIN_FILENO))
		return vssctl_usage(ctl, "there is no terminal to ask on: add --quiet");
	r = revert(ctl, shadow, true, &result);
	if (r != EXIT_OK)
		return r;
	printable = rows_printable(result);
	print_revert_preview(ctl->err, printable);
	fputs("Do you really want to revert the volume (Y/N): [N]? ", ctl->err);
	fflush(ctl->err);
	if (!fgets(answer, sizeof answer, stdin) || (*answer != 'y' && *answer != 'Y')) {
		fputs("Nothing was reverted.\n", ctl->err);
		return EXIT_FAILED;
	}
	return EXIT_OK;
}

void print_reverted(FILE *out, json_t *result)
{
	const char *volume = row_text(result, "Volume"), *state = row_text(result, "State");

	if (strcmp(state, "pending") == 0)
		fprintf(out, "%s is in use: it will be reverted when it is activated the next time.\n", volume);
	else if (strcmp(state, "merging") == 0)
		fprintf(out, "%s is reverted; its storage goes on merging (query reverts).\n", volume);
	else
		fprintf(out, "%s is reverted.\n", volume);
	if (*row_text(result, "Message"))
		fprintf(out, "    %s\n", row_text(result, "Message"));
}

int run_revert_shadow(struct vssctl *ctl)
{
	const struct options *o = &ctl->options;
	const char *shadow = o->shadow ? o->shadow : o->words.n ? o->words.items[0] : NULL;
	autojson json_t *result = NULL, *printable = NULL;
	int r;

	if (!shadow || (o->shadow && o->words.n))
		return vssctl_usage(ctl, "revert shadow takes one shadow copy");
	r = confirm(ctl, shadow);
	if (r == EXIT_OK)
		r = revert(ctl, shadow, false, &result);
	if (r != EXIT_OK)
		return r;
	if (o->json)
		return print_json(ctl->out, "revert shadow", "result", result);
	printable = rows_printable(result);
	print_reverted(ctl->out, printable);
	return EXIT_OK;
}

void print_reverts(FILE *out, json_t *rows)
{
	size_t index;
	json_t *row;

	json_array_foreach(rows, index, row) {
		fprintf(out, "%sVolume: %s\n", index > 0 ? "\n" : "", row_text(row, "Volume"));
		if (*row_text(row, "Shadow"))
			fprintf(out, "   Shadow Copy ID: {%s}\n", row_text(row, "Shadow"));
		if (strcmp(row_text(row, "State"), "pending") == 0)
			fputs("   State: pending until the volume is activated the next time\n", out);
		else
			fprintf(out, "   State: merging, %d %% done\n", (int)row_number(row, "Percent"));
	}
}

/* Of one volume, by its path or its device. */
static bool is_asked_for(const struct options *o, json_t *row)
{
	for (size_t i = 0; i < o->for_paths.n; i++)
		if (strcmp(o->for_paths.items[i], row_text(row, "Volume")) == 0 ||
		    strcmp(o->for_paths.items[i], row_text(row, "Device")) == 0)
			return true;
	return o->for_paths.n == 0;
}

int run_query_reverts(struct vssctl *ctl)
{
	autojson json_t *all = NULL, *rows = json_array(), *printable = NULL;
	size_t index;
	json_t *row;

	if (vss_query(ctl->connection, "ListReverts", NULL, 0, &all, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	json_array_foreach(all, index, row)
		if (is_asked_for(&ctl->options, row))
			json_array_append(rows, row);
	if (ctl->options.json)
		return print_json(ctl->out, "query reverts", "reverts", rows);
	if (json_array_size(rows) == 0)
		fputs("No items found that satisfy the query.\n", ctl->out);
	printable = rows_printable(rows);
	print_reverts(ctl->out, printable);
	return EXIT_OK;
}
