/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* To stderr, which is the journal where systemd started us: then with syslog's level in front. */
#pragma once

#include <syslog.h>

/* level: LOG_ERR, LOG_WARNING, LOG_INFO. who: the writer's name; NULL for the program itself. */
void log_line(int level, const char *who, const char *format, ...) __attribute__((format(printf, 3, 4)));
