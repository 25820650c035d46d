/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/mariadb/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mysqld_error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"

static void free_rows(MYSQL_RES **rows)
{
	mysql_free_result(*rows);
}
#define autorows cleanup(free_rows)

static void close_directory(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}
#define autoclosedir cleanup(close_directory)

/* ---- places ---- */

static bool is_below(const char *path, const char *directory)
{
	size_t n = strlen(directory);

	return strncmp(path, directory, n) == 0 && (path[n] == '/' || path[n] == '\0' || n == 1);
}

static void add_place(json_t *layout, const char *directory)
{
	json_t *places = json_object_get(layout, "Places"), *place;
	size_t i;

	json_array_foreach(places, i, place)
		if (strcmp(json_string_value(place), directory) == 0)
			return;
	json_array_append_new(places, json_string(directory));
}

/* A directory that the server names, perhaps below its data directory, perhaps through links. All of it belongs to the server
 * if spec is NULL, else only what fits. */
static void add_directory(json_t *layout, const char *data, const char *name, const char *spec)
{
	char path[PATH_MAX], resolved[PATH_MAX];

	if (snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : data, *name == '/' ? "" : "/", name) >= (int)sizeof path ||
	    !realpath(path, resolved))
		return;
	add_place(layout, resolved);
	if (is_below(resolved, data))
		return;
	json_array_append_new(json_object_get(layout, "Paths"),
			      json_pack("{ss ss sb}", "Path", resolved, "Spec", spec ?: "*", "Recursive", !spec));
}

/* "/var/log/mysql/binlog": the files binlog.* */
static void add_files(json_t *layout, const char *data, const char *base)
{
	char directory[PATH_MAX], spec[PATH_MAX];
	const char *slash = strrchr(base, '/');

	if (!slash || strlen(base) >= sizeof directory)
		return;
	snprintf(directory, sizeof directory, "%.*s", (int)(slash - base + 1), base);
	snprintf(spec, sizeof spec, "%s.*", slash + 1);
	add_directory(layout, data, directory, spec);
}

/* Databases that are links, or volumes of their own. */
static void add_databases(json_t *layout, const char *data)
{
	autoclosedir DIR *directory = opendir(data);
	struct stat own, st;

	if (!directory || fstat(dirfd(directory), &own) < 0)
		return;
	for (const struct dirent *entry; (entry = readdir(directory));)
		if (entry->d_name[0] != '.' && fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    (S_ISLNK(st.st_mode) || (S_ISDIR(st.st_mode) && st.st_dev != own.st_dev)) &&
		    fstatat(dirfd(directory), entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode))
			add_directory(layout, data, entry->d_name, NULL);
}

json_t *layout_look(const char *data)
{
	json_t *layout = json_pack("{ss sb s[s] s[s]}", "Version", "", "Supported", 1, "Paths", data, "Places", data);

	add_databases(layout, data);
	return layout;
}

/* ---- what the server says ---- */

