/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/log.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/names.h"
#include "common/text.h"

#define LINE_SIZE 1024 /* below PIPE_BUF: a pipe that is writable takes a line whole */
#define RING_LINES 256

/* The one thing of vssd that is a process's, not an object's: stderr. */
static struct {
	char lines[RING_LINES][LINE_SIZE];
	size_t first, used;
	unsigned long lost;
} ring;

static bool write_line(const char *line)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (poll(&fd, 1, 0) <= 0 || !(fd.revents & POLLOUT))
		return false;
	return write(STDERR_FILENO, line, strlen(line)) >= 0 || errno != EAGAIN;
}

void log_flush(void)
{
	char line[64];

	if (ring.lost) {
		snprintf(line, sizeof line, "<4>%lu lines of the log were lost\n", ring.lost);
		if (!write_line(line))
			return;
		ring.lost = 0;
	}
	while (ring.used > 0 && write_line(ring.lines[ring.first])) {
		ring.first = (ring.first + 1) % RING_LINES;
		ring.used--;
	}
}

static void keep_line(const char *line)
{
	if (ring.used == RING_LINES) {
		ring.first = (ring.first + 1) % RING_LINES;
		ring.used--;
		ring.lost++;
	}
	memcpy(ring.lines[(ring.first + ring.used++) % RING_LINES], line, LINE_SIZE);
}

/* What a stranger said may be in it: a line stays one line. */
static void escape_controls(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7F)
			*text = ' ';
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[LINE_SIZE] = "";
	va_list args;

	if (level == LOG_LEVEL_DEBUG && !getenv(VSS_ENV_DEBUG))
		return;

	if (getenv("JOURNAL_STREAM")) /* the journal takes the level from a prefix */
		snprintf(line, sizeof line, "<%d>", (int)level);
	size_t used = strlen(line);
	va_start(args, format);
	text_vformat(line + used, sizeof line - used - 1, format, args);
	va_end(args);
	escape_controls(line);
	text_append(line, sizeof line, "\n");
	log_flush();
	if (ring.used > 0 || ring.lost || !write_line(line))
		keep_line(line);
}
