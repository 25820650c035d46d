/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text in fixed buffers, cut on a character, never inside one. What is no UTF-8 is dropped: it fits neither into JSON nor on
 * the bus. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

void text_format(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
void text_vformat(char *buffer, size_t size, const char *format, va_list args) __attribute__((format(printf, 3, 0)));
/* At the end of what is there. */
void text_append(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