static bool is_same_directory(const char *a, const char *b)
{
	struct stat first, second;

	return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* innodb_data_file_path may name files anywhere: PATH:SIZE[:...];... */
static void add_data_files(json_t *layout, const char *data, const char *home, const char *files)
{
	autofree char *copy = strdup(files);
	char *rest = NULL, path[PATH_MAX], directory[PATH_MAX];

	for (char *file = copy ? strtok_r(copy, ";", &rest) : NULL; file; file = strtok_r(NULL, ";", &rest)) {
		file[strcspn(file, ":")] = '\0';
		const char *slash = strrchr(file, '/');
		if (!slash || snprintf(path, sizeof path, "%s%s%s", *file == '/' ? "" : home, *home ? "/" : "", file) >=
				      (int)sizeof path)
			continue;
		slash = strrchr(path, '/');
		snprintf(directory, sizeof directory, "%.*s", (int)(slash - path + 1), path);
		add_directory(layout, data, directory, slash + 1);
	}
}

/* Tables with a DATA DIRECTORY of their own: PLACE/DATABASE/TABLE.ibd */
static enum vss_result add_tablespaces(struct bundled_task *task, MYSQL *connection, const char *data, json_t *layout)
{
	autorows MYSQL_RES *rows = NULL;
	enum vss_result result = server_query(
		task, connection, "Asking for tablespaces elsewhere",
		"SELECT DISTINCT SUBSTRING_INDEX(FILENAME, '/', CHAR_LENGTH(FILENAME) - CHAR_LENGTH(REPLACE(FILENAME, '/', '')))"
		" FROM information_schema.INNODB_SYS_TABLESPACES WHERE FILENAME LIKE '/%'",
		task->deadline, &rows);

	if (result != VSS_RESULT_OK)
		return result;
	for (MYSQL_ROW row; (row = mysql_fetch_row(rows));)
		if (row[0] && !is_below(row[0], data))
			add_directory(layout, data, row[0], "*.ibd");
	return result;
}

static const char *text(MYSQL_ROW row, unsigned i)
{
	return row[i] ?: "";
}

static enum vss_result ask(struct bundled_task *task, MYSQL *connection, const char *data, json_t *layout)
{
	autorows MYSQL_RES *rows = NULL;
	enum vss_result result = server_query(task, connection, "Asking where its data is",
					      "SELECT @@datadir, @@innodb_data_home_dir, @@innodb_data_file_path,"
					      " @@innodb_log_group_home_dir, @@innodb_undo_directory, @@log_bin,"
					      " @@log_bin_basename, @@relay_log_basename",
					      task->deadline, &rows);

	if (result != VSS_RESULT_OK)
		return result;
	MYSQL_ROW row = mysql_fetch_row(rows);
	if (!row || !row[0])
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "Asking where its data is: there is no answer");
	if (!is_same_directory(text(row, 0), data))
		return bundled_fail(task, VSS_RESULT_NON_RETRYABLE, "The server that was connected to serves %s, not %s",
				    text(row, 0), data);
	if (*text(row, 1))
		add_directory(layout, data, text(row, 1), NULL);
	add_data_files(layout, data, text(row, 1), text(row, 2));
	if (*text(row, 3))
		add_directory(layout, data, text(row, 3), "ib_logfile*");
	if (*text(row, 4))
		add_directory(layout, data, text(row, 4), "undo*");
	json_object_set_new(layout, "Binlog", json_boolean(strcmp(text(row, 5), "1") == 0));
	if (strcmp(text(row, 5), "1") == 0)
		add_files(layout, data, text(row, 6));
	add_files(layout, data, text(row, 7));
	return add_tablespaces(task, connection, data, layout);
}

/* By trying, since a version is what somebody wrote into it: outside a backup END changes nothing, and to a server that has no
 * BACKUP STAGE it is a mistake of grammar. */
static enum vss_result ask_support(struct bundled_task *task, MYSQL *connection, bool *ret_supported)
{
	enum vss_result result = server_query(task, connection, "Asking for BACKUP STAGE", "BACKUP STAGE END", task->deadline, NULL);
	unsigned number = mysql_errno(connection);

	*ret_supported = number != ER_PARSE_ERROR;
	if (result != VSS_RESULT_OK && number != ER_PARSE_ERROR && number != ER_BACKUP_NOT_RUNNING &&
	    number != ER_SPECIFIC_ACCESS_DENIED_ERROR) /* of which START tells */
		return result;
	*task->message = '\0';
	return VSS_RESULT_OK;
}

json_t *layout_ask(struct bundled_task *task, MYSQL *connection, const char *data, enum vss_result *ret_result)
{
	json_t *layout = layout_look(data);
	bool supported = false;

	json_object_set_new(layout, "Version", json_string(mysql_get_server_info(connection) ?: ""));
	*ret_result = ask_support(task, connection, &supported);
	json_object_set_new(layout, "Supported", json_boolean(supported));
	/* Others do not know what is asked then. */
	if (*ret_result == VSS_RESULT_OK && supported)
		*ret_result = ask(task, connection, data, layout);
	if (*ret_result == VSS_RESULT_OK)
		return layout;
	json_decref(layout);
	return NULL;
}
