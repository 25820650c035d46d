/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/mariadb/events.h"

#include <inttypes.h>
#include <limits.h>
#include <mysqld_error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/mariadb/layout.h"
#include "writers/mariadb/servers.h"

#define REDO_LOG_INTERVAL (USEC_PER_SEC / 50)

/* What is kept of a server from PrepareSnapshot to Thaw. The stages belong to the connection: however it ends, the server lets
 * go, and whoever still has it at Thaw knows that nothing was let through meanwhile. */
struct hold {
	char session[40];
	MYSQL *connection; /* NULL: the server does not run */
	json_t *layout;
	bool frozen, one_instant;
	json_t *position; /* of the instant */
};

static void free_rows(MYSQL_RES **rows)
{
	mysql_free_result(*rows);
}
#define autorows cleanup(free_rows)

void mariadb_forget(void *state)
{
	struct hold *hold = state;

	if (!hold)
		return;
	server_close(hold->connection);
	json_decref(hold->layout);
	json_decref(hold->position);
	free(hold);
}

static const char *data_directory(const struct bundled_task *task)
{
	return json_string_value(json_object_get(task->instance, "DataDirectory"));
}

static unsigned whole_seconds(uint64_t usec)
{
	return usec < USEC_PER_SEC ? 1 : (unsigned)(usec / USEC_PER_SEC);
}

/* How long the server shall wait for others, so that it, and not the clock, says what was in the way. Whole seconds are all that
 * it knows: under two, the task's own deadline decides. */
static unsigned lock_wait(const struct bundled_task *task)
{
	uint64_t limit = bundled_setting_span(task->settings, task->name, "LockLimit"), now = clock_now();
	uint64_t left = task->deadline > now ? task->deadline - now : 0;

	return whole_seconds(limit < left ? limit : left);
}

static enum vss_result set_limits(struct bundled_task *task, MYSQL *connection, uint64_t idle)
{
	char sql[160];

	/* wait_timeout: should this program stand still, the server ends the connection, and with it the stage. */
	snprintf(sql, sizeof sql, "SET SESSION lock_wait_timeout = %u, SESSION wait_timeout = %u, SESSION max_statement_time = 0",
		 lock_wait(task), whole_seconds(idle + USEC_PER_SEC - 1));
	return server_query(task, connection, "Setting limits", sql, task->deadline, NULL);
}

/* ---- what stands in the way ---- */

/* The longest statement, without its text: there may be secrets in it. One that began after the wait did is not what was waited
 * for; if there is no other, somebody holds locks who does nothing at the moment. */
static void name_blocker(struct bundled_task *task, MYSQL *connection, const char *what, uint64_t waited)
{
	autorows MYSQL_RES *rows = NULL;
	char sql[320];

	snprintf(sql, sizeof sql,
		 "SELECT ID, USER, CAST(TIME AS INTEGER), COALESCE(STATE, '') FROM information_schema.PROCESSLIST"
		 " WHERE COMMAND <> 'Sleep' AND COMMAND <> 'Daemon' AND USER <> 'system user' AND ID <> CONNECTION_ID()"
		 " AND TIME_MS >= %" PRIu64 " ORDER BY TIME_MS DESC LIMIT 1",
		 waited / USEC_PER_MSEC);
	if (server_query(task, connection, what, sql, clock_now() + USEC_PER_SEC / 2, &rows) != VSS_RESULT_OK)
		return;
	MYSQL_ROW row = mysql_fetch_row(rows);
	if (row)
		bundled_fail(task, VSS_RESULT_RETRYABLE,
			     "%s: a statement of another connection holds it up: the longest that runs is in connection %s of user "
			     "%s, since %s s (%s)",
			     what, row[0], row[1], row[2], row[3]);
	else
		bundled_fail(task, VSS_RESULT_RETRYABLE,
			     "%s: another connection holds it up, by another backup or by locks that it has (LOCK TABLES, FLUSH "
			     "TABLES WITH READ LOCK)",
			     what);
}

static enum vss_result stage(struct bundled_task *task, MYSQL *connection, const char *name, const char *what)
{
	uint64_t begun = clock_now();
	char sql[64];

	snprintf(sql, sizeof sql, "BACKUP STAGE %s", name);
	enum vss_result result = server_query(task, connection, what, sql, task->deadline, NULL);
	if (result != VSS_RESULT_OK && mysql_errno(connection) == ER_LOCK_WAIT_TIMEOUT)
		name_blocker(task, connection, what, clock_now() - begun);
	if (result == VSS_RESULT_TIMED_OUT) {
		char why[sizeof task->message];
		memcpy(why, task->message, sizeof why);
		bundled_fail(task, result, "%.350s (a statement may hold it up: see SHOW PROCESSLIST)", why);
	}
	return result;
}

/* ---- PrepareSnapshot ---- */

