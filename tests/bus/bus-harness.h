/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A private dbus-daemon for one test program, in a directory of its own, which no other process knows of. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/bus.h"

struct bus_harness;

/* Starts dbus-daemon with a policy that allows everything and limits that no test reaches, and exports its address as
 * DBUS_SYSTEM_BUS_ADDRESS. Failures are printed on stderr; NULL then. */
struct bus_harness *bus_harness_start(void);
/* The same with a configuration of the caller's (NULL: the same): every "@DIR@" in it is replaced by the harness' directory, which
 * must be used for <listen>unix:path=@DIR@/bus</listen>. Prepared files (services, policies) can be put there by
 * fill (nullable), which runs before the daemon starts; the directory is removed with all that is in it. */
typedef int (*bus_harness_fill_fn)(const char *directory, void *data);
struct bus_harness *bus_harness_start_with(const char *config, bus_harness_fill_fn fill, void *data);

/* Ends the daemon (by its pid), removes the directory, restores DBUS_SYSTEM_BUS_ADDRESS. NULL is accepted. */
struct bus_harness *bus_harness_stop(struct bus_harness *harness);

const char *bus_harness_address(const struct bus_harness *harness);
const char *bus_harness_directory(const struct bus_harness *harness);
pid_t bus_harness_pid(const struct bus_harness *harness);

/* Dispatches the buses (at most 64; NULL ones are skipped) until *flag is set; false after milliseconds without it.
 * flag NULL: dispatches for that long. */
bool bus_harness_run(struct bus *const *buses, size_t n, const bool *flag, unsigned milliseconds);
