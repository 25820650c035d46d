/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/postgresql/clusters.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "writers/bundled/bundled.h"
#include "writers/script/log.h"

static void close_directory(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}
#define autoclosedir cleanup(close_directory)

static bool is_entry(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* ---- what a cluster consists of ---- */

static void add_path(json_t *paths, const char *path)
{
	json_t *known;
	size_t i;

	json_array_foreach(paths, i, known)
		if (strcmp(json_string_value(known), path) == 0)
			return;
	json_array_append_new(paths, json_string(path));
}

/* Where a link in the data directory leads; what is no link is where it is. */
static char *resolve(const char *directory, const char *name, char path[PATH_MAX], struct err *err)
{
	char link[PATH_MAX];

	if (snprintf(link, sizeof link, "%s/%s", directory, name) >= (int)sizeof link)
		errno = ENAMETOOLONG;
	else if (realpath(link, path))
		return path;
	err_errno(err, errno, VSS_E_UNEXPECTED, "%s cannot be followed", link);
	return NULL;
}

/* In-place tablespaces are directories here, and lie where pg_tblspc does. */
static int add_tablespaces(const char *data, json_t *tablespaces, json_t *paths, struct err *err)
{
	char top[PATH_MAX], path[PATH_MAX];

	if (!resolve(data, "pg_tblspc", top, err))
		return -1;
	autoclosedir DIR *directory = opendir(top);
	if (!directory)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "%s cannot be read", top);
	for (const struct dirent *entry; (entry = readdir(directory));) {
		if (!is_entry(entry))
			continue;
		if (!resolve(top, entry->d_name, path, err))
			return -1;
		json_object_set_new(tablespaces, entry->d_name, json_string(path));
		add_path(paths, path);
	}
	return 0;
}

/* Parts of the directory that something is mounted on, or that are volumes of their own (subvolumes of btrfs). */
static void add_other_volumes(const char *top, json_t *paths)
{
	autoclosedir DIR *directory = opendir(top);
	struct stat own, part;
	char path[PATH_MAX];

	if (!directory || fstat(dirfd(directory), &own) < 0)
		return;
	for (const struct dirent *entry; (entry = readdir(directory));) {
		if (!is_entry(entry) || fstatat(dirfd(directory), entry->d_name, &part, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(part.st_mode) && part.st_dev != own.st_dev &&
		    snprintf(path, sizeof path, "%s/%s", top, entry->d_name) < (int)sizeof path)
			add_path(paths, path);
	}
}

json_t *cluster_layout(const char *data, struct err *err)
{
	autojson json_t *tablespaces = json_object(), *paths = json_array();
	char wal[PATH_MAX], base[PATH_MAX];

	add_path(paths, data);
	if (!resolve(data, "pg_wal", wal, err) || add_tablespaces(data, tablespaces, paths, err) < 0)
		return NULL;
	add_path(paths, wal);
	add_other_volumes(data, paths);
	if (resolve(data, "base", base, NULL))
		add_other_volumes(base, paths);
	return json_pack("{ss sO sO}", "Wal", wal, "Tablespaces", tablespaces, "Paths", paths);
}

/* ---- its server ---- */

static bool serves(pid_t pid, const char *data)
{
	char link[64];
	struct stat here, there;

	if (pid <= 1 || (kill(pid, 0) < 0 && errno == ESRCH))
		return false;
	/* A server works in its data directory. Where that cannot be looked at, the process' existence has to do. */
	snprintf(link, sizeof link, "/proc/%d/cwd", pid);
	if (stat(link, &there) < 0 || stat(data, &here) < 0)
		return errno != ENOENT;
	return here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

static void read_line(FILE *file, char *text, size_t size)
{
	autofree char *line = NULL;
	size_t room = 0;
	ssize_t n = getline(&line, &room, file);

	while (n > 0 && isspace((unsigned char)line[n - 1]))
		line[--n] = '\0';
	snprintf(text, size, "%s", n > 0 ? line : "");
}

int cluster_postmaster(const char *data, struct postmaster *postmaster, struct err *err)
{
	char path[PATH_MAX], pid[16], skipped[PATH_MAX], address[256];

	*postmaster = (struct postmaster){ 0 };
	snprintf(path, sizeof path, "%s/postmaster.pid", data);
	FILE *file = fopen(path, "re");
	if (!file)
		return errno == ENOENT ? 0 : err_errno(err, errno, VSS_E_UNEXPECTED, "%s cannot be read", path);
	read_line(file, pid, sizeof pid);
	read_line(file, skipped, sizeof skipped); /* the data directory */
	read_line(file, skipped, sizeof skipped); /* since when */
	read_line(file, postmaster->port, sizeof postmaster->port);
	read_line(file, postmaster->directory, sizeof postmaster->directory);
	read_line(file, address, sizeof address);
	read_line(file, skipped, sizeof skipped); /* shared memory */
	read_line(file, postmaster->status, sizeof postmaster->status);
	fclose(file);
	if (!*postmaster->directory)
		snprintf(postmaster->directory, sizeof postmaster->directory, "%s",
			 *address && strcmp(address, "*") != 0 ? address : "localhost");
	postmaster->pid = atoi(pid);
	postmaster->running = serves(postmaster->pid, data);
	return 0;
}

int cluster_control(const char *data, char control[CONTROL_SIZE], struct err *err)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/global/pg_control", data);
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, control, CONTROL_SIZE) != CONTROL_SIZE)
		return err_errno(err, fd < 0 ? errno : EIO, VSS_E_UNEXPECTED, "%s cannot be read", path);
	return 0;
}

