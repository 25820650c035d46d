/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/text.h"

#include <stdio.h>
#include <string.h>

/* How many bytes the character that begins with this byte has. */
static size_t character_length(unsigned char first)
{
	return first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
}

/* Drops the bytes of a character that the buffer's end has cut in two. */
static void trim_cut_character(char *text)
{
	size_t end = strlen(text), start = end;

	while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
		start--;
	if (start > 0 && character_length((unsigned char)text[start - 1]) > end - start + 1)
		text[start - 1] = '\0';
}

void text_vformat(char *buffer, size_t size, const char *format, va_list args)
{
	int length = vsnprintf(buffer, size, format, args);

	if (length >= 0 && (size_t)length >= size)
		trim_cut_character(buffer);
}

void text_format(char *buffer, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_vformat(buffer, size, format, args);
	va_end(args);
}

void text_append(char *buffer, size_t size, const char *format, ...)
{
	size_t used = strlen(buffer);
	va_list args;

	va_start(args, format);
	text_vformat(buffer + used, size - used, format, args);
	va_end(args);
}
