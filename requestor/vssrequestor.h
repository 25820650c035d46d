/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file vssrequestor.h
 * libvssrequestor: for backup tools. One struct vss_backup is one backup session at vssd, the calls follow VSS's
 * IVssBackupComponents; the ones that take long wait for you, report progress, and can be cancelled.
 *
 *     vss_connect > vss_backup_new > [vss_backup_gather > vss_backup_select]... > vss_backup_add >
 *     vss_backup_prepare > vss_backup_snapshot > (read the copies) > vss_backup_set_succeeded >
 *     vss_backup_complete > vss_backup_free
 *
 * Steps left out are done by the later one that needs them: add, snapshot, complete, free is a whole backup.
 *
 * Results are JSON values (jansson), as docs/protocol.md names them: what the caller gets it owns (json_decref).
 * Functions return 0, or -1 with the error filled in (which may be NULL). The library never logs, exits, forks, or
 * changes signal handlers. A wait ends when vssd has not answered a ping for 10 s (NotAvailable); short calls have
 * 30 s. A struct belongs to one thread at a time; vss_cancel alone may be called from anywhere, also from a signal
 * handler. It survives a restart of vssd between vss_backup_snapshot and vss_backup_complete. Since 0.1.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct vss_connection;
struct vss_backup;

struct vss_failure {
	uint32_t code;	 /**< VSS's number, e.g. 0x80042316 (docs/protocol.md) */
	bool retryable;	 /**< trying the same again later may help */
	char name[64];	 /**< "SnapshotSetInProgress" */
	char text[1024]; /**< what failed, on which object, which rule, what to do */
};

/** Connects to the bus (address NULL: the system bus, or DBUS_SYSTEM_BUS_ADDRESS). It starts vssd if need be. */
int vss_connect(struct vss_connection **ret, const char *address, struct vss_failure *error);
/** Accepts NULL, returns NULL. Backups of this connection must be freed before. */
struct vss_connection *vss_disconnect(struct vss_connection *connection);
/** Makes the call that waits on this connection (or the next one) fail with Cancelled. Async-signal-safe. */
void vss_cancel(struct vss_connection *connection);

/** Any Coordinator1 method that answers aa{sv}: "ListWriters", "ProbeWriters", "ListShadows", "ListVolumes",
 * "ListProviders", "ListShadowStorage", "ListSessions", "ListReverts", "DeleteShadows". options (may be NULL) is borrowed.
 * timeout_usec 0: 30 s. */
int vss_query(struct vss_connection *connection, const char *method, json_t *options, uint64_t timeout_usec,
	      json_t **ret_rows, struct vss_failure *error);
/** Coordinator1's properties: Version, Writers, Sessions. */
int vss_status(struct vss_connection *connection, json_t **ret_properties, struct vss_failure *error);
/** Ids may be written with braces and in upper case, here and wherever a shadow, session or writer is named. */
int vss_expose(struct vss_connection *connection, const char *shadow, const char *path, struct vss_failure *error);
int vss_unexpose(struct vss_connection *connection, const char *shadow, struct vss_failure *error);
/** A detached read-only mount of the copy (caller closes), for move_mount(2) in a mount namespace of its own. */
int vss_mount(struct vss_connection *connection, const char *shadow, int *ret_fd, struct vss_failure *error);
int vss_record(struct vss_connection *connection, const char *shadow, json_t **ret_record, struct vss_failure *error);
/** Makes the volume of the copy what the copy says. options (may be NULL, borrowed): "Preview" b: only tell what it would do;
 * "Force" b: a writer that does not let go of its files does not stop it. *ret_result: docs/protocol.md, Revert. Waits at most
 * an hour. */
int vss_revert(struct vss_connection *connection, const char *shadow, json_t *options, json_t **ret_result,
	       struct vss_failure *error);
/** Shadow storage: where copies of a volume are kept (storage: a volume group, physical volume, pool, or a volume) and how
 * much they may take. max_size as people write it ("10GB", "15%", "UNBOUNDED"); NULL: UNBOUNDED. guaranteed: each store as
 * large as its volume. "ListShadowStorage" of vss_query lists them. Since 0.1. */
int vss_add_storage(struct vss_connection *connection, const char *path, const char *storage, const char *max_size,
		    bool guaranteed, struct vss_failure *error);
int vss_resize_storage(struct vss_connection *connection, const char *path, const char *storage, const char *max_size,
		       bool guaranteed, struct vss_failure *error);
/** storage may be NULL: wherever it is. */
int vss_delete_storage(struct vss_connection *connection, const char *path, const char *storage,
		       struct vss_failure *error);
int vss_reset_writer(struct vss_connection *connection, const char *writer, struct vss_failure *error);
/** Ends a session of any owner (administrators). */
int vss_abort_session(struct vss_connection *connection, const char *session, struct vss_failure *error);

