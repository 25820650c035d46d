/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Cuts a stream of bytes into lines. Control characters become "?", so that a line is safe in a log. */
#pragma once

#include <stddef.h>

#define LINE_SIZE 1024 /* longer lines come in pieces */

struct lines {
	char text[LINE_SIZE];
	size_t n;
};

typedef void (*line_fn)(const char *line, void *data);

void lines_feed(struct lines *lines, const char *bytes, size_t n, line_fn fn, void *data);
void lines_end(struct lines *lines, line_fn fn, void *data); /* what has come without a newline */
