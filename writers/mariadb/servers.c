/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/mariadb/servers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/bundled/processes.h"
#include "writers/mariadb/layout.h"
#include "writers/script/log.h"

#define ASK_LIMIT (1000 * USEC_PER_MSEC) /* of the 2 s that there are */

static const char *const names[] = { "mariadbd", "mysqld", NULL };

/* ---- is one running ---- */

/* A server has locks on its first data file, which is its user's. */
static pid_t locked_by(const char *data, uid_t *ret_user)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof path, "%s/ibdata1", data);
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	*ret_user = st.st_uid;
	return lock.l_pid > 0 ? lock.l_pid : -1;
}

static const json_t *process_of(json_t *processes, const char *data)
{
	json_t *process;
	size_t i;

	json_array_foreach(processes, i, process)
		if (strcmp(json_string_value(json_object_get(process, "Directory")), data) == 0)
			return process;
	return NULL;
}

int servers_running(const json_t *settings, const char *name, const char *data, bool *ret_running, char *socket, size_t size,
		    struct err *err)
{
	autojson json_t *processes = processes_find(names);
	const json_t *process = process_of(processes, data);
	const char *configured = bundled_setting_text(settings, name, "Socket");
	const char *seen = json_string_value(json_array_get(json_object_get(process, "Sockets"), 0));
	uid_t user = 0;
	pid_t holder = locked_by(data, &user);

	*ret_running = process || holder;
	snprintf(socket, size, "%s", *configured ? configured : seen ?: "");
	if (!*ret_running || *socket || (holder > 0 && processes_listens_at(holder, user, socket, size)))
		return 0;
	if (!process)
		return err_set(err, VSS_E_UNEXPECTED,
			       "%s/ibdata1 is in use by process %d, whose socket cannot be found: name it with Socket= in the "
			       "server's section",
			       data, (int)holder);
	return err_set(err, VSS_E_UNEXPECTED,
		       "Where process %lld listens cannot be seen: run the writer as its user or as root, or name its socket with "
		       "Socket=",
		       (long long)json_integer_value(json_object_get(process, "Pid")));
}

/* ---- asking one for its layout ---- */

struct question {
	pthread_t thread;
	bool started;
	const json_t *settings;
	json_t *row; /* only this thread's while it runs */
	char name[PATH_MAX + 16];
};

static void *ask(void *data)
{
	struct question *question = data;
	struct bundled_task task = { .settings = question->settings, .name = question->name, .instance = question->row,
				     .deadline = clock_now() + ASK_LIMIT, .cancel = -1 };
	const char *directory = json_string_value(json_object_get(question->row, "DataDirectory"));
	MYSQL *connection = NULL;
	enum vss_result result;
	json_t *layout = NULL;

	if (bundled_become_owner(question->row) < 0)
		return NULL;
	if (server_connect(&task, json_string_value(json_object_get(question->row, "Socket")), &connection) == VSS_RESULT_OK)
		layout = layout_ask(&task, connection, directory, &result);
	server_close(connection);
	if (layout)
		json_object_update_new(question->row, layout);
	else
		json_object_set_new(question->row, "Unasked", json_string(task.message));
	mysql_thread_end();
	return NULL;
}

static void ask_all(json_t *rows, const json_t *settings)
{
	size_t n = json_array_size(rows), i;
	autofree struct question *questions = calloc(n + 1, sizeof *questions);
	json_t *row;

	if (!questions)
		return;
	json_array_foreach(rows, i, row) {
		struct question *question = &questions[i];
		*question = (struct question){ .settings = settings, .row = row };
		snprintf(question->name, sizeof question->name, "mariadb/%s", json_string_value(json_object_get(row, "Name")));
		if (*json_string_value(json_object_get(row, "Socket")))
			question->started = pthread_create(&question->thread, NULL, ask, question) == 0;
	}
	for (i = 0; i < n; i++)
		if (questions[i].started)
			pthread_join(questions[i].thread, NULL);
}

/* ---- finding them ---- */

/* The path itself makes a name that nobody else has. */
static void name_by_path(const char *path, char *name, size_t size)
{
	snprintf(name, size, "%s", path + strspn(path, "/"));
	for (char *c = name; *c; c++)
		if (*c == '/')
			*c = '-';
}

static bool is_data_directory(const char *path)
{
	char file[PATH_MAX];

	snprintf(file, sizeof file, "%s/ibdata1", path);
	if (access(file, F_OK) == 0 || errno == EACCES)
		return true;
	snprintf(file, sizeof file, "%s/mysql", path);
	return access(file, F_OK) == 0;
}

static void add_server(json_t *rows, const json_t *settings, const char *path)
{
	char data[PATH_MAX], name[PATH_MAX], full[PATH_MAX + 16], socket[PATH_MAX];
	struct err err = { 0 };
	bool running;
	struct stat st;
	json_t *row;
	size_t i;

	if (!realpath(path, data) || stat(data, &st) < 0)
		return;
	json_array_foreach(rows, i, row)
		if (strcmp(json_string_value(json_object_get(row, "DataDirectory")), data) == 0)
			return;
	name_by_path(data, name, sizeof name);
	snprintf(full, sizeof full, "mariadb/%s", name);
	int r = servers_running(settings, full, data, &running, socket, sizeof socket, &err);
	row = json_pack("{ss ss ss* so sb ss sI sI}", "LogicalPath", "mariadb", "Name", name, "DataDirectory", data, "Caption",
			json_sprintf("MariaDB in %s", data), "Database", 1, "Socket", socket, "Uid", (json_int_t)st.st_uid, "Gid",
			(json_int_t)st.st_gid);
	json_object_update_new(row, layout_look(data));
	if (r < 0)
		json_object_set_new(row, "Unasked", json_string(err.text));
	json_array_append_new(rows, row);
}

json_t *servers_discover(const json_t *settings, struct err *err)
{
	autojson json_t *processes = processes_find(names);
	json_t *rows = json_array(), *entry;
	size_t i;

	json_array_foreach(processes, i, entry) {
		const char *directory = json_string_value(json_object_get(entry, "Directory"));
		if (*directory && is_data_directory(directory))
			add_server(rows, settings, directory);
	}
	json_array_foreach(bundled_setting(settings, NULL, "DataDirectory"), i, entry) {
		if (is_data_directory(json_string_value(entry)))
			add_server(rows, settings, json_string_value(entry));
		else if (strcmp(json_string_value(entry), "/var/lib/mysql") != 0)
			log_line(LOG_WARNING, NULL, "DataDirectory=%s: there is no MariaDB server's data", json_string_value(entry));
	}
	ask_all(rows, settings);
	return rows;
}
