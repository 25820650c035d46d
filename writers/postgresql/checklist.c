/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/postgresql/checklist.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "writers/postgresql/clusters.h"
#include "writers/postgresql/server.h"

/* What a backup would need: what backup_start finds out by trying. */
static const char facts[] = "SELECT pg_is_in_recovery(), current_setting('wal_level'),"
			    " current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),"
			    " (SELECT setting FROM pg_settings WHERE name = 'wal_keep_size')";

static void check_backup(struct bundled_task *task, PGconn *connection, PGresult *found)
{
	if (PQserverVersion(connection) < 150000)
		bundled_check(task, "copy", VSS_VERDICT_BAD, "several instants, and it is older than PostgreSQL 15");
	else if (*PQgetvalue(found, 0, 0) == 't')
		bundled_check(task, "copy", VSS_VERDICT_BAD, "several instants, and it is a standby");
	else if (strcmp(PQgetvalue(found, 0, 1), "minimal") == 0)
		bundled_check(task, "copy", VSS_VERDICT_BAD, "several instants, and wal_level is minimal");
	else
		bundled_check(task, "copy", VSS_VERDICT_OK, "by a backup: its volumes are not copied at one instant");
	if (atoi(PQgetvalue(found, 0, 2)) > 0)
		bundled_check(task, "WAL", VSS_VERDICT_OK, "a replication slot is free to retain it");
	else if (atoi(PQgetvalue(found, 0, 3)) > 0)
		bundled_check(task, "WAL", VSS_VERDICT_OK, "no replication slot is free, wal_keep_size retains some");
	else
		bundled_check(task, "WAL", VSS_VERDICT_BAD, "no replication slot is free, and wal_keep_size is 0");
}

static void check_server(struct bundled_task *task, bool one_instant)
{
	PGconn *connection = NULL;
	PGresult *found = NULL;
	enum vss_result result = server_connect(task, &connection);

	if (result == VSS_RESULT_OK)
		result = server_query(task, connection, "Asking for its state", facts, task->deadline, &found);
	if (result != VSS_RESULT_OK) {
		bundled_check(task, "server", VSS_VERDICT_BAD, "%s", task->message);
	} else {
		bundled_check(task, "server", VSS_VERDICT_OK, "answers, version %s",
			      PQparameterStatus(connection, "server_version"));
		if (one_instant)
			bundled_check(task, "copy", VSS_VERDICT_OK, "by a checkpoint: all of its volumes at one instant");
		else
			check_backup(task, connection, found);
	}
	*task->message = '\0'; /* a rehearsal does not fail */
	PQclear(found);
	PQfinish(connection);
}

void checklist(struct bundled_task *task)
{
	const char *data = json_string_value(json_object_get(task->instance, "DataDirectory"));
	const char *why = json_string_value(json_object_get(task->instance, "Unreadable"));
	struct postmaster postmaster;
	struct err err = { 0 };

	if (why || cluster_postmaster(data, &postmaster, &err) < 0) {
		bundled_check(task, "files", VSS_VERDICT_BAD, "%s", why ?: err.text);
		return;
	}
	if (postmaster.running)
		check_server(task, bundled_is_one_instant(task, json_object_get(task->instance, "Paths")));
	else
		bundled_check(task, "server", VSS_VERDICT_OK, "does not run: the files are copied as they are");
}
