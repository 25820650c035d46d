/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssd's configuration: an ini file with documented defaults (docs/man/vssd.conf.5). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct config {
	/* [Coordinator] */
	uint64_t idle_timeout; /* IdleTimeoutSec=180; 0 in the file: never ends (USEC_INFINITY here) */
	unsigned max_sessions; /* MaxSessions=64 */
	unsigned max_volumes;  /* MaxVolumes=64, a set */
	unsigned max_writers;  /* MaxWriters=4096 */
	char machine_id[33];   /* MachineId=: 32 hex digits with which copies are tagged as this machine's; empty:
				  /etc/machine-id. For containers that share filesystems, each with a vssd */

	/* [Limits], all in usec here, in seconds (or with a unit: 500ms, 2min) in the file */
	uint64_t identify;        /* Identify=60 */
	uint64_t prepare_backup;  /* PrepareBackup=600 */
	uint64_t prepare_snapshot;/* PrepareSnapshot=600 */
	uint64_t freeze;          /* Freeze=60: the longest hold of any writer, whatever it asks for */
	uint64_t event;           /* Event=60: every other event */
	uint64_t probe;           /* Probe=2 */
	uint64_t wait;            /* Wait=60: queueing behind other sets unless the requestor says otherwise */
	uint64_t resolve;         /* Resolve=10: a worker's answer about paths */
	uint64_t prepare_copies;  /* PrepareCopies=120: a provider's prepare and flush */
	uint64_t cut;             /* Cut=10 */
	uint64_t mixed_hold;      /* MixedHoldLimit=500ms: what the copy of a btrfs may add to the hold of other volumes */
	uint64_t finish_copies;   /* FinishCopies=60: open, seal, abort, mount, expose */
	uint64_t remove_copies;   /* RemoveCopies=300: deletion of one copy */

	/* [Copies] */
	unsigned max_copies;     /* MaxCopiesPerVolume=512 */
	unsigned max_cow_copies; /* MaxCowCopiesPerVolume=8: of a logical volume that is not thin; each multiplies its writes */
};

void config_defaults(struct config *config);

/* Reads path over what config holds. A missing file is no error (0). -1: err names file, line, key, what is allowed;
 * config is then unchanged. Unknown sections and keys are errors too. */
int config_read(struct config *config, const char *path, struct err *err);

/* Time spans as people write them: "90", "90s", "500ms", "2min", "1h". -1: not one. */
int config_parse_usec(const char *text, uint64_t *ret_usec);
