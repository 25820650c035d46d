/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each event means for a server. */
#pragma once

#include "writers/redis/server.h"

enum vss_result server_serve(struct bundled_task *task);
void hold_free(void *hold);

/* What a rehearsal tries as well. A failure is in task->message. */
enum vss_result server_check_pause(struct bundled_task *task, redisContext *context, const char *version);
enum vss_result server_check_files(struct bundled_task *task, redisContext *context);
/* The process that was seen when the server was found. */
bool server_is_alive(const struct bundled_task *task);
