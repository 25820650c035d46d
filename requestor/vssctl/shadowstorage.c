/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* add, resize, delete and list shadowstorage. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/size.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

/* ---- list ---- */

/* "15.7 GB (39%)": of what the copies are kept on. */
static void print_size(FILE *out, const char *label, json_t *row, const char *key)
{
	int64_t bytes = row_number(row, key), whole = row_number(row, "Size");
	char text[SIZE_TEXT] = "UNBOUNDED";
	if (!json_object_get(row, key)) {
		fprintf(out, "   %s Shadow Copy Storage space: unknown\n", label);
		return;
	}
	int64_t percent = bytes < 0 ? 100 : whole > 0 ? (int64_t)((double)bytes / (double)whole * 100 + 0.5) : 0;

	if (bytes >= 0)
		size_format((uint64_t)bytes, text);
	fprintf(out, "   %s Shadow Copy Storage space: %s (%" PRId64 "%%)\n", label, text, percent);
}

static void print_details(FILE *out, json_t *row)
{
	fprintf(out, "   Copies: %" PRId64 "\n", row_number(row, "Copies"));
	fprintf(out, "   Association: %s%s\n", row_true(row, "Explicit") ? "explicit" : "implicit, gone with its last copy",
		row_true(row, "Guaranteed") ? "; stores as large as the volume" : "");
}

void print_shadowstorage(FILE *out, json_t *rows, bool verbose)
{
	size_t index;
	json_t *row;

	json_array_foreach(rows, index, row) {
		if (index > 0)
			fputc('\n', out);
		fputs("Shadow Copy Storage association\n", out);
		fprintf(out, "   For volume: (%s)%s\n", row_text(row, "Volume"), row_text(row, "For"));
		fprintf(out, "   Shadow Copy Storage volume: (%s)%s\n", row_text(row, "OnName"), row_text(row, "On"));
		print_size(out, "Used", row, "Used");
		print_size(out, "Allocated", row, "Allocated");
		print_size(out, "Maximum", row, "Max");
		if (verbose)
			print_details(out, row);
	}
}

/* --for, made absolute; EXIT_OK or the exit code of what was told. */
static int for_path(struct vssctl *ctl, char ***ret_paths)
{
	if (ctl->options.for_paths.n > 1)
		return vssctl_usage(ctl, "shadowstorage takes one --for");
	return absolute_paths(ctl, &ctl->options.for_paths, ret_paths);
}

int run_list_shadowstorage(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *options = NULL, *printable = NULL;
	char **paths = NULL;
	int r;

	if (ctl->options.on && ctl->options.for_paths.n > 0)
		return vssctl_usage(ctl, "--for and --on exclude each other");
	r = for_path(ctl, &paths);
	if (r != EXIT_OK)
		return r;
	options = json_pack("{ss* ss*}", "For", paths[0], "On", ctl->options.on);
	paths_free(paths, ctl->options.for_paths.n);
	if (vss_query(ctl->connection, "ListShadowStorage", options, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	if (ctl->options.json)
		return print_json(ctl->out, "list shadowstorage", "shadowstorage", rows);
	if (json_array_size(rows) == 0)
		return vssctl_nothing(ctl);
	printable = rows_printable(rows);
	print_shadowstorage(ctl->out, printable, ctl->options.verbose);
	return EXIT_OK;
}

/* ---- add, resize, delete ---- */

static int check(struct vssctl *ctl, bool needs_on)
{
	struct size size;

	if (ctl->options.for_paths.n != 1)
		return vssctl_usage(ctl, "--for is missing: the volume whose copies are meant");
	if (needs_on && !ctl->options.on)
		return vssctl_usage(ctl, "--on is missing: where its copies are kept (vssctl list volumes --for %s)",
				    ctl->options.for_paths.items[0]);
	if (ctl->options.max_size && size_parse(ctl->options.max_size, &size) < 0)
		return vssctl_usage(ctl, "\"%.60s\" is not a size: write 10GB, 15%%, UNBOUNDED, or bytes",
				    ctl->options.max_size);
	return EXIT_OK;
}

static int succeed(struct vssctl *ctl, const char *command, const char *done)
{
	autojson json_t *result = json_pack("{ss ss*}", "For", ctl->options.for_paths.items[0], "On", ctl->options.on);

	if (ctl->options.json)
		return print_json(ctl->out, command, "association", result);
	fprintf(ctl->out, "Successfully %s the shadow copy storage association\n", done);
	return EXIT_OK;
}

static int set(struct vssctl *ctl, bool is_new)
{
	char **paths = NULL;
	int r = check(ctl, true);

	if (r == EXIT_OK)
		r = for_path(ctl, &paths);
	if (r != EXIT_OK)
		return r;
	r = (is_new ? vss_add_storage : vss_resize_storage)(ctl->connection, paths[0], ctl->options.on,
							    ctl->options.max_size, ctl->options.guaranteed, &ctl->failure);
	paths_free(paths, 1);
	if (r < 0)
		return vssctl_fail(ctl);
	return succeed(ctl, is_new ? "add shadowstorage" : "resize shadowstorage", is_new ? "added" : "resized");
}

int run_add_shadowstorage(struct vssctl *ctl)
{
	return set(ctl, true);
}

int run_resize_shadowstorage(struct vssctl *ctl)
{
	return set(ctl, false);
}

static int confirm(struct vssctl *ctl)
{
	char answer[16] = "";

	if (ctl->options.quiet)
		return EXIT_OK;
	if (!isatty(STDIN_FILENO))
		return vssctl_usage(ctl, "there is no terminal to ask on: add --quiet");
	fprintf(ctl->err, "Do you really want to delete the shadow copy storage association of %s (Y/N): [N]? ",
		ctl->options.for_paths.items[0]);
	fflush(ctl->err);
	if (fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y'))
		return EXIT_OK;
	fputs("Nothing was deleted.\n", ctl->err);
	return EXIT_FAILED;
}

int run_delete_shadowstorage(struct vssctl *ctl)
{
	char **paths = NULL;
	int r = check(ctl, false);

	if (r == EXIT_OK)
		r = confirm(ctl);
	if (r == EXIT_OK)
		r = for_path(ctl, &paths);
	if (r != EXIT_OK)
		return r;
	r = vss_delete_storage(ctl->connection, paths[0], ctl->options.on, &ctl->failure);
	paths_free(paths, 1);
	return r < 0 ? vssctl_fail(ctl) : succeed(ctl, "delete shadowstorage", "deleted");
}
