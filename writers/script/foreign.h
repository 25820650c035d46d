/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Executables that were written for somebody else's hooks and are used as they are: which of them serve an event, in which
 * order, with which arguments. What each format is: docs/man/vss-script-writer.8, "FOREIGN HOOKS". */
#pragma once

#include "writers/script/commands.h"
#include "writers/script/config.h"

/* As commands_find, for a configuration whose format is not FORMAT_NATIVE. */
int foreign_find(struct commands *commands, const struct config *config, enum vss_event event, struct err *err);

bool foreign_is_qemu_hook(const char *name); /* not one of those that QEMU's dispatcher passes over */
