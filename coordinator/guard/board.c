/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/board.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/text.h"

/* With the layout's number: a board is read by a vss-guard of another version after an upgrade. */
static const char magic[8] = "vssbrd2";

static void name_of(const struct board *board, char name[80])
{
	text_format(name, 80, BOARD_PREFIX "%s", board->set);
}

static int map(int fd, struct board **ret)
{
	void *memory = mmap(NULL, sizeof **ret, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

	*ret = memory == MAP_FAILED ? NULL : memory;
	/* Mapped for reading alone, some machines fault again with the first write to each page: not while anything is held. */
	if (*ret)
		madvise(memory, sizeof **ret, MADV_POPULATE_WRITE);
	return *ret ? 0 : errno;
}

/* An errno value. Its room is allocated: writing to the map must not fail later. */
static int make(int fd, const struct board *plan, struct board **ret)
{
	int r = posix_fallocate(fd, 0, sizeof **ret);

	if (r == 0)
		r = map(fd, ret);
	if (r != 0)
		return r;
	memcpy(*ret, plan, sizeof **ret);
	(*ret)->size = sizeof **ret;
	memcpy((*ret)->magic, magic, sizeof magic);
	return 0;
}

int board_create(int directory, const struct board *plan, struct board **ret, int *ret_fd, struct err *err)
{
	char name[80];
	int r;

	name_of(plan, name);
	autoclose int fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return err_set(err, VSS_E_SNAPSHOT_SET_IN_PROGRESS,
			       "vss-guard still has something of the set %s to release: see vssctl status", plan->set);
	if (fd < 0)
		return err_errno(err, errno, VSS_E_UNEXPECTED, "vss-guard cannot make its list %s", name);
	r = make(fd, plan, ret);
	if (r != 0) {
		unlinkat(directory, name, 0);
		return err_errno(err, r, VSS_E_UNEXPECTED, "vss-guard cannot write its list %s", name);
	}
	*ret_fd = steal_fd(fd);
	return 0;
}

static bool has_places(const struct board *board)
{
	for (size_t i = 0; i < board_objects(board); i++)
		if (!board->objects[i].is_device && (board->objects[i].fd < 0 || board->objects[i].fd >= BOARD_FDS_MAX))
			return false;
	return true;
}

static bool is_sound(const struct board *board)
{
	return memcmp(board->magic, magic, sizeof magic) == 0 && board->size == sizeof *board &&
	       board->n_filesystems <= BOARD_FILESYSTEMS_MAX && board->n_devices <= BOARD_DEVICES_MAX &&
	       board->n_cuts <= BOARD_CUTS_MAX && memchr(board->set, 0, sizeof board->set) && has_places(board);
}

int board_map(int fd, struct board **ret, struct err *err)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof **ret)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "not a list of vss-guard");
	struct board *board = NULL;
	r = map(fd, &board);
	if (!board)
		return err_errno(err, r, VSS_E_UNEXPECTED, "cannot be mapped");
	*ret = board;
	if (is_sound(board))
		return 0;
	board_unmap(board);
	return err_set(err, VSS_E_INVALID_DOCUMENT, "not a list of this version of vss-guard");
}

void board_unmap(struct board *board)
{
	if (board)
		munmap(board, sizeof *board);
}

void board_remove(int directory, const struct board *board)
{
	char name[80];

	name_of(board, name);
	unlinkat(directory, name, 0);
}

void board_fault(struct board *board, enum fault_kind kind, size_t what, int error)
{
	if (atomic_load(&board->fault) != FAULT_NONE)
		return;
	board->fault_what = (uint32_t)what;
	board->fault_error = error;
	atomic_store(&board->fault, kind);
}

bool object_holds(const struct object *object)
{
	uint32_t state = atomic_load(&object->state);

	return state == HOLD_BEGUN || state == HOLD_HELD;
}

bool board_holds(const struct board *board)
{
	for (size_t i = 0; i < board_objects(board); i++)
		if (object_holds(&board->objects[i]))
			return true;
	return false;
}

uint64_t process_start(pid_t pid)
{
	char path[64], text[1024];
	uint64_t start = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* The 22nd field; the second one, a name in parentheses, may hold anything. */
	const char *p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%" SCNu64, &start) == 1 ? start : 0;
}
