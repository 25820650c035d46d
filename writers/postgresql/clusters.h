/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Database clusters on this machine: where they are, and what belongs to them. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

#define CONTROL_SIZE 512 /* of pg_control, what the server writes at once; the rest are zeros */

/* discover of the kind. A row's own members: DataDirectory s, Wal s (without links), Tablespaces {oid: path}, Version s;
 * Unreadable s: why it cannot be served. */
json_t *clusters_discover(const json_t *settings, struct err *err);

/* What a data directory (without links) consists of now: {Wal s, Tablespaces {oid: path}, Paths [s]}. NULL: err. */
json_t *cluster_layout(const char *data_directory, struct err *err);

/* Of postmaster.pid. */
struct postmaster {
	bool running;
	pid_t pid;
	char port[16], directory[256], status[16]; /* directory: of its socket, or else the address that it listens on */
};
/* Reads it and asks whether that process is there. -1: err. */
int cluster_postmaster(const char *data_directory, struct postmaster *postmaster, struct err *err);
int cluster_control(const char *data_directory, char control[CONTROL_SIZE], struct err *err);
