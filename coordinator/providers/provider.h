/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a provider of shadow copies implements. Every op is synchronous and runs in a vss-worker process, one request
 * at a time; vssd sets a deadline and kills the worker that passes it, so an op may be interrupted anywhere by
 * SIGKILL and must leave nothing that `list` cannot recognise as unfinished and `abort` or `remove` cannot clean up.
 *
 * Ops are stateless: all that they need is in the request and its descriptors, all that they made is in the answer.
 * What has to live from one op to the next (a private mount, an open directory) travels as a descriptor in the answer
 * and is held by vssd for the set's life, so that it vanishes with vssd too.
 *
 * A request is a JSON object; descriptors are named in it by their index in the frame. Strings called Id are UUIDs
 * (common/id.h); sizes are bytes; times "Created" are seconds since the epoch; "Limit" is what is left until vssd
 * gives up, in usec. A copy is addressed by its id and "Filesystem", the UUID of what it lives in: the btrfs, or the
 * volume group. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"

#define PROVIDER_FDS_MAX 128u

/* Descriptors of a request (borrowed) or of an answer (owned by the answer until it is sent). */
struct fd_list {
	int fds[PROVIDER_FDS_MAX];
	size_t n;
};

/* Adds fd (taken) and returns its index; -1 when the list is full (fd is closed). */
int fd_list_add(struct fd_list *list, int fd);

/* An op reads request and fds, and fills answer (an empty object, borrowed) and answer_fds.
 * 0, or -1 with err: the answer is then dropped and its descriptors are closed. */
typedef int (*provider_op_fn)(json_t *request, const struct fd_list *fds, json_t *answer, struct fd_list *answer_fds,
			      struct err *err);

struct provider_op {
	const char *name;
	provider_op_fn run;
};

struct provider {
	const char *id;   /* UUID, fixed for ever */
	const char *name; /* as `vssctl list providers` shows it */
	const char *role; /* the worker's argument: "btrfs" */
	const char *version;
	const struct provider_op *ops; /* ends with a NULL name */
};

extern const struct provider btrfs_provider;
extern const struct provider lvm_provider;
/* Of a provider that was left out of the build: it has no copies. */
extern const struct provider_op absent_ops[];

