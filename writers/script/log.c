/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void log_line(int level, const char *who, const char *format, ...)
{
	char text[2048];
	int n = 0;
	va_list args;

	if (getenv("JOURNAL_STREAM"))
		n = snprintf(text, sizeof text, "<%d>", level);
	if (who)
		n += snprintf(text + n, sizeof text - (size_t)n, "%.100s: ", who);
	va_start(args, format);
	int m = vsnprintf(text + n, sizeof text - (size_t)n - 1, format, args);
	va_end(args);
	n = m < 0 ? n : n + m;
	if ((size_t)n > sizeof text - 2)
		n = sizeof text - 2;
	text[n++] = '\n';
	(void)!write(STDERR_FILENO, text, (size_t)n); /* in one piece; there is nowhere to complain */
}
