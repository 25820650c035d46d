/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Notes on /run of guests that are, or may be, frozen by us: written before the agent is asked to freeze, removed when it has
 * said that it is thawed. Whoever comes after us thaws by them. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"

#define NOTE_FILE_SIZE 280

/* "NAME.frozen", with what does not belong into a file's name as %XX. */
void note_file(const char *guest, char file[NOTE_FILE_SIZE]);
/* {"Guest", "Agent", "Disks": [...], "Set", "Since" (epoch), "ThawFor" (usec)}; durable as long as the machine runs. */
int note_write(int directory, const char *guest, json_t *note, struct err *err);
void note_remove(int directory, const char *guest);
bool note_exists(int directory, const char *guest);
json_t *note_read(int directory, const char *file); /* NULL: there is none that makes sense */
/* Opens the directory of notes: systemd's RuntimeDirectory= or our own. -1: errno. */
int notes_open(void);
