/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/state-store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"

#define TEMPORARY ".new"

struct state_store {
	int dir;
};

int state_store_new(struct state_store **ret, const char *runtime_dir, const char *kind, struct err *err)
{
	autoclose int parent = -1;
	struct state_store *store;

	if (mkdir(runtime_dir, 0755) < 0 && errno != EEXIST)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot make the runtime directory %s", runtime_dir);
	parent = open(runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0 || (mkdirat(parent, kind, 0700) < 0 && errno != EEXIST))
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot make %s/%s", runtime_dir, kind);
	store = malloc(sizeof *store);
	if (!store)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the state on %s", runtime_dir);
	store->dir = openat(parent, kind, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (store->dir < 0) {
		free(store);
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot open %s/%s", runtime_dir, kind);
	}
	*ret = store;
	return 0;
}

struct state_store *state_store_free(struct state_store *store)
{
	if (store)
		close(store->dir);
	free(store);
	return NULL;
}

static int write_whole(int fd, const char *text)
{
	ssize_t length = (ssize_t)strlen(text), n = write(fd, text, (size_t)length);

	if (n >= 0 && n < length)
		errno = ENOSPC;
	return n == length ? 0 : -1;
}

/* One write: json_dumpfd would make one for every brace and quote. */
int state_store_put(struct state_store *store, const char *name, json_t *value, struct err *err)
{
	autofree char *text = NULL;
	autoclose int fd = -1;

	if (!store)
		return 0;
	text = json_dumps(value, JSON_COMPACT);
	if (!text)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for the state of %s", name);
	fd = openat(store->dir, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write_whole(fd, text) < 0 || renameat(store->dir, TEMPORARY, store->dir, name) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "Cannot keep the state of %s", name);
	return 0;
}

void state_store_remove(struct state_store *store, const char *name)
{
	if (store)
		unlinkat(store->dir, name, 0);
}

json_t *state_store_all(struct state_store *store)
{
	json_t *all = json_object();
	int dup_fd = store ? openat(store->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	DIR *dir = dup_fd >= 0 ? fdopendir(dup_fd) : NULL;

	if (!dir) {
		if (dup_fd >= 0)
			close(dup_fd);
		return all;
	}
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (entry->d_name[0] == '.')
			continue;
		autoclose int fd = openat(store->dir, entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		json_t *value = fd >= 0 ? json_loadfd(fd, 0, NULL) : NULL;
		if (value)
			json_object_set_new(all, entry->d_name, value);
		else
			state_store_remove(store, entry->d_name);
	}
	closedir(dir);
	return all;
}
