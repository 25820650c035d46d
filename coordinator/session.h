/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backup session: one requestor, at most one set. Its life is the table in session-table.c; only session.c changes the
 * state. The stages (plan.c, session-writers.c, session-copies.c) do a state's work and report its end as an event; they
 * never call each other. No D-Bus in here: the faces get told through struct session_listener. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/error.h"
#include "common/frame.h"
#include "common/id.h"
#include "coordinator/fanout.h"
#include "coordinator/guard/guard-client.h"
#include "coordinator/locks.h"
#include "coordinator/registry.h"
#include "coordinator/roles.h"
#include "coordinator/session-table.h"
#include "coordinator/state-store.h"
#include "coordinator/workers.h"

#define SESSION_MEMBERS_MAX 64

struct catalogue;
struct restore;
struct session;

struct session_listener {
	void (*state_changed)(struct session *session, void *data);
	void (*finished)(struct session *session, const char *operation, json_t *result, void *data);
	void (*closed)(struct session *session, void *data); /* the session is freed afterwards */
	void *data;
};

/* What all sessions share. */
struct session_context {
	sd_event *event;
	const struct config *config;
	struct registry *registry;
	struct workers *workers;
	struct fanout *fanout;
	struct locks *locks;
	struct catalogue *catalogue;
	struct guard *guard; /* NULL: sets that need a window are refused */
	struct state_store *store;
	const char *machine_id, *host_name;
	struct session_listener listener;
	/* Asks the bus to start the service that owns bus_name; a failure comes back as sessions_activation_failed. NULL:
	 * nothing is started. */
	void (*activate)(const char *session, const char *bus_name, void *data);
	void *activate_data;
	/* Copies whose stores may fill are about to be made: somebody has to watch them. NULL: nobody does. */
	void (*watch_storage)(void *data);
	void *watch_data;

	struct session *sessions;
	size_t n_sessions;
};

/* What a session that makes no copies holds until its requestor releases it; others make copies meanwhile. */
enum session_hold { HOLD_NOTHING, HOLD_WRITERS, HOLD_VOLUMES };

enum writer_failure_policy { WRITER_FAILURE_FAILS, WRITER_FAILURE_DEGRADES };

struct session_options {
	bool persistent, recursive, add_missing_volumes;
	bool verify; /* a rehearsal: writers give checklists, no copy is made */
	char backup_type[16];
	enum writer_failure_policy on_writer_failure;
	unsigned retries;
	uint64_t wait;
	enum session_hold hold;
	uint64_t hold_limit; /* usec; 0: as long as the writers bear it */
	json_t *require, *exclude, *include; /* arrays of names and ids */
	char command[128];
};

struct session_channel;

struct member {
	char copy[ID_SIZE];
	json_t *volume;              /* as the volumes worker describes it */
	json_t *below;               /* what lies below it and is not in the set: array of rows */
	unsigned instant_group;
	bool repair;                 /* a writer gets it read-write in PostSnapshot */
	int source, store, directory; /* descriptors from prepare and open; -1 */
	json_t *place;               /* where its store goes: StoreSize, Pvs; NULL: where the volume is */
	json_t *steps;               /* while the window is open: what the provider needs done in it */
	json_t *cut;                 /* when the copy was made, and what the provider says of it */
};

struct participant {
	struct session *session;
	struct writer *writer; /* referenced */
	bool takes_part;
	char *why;             /* or why not */
	uint64_t members;      /* bit n: has data on member n */
	json_t *components;    /* names of those that are selected */

	bool told;             /* got an event of this set that Abort has to undo */
	bool frozen;
	bool unbroken;         /* thawed, and still from Freeze to Thaw */
	uint64_t freeze_sent, sequence;
	enum vss_error error;  /* first failure in this session; later ones do not hide it */
	enum writer_event failed_at;
	char message[512];
	uint64_t elapsed;
	json_t *documents;     /* {event name: JSON text} */
	json_t *checks;        /* array of {"Object", "Check", "Verdict", "Text"}; NULL: none */
	size_t n_doubts;

	struct fanout_call *call; /* the event under way */
	bool unawaited;           /* nobody waits for its answer */
	enum writer_event event;
	uint64_t call_began, deadline;
	size_t copies_sent;    /* PostSnapshot goes in messages of at most 16 copies */
};

/* A window that is being opened, or open: whatever of it there is ends with window_end. */
struct hold {
	struct window *window;
	int locks[SESSION_MEMBERS_MAX], fds[FRAME_FDS_MAX];
	size_t n_locks, n_fds;
	uint64_t began;
	json_t *answer; /* of the guard, when volumes are held for somebody else */
};

/* What one provider is asked to do for its members of the set. */
struct role_job {
	struct session *session;
	const struct role_info *role;
	struct job *job;
	struct member *members[SESSION_MEMBERS_MAX]; /* in the order of the request */
	size_t n_members;
	uint64_t elapsed; /* once it has ended */
};

struct session {
	struct session_context *context;
	struct session *next;
	char id[ID_SIZE], set[ID_SIZE];
	enum session_state state;
	struct session_options options;
	char *owner; /* unique name; NULL while detached */
	uid_t uid;
	pid_t pid;
	uint64_t created; /* epoch seconds */

