/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Everything that it takes to make the ledger a VSS writer: who it is, where its data lies, and five callbacks.
 * The library calls them on a thread of its own (VSS_WRITER_THREAD), so they may take a moment. */
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <vsswriter.h>

#define FREEZE_LIMIT_MSEC 20000 /* our customers wait meanwhile */

static double msec_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* For whoever wants to compare a copy with what we said; replaced whole, so that nobody reads half a number. */
static int write_status(const char *path, int64_t number)
{
	char *temporary = NULL;
	int done = -1;

	if (asprintf(&temporary, "%s.new", path) < 0)
		return -1;
	FILE *file = fopen(temporary, "we");
	if (file) {
		fprintf(file, "%" PRId64 "\n", number);
		if (fclose(file) == 0 && rename(temporary, path) == 0)
			done = 0;
	}
	if (done < 0)
		fprintf(stderr, "ledger: cannot write %s: %s\n", path, strerror(errno));
	free(temporary);
	return done;
}

static enum vss_result on_prepare_snapshot(struct vss_writer *vss, const struct vss_event_info *event, void *data)
{
	struct ledger_writer *writer = data;

	if (ledger_settle(writer->ledger) < 0) {
		vss_writer_set_message(vss, "The books cannot be written");
		return VSS_RESULT_NON_RETRYABLE;
	}
	return VSS_RESULT_OK;
}

static enum vss_result on_freeze(struct vss_writer *vss, const struct vss_event_info *event, void *data)
{
	struct ledger_writer *writer = data;
	double begin = msec_now();

	if (ledger_freeze(writer->ledger, &writer->frozen_at) < 0) {
		vss_writer_set_message(vss, "The books could not be checkpointed");
		return VSS_RESULT_RETRYABLE;
	}
	if (writer->status_file && write_status(writer->status_file, writer->frozen_at) < 0) {
		ledger_thaw(writer->ledger);
		vss_writer_set_message(vss, "%s cannot be written", writer->status_file);
		return VSS_RESULT_OUT_OF_RESOURCES;
	}
	vss_writer_set_message(vss, "Both books end at transaction %" PRId64, writer->frozen_at);
	printf("Freeze: both books end at transaction %" PRId64 " (%.1f ms)\n", writer->frozen_at, msec_now() - begin);
	return VSS_RESULT_OK;
}

/* Also for Abort, which may come at any time, more than once, and frozen or not. */
static enum vss_result on_thaw(struct vss_writer *vss, const struct vss_event_info *event, void *data)
{
	struct ledger_writer *writer = data;

	ledger_thaw(writer->ledger);
	printf("%s: transactions go on\n", vss_event_name(event->event));
	return VSS_RESULT_OK;
}

/* Leaves a note with the copy: whoever restores it knows what to expect. */
static enum vss_result on_post_snapshot(struct vss_writer *vss, const struct vss_event_info *event, void *data)
{
	struct ledger_writer *writer = data;
	char note[64];

	snprintf(note, sizeof note, "{\"LastTransaction\": %" PRId64 "}", writer->frozen_at);
	return vss_writer_set_document(vss, note) == 0 ? VSS_RESULT_OK : VSS_RESULT_OUT_OF_RESOURCES;
}

static enum vss_result on_backup_complete(struct vss_writer *vss, const struct vss_event_info *event, void *data)
{
	printf("BackupComplete: the backup %s\n", event->succeeded ? "succeeded" : "failed");
	return VSS_RESULT_OK;
}

static const struct vss_writer_ops ops = {
	.size = sizeof ops,
	.version = VSS_WRITER_API_VERSION,
	.id = "6c0f0b0a-41ab-4c3e-8d5e-0d2a7a0b1c55", /* from uuidgen, once, for every installation */
	.name = "Ledger Example Writer",
	.app_version = "1.0",
	.level = VSS_LEVEL_FRONT_END,
	.freeze_limit_msec = FREEZE_LIMIT_MSEC,
	.prepare_snapshot = on_prepare_snapshot,
	.freeze = on_freeze,
	.thaw = on_thaw,
	.abort = on_thaw,
	.post_snapshot = on_post_snapshot,
	.backup_complete = on_backup_complete,
};

/* One book is worth nothing without the other: a set with only one of their volumes is refused. */
static int declare_books(struct ledger_writer *writer)
{
	char *debit = realpath(writer->debit_directory, NULL);
	char *credit = realpath(writer->credit_directory, NULL);
	const struct vss_file_set files[] = {
		{ .path = debit, .spec = "debit.db*" },
		{ .path = credit, .spec = "credit.db*" },
	};
	const char *const both[] = { debit, credit };
	const struct vss_component books = {
		.size = sizeof books,
		.name = "books",
		.caption = "The ledger's two books",
		.database = true,
		.files = files,
		.n_files = 2,
		.requires_paths = both,
		.n_requires = 2,
	};
	int done = debit && credit ? vss_writer_add_component(writer->vss, &books) : -errno;

	free(debit);
	free(credit);
	return done;
}

int ledger_writer_start(struct ledger_writer *writer)
{
	char why[256] = "";
	int done = vss_writer_new(&writer->vss, &ops, writer, why, sizeof why);

	if (done == 0)
		done = declare_books(writer);
	if (done == 0)
		done = vss_writer_start(writer->vss, VSS_WRITER_THREAD, NULL);
	if (done == 0)
		return 0;
	fprintf(stderr, "ledger: cannot become a VSS writer: %s\n", why[0] ? why : strerror(-done));
	writer->vss = vss_writer_free(writer->vss);
	return -1;
}

void ledger_writer_stop(struct ledger_writer *writer)
{
	writer->vss = vss_writer_free(writer->vss);
}
