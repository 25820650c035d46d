/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/tape.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char text[1u << 20];
static size_t used;

void tape_clear(void)
{
	used = 0;
	text[0] = '\0';
}

void tape_add(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text + used, sizeof text - used, format, args);
	va_end(args);
	if (n < 0 || used + (size_t)n + 2 > sizeof text)
		abort(); /* a test that loops */
	used += (size_t)n;
	text[used++] = '\n';
	text[used] = '\0';
}

const char *tape_text(void)
{
	return text;
}

size_t tape_count(const char *beginning)
{
	size_t n = 0;

	for (const char *line = text; *line; line = strchr(line, '\n') + 1)
		n += strncmp(line, beginning, strlen(beginning)) == 0;
	return n;
}

int tape_find(const char *beginning)
{
	int n = 0;

	for (const char *line = text; *line; line = strchr(line, '\n') + 1, n++)
		if (strncmp(line, beginning, strlen(beginning)) == 0)
			return n;
	return -1;
}

bool tape_before(const char *a, const char *b)
{
	int first = tape_find(a), second = tape_find(b);

	return first >= 0 && second >= 0 && first < second;
}
