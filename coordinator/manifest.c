/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/event.h"
#include "common/names.h"
#include "common/ini.h"

#define MANIFESTS_MAX 1024

static void manifest_done(struct manifest *m)
{
	free(m->file);
	free(m->name);
	free(m->user);
	free(m->unit);
	free(m->bus_name);
	for (size_t i = 0; i < m->n_paths; i++)
		free(m->paths[i]);
	*m = (struct manifest){ 0 };
}

void manifests_done(struct manifests *manifests)
{
	for (size_t i = 0; i < manifests->n; i++)
		manifest_done(&manifests->items[i]);
	free(manifests->items);
	*manifests = (struct manifests){ 0 };
}

const struct manifest *manifests_find(const struct manifests *manifests, const char *id)
{
	for (size_t i = 0; i < manifests->n; i++)
		if (strcmp(manifests->items[i].id, id) == 0)
			return &manifests->items[i];
	return NULL;
}

/* ---- one file ---- */

static int set_text(char **slot, const char *value, struct err *err)
{
	char *copy = strdup(value);

	if (!copy)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "out of memory");
	free(*slot);
	*slot = copy;
	return 0;
}

static int set_paths(struct manifest *m, const char *value, struct err *err)
{
	autofree char *list = strdup(value);
	char *rest = NULL;

	for (char *path = strtok_r(list, ";", &rest); path; path = strtok_r(NULL, ";", &rest)) {
		if (path[0] != '/' || strlen(path) >= 4096)
			return err_set(err, VSS_E_INVALID_ARGUMENT, "Paths: '%.200s' is not an absolute path", path);
		if (m->n_paths == MANIFEST_PATHS_MAX)
			return err_set(err, VSS_E_LIMITS_EXCEEDED, "Paths: at most %d are possible", MANIFEST_PATHS_MAX);
		if (set_text(&m->paths[m->n_paths], path, err) < 0)
			return -1;
		m->n_paths++;
	}
	return 0;
}

static int set_level(struct manifest *m, const char *value, struct err *err)
{
	m->level = writer_level_from_name(value);
	return m->level >= 0 ? 0 :
			       err_set(err, VSS_E_INVALID_ARGUMENT,
				       "Level: '%.64s' is not front-end, back-end or system", value);
}

static int set_id(struct manifest *m, const char *value, struct err *err)
{
	return id_parse(value, m->id) ? 0 : err_set(err, VSS_E_INVALID_ARGUMENT, "Id: '%.64s' is not a UUID", value);
}

/* The text becomes part of a terminal's line and of the bus. */
static int set_name(struct manifest *m, const char *value, struct err *err)
{
	size_t n = strlen(value);

	if (n == 0 || n > 80)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Name: has to have 1 to 80 characters");
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7F)
			return err_set(err, VSS_E_INVALID_ARGUMENT, "Name: control characters are not allowed");
	return set_text(&m->name, value, err);
}

static int entry(const char *section, const char *key, const char *value, void *data, struct err *err)
{
	struct manifest *m = data;

	if (strcmp(section, "Writer") != 0)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "there is no section [%.64s]; a manifest has [Writer]", section);
	if (strcmp(key, "Id") == 0)
		return set_id(m, value, err);
	if (strcmp(key, "Name") == 0)
		return set_name(m, value, err);
	if (strcmp(key, "Level") == 0)
		return set_level(m, value, err);
	if (strcmp(key, "User") == 0)
		return set_text(&m->user, value, err);
	if (strcmp(key, "Unit") == 0)
		return set_text(&m->unit, value, err);
	if (strcmp(key, "BusName") == 0)
		return set_text(&m->bus_name, value, err);
	if (strcmp(key, "Paths") == 0)
		return set_paths(m, value, err);
	return err_set(err, VSS_E_INVALID_ARGUMENT,
		       "there is no key %.64s; [Writer] has Id, Name, Level, User, Unit, BusName, Paths", key);
}

