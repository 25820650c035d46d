/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a board tells: the failure in words for people, the answer to vssd, the rows of a status. */
#pragma once

#include <jansson.h>

#include "common/error.h"
#include "coordinator/guard/board.h"

/* Fills err from the board's fault; -1, or 0 when there is none. */
int verdict_error(const struct board *board, struct err *err);
/* {"ok": true, "Begin", "End", "Filesystems", "Devices", "Cuts"}, or {"ok": false, "error", "Stuck"}. */
json_t *verdict_answer(const struct board *board);
json_t *verdict_failure(const struct err *err);
/* Names of what may still be held. */
json_t *verdict_stuck(const struct board *board);
/* Appends a row for each object that is or may be held. */
void verdict_held(const struct board *board, json_t *rows);
