/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Libvirt's domains, by way of vss-qemu-libvirt, a program of its own that is there only where libvirt is built in: its calls
 * block, and a process can be killed. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"
#include "writers/qemu/patience.h"

#define LIBVIRT_ADDRESS "libvirt:" /* "libvirt:URI DOMAIN", in place of a socket's path */

bool libvirt_is_built_in(void);
/* [{"Name", "Running": b, "Files": [paths]}]; NULL: err. */
json_t *libvirt_domains(const char *uri, const struct patience *patience, struct err *err);
/* Starts the program that passes commands on to the domain's agent. Its end of the stream, or a negative errno. */
int libvirt_agent(const char *address, pid_t *ret_pid);
