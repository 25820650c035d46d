/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/manifest.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/event.h"
#include "common/ini.h"
#include "common/names.h"

#define FILES_MAX 4096u
#define NAME_CHARACTERS_MAX 80
#define PATH_LENGTH_MAX 4096
#define UNIT_LENGTH_MAX 255

/* The file of that name which counts: the one in the last directory that has it. */
struct file {
	char *name;
	const char *directory;
};

struct files {
	struct file *items;
	size_t n;
};

struct reader {
	struct manifests *manifests;
	manifest_error_fn on_error;
	void *data;
};

/* ---- one entry ---- */

static int set_text(char **place, const char *key, const char *value, struct err *err)
{
	if (*place)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "%s= is given twice", key);
	if (!*value)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "%s= is empty: leave the line out or give a value", key);
	*place = strdup(value);
	return *place ? 0 : err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a manifest");
}

static int set_id(struct manifest *m, const char *value, struct err *err)
{
	if (*m->id)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "Id= is given twice");
	if (!id_parse(value, m->id))
		return err_set(err, VSS_E_INVALID_DOCUMENT, "Id=%s is not a UUID (make one with uuidgen)", value);
	return 0;
}

static size_t count_characters(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xC0) != 0x80;
	return n;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7F)
			return false;
	return true;
}

static int set_name(struct manifest *m, const char *value, struct err *err)
{
	if (!is_printable(value) || count_characters(value) > NAME_CHARACTERS_MAX)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "Name= takes 1 to %d printable characters",
			       NAME_CHARACTERS_MAX);
	return set_text(&m->name, "Name", value, err);
}

static int set_level(struct manifest *m, const char *value, struct err *err)
{
	if (m->level >= 0)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "Level= is given twice");
	m->level = writer_level_from_name(value);
	if (m->level < 0)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "Level=%s is not one of front-end, back-end, system", value);
	return 0;
}

static bool is_made_of(const char *text, const char *others)
{
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr(others, *text))
			return false;
	return true;
}

static int set_unit(struct manifest *m, const char *value, struct err *err)
{
	if (strlen(value) > UNIT_LENGTH_MAX || !strchr(value, '.') || !is_made_of(value, ":-_.\\@"))
		return err_set(err, VSS_E_INVALID_DOCUMENT, "Unit=%s is not the name of a unit (example.service)", value);
	return set_text(&m->unit, "Unit", value, err);
}

/* As the D-Bus specification has it: at least two elements, none empty, none begins with a digit. */
static bool is_bus_name(const char *name)
{
	bool at_start = true, has_dot = false;

	if (strlen(name) > 255)
		return false;
	for (const char *c = name; *c; c++) {
		if (*c == '.' ? at_start : at_start && isdigit((unsigned char)*c))
			return false;
		at_start = *c == '.';
		has_dot = has_dot || at_start;
	}
	return has_dot && !at_start && is_made_of(name, "._-");
}

static int set_bus_name(struct manifest *m, const char *value, struct err *err)
{
	if (!is_bus_name(value))
		return err_set(err, VSS_E_INVALID_DOCUMENT, "BusName=%s is not a well-known bus name (org.example.Writer)",
			       value);
	return set_text(&m->bus_name, "BusName", value, err);
}

static int add_path(struct manifest *m, const char *start, size_t length, struct err *err)
{
	while (length > 0 && isspace((unsigned char)*start)) {
		start++;
		length--;
	}
	while (length > 0 && isspace((unsigned char)start[length - 1]))
		length--;
	if (length == 0)
		return 0;
	if (*start != '/' || length > PATH_LENGTH_MAX)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "Paths=%.*s is not an absolute path of at most %d bytes",
			       (int)(length > 200 ? 200 : length), start, PATH_LENGTH_MAX);
	if (m->n_paths == MANIFEST_PATHS_MAX)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "Paths= names more than %d paths", MANIFEST_PATHS_MAX);
	m->paths[m->n_paths] = strndup(start, length);
	if (!m->paths[m->n_paths])
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a manifest");
	m->n_paths++;
	return 0;
}

/* May be given several times, so that long lists stay legible. */
static int add_paths(struct manifest *m, const char *value, struct err *err)
{
	while (*value) {
		size_t n = strcspn(value, ";");
		if (add_path(m, value, n, err) < 0)
			return -1;
		value += n + (value[n] == ';');
	}
	return 0;
}

static int set_entry(const char *section, const char *key, const char *value, void *data, struct err *err)
{
	struct manifest *m = data;

	if (strcmp(section, "Writer") != 0)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "there is no section [%s]; a manifest has [Writer] alone", section);
	if (strcmp(key, "Id") == 0)
		return set_id(m, value, err);
	if (strcmp(key, "Name") == 0)
		return set_name(m, value, err);
	if (strcmp(key, "Level") == 0)
		return set_level(m, value, err);
	if (strcmp(key, "User") == 0)
		return set_text(&m->user, key, value, err);
	if (strcmp(key, "Unit") == 0)
		return set_unit(m, value, err);
	if (strcmp(key, "BusName") == 0)
		return set_bus_name(m, value, err);
	if (strcmp(key, "Paths") == 0)
		return add_paths(m, value, err);
	return err_set(err, VSS_E_INVALID_DOCUMENT, "[Writer] has no key \"%s\" (see vssd.writer(5))", key);
}

/* ---- one file ---- */

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

