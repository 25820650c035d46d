/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a backup session as data: state x event -> state, and for each state its limit. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/config.h"

enum session_state {
	SESSION_NONE, /* in the table: the event is refused or means nothing here */
	SESSION_IDLE,
	SESSION_GATHERING,         /* Identify */
	SESSION_WAITING,           /* for filesystems and devices that another set has */
	SESSION_IDENTIFYING,       /* Identify: what the writers have may have changed since they registered */
	SESSION_PLANNING,          /* where do the writers' components lie; who takes part */
	SESSION_WAITING_FOR_WRITERS, /* that take part in another set now */
	SESSION_PREPARING_BACKUP,  /* PrepareBackup */
	SESSION_PREPARED,          /* the requestor's turn */
	SESSION_PREPARING,         /* PrepareSnapshot, and the providers prepare */
	SESSION_FLUSHING,          /* once more, right before Freeze */
	SESSION_FREEZING_FRONT_END,
	SESSION_FREEZING_BACK_END,
	SESSION_FREEZING_SYSTEM,
	SESSION_CUTTING,
	SESSION_HOLDING,           /* all is still until the requestor says so: somebody else makes the copies */
	SESSION_THAWING_SYSTEM,
	SESSION_THAWING_BACK_END,
	SESSION_THAWING_FRONT_END,
	SESSION_OPENING,
	SESSION_POST_SNAPSHOT,
	SESSION_SEALING,
	SESSION_CREATED,           /* the requestor reads the copies */
	SESSION_COMPLETING,        /* BackupComplete */
	SESSION_COMPLETED,
	SESSION_ABORTING_WRITERS,  /* Abort to every writer that was told of the set */
	SESSION_ABORTING_COPIES,   /* unfinished copies go */
	SESSION_RETRYING,          /* a pause before the next attempt */
	SESSION_FAILED,
	SESSION_CLOSING,           /* BackupShutdown, volatile copies go */
	SESSION_CLOSED,
	SESSION_STATE_COUNT
};

enum session_event {
	/* the requestor's */
	SESSION_EVENT_GATHER,
	SESSION_EVENT_PREPARE,
	SESSION_EVENT_SNAPSHOT,
	SESSION_EVENT_COMPLETE,
	SESSION_EVENT_RELEASE,
	SESSION_EVENT_CANCEL, /* abort, close, owner gone, lease over */
	/* the state's own */
	SESSION_EVENT_DONE,
	SESSION_EVENT_FAIL,
	SESSION_EVENT_EXPIRED,
	SESSION_EVENT_RETRY,
	SESSION_EVENT_HOLD,
	SESSION_EVENT_COUNT
};

enum session_state session_next(enum session_state state, enum session_event event);

const char *session_state_name(enum session_state state); /* as on the bus: "FreezingFrontEnd" */
int session_state_from_name(const char *name);            /* -1: unknown */
const char *session_event_name(enum session_event event); /* for the log */
unsigned session_state_percent(enum session_state state);

/* Is some writer perhaps frozen, or told of a set that has not ended? Such a state is left only towards Thaw or Abort. */
bool session_state_holds_writers(enum session_state state);
/* From PrepareBackup to the end of the set: a restart of vssd here means that the set is aborted. */
bool session_state_is_creating(enum session_state state);
/* How long the state may last, in usec; USEC_INFINITY: no limit of its own. */
uint64_t session_state_limit(enum session_state state, const struct config *config);
