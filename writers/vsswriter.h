/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file vsswriter.h
 * libvsswriter: make an application a VSS writer.
 *
 * A writer gets events from vssd (the coordinator) and answers each: done, failed, or later. Required callbacks: freeze
 * and thaw. In `freeze` bring the files on disk to a state from which the application can start, and stop changing them;
 * in `thaw` (or `abort`, at any time) go on. See docs/writer-guide.md; the life cycle:
 *
 *     identify* ... prepare_backup > prepare_snapshot > freeze > thaw > post_snapshot > backup_complete > backup_shutdown
 *                                    \________ abort, any time, also twice ________/
 *
 * Threads: a struct vss_writer belongs to one thread at a time; vss_writer_done() alone may be called from any thread.
 * Callbacks run inside vss_writer_dispatch() or vss_writer_run() on the caller's thread, never elsewhere, except that with
 * VSS_WRITER_THREAD the library runs its own thread and calls back there. fork: the child must not use the writer and
 * should exec (descriptors are close-on-exec). The library never logs, exits, forks or changes signal handlers.
 *
 * The dead-man timer: if vssd or the bus goes, or the freeze limit passes, while frozen, `abort` is called and a later thaw is
 * answered "broken". Without VSS_WRITER_THREAD that needs the host to keep dispatching.
 *
 * States, events and codes follow Microsoft's VSS (IVssWriter, vswriter.h of the Windows SDK). Since 0.1.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define VSS_WRITER_API_VERSION 1

struct vss_writer;

enum vss_event {
	VSS_EVENT_IDENTIFY,
	VSS_EVENT_PREPARE_BACKUP,
	VSS_EVENT_PREPARE_SNAPSHOT,
	VSS_EVENT_FREEZE,
	VSS_EVENT_THAW,
	VSS_EVENT_POST_SNAPSHOT,
	VSS_EVENT_BACKUP_COMPLETE,
	VSS_EVENT_BACKUP_SHUTDOWN,
	VSS_EVENT_ABORT,
	VSS_EVENT_PRE_RESTORE,
	VSS_EVENT_POST_RESTORE,
};

/** Freeze order: front-end first, system last; thaw in reverse (VSS_APPLICATION_LEVEL). */
enum vss_level {
	VSS_LEVEL_FRONT_END = 0, /**< stores its data through another application; the default */
	VSS_LEVEL_BACK_END = 1,  /**< databases */
	VSS_LEVEL_SYSTEM = 2,
};

/** What a callback answers (vsserror.h: VSS_E_WRITERERROR_*). */
enum vss_result {
	VSS_RESULT_OK = 0,
	VSS_RESULT_LATER = 1, /**< vss_writer_done() will be called */
	VSS_RESULT_INCONSISTENT_SNAPSHOT = -1, /**< 0x800423F0: volumes that the component needs are not in the set */
	VSS_RESULT_OUT_OF_RESOURCES = -2,      /**< 0x800423F1 */
	VSS_RESULT_TIMED_OUT = -3,             /**< 0x800423F2 */
	VSS_RESULT_RETRYABLE = -4,             /**< 0x800423F3: the same may work in a while */
	VSS_RESULT_NON_RETRYABLE = -5,         /**< 0x800423F4 */
};

/** A volume of the set. All pointers into an event are valid until the event is answered. */
struct vss_volume {
	const char *path;       /**< where it is mounted */
	const char *id;         /**< opaque; equal ids are one volume */
	uint32_t instant_group; /**< volumes with the same number are copied at the same instant */
	int copy;               /**< post_snapshot: read-write descriptor of the copy's root directory, or -1. Owned by
				     the library, closed when the event is answered */
};

