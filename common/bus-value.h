/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between D-Bus values and JSON. D-Bus to JSON: strings, paths and signatures are strings; integers (64-bit unsigned
 * beyond INT64_MAX is refused) are integers; b is a boolean, d a real; arrays and structs are arrays; a{s*} and
 * a{o*} are objects; a variant is its content; h is the descriptor's index.
 * JSON to D-Bus goes by the signature; inside a variant a string is s, a boolean b, an integer x, a real d, an object
 * a{sv}, and an array as, aa{sv} or av, whichever its members allow (an empty one is as).
 * In an object a member whose value is null is left out on the bus.
 * A descriptor inside a variant is written as {"$fd": index}. */
#pragma once

#include <dbus/dbus.h>
#include <jansson.h>

#include "common/error.h"

#define BUS_VALUE_NODES_MAX 200000     /* values in one message */
#define BUS_VALUE_DEPTH_MAX 24
#define BUS_VALUE_FDS_MAX 16
#define BUS_VALUE_SIZE_MAX (30u << 20) /* bytes sent; a bus ends the connection of who sends more than 32 MiB */

/* All arguments of message as a new JSON array; descriptors are put into fds (owned by the caller). */
int bus_value_read(DBusMessage *message, json_t **ret_args, int fds[BUS_VALUE_FDS_MAX], size_t *ret_n_fds,
		   struct err *err);
/* Appends the JSON array args, one element per complete type of signature. */
int bus_value_append(DBusMessage *message, const char *signature, json_t *args, const int *fds, size_t n_fds,
		     struct err *err);
/* Appends one value at an open iterator; signature is one complete type. */
int bus_value_append_to(DBusMessageIter *it, const char *signature, json_t *value, struct err *err);
