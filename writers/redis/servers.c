/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/redis/servers.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/redis/settings.h"

#define DISCOVERY_LIMIT (1500 * UINT64_C(1000))
#define SERVER_LIMIT (800 * UINT64_C(1000))

struct search {
	const json_t *settings;
	uint64_t deadline;
	json_t *candidates; /* [{Socket, Host, Port, Config, Pid, Settings}] */
	json_t *rows;
};

static const char *member(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* ---- files ---- */

static void add_file(json_t *paths, const char *directory, const char *file)
{
	json_array_append_new(paths, json_pack("{ss ss sb}", "Path", directory, "Spec", file, "Recursive", 0));
}

/* The directory of the append-only files may be a link, or something mounted. */
static json_t *make_paths(const char *directory, const char *dump, const char *append_directory, const char *append_file)
{
	json_t *paths = json_array();
	char path[PATH_MAX], top[PATH_MAX], resolved[PATH_MAX];

	if (!realpath(directory, top))
		return paths;
	add_file(paths, top, *dump ? dump : "dump.rdb");
	if (!*append_directory)
		add_file(paths, top, *append_file ? append_file : "appendonly.aof");
	else if (snprintf(path, sizeof path, "%s/%s", top, append_directory) < (int)sizeof path && realpath(path, resolved))
		json_array_append_new(paths, json_string(resolved));
	return paths;
}

json_t *server_files(struct bundled_task *task, redisContext *context, uint64_t until)
{
	autofree char *directory = server_setting(task, context, until, "dir");
	autofree char *dump = directory ? server_setting(task, context, until, "dbfilename") : NULL;
	autofree char *append_directory = dump ? server_setting(task, context, until, "appenddirname") : NULL;
	autofree char *append_file = append_directory ? server_setting(task, context, until, "appendfilename") : NULL;

	return append_file ? make_paths(directory, dump, append_directory, append_file) : NULL;
}

/* ---- candidates ---- */

static bool is_same_address(const json_t *a, const json_t *b)
{
	return json_object_get(a, "Socket") ? json_equal(json_object_get(a, "Socket"), json_object_get(b, "Socket")) :
					      json_object_get(a, "Port") &&
						      json_equal(json_object_get(a, "Port"), json_object_get(b, "Port"));
}

/* What is known already gains what the new one knows more. */
static void add_candidate(struct search *search, json_t *candidate)
{
	json_t *known;
	size_t i;

	json_array_foreach(search->candidates, i, known) {
		if (is_same_address(candidate, known)) {
			json_object_update_missing(known, candidate);
			json_decref(candidate);
			return;
		}
	}
	json_array_append_new(search->candidates, candidate);
}

static const char *local_host(const char *host)
{
	if (!*host || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "localhost") == 0)
		return "127.0.0.1";
	return strcmp(host, "::") == 0 ? "::1" : host;
}

static void add_configured(struct search *search, const char *file)
{
	json_t *settings = settings_of_file(file), *candidate = json_object();
	const char *path = member(settings, "unixsocket"), *port = member(settings, "port") ?: "6379";
	const char *host = member(settings, "bind") ?: "";

	if (!settings) {
		json_decref(candidate);
		return;
	}
	host += *host == '-'; /* "-::1": need not exist */
	if (path)
		json_object_set_new(candidate, "Socket", json_string(path));
	if (strcmp(port, "0") != 0) {
		json_object_set_new(candidate, "Host", json_string(local_host(host)));
		json_object_set_new(candidate, "Port", json_string(port));
	}
	json_object_set_new(candidate, "Config", json_string(file));
	json_object_set_new(candidate, "Settings", settings);
	add_candidate(search, candidate);
}

static void add_configurations(struct search *search)
{
	json_t *pattern;
	glob_t found;
	size_t i;

	json_array_foreach(bundled_setting(search->settings, NULL, "Config"), i, pattern) {
		if (glob(json_string_value(pattern), 0, NULL, &found) == 0)
			for (size_t j = 0; j < found.gl_pathc; j++)
				add_configured(search, found.gl_pathv[j]);
		globfree(&found);
	}
}

/* A server calls itself "redis-server 127.0.0.1:6379", "redis-server *:6379 [cluster]", "redis-server unixsocket:/path". */
static void add_process(struct search *search, const char *pid, char *title)
{
	char *name = title, *address = strchr(title, ' ');
	json_t *candidate;

	if (!address)
		return;
	*address++ = '\0';
	name = strrchr(title, '/') ? strrchr(title, '/') + 1 : title;
	if (strcmp(name, "redis-server") != 0 && strcmp(name, "valkey-server") != 0)
		return;
	address[strcspn(address, " ")] = '\0';
	char *port = strrchr(address, ':');
	if (strncmp(address, "unixsocket:", 11) == 0) {
		candidate = json_pack("{ss si}", "Socket", address + 11, "Pid", atoi(pid));
	} else if (port && port[1]) {
		*port++ = '\0';
		candidate = json_pack("{ss ss si}", "Host", local_host(address), "Port", port, "Pid", atoi(pid));
	} else {
		return;
	}
	add_candidate(search, candidate);
}

