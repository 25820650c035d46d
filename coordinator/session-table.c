/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/session-table.h"

#include <stddef.h>
#include <string.h>

#include "common/clock.h"

#define THAW_GRACE (1 * USEC_PER_SEC)   /* a writer that is slow to thaw keeps the next level frozen no longer than this */
#define ABORT_GRACE (5 * USEC_PER_SEC)  /* Abort is sent to all at once; its answers are waited for no longer than this */
#define PREPARED_LIMIT (60 * USEC_PER_SEC) /* locks are held: the requestor has to go on */
#define RETRY_PAUSE (500 * USEC_PER_MSEC)

enum flag { QUIET = 0, CREATING = 1, HOLDS = 3 }; /* who holds is creating */

struct row {
	const char *name;
	unsigned percent;
	enum flag flags;
	size_t limit; /* offset of the limit in struct config, or 0 with fixed_limit */
	uint64_t fixed_limit;
	enum session_state next[SESSION_EVENT_COUNT];
};

#define LIMIT(member) .limit = offsetof(struct config, member)
#define ON(event, state) [SESSION_EVENT_##event] = SESSION_##state
/* Every failure of a set goes the same way. */
#define FAILS ON(FAIL, ABORTING_WRITERS), ON(EXPIRED, ABORTING_WRITERS), ON(CANCEL, ABORTING_WRITERS)

static const struct row rows[SESSION_STATE_COUNT] = {
	[SESSION_NONE] = { .name = "" },
	[SESSION_IDLE] = { .name = "Idle",
			   .next = { ON(GATHER, GATHERING), ON(PREPARE, WAITING), ON(SNAPSHOT, WAITING),
				     ON(CANCEL, CLOSING) } },
	[SESSION_GATHERING] = { .name = "Gathering",
				.percent = 2,
				.next = { ON(DONE, IDLE), ON(FAIL, IDLE), ON(EXPIRED, IDLE), ON(CANCEL, CLOSING) } },
	[SESSION_WAITING] = { .name = "Waiting",
			      .percent = 4,
			      .next = { ON(DONE, IDENTIFYING), ON(FAIL, FAILED), ON(EXPIRED, FAILED),
				        ON(CANCEL, CLOSING) } },
	[SESSION_IDENTIFYING] = { .name = "Identifying", .percent = 5, .next = { ON(DONE, PLANNING), FAILS } },
	[SESSION_PLANNING] = { .name = "Planning",
			       .percent = 6,
			       .next = { ON(DONE, WAITING_FOR_WRITERS), FAILS } },
	[SESSION_WAITING_FOR_WRITERS] = { .name = "WaitingForWriters",
					  .percent = 8,
					  .next = { ON(DONE, PREPARING_BACKUP), FAILS } },
	[SESSION_PREPARING_BACKUP] = { .name = "PreparingBackup",
				       .percent = 10,
				       .flags = HOLDS,
				       .next = { ON(DONE, PREPARED), FAILS } },
	[SESSION_PREPARED] = { .name = "Prepared",
			       .percent = 20,
			       .flags = HOLDS,
			       .fixed_limit = PREPARED_LIMIT,
			       .next = { ON(SNAPSHOT, PREPARING), FAILS } },
	[SESSION_PREPARING] = { .name = "Preparing",
				.percent = 25,
				.flags = HOLDS,
				.next = { ON(DONE, FLUSHING), FAILS } },
	[SESSION_FLUSHING] = { .name = "Flushing",
			       .percent = 40,
			       .flags = HOLDS,
			       LIMIT(prepare_copies),
			       .next = { ON(DONE, FREEZING_FRONT_END), FAILS } },
	[SESSION_FREEZING_FRONT_END] = { .name = "FreezingFrontEnd",
					 .percent = 50,
					 .flags = HOLDS,
					 .next = { ON(DONE, FREEZING_BACK_END), FAILS } },
	[SESSION_FREEZING_BACK_END] = { .name = "FreezingBackEnd",
					.percent = 55,
					.flags = HOLDS,
					.next = { ON(DONE, FREEZING_SYSTEM), FAILS } },
	[SESSION_FREEZING_SYSTEM] = { .name = "FreezingSystem",
				      .percent = 60,
				      .flags = HOLDS,
				      .next = { ON(DONE, CUTTING), FAILS } },
	[SESSION_CUTTING] = { .name = "Cutting",
			      .percent = 65,
			      .flags = HOLDS,
			      LIMIT(cut),
			      .next = { ON(DONE, THAWING_SYSTEM), ON(HOLD, HOLDING), FAILS } },
	[SESSION_HOLDING] = { .name = "Holding",
			      .percent = 67,
			      .flags = HOLDS,
			      .next = { ON(RELEASE, THAWING_SYSTEM), FAILS } },
	[SESSION_THAWING_SYSTEM] = { .name = "ThawingSystem",
				     .percent = 70,
				     .flags = HOLDS,
				     .fixed_limit = THAW_GRACE,
				     .next = { ON(DONE, THAWING_BACK_END), ON(EXPIRED, THAWING_BACK_END),
					       ON(FAIL, ABORTING_WRITERS), ON(CANCEL, ABORTING_WRITERS) } },
	[SESSION_THAWING_BACK_END] = { .name = "ThawingBackEnd",
				       .percent = 73,
				       .flags = HOLDS,
				       .fixed_limit = THAW_GRACE,
				       .next = { ON(DONE, THAWING_FRONT_END), ON(EXPIRED, THAWING_FRONT_END),
						 ON(FAIL, ABORTING_WRITERS), ON(CANCEL, ABORTING_WRITERS) } },
	[SESSION_THAWING_FRONT_END] = { .name = "ThawingFrontEnd",
					.percent = 76,
					.flags = HOLDS,
					LIMIT(event),
					.next = { ON(DONE, OPENING), FAILS } },
	[SESSION_OPENING] = { .name = "Opening",
			      .percent = 80,
			      .flags = HOLDS,
			      LIMIT(finish_copies),
			      .next = { ON(DONE, POST_SNAPSHOT), FAILS } },
	[SESSION_POST_SNAPSHOT] = { .name = "PostSnapshot",
				    .percent = 85,
				    .flags = HOLDS,
				    .next = { ON(DONE, SEALING), FAILS } },
	[SESSION_SEALING] = { .name = "Sealing",
			      .percent = 95,
			      .flags = CREATING,
			      LIMIT(finish_copies),
			      .next = { ON(DONE, CREATED), FAILS } },
	[SESSION_CREATED] = { .name = "Created",
			      .percent = 100,
			      .next = { ON(COMPLETE, COMPLETING), ON(CANCEL, CLOSING) } },
	[SESSION_COMPLETING] = { .name = "Completing",
				 .percent = 100,
				 .next = { ON(DONE, COMPLETED), ON(FAIL, COMPLETED), ON(EXPIRED, COMPLETED),
					   ON(CANCEL, CLOSING) } },
	[SESSION_COMPLETED] = { .name = "Completed", .percent = 100, .next = { ON(CANCEL, CLOSING) } },
	[SESSION_ABORTING_WRITERS] = { .name = "AbortingWriters",
				       .percent = 90,
				       .flags = CREATING,
				       .fixed_limit = ABORT_GRACE,
				       .next = { ON(DONE, ABORTING_COPIES), ON(EXPIRED, ABORTING_COPIES) } },
	[SESSION_ABORTING_COPIES] = { .name = "AbortingCopies",
				      .percent = 95,
				      .flags = CREATING,
				      LIMIT(finish_copies),
				      .next = { ON(DONE, FAILED), ON(FAIL, FAILED), ON(EXPIRED, FAILED),
						ON(RETRY, RETRYING) } },
	[SESSION_RETRYING] = { .name = "Retrying",
			       .percent = 3,
			       .fixed_limit = RETRY_PAUSE,
			       .next = { ON(EXPIRED, WAITING), ON(CANCEL, CLOSING) } },
	[SESSION_FAILED] = { .name = "Failed", .percent = 100, .next = { ON(CANCEL, CLOSING) } },
	[SESSION_CLOSING] = { .name = "Closing",
			      .percent = 100,
			      LIMIT(remove_copies),
			      .next = { ON(DONE, CLOSED), ON(FAIL, CLOSED), ON(EXPIRED, CLOSED) } },
	[SESSION_CLOSED] = { .name = "Closed", .percent = 100 },
};

