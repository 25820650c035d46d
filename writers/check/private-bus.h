/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A dbus-daemon of vss-writer-check's own, in a temporary directory. */
#pragma once

#include "common/error.h"

struct private_bus;

int private_bus_start(struct private_bus **ret_bus, struct err *err);
struct private_bus *private_bus_stop(struct private_bus *bus);
const char *private_bus_address(const struct private_bus *bus);
const char *private_bus_directory(const struct private_bus *bus); /* files put there are not removed */
