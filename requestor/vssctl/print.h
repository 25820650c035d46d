/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The outputs for people. Rows must be printable already (rows_printable). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

void print_writer(FILE *out, json_t *row); /* VSS's five lines */
void print_writers(FILE *out, json_t *rows, bool verbose);
void print_providers(FILE *out, json_t *rows, bool verbose);
void print_shadows(FILE *out, json_t *rows, bool verbose);
void print_volumes(FILE *out, json_t *rows, bool verbose);
void print_candidates(FILE *out, json_t *rows);
void print_shadowstorage(FILE *out, json_t *rows, bool verbose);
void print_sessions(FILE *out, json_t *rows, bool verbose, int64_t now);
void print_waiting(FILE *out, json_t *rows); /* who each session waits for */
void print_created(FILE *out, json_t *result, bool verbose);
void print_timeline(FILE *out, json_t *rows);
void print_verification(FILE *out, json_t *properties);
void print_revert_preview(FILE *out, json_t *result);
void print_reverted(FILE *out, json_t *result);
void print_reverts(FILE *out, json_t *rows);
