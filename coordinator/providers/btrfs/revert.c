/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* check-revert, revert: a writable snapshot of the copy takes the volume's place in its directory, in one rename; the
 * copy stays. That is another subvolume with another number: whoever has the old one mounted, or a file of it open,
 * would go on writing to what is about to be deleted. Those are refused, and the copies are told the new number. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "coordinator/providers/beneath.h"
#include "coordinator/providers/btrfs/copy.h"
#include "coordinator/providers/btrfs/filesystem.h"
#include "coordinator/providers/btrfs/ops.h"
#include "coordinator/providers/btrfs/store.h"
#include "coordinator/providers/namespaces.h"
#include "coordinator/providers/record.h"
#include "coordinator/providers/request.h"
#include "coordinator/providers/subvolumes.h"
#include "coordinator/providers/users.h"

#define PLACES_MAX 100000u

struct target {
	const char *copy, *filesystem;
	const char *id, *path; /* of the volume: its id; where people see it */
	const char *subvolume; /* below the top level */
	uint64_t number;
	char parent[PATH_MAX]; /* of the subvolume, below the top level */
	const char *name;      /* in it */
	int directory, root;   /* open: the parent, the subvolume */
	int snapshot;	       /* open: the copy */
	int top;
};

static void target_done(struct target *t)
{
	cleanup_close(&t->directory);
	cleanup_close(&t->root);
	cleanup_close(&t->snapshot);
	cleanup_close(&t->top);
}

/* ---- what cannot be reverted ---- */

struct search {
	char root[2 * PATH_MAX]; /* " MAJOR:MINOR /subvolume", as mountinfo writes it */
	char where[PATH_MAX + 64];
};

/* mountinfo writes what would end a word in octal. */
static void escape(char *to, size_t size, const char *from)
{
	size_t used = 0;

	for (; *from && used + 5 < size; from++)
		if (strchr(" \t\n\\", *from))
			used += (size_t)snprintf(to + used, size - used, "\\%03o", (unsigned char)*from);
		else
			to[used++] = *from;
	to[used] = '\0';
}

static bool search_namespace(pid_t pid, const char *mountinfo, void *data)
{
	struct search *search = data;
	size_t length = strlen(search->root);

	for (const char *hit = mountinfo; (hit = strstr(hit, search->root)); hit += length) {
		if (hit[length] != ' ' && hit[length] != '/')
			continue;
		const char *target = hit + length + strcspn(hit + length, " ");
		snprintf(search->where, sizeof search->where, "%.*s of process %d", (int)strcspn(target + 1, " "),
			 target + 1, (int)pid);
		return false;
	}
	return true;
}

/* The volume or a part of it, in any namespace. The device is the filesystem's, as mountinfo tells it. */
static bool is_mounted(const struct target *t, const char *mount_point, struct search *search)
{
	cleanup(mounts_done) struct mounts mounts = { 0 };
	char root[PATH_MAX + 1], escaped[PATH_MAX + 1];

	snprintf(root, sizeof root, "/%s", t->subvolume);
	if (mounts_load(&mounts, NULL) < 0)
		return false;
	const struct mount *ours = mounts_find(&mounts, mount_point);
	for (size_t i = 0; i < mounts.n; i++) {
		const struct mount *mount = &mounts.list[i];
		if (!ours || mount->device != ours->device || !path_below(mount->root, root))
			continue;
		snprintf(search->where, sizeof search->where, "%s", mount->target);
		return true;
	}
	if (!ours)
		return false;
	escape(escaped, sizeof escaped, root);
	snprintf(search->root, sizeof search->root, " %u:%u %s", major(ours->device), minor(ours->device), escaped);
	namespaces_for_each(search_namespace, search);
	return *search->where != '\0';
}

static void note_nested(const char *path, uint64_t id, void *data)
{
	char *first = data;

	if (!*first)
		snprintf(first, PATH_MAX, "%s", path);
}

static int check_nested(const struct target *t, struct err *err)
{
	char first[PATH_MAX] = "";

	if (subvolume_for_each_nested(t->root, note_nested, first, err) < 0)
		return -1;
	if (*first)
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
			       "%.400s holds another subvolume, %.400s, which is not in the copy and would be lost. "
			       "Move it away, or "
			       "expose the copy and put the files back",
			       t->path, first);
	return 0;
}