/* ---- where clusters are ---- */

struct search {
	const json_t *settings;
	json_t *rows;
};

static bool is_found(const struct search *search, const char *member, const char *value)
{
	json_t *row;
	size_t i;

	json_array_foreach(search->rows, i, row) {
		const char *known = json_string_value(json_object_get(row, member));
		if (known && strcmp(known, value) == 0)
			return true;
	}
	return false;
}

/* "15" of PG_VERSION; "" and errno if it cannot be read. */
static void read_version(const char *data, char version[16])
{
	char path[PATH_MAX + 16];
	int saved;

	*version = '\0';
	snprintf(path, sizeof path, "%s/PG_VERSION", data);
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	read_line(file, version, 16);
	saved = errno;
	fclose(file);
	errno = saved;
}

/* The path itself makes a name that nobody else has. */
static void name_by_path(const char *path, char *name, size_t size)
{
	snprintf(name, size, "%s", path + strspn(path, "/"));
	for (char *c = name; *c; c++)
		if (*c == '/')
			*c = '-';
}

static json_t *make_row(const char *data, const char *version, const char *logical, const char *name)
{
	struct err err = { 0 };
	struct stat st;
	autofree char *caption = NULL;
	json_t *layout = cluster_layout(data, &err);
	json_t *row = json_pack("{ss ss ss ss sb}", "LogicalPath", logical, "Name", name, "DataDirectory", data,
				"Version", version, "Database", 1);

	if (asprintf(&caption, "PostgreSQL %s in %s", version, data) >= 0)
		json_object_set_new(row, "Caption", json_string(caption));
	if (stat(data, &st) == 0)
		json_object_update_new(row, json_pack("{sI sI}", "Uid", (json_int_t)st.st_uid, "Gid", (json_int_t)st.st_gid));
	if (layout) {
		json_object_update_new(row, layout);
		return row;
	}
	json_object_set_new(row, "Paths", json_pack("[s]", data));
	json_object_set_new(row, "Unreadable", json_string(err.text));
	return row;
}

