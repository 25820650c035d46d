/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/id.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

/* VSS's words for the contexts. */
static const char *context_text(const char *context)
{
	if (strcmp(context, "app-rollback") == 0)
		return "ApplicationRollback";
	return strcmp(context, "backup") == 0 ? "Backup" : context;
}

static void print_label(FILE *out, json_t *row, const char *label, const char *reason_key, const char *best)
{
	const char *value = row_text(row, label), *reason = row_text(row, reason_key);

	if (!*value)
		return;
	fprintf(out, "         %s: %s", label, value);
	if (*reason && strcmp(value, best) != 0)
		fprintf(out, " (%s)", reason);
	fputc('\n', out);
}

static void print_attributes(FILE *out, json_t *row)
{
	autofree char *attributes = row_join(row, "Attributes", ", ");

	if (attributes && *attributes)
		fprintf(out, "         Attributes: %s\n", attributes);
	else
		fprintf(out, "         Attributes: %s\n", row_true(row, "Persistent") ? "Persistent" : "Auto release");
}

static void print_shadow(FILE *out, json_t *row, bool verbose)
{
	const char *host = row_text(row, "HostName"), *state = row_text(row, "State");
	const char *exposed = row_text(row, "Exposed");
	const char *why = *row_text(row, "Consistency") ? "" : row_text(row, "ConsistencyReason");

	host = *host ? host : row_text(row, "Host");
	fprintf(out, "      Shadow Copy ID: {%s}\n", row_text(row, "Shadow"));
	fprintf(out, "         Original Volume: (%s)%s\n", row_text(row, "Volume"), row_text(row, "VolumeId"));
	fprintf(out, "         Shadow Copy Volume: %s\n", row_text(row, "Device"));
	fprintf(out, "         Originating Machine: %s\n", host);
	fprintf(out, "         Service Machine: %s\n", host);
	fprintf(out, "         Provider: '%s'\n", row_text(row, "Provider"));
	fprintf(out, "         Type: %s\n", context_text(row_text(row, "Context")));
	print_attributes(out, row);
	print_label(out, row, "Consistency", "ConsistencyReason", "application");
	print_label(out, row, "Instant", "InstantReason", "set");
	if (*exposed)
		fprintf(out, "         Exposed at: %s\n", exposed);
	if (*state && strcmp(state, "created") != 0)
		fprintf(out, "         State: %s%s%s%s\n", state, *why ? " (" : "", why, *why ? ")" : "");
	if (!verbose)
		return;
	fprintf(out, "         Filesystem: %s\n", row_text(row, "Filesystem"));
	fprintf(out, "         Provider Id: {%s}\n", row_text(row, "ProviderId"));
	fprintf(out, "         Originating Machine Id: %s\n", row_text(row, "Host"));
	if (json_object_get(row, "ReferencedBytes"))
		fprintf(out, "         Used space: %" PRId64 " bytes alone, %" PRId64 " bytes in all\n",
			row_number(row, "ExclusiveBytes"), row_number(row, "ReferencedBytes"));
	else
		fprintf(out, "         Used space: not accounted (on btrfs: only where quotas are on)\n");
	if (*row_text(row, "Session"))
		fprintf(out, "         In use by session: %s\n", row_text(row, "Session"));
}

/* The rows of each set, sets in the order in which they first appear. */
static json_t *group_by_set(json_t *rows)
{
	json_t *sets = json_object(), *row;
	size_t index;

	json_array_foreach(rows, index, row) {
		json_t *members = json_object_get(sets, row_text(row, "Set"));
		if (!members) {
			members = json_array();
			json_object_set_new(sets, row_text(row, "Set"), members);
		}
		json_array_append(members, row);
	}
	return sets;
}

void print_shadows(FILE *out, json_t *rows, bool verbose)
{
	autojson json_t *sets = group_by_set(rows);
	bool first = true;
	const char *set;
	json_t *members, *row;
	size_t index;

	json_object_foreach(sets, set, members) {
		json_t *any = json_array_get(members, 0);
		int64_t count = row_number(any, "SetCount");

		fprintf(out, "%sContents of shadow copy set ID: {%s}\n", first ? "" : "\n", set);
		fprintf(out, "   Contained %" PRId64 " shadow copies at creation time: ",
			count ? count : (int64_t)json_array_size(members));
		print_time(out, row_number(any, "Created"));
		fputc('\n', out);
		json_array_foreach(members, index, row)
			print_shadow(out, row, verbose);
		first = false;
	}
}

static int filter(struct vssctl *ctl, json_t *filter)
{
	const struct options *o = &ctl->options;
	char **paths = NULL, id[ID_SIZE];
	int r;

	if (o->for_paths.n > 1 || (o->shadow && o->set))
		return vssctl_usage(ctl, "list shadows takes one --for, and --shadow or --set");
	if (o->shadow || o->set) {
		r = vssctl_id(ctl, o->shadow ? "shadow copy" : "shadow copy set", o->shadow ? o->shadow : o->set, id);
		if (r != EXIT_OK)
			return r;
		json_object_set_new(filter, o->shadow ? "Shadow" : "Set", json_string(id));
	}
	r = absolute_paths(ctl, &o->for_paths, &paths);
	if (r != EXIT_OK)
		return r;
	if (paths[0])
		json_object_set_new(filter, "For", json_string(paths[0]));
	paths_free(paths, o->for_paths.n);
	return EXIT_OK;
}

int run_list_shadows(struct vssctl *ctl)
{
	autojson json_t *rows = NULL, *options = json_object(), *printable = NULL;
	int r = filter(ctl, options), found;
	bool filtered = json_object_size(options) > 0;

	if (r != EXIT_OK)
		return r;
	if (ctl->options.verbose)
		json_object_set_new(options, "Usage", json_true());
	else if (!ctl->options.json)
		json_object_set_new(options, "Brief", json_true());
	if (vss_query(ctl->connection, "ListShadows", options, 0, &rows, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	/* Nothing at all is an answer; nothing of what was asked for is a failure. */
	found = json_array_size(rows) || !filtered ? EXIT_OK : EXIT_NOT_FOUND;
	if (ctl->options.json) {
		r = print_json(ctl->out, "list shadows", "shadows", rows);
		return r < 0 ? r : found;
	}
	if (json_array_size(rows) == 0)
		vssctl_nothing(ctl);
	printable = rows_printable(rows);
	print_shadows(ctl->out, printable, ctl->options.verbose);
	return found;
}
