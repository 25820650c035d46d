/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/postgresql/server.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "writers/postgresql/clusters.h"

#define PARAMETERS_MAX 64

static void clear_result(PGresult **result)
{
	PQclear(*result);
}
#define autoresult cleanup(clear_result)

/* ---- what goes wrong ---- */

/* libpq's texts have lines; ours are one. */
static void flatten(const char *from, char *to, size_t size)
{
	text_format(to, size, "%s", from);
	for (char *c = to; *c; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
	for (size_t n = strlen(to); n > 0 && to[n - 1] == ' '; n--)
		to[n - 1] = '\0';
}

static enum vss_result failed(struct bundled_task *task, enum vss_result result, const char *what, const char *why)
{
	char text[400];

	flatten(why, text, sizeof text);
	return bundled_fail(task, result, "%s: %s", what, text);
}

/* By SQLSTATE's classes. */
static enum vss_result result_of_state(const char *state)
{
	if (strncmp(state, "53", 2) == 0) /* disk, memory, connections */
		return VSS_RESULT_OUT_OF_RESOURCES;
	if (strncmp(state, "57", 2) == 0 || strncmp(state, "58", 2) == 0 || strncmp(state, "40", 2) == 0 ||
	    strncmp(state, "08", 2) == 0) /* an operator, the system, a conflict, the connection */
		return VSS_RESULT_RETRYABLE;
	return VSS_RESULT_NON_RETRYABLE;
}

static enum vss_result gave_up(struct bundled_task *task, int r, const char *what)
{
	if (r == -ETIMEDOUT)
		return bundled_fail(task, VSS_RESULT_TIMED_OUT, "%s: the server does not answer within the limit", what);
	return bundled_fail(task, VSS_RESULT_RETRYABLE, "%s: %s", what, r == -ECANCELED ? "called off" : strerror(-r));
}

/* ---- connecting ---- */

struct parameters {
	const char *keys[PARAMETERS_MAX + 1], *values[PARAMETERS_MAX + 1];
	size_t n;
	PQconninfoOption *parsed;
	char *user;
};

/* Later ones win. */
static void set_parameter(struct parameters *parameters, const char *key, const char *value)
{
	for (size_t i = 0; i < parameters->n; i++) {
		if (strcmp(parameters->keys[i], key) == 0) {
			parameters->values[i] = value;
			return;
		}
	}
	if (parameters->n < PARAMETERS_MAX) {
		parameters->keys[parameters->n] = key;
		parameters->values[parameters->n++] = value;
	}
}

static char *owner_name(const struct bundled_task *task)
{
	char buffer[4096];
	struct passwd entry, *found = NULL;
	json_t *uid = json_object_get(task->instance, "Uid");

	if (json_is_integer(uid) &&
	    getpwuid_r((uid_t)json_integer_value(uid), &entry, buffer, sizeof buffer, &found) == 0 && found)
		return strdup(found->pw_name);
	return strdup("postgres");
}

static enum vss_result make_parameters(struct bundled_task *task, const struct postmaster *postmaster,
				       struct parameters *parameters)
{
	const char *conninfo = bundled_setting_text(task->settings, task->name, "ConnInfo");
	char *why = NULL;

	parameters->user = owner_name(task);
	set_parameter(parameters, "host", postmaster->directory);
	set_parameter(parameters, "port", postmaster->port);
	set_parameter(parameters, "user", parameters->user);
	set_parameter(parameters, "dbname", "postgres");
	set_parameter(parameters, "application_name", "vss-postgresql-writer");
	set_parameter(parameters, "gssencmode", "disable"); /* it would wait where nobody can end it */
	parameters->parsed = PQconninfoParse(conninfo, &why);
	if (!parameters->parsed) {
		enum vss_result result = failed(task, VSS_RESULT_NON_RETRYABLE, "ConnInfo=", why ?: "out of memory");
		PQfreemem(why);
		return result;
	}
	for (PQconninfoOption *option = parameters->parsed; option->keyword; option++)
		if (option->val && *option->val)
			set_parameter(parameters, option->keyword, option->val);
	return VSS_RESULT_OK;
}

static void free_parameters(struct parameters *parameters)
{
	PQconninfoFree(parameters->parsed);
	free(parameters->user);
}

/* What a server says that refuses us has no code here, only words, in its language. */
static enum vss_result refused(struct bundled_task *task, PGconn *connection, const struct postmaster *postmaster)
{
	bool for_ever = PQconnectionNeedsPassword(connection) || PQconnectionUsedPassword(connection) ||
			strstr(PQerrorMessage(connection), "authentication failed") ||
			strstr(PQerrorMessage(connection), "pg_hba.conf") ||
			strstr(PQerrorMessage(connection), "does not exist");

	if (strcmp(postmaster->status, "starting") == 0 || strcmp(postmaster->status, "stopping") == 0)
		for_ever = false;
	return failed(task, for_ever ? VSS_RESULT_NON_RETRYABLE : VSS_RESULT_RETRYABLE, "The server cannot be connected to",
		      PQerrorMessage(connection));
}

static enum vss_result establish(struct bundled_task *task, PGconn *connection, const struct postmaster *postmaster)
{
	uint64_t until = clock_now() + bundled_setting_span(task->settings, task->name, "ConnectLimit");
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	while (status == PGRES_POLLING_WRITING || status == PGRES_POLLING_READING) {
		int r = PQstatus(connection) == CONNECTION_BAD ? 0 :
			bundled_wait(task, PQsocket(connection), status == PGRES_POLLING_READING ? POLLIN : POLLOUT, until);
		if (r < 0)
			return gave_up(task, r, "Connecting");
		status = PQconnectPoll(connection);
	}
	return status == PGRES_POLLING_OK ? VSS_RESULT_OK : refused(task, connection, postmaster);
}

/* ---- statements ---- */

static int send_all(struct bundled_task *task, PGconn *connection, uint64_t until)
{
	int left, r;

	while ((left = PQflush(connection)) > 0) {
		r = bundled_wait(task, PQsocket(connection), POLLIN | POLLOUT, until);
		if (r < 0)
			return r;
		if (!PQconsumeInput(connection))
			return -EPIPE;
	}
	return left < 0 ? -EPIPE : 0;
}

static int await_result(struct bundled_task *task, PGconn *connection, uint64_t until)
{
	while (PQisBusy(connection)) {
		int r = bundled_wait(task, PQsocket(connection), POLLIN, until);
		if (r < 0)
			return r;
		if (!PQconsumeInput(connection))
			return -EPIPE;
	}
	return 0;
}

static int run_statement(struct bundled_task *task, PGconn *connection, const char *sql, uint64_t until, PGresult **ret_result)
{
	int r = PQsendQueryParams(connection, sql, 0, NULL, NULL, NULL, NULL, 0) ? send_all(task, connection, until) : -EPIPE;

	for (PGresult *last = NULL; r == 0; last = *ret_result) {
		r = await_result(task, connection, until);
		PGresult *next = r == 0 ? PQgetResult(connection) : NULL;
		if (!next) {
			*ret_result = last;
			return r;
		}
		PQclear(last);
		*ret_result = next;
	}
	return r;
}

enum vss_result server_query(struct bundled_task *task, PGconn *connection, const char *what, const char *sql, uint64_t until,
			     PGresult **ret_result)
{
	autoresult PGresult *result = NULL;
	int r = run_statement(task, connection, sql, until, &result);
	ExecStatusType status = result ? PQresultStatus(result) : PGRES_FATAL_ERROR;

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
		if (ret_result)
			*ret_result = steal_pointer(result);
		return VSS_RESULT_OK;
	}
	if (result && *PQresultErrorMessage(result))
		return failed(task, result_of_state(PQresultErrorField(result, PG_DIAG_SQLSTATE) ?: "08000"), what,
			      PQresultErrorMessage(result));
	if (r < 0 && r != -EPIPE)
		return gave_up(task, r, what);
	return failed(task, VSS_RESULT_RETRYABLE, what, PQerrorMessage(connection));
}

