/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* backup: the whole life of a backup around one command. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "requestor/vssctl/command.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

struct job {
	struct vssctl *ctl;
	struct vss_backup *backup;
	json_t *result;
	struct copy_mount *copies;
	size_t n_copies;
	struct root root;
};

static int tell(struct job *job, const char *why, int code)
{
	autofree char *text = text_printable(why);

	fprintf(job->ctl->err, "vssctl: %s\n", text ? text : "failed");
	return code;
}

static int mount_copies(struct job *job)
{
	json_t *shadows = json_object_get(job->result, "Shadows"), *row;
	size_t index;

	job->copies = calloc(json_array_size(shadows) + 1, sizeof *job->copies);
	if (!job->copies)
		return tell(job, "out of memory", EXIT_FAILED);
	json_array_foreach(shadows, index, row) {
		struct copy_mount copy = { .live = row_text(row, "Volume"), .fd = -1 };

		if (vss_mount(job->ctl->connection, row_text(row, "Shadow"), &copy.fd, &job->ctl->failure) < 0)
			return vssctl_fail(job->ctl);
		job->copies[job->n_copies++] = copy;
		if (*copy.live != '/')
			return tell(job, "vssd's answer names no path for a copy", EXIT_FAILED);
	}
	copies_sort(job->copies, job->n_copies);
	return EXIT_OK;
}

static void unmount_copies(struct job *job)
{
	for (size_t i = 0; i < job->n_copies; i++)
		close(job->copies[i].fd);
	free(job->copies);
	job->copies = NULL;
	job->n_copies = 0;
}

static int run_command(struct job *job, bool *ret_started)
{
	struct vssctl *ctl = job->ctl;
	char **argv = NULL, why[512];
	int code;

	*ret_started = false;
	if (root_choose(&job->root, ctl->options.root, why) < 0)
		return tell(job, why, EXIT_FAILED);
	argv = command_expand(ctl->options.command, job->root.path);
	if (!argv)
		return tell(job, "out of memory", EXIT_FAILED);
	progress_clear(ctl);
	code = command_run(argv, job->root.path, job->copies, job->n_copies, ctl->options.json, ret_started, why);
	if (!*ret_started)
		tell(job, why, code);
	command_free(argv);
	return code;
}

/* The writers hear the truth, whatever else happens: one that truncates its logs relies on it. */
static int tell_writers(struct job *job, bool succeeded)
{
	struct vssctl *ctl = job->ctl;

	if (vss_backup_set_succeeded(job->backup, succeeded, &ctl->failure) == 0 &&
	    vss_backup_complete(job->backup, &ctl->failure) == 0)
		return EXIT_OK;
	vssctl_fail(ctl);
	if (succeeded)
		fputs("vssctl: COMMAND succeeded, but not every writer could be told so\n", ctl->err);
	tell_failed_writers(ctl, job->backup);
	return EXIT_PARTIAL;
}

static void report(struct job *job, int code)
{
	struct vssctl *ctl = job->ctl;
	autojson json_t *document = NULL;
	const char *reason = row_text(job->result, "ConsistencyReason");

	if (ctl->options.json) {
		document = json_pack("{sOsi}", "set", job->result, "exitCode", code);
		print_json(ctl->out, "backup", "backup", document);
	} else if (ctl->options.verbose) {
		autojson json_t *printable = rows_printable(job->result);
		print_created(ctl->err, printable, true);
		tell_timeline(ctl, job->backup, ctl->err);
	} else if (strcmp(row_text(job->result, "Consistency"), "application") != 0) {
		autofree char *text = text_printable(reason);
		fprintf(ctl->err, "vssctl: consistency of the copies: %s (%s)\n", row_text(job->result, "Consistency"),
			text ? text : "");
	}
}

static int make_set(struct job *job)
{
	struct vssctl *ctl = job->ctl;
	int r = add_members(ctl, job->backup);

	if (r != EXIT_OK)
		return r;
	if (vss_backup_snapshot(job->backup, &job->result, &ctl->failure) < 0) {
		r = vssctl_fail(ctl);
		tell_failed_writers(ctl, job->backup);
		return r;
	}
	tell_warnings(ctl, job->result);
	return EXIT_OK;
}

static int life_cycle(struct job *job)
{
	bool started;
	int r = make_set(job), told;

	if (r != EXIT_OK)
		return r;
	r = mount_copies(job);
	if (r == EXIT_OK) {
		r = run_command(job, &started);
		unmount_copies(job);
		root_release(&job->root);
	}
	told = tell_writers(job, r == EXIT_OK);
	if (r == EXIT_OK)
		r = told;
	report(job, r);
	return r;
}

int run_backup(struct vssctl *ctl)
{
	autojson json_t *options = session_options(ctl, "backup");
	struct job job = { .ctl = ctl };
	int r;

	if (!members_given(ctl))
		return vssctl_usage(ctl, "backup needs --for PATH");
	if (vss_backup_new(&job.backup, ctl->connection, options, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	progress_on(ctl, job.backup);
	r = life_cycle(&job);
	unmount_copies(&job);
	root_release(&job.root);
	vss_backup_free(job.backup);
	json_decref(job.result);
	return r;
}
