/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* NULL-ended lists of strings, as execve takes them. NULL is an empty list. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

size_t strv_length(char *const *strv);
/* Appends a copy of text, or what the format makes; 0 or -1 (out of memory, the list is unchanged). */
int strv_add(char ***strv, const char *text);
int strv_addf(char ***strv, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends the parts of text between any of the separators; empty ones are left out. */
int strv_split(char ***strv, const char *text, const char *separators);
bool strv_has(char *const *strv, const char *text);
void strv_remove(char **strv, const char *text); /* the first one, if there is any */
char **strv_free(char **strv); /* returns NULL */
