/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/btrfs/store.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/names.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/subvolume.h"
#include "coordinator/providers/record.h"

#define MARK_SIZE (MARK_HOST_SIZE + ID_SIZE + MARK_VOLUME_SIZE)
#define MARK_TEMPORARY MARK_SEALED ".new"
#define MARKING_LIMIT (2 * USEC_PER_SEC)
#define NO_ID "00000000-0000-0000-0000-000000000000"

static bool copy_field(char *to, size_t size, const char *from, size_t length)
{
	if (length >= size)
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)from[i]) && !strchr("-:._", from[i]))
			return false;
	memcpy(to, from, length);
	to[length] = '\0';
	return true;
}

bool mark_init(struct mark *mark, const char *host, const char *set, const char *volume)
{
	return id_is_valid(set) && copy_field(mark->host, sizeof mark->host, host, strlen(host)) &&
	       copy_field(mark->set, sizeof mark->set, set, strlen(set)) &&
	       copy_field(mark->volume, sizeof mark->volume, volume, strlen(volume));
}

bool mark_parse(struct mark *mark, const char *text)
{
	size_t host = strcspn(text, ",");
	const char *set = text + host;
	size_t set_length = *set ? strcspn(++set, ",") : 0;
	const char *volume = set + set_length;

	if (*volume++ != ',')
		return false;
	return copy_field(mark->host, sizeof mark->host, text, host) &&
	       copy_field(mark->set, sizeof mark->set, set, set_length) && id_is_valid(mark->set) &&
	       copy_field(mark->volume, sizeof mark->volume, volume, strlen(volume));
}

bool mark_read(int place, const char *name, struct mark *ret)
{
	char text[MARK_SIZE];
	ssize_t length = readlinkat(place, name, text, sizeof text - 1);

	if (length < 0)
		return false;
	text[length] = '\0';
	return mark_parse(ret, text);
}

static int mark_write(int place, const struct mark *mark)
{
	char text[MARK_SIZE];

	snprintf(text, sizeof text, "%s,%s,%s", mark->host, mark->set, mark->volume);
	return symlinkat(text, place, MARK_UNFINISHED);
}

static int refuse_store(const char *what, struct err *err)
{
	return err_set(err, VSS_E_PROVIDER_VETO,
		       "/" VSS_STORE_DIR
		       " in the filesystem's top-level subvolume (subvolid=5) %s. Copies are kept only in a "
		       "directory of root with mode 0700: look at what is there, move it away, and try again",
		       what);
}