/* The ops and their JSON. "volume" objects are those that the volumes worker's `resolve` makes (volumes.h).
 *
 * prepare  {"Set": ID, "Host": MACHINE-ID, "Members": [{"Copy": ID, "Volume": volume, "Repair": bool, "Flush": bool}],
 *           "MaxCopies": n of a volume, 512 when absent, "MaxCowCopies": n of a volume whose copies multiply writes}
 *          For each member, in order: checks that Volume.Path still leads to the volume with Volume.Id (VolumeChanged
 *          is VSS_E_OBJECT_NOT_FOUND: "was unmounted or replaced"), limits (copies a volume, free space), opens the
 *          source, makes the unfinished place for the copy, tagged with host and set, and syncs the filesystem where
 *          that shortens the cut, unless Flush is false: then `flush` comes in any case. The volume stays busy while Source is open.
 *       -> {"Members": [{"Copy": ID, "Source": fd, "Store": fd}]}; a provider that holds its volumes may leave them out
 * flush    {"Members": [{"Copy", "Source": fd, "Store": fd}]}    syncfs again, just before Freeze     -> {}
 * cut      the same, with "Repair": bool. Makes the copies, in order, as close together as can be (threads where they
 *          are of different filesystems). Read-write where Repair is true, read-only at once otherwise.
 *       -> {"Members": [{"Copy", "Begin": usec, "End": usec, "Generation": n}]}     CLOCK_MONOTONIC
 * arm      the same, with "Limit": usec left. In place of cut where any of the set's volumes has to be held: after the last
 *          writer has frozen, with writers waiting. Takes the locks that keep others from the storage (vssd holds their
 *          descriptors until the window is over, and closing them is letting go), sees that all is as prepare left it, and
 *          says what is to be done; the guard does it.
 *       -> {"Locks": [fd], "Members": [{"Copy", "Window": {
 *             "Freeze":  [{"Fd": fd, "Path": s, "Device": "MAJ:MIN"}]        a directory of each mounted filesystem
 *             "Suspend": [{"Device": "MAJ:MIN", "Name": s, "Flags": n}]      device-mapper's; Flags are LVM's udev flags
 *             "Cut":     [{"Kind": "resume", "Device", "Name", "Flags"} |
 *                         {"Kind": "message", "Device", "Name", "Message": s} |
 *                         {"Kind": "btrfs-snapshot", "Source": fd, "Store": fd, "Name": s, "ReadOnly": bool}]
 *             "Depth":   n, 0 when absent: what is stacked further up is held first and released last}}]}
 * open     the same as cut, of all members of a set that had a window, else of those with Repair: a read-write directory
 *          descriptor of each copy made with Repair; what a look at the copy tells
 *       -> {"Members": [{"Copy", "Directory": fd or absent, "Generation": n (btrfs), "Clean": false where the filesystem in
 *          the copy is not clean by itself}]}
 * seal     {"Members": [{"Copy", "Store": fd, "Repair": bool, "Record": object}]}
 *          Makes the copies read-only and writes each one's record (at most 1 MiB) beside it, durably; from then on
 *          the copy exists. What was written through descriptors of `open` before is in it, nothing later is.
 *       -> {"Members": [{"Copy", "Device": where the copy is, if that is not known before}]} or {}
 * abort    {"Members": [{"Copy", "Store": fd | "Volume" | "Filesystem": UUID}], "Host": MACHINE-ID, this one's when
 *          absent}: removes the set's copies, sealed ones too; one that is not there is not an error  -> {}
 * list     {"Host": MACHINE-ID, "Known": {FSUUID: {COPY-ID: token string}}, "Devices": [paths named in a request],
 *           "Tokens": {FSUUID: token string}, "Brief": b}
 *          Every mounted filesystem of this kind, each once. Copies whose token is unchanged are named, not read; of a
 *          filesystem that is as its token says, and with Brief of all, no copies are told.
 *       -> {"Filesystems": [{"Uuid": s, "Device": s, "Token": s, "Unchanged": true or absent, "Copies": [{"Copy": ID, "Token": s, "Record": object or absent
 *           when unchanged, "Filesystem": UUID, "Error": s (and a Record, as far as it is known) when the copy is damaged and
 *           can only be removed}], "Unfinished": [{"Copy": ID, "Host": MACHINE-ID, "Set": ID}], being made or half removed,
 *           "Error": s when the filesystem could not be read}]}
 * remove   {"Copy": ID, "Filesystem": UUID, "Host": as in abort}: deletes the copy, finished or not, and all that
 *          belongs to it; durable on return; VSS_E_VOLUME_IN_USE while it is mounted anywhere            -> {}
 * mount    {"Copy": ID, "Filesystem": UUID}: a detached, read-only mount (fsmount) of the copy
 *       -> {"Mount": fd}
 * expose   {"Copy": ID, "Filesystem": UUID, "Path": directory}: mounts it there, read-only, nosuid, nodev
 *       -> {"Path": s}     (worker runs in the host's mount namespace)
 * unexpose {"Path": s, "Copy": ID}: unmounts it; EBUSY is VSS_E_VOLUME_IN_USE, naming who                -> {}
 * record   {"Copy": ID, "Filesystem": UUID} -> {"Record": object}
 * usage    {"Copy": ID, "Filesystem": UUID} -> {"Exclusive": bytes or absent where unknown, "Referenced": ...}
 * check-revert {"Copy": ID, "Filesystem": UUID, "Volume": volume}: changes nothing; fails where `revert` would refuse for
 *          a reason that the writers' letting go does not end
 *       -> {"Kept": the copy is still there after a revert}
 * revert   the same: the volume becomes what the copy says. VSS_E_VOLUME_IN_USE, naming who, where it has to be free and is not
 *       -> {"State": "reverted" | "merging" (it is, and storage still works) | "pending" (when the volume is activated the
 *          next time), "Message": s or absent}
 * reverts  {} -> {"Reverts": [{"Shadow": ID, "Volume": path, "Device": s, "State": "merging" | "pending", "Percent": n}]}
 * end-reverts {}: brings to its end each merge that the kernel is done with; of LVM, for vss-watch                      -> {}
 *
 * Shadow storage. Its rules are vssd's (storage-rules.h lays down the facts); the provider keeps each association in the
 * storage itself: LVM in tags of the origin (vss.storage.on=STORE-ID, vss.storage.max=BYTES|unbounded,
 * vss.storage.guaranteed), btrfs in .vss/storage.json.
 *
 * storage-list   {"Usage": b, with what the stores hold} -> the facts of this role, as storage-rules.h says
 * storage-set    {"For": volume id, "On": store id, "Max": bytes or -1, "Guaranteed": b}, durable on return            -> {}
 *                "On" absent: the association is deleted
 * extend         {"Vg", "Lv", "Size": bytes to be added, "Pvs": [devices], "Metadata": b, of a pool}: of LVM, for vss-watch -> {}
 *
 * A member of `prepare` that vssd has placed also has "StoreSize": bytes, "Pvs": [devices]; the copies that had to make room
 * are gone by then.
 */
