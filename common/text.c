/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/text.h"

#include <stdio.h>
#include <string.h>

/* How many bytes the UTF-8 character at text has; 0 if they are none (cut in two, overlong, a surrogate, too large). */
static size_t character_length(const unsigned char *text)
{
	size_t length = text[0] >= 0xF0 ? 4 : text[0] >= 0xE0 ? 3 : text[0] >= 0xC2 ? 2 : 1;

	if (text[0] > 0xF4 || (length == 1 && text[0] >= 0x80))
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xC0) != 0x80)
			return 0;
	if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] >= 0xA0) ||
	    (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] >= 0x90))
		return 0;
	return length;
}

/* Drops bytes that are no character: the buffer's end or a precision ("%.64s") may have cut one in two, and what is not
 * UTF-8 fits neither into JSON nor on the bus. */
static void drop_broken_characters(char *text)
{
	char *out = text;

	while (*text) {
		size_t length = character_length((const unsigned char *)text);
		memmove(out, text, length);
		out += length;
		text += length ? length : 1;
	}
	*out = '\0';
}

void text_vformat(char *buffer, size_t size, const char *format, va_list args)
{
	if (vsnprintf(buffer, size, format, args) >= 0)
		drop_broken_characters(buffer);
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