static int check_store(int top, int store, struct err *err)
{
	struct stat info, parent;

	if (fstat(store, &info) < 0 || fstat(top, &parent) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot look at /" VSS_STORE_DIR);
	if (info.st_uid != 0)
		return refuse_store("belongs to a user", err);
	if ((info.st_mode & 07777) != 0700)
		return refuse_store("can be entered by others than root", err);
	if (info.st_dev != parent.st_dev)
		return refuse_store("is a subvolume", err);
	return 0;
}

int store_open(int top, bool create, int *ret, struct err *err)
{
	if (create && mkdirat(top, VSS_STORE_DIR, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot make the directory /" VSS_STORE_DIR
				 " in the filesystem's top-level subvolume");
	autoclose int store = open_beneath(top, VSS_STORE_DIR, O_RDONLY | O_DIRECTORY);
	if (store < 0 && errno == ENOENT && !create)
		return 0;
	if (store < 0 && (errno == ELOOP || errno == ENOTDIR))
		return refuse_store("is not a directory", err);
	if (store < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot open /" VSS_STORE_DIR " in the filesystem's top-level subvolume");
	if (check_store(top, store, err) < 0)
		return -1;
	*ret = steal_fd(store);
	return 1;
}

static bool place_is_of(int store, const char *copy, const char *volume)
{
	autoclose int place = place_open(store, copy);
	struct mark mark;

	if (place < 0 || (!mark_read(place, MARK_SEALED, &mark) && !mark_read(place, MARK_UNFINISHED, &mark)))
		return false;
	return strcmp(mark.volume, volume) == 0;
}

/* Most stores hold fewer places than one volume may have copies: then nothing need be read but the names. */
unsigned store_count(int store, const char *volume, unsigned limit)
{
	int again = openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = again < 0 ? NULL : fdopendir(again);
	unsigned places = 0, n = 0;

	if (!directory) {
		if (again >= 0)
			close(again);
		return 0;
	}
	for (struct dirent *entry; (entry = readdir(directory));)
		places += id_is_valid(entry->d_name);
	rewinddir(directory);
	if (places < limit)
		n = places;
	else
		for (struct dirent *entry; n < limit && (entry = readdir(directory));)
			n += id_is_valid(entry->d_name) && place_is_of(store, entry->d_name, volume);
	closedir(directory);
	return n;
}

int place_open(int store, const char *copy)
{
	return open_beneath(store, copy, O_RDONLY | O_DIRECTORY);
}

/* A place and its mark are made under a shared lock of the store: whoever finds one without a mark, and has the lock for
 * itself, knows that nobody is about to mark it. */
static int create_and_mark(int store, const char *copy, const struct mark *mark, int *ret, struct err *err)
{
	if (mkdirat(store, copy, 0700) < 0)
		return err_errno(err, errno,
				 errno == EEXIST ? VSS_E_OBJECT_ALREADY_EXISTS : VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot make a place for the copy %s", copy);
	autoclose int place = place_open(store, copy);
	if (place < 0 || mark_write(place, mark) < 0) {
		int saved = errno;
		place_remove(store, copy, mark->host, NULL);
		return err_errno(err, saved, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot mark the place for the copy %s",
				 copy);
	}
	*ret = steal_fd(place);
	return 0;
}

int place_create(int store, const char *copy, const struct mark *mark, int *ret, struct err *err)
{
	if (flock(store, LOCK_SH) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot lock /" VSS_STORE_DIR);
	int r = create_and_mark(store, copy, mark, ret, err);
	flock(store, LOCK_UN);
	return r;
}

bool place_is_being_made(int store, int place, struct mark *ret_mark)
{
	const uint64_t end = clock_now() + MARKING_LIMIT;

	while (flock(store, LOCK_EX | LOCK_NB) < 0) {
		if (clock_now() >= end)
			return true;
		usleep(1000);
	}
	bool marked = mark_read(place, MARK_UNFINISHED, ret_mark);
	flock(store, LOCK_UN);
	return marked;
}

/* Removing must go on where there is no room for a mark: then an interrupted removal shows as a broken copy. */
static int mark_as_removed(int place, const char *host, struct err *err)
{
	struct mark mark;

	if (mark_read(place, MARK_UNFINISHED, &mark))
		return 0;
	if (!mark_read(place, MARK_SEALED, &mark))
		mark_init(&mark, "", NO_ID, "");
	if (!copy_field(mark.host, sizeof mark.host, host, strlen(host)))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "Not the id of a machine: %.100s", host);
	if (unlinkat(place, MARK_UNFINISHED, 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot replace the copy's broken mark");
	if (mark_write(place, &mark) < 0 && errno != ENOSPC && errno != EDQUOT)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot mark the copy as being removed");
	return 0;
}

/* Needs no durability of its own: a record that can be read outweighs the mark. */
void place_mark_sealed(int place)
{
	renameat(place, MARK_UNFINISHED, place, MARK_SEALED);
}

void place_mark_volume(int place, const struct mark *mark, const char *volume)
{
	char text[MARK_SIZE];

	snprintf(text, sizeof text, "%s,%s,%s", mark->host, mark->set, volume);
	unlinkat(place, MARK_TEMPORARY, 0);
	if (symlinkat(text, place, MARK_TEMPORARY) == 0)
		renameat(place, MARK_TEMPORARY, place, MARK_SEALED);
}

static int remove_content(int place, const char **failed)
{
	static const char *const subvolumes[] = { VSS_STORE_COPY, STORE_WORK, STORE_REVERT };
	static const char *const files[] = { VSS_STORE_RECORD, RECORD_TEMPORARY, MARK_SEALED, MARK_TEMPORARY };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		*failed = files[i];
		if (unlinkat(place, files[i], 0) < 0 && errno != ENOENT)
			return -1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(subvolumes); i++) {
		*failed = subvolumes[i];
		if (subvolume_destroy_tree(place, subvolumes[i]) < 0)
			return -1;
	}
	*failed = MARK_UNFINISHED;
	return unlinkat(place, MARK_UNFINISHED, 0) < 0 && errno != ENOENT ? -1 : 0;
}

int place_remove(int store, const char *copy, const char *host, struct err *err)
{
	autoclose int place = place_open(store, copy);
	const char *failed;

	if (place < 0 && errno == ENOENT)
		return 0;
	if (place < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot open /" VSS_STORE_DIR "/%s",
				 copy);
	if (mark_as_removed(place, host, err) < 0)
		return -1;
	if (remove_content(place, &failed) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot remove /" VSS_STORE_DIR "/%s/%s",
				 copy, failed);
	if (unlinkat(store, copy, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == ENOTEMPTY)
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			       "/" VSS_STORE_DIR
			       "/%s in the top-level subvolume holds something that is not vssd's: remove it "
			       "by hand, then delete the copy again",
			       copy);
	return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR, "Cannot remove /" VSS_STORE_DIR "/%s", copy);
}
