/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's monitor (QMP): whether the guest runs, and which files its disks are. It serves one client: the socket has to be one
 * that nobody else uses. */
#pragma once

#include <jansson.h>

#include "common/error.h"
#include "writers/qemu/channel.h"

/* Asks and hangs up. status: "running", "paused", ...; files gets every file of every disk's chain (media that are removable and
 * read-only are left out). CHANNEL_ABSENT: no QEMU runs there. Otherwise err says what is wrong. */
enum channel_result monitor_ask(const char *address, char status[32], json_t *files, const struct patience *patience,
				struct err *err);
