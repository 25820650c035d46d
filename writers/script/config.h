/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration of one script writer: docs/man/vss-script-writer.8, "CONFIGURATION". */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "writers/script/event-name.h"
#include "writers/vsswriter.h"

/* Whose rules the executables follow; docs/man/vss-script-writer.8, "FOREIGN HOOKS". */
enum config_format { FORMAT_NATIVE, FORMAT_QEMU_HOOKS, FORMAT_VMWARE_SCRIPTS, FORMAT_AZURE_PLUGIN };

struct config {
	char *file;
	char *id, *name, *instance_name, *version, *caption;
	enum vss_level level;
	unsigned freeze_limit_msec; /* 0: vssd's */
	uint64_t event_limit;	    /* usec; 0: vssd's */
	bool all_volumes;
	char **paths, **requires;

	char *user; /* NULL: as we are */
	uid_t uid;
	gid_t gid;
	char *home;
	char **environment; /* "NAME=VALUE" */

	enum config_format format;
	char *directory; /* of the formats that have one */
	char *plugin;	 /* the file of FORMAT_AZURE_PLUGIN */

	char *hooks;			/* a directory; may be NULL */
	char **commands[SCRIPT_EVENTS]; /* argv of the events that have one of their own */
	char **coprocess;		/* argv; may be NULL */
	unsigned coprocess_events;	/* bits */
};

/* Reads a file, which must be trusted (trust.h). -1: err names file, line and what is allowed; config is empty. */
int config_read(struct config *config, const char *path, struct err *err);
void config_done(struct config *config);