/** phase: the session's new state; details: {"Writer", ...} or an empty object, borrowed. Runs inside the waiting call;
 * of this library it may call vss_cancel alone. */
typedef void (*vss_progress_fn)(const char *phase, unsigned percent, json_t *details, void *data);

/** A session. options (may be NULL, borrowed): as CreateSession in docs/protocol.md. */
int vss_backup_new(struct vss_backup **ret, struct vss_connection *connection, json_t *options,
		   struct vss_failure *error);
void vss_backup_on_progress(struct vss_backup *backup, vss_progress_fn fn, void *data);
/** Continues a detached session. */
int vss_backup_adopt(struct vss_backup **ret, struct vss_connection *connection, const char *token,
		     struct vss_failure *error);
int vss_backup_detach(struct vss_backup *backup, unsigned seconds, char token[64], struct vss_failure *error);
/** Ends the session unless it was detached, and with it whatever is under way: vssd removes volatile copies, writers
 * hear BackupShutdown. Waits for that (at most 2 minutes) where there is something to remove: after a finished set of
 * persistent copies it does not. Accepts NULL, returns NULL. */
struct vss_backup *vss_backup_free(struct vss_backup *backup);

const char *vss_backup_id(const struct vss_backup *backup);
int vss_backup_gather(struct vss_backup *backup, json_t **ret_writers, struct vss_failure *error);
int vss_backup_select(struct vss_backup *backup, const char *writer, const char *component, struct vss_failure *error);
/** By path, or by descriptor (O_PATH is enough; path NULL, fd borrowed). ret_member may be NULL. */
int vss_backup_add(struct vss_backup *backup, const char *path, int fd, json_t **ret_member, struct vss_failure *error);
/** The same for many paths, asked all at once. *ret_members (may be NULL): an array in the order of paths. */
int vss_backup_add_paths(struct vss_backup *backup, const char *const *paths, size_t n, json_t **ret_members,
			 struct vss_failure *error);
int vss_backup_prepare(struct vss_backup *backup, struct vss_failure *error);
/** The set. *ret_result (may be NULL) is set on success and on failure (then with the attempts). */
int vss_backup_snapshot(struct vss_backup *backup, json_t **ret_result, struct vss_failure *error);
/** Of a session made with the option Hold: until everything is still, and until everybody runs again. In between others may
 * make copies. What is held runs again by itself when the session ends, its lease too, and when the writers' limit or
 * HoldLimitUsec has passed; vss_backup_release fails then. *ret_result (may be NULL): docs/protocol.md, Hold. */
int vss_backup_hold(struct vss_backup *backup, json_t **ret_result, struct vss_failure *error);
/** For volumes, on which the bus may depend: channel (borrowed) is one end of a pair of stream sockets. Returns when vssd has
 * begun; the other end then gives a line {"Operation": "Hold", "Result": object}, takes "release\n", and gives
 * one for "Release". Its end releases. */
int vss_backup_hold_over(struct vss_backup *backup, int channel, struct vss_failure *error);
int vss_backup_release(struct vss_backup *backup, json_t **ret_result, struct vss_failure *error);
int vss_backup_writer_status(struct vss_backup *backup, json_t **ret_rows, struct vss_failure *error);
/** The session's properties: State, Participants, Timeline, ... */
int vss_backup_properties(struct vss_backup *backup, json_t **ret_properties, struct vss_failure *error);
int vss_backup_set_succeeded(struct vss_backup *backup, bool succeeded, struct vss_failure *error);
/** Of one writer (name, id or instance id), and of one of its components where component is not NULL. */
int vss_backup_set_component_succeeded(struct vss_backup *backup, const char *writer, const char *component,
				       bool succeeded, struct vss_failure *error);
/** Around files that the caller puts back on the session's volumes itself: the writers concerned let go of them, and take them
 * up again. *ret_result (may be NULL): docs/protocol.md. */
int vss_backup_pre_restore(struct vss_backup *backup, json_t **ret_result, struct vss_failure *error);
int vss_backup_post_restore(struct vss_backup *backup, bool succeeded, json_t **ret_result, struct vss_failure *error);
int vss_backup_complete(struct vss_backup *backup, struct vss_failure *error);
int vss_backup_abort(struct vss_backup *backup, struct vss_failure *error);

/** Path mapping: where a live path is found in the copies of this set, given where their roots are mounted.
 * result: of vss_backup_snapshot. root: directory under which each copy is mounted at its live path ("" if exposed
 * there). 0 and *ret_path (caller frees); -1: the path's volume is not in the set (symbolic links are not followed). */
int vss_map_path(json_t *result, const char *root, const char *live_path, char **ret_path, struct vss_failure *error);

const char *vss_requestor_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
