/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

static void print_label(FILE *out, json_t *result, const char *label, const char *reason_key, const char *best)
{
	const char *value = row_text(result, label), *reason = row_text(result, reason_key);

	fprintf(out, "    %s: %s", label, value);
	if (*reason && strcmp(value, best) != 0)
		fprintf(out, " (%s)", reason);
	fputc('\n', out);
}

void print_created(FILE *out, json_t *result, bool verbose)
{
	json_t *row, *attempt;
	size_t index;

	json_array_foreach(json_object_get(result, "Shadows"), index, row) {
		fprintf(out, "Successfully created shadow copy for '%s'\n", row_text(row, "Volume"));
		fprintf(out, "    Shadow Copy ID: {%s}\n", row_text(row, "Shadow"));
		fprintf(out, "    Shadow Copy Volume Name: %s\n", row_text(row, "Device"));
	}
	fprintf(out, "Shadow copy set ID: {%s}\n", row_text(result, "Set"));
	print_label(out, result, "Consistency", "ConsistencyReason", "application");
	print_label(out, result, "Instant", "InstantReason", "set");
	if (!verbose)
		return;
	if (json_object_get(result, "HoldUsec")) {
		fputs("    Writers held: ", out);
		print_msec(out, row_number(result, "HoldUsec"));
		fputc('\n', out);
	}
	if (json_object_get(result, "WritesHeldUsec")) {
		fputs("    Writes held: ", out);
		print_msec(out, row_number(result, "WritesHeldUsec"));
		fputc('\n', out);
	}
	json_array_foreach(json_object_get(result, "Attempts"), index, attempt)
		fprintf(out, "    Attempt %" PRId64 ": %s%s%s\n", row_number(attempt, "Number"),
			*row_text(attempt, "Error") ? row_text(attempt, "Error") : "created",
			*row_text(attempt, "Message") ? ": " : "", row_text(attempt, "Message"));
}

/* The paths may come behind --for or by themselves. */
static int add_paths(struct vssctl *ctl, struct vss_backup *backup, const struct words *paths)
{
	char **absolute = NULL;
	int r = absolute_paths(ctl, paths, &absolute);

	if (r)
		return r;
	r = vss_backup_add_paths(backup, (const char *const *)absolute, paths->n, NULL, &ctl->failure) < 0;
	paths_free(absolute, paths->n);
	return r ? vssctl_fail(ctl) : EXIT_OK;
}

int add_members(struct vssctl *ctl, struct vss_backup *backup)
{
	int r = ctl->options.for_paths.n ? add_paths(ctl, backup, &ctl->options.for_paths) : EXIT_OK;

	if (r == EXIT_OK && ctl->options.words.n)
		r = add_paths(ctl, backup, &ctl->options.words);
	return r;
}

bool members_given(struct vssctl *ctl)
{
	return ctl->options.for_paths.n + ctl->options.words.n > 0;
}

static int report(struct vssctl *ctl, struct vss_backup *backup, json_t *result)
{
	autojson json_t *printable = NULL;

	tell_warnings(ctl, result);
	if (ctl->options.json)
		return print_json(ctl->out, "create shadow", "result", result);
	printable = rows_printable(result);
	print_created(ctl->out, printable, ctl->options.verbose);
	if (ctl->options.verbose)
		tell_timeline(ctl, backup, ctl->out);
	return EXIT_OK;
}

static int create(struct vssctl *ctl, struct vss_backup *backup)
{
	autojson json_t *result = NULL;
	int r;

	progress_on(ctl, backup);
	r = add_members(ctl, backup);
	if (r != EXIT_OK)
		return r;
	if (vss_backup_snapshot(backup, &result, &ctl->failure) == 0)
		return report(ctl, backup, result);
	r = vssctl_fail(ctl);
	tell_failed_writers(ctl, backup);
	return r;
}

int run_create_shadow(struct vssctl *ctl)
{
	autojson json_t *options = session_options(ctl, "app-rollback");
	struct vss_backup *backup = NULL;
	int r;

	if (!members_given(ctl))
		return vssctl_usage(ctl, "create shadow needs --for PATH");
	if (vss_backup_new(&backup, ctl->connection, options, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	r = create(ctl, backup);
	vss_backup_free(backup);
	return r;
}