/* One in a container has another root: its paths and its ports are not ours. */
static bool sees_our_root(const char *pid)
{
	struct stat own, other;
	char path[64];

	snprintf(path, sizeof path, "/proc/%.16s/root/", pid);
	return stat("/", &own) == 0 && stat(path, &other) == 0 && own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

static void add_processes(struct search *search)
{
	DIR *directory = opendir("/proc");
	char path[64], title[PATH_MAX];

	if (!directory)
		return;
	for (const struct dirent *entry; (entry = readdir(directory));) {
		if (atoi(entry->d_name) <= 0)
			continue;
		snprintf(path, sizeof path, "/proc/%.16s/cmdline", entry->d_name);
		FILE *file = fopen(path, "re");
		size_t n = file ? fread(title, 1, sizeof title - 1, file) : 0;
		title[n] = '\0';
		if (file)
			fclose(file);
		if (n > 0 && sees_our_root(entry->d_name))
			add_process(search, entry->d_name, title);
	}
	closedir(directory);
}

/* ---- rows ---- */

/* Where the server cannot be asked: its configuration, else the directory that it works in. */
static json_t *guess_files(const json_t *candidate)
{
	json_t *settings = json_object_get(candidate, "Settings"), *pid = json_object_get(candidate, "Pid");
	char link[64], directory[PATH_MAX];

	if (member(settings, "dir"))
		return make_paths(member(settings, "dir"), member(settings, "dbfilename") ?: "",
				  member(settings, "appenddirname") ?: "appendonlydir",
				  member(settings, "appendfilename") ?: "");
	snprintf(link, sizeof link, "/proc/%d/cwd", (int)json_integer_value(pid));
	if (json_is_integer(pid) && realpath(link, directory))
		return json_pack("[s]", directory);
	return NULL;
}

static json_t *ask_files(struct search *search, json_t *candidate)
{
	struct bundled_task task = { .settings = search->settings, .deadline = search->deadline, .cancel = -1 };
	uint64_t until = clock_now() + SERVER_LIMIT;
	redisContext *context = NULL;
	json_t *paths = NULL;
	int r;

	if (server_connect(&task, candidate, until, &context, &r) != VSS_RESULT_OK)
		return NULL;
	paths = server_files(&task, context, until);
	autofree char *port = paths ? server_setting(&task, context, until, "port") : NULL;
	if (port && *port && strcmp(port, "0") != 0) {
		/* Reached by its socket, still called by its port. */
		json_object_set_new(candidate, "Port", json_string(port));
		if (!json_object_get(candidate, "Host"))
			json_object_set_new(candidate, "Host", json_string("127.0.0.1"));
	}
	redisFree(context);
	return paths;
}

static bool is_taken(const struct search *search, const char *name)
{
	const json_t *row;
	size_t i;

	json_array_foreach(search->rows, i, row)
		if (strcmp(member(row, "Name"), name) == 0)
			return true;
	return false;
}

/* The port; else the socket's last part, or all of it where another server has that. */
static void name_row(const struct search *search, const json_t *candidate, char *name, size_t size)
{
	const char *path = member(candidate, "Socket"), *port = member(candidate, "Port");

	snprintf(name, size, "%s", port ?: basename(path));
	char *suffix = strrchr(name, '.');
	if (suffix && strcmp(suffix, ".sock") == 0)
		*suffix = '\0';
	if (port || !is_taken(search, name))
		return;
	snprintf(name, size, "%s", path + (*path == '/'));
	for (char *c = name; *c; c++)
		*c = *c == '/' ? '-' : *c;
}

/* A server that is too busy to answer now, or was stopped, still has the files that it had. */
static json_t *remember_files(const json_t *candidate, json_t *found)
{
	static json_t *known; /* {address: Paths}; discovery has one thread at a time */
	const char *address = member(candidate, "Socket") ?: member(candidate, "Port");

	if (!known)
		known = json_object();
	if (!address)
		return found;
	if (!found)
		return json_incref(json_object_get(known, address));
	json_object_set(known, address, found);
	return found;
}

static void add_row(struct search *search, json_t *candidate)
{
	json_t *paths = remember_files(candidate, ask_files(search, candidate)) ?: guess_files(candidate);
	char name[PATH_MAX];
	json_t *row;

	if (!paths || json_array_size(paths) == 0 || (!member(candidate, "Socket") && !member(candidate, "Port"))) {
		json_decref(paths);
		return;
	}
	name_row(search, candidate, name, sizeof name);
	if (member(candidate, "Port") && is_taken(search, name)) { /* the same by another way */
		json_decref(paths);
		return;
	}
	row = json_copy(candidate);
	json_object_del(row, "Settings");
	json_object_update_new(row, json_pack("{ss ss sb so}", "LogicalPath", "redis", "Name", name, "Database", 1, "Paths", paths));
	json_object_set_new(row, "Caption", json_sprintf("Redis at %s", member(candidate, "Socket") ?: name));
	json_array_append_new(search->rows, row);
}

json_t *servers_discover(const json_t *settings, struct err *err)
{
	struct search search = { settings, clock_now() + DISCOVERY_LIMIT, json_array(), json_array() };
	json_t *path, *candidate;
	size_t i;

	json_array_foreach(bundled_setting(settings, NULL, "Socket"), i, path)
		add_candidate(&search, json_pack("{sO}", "Socket", path));
	add_configurations(&search);
	if (json_is_true(bundled_setting(settings, NULL, "Processes")))
		add_processes(&search);
	json_array_foreach(search.candidates, i, candidate)
		add_row(&search, candidate);
	json_decref(search.candidates);
	return search.rows;
}