/* A user who is not there yet is no error: the application's package may make him later. */
static uid_t find_user(const char *name)
{
	struct passwd entry, *found = NULL;
	char space[16384];

	if (getpwnam_r(name, &entry, space, sizeof space, &found) != 0 || !found)
		return (uid_t)-1;
	return found->pw_uid;
}

static int complete(struct manifest *m, struct err *err)
{
	if (!*m->id)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "%s: Id= is missing", m->file);
	if (!m->name)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "%s: Name= is missing", m->file);
	if (!m->user && !(m->user = strdup("root")))
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for %s", m->file);
	m->uid = find_user(m->user);
	return 0;
}

/* Who may write a manifest decides who may register as that writer. */
static int check_file(const char *path, const struct stat *status, struct err *err)
{
	if (!S_ISREG(status->st_mode))
		return err_set(err, VSS_E_INVALID_DOCUMENT, "%s is not a regular file", path);
	if (status->st_uid != 0 && status->st_uid != geteuid())
		return err_set(err, VSS_E_ACCESS_DENIED, "%s belongs to user %u; manifests must belong to root", path,
			       status->st_uid);
	if (status->st_mode & 022)
		return err_set(err, VSS_E_ACCESS_DENIED,
			       "%s is writable by others than its owner (mode %04o); use chmod go-w", path,
			       status->st_mode & 07777u);
	return 0;
}

/* 1: read; 0: the file masks (empty, or /dev/null); -1: err. O_NONBLOCK: a fifo there must not hang us. */
static int read_manifest(struct manifest *m, const char *path, struct err *err)
{
	struct stat status;
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &status) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "The manifest %s cannot be opened", path);
	if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3))
		return 0;
	if (check_file(path, &status, err) < 0)
		return -1;
	if (status.st_size == 0)
		return 0;
	*m = (struct manifest){ .level = -1, .file = strdup(path) };
	if (!m->file)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for %s", path);
	if (ini_read(fd, path, set_entry, m, err) == 0 && complete(m, err) == 0)
		return 1;
	manifest_done(m);
	return -1;
}

static int add_manifest(struct manifests *manifests, struct manifest *m, struct err *err)
{
	const struct manifest *same = manifests_find(manifests, m->id);
	struct manifest *grown;

	if (same)
		return err_set(err, VSS_E_OBJECT_ALREADY_EXISTS, "%s: Id=%s is taken by %s already", m->file, m->id,
			       same->file);
	grown = realloc(manifests->items, (manifests->n + 1) * sizeof *grown);
	if (!grown)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for %s", m->file);
	manifests->items = grown;
	grown[manifests->n++] = *m;
	return 0;
}

static void read_file(struct reader *reader, const struct file *file)
{
	autofree char *path = NULL;
	struct manifest m;
	struct err err = { 0 };
	int r;

	if (asprintf(&path, "%s/%s", file->directory, file->name) < 0) {
		path = NULL;
		return;
	}
	r = read_manifest(&m, path, &err);
	if (r > 0 && add_manifest(reader->manifests, &m, &err) < 0) {
		manifest_done(&m);
		r = -1;
	}
	if (r < 0 && reader->on_error)
		reader->on_error(&err, reader->data);
}

/* ---- directories ---- */

static bool is_manifest_name(const char *name)
{
	size_t n = strlen(name), suffix = strlen(VSS_SYSTEM_MANIFEST_SUFFIX);

	return *name != '.' && n > suffix && strcmp(name + n - suffix, VSS_SYSTEM_MANIFEST_SUFFIX) == 0;
}

static int add_file(struct files *files, const char *directory, const char *name, struct err *err)
{
	struct file *grown;

	for (size_t i = 0; i < files->n; i++) {
		if (strcmp(files->items[i].name, name) == 0) {
			files->items[i].directory = directory;
			return 0;
		}
	}
	if (files->n == FILES_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "There are more than %u manifests in %s", FILES_MAX, directory);
	grown = realloc(files->items, (files->n + 1) * sizeof *grown);
	if (grown)
		files->items = grown;
	if (!grown || !(grown[files->n].name = strdup(name)))
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the manifests of %s", directory);
	files->items[files->n++].directory = directory;
	return 0;
}

static int list_directory(struct files *files, const char *directory, struct err *err)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	int r = 0;

	if (!dir && errno == ENOENT)
		return 0;
	if (!dir)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "The manifests in %s cannot be listed", directory);
	while (r == 0 && (entry = readdir(dir)))
		if (is_manifest_name(entry->d_name))
			r = add_file(files, directory, entry->d_name, err);
	closedir(dir);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static void files_done(struct files *files)
{
	for (size_t i = 0; i < files->n; i++)
		free(files->items[i].name);
	free(files->items);
}

int manifests_read(struct manifests *manifests, const char *const *directories, manifest_error_fn on_error, void *data,
		   struct err *err)
{
	struct reader reader = { manifests, on_error, data };
	struct files files = { 0 };
	int r = 0;

	*manifests = (struct manifests){ 0 };
	for (; r == 0 && *directories; directories++)
		r = list_directory(&files, *directories, err);
	if (r == 0 && files.n > 0) {
		qsort(files.items, files.n, sizeof *files.items, by_name);
		for (size_t i = 0; i < files.n; i++)
			read_file(&reader, &files.items[i]);
	}
	files_done(&files);
	return r;
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
