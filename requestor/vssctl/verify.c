/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verify: a backup without the copy. Nothing is frozen; every writer that would take part prepares, and is then told
 * that it was not meant. */
#include <inttypes.h>
#include <string.h>

#include "common/cleanup.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

/* What each event cost this writer in the rehearsal; Timeline rows without a writer are whole phases. */
static void print_events(FILE *out, json_t *timeline, const char *writer, const char *instance)
{
	size_t index;
	json_t *row;

	json_array_foreach(timeline, index, row) {
		const char *who = row_text(row, "Writer");
		if (!*who || (strcmp(who, writer) != 0 && strcmp(who, instance) != 0))
			continue;
		fprintf(out, "   %s: ", row_text(row, "Phase"));
		print_msec(out, row_number(row, "EndUsec") - row_number(row, "BeginUsec"));
		fprintf(out, "%s%s\n", *row_text(row, "Outcome") ? ", " : "", row_text(row, "Outcome"));
	}
}

static void print_check(FILE *out, json_t *row)
{
	const char *object = row_text(row, "Object"), *text = row_text(row, "Text");

	fprintf(out, "   [%s] %s%s%s%s%s\n", row_text(row, "Verdict"), object, *object ? ": " : "",
		row_text(row, "Check"), *text ? ": " : "", text);
}

static void print_participant(FILE *out, json_t *row, json_t *timeline)
{
	const char *why = row_text(row, "Why"), *message = row_text(row, "Message");
	size_t index;
	json_t *check;

	fprintf(out, "Writer name: '%s'\n", row_text(row, "Name"));
	fprintf(out, "   Takes part: %s%s%s%s\n", row_true(row, "Took") ? "yes" : "no", *why ? " (" : "", why,
		*why ? ")" : "");
	fprintf(out, "   State: [%" PRId64 "] %s\n", row_number(row, "State"), row_text(row, "StateText"));
	fprintf(out, "   Last error: %s\n", row_text(row, "LastError"));
	if (*message)
		fprintf(out, "   Message: %s\n", message);
	print_events(out, timeline, row_text(row, "Name"), row_text(row, "InstanceId"));
	json_array_foreach(json_object_get(row, "Checks"), index, check)
		print_check(out, check);
	fputc('\n', out);
}

static void print_member(FILE *out, json_t *row)
{
	const char *provider = row_text(row, "Provider"), *why = row_text(row, "Why");
	size_t index;
	json_t *below;

	fprintf(out, "Volume: %s\n", row_text(row, "Path"));
	fprintf(out, "   Type: %s on %s\n", row_text(row, "Type"), row_text(row, "Device"));
	fprintf(out, "   Provider: %s%s%s\n", *provider ? provider : "none", *why ? ": " : "", why);
	json_array_foreach(json_object_get(row, "Below"), index, below)
		fprintf(out, "   Below it: %s (%s)\n", row_text(below, "Path"), row_text(below, "Kind"));
	fputc('\n', out);
}

void print_verification(FILE *out, json_t *properties)
{
	size_t index;
	json_t *row;

	json_array_foreach(json_object_get(properties, "Participants"), index, row)
		print_participant(out, row, json_object_get(properties, "Timeline"));
	json_array_foreach(json_object_get(properties, "Members"), index, row)
		print_member(out, row);
}

/* Also what is merely unknown is told, but does not fail: most of it is a question of what the guest allows. */
static unsigned count_bad(json_t *properties)
{
	unsigned bad = 0;
	size_t i, j;
	json_t *row, *check;

	json_array_foreach(json_object_get(properties, "Participants"), i, row)
		json_array_foreach(json_object_get(row, "Checks"), j, check)
			bad += strcmp(row_text(check, "Verdict"), "bad") == 0;
	return bad;
}

static int rehearse(struct vssctl *ctl, struct vss_backup *backup)
{
	int r;

	if (vss_backup_gather(backup, NULL, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	r = add_members(ctl, backup);
	if (r != EXIT_OK)
		return r;
	return vss_backup_prepare(backup, &ctl->failure) < 0 ? vssctl_fail(ctl) : EXIT_OK;
}

/* Also after a failure: who refused is what one wants to know. */
static int report(struct vssctl *ctl, struct vss_backup *backup, int r)
{
	autojson json_t *properties = NULL, *printable = NULL;
	struct vss_failure ignored;

	progress_clear(ctl);
	if (interrupt_signal() || vss_backup_properties(backup, &properties, &ignored) < 0)
		return r;
	unsigned bad = count_bad(properties);
	if (ctl->options.json) {
		int printed = r == EXIT_OK ? print_json(ctl->out, "verify", "verification", properties) : r;
		return printed == EXIT_OK && bad > 0 ? EXIT_FAILED : printed;
	}
	tell_warnings(ctl, json_object_get(properties, "LastResult"));
	printable = rows_printable(properties);
	print_verification(ctl->out, printable);
	if (r == EXIT_OK && bad > 0) {
		fprintf(ctl->out, "%u check%s failed: a backup of these volumes would fail, or be less than it should.\n", bad,
			bad > 1 ? "s" : "");
		return EXIT_FAILED;
	}
	if (r == EXIT_OK)
		fputs("A backup of these volumes would begin well: all of it was rehearsed but freezing and copying.\n",
		      ctl->out);
	return r;
}

int run_verify(struct vssctl *ctl)
{
	autojson json_t *options = session_options(ctl, "backup");
	struct vss_backup *backup = NULL;
	int r;

	json_object_set_new(options, "Verify", json_true());
	if (!members_given(ctl))
		return vssctl_usage(ctl, "verify needs --for PATH");
	if (vss_backup_new(&backup, ctl->connection, options, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	progress_on(ctl, backup);
	r = report(ctl, backup, rehearse(ctl, backup));
	/* Abort, not Close: the writers have prepared for a backup that does not come. */
	vss_backup_abort(backup, NULL);
	vss_backup_free(backup);
	return r;
}
