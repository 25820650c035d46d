/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An object that is HELD is released once. One that is only BEGUN may come to be held at any time while the thread that
 * began lives: it is tried until the thread is gone, and once more after that. */
#include "coordinator/guard/release.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/guard/guard.h"
#include "coordinator/guard/mount-search.h"

static bool holder_is_gone(const struct release *release, const struct object *object)
{
	int32_t thread = atomic_load(&object->holder);

	return release->holder == 0 || thread == 0 ||
	       (syscall(SYS_tgkill, release->holder, thread, 0) < 0 && errno == ESRCH);
}

static void set_freed(struct object *object, bool stolen)
{
	atomic_store(&object->stolen, stolen);
	atomic_store(&object->freed_at, clock_now());
	atomic_store(&object->state, HOLD_FREED);
}

/* Never resumes blindly: a resume while the suspend is under way does nothing and would be taken for the end of it. */
static void free_device(const struct release *release, struct object *object, bool settled)
{
	struct device_status status;
	bool changed;
	int r = guard_kernel->status(release->control, object->major, object->minor, &status);

	if (r == 0 && status.suspended) {
		r = guard_kernel->resume(release->control, object->major, object->minor, object->flags, &changed);
		if (r == 0)
			set_freed(object, !changed);
	} else if ((r == 0 && settled) || r == -ENXIO) {
		set_freed(object, true); /* resumed by somebody else, never suspended, or not there any more */
	}
	atomic_store(&object->error, r);
}

/* Whoever has condemned us and is gone itself does not count. */
static bool is_condemned(const struct board *board)
{
	int32_t by = atomic_load(&board->condemned_by);

	return by != 0 && (kill(by, 0) == 0 || errno != ESRCH);
}

/* btrfs reads its superblocks when it is thawed. In a thread that is being killed that read fails, which btrfs takes
 * for a stranger's write: it makes itself read-only for good, and reports success. So the thread is on the board before
 * the board is looked at once more: whoever condemns us and then reads the board either sees it or has stopped us. */
static int thaw_btrfs(const struct release *release, struct object *object, int fd)
{
	int r = -EAGAIN;

	if (!release->mortal)
		return guard_kernel->thaw(fd);
	atomic_store(&object->thawer, crew_thread_id());
	if (!is_condemned(release->board))
		r = guard_kernel->thaw(fd);
	atomic_store(&object->thawer, 0);
	return r;
}

/* A stopped thread is not within an ioctl. */
static bool is_running(pid_t process, int32_t thread)
{
	char path[64], text[512];

	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process, thread);
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	const char *state = strrchr(text, ')');
	return state && state[1] == ' ' && !strchr("TtXZ", state[2]);
}

bool release_is_delicate(const struct release *release)
{
	for (size_t i = 0; i < board_objects(release->board); i++) {
		int32_t thread = atomic_load(&release->board->objects[i].thawer);
		if (thread != 0 && release->holder > 0 && is_running(release->holder, thread))
			return true;
	}
	return false;
}

static void look_whether_forced(const struct release *release, struct object *object, int fd)
{
	if (!object->is_btrfs || object->is_read_only || !guard_kernel->is_read_only(fd))
		return;
	atomic_store(&object->forced, true);
	board_fault(release->board, FAULT_FORCED, (size_t)(object - release->board->objects), 0);
}

/* A thaw while the freeze is under way waits for it, or finds nothing frozen. */
static void free_filesystem(const struct release *release, struct object *object, bool settled)
{
	int *fd = &release->fds[object->fd];
	int r = 0;

	if (*fd < 0) {
		*fd = mount_open(object);
		r = *fd < 0 ? *fd : 0;
	}
	if (r == 0)
		r = object->is_btrfs ? thaw_btrfs(release, object, *fd) : guard_kernel->thaw(*fd);
	if (*fd >= 0 && (r == 0 || r == -EINVAL))
		look_whether_forced(release, object, *fd);
	if (r == 0)
		set_freed(object, false);
	else if ((r == -EINVAL && settled) || r == -ENOENT)
		set_freed(object, true); /* thawed by somebody else, never frozen, or not mounted any more */
	atomic_store(&object->error, r);
}

void release_object(void *context, size_t index)
{
	const struct release *release = context;
	struct object *object = &release->board->objects[index];
	/* In this order: what the holder did last is seen by the attempt. */
	bool settled = holder_is_gone(release, object) || atomic_load(&object->state) == HOLD_HELD;

	if (!object_holds(object))
		return;
	if (object->is_device)
		free_device(release, object, settled);
	else
		free_filesystem(release, object, settled);
}

/* Devices go first: a thaw writes, which a suspended device keeps waiting. */
void release_sweep(struct release *release)
{
	struct board *board = release->board;
	size_t n = board_objects(board);

	for (size_t k = 0; k < n; k++) {
		size_t i = (k + board->n_filesystems) % n;
		if (object_holds(&board->objects[i]) && crew_idle(release->crew, i))
			crew_post(release->crew, i, release_object, release, i);
	}
	crew_go(release->crew);
}

size_t release_pending(const struct release *release)
{
	size_t pending = 0;

	for (size_t i = 0; i < board_objects(release->board); i++)
		pending += object_holds(&release->board->objects[i]) || !crew_idle(release->crew, i);
	return pending;
}
