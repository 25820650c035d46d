/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/id.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static bool is_hyphen_place(int i)
{
	return i == 8 || i == 13 || i == 18 || i == 23;
}

static bool is_lower_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

void id_new(char id[ID_SIZE])
{
	uint8_t b[16];

	/* Cannot fail or block: 16 bytes, and the pool is ready long before anything of ours runs. */
	(void)!getrandom(b, sizeof b, 0);
	b[6] = (uint8_t)((b[6] & 0x0F) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3F) | 0x80);
	snprintf(id, ID_SIZE, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
		 b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

bool id_is_valid(const char *id)
{
	if (strlen(id) != ID_SIZE - 1)
		return false;
	for (int i = 0; i < ID_SIZE - 1; i++)
		if (is_hyphen_place(i) ? id[i] != '-' : !is_lower_hex(id[i]))
			return false;
	return true;
}

void id_to_hex(const char *id, char hex[ID_HEX_SIZE])
{
	int n = 0;

	for (; *id && n < ID_HEX_SIZE - 1; id++)
		if (*id != '-')
			hex[n++] = *id;
	hex[n] = '\0';
}

bool id_from_hex(const char *hex, char id[ID_SIZE])
{
	int n = 0;

	if (strlen(hex) != ID_HEX_SIZE - 1)
		return false;
	for (; *hex; hex++) {
		if (!is_lower_hex(*hex))
			return false;
		if (is_hyphen_place(n))
			id[n++] = '-';
		id[n++] = *hex;
	}
	id[n] = '\0';
	return true;
}

bool id_parse(const char *text, char id[ID_SIZE])
{
	char lower[ID_SIZE + 2];
	size_t length = strlen(text);

	if (length >= 2 && text[0] == '{' && text[length - 1] == '}') {
		text++;
		length -= 2;
	}
	if (length >= ID_SIZE)
		return false;
	for (size_t i = 0; i < length; i++)
		lower[i] = (char)tolower((unsigned char)text[i]);
	lower[length] = '\0';
	if (id_is_valid(lower)) {
		memcpy(id, lower, ID_SIZE);
		return true;
	}
	return id_from_hex(lower, id);
}
