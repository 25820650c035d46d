/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One script writer: a VSS writer whose events are carried out by executables or a co-process. */
#pragma once

#include <systemd/sd-event.h>

#include "common/error.h"

struct script_writer;

/* Called once the writer, asked to stop, has let its application go on. It may be freed in here. */
typedef void (*script_writer_stopped_fn)(struct script_writer *writer, void *data);

/* Reads the configuration, checks that there is something to run, and registers. runtime_directory (borrowed) is an
 * open directory for notes; bus_address may be NULL. If a crash left the application frozen, abort is carried out
 * first. */
int script_writer_new(struct script_writer **ret, sd_event *loop, const char *config_file, int runtime_directory,
		      const char *bus_address, struct err *err);
struct script_writer *script_writer_free(struct script_writer *writer); /* accepts NULL, returns NULL */
/* Ends what is under way; if the application is frozen, carries out abort. stopped is called from the loop. */
void script_writer_stop(struct script_writer *writer, script_writer_stopped_fn stopped, void *data);
const char *script_writer_name(const struct script_writer *writer);
