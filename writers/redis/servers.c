/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/redis/servers.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/redis/settings.h"

#define SERVER_LIMIT (700 * USEC_PER_MSEC) /* of the 2 s that there are */

#define CANDIDATES_MAX 64

struct search {
	const json_t *settings;
	json_t *candidates; /* [{Socket, Host, Port, Config, Pid, Settings, Paths, RunId}] */
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
static json_t *make_paths(const char *directory, const char *dump, const char *append_directory,
			  const char *append_file)
{
	json_t *paths = json_array();
	char path[PATH_MAX], top[PATH_MAX], resolved[PATH_MAX];

	if (!realpath(directory, top))
		return paths;
	add_file(paths, top, *dump ? dump : "dump.rdb");
	if (!*append_directory)
		add_file(paths, top, *append_file ? append_file : "appendonly.aof");
	else if (snprintf(path, sizeof path, "%s/%s", top, append_directory) < (int)sizeof path &&
		 realpath(path, resolved))
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

static bool has_same(const json_t *a, const json_t *b, const char *key)
{
	return json_object_get(a, key) && json_equal(json_object_get(a, key), json_object_get(b, key));
}

static bool is_same_address(const json_t *a, const json_t *b)
{
	return has_same(a, b, "Socket") || (has_same(a, b, "Host") && has_same(a, b, "Port"));
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
	if (json_array_size(search->candidates) < CANDIDATES_MAX)
		json_array_append_new(search->candidates, candidate);
	else
		json_decref(candidate);
}

/* The first address that it is bound to, as its title has it, too. */
static void add_address(json_t *candidate, const char *bound, const char *port)
{
	size_t n = strcspn(bound, " \t");
	char host[80];

	snprintf(host, sizeof host, "%.*s", (int)n - (*bound == '-'),
		 bound + (*bound == '-')); /* "-::1": need not exist */
	if (!*host || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "localhost") == 0)
		snprintf(host, sizeof host, "127.0.0.1");
	else if (strcmp(host, "::") == 0 || strcmp(host, "::*") == 0)
		snprintf(host, sizeof host, "::1");
	json_object_set_new(candidate, "Host", json_string(host));
	json_object_set_new(candidate, "Port", json_string(port));
}

static void add_configured(struct search *search, const char *file)
{
	json_t *settings = settings_of_file(file), *candidate = json_object();
	const char *path = member(settings, "unixsocket"), *port = member(settings, "port") ?: "6379";

	if (!settings) {
		json_decref(candidate);
		return;
	}
	if (path)
		json_object_set_new(candidate, "Socket", json_string(path));
	if (strcmp(port, "0") != 0)
		add_address(candidate, member(settings, "bind") ?: "", port);
	json_object_update_new(candidate, json_pack("{ss sb}", "Config", file, "Configured", 1));
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

/* A process calls itself what it likes: no other machine must be asked for that. */
static bool is_own_address(const char *host)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM };
	struct addrinfo *found = NULL;

	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return false;
	autoclose int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool own = fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0;
	freeaddrinfo(found);
	return own;
}

/* A server calls itself "redis-server 127.0.0.1:6379", "redis-server *:6379 [cluster]", "redis-server
 * unixsocket:/path". */
static void add_process(struct search *search, const char *pid, char *title)
{
	char *name = title, *address = strchr(title, ' ');
	json_t *candidate;

	if (!address || strstr(address, "[sentinel]"))
		return;
	*address++ = '\0';
	name = strrchr(title, '/') ? strrchr(title, '/') + 1 : title;
	if (strcmp(name, "redis-server") != 0 && strcmp(name, "valkey-server") != 0)
		return;
	address[strcspn(address, " ")] = '\0';
	char *port = strrchr(address, ':');
	if (!port || !port[1])
		return;
	*port++ = '\0';
	candidate = json_pack("{si}", "Pid", atoi(pid));
	if (strcmp(address, "unixsocket") == 0)
		json_object_set_new(candidate, "Socket", json_string(port));
	else
		add_address(candidate, address, port);
	if (member(candidate, "Socket") || is_own_address(member(candidate, "Host")))
		add_candidate(search, candidate);
	else
		json_decref(candidate);
}

