/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ids of sets, copies, sessions and writers: random UUIDs, written lower case with hyphens. */
#pragma once

#include <stdbool.h>

#define ID_SIZE 37     /* 36 characters and the NUL */
#define ID_HEX_SIZE 33 /* the 32 digits, as used in object paths and directory names */

void id_new(char id[ID_SIZE]);
bool id_is_valid(const char *id);                       /* "b2014c9e-8711-4c5c-a5a9-3cf384484757", lower case */
void id_to_hex(const char *id, char hex[ID_HEX_SIZE]);  /* a valid id without its hyphens */
bool id_from_hex(const char *hex, char id[ID_SIZE]);    /* false: not 32 lower-case hex digits */
bool id_parse(const char *text, char id[ID_SIZE]);      /* as people type it: braces and upper case accepted */
