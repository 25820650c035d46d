/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How failures are told, and which exit code they have. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/id.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

int exit_code_of(const struct vss_failure *failure, int signal_number)
{
	static const struct {
		const char *name;
		int code;
	} known[] = {
		{ "ObjectNotFound", EXIT_NOT_FOUND },
		{ "AccessDenied", EXIT_DENIED },
		{ "NotAvailable", EXIT_UNREACHABLE },
		{ "InvalidArgument", EXIT_USAGE },
	};

	if (strcmp(failure->name, "Cancelled") == 0)
		return signal_number ? EXIT_SIGNAL + signal_number : EXIT_FAILED;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(failure->name, known[i].name) == 0)
			return known[i].code;
	return failure->retryable ? EXIT_RETRY : EXIT_FAILED;
}

static void print_failure_json(struct vssctl *ctl, const char *key, json_t *value)
{
	const struct vss_failure *f = &ctl->failure;
	autojson json_t *error = json_pack("{sssIsssb}", "name", f->name, "code", (json_int_t)f->code, "message",
					   f->text, "retryable", f->retryable);
	char name[40];
	autojson json_t *document = json_pack("{sssO}", "command", command_name(ctl->command, name), "error", error);

	if (key)
		json_object_set(document, key, value);
	json_dumpf(document, ctl->out, JSON_INDENT(2));
	fputc('\n', ctl->out);
}

int vssctl_fail(struct vssctl *ctl)
{
	return vssctl_fail_beside(ctl, NULL, NULL);
}

int vssctl_fail_beside(struct vssctl *ctl, const char *key, json_t *value)
{
	const struct vss_failure *f = &ctl->failure;
	autofree char *text = text_printable(f->text);

	progress_clear(ctl);
	fprintf(ctl->err, "vssctl: %s", text ? text : "failed");
	if (f->code && !strstr(f->text, "(0x"))
		fprintf(ctl->err, " (0x%08" PRIx32 ")", f->code);
	fputc('\n', ctl->err);
	if (ctl->options.json)
		print_failure_json(ctl, key, value);
	return exit_code_of(f, interrupt_signal());
}

int vssctl_usage(struct vssctl *ctl, const char *format, ...)
{
	char name[40];
	va_list args;

	fputs("vssctl: ", ctl->err);
	va_start(args, format);
	vfprintf(ctl->err, format, args);
	va_end(args);
	if (ctl->command)
		fprintf(ctl->err, " (see vssctl %s --help)", command_name(ctl->command, name));
	fputc('\n', ctl->err);
	return EXIT_USAGE;
}

int vssctl_id(struct vssctl *ctl, const char *what, const char *text, char id[ID_SIZE])
{
	autofree char *printable = text_printable(text);

	if (id_parse(text, id))
		return EXIT_OK;
	return vssctl_usage(ctl, "\"%s\" is not the id of a %s", printable ? printable : "", what);
}

int vssctl_nothing(struct vssctl *ctl)
{
	fputs("No items found that satisfy the query.\n", ctl->options.json ? ctl->err : ctl->out);
	return EXIT_NOT_FOUND;
}

static void tell_writer(struct vssctl *ctl, json_t *row)
{
	const char *message = row_text(row, "Message");

	fprintf(ctl->err, "vssctl: writer '%s': [%" PRId64 "] %s, %s%s%s\n", row_text(row, "Name"),
		row_number(row, "State"), row_text(row, "StateText"), row_text(row, "LastError"), *message ? ": " : "",
		message);
}

void tell_failed_writers(struct vssctl *ctl, struct vss_backup *backup)
{
	autojson json_t *rows = NULL, *printable = NULL;
	autofree char *told = text_printable(ctl->failure.text);
	struct vss_failure ignored;
	size_t index;
	json_t *row;

	if (interrupt_signal() || vss_backup_writer_status(backup, &rows, &ignored) < 0)
		return;
	printable = rows_printable(rows);
	json_array_foreach (printable, index, row)
		if (row_number(row, "Code") != 0 && told && !strstr(told, row_text(row, "Name")))
			tell_writer(ctl, row);
}

static void tell_each(struct vssctl *ctl, json_t *result, const char *key, const char *before)
{
	autojson json_t *texts = NULL;
	json_t *found = json_object_get(result, key), *text;
	size_t index;

	if (!found)
		return;
	texts = rows_printable(found);
	json_array_foreach (texts, index, text)
		fprintf(ctl->err, "vssctl: %s%s\n", before, json_string_value(text) ?: "?");
}

void tell_warnings(struct vssctl *ctl, json_t *result)
{
	progress_clear(ctl);
	tell_each(ctl, result, "Doubts", "warning: ");
	tell_each(ctl, result, "Warnings", "warning: ");
	tell_each(ctl, result, "NotIncluded", "not in the set: ");
}
