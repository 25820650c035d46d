/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happened in a test, in order, as lines that a test compares as a whole. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

void tape_clear(void);
void tape_add(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* All lines, each ends with a newline. */
const char *tape_text(void);
/* How many lines begin with this. */
size_t tape_count(const char *beginning);
/* Number (from 0) of the first line that begins with this; -1: there is none. */
int tape_find(const char *beginning);
/* Both there, and the first of a before the first of b. */
bool tape_before(const char *a, const char *b);