/* What vssd knows of the server's volumes is what Identify said; its answer may have been an older one. */
static enum vss_result check_places(struct bundled_task *task, struct hold *hold)
{
	json_t *places = json_object_get(hold->layout, "Places"), *place;
	const char *unasked = json_string_value(json_object_get(task->instance, "Unasked"));
	char volumes[300] = "";
	const char *rest;
	size_t i, used = 0;

	json_array_foreach(places, i, place) {
		const struct vss_volume *volume = bundled_place(task, json_string_value(place), &rest);
		if (!volume && unasked)
			return bundled_fail(task, VSS_RESULT_RETRYABLE,
					    "%s, where some of its data is, was not known when the set was planned, as the server could "
					    "not be asked then: %.200s",
					    json_string_value(place), unasked);
		if (!volume)
			return bundled_fail(task, VSS_RESULT_INCONSISTENT_SNAPSHOT, "%s, where some of its data is, is on no volume "
					    "of the set", json_string_value(place));
		if (!strstr(volumes, volume->path) && used < sizeof volumes)
			used += (size_t)snprintf(volumes + used, sizeof volumes - used, "%s%s", used ? ", " : "", volume->path);
	}
	hold->one_instant = bundled_is_one_instant(task, places);
	if (!hold->one_instant && hold->connection)
		return bundled_fail(task, VSS_RESULT_INCONSISTENT_SNAPSHOT,
				    "Its data and logs are on volumes that are not copied at one instant: %s. Put them on one volume, or "
				    "on logical volumes that are",
				    volumes);
	return VSS_RESULT_OK;
}

static enum vss_result prepare_running(struct bundled_task *task, struct hold *hold, const char *socket)
{
	enum vss_result result = server_connect(task, socket, &hold->connection);

	if (result != VSS_RESULT_OK)
		return result;
	hold->layout = layout_ask(task, hold->connection, data_directory(task), &result);
	if (!hold->layout)
		return result;
	if (!json_is_true(json_object_get(hold->layout, "Supported")))
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE,
				    "The server, version %s, has no BACKUP STAGE, as MySQL and MariaDB before 10.4.1: its commits cannot "
				    "be held. Stop it for the copy, or leave this writer out of it",
				    json_string_value(json_object_get(hold->layout, "Version")));
	result = check_places(task, hold);
	/* Idle from here to Freeze, while others prepare. */
	if (result == VSS_RESULT_OK)
		result = set_limits(task, hold->connection, bundled_setting_span(task->settings, task->name, "PrepareLimit"));
	if (result == VSS_RESULT_OK)
		result = stage(task, hold->connection, "START", "Starting a backup");
	return result == VSS_RESULT_OK ? stage(task, hold->connection, "FLUSH", "Flushing tables") : result;
}

/* Nobody can be asked where its redo log is. */
static enum vss_result prepare_offline(struct bundled_task *task, struct hold *hold)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/ib_logfile0", data_directory(task));
	if (access(path, F_OK) < 0)
		return bundled_fail(task, VSS_RESULT_INCONSISTENT_SNAPSHOT,
				    "The server does not run, and its redo log is not in %s: whether all of it is in the set cannot be "
				    "told. Start the server", data_directory(task));
	hold->layout = layout_look(data_directory(task));
	return check_places(task, hold);
}

static enum vss_result prepare(struct bundled_task *task, struct hold *hold)
{
	struct err err = { 0 };
	char socket[PATH_MAX];
	bool running;

	if (servers_running(task->settings, task->name, data_directory(task), &running, socket, sizeof socket, &err) < 0)
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "%s", err.text);
	return running ? prepare_running(task, hold, socket) : prepare_offline(task, hold);
}

static enum vss_result on_prepare_snapshot(struct bundled_task *task)
{
	struct hold *hold = calloc(1, sizeof *hold);
	enum vss_result result;

	mariadb_forget(*task->state); /* of a set whose end we did not hear of */
	*task->state = NULL;
	if (!hold)
		return bundled_fail(task, VSS_RESULT_OUT_OF_RESOURCES, "Out of memory");
	snprintf(hold->session, sizeof hold->session, "%s", task->session);
	result = prepare(task, hold);
	if (result == VSS_RESULT_OK)
		*task->state = hold;
	else
		mariadb_forget(hold);
	return result;
}

/* ---- Freeze ---- */

/* Taken while nothing can be committed: it is the copy's. */
static enum vss_result take_position(struct bundled_task *task, struct hold *hold)
{
	autorows MYSQL_RES *status = NULL, *gtid = NULL, *replicas = NULL;
	enum vss_result result = server_query(task, hold->connection, "Asking for its position",
					      "SELECT @@gtid_binlog_pos, @@gtid_slave_pos, @@gtid_current_pos, @@server_id",
					      task->deadline, &gtid);

