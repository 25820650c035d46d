/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an executable learns of its event: VSS_EVENT, VSS_SESSION, ... (docs/man/vss-script-writer.8, "ENVIRONMENT"). */
#pragma once

#include "writers/script/config.h"
#include "writers/vsswriter.h"

/* Appends the event's variables, "VSS_EVENT=freeze" and so on. Volume n's copy is found at fd_directory/N, where N is
 * the next one of fd_numbers. 0 or -1 (out of memory). */
int environment_add_event(char ***variables, const struct config *config, const struct vss_event_info *event,
			  const char *fd_directory, const int *fd_numbers);
/* Appends PATH, LANG, HOME, ... and what the configuration adds; nothing of our own environment. */
int environment_add_base(char ***variables, const struct config *config);
/* The line for a co-process: the event's name, then the variables, separated by spaces; in values, bytes up to space,
 * "%" and DEL are written %XX. With its newline. NULL: out of memory. */
char *environment_line(const char *event, char *const *variables);
