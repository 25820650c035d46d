/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requestor/vssctl/rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"

const char *row_text(json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text ? text : "";
}

int64_t row_number(json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

bool row_true(json_t *row, const char *key)
{
	return json_is_true(json_object_get(row, key));
}

char *row_join(json_t *row, const char *key, const char *separator)
{
	char *text = NULL;
	size_t size, index;
	json_t *item;
	FILE *stream = open_memstream(&text, &size);

	if (!stream)
		return NULL;
	json_array_foreach(json_object_get(row, key), index, item)
		fprintf(stream, "%s%s", index ? separator : "", json_string_value(item) ?: "");
	fclose(stream);
	return text;
}

/* ---- strangers' words ---- */

/* The length of the UTF-8 character at s and its code point; 0 if there is none (overlong forms included). */
static size_t utf8_decode(const unsigned char *s, uint32_t *ret_code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = *s < 0x80 ? 1 : *s >= 0xf0 ? 4 : *s >= 0xe0 ? 3 : 2;
	uint32_t code = n == 1 ? *s : *s & (0x7fu >> n);

	if (*s >= 0xf8 || (*s >= 0x80 && *s < 0xc2))
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	*ret_code = code;
	return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : n;
}

/* Line and paragraph separators, and what turns the direction of the text around. */
static bool is_treacherous(uint32_t code)
{
	return (code >= 0x80 && code < 0xa0) || code == 0x061c || code == 0x200e || code == 0x200f ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

char *text_printable(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	char *result = NULL;
	size_t size;
	FILE *stream = open_memstream(&result, &size);

	if (!stream)
		return NULL;
	while (*s) {
		uint32_t code = 0;
		size_t n = utf8_decode(s, &code);

		if (n == 0 || code < 0x20 || code == 0x7f)
			fprintf(stream, "\\x%02x", *s);
		else if (is_treacherous(code))
			fprintf(stream, "\\u{%04" PRIx32 "}", code);
		else
			fwrite(s, 1, n, stream);
		s += n ? n : 1;
	}
	fclose(stream);
	return result;
}

static bool is_plain_ascii(const char *text)
{
	while (*text >= 0x20 && *text < 0x7f)
		text++;
	return *text == '\0';
}

static bool is_plain(json_t *value)
{
	const char *key;
	size_t index;
	json_t *item;

	if (json_is_string(value))
		return is_plain_ascii(json_string_value(value));
	json_array_foreach(value, index, item)
		if (!is_plain(item))
			return false;
	json_object_foreach(value, key, item)
		if (!is_plain(item))
			return false;
	return true;
}

/* Nearly all that is printed is plain, and is not copied then. */
json_t *rows_printable(json_t *value)
{
	const char *key;
	size_t index;
	json_t *item, *copy;

	if (is_plain(value))
		return json_incref(value);
	switch (json_typeof(value)) {
	case JSON_STRING: {
		autofree char *text = text_printable(json_string_value(value));
		return json_string(text ? text : "?");
	}
	case JSON_ARRAY:
		copy = json_array();
		json_array_foreach(value, index, item)
			json_array_append_new(copy, rows_printable(item));
		return copy;
	case JSON_OBJECT:
		copy = json_object();
		json_object_foreach(value, key, item)
			json_object_set_new(copy, key, rows_printable(item));
		return copy;
	case JSON_INTEGER:
	case JSON_REAL:
	case JSON_TRUE:
	case JSON_FALSE:
	case JSON_NULL:
		break;
	}
	return json_incref(value);
}

/* ---- times and documents ---- */

void print_time(FILE *out, int64_t epoch)
{
	time_t seconds = (time_t)epoch;
	char text[64] = "unknown";
	struct tm tm;

	if (epoch > 0 && localtime_r(&seconds, &tm))
		strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z", &tm);
	fputs(text, out);
}

void print_msec(FILE *out, int64_t usec)
{
	fprintf(out, "%" PRId64 ".%" PRId64 " ms", usec / 1000, usec % 1000 / 100);
}

void format_age(char text[32], int64_t usec)
{
	int64_t seconds = usec / 1000000;

	if (seconds < 120)
		snprintf(text, 32, "%" PRId64 " s", seconds);
	else if (seconds < 2 * 3600)
		snprintf(text, 32, "%" PRId64 " min", seconds / 60);
	else if (seconds < 48 * 3600)
		snprintf(text, 32, "%" PRId64 " h", seconds / 3600);
	else
		snprintf(text, 32, "%" PRId64 " d", seconds / 86400);
}

int print_json(FILE *out, const char *command, const char *key, json_t *value)
{
	autojson json_t *document = json_pack("{sssO}", "command", command, key, value);

	if (!document || json_dumpf(document, out, JSON_INDENT(2)) < 0)
		return -1;
	fputc('\n', out);
	return 0;
}
