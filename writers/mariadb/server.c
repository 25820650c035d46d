/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/mariadb/server.h"

#include <errno.h>
#include <mysqld_error.h>
#include <errmsg.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

/* ---- what goes wrong ---- */

static enum vss_result result_of(unsigned number)
{
	switch (number) {
	case ER_CON_COUNT_ERROR:
	case ER_TOO_MANY_USER_CONNECTIONS:
	case ER_USER_LIMIT_REACHED:
	case ER_OUT_OF_RESOURCES:
	case ER_OUTOFMEMORY:
	case ER_DISK_FULL:
		return VSS_RESULT_OUT_OF_RESOURCES;
	case ER_LOCK_WAIT_TIMEOUT:
	case ER_LOCK_DEADLOCK:
	case ER_QUERY_INTERRUPTED:
	case ER_CONNECTION_KILLED:
	case ER_SERVER_SHUTDOWN:
		return VSS_RESULT_RETRYABLE;
	default:
		return number >= CR_MIN_ERROR && number <= CR_MAX_ERROR ? VSS_RESULT_RETRYABLE : VSS_RESULT_NON_RETRYABLE;
	}
}

static enum vss_result refused(struct bundled_task *task, MYSQL *connection, const char *what)
{
	unsigned number = mysql_errno(connection);

	if (number == CR_SERVER_GONE_ERROR || number == CR_SERVER_LOST)
		return bundled_fail(task, VSS_RESULT_RETRYABLE,
				    "%s: the server ended the connection: it was stopped, restarted, has crashed, or somebody "
				    "killed the connection",
				    what);
	return bundled_fail(task, result_of(number), "%s: %s (%u)", what, mysql_error(connection), number);
}

static enum vss_result gave_up(struct bundled_task *task, int r, const char *what)
{
	if (r == -ETIMEDOUT)
		return bundled_fail(task, VSS_RESULT_TIMED_OUT, "%s: the server does not answer within the limit", what);
	return bundled_fail(task, VSS_RESULT_RETRYABLE, "%s: %s", what, r == -ECANCELED ? "called off" : strerror(-r));
}

/* Waits for what the library waits for; what has come, in its bits; or negative errno. */
static int await(const struct bundled_task *task, MYSQL *connection, int wanted, uint64_t until)
{
	short events = 0;

	if (wanted & MYSQL_WAIT_READ)
		events |= POLLIN;
	if (wanted & MYSQL_WAIT_WRITE)
		events |= POLLOUT;
	if (wanted & MYSQL_WAIT_EXCEPT)
		events |= POLLPRI;
	int r = bundled_wait(task, mysql_get_socket(connection), events, until);
	return r < 0 ? r : wanted & (MYSQL_WAIT_READ | MYSQL_WAIT_WRITE | MYSQL_WAIT_EXCEPT);
}

/* ---- connecting ---- */

static void set_options(const struct bundled_task *task, MYSQL *connection)
{
	const char *file = bundled_setting_text(task->settings, task->name, "OptionFile");
	const unsigned no = 0;
	const my_bool off = 0;

	mysql_options(connection, MYSQL_OPT_NONBLOCK, NULL);
	/* A server must not be able to ask for our files, and what is lost must not come back without its locks. */
	mysql_options(connection, MYSQL_OPT_LOCAL_INFILE, &no);
	mysql_options(connection, MYSQL_OPT_RECONNECT, &off);
	mysql_options(connection, MYSQL_SET_CHARSET_NAME, "utf8mb4");
	if (*file) {
		mysql_options(connection, MYSQL_READ_DEFAULT_FILE, file);
		mysql_options(connection, MYSQL_READ_DEFAULT_GROUP, "client");
	}
}

enum vss_result server_connect(struct bundled_task *task, const char *socket, MYSQL **ret)
{
	uint64_t until = clock_now() + bundled_setting_span(task->settings, task->name, "ConnectLimit");
	const char *file = bundled_setting_text(task->settings, task->name, "OptionFile");
	MYSQL *connection = mysql_init(NULL), *done = NULL;
	struct passwd entry, *user = NULL;
	char buffer[4096];

	if (!connection)
		return bundled_fail(task, VSS_RESULT_OUT_OF_RESOURCES, "Out of memory");
	if (*file && access(file, R_OK) < 0) {
		mysql_close(connection);
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "OptionFile=%s cannot be read as user %u: %s", file,
				    (unsigned)geteuid(), strerror(errno));
	}
	set_options(task, connection);
	if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &user) != 0 || !user)
		user = NULL;
	int wanted = mysql_real_connect_start(&done, connection, NULL, *file || !user ? NULL : user->pw_name, NULL, NULL, 0,
					      *socket ? socket : NULL, 0);
	while (wanted) {
		int r = await(task, connection, wanted, until);
		if (r < 0) {
			server_close(connection);
			return gave_up(task, r, "Connecting");
		}
		wanted = mysql_real_connect_cont(&done, connection, r);
	}
	if (done) {
		*ret = connection;
		return VSS_RESULT_OK;
	}
	enum vss_result result = bundled_fail(task, result_of(mysql_errno(connection)), "The server cannot be connected to: %s",
					      mysql_error(connection));
	mysql_close(connection);
	return result;
}

void server_close(MYSQL *connection)
{
	if (!connection)
		return;
	/* So that saying good-bye cannot wait for anybody. */
	int fd = mysql_get_socket(connection);
	if (fd >= 0)
		shutdown(fd, SHUT_RDWR);
	mysql_close(connection);
}

/* ---- asking ---- */

static int run(const struct bundled_task *task, MYSQL *connection, const char *sql, uint64_t until, int *failed)
{
	int wanted = mysql_real_query_start(failed, connection, sql, strlen(sql));

	while (wanted) {
		int r = await(task, connection, wanted, until);
		if (r < 0)
			return r;
		wanted = mysql_real_query_cont(failed, connection, r);
	}
	return 0;
}

static int fetch(const struct bundled_task *task, MYSQL *connection, uint64_t until, MYSQL_RES **ret)
{
	int wanted = mysql_store_result_start(ret, connection);

	while (wanted) {
		int r = await(task, connection, wanted, until);
		if (r < 0)
			return r;
		wanted = mysql_store_result_cont(ret, connection, r);
	}
	return 0;
}

enum vss_result server_query(struct bundled_task *task, MYSQL *connection, const char *what, const char *sql, uint64_t until,
			     MYSQL_RES **ret)
{
	MYSQL_RES *rows = NULL;
	int failed = 0, r = run(task, connection, sql, until, &failed);

	if (r < 0)
		return gave_up(task, r, what);
	if (failed)
		return refused(task, connection, what);
	r = fetch(task, connection, until, &rows);
	if (r < 0)
		return gave_up(task, r, what);
	if (mysql_errno(connection))
		return refused(task, connection, what);
	if (ret && !rows)
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "%s: the server's answer has no rows", what);
	if (ret)
		*ret = rows;
	else
		mysql_free_result(rows);
	return VSS_RESULT_OK;
}
