/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sees to it that vss-watch runs while there are copies whose stores may fill: as a unit where systemd is, as a process of
 * its own elsewhere. */
#pragma once

#include <systemd/sd-event.h>

#include "common/bus.h"

struct storage_watch;

/* program: vss-watch. NULL: out of memory. */
struct storage_watch *storage_watch_new(sd_event *event, struct bus *bus, const char *program);
struct storage_watch *storage_watch_free(struct storage_watch *watch);

/* There are such copies, or will be in a moment. One that runs already is no error. */
void storage_watch_wake(struct storage_watch *watch);
