/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside libvssrequestor: one backup session, shared by backup.c (short calls) and operation.c (long ones). */
#pragma once

#include "common/id.h"
#include "common/names.h"
#include "requestor/connection.h"

struct vss_backup {
	struct vss_connection *connection;
	struct bus_watch *watch; /* the session's signals */
	char id[ID_SIZE];
	char path[sizeof VSS_SESSION_PATH + ID_HEX_SIZE];
	vss_progress_fn progress;
	void *progress_data;

	const char *operation; /* the long method that is being waited for, or NULL */
	bool finished;	       /* its end is known: result, or lost */
	json_t *result;
	const char *previous; /* the long method before it: its result is not mistaken for the new one's */

	bool persistent; /* the copies outlive the session */
	bool created;	 /* the set is made */
	bool unfinished; /* an operation was left under way, or failed */
	bool closed;	 /* detached, aborted, or lost: nothing to close */
};

/* A short call of the session. When vssd went away under it, the call is made once more at the one that comes back,
 * if that still knows the session. args is taken. */
int session_call(struct vss_backup *backup, const char *method, const char *signature, json_t *args, uint64_t limit,
		 struct answer *answer, struct vss_failure *error);
/* The properties as the present vssd has them; CoordinatorRestarted if it does not know the session. */
int session_properties(struct vss_backup *backup, json_t **ret_properties, struct vss_failure *error);

/* A long method: call, then its Finished, over a restart of vssd too. *ret_result is set whenever it has one. */
int operation_run(struct vss_backup *backup, const char *method, json_t *options, json_t **ret_result,
		  struct vss_failure *error);
/* For the session's signals. */
void operation_signal(const char *path, const char *member, json_t *args, void *data);