static const char *const event_names[SESSION_EVENT_COUNT] = {
	[SESSION_EVENT_GATHER] = "gather",     [SESSION_EVENT_PREPARE] = "prepare",
	[SESSION_EVENT_SNAPSHOT] = "snapshot", [SESSION_EVENT_COMPLETE] = "complete",
	[SESSION_EVENT_RELEASE] = "release",   [SESSION_EVENT_CANCEL] = "cancel",
	[SESSION_EVENT_DONE] = "done",	       [SESSION_EVENT_FAIL] = "fail",
	[SESSION_EVENT_EXPIRED] = "expired",   [SESSION_EVENT_RETRY] = "retry",
	[SESSION_EVENT_HOLD] = "hold",
};

enum session_state session_next(enum session_state state, enum session_event event)
{
	return rows[state].next[event];
}

const char *session_state_name(enum session_state state)
{
	return rows[state].name;
}

int session_state_from_name(const char *name)
{
	for (int state = SESSION_IDLE; state < SESSION_STATE_COUNT; state++)
		if (strcmp(rows[state].name, name) == 0)
			return state;
	return -1;
}

const char *session_event_name(enum session_event event)
{
	return event_names[event];
}

unsigned session_state_percent(enum session_state state)
{
	return rows[state].percent;
}

bool session_state_holds_writers(enum session_state state)
{
	return rows[state].flags == HOLDS;
}

bool session_state_is_creating(enum session_state state)
{
	return rows[state].flags & CREATING;
}

uint64_t session_state_limit(enum session_state state, const struct config *config)
{
	const struct row *row = &rows[state];

	if (row->limit)
		return *(const uint64_t *)((const char *)config + row->limit);
	return row->fixed_limit ? row->fixed_limit : USEC_INFINITY;
}