static void add_configuration(struct search *search, const char *logical, const char *name, const char *configuration)
{
	char path[PATH_MAX + 64], resolved[PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", logical, name);
	if (realpath(configuration, resolved))
		json_array_append_new(search->rows,
				      json_pack("{ss ss ss s[s] sb}", "LogicalPath", path, "Name", "configuration",
						"Caption", "Configuration files", "Paths", resolved, "Served", 0));
}

/* name NULL: made of the path. configuration NULL: none of its own. True if it is a cluster, even one known already. */
static bool add_cluster(struct search *search, const char *path, const char *name, const char *configuration)
{
	char data[PATH_MAX], version[16], logical[32], own_name[PATH_MAX];

	if (!realpath(path, data))
		return false;
	read_version(data, version);
	if (!*version && errno != EACCES)
		return false;
	if (is_found(search, "DataDirectory", data))
		return true;
	snprintf(logical, sizeof logical, "postgresql/%s", *version ? version : "unknown");
	name_by_path(data, own_name, sizeof own_name);
	for (size_t i = 0; name && i < json_array_size(search->rows); i++) {
		const json_t *row = json_array_get(search->rows, i);
		if (strcmp(json_string_value(json_object_get(row, "LogicalPath")), logical) == 0 &&
		    strcmp(json_string_value(json_object_get(row, "Name")), name) == 0)
			name = NULL;
	}
	name = name ?: own_name;
	json_array_append_new(search->rows, make_row(data, *version ? version : "unknown", logical, name));
	if (configuration)
		add_configuration(search, logical, name, configuration);
	return true;
}

/* data_directory of a postgresql.conf: the last one counts. Files that it includes are not read. */
static bool configured_data_directory(const char *configuration, char data[PATH_MAX])
{
	autofree char *line = NULL;
	char path[PATH_MAX];
	size_t room = 0;
	bool found = false;

	snprintf(path, sizeof path, "%s/postgresql.conf", configuration);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	while (getline(&line, &room, file) > 0) {
		const char *c = line + strspn(line, " \t");
		if (strncasecmp(c, "data_directory", 14) != 0)
			continue;
		c += 14;
		c += strspn(c, " \t");
		c += *c == '=';
		c += strspn(c, " \t");
		size_t n = *c == '\'' ? strcspn(c + 1, "'\n") : 0;
		if (n == 0 || n >= PATH_MAX)
			continue;
		memcpy(data, c + 1, n);
		data[n] = '\0';
		found = true;
	}
	fclose(file);
	return found;
}

typedef void (*visit_fn)(struct search *search, const char *root, const char *path, const char *name);

/* Calls for ROOT/a/b, and with depth 1 for ROOT/a. */
static void visit(struct search *search, const char *root, const char *top, int depth, visit_fn fn)
{
	autoclosedir DIR *directory = opendir(top);
	char path[PATH_MAX];

	if (!directory)
		return;
	for (const struct dirent *entry; (entry = readdir(directory));) {
		if (!is_entry(entry) || snprintf(path, sizeof path, "%s/%s", top, entry->d_name) >= (int)sizeof path)
			continue;
		if (depth > 1)
			visit(search, root, path, depth - 1, fn);
		else
			fn(search, root, path, entry->d_name);
	}
}

/* /etc/postgresql/15/main */
static void visit_configuration(struct search *search, const char *root, const char *path, const char *name)
{
	char data[PATH_MAX];
	json_t *top;
	size_t i;

	if (configured_data_directory(path, data)) {
		add_cluster(search, data, name, path);
		return;
	}
	json_array_foreach(bundled_setting(search->settings, NULL, "DataRoots"), i, top)
		if (snprintf(data, sizeof data, "%s%s", json_string_value(top), path + strlen(root)) < (int)sizeof data &&
		    add_cluster(search, data, name, path))
			return;
}

/* /var/lib/postgresql/15/main, /var/lib/pgsql/data */
static void visit_data(struct search *search, const char *root, const char *path, const char *name)
{
	add_cluster(search, path, name, NULL);
}

static void add_configured(struct search *search)
{
	json_t *path;
	size_t i;

	json_array_foreach(bundled_setting(search->settings, NULL, "DataDirectory"), i, path)
		if (!add_cluster(search, json_string_value(path), NULL, NULL))
			log_line(LOG_WARNING, NULL, "DataDirectory=%s: there is no PostgreSQL cluster",
				 json_string_value(path));
}

json_t *clusters_discover(const json_t *settings, struct err *err)
{
	struct search search = { .settings = settings, .rows = json_array() };
	json_t *root;
	size_t i;

	json_array_foreach(bundled_setting(settings, NULL, "ConfigRoots"), i, root)
		visit(&search, json_string_value(root), json_string_value(root), 2, visit_configuration);
	json_array_foreach(bundled_setting(settings, NULL, "DataRoots"), i, root) {
		visit(&search, json_string_value(root), json_string_value(root), 1, visit_data);
		visit(&search, json_string_value(root), json_string_value(root), 2, visit_data);
	}
	add_configured(&search);
	return search.rows;
}
