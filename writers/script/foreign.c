/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/foreign.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "writers/script/azure-plugin.h"
#include "writers/script/trust.h"

typedef bool (*counts_fn)(int directory, const char *name);

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

bool foreign_is_qemu_hook(const char *name)
{
	static const char *const leftovers[] = { "~",	       ".bak",	    ".orig",	    ".rpmnew",	   ".rpmorig",
						 ".rpmsave",   ".sample",   ".dpkg-old",    ".dpkg-new",   ".dpkg-tmp",
						 ".dpkg-dist", ".dpkg-bak", ".dpkg-backup", ".dpkg-remove" };

	for (size_t i = 0; i < ARRAY_SIZE(leftovers); i++)
		if (ends_with(name, leftovers[i]))
			return false;
	return *name != '.'; /* the dispatcher's "*" does not match those */
}

static bool is_file(int directory, const char *name, struct stat *st)
{
	return fstatat(directory, name, st, 0) == 0 && S_ISREG(st->st_mode);
}

static bool counts_for_qemu(int directory, const char *name)
{
	struct stat st;

	return foreign_is_qemu_hook(name) && is_file(directory, name, &st) &&
	       (st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH));
}

/* Every regular file, whatever its name; one that cannot be executed is an error, as it is there. */
static bool counts_for_vmware(int directory, const char *name)
{
	struct stat st;

	return is_file(directory, name, &st);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_file(struct commands *commands, const char *directory, const char *name, const char *argument,
		    struct err *err)
{
	char path[PATH_MAX];
	char *argv[] = { path, NULL };

	if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "%s/%s: the path is too long", directory, name);
	return commands_add(commands, argv, argument, err);
}

static int add_directory(struct commands *commands, const char *path, counts_fn counts, const char *argument,
			 struct err *err)
{
	autofree char *real = NULL;
	struct dirent **entries;
	int done = 0;
	autoclose int fd = trust_open(path, S_IFDIR, &real, err);

	if (fd < 0)
		return -1;
	int n = scandir(real, &entries, NULL, by_bytes);
	if (n < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "%s cannot be read", real);
	for (int i = 0; i < n; i++) {
		if (done == 0 && counts(fd, entries[i]->d_name))
			done = add_file(commands, real, entries[i]->d_name, argument, err);
		free(entries[i]);
	}
	free(entries);
	return done;
}

/* Ascending for both, as the dispatcher does it. Without a word for it, abort is thaw (task.h). */
static int find_qemu(struct commands *commands, const struct config *config, enum vss_event event, struct err *err)
{
	if (event != VSS_EVENT_FREEZE && event != VSS_EVENT_THAW)
		return 0;
	return add_directory(commands, config->directory, counts_for_qemu, event_hook_name(event), err);
}

static int find_vmware(struct commands *commands, const struct config *config, enum vss_event event, struct err *err)
{
	const char *argument = event == VSS_EVENT_ABORT ? "freezeFail" : event_hook_name(event);

	if (event != VSS_EVENT_FREEZE && event != VSS_EVENT_THAW && event != VSS_EVENT_ABORT)
		return 0;
	if (add_directory(commands, config->directory, counts_for_vmware, argument, err) < 0)
		return -1;
	if (event != VSS_EVENT_FREEZE)
		commands_reverse(commands);
	return 0;
}

int foreign_find(struct commands *commands, const struct config *config, enum vss_event event, struct err *err)
{
	switch (config->format) {
	case FORMAT_QEMU_HOOKS:
		return find_qemu(commands, config, event, err);
	case FORMAT_VMWARE_SCRIPTS:
		return find_vmware(commands, config, event, err);
	case FORMAT_AZURE_PLUGIN:
		return azure_plugin_find(commands, config->plugin, event, err);
	case FORMAT_NATIVE:
		break;
	}
	return 0;
}
