/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* COMMAND of vssctl backup: its arguments, its environment, its life. */
#pragma once

#include <stdbool.h>

#include "requestor/vssctl/root.h"

/* argv with every {} replaced by root. Caller frees with command_free. */
char **command_expand(const char *const *argv, const char *root);
void command_free(char **argv);

/* Runs argv with the copies mounted below root, and waits for it. stdout_to_stderr: its output is kept apart from
 * ours. Returns the exit code to pass on (128 + signal if one ended it); *ret_started tells whether it ever ran, and
 * why it did not is in why then. */
int command_run(char *const *argv, const char *root, const struct copy_mount *copies, size_t n, bool stdout_to_stderr,
		bool *ret_started, char why[512]);