static int check(const struct target *t, const char *mount_point, struct err *err)
{
	struct search search = { 0 };

	if (is_mounted(t, mount_point, &search))
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "The btrfs subvolume %.300s is mounted at %.300s: what is mounted cannot be replaced. "
			       "Unmount it, mount the "
			       "directory above it (subvolid=5, say) where it was, and try again; or expose the copy "
			       "and put the files "
			       "back",
			       t->subvolume, search.where);
	if (filesystem_is_read_only(t->top))
		return err_set(err, VSS_E_PROVIDER_VETO,
			       "The filesystem of %.500s is mounted read-only: remount it read-write", t->path);
	return check_nested(t, err);
}

/* ---- finding the volume ---- */

static int split(struct target *t, struct err *err)
{
	char *slash;

	if (!*t->subvolume)
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED,
			       "%.500s is the top-level subvolume of its filesystem, which cannot be replaced. Expose "
			       "the copy and put "
			       "the files back",
			       t->path);
	snprintf(t->parent, sizeof t->parent, "./%.*s", PATH_MAX - 3, t->subvolume);
	slash = strrchr(t->parent, '/');
	*slash = '\0';
	t->name = slash + 1;
	return 0;
}

static int open_volume(struct target *t, struct err *err)
{
	struct subvolume found;

	t->top = filesystem_open(t->filesystem, err);
	if (t->top < 0)
		return -1;
	t->directory = open_beneath(t->top, t->parent, O_RDONLY | O_DIRECTORY);
	t->root = t->directory < 0 ? -1 : open_beneath(t->directory, t->name, O_RDONLY | O_DIRECTORY);
	if (t->root < 0 || subvolume_get(t->root, &found, err) < 0 || !subvolume_is_root(t->root) ||
	    found.id != t->number)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "%.500s was moved or replaced meanwhile", t->path);
	return 0;
}

static int target_init(struct target *t, json_t *request, struct err *err)
{
	json_t *volume = request_object(request, "Volume", err);

	*t = (struct target){ .directory = -1, .root = -1, .snapshot = -1, .top = -1 };
	t->copy = volume ? request_id(request, "Copy", err) : NULL;
	t->filesystem = t->copy ? request_id(request, "Filesystem", err) : NULL;
	t->id = t->filesystem ? request_string(volume, "Id", err) : NULL;
	t->path = t->id ? request_string(volume, "Path", err) : NULL;
	t->subvolume = t->path ? request_string(volume, "Subvolume", err) : NULL;
	t->number = (uint64_t)json_integer_value(json_object_get(volume, "SubvolumeId"));
	if (!t->subvolume || split(t, err) < 0 || open_volume(t, err) < 0)
		return -1;
	t->snapshot = copy_open(t->filesystem, t->copy, err);
	if (t->snapshot < 0)
		return -1;
	return check(t, request_string(volume, "MountPoint", err) ?: "", err);
}

int btrfs_check_revert(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		       struct err *err)
{
	cleanup(target_done) struct target t;

	json_object_set_new(answer, "Kept", json_true());
	return target_init(&t, request, err);
}

/* ---- reverting ---- */

static int check_users(const struct target *t, struct err *err)
{
	char users[512] = "";

	users_of_path(t->path, users, sizeof users);
	if (*users)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "%.500s is in use by %s: what they write would be lost. End them first", t->path, users);
	return 0;
}

/* Copies name their volume by its number. One that cannot be told is still there, as a copy of what is gone. */
static void tell_copy(int store, const char *copy, const char *from, const char *to)
{
	autoclose int place = place_open(store, copy);
	autojson json_t *record = NULL;
	struct err ignored = { 0 };
	struct mark mark;

	if (place < 0 || !mark_read(place, MARK_SEALED, &mark) || strcmp(mark.volume, from) != 0 ||
	    record_read(place, copy, &record, &ignored) != RECORD_VALID)
		return;
	json_object_set_new(json_object_get(record, "Volume"), "Id", json_string(to));
	if (record_replace(place, copy, record, &ignored) == 0)
		place_mark_volume(place, &mark, to);
}