	if (result == VSS_RESULT_OK)
		result = server_query(task, hold->connection, "Asking for its binlog position", "SHOW MASTER STATUS", task->deadline,
				      &status);
	if (result == VSS_RESULT_OK)
		result = server_query(task, hold->connection, "Asking whether it replicates", "SHOW ALL SLAVES STATUS", task->deadline,
				      &replicas);
	if (result != VSS_RESULT_OK)
		return result;
	MYSQL_ROW row = mysql_fetch_row(gtid), at = mysql_fetch_row(status);
	json_decref(hold->position);
	hold->position = json_pack("{ss ss ss ss si}", "GtidBinlogPos", row && row[0] ? row[0] : "", "GtidSlavePos",
				   row && row[1] ? row[1] : "", "GtidCurrentPos", row && row[2] ? row[2] : "", "ServerId",
				   row && row[3] ? row[3] : "", "Sources", (int)mysql_num_rows(replicas));
	if (at && at[0] && at[1])
		json_object_update_new(hold->position,
				       json_pack("{ss sI}", "BinlogFile", at[0], "BinlogPosition", (json_int_t)strtoll(at[1], NULL, 10)));
	return VSS_RESULT_OK;
}

static enum vss_result ask_number(struct bundled_task *task, MYSQL *connection, const char *sql, uint64_t *ret)
{
	autorows MYSQL_RES *rows = NULL;
	enum vss_result result = server_query(task, connection, "Asking for its redo log", sql, task->deadline, &rows);
	MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;

	if (result == VSS_RESULT_OK && (!row || !row[0]))
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "The server does not say how far its redo log is written");
	if (result == VSS_RESULT_OK)
		*ret = strtoull(row[0], NULL, 10);
	return result;
}

/* With innodb_flush_log_at_trx_commit=0 a commit is acknowledged before it is in the redo log, and no statement makes InnoDB
 * write it, FLUSH ENGINE LOGS neither: its own thread does, within innodb_flush_log_at_timeout. */
static enum vss_result await_redo_log(struct bundled_task *task, MYSQL *connection)
{
	static const char current[] = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS"
				      " WHERE VARIABLE_NAME = 'INNODB_LSN_CURRENT'";
	static const char flushed[] = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS"
				      " WHERE VARIABLE_NAME = 'INNODB_LSN_FLUSHED'";
	uint64_t until = clock_now() + bundled_setting_span(task->settings, task->name, "LockLimit");
	uint64_t policy = 1, target = 0, done = 0;
	enum vss_result result = ask_number(task, connection, "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit", &policy);

	if (result != VSS_RESULT_OK || policy != 0)
		return result;
	result = ask_number(task, connection, current, &target);
	while (result == VSS_RESULT_OK) {
		result = ask_number(task, connection, flushed, &done);
		if (result != VSS_RESULT_OK || done >= target)
			break;
		(void)bundled_wait(task, -1, 0, clock_now() + REDO_LOG_INTERVAL);
		if (clock_now() >= until || bundled_expired(task) < 0)
			return bundled_fail(task, VSS_RESULT_TIMED_OUT,
					    "Its redo log is not written within LockLimit=: innodb_flush_log_at_trx_commit is 0, and "
					    "innodb_flush_log_at_timeout too long");
	}
	return result;
}

static enum vss_result hold_commits(struct bundled_task *task, struct hold *hold)
{
	enum vss_result result =
		set_limits(task, hold->connection, bundled_setting_span(task->settings, task->name, "HoldLimit"));

	if (result == VSS_RESULT_OK)
		result = stage(task, hold->connection, "BLOCK_DDL", "Blocking changes of tables");
	if (result == VSS_RESULT_OK)
		result = stage(task, hold->connection, "BLOCK_COMMIT", "Blocking commits");
	if (result == VSS_RESULT_OK)
		result = await_redo_log(task, hold->connection);
	return result == VSS_RESULT_OK ? take_position(task, hold) : result;
}

static enum vss_result on_freeze(struct bundled_task *task, struct hold *hold)
{
	enum vss_result result = hold->connection ? hold_commits(task, hold) : VSS_RESULT_OK;

	hold->frozen = result == VSS_RESULT_OK;
	if (hold->frozen)
		return result;
	/* Whatever was reached must not outlast this event: Abort may be long in coming. */
	server_close(steal_pointer(hold->connection));
	return result;
}

/* ---- Thaw ---- */

static json_t *describe(const struct bundled_task *task, const struct hold *hold)
{
	json_t *document = json_pack("{ss ss ss sO sb ss}", "Way", hold->connection ? "backup-stage" : "offline", "Version",
				     json_string_value(json_object_get(hold->layout, "Version")), "DataDirectory",
				     data_directory(task), "Places", json_object_get(hold->layout, "Places"), "OneInstant",
				     hold->one_instant, "Restore",
				     hold->connection ?
					     "All files show one instant at which nothing was being committed. Put them back where they were "
					     "and start the server: it recovers as after a crash. A replica made of it starts from the "
					     "position given here." :
					     "The server did not run. Put the files back where they were and start it.");

	if (hold->position)
		json_object_update(document, hold->position);
	return document;
}

