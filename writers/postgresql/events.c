/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/postgresql/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "writers/postgresql/backup.h"
#include "writers/postgresql/checklist.h"
#include "writers/postgresql/copy-files.h"
#include "writers/postgresql/server.h"

static void clear_result(PGresult **result)
{
	PQclear(*result);
}
#define autoresult cleanup(clear_result)

void hold_free(void *data)
{
	struct hold *hold = data;

	if (!hold)
		return;
	if (hold->connection)
		PQfinish(hold->connection);
	json_decref(hold->layout);
	free(hold);
}

static const char *data_directory(const struct bundled_task *task)
{
	return json_string_value(json_object_get(task->instance, "DataDirectory"));
}

static enum vss_result unreadable(struct bundled_task *task, const struct err *err)
{
	return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "%s", err->text);
}

/* ---- PrepareSnapshot ---- */

/* What vssd resolved before the set was made of what Identify said; more may have been made since. */
static enum vss_result check_layout(struct bundled_task *task, const struct hold *hold)
{
	json_t *known = json_object_get(task->instance, "Paths"), *path, *other;
	size_t i, j;

	json_array_foreach(json_object_get(hold->layout, "Paths"), i, path) {
		const char *rest;
		bool found = bundled_place(task, json_string_value(path), &rest);
		json_array_foreach(known, j, other)
			found = found || json_equal(path, other);
		if (!found)
			return bundled_fail(task, VSS_RESULT_INCONSISTENT_SNAPSHOT,
					    "%s, which belongs to the cluster since a moment ago, is on no volume of the set",
					    json_string_value(path));
	}
	return VSS_RESULT_OK;
}

static enum vss_result prepare_offline(struct bundled_task *task, struct hold *hold)
{
	struct err err = { 0 };

	hold->way = WAY_OFFLINE;
	return cluster_control(data_directory(task), hold->control, &err) < 0 ? unreadable(task, &err) : VSS_RESULT_OK;
}

static enum vss_result checkpoint(struct bundled_task *task, struct hold *hold)
{
	autoresult PGresult *position = NULL;
	enum vss_result result = server_query(task, hold->connection, "CHECKPOINT", "CHECKPOINT", task->deadline, NULL);

	if (result == VSS_RESULT_OK)
		result = server_query(task, hold->connection, "Asking for the checkpoint",
				      "SELECT redo_lsn FROM pg_control_checkpoint()", task->deadline, &position);
	if (result == VSS_RESULT_OK)
		snprintf(hold->start, sizeof hold->start, "%s", PQgetvalue(position, 0, 0));
	/* Nothing more is needed of it. */
	PQfinish(steal_pointer(hold->connection));
	return result;
}

static enum vss_result prepare_running(struct bundled_task *task, struct hold *hold)
{
	autoresult PGresult *recovery = NULL;
	enum vss_result result = server_connect(task, &hold->connection);

	if (result == VSS_RESULT_OK)
		result = server_query(task, hold->connection, "Asking for the server's role", "SELECT pg_is_in_recovery()",
				      task->deadline, &recovery);
	if (result != VSS_RESULT_OK)
		return result;
	hold->standby = *PQgetvalue(recovery, 0, 0) == 't';
	hold->server_version = PQserverVersion(hold->connection);
	hold->way = hold->one_instant ? WAY_CHECKPOINT : WAY_BACKUP;
	return hold->one_instant ? checkpoint(task, hold) : backup_start(task, hold);
}

static enum vss_result prepare(struct bundled_task *task, struct hold *hold)
{
	struct postmaster postmaster;
	struct err err = { 0 };
	enum vss_result result;

	hold->layout = cluster_layout(data_directory(task), &err);
	if (!hold->layout || cluster_postmaster(data_directory(task), &postmaster, &err) < 0)
		return unreadable(task, &err);
	hold->one_instant = bundled_is_one_instant(task, json_object_get(hold->layout, "Paths"));
	result = check_layout(task, hold);
	if (result != VSS_RESULT_OK)
		return result;
	return postmaster.running ? prepare_running(task, hold) : prepare_offline(task, hold);
}

static enum vss_result on_prepare_snapshot(struct bundled_task *task)
{
	struct hold *hold = calloc(1, sizeof *hold);
	enum vss_result result;

	hold_free(*task->state); /* of a set whose end we did not hear of */
	*task->state = NULL;
	if (!hold)
		return bundled_fail(task, VSS_RESULT_OUT_OF_RESOURCES, "Out of memory");
	snprintf(hold->session, sizeof hold->session, "%s", task->session);
	result = prepare(task, hold);
	if (result == VSS_RESULT_OK)
		*task->state = hold;
	else
		hold_free(hold);
	return result;
}

/* ---- Freeze, Thaw ---- */

/* PostgreSQL is not held: what matters is that its backup is still under way. */
static enum vss_result on_freeze_or_thaw(struct bundled_task *task)
{
	const struct hold *hold = *task->state;

	if (!hold)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "It was not prepared for this set");
	if (hold->way == WAY_BACKUP && !server_is_there(hold->connection))
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "The server ended the connection that held its backup: it was stopped, restarted, or has "
				    "crashed");
	return VSS_RESULT_OK;
}

/* ---- PostSnapshot ---- */

