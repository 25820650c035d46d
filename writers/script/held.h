/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A note on /run that a writer's application is frozen: whoever starts after a crash of ours lets it go on. */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "common/id.h"

/* directory is open and outlives the calls. */
int held_set(int directory, const char *id, const char *session, const char *set, struct err *err);
void held_clear(int directory, const char *id);
/* True: there is a note; session and set are what it says ("" where it is damaged). */
bool held_read(int directory, const char *id, char session[ID_SIZE], char set[ID_SIZE]);