static enum vss_result thaw_offline(struct bundled_task *task, const struct hold *hold)
{
	struct err err = { 0 };
	char socket[PATH_MAX];
	bool running = false;

	/* One instant of its files is good whatever happened to them. */
	if (hold->one_instant)
		return VSS_RESULT_OK;
	if (servers_running(task->settings, task->name, data_directory(task), &running, socket, sizeof socket, &err) < 0 || running)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server was started while the copies were made");
	return VSS_RESULT_OK;
}

static enum vss_result on_thaw(struct bundled_task *task, struct hold *hold)
{
	enum vss_result result;

	if (!hold->frozen)
		result = bundled_fail(task, VSS_RESULT_RETRYABLE, "Its commits were not held");
	else if (hold->connection)
		/* Succeeds on the connection that holds the stage alone: nothing came in between. */
		result = stage(task, hold->connection, "END", "Letting commits go");
	else
		result = thaw_offline(task, hold);
	if (result == VSS_RESULT_OK)
		task->document = describe(task, hold);
	*task->state = NULL;
	mariadb_forget(hold);
	return result;
}

/* ---- rehearsal ---- */

static void check_hold(struct bundled_task *task, MYSQL *connection)
{
	enum vss_result result = set_limits(task, connection, 0);

	if (result == VSS_RESULT_OK)
		result = stage(task, connection, "START", "Starting a backup");
	if (result == VSS_RESULT_OK)
		bundled_check(task, "hold", VSS_VERDICT_OK, "BACKUP STAGE may be used");
	else
		bundled_check(task, "hold", VSS_VERDICT_BAD, "%s", task->message);
}

static void check_layout(struct bundled_task *task, MYSQL *connection, json_t *layout)
{
	bundled_check(task, "server", VSS_VERDICT_OK, "answers, version %s",
		      json_string_value(json_object_get(layout, "Version")));
	if (!json_is_true(json_object_get(layout, "Supported"))) {
		bundled_check(task, "hold", VSS_VERDICT_BAD,
			      "it has no BACKUP STAGE, as MySQL and MariaDB before 10.4.1: its commits cannot be held");
		return;
	}
	check_hold(task, connection);
	if (bundled_is_one_instant(task, json_object_get(layout, "Places")))
		bundled_check(task, "copy", VSS_VERDICT_OK, "all of its volumes at one instant");
	else
		bundled_check(task, "copy", VSS_VERDICT_BAD, "its data and logs are not copied at one instant");
}

static void check_server(struct bundled_task *task, const char *socket)
{
	MYSQL *connection = NULL;
	json_t *layout = NULL;
	enum vss_result result = server_connect(task, socket, &connection);

	if (result == VSS_RESULT_OK)
		layout = layout_ask(task, connection, data_directory(task), &result);
	if (layout)
		check_layout(task, connection, layout);
	else
		bundled_check(task, "server", VSS_VERDICT_BAD, "%s", task->message);
	*task->message = '\0'; /* a rehearsal does not fail */
	json_decref(layout);
	server_close(connection);
}

static enum vss_result on_verify(struct bundled_task *task)
{
	struct err err = { 0 };
	char socket[PATH_MAX];
	bool running;

	if (servers_running(task->settings, task->name, data_directory(task), &running, socket, sizeof socket, &err) < 0)
		bundled_check(task, "server", VSS_VERDICT_BAD, "%s", err.text);
	else if (running)
		check_server(task, socket);
	else
		bundled_check(task, "server", VSS_VERDICT_OK, "does not run: the files are copied as they are");
	return VSS_RESULT_OK;
}

/* ---- all ---- */

static enum vss_result serve(struct bundled_task *task)
{
	struct hold *hold = *task->state;

	if (task->event == VSS_EVENT_ABORT) {
		mariadb_forget(hold);
		*task->state = NULL;
		return VSS_RESULT_OK;
	}
	if (task->event == VSS_EVENT_PREPARE_BACKUP)
		return task->verify ? on_verify(task) : VSS_RESULT_OK;
	if (task->event == VSS_EVENT_PREPARE_SNAPSHOT)
		return on_prepare_snapshot(task);
	if (!hold || strcmp(hold->session, task->session) != 0)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "It was not prepared for this set");
	return task->event == VSS_EVENT_FREEZE ? on_freeze(task, hold) : on_thaw(task, hold);
}

enum vss_result mariadb_serve(struct bundled_task *task)
{
	enum vss_result result = serve(task);

	mysql_thread_end();
	return result;
}