static enum vss_result check_unchanged(struct bundled_task *task, const struct hold *hold)
{
	struct err err = { 0 };
	autojson json_t *layout = cluster_layout(data_directory(task), &err);
	struct postmaster postmaster;
	char control[CONTROL_SIZE];

	if (!layout)
		return unreadable(task, &err);
	if (!json_equal(layout, hold->layout))
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "A tablespace was made or dropped while the copies were made");
	/* One instant of files is good whatever happened to them. */
	if (hold->way != WAY_OFFLINE || hold->one_instant)
		return VSS_RESULT_OK;
	if (cluster_postmaster(data_directory(task), &postmaster, &err) < 0 ||
	    cluster_control(data_directory(task), control, &err) < 0)
		return unreadable(task, &err);
	if (postmaster.running || memcmp(control, hold->control, sizeof control) != 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server was started while the copies were made");
	return VSS_RESULT_OK;
}

static const char *way_name(enum way way)
{
	return way == WAY_OFFLINE ? "offline" : way == WAY_CHECKPOINT ? "checkpoint" : "backup";
}

static const char *how_to_restore(const struct hold *hold)
{
	switch (hold->way) {
	case WAY_OFFLINE:
		return "The server did not run. Put the data directory, its WAL directory and its tablespaces back where they were "
		       "and start the server.";
	case WAY_CHECKPOINT:
		return "All files show one instant, shortly after a checkpoint. Put the data directory, its WAL directory and its "
		       "tablespaces back where they were and start the server: it replays its WAL as after a crash. There is no "
		       "backup_label, and none must be made.";
	case WAY_BACKUP:
		break;
	}
	return "A backup of PostgreSQL's own: the files show several instants. Put the data directory, its WAL directory and its "
	       "tablespaces back, all of this set, and start the server: it replays the WAL from Start to Stop, which is in the "
	       "copy of the WAL directory, and goes on to its end. Do not remove backup_label: without it the server may start and "
	       "its data be wrong. To put tablespaces elsewhere, edit tablespace_map; to put the WAL directory elsewhere, the link "
	       "pg_wal.";
}

/* The system identifier is what a server calls itself; pg_control begins with it. */
static json_t *system_identifier(const struct bundled_task *task)
{
	char control[CONTROL_SIZE];
	uint64_t identifier;

	if (cluster_control(data_directory(task), control, NULL) < 0)
		return json_null();
	memcpy(&identifier, control, sizeof identifier);
	return json_sprintf("%llu", (unsigned long long)identifier);
}

static json_t *describe(const struct bundled_task *task, const struct hold *hold, const char *stop)
{
	json_t *document = json_pack("{ss ss ss so sO sO sb ss}", "Way", way_name(hold->way), "Version",
				     json_string_value(json_object_get(task->instance, "Version")), "DataDirectory",
				     data_directory(task), "SystemIdentifier", system_identifier(task), "Wal",
				     json_object_get(hold->layout, "Wal"), "Tablespaces",
				     json_object_get(hold->layout, "Tablespaces"), "OneInstant", hold->one_instant, "Restore",
				     how_to_restore(hold));

	if (*hold->start)
		json_object_set_new(document, "Start", json_string(hold->start));
	if (*stop)
		json_object_set_new(document, "Stop", json_string(stop));
	if (hold->standby)
		json_object_set_new(document, "Standby", json_true());
	return document;
}

static enum vss_result complete(struct bundled_task *task, struct hold *hold)
{
	char stop[32] = "";
	enum vss_result result = hold->way == WAY_BACKUP ? backup_finish(task, hold, stop) : VSS_RESULT_OK;

	if (result == VSS_RESULT_OK)
		result = check_unchanged(task, hold);
	/* The copy's server does not run, whoever has that process id when the copy is used. */
	if (result == VSS_RESULT_OK)
		result = remove_from_copy(task, data_directory(task), "postmaster.pid");
	if (result != VSS_RESULT_OK)
		return result;
	task->document = describe(task, hold, stop);
	return bundled_fail(task, VSS_RESULT_OK, "Copied by the way '%s'%s%s", way_name(hold->way),
			    *stop ? ", consistent at " : "", stop);
}

static enum vss_result on_post_snapshot(struct bundled_task *task)
{
	struct hold *hold = *task->state;
	enum vss_result result;

	if (!hold || strcmp(hold->session, task->session) != 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "It was not prepared for this set");
	result = complete(task, hold);
	hold_free(hold);
	*task->state = NULL;
	return result;
}

static enum vss_result on_abort(struct bundled_task *task)
{
	hold_free(*task->state);
	*task->state = NULL;
	return VSS_RESULT_OK;
}

/* ---- all ---- */

enum vss_result cluster_serve(struct bundled_task *task)
{
	const char *why = json_string_value(json_object_get(task->instance, "Unreadable"));

	if (task->event == VSS_EVENT_ABORT)
		return on_abort(task);
	if (task->event == VSS_EVENT_PREPARE_BACKUP) {
		if (task->verify)
			checklist(task);
		return VSS_RESULT_OK;
	}
	if (why)
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE,
				    "%s: run the writer as the cluster's owner, or as root (User= in its unit)", why);
	if (task->event == VSS_EVENT_PREPARE_SNAPSHOT)
		return on_prepare_snapshot(task);
	if (task->event == VSS_EVENT_POST_SNAPSHOT)
		return on_post_snapshot(task);
	return on_freeze_or_thaw(task);
}
