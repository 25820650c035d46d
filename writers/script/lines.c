/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/lines.h"

static void emit(struct lines *lines, line_fn fn, void *data)
{
	lines->text[lines->n] = '\0';
	lines->n = 0;
	fn(lines->text, data);
}

void lines_feed(struct lines *lines, const char *bytes, size_t n, line_fn fn, void *data)
{
	for (size_t i = 0; i < n; i++) {
		char c = bytes[i];

		if (c == '\r')
			continue;
		if (c == '\n') {
			emit(lines, fn, data);
			continue;
		}
		lines->text[lines->n++] = (unsigned char)c < ' ' && c != '\t' ? '?' : c;
		if (lines->n == sizeof lines->text - 1)
			emit(lines, fn, data);
	}
}

void lines_end(struct lines *lines, line_fn fn, void *data)
{
	if (lines->n > 0)
		emit(lines, fn, data);
}
