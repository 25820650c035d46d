/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/commands.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "writers/script/foreign.h"
#include "writers/script/strv.h"
#include "writers/script/trust.h"

bool commands_name_counts(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	return *name && strspn(name, allowed) == strlen(name);
}

int commands_add(struct commands *commands, char *const *argv, const char *event, struct err *err)
{
	struct command *command = &commands->items[commands->n];
	struct stat st;

	if (commands->n == COMMANDS_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "there are more than %d executables for %s", COMMANDS_MAX,
			       event);
	autoclose int fd = trust_open(argv[0], S_IFREG, &command->path, err);
	if (fd < 0)
		return -1;
	commands->n++; /* commands_done frees it from here on */
	if (fstat(fd, &st) < 0 || !(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
		return err_set(err, VSS_E_ACCESS_DENIED, "%s is not executable", argv[0]);
	for (size_t i = 0; argv[i]; i++)
		if (strv_add(&command->argv, argv[i]) < 0)
			return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	if (event && strv_add(&command->argv, event) < 0)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	return 0;
}

static int add_file(struct commands *commands, const char *directory, const char *name, const char *event,
		    struct err *err)
{
	char path[PATH_MAX];
	char *argv[] = { path, NULL };

	if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s/%s: the path is too long", directory, name);
	return commands_add(commands, argv, event, err);
}

/* As run-parts does it: what is not executable, or has another kind of name, is passed over. */
static int is_hook(const struct dirent *entry)
{
	return commands_name_counts(entry->d_name);
}

static int add_directory(struct commands *commands, const char *path, const char *event, struct err *err)
{
	char *real = NULL;
	struct dirent **entries;
	int done = 0;
	autoclose int fd = trust_open(path, S_IFDIR, &real, err);

	if (fd < 0)
		return -1;
	int n = scandir(real, &entries, is_hook, alphasort);
	if (n < 0)
		done = err_errno(err, errno, VSS_E_UNEXPECTED, "%s cannot be read", real);
	for (int i = 0; i < n; i++) {
		struct stat st;
		bool runs = fstatat(fd, entries[i]->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) &&
			    (st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH));
		if (done == 0 && runs)
			done = add_file(commands, real, entries[i]->d_name, event, err);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	free(real);
	return done;
}

void commands_reverse(struct commands *commands)
{
	for (size_t i = 0; i < commands->n / 2; i++) {
		struct command other = commands->items[commands->n - 1 - i];
		commands->items[commands->n - 1 - i] = commands->items[i];
		commands->items[i] = other;
	}
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 || errno != ENOENT;
}

static int find_in_hooks(struct commands *commands, const char *hooks, const char *event, struct err *err)
{
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof path, "%s/%s.d", hooks, event) >= sizeof path)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s: the path is too long", hooks);
	if (exists(path) && add_directory(commands, path, event, err) < 0)
		return -1;
	path[strlen(path) - 2] = '\0';
	if (!exists(path))
		return 0;
	if (add_file(commands, hooks, event, event, err) < 0)
		return -1;
	/* The event's own file goes before those of the directory. */
	struct command own = commands->items[commands->n - 1];
	memmove(commands->items + 1, commands->items, (commands->n - 1) * sizeof own);
	commands->items[0] = own;
	return 0;
}

int commands_find(struct commands *commands, const struct config *config, enum vss_event event, struct err *err)
{
	const char *name = event_hook_name(event);
	int done = 0;

	*commands = (struct commands){ 0 };
	if (config->format != FORMAT_NATIVE)
		done = foreign_find(commands, config, event, err);
	else if (config->commands[event])
		done = commands_add(commands, config->commands[event], name, err);
	else if (config->hooks)
		done = find_in_hooks(commands, config->hooks, name, err);
	if (done < 0)
		commands_done(commands);
	else if (config->format == FORMAT_NATIVE && (event == VSS_EVENT_THAW || event == VSS_EVENT_ABORT))
		commands_reverse(commands);
	return done;
}

int commands_find_one(struct commands *commands, char *const *argv, struct err *err)
{
	*commands = (struct commands){ 0 };
	if (commands_add(commands, argv, NULL, err) == 0)
		return 0;
	commands_done(commands);
	return -1;
}

void commands_keep(struct commands *commands, char *const *paths)
{
	size_t kept = 0;

	for (size_t i = 0; i < commands->n; i++) {
		struct command command = commands->items[i];
		if (strv_has(paths, command.path)) {
			commands->items[kept++] = command;
			continue;
		}
		free(command.path);
		strv_free(command.argv);
	}
	commands->n = kept;
}

void commands_done(struct commands *commands)
{
	for (size_t i = 0; i < commands->n; i++) {
		free(commands->items[i].path);
		strv_free(commands->items[i].argv);
	}
	*commands = (struct commands){ 0 };
}
