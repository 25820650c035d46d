/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/ini.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/cleanup.h"

#define INI_SIZE_MAX (64u << 10)

struct ini {
	const char *name;
	unsigned line;
	const char *section; /* points into the text; "" before the first header */
	ini_entry_fn fn;
	void *data;
	struct err *err;
};

static int fail(struct ini *ini, const char *what)
{
	return err_set(ini->err, VSS_E_INVALID_DOCUMENT, "%s:%u: %s", ini->name, ini->line, what);
}

/* Reads to the end, one byte more than is allowed at most, so that too long a file is noticed. */
static int read_text(int fd, const char *name, char *text, size_t *ret_size, struct err *err)
{
	size_t size = 0;

	while (size <= INI_SIZE_MAX) {
		ssize_t n = read(fd, text + size, INI_SIZE_MAX + 1 - size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, VSS_E_UNEXPECTED, "%s cannot be read", name);
		if (n == 0)
			break;
		size += (size_t)n;
	}
	if (size > INI_SIZE_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "%s is larger than 64 KiB, the limit for such files", name);
	text[size] = '\0';
	*ret_size = size;
	return 0;
}

/* The number of bytes of the character at s, 0 if it is not UTF-8 (RFC 3629: no overlong forms, no surrogates). */
static size_t utf8_length(const unsigned char *s)
{
	uint32_t c;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if ((s[0] & 0xE0) == 0xC0) {
		c = s[0] & 0x1Fu;
		n = 2;
	} else if ((s[0] & 0xF0) == 0xE0) {
		c = s[0] & 0x0Fu;
		n = 3;
	} else if ((s[0] & 0xF8) == 0xF0) {
		c = s[0] & 0x07u;
		n = 4;
	} else {
		return 0;
	}
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xC0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3Fu);
	}
	if (c < (n == 2 ? 0x80u : n == 3 ? 0x800u : 0x10000u) || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
		return 0;
	return n;
}

static bool is_utf8(const char *text)
{
	for (const unsigned char *s = (const unsigned char *)text; *s;) {
		size_t n = utf8_length(s);
		if (n == 0)
			return false;
		s += n;
	}
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts blanks off both ends, in place. */
static char *trim(char *text)
{
	size_t n;

	while (is_blank(*text))
		text++;
	n = strlen(text);
	while (n > 0 && is_blank(text[n - 1]))
		n--;
	text[n] = '\0';
	return text;
}

static int read_header(struct ini *ini, char *line)
{
	size_t n = strlen(line);

	if (n < 3 || line[n - 1] != ']')
		return fail(ini, "a section header is written [Name]");
	line[n - 1] = '\0';
	ini->section = line + 1;
	return 0;
}

static int read_entry(struct ini *ini, char *line)
{
	struct err why = { 0 };
	char *value = strchr(line, '=');

	if (!value || value == line)
		return fail(ini, "neither a [Section], nor Key=Value, nor a comment (# or ;)");
	*value++ = '\0';
	if (!*ini->section)
		return fail(ini, "an entry stands before the first [Section]");
	if (ini->fn(ini->section, trim(line), trim(value), ini->data, &why) == 0)
		return 0;
	return err_set(ini->err, why.code, "%s:%u: %s", ini->name, ini->line, why.text);
}

static int read_line(struct ini *ini, char *line)
{
	line = trim(line);
	if (!*line || *line == '#' || *line == ';')
		return 0;
	if (!is_utf8(line))
		return fail(ini, "the line is not UTF-8");
	return *line == '[' ? read_header(ini, line) : read_entry(ini, line);
}

int ini_read(int fd, const char *name, ini_entry_fn fn, void *data, struct err *err)
{
	struct ini ini = { .name = name, .section = "", .fn = fn, .data = data, .err = err };
	autofree char *text = malloc(INI_SIZE_MAX + 2);
	size_t size = 0;

	if (!text)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for %s", name);
	if (read_text(fd, name, text, &size, err) < 0)
		return -1;
	if (strlen(text) != size)
		return err_set(err, VSS_E_INVALID_DOCUMENT, "%s holds a NUL byte: it is not a text file", name);
	for (char *line = text, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		ini.line++;
		if (read_line(&ini, line) < 0)
			return -1;
	}
	return 0;
}