	struct member members[SESSION_MEMBERS_MAX];
	size_t n_members, n_locked; /* those from n_locked on were added by the plan */
	struct participant *participants;
	size_t n_participants;
	json_t *selected; /* array of {"Writer", "Component"}; empty: no selection */
	json_t *silent;   /* {instance: {"Error", "Message"}}: failed the last Identify of this session */
	json_t *doubts;   /* why the label is less than application: texts */
	json_t *warnings;
	json_t *awaited;         /* {bus name: writer id}: being started for this set; NULL: nobody is */
	sd_event_source *patience; /* for them */

	/* the operation under way, and how the last one ended */
	char operation[24], last_operation[24];
	json_t *last_result;
	bool want_snapshot;  /* go on from Prepared by itself */
	bool closing;        /* the session ends as soon as the table lets it */
	bool discard;        /* its copies go, persistent or not */

	/* the attempt */
	unsigned attempt;
	json_t *attempts, *timeline;
	uint64_t began, state_began, wait_deadline;
	struct err error; /* its first failure */
	uint64_t hold_deadline, first_freeze, hold;
	uint64_t writes_held; /* from the first to the last moment that any volume was held */
	bool clean, flushed; /* the providers vouch for the filesystem; nothing to flush since prepare */
	bool created_copies, holds_senders;
	size_t removing, evicting; /* copies */
	json_t *records[SESSION_MEMBERS_MAX]; /* what seal writes beside each copy */

	struct restore *restore; /* between the requestor's PreRestore and PostRestore */

	struct lock *lock, *writer_lock;
	struct job *job;                   /* of the volumes worker */
	struct role_job role_jobs[ROLES_MAX];
	size_t jobs_open;
	const struct copies_op *copies_op; /* what they do; NULL: nothing, or nobody waits for it */
	struct err copies_error;           /* the first failure among them */
	struct hold window;
	struct session_channel *channel; /* of a requestor that holds volumes; NULL: none */
	size_t outstanding; /* writers' answers the state waits for */
	sd_event_source *timer;
	bool succeeded;
	json_t *failed_components;

	/* lease */
	char token[ID_SIZE];
	uint64_t lease_until;
	sd_event_source *lease;

	enum session_event queue[SESSION_EVENT_COUNT];
	size_t queued;
	bool dispatching;
	bool saved; /* as it is now */
};

/* Takes options' arrays. */
int session_new(struct session **ret, struct session_context *context, const struct session_options *options,
		const char *owner, uid_t uid, pid_t pid, struct err *err);
struct session *session_find(const struct session_context *context, const char *id);

/* The requestor's calls. -1: refused (BadState, ...), nothing has changed. The long ones end with listener.finished. */
int session_gather(struct session *session, struct err *err);
int session_select(struct session *session, const char *writer, const char *component, struct err *err);
/* volumes: what `resolve` said of the path (with what lies below, for recursive ones). Adds what is not a member yet. */
int session_add_volume(struct session *session, json_t *volume, struct err *err);
int session_prepare(struct session *session, struct err *err);
int session_snapshot(struct session *session, struct err *err);
/* Of a session made to hold: until everything is still; until everybody runs again. */
int session_start_hold(struct session *session, struct err *err);
int session_release(struct session *session, struct err *err);
/* Around files that the requestor puts back itself. */
int session_pre_restore(struct session *session, struct err *err);
int session_post_restore(struct session *session, bool succeeded, struct err *err);
int session_set_succeeded(struct session *session, bool succeeded, const char *writer, const char *component,
			  struct err *err);
int session_complete(struct session *session, struct err *err);
/* discard: half-made and finished copies go, persistent or not. Always possible. */
void session_close(struct session *session, bool discard);
int session_detach(struct session *session, uint64_t seconds, char token[ID_SIZE], struct err *err);
int session_adopt(struct session *session, const char *owner, uid_t uid, pid_t pid, struct err *err);
void session_owner_lost(struct session *session);
bool session_keep_alive(struct session *session, const char *bus_name);

/* From the registry: a writer is there; its process is gone. */
void sessions_writer_added(struct session_context *context, const struct writer *writer);
void sessions_writer_lost(struct session_context *context, struct writer *writer);
void session_activation_failed(struct session *session, const char *bus_name);
/* Sessions that a former vssd left on /run: {id: stored}. Each is restored, then resumed (it may end in that call);
 * owner_lives: its requestor's connection is still there. */
json_t *sessions_stored(struct session_context *context);
int session_restore(struct session_context *context, json_t *stored, struct err *err);
void session_resume(struct session *session, bool owner_lives);
/* Ends all at once, without events or waiting: vssd itself ends; what is on /run stays. */
void sessions_free(struct session_context *context);

/* Views: as the properties of Session1 in docs/protocol.md. */
json_t *session_row(const struct session *session);
json_t *session_participant_rows(const struct session *session);
json_t *session_member_rows(const struct session *session);
json_t *session_waiting_for(const struct session *session);
