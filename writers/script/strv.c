/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/strv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t strv_length(char *const *strv)
{
	size_t n = 0;

	while (strv && strv[n])
		n++;
	return n;
}

/* Takes text, also when it fails; NULL means that there was no memory for it. */
static int take(char ***strv, char *text)
{
	size_t n = strv_length(*strv);
	char **longer = text ? realloc(*strv, (n + 2) * sizeof *longer) : NULL;

	if (!longer) {
		free(text);
		return -1;
	}
	longer[n] = text;
	longer[n + 1] = NULL;
	*strv = longer;
	return 0;
}

int strv_add(char ***strv, const char *text)
{
	return take(strv, strdup(text));
}

int strv_addf(char ***strv, const char *format, ...)
{
	char *text;
	va_list args;

	va_start(args, format);
	int n = vasprintf(&text, format, args);
	va_end(args);
	return take(strv, n < 0 ? NULL : text);
}

int strv_split(char ***strv, const char *text, const char *separators)
{
	for (text += strspn(text, separators); *text; text += strspn(text, separators)) {
		size_t n = strcspn(text, separators);
		if (take(strv, strndup(text, n)) < 0)
			return -1;
		text += n;
	}
	return 0;
}

bool strv_has(char *const *strv, const char *text)
{
	for (; strv && *strv; strv++)
		if (strcmp(*strv, text) == 0)
			return true;
	return false;
}

void strv_remove(char **strv, const char *text)
{
	while (strv && *strv && strcmp(*strv, text) != 0)
		strv++;
	if (!strv || !*strv)
		return;
	free(*strv);
	for (; *strv; strv++)
		strv[0] = strv[1];
}

char **strv_free(char **strv)
{
	for (size_t i = 0; strv && strv[i]; i++)
		free(strv[i]);
	free(strv);
	return NULL;
}
