/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is kept of a cluster from PrepareSnapshot to PostSnapshot: the way that its copy goes, and what that needs. */
#pragma once

#include <libpq-fe.h>

#include "writers/bundled/bundled.h"
#include "writers/postgresql/clusters.h"

enum way {
	WAY_OFFLINE,	/* it does not run: its files are copied as they are */
	WAY_CHECKPOINT, /* one instant: as after a crash, soon after a checkpoint */
	WAY_BACKUP,	/* several instants: a backup of PostgreSQL's own, which its WAL makes consistent */
};

struct hold {
	enum way way;
	bool one_instant;
	char session[40];
	json_t *layout;		    /* as cluster_layout says at the beginning */
	char control[CONTROL_SIZE]; /* WAY_OFFLINE: it must be the same at the end */
	PGconn *connection;	    /* WAY_BACKUP: its end ends the backup and drops the slot */
	char start[32];		    /* WAY_BACKUP, WAY_CHECKPOINT: a WAL position */
	bool standby;
	int server_version;
};

void hold_free(void *hold);
