/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading vssd's rows, and writing them for people and for programs. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

const char *row_text(json_t *row, const char *key); /* "" if absent */
int64_t row_number(json_t *row, const char *key);   /* 0 if absent */
bool row_true(json_t *row, const char *key);
char *row_join(json_t *row, const char *key, const char *separator); /* an array of strings; caller frees */

/* A copy of value for text output: nothing that a stranger wrote moves the cursor, changes colours or the direction
 * of text. Control characters become \xNN, others of that kind \u{NNNN}, bytes that are not UTF-8 \xNN. */
json_t *rows_printable(json_t *value);
char *text_printable(const char *text); /* the same for one string; caller frees */

void print_time(FILE *out, int64_t epoch); /* 2026-11-22 03:50:16 +0000 */
void print_msec(FILE *out, int64_t usec);  /* "12.3 ms" */
void format_age(char text[32], int64_t usec);

/* One JSON document on out: {"command": ..., key: value}. value is borrowed. */
int print_json(FILE *out, const char *command, const char *key, json_t *value);