static void tell_copies(int store, const char *from, const char *to)
{
	int again = openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = again < 0 ? NULL : fdopendir(again);
	unsigned n = 0;

	if (!directory) {
		cleanup_close(&again);
		return;
	}
	for (struct dirent *entry; n < PLACES_MAX && (entry = readdir(directory));)
		if (id_is_valid(entry->d_name) && ++n)
			tell_copy(store, entry->d_name, from, to);
	closedir(directory);
}

static int swap(const struct target *t, int place)
{
	return renameat2(place, STORE_REVERT, t->directory, t->name, RENAME_EXCHANGE);
}

/* Whoever may write to the parent may have put something else there a moment before. */
static bool is_what_was_meant(const struct target *t, int place)
{
	autoclose int taken = open_beneath(place, STORE_REVERT, O_RDONLY | O_DIRECTORY);
	struct subvolume found;
	struct err ignored = { 0 };

	return taken >= 0 && subvolume_is_root(taken) && subvolume_get(taken, &found, &ignored) == 0 &&
	       found.id == t->number;
}

/* One rename is the revert: before it nothing has changed, after it everything has. */
static int exchange(const struct target *t, int place, struct err *err)
{
	if (subvolume_destroy_tree(place, STORE_REVERT) < 0 ||
	    subvolume_snapshot(t->snapshot, place, STORE_REVERT, false) < 0)
		return err_errno(err, errno,
				 errno == ENOSPC || errno == EDQUOT ? VSS_E_INSUFFICIENT_STORAGE
								    : VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot make a writable snapshot of the copy %s. Nothing was reverted", t->copy);
	if (filesystem_sync(place, err) < 0)
		return -1;
	int saved = swap(t, place) == 0 ? 0 : errno;
	if (saved == 0 && is_what_was_meant(t, place))
		return filesystem_sync(place, err);
	if (saved == 0 && swap(t, place) < 0) /* not ours to delete */
		return err_errno(
		    err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
		    "What somebody put in the place of %.300s meanwhile cannot be put back. It is whole, as "
		    "/" VSS_STORE_DIR "/%s/" STORE_REVERT
		    " of the top-level subvolume: move it away before the copy is "
		    "deleted",
		    t->path, t->copy);
	if (saved == 0)
		saved = ESTALE;
	subvolume_destroy_tree(place, STORE_REVERT);
	return err_errno(err, saved, saved == EBUSY ? VSS_E_VOLUME_IN_USE : VSS_E_UNEXPECTED_PROVIDER_ERROR,
			 "Cannot put the snapshot in the place of %.500s. Nothing was reverted", t->path);
}

static int new_id(const struct target *t, char id[MARK_VOLUME_SIZE], struct err *err)
{
	autoclose int root = open_beneath(t->directory, t->name, O_RDONLY | O_DIRECTORY);
	struct subvolume made;

	if (root < 0 || subvolume_get(root, &made, err) < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "Cannot look at %.500s, which was reverted", t->path);
	snprintf(id, MARK_VOLUME_SIZE, "btrfs:%s:%llu", t->filesystem, (unsigned long long)made.id);
	return 0;
}

int btrfs_revert(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
		 struct err *err)
{
	cleanup(target_done) struct target t;
	char id[MARK_VOLUME_SIZE];
	autoclose int store = -1, place = -1;

	if (target_init(&t, request, err) < 0 || check_users(&t, err) < 0 || store_open(t.top, false, &store, err) < 0)
		return -1;
	/* Through the volume's own mount: a rename does not cross mounts. */
	place = store < 0 ? -1 : place_open(store, t.copy);
	if (place < 0)
		return err_set(err, VSS_E_OBJECT_NOT_FOUND, "The copy %s was deleted meanwhile", t.copy);
	cleanup_close(&t.root);
	t.root = -1;
	if (exchange(&t, place, err) < 0 || new_id(&t, id, err) < 0)
		return -1;
	tell_copies(store, t.id, id);
	associations_move(store, t.id, id);
	json_object_update_new(answer, json_pack("{ss}", "State", "reverted"));
	if (subvolume_destroy_tree(place, STORE_REVERT) < 0 || filesystem_sync(place, err) < 0)
		json_object_set_new(
		    answer, "Message",
		    json_sprintf("What it was before could not be deleted and takes room until the shadow copy {%s} is "
				 "deleted: %s",
				 t.copy, strerror(errno)));
	return 0;
}
