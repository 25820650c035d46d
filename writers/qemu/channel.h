/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A stream of JSON lines to a guest agent or a QEMU monitor. Whatever comes over it is a guest's word: lines are bounded, and
 * nothing is waited for without an end. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "writers/qemu/patience.h"

#define CHANNEL_LINE_MAX (1u << 20)
#define CHANNEL_SKIP_MAX (16u << 20) /* what is passed over in search of one answer */
#define CHANNEL_SENTINEL 0xFF	     /* no byte of JSON: sent, it resets the agent's parser; received, an answer begins */

enum channel_result {
	CHANNEL_OK,
	CHANNEL_ABSENT,	   /* nobody listens there */
	CHANNEL_SILENT,	   /* nothing came in time */
	CHANNEL_CANCELLED, /* nobody wants to know any more */
	CHANNEL_GONE,	   /* the other side hung up */
	CHANNEL_GARBLED,   /* what came is no JSON line, or too long */
	CHANNEL_FAILED,	   /* this side's system call failed */
};

struct channel {
	int fd;	      /* -1: closed */
	pid_t bridge; /* the process at the other end, where that is one of ours; 0 */
	char *buffer;
	size_t used, line; /* bytes that are there; of these, the line that was given last */
	char why[256];	   /* of the last result that was not OK, in an administrator's words */
};

void channel_init(struct channel *channel);
void channel_close(struct channel *channel);
/* address: the path of a unix socket, or of a domain of libvirt (libvirt.h). */
enum channel_result channel_open(struct channel *channel, const char *address, const struct patience *patience);
enum channel_result channel_send(struct channel *channel, const void *bytes, size_t n, const struct patience *patience);
/* The next line, without its end; valid until the next call. Empty ones are passed over. */
enum channel_result channel_line(struct channel *channel, char **ret_line, const struct patience *patience);
/* Passes over everything up to and including the next sentinel. */
enum channel_result channel_skip_to_sentinel(struct channel *channel, const struct patience *patience);
/* A line as JSON object; *ret is the caller's. */
enum channel_result channel_json(struct channel *channel, json_t **ret, const struct patience *patience);