/* Asked of the socket: a server that goes may have left words behind, which libpq would read first. */
bool server_is_there(PGconn *connection)
{
	struct pollfd socket = { PQsocket(connection), POLLRDHUP, 0 };

	return socket.fd >= 0 && poll(&socket, 1, 0) == 0 && PQstatus(connection) == CONNECTION_OK;
}

/* ---- the right server, in the right mood ---- */

/* Settings of the role or the database must not end what we hold or wait for; a server that loses us shall notice. */
static enum vss_result set_up_session(struct bundled_task *task, PGconn *connection, uint64_t until)
{
	char sql[300];

	snprintf(sql, sizeof sql,
		 "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)%s",
		 PQserverVersion(connection) < 140000 ? "" :
							", set_config('idle_session_timeout', '0', false),"
							" set_config('client_connection_check_interval', '1000', false)");
	return server_query(task, connection, "Setting up the session", sql, until, NULL);
}

static enum vss_result check_identity(struct bundled_task *task, PGconn *connection, uint64_t until)
{
	const char *expected = json_string_value(json_object_get(task->instance, "DataDirectory"));
	autoresult PGresult *answer = NULL;
	char found[PATH_MAX];
	enum vss_result result = server_query(task, connection, "Asking for the data directory",
					      "SELECT current_setting('data_directory')", until, &answer);

	if (result != VSS_RESULT_OK)
		return result;
	if (realpath(PQgetvalue(answer, 0, 0), found) && strcmp(found, expected) == 0)
		return VSS_RESULT_OK;
	return bundled_fail(task, VSS_RESULT_NON_RETRYABLE,
			    "The server that was connected to serves %s, not %s: correct ConnInfo=", PQgetvalue(answer, 0, 0),
			    expected);
}

static enum vss_result open_session(struct bundled_task *task, const struct postmaster *postmaster,
				    struct parameters *parameters, PGconn **ret_connection)
{
	uint64_t until = clock_now() + bundled_setting_span(task->settings, task->name, "ConnectLimit");
	enum vss_result result = make_parameters(task, postmaster, parameters);
	PGconn *connection;

	if (result != VSS_RESULT_OK)
		return result;
	connection = PQconnectStartParams(parameters->keys, parameters->values, 0);
	if (!connection)
		return bundled_fail(task, VSS_RESULT_OUT_OF_RESOURCES, "Out of memory");
	PQsetnonblocking(connection, 1);
	result = establish(task, connection, postmaster);
	if (result == VSS_RESULT_OK)
		result = set_up_session(task, connection, until);
	if (result == VSS_RESULT_OK)
		result = check_identity(task, connection, until);
	if (result == VSS_RESULT_OK)
		*ret_connection = connection;
	else
		PQfinish(connection);
	return result;
}

enum vss_result server_connect(struct bundled_task *task, PGconn **ret_connection)
{
	struct parameters parameters = { 0 };
	struct postmaster postmaster;
	struct err err = { 0 };

	if (cluster_postmaster(json_string_value(json_object_get(task->instance, "DataDirectory")), &postmaster, &err) < 0)
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "%s", err.text);
	if (!postmaster.running)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "The server has just been stopped");
	enum vss_result result = open_session(task, &postmaster, &parameters, ret_connection);
	free_parameters(&parameters);
	return result;
}