/* One in a container has another root: its paths and its ports are not ours. */
static bool sees_our_root(const char *pid)
{
	struct stat own, other;
	char path[64];

	snprintf(path, sizeof path, "/proc/%.16s/root/", pid);
	return stat("/", &own) == 0 && stat(path, &other) == 0 && own.st_dev == other.st_dev &&
	       own.st_ino == other.st_ino;
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

/* ---- names ---- */

/* The port, and the address where that is not the usual one; else the socket's last part. */
static void name_by_address(const json_t *candidate, char *name, size_t size)
{
	const char *path = member(candidate, "Socket"), *port = member(candidate, "Port"),
		   *host = member(candidate, "Host") ?: "";

	if (port && strcmp(host, "127.0.0.1") == 0)
		snprintf(name, size, "%s", port);
	else if (port)
		snprintf(name, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	else
		snprintf(name, size, "%s", basename(path ?: ""));
	char *suffix = strrchr(name, '.');
	if (!port && suffix && strcmp(suffix, ".sock") == 0)
		*suffix = '\0';
}

static void name_by_path(const char *path, char *name, size_t size)
{
	snprintf(name, size, "%s", path + (*path == '/'));
	for (char *c = name; *c; c++)
		*c = *c == '/' ? '-' : *c;
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

static bool find_name(const struct search *search, const json_t *candidate, char *name, size_t size)
{
	const char *path = member(candidate, "Socket");

	name_by_address(candidate, name, size);
	if (is_taken(search, name) && path)
		name_by_path(path, name, size);
	return !is_taken(search, name);
}

/* ---- asking them ---- */

struct question {
	pthread_t thread;
	bool started;
	const json_t *settings;
	json_t *candidate; /* only this thread's while it runs */
	char name[PATH_MAX];
};

static void note_address(struct bundled_task *task, redisContext *context, uint64_t until, json_t *candidate)
{
	autofree char *port = server_setting(task, context, until, "port");
	autofree char *bound = port ? server_setting(task, context, until, "bind") : NULL;
	redisReply *info = NULL;
	char run_id[64];

	if (bound && *port && strcmp(port, "0") != 0 && !json_object_get(candidate, "Port"))
		add_address(candidate, bound, port);
	if (server_ask(task, context, "INFO", until, &info, "INFO server") != VSS_RESULT_OK)
		return;
	if (info->type == REDIS_REPLY_STRING)
		json_object_set_new(candidate, "RunId",
				    json_string(info_text(info->str, "run_id", run_id, sizeof run_id)));
	freeReplyObject(info);
}

static void *ask(void *data)
{
	struct question *question = data;
	uint64_t until = clock_now() + SERVER_LIMIT;
	struct bundled_task task = {
		.settings = question->settings, .name = question->name, .deadline = until, .cancel = -1
	};
	redisContext *context = NULL;
	int r;

	if (server_connect(&task, question->candidate, until, &context, &r) != VSS_RESULT_OK)
		return NULL;
	json_t *paths = server_files(&task, context, until);
	if (paths) {
		json_object_set_new(question->candidate, "Paths", paths);
		note_address(&task, context, until, question->candidate);
	}
	redisFree(context);
	return NULL;
}

/* All at a time: one that hangs must not keep the others from being asked. */
static void ask_all(struct search *search)
{
	size_t n = json_array_size(search->candidates), i;
	autofree struct question *questions = calloc(n + 1, sizeof *questions);
	json_t *candidate;

	if (!questions)
		return;
	json_array_foreach(search->candidates, i, candidate) {
		struct question *question = &questions[i];
		*question = (struct question){ .settings = search->settings, .candidate = candidate };
		memcpy(question->name, "redis/", 6);
		name_by_address(candidate, question->name + 6, sizeof question->name - 6);
		question->started = pthread_create(&question->thread, NULL, ask, question) == 0;
	}
	for (i = 0; i < n; i++)
		if (questions[i].started)
			pthread_join(questions[i].thread, NULL);
}

/* A server that is too busy to answer now, or was stopped, still is what it was. */
static void remember(struct search *search)
{
	static json_t *known; /* {address: what it said}; discovery has one thread at a time */
	json_t *fresh = json_object(), *candidate;
	char address[PATH_MAX];
	size_t i;

	json_array_foreach(search->candidates, i, candidate) {
		snprintf(address, sizeof address, "%s", member(candidate, "Socket") ?: "");
		if (!*address)
			name_by_address(candidate, address, sizeof address);
		if (!json_object_get(candidate, "Paths"))
			json_object_update_missing(candidate, json_object_get(known, address));
		if (json_object_get(candidate, "Paths"))
			json_object_set_new(fresh, address,
					    json_pack("{sO sO* sO* sO*}", "Paths", json_object_get(candidate, "Paths"),
						      "Host", json_object_get(candidate, "Host"), "Port",
						      json_object_get(candidate, "Port"), "RunId",
						      json_object_get(candidate, "RunId")));
	}
	json_decref(known);
	known = fresh;
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

/* Whoever runs knows best who he is; of the others their address is known. */
static bool is_same_server(const json_t *row, const json_t *candidate)
{
	if (json_object_get(row, "RunId") && json_object_get(candidate, "RunId"))
		return has_same(row, candidate, "RunId");
	return is_same_address(row, candidate);
}

static json_t *find_row(const struct search *search, const json_t *candidate)
{
	json_t *row;
	size_t i;

	json_array_foreach(search->rows, i, row)
		if (is_same_server(row, candidate))
			return row;
	return NULL;
}

static void add_row(struct search *search, json_t *candidate)
{
	json_t *row = find_row(search, candidate);
	char name[PATH_MAX];

	if (!json_object_get(candidate, "Paths"))
		json_object_set_new(candidate, "Paths", guess_files(candidate));
	json_object_del(candidate, "Settings");
	if (row) { /* by another way */
		json_object_update_missing(row, candidate);
		return;
	}
	if (json_array_size(json_object_get(candidate, "Paths")) == 0 ||
	    !find_name(search, candidate, name, sizeof name))
		return;
	json_object_update_new(candidate, json_pack("{ss ss sb}", "LogicalPath", "redis", "Name", name, "Database", 1));
	json_object_set_new(candidate, "Caption", json_sprintf("Redis at %s", member(candidate, "Socket") ?: name));
	json_array_append(search->rows, candidate);
}

json_t *servers_discover(const json_t *settings, struct err *err)
{
	struct search search = { settings, json_array(), json_array() };
	json_t *path, *candidate;
	size_t i;

	json_array_foreach(bundled_setting(settings, NULL, "Socket"), i, path)
		add_candidate(&search, json_pack("{sO sb}", "Socket", path, "Configured", 1));
	add_configurations(&search);
	if (json_is_true(bundled_setting(settings, NULL, "Processes")))
		add_processes(&search);
	ask_all(&search);
	remember(&search);
	json_array_foreach(search.candidates, i, candidate)
		add_row(&search, candidate);
	json_decref(search.candidates);
	return search.rows;
}