/** One event. Appended to only; look at `size` before using a field that a later version added. */
struct vss_event_info {
	size_t size;
	enum vss_event event;
	const char *session;    /**< UUID of the backup session; "" for identify */
	const char *set;        /**< UUID of the set; "" before there is one */
	uint64_t deadline_usec; /**< absolute CLOCK_MONOTONIC microseconds by which the answer must be in */
	const char *backup_type; /**< "copy", "full", "incremental", "differential", "log", "other" */
	bool persistent;        /**< the copy outlives the session */
	bool succeeded;         /**< backup_complete: the requestor's word */
	const struct vss_volume *volumes;
	size_t n_volumes;
	const char *const *components; /**< selected "logical/path/name"; n_components 0: all on the volumes */
	size_t n_components;
	bool verify; /**< prepare_backup: a rehearsal, no copy will follow; vss_writer_add_check says what would go wrong */
};

typedef enum vss_result (*vss_event_fn)(struct vss_writer *writer, const struct vss_event_info *event, void *data);

/** The application's side. size = sizeof, version = VSS_WRITER_API_VERSION first; fields are only ever appended.
 * Callbacks other than freeze and thaw may be NULL: then the event is not sent (Abort falls back to thaw). */
struct vss_writer_ops {
	size_t size;
	uint32_t version;

	const char *id;            /**< required: UUID of this kind of writer, lower case */
	const char *name;          /**< required: as `vssctl list writers` shows it, 1-80 characters */
	const char *instance;      /**< UUID of this instance, stable over restarts; NULL: made from id, name, instance_name
					and the machine id */
	const char *instance_name; /**< to tell instances apart for people; may be NULL */
	const char *app_version;   /**< may be NULL */
	enum vss_level level;
	uint32_t freeze_limit_msec; /**< longest freeze that the application bears; 0: 60000, which is also the most */
	bool all_volumes;          /**< takes part in every set, whatever its components */

	vss_event_fn freeze; /**< required */
	vss_event_fn thaw;   /**< required */
	vss_event_fn abort;  /**< NULL: thaw is called */
	vss_event_fn identify; /**< refresh components here (vss_writer_clear_components, vss_writer_add_component) */
	vss_event_fn prepare_backup;
	vss_event_fn prepare_snapshot;
	vss_event_fn post_snapshot;
	vss_event_fn backup_complete;
	vss_event_fn backup_shutdown;
	vss_event_fn pre_restore;
	vss_event_fn post_restore;
};

enum vss_writer_flags {
	VSS_WRITER_DEFAULT = 0,
	VSS_WRITER_THREAD = 1 << 0, /**< run the writer on a thread of the library's own */
};

/** Makes a writer; nothing is sent yet. ops is copied, data is passed to callbacks. Returns 0, or a negative errno: -EINVAL for
 * bad ops (error, if not NULL and error_size > 0, says which field and why). */
int vss_writer_new(struct vss_writer **ret, const struct vss_writer_ops *ops, void *data, char *error, size_t error_size);

/** Unregisters, closes, frees; frozen or prepared for a set: abort is called first, on this thread. Accepts NULL, returns
 * NULL. Not from a callback. */
struct vss_writer *vss_writer_free(struct vss_writer *writer);

struct vss_file_set {
	const char *path; /**< absolute directory */
	const char *spec; /**< pattern of names in it, "*" for all */
	bool recursive;
};

struct vss_component {
	size_t size;
	const char *logical_path; /**< "a/b" or NULL */
	const char *name;         /**< required; unique with logical_path */
	const char *caption;      /**< for people; may be NULL */
	bool database;            /**< else a file group */
	bool selectable;
	const struct vss_file_set *files;
	size_t n_files;
	const char *const *requires_paths; /**< further paths whose volumes must be in the set */
	size_t n_requires;
};

/** Declares what the writer owns (copied). Before vss_writer_start, or in identify. 0 or negative errno. */
int vss_writer_add_component(struct vss_writer *writer, const struct vss_component *component);
void vss_writer_clear_components(struct vss_writer *writer);

/** Connects (bus_address NULL: the system bus, or DBUS_SYSTEM_BUS_ADDRESS) and registers; registers again by itself
 * whenever vssd restarts, and connects again whenever the bus does. That the bus or vssd is not there yet, or that vssd
 * refused, is no error: the library goes on trying, and vss_writer_status tells. 0; -EALREADY, -EINVAL (unknown flag),
 * or what starting a thread fails with. */
