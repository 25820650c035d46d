/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/postgresql/backup.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "writers/postgresql/copy-files.h"
#include "writers/postgresql/server.h"

#define VERSION_MIN 150000 /* before, a backup had other functions and other rules */

static void clear_result(PGresult **result)
{
	PQclear(*result);
}
#define autoresult cleanup(clear_result)

/* ---- before the copies ---- */

static enum vss_result check_possible(struct bundled_task *task, const struct hold *hold)
{
	if (hold->standby)
		return bundled_fail(task, VSS_RESULT_INCONSISTENT_SNAPSHOT,
				    "It is a standby, and its volumes are not copied at one instant: back up the primary, or put "
				    "the cluster on volumes that are");
	if (hold->server_version < VERSION_MIN)
		return bundled_fail(task, VSS_RESULT_INCONSISTENT_SNAPSHOT,
				    "Its volumes are not copied at one instant, and only PostgreSQL 15 or later can be backed up "
				    "then; this is %d.%d",
				    hold->server_version / 10000, hold->server_version % 10000);
	return VSS_RESULT_OK;
}

/* Keeps the WAL until it is in the copy; goes with the connection. */
static enum vss_result retain_wal(struct bundled_task *task, const struct hold *hold)
{
	char sql[160];
	autoresult PGresult *kept = NULL;
	enum vss_result result;

	snprintf(sql, sizeof sql, "SELECT pg_create_physical_replication_slot('vss_%d_%d', true, true)", (int)getpid(),
		 PQbackendPID(hold->connection));
	result = server_query(task, hold->connection, "Retaining the WAL in a replication slot", sql, task->deadline, NULL);
	if (result == VSS_RESULT_OK)
		return result;
	/* Without a slot: if the server is told to keep some, it may do; what is missing in the end is noticed. */
	char why[sizeof task->message];
	memcpy(why, task->message, sizeof why);
	if (server_query(task, hold->connection, "Asking for wal_keep_size",
			 "SELECT setting::int FROM pg_settings WHERE name = 'wal_keep_size'", task->deadline,
			 &kept) != VSS_RESULT_OK)
		return result;
	if (atoi(PQgetvalue(kept, 0, 0)) > 0) {
		*task->message = '\0';
		return VSS_RESULT_OK;
	}
	return bundled_fail(task, result, "%.400s: free one or raise max_replication_slots; or set wal_keep_size", why);
}

enum vss_result backup_start(struct bundled_task *task, struct hold *hold)
{
	autoresult PGresult *started = NULL;
	char sql[160];
	enum vss_result result = check_possible(task, hold);

	if (result == VSS_RESULT_OK)
		result = retain_wal(task, hold);
	if (result != VSS_RESULT_OK)
		return result;
	snprintf(sql, sizeof sql, "SELECT pg_backup_start('vssd set %.40s', true)", task->set);
	result = server_query(task, hold->connection, "Starting a backup", sql, task->deadline, &started);
	if (result == VSS_RESULT_OK)
		snprintf(hold->start, sizeof hold->start, "%s", PQgetvalue(started, 0, 0));
	return result;
}

/* ---- after the copies ---- */

struct wal {
	uint32_t timeline;
	uint64_t first, last; /* segments */
	uint64_t segment_size;
};

static bool parse_position(const char *text, uint64_t *ret_position)
{
	uint32_t high, low;

	if (sscanf(text, "%" SCNx32 "/%" SCNx32, &high, &low) != 2)
		return false;
	*ret_position = (uint64_t)high << 32 | low;
	return true;
}

/* The label's first line: START WAL LOCATION: 0/9000028 (file 000000010000000000000009) */
static bool parse_label(const char *label, struct wal *wal)
{
	uint64_t start;
	const char *text = strstr(label, "START WAL LOCATION: "), *file = strstr(label, "(file ");

	if (!text || !file || !parse_position(text + 20, &start) || sscanf(file, "(file %8" SCNx32, &wal->timeline) != 1)
		return false;
	wal->first = start / wal->segment_size;
	return true;
}

static void segment_name(const struct wal *wal, uint64_t segment, char name[25])
{
	const uint64_t per_id = UINT64_C(0x100000000) / wal->segment_size;

	snprintf(name, 25, "%08" PRIX32 "%08" PRIX32 "%08" PRIX32, wal->timeline, (uint32_t)(segment / per_id),
		 (uint32_t)(segment % per_id));
}

static enum vss_result write_wal(struct bundled_task *task, const struct hold *hold, const struct wal *wal)
{
	const char *directory = json_string_value(json_object_get(hold->layout, "Wal"));
	char path[PATH_MAX], name[25];

	for (uint64_t segment = wal->first; segment <= wal->last; segment++) {
		segment_name(wal, segment, name);
		snprintf(path, sizeof path, "%s/%s", directory, name);
		enum vss_result result = copy_into_copy(task, path, wal->segment_size);
		if (result != VSS_RESULT_OK)
			return result;
	}
	return VSS_RESULT_OK;
}

static enum vss_result write_file(struct bundled_task *task, const char *name, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", json_string_value(json_object_get(task->instance, "DataDirectory")), name);
	return write_into_copy(task, path, text);
}

enum vss_result backup_finish(struct bundled_task *task, struct hold *hold, char stop[32])
{
	autoresult PGresult *answer = NULL;
	struct wal wal = { 0 };
	uint64_t end;
	enum vss_result result = server_query(
		task, hold->connection, "Ending the backup",
		"SELECT lsn, labelfile, spcmapfile, (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')"
		" FROM pg_backup_stop(false)",
		task->deadline, &answer);

	if (result != VSS_RESULT_OK)
		return result;
	wal.segment_size = strtoull(PQgetvalue(answer, 0, 3), NULL, 10);
	if (wal.segment_size == 0 || !parse_position(PQgetvalue(answer, 0, 0), &end) || end == 0 ||
	    !parse_label(PQgetvalue(answer, 0, 1), &wal))
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "The server's backup label is not understood");
	wal.last = (end - 1) / wal.segment_size;
	snprintf(stop, 32, "%s", PQgetvalue(answer, 0, 0));
	result = write_wal(task, hold, &wal);
	if (result == VSS_RESULT_OK && *PQgetvalue(answer, 0, 2))
		result = write_file(task, "tablespace_map", PQgetvalue(answer, 0, 2));
	/* Last: without it nobody takes the copy for a complete backup. */
	return result == VSS_RESULT_OK ? write_file(task, "backup_label", PQgetvalue(answer, 0, 1)) : result;
}
