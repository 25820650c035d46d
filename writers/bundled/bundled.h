/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the writers that come with vssd have in common: a program that serves all instances of one application (clusters,
 * servers, guests), each event of each instance on a thread of its own, so that one that hangs holds up neither the others
 * nor vssd. An application is a struct bundled_kind; its main() is bundled_main(). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "writers/vsswriter.h"

/* ---- configuration: an ini file ---- */

enum bundled_type {
	BUNDLED_TEXT,  /* string */
	BUNDLED_PATHS, /* array of absolute paths; separated by semicolons, may be given several times */
	BUNDLED_BOOL,  /* yes, no */
	BUNDLED_SPAN,  /* integer, microseconds; written 500ms, 20s, 2min; 1 h at most */
	BUNDLED_NUMBER,
	BUNDLED_CHOICE, /* string, one of `choices` */
};

struct bundled_key {
	const char *name;
	enum bundled_type type;
	const char *fallback; /* as it would be written; NULL: none */
	bool per_instance;    /* may also stand in the section of one instance */
	const char *choices;  /* "fail|degrade" */
};

/* The value of an instance (NULL: the general one): from its own section, else the general, else the fallback. Borrowed;
 * NULL if there is none. Every kind also has PrepareLimit (10min, per instance). */
json_t *bundled_setting(const json_t *settings, const char *instance, const char *key);
const char *bundled_setting_text(const json_t *settings, const char *instance, const char *key); /* never NULL */
uint64_t bundled_setting_span(const json_t *settings, const char *instance, const char *key);
/* An object, borrowed: its keys are the instances that have a section of their own, and "", which stands for the general one. */
json_t *bundled_setting_instances(const json_t *settings);

/* ---- one event for one instance ---- */

struct bundled_task {
	enum vss_event event;
	const char *session, *set;
	const char *backup_type;
	bool persistent, succeeded;
	bool verify; /* PREPARE_BACKUP: a rehearsal, see bundled_check */
	const struct vss_volume *volumes; /* all of the event's; with `copy` in POST_SNAPSHOT */
	size_t n_volumes;
	const json_t *settings;
	const json_t *instance; /* the row that discover made, as it was when the event began */
	const char *name;	/* "postgresql/15/main" */
	void **state;		/* the kind's own, kept from event to event: NULL means that nothing is held */
	uint64_t deadline;	/* absolute; what comes later is worthless */
	int cancel;		/* readable as soon as nobody waits for the answer any more; -1: never */

	/* Answers besides the result. */
	char message[512]; /* why, in an administrator's words; with VSS_RESULT_OK a remark */
	json_t *document;  /* kept with the copy (PREPARE_BACKUP, THAW, POST_SNAPSHOT); owned by the task */
	json_t *doubts, *checks; /* of the two below */
};

/* Waits for events (POLLIN, POLLOUT) of fd (-1: of none) until the task's deadline or `until`, whichever is earlier.
 * 0; -ETIMEDOUT; -ECANCELED; another negative errno. */
int bundled_wait(const struct bundled_task *task, int fd, short events, uint64_t until);

/* In work that never waits: 0; -ETIMEDOUT after the deadline; -ECANCELED. */
int bundled_expired(const struct bundled_task *task);

/* `return bundled_fail(task, VSS_RESULT_RETRYABLE, "why")` */
enum vss_result bundled_fail(struct bundled_task *task, enum vss_result result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The set goes on, but this instance is in it in a lesser state than usual: the label goes down, for this reason. */
void bundled_doubt(struct bundled_task *task, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* With task->verify: what was looked at, and found. */
void bundled_check(struct bundled_task *task, const char *check, enum vss_verdict verdict, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* ---- where files lie ---- */

/* The volume of the event that holds the path (absolute, without links), and the path below its root ("." for the root
 * itself); NULL if none does. */
const struct vss_volume *bundled_place(const struct bundled_task *task, const char *path, const char **ret_below);
/* Are the paths (array of strings, without links) all copied at the same instant? */
bool bundled_is_one_instant(const struct bundled_task *task, const json_t *paths);
/* POST_SNAPSHOT: opens the path's counterpart in the copy. No symbolic link is followed: one would lead out of the copy. -1. */
int bundled_open_copy(const struct bundled_task *task, const char *path, int flags, unsigned mode, struct err *err);

/* For threads that discover makes: takes the Uid and Gid of the row for good, if the program is root. 0 or -1 (errno). */
int bundled_become_owner(const json_t *row);

/* ---- the application ---- */

struct bundled_kind {
	const char *program; /* "vss-postgresql-writer" */
	const char *id, *name;
	enum vss_level level;
	unsigned freeze_limit_msec;
	bool degrades; /* it has a key OnFailure=fail|degrade (per instance), with which an instance that fails becomes a doubt */
	unsigned hold_limit_sec; /* an instance that is not thawed, aborted or past PostSnapshot by then gets ABORT; 0: 900 */

	const char *config_file; /* "/etc/vssd/postgresql-writer.conf"; it need not be there */
	const char *section;	 /* "PostgreSQL", the general one */
	const char *instance_section; /* "Cluster": [Cluster NAME] is for one; NULL: there are none */
	const struct bundled_key *keys; /* ends with a zeroed one */

	uint32_t events; /* 1u << VSS_EVENT_...; FREEZE, THAW, ABORT and IDENTIFY need not be named */

	/* Finds the instances, on a thread of its own; within 2 s, or the last answer goes on to hold. Returns an array of
	 *   {LogicalPath s, Name s, Caption s, Paths [s | {Path s, Spec s, Recursive b}], Requires [s] (may be missing),
	 *    Database b (false), Served b (true; false: a component of files alone, which gets no events),
	 *    Uid i, Gid i (may be missing: where the program is root, the instance's threads become that user for good)},
	 * with whatever else the kind wants to find in task->instance; NULL: err. */
	json_t *(*discover)(const json_t *settings, struct err *err);

	/* One event for one instance, on a thread of its own; never two at a time for one instance. May block, but must end
	 * soon after task->deadline and after task->cancel has become readable (bundled_wait minds both). Whatever fails, no
	 * hold may be left that ABORT cannot end; ABORT comes to all instances whose *state is not NULL. */
	enum vss_result (*serve)(struct bundled_task *task);

	/* Ends whatever is held and frees the state; must not block. */
	void (*forget)(void *state);
};

/* Options: --config FILE, --bus ADDRESS, --check (reads the configuration, prints what discover finds, exits), --version. */
int bundled_main(const struct bundled_kind *kind, int argc, char **argv);