int vss_writer_start(struct vss_writer *writer, unsigned flags, const char *bus_address);

/** Event loop integration: poll fd for POLLIN, then dispatch; dispatch never blocks. Dispatch returns 0, or a negative errno
 * when the connection is lost (it goes on trying: keep polling). Not with VSS_WRITER_THREAD. */
int vss_writer_fd(const struct vss_writer *writer);
int vss_writer_dispatch(struct vss_writer *writer);

/** A loop for hosts without one: dispatches until vss_writer_stop. */
int vss_writer_run(struct vss_writer *writer);
void vss_writer_stop(struct vss_writer *writer); /**< async-signal-safe, any thread */

/** The application could not stay frozen (a held connection broke, an operator intervened) and goes on: the coming Thaw
 * is answered "broken" without a call of thaw, and the copy is deleted. message: why, may be NULL. Any thread, also inside
 * freeze. 0; -EALREADY: not frozen. */
int vss_writer_break_freeze(struct vss_writer *writer, const char *message);

/** Answers an event for which the callback returned VSS_RESULT_LATER. Any thread. message (may be NULL) is the writer's
 * own words, shown to administrators. 0; -EALREADY: the event's limit has passed or it was aborted. */
int vss_writer_done(struct vss_writer *writer, enum vss_event event, enum vss_result result, const char *message);

/** Inside a callback: the words that go with the result it will return; with VSS_RESULT_OK they are a remark. */
void vss_writer_set_message(struct vss_writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Inside prepare_backup, thaw (since 0.2) or post_snapshot (or while they are LATER; any thread): a JSON text (at most 256 KiB) that is kept with the copy. 0, -EINVAL, -E2BIG. */
int vss_writer_set_document(struct vss_writer *writer, const char *json);

/** Inside prepare_backup, prepare_snapshot, freeze, thaw or post_snapshot (or while they are LATER; any thread): something of
 * this writer's data is in the copy in a lesser state than the writer stands for otherwise. The set goes on, its label goes down,
 * and the text (UTF-8, names the object and what is wrong with it) is kept as the reason. At most 64 a set. 0, -EINVAL,
 * -ENOMEM. Since 0.2. */
int vss_writer_add_doubt(struct vss_writer *writer, const char *text);

enum vss_verdict {
	VSS_VERDICT_OK,
	VSS_VERDICT_BAD,     /**< a backup would fail here, or be less than asked for */
	VSS_VERDICT_UNKNOWN, /**< cannot be found out; the text says why */
};
/** Inside prepare_backup of an event with `verify` (or while it is LATER; any thread): a row of the checklist that
 * `vssctl verify` prints: of which object, what was looked at, and what was found. UTF-8. At most 2048 rows. 0, -EINVAL,
 * -ENOMEM. Since 0.2. */
int vss_writer_add_check(struct vss_writer *writer, const char *object, const char *check, enum vss_verdict verdict,
			 const char *text);

/** Inside prepare_backup or prepare_snapshot (or while they are LATER; any thread): still at work, start the limit anew. */
int vss_writer_keep_alive(struct vss_writer *writer);

enum vss_writer_status {
	VSS_WRITER_DISCONNECTED, /**< no bus; trying */
	VSS_WRITER_UNREGISTERED, /**< vssd is not there, or refused: see the text */
	VSS_WRITER_REGISTERED,
	VSS_WRITER_FROZEN,
};
/** Where it stands; *ret_text (may be NULL) is the last refusal's text, valid until the next call. */
enum vss_writer_status vss_writer_status(const struct vss_writer *writer, const char **ret_text);

/** Is the path on a volume of the event's set? (CVssWriter::IsPathAffected) By longest mounted prefix. */
bool vss_event_covers_path(const struct vss_event_info *event, const char *path);
const char *vss_event_name(enum vss_event event); /**< "Freeze" */
const char *vss_writer_version(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
