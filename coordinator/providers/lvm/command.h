/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LVM's own commands, run in this process. LVM calls its library internal, and what it does to a process (umask, locked
 * memory, global state) is fit for a worker only: it stays behind this file, which could run the program lvm instead.
 */
#pragma once

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

#define LVM_COMMAND_SIZE 16384u

/* Whether there can be logical volumes here at all: the kernel has device-mapper, and LVM is installed. */
bool lvm_is_here(void);

/* Runs a command such as "lvchange --addtag x vg/lv". Words must be of the characters that LVM allows in names and
 * tags; LVM takes at most 64. -1 with LVM's own words after `what`. Never while this process holds a volume group's
 * lock. */
int lvm_run(struct err *err, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Runs a reporting command ("lvs -o ..."); *ret gets the rows: objects, all their values strings. Where LVM reports and
 * fails all the same (a group is incomplete, or there is none), the rows are given and *ret_complaint, unless NULL,
 * gets LVM's words (to be freed; NULL when it has none). -1 with err when there are no rows at all. */
int lvm_report(json_t **ret, char **ret_complaint, struct err *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A setting as LVM has it: "global/locking_dir". False when it has no such thing. */
bool lvm_setting(const char *name, char *value, size_t size);

/* The name by which groups belong to this machine; "" where it has none. */
void lvm_system_id(char *value, size_t size);

/* Whether a child of this process has the memory that was allocated since LVM was loaded (as children have, unless told
 * otherwise). It is so much that both would pay for it page by page: one that needs nothing of it does without. */
void lvm_share_heap(bool shared);

/* Whether the words may stand in a command. */
bool lvm_is_plain(const char *text);
