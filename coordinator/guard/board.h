/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The board: one window's plan and how far each of its objects has come, in memory that both halves of the guard share.
 * It is a file on /run (held-SET), made before anything is held and removed when nothing is any more, so that a third
 * process can read, after both have died, exactly what is still held. Nothing in it points anywhere. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/names.h"
#include "coordinator/guard/kernel.h"

#define BOARD_FILESYSTEMS_MAX 64
#define BOARD_DEVICES_MAX 128
#define BOARD_OBJECTS_MAX (BOARD_FILESYSTEMS_MAX + BOARD_DEVICES_MAX)
#define BOARD_CUTS_MAX 128
#define BOARD_DEPTH_MAX 8u
#define BOARD_FDS_MAX 128 /* descriptors of a window */

#define BOARD_PREFIX VSS_GUARD_LIST_PREFIX
#define BOARD_NAME_SIZE 512 /* of a path for people; longer ones are cut */
#define SUBVOLUME_NAME_SIZE 256
#define MESSAGE_TEXT_SIZE 64

/* Every change is written before what it announces begins, so that whoever finds the board knows the worst. */
enum hold_state {
	HOLD_NONE,  /* not touched */
	HOLD_BEGUN, /* the ioctl may be under way, in the thread `holder` */
	HOLD_HELD,
	HOLD_FREED, /* was held; is not any more */
};

struct object {
	bool is_device;
	uint32_t major, minor;
	uint32_t flags; /* for udev, when a device is resumed */
	uint32_t depth;
	int32_t fd;	  /* of a filesystem: index into the window's descriptors */
	uint8_t fsid[16]; /* of a btrfs: its device numbers lead nowhere */
	bool is_btrfs;
	bool is_read_only;	    /* already before */
	char name[BOARD_NAME_SIZE]; /* of the device, or a path of the filesystem */

	_Atomic uint32_t state;
	_Atomic int32_t holder;
	_Atomic int32_t thawer; /* the thread of the executor that is thawing a btrfs */
	_Atomic bool stolen;	/* it was not we who released it */
	_Atomic bool forced;	/* its kernel has made it read-only meanwhile */
	_Atomic int32_t error;	/* negative errno of the last try */
	_Atomic uint64_t held_at, freed_at;
};

enum cut_kind { CUT_RESUME, CUT_MESSAGE, CUT_SNAPSHOT };

struct cut {
	enum cut_kind kind;
	uint32_t major, minor, flags;
	int32_t source, store; /* indices of descriptors */
	bool read_only;
	char name[SUBVOLUME_NAME_SIZE]; /* of the device or of the new subvolume */
	char message[MESSAGE_TEXT_SIZE];

	int32_t error;
	uint64_t begin, end;
};

/* Why a window failed; what and errno say more. The first one counts. */
enum fault_kind {
	FAULT_NONE,
	FAULT_FREEZE,	     /* object */
	FAULT_SUSPEND,	     /* object */
	FAULT_NOT_SUSPENDED, /* object: before the cut, or before the release */
	FAULT_STATUS,	     /* object: cannot be asked */
	FAULT_LIVE,	     /* cut: the snapshot was made live by somebody else */
	FAULT_EMPTY,	     /* cut: the snapshot has no table that waits */
	FAULT_CUT,	     /* cut */
	FAULT_RESUMED,	     /* object: by somebody else */
	FAULT_RESUME,	     /* object */
	FAULT_THAWED,	     /* object: by somebody else */
	FAULT_THAW,	     /* object */
	FAULT_FORCED,	     /* object: read-only since it was thawed */
	FAULT_DEADLINE,
	FAULT_ORDER,	/* release --all */
	FAULT_CLIENT,	/* it broke off */
	FAULT_EXECUTOR, /* it ended */
	FAULT_RELEASER, /* it ended */
	FAULT_STOPPED,	/* vss-guard is being stopped */
};

struct board {
	char magic[8];
	uint32_t size;
	uint32_t n_filesystems, n_devices, n_cuts;
	bool hold;
	char set[64], owner[128];
	uint64_t since;	    /* usec since the epoch */
	uint64_t deadline;  /* usec, monotonic */
	int32_t rcu_before; /* value of rcu_expedited to restore; -1: untouched */
	int32_t executor;
	uint64_t executor_start; /* tells it from a later process with its number */

	_Atomic bool revoked;	      /* nothing more may be held */
	_Atomic int32_t condemned_by; /* the process that is about to kill the executor */
	_Atomic uint32_t fault;
	uint32_t fault_what;
	int32_t fault_error;
	uint64_t begin, end; /* first freeze, last thaw */

	struct object objects[BOARD_OBJECTS_MAX]; /* filesystems, then devices */
	struct cut cuts[BOARD_CUTS_MAX];
};

static inline size_t board_objects(const struct board *board)
{
	return (size_t)board->n_filesystems + board->n_devices;
}

/* Makes held-SET in the directory, for the set named in plan, and maps it; plan is copied into it.
 * *ret_fd: for the executor. */
int board_create(int directory, const struct board *plan, struct board **ret, int *ret_fd, struct err *err);
/* Maps a board that another process made; refuses what is none. */
int board_map(int fd, struct board **ret, struct err *err);
void board_unmap(struct board *board);
void board_remove(int directory, const struct board *board);

/* The first fault stays. */
void board_fault(struct board *board, enum fault_kind kind, size_t what, int error);
/* Something of it is held or may be. */
bool board_holds(const struct board *board);
bool object_holds(const struct object *object);
/* Start time of a process, as /proc tells it; 0 if there is none. */
uint64_t process_start(pid_t pid);