static int check_owner(int fd, const char *file, bool *ret_masked, struct err *err)
{
	struct stat info;

	if (fstat(fd, &info) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot read %s", file);
	*ret_masked = S_ISCHR(info.st_mode) || (S_ISREG(info.st_mode) && info.st_size == 0);
	if (*ret_masked)
		return 0;
	if (!S_ISREG(info.st_mode))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s is no regular file", file);
	if ((info.st_uid != 0 && info.st_uid != geteuid()) || (info.st_mode & 0022))
		return err_set(err, VSS_E_ACCESS_DENIED,
			       "%s was refused: a manifest has to belong to root and be writable by its owner alone", file);
	return 0;
}

static void find_user(struct manifest *m)
{
	struct passwd *user = m->user ? getpwnam(m->user) : NULL;

	m->uid = !m->user ? 0 : user ? user->pw_uid : (uid_t)-1;
}

/* 1: read; 0: masks what has its name; -1: err */
static int read_manifest(struct manifest *m, const char *file, struct err *err)
{
	bool masked = false;

	*m = (struct manifest){ .level = -1 };
	autoclose int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot read %s", file);
	if (check_owner(fd, file, &masked, err) < 0)
		return -1;
	if (masked)
		return 0;
	if (set_text(&m->file, file, err) < 0 || ini_read(fd, file, entry, m, err) < 0)
		return -1;
	if (!*m->id || !m->name)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s: Id and Name are required", file);
	find_user(m);
	return 1;
}

/* ---- the directories ---- */

/* File names of all directories, each once, with the directory that wins. */
struct found {
	char *name;
	const char *directory;
};

struct found_list {
	struct found items[MANIFESTS_MAX];
	size_t n;
};

static bool has_suffix(const char *name)
{
	size_t n = strlen(name), suffix = strlen(VSS_SYSTEM_MANIFEST_SUFFIX);

	return n > suffix && name[0] != '.' && strcmp(name + n - suffix, VSS_SYSTEM_MANIFEST_SUFFIX) == 0;
}

static int add_found(struct found_list *list, const char *name, const char *directory, struct err *err)
{
	for (size_t i = 0; i < list->n; i++) {
		if (strcmp(list->items[i].name, name) != 0)
			continue;
		list->items[i].directory = directory;
		return 0;
	}
	if (list->n == MANIFESTS_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "There are more than %d manifests", MANIFESTS_MAX);
	list->items[list->n] = (struct found){ strdup(name), directory };
	return list->items[list->n++].name ? 0 : err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the manifests");
}

static int scan(struct found_list *list, const char *directory, struct err *err)
{
	DIR *dir = opendir(directory);
	int r = 0;

	if (!dir)
		return errno == ENOENT ? 0 : err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot read %s", directory);
	for (struct dirent *e; r == 0 && (e = readdir(dir));)
		if (has_suffix(e->d_name))
			r = add_found(list, e->d_name, directory, err);
	closedir(dir);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static void read_found(struct manifests *manifests, const struct found *found, manifest_error_fn on_error, void *data)
{
	autofree char *file = NULL;
	struct manifest m;
	const struct manifest *same;
	struct err err = { 0 };
	int r;

	if (asprintf(&file, "%s/%s", found->directory, found->name) < 0) {
		file = NULL;
		return;
	}
	r = read_manifest(&m, file, &err);
	same = r > 0 ? manifests_find(manifests, m.id) : NULL;
	if (same) {
		r = err_set(&err, VSS_E_OBJECT_ALREADY_EXISTS, "%s was refused: %s has the same Id", file, same->file);
	} else if (r > 0) {
		manifests->items[manifests->n++] = m;
		return;
	}
	if (r < 0)
		on_error(&err, data);
	manifest_done(&m);
}

int manifests_read(struct manifests *manifests, const char *const *directories, manifest_error_fn on_error, void *data,
		   struct err *err)
{
	struct found_list *list = calloc(1, sizeof *list);
	int r = list ? 0 : err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the manifests");

	*manifests = (struct manifests){ 0 };
	for (; r == 0 && *directories; directories++)
		r = scan(list, *directories, err);
	if (r == 0) {
		qsort(list->items, list->n, sizeof *list->items, by_name);
		manifests->items = calloc(list->n ? list->n : 1, sizeof *manifests->items);
	}
	for (size_t i = 0; manifests->items && i < list->n; i++)
		read_found(manifests, &list->items[i], on_error, data);
	for (size_t i = 0; list && i < list->n; i++)
		free(list->items[i].name);
	free(list);
	return r;
}
