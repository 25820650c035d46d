/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common/size.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char units[] = "KMGTPE";

/* The number before the unit, in thousandths: "1.5" is 1500. What follows it; NULL if it is none. */
static const char *parse_thousandths(const char *text, uint64_t *ret)
{
	const char *at = text;
	uint64_t value = 0, part = 100;

	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
			return NULL;
	if (at == text || __builtin_mul_overflow(value, UINT64_C(1000), &value))
		return NULL;
	if (*at != '.') {
		*ret = value;
		return at;
	}
	for (at++; *at >= '0' && *at <= '9' && part > 0; at++, part /= 10)
		value += (uint64_t)(*at - '0') * part;
	*ret = value;
	return at[-1] == '.' || (*at >= '0' && *at <= '9') ? NULL : at;
}

/* The power of 1024, or -1. */
static int parse_unit(const char *text)
{
	const char *unit;

	if (*text == '\0' || strcasecmp(text, "B") == 0 || strcasecmp(text, "bytes") == 0)
		return 0;
	unit = strchr(units, *text & ~0x20);
	if (!unit || (text[1] && strcasecmp(text + 1, "B") != 0))
		return -1;
	return (int)(unit - units) + 1;
}

static int scale(uint64_t thousandths, int power, uint64_t *ret)
{
	unsigned __int128 value = (unsigned __int128)thousandths << (10 * power);

	if (power == 0 && thousandths % 1000 != 0)
		return -1; /* half a byte */
	value /= 1000;
	if (value > INT64_MAX)
		return -1;
	*ret = (uint64_t)value;
	return 0;
}

int size_parse(const char *text, struct size *ret)
{
	uint64_t thousandths;
	const char *rest;
	int power;

	*ret = (struct size){ .kind = SIZE_BYTES };
	if (strcasecmp(text, "UNBOUNDED") == 0) {
		ret->kind = SIZE_UNBOUNDED;
		return 0;
	}
	rest = parse_thousandths(text, &thousandths);
	if (!rest)
		return -1;
	rest += strspn(rest, " ");
	if (strcmp(rest, "%") == 0) {
		ret->kind = SIZE_PERCENT;
		ret->percent = (unsigned)(thousandths / 1000);
		return thousandths % 1000 == 0 && thousandths >= 1000 && thousandths <= 100000 ? 0 : -1;
	}
	power = parse_unit(rest);
	return power < 0 ? -1 : scale(thousandths, power, &ret->bytes);
}

void size_format(uint64_t bytes, char text[SIZE_TEXT])
{
	double value = (double)bytes;
	int power = 0;

	for (; value >= 1023.5 && units[power]; power++)
		value /= 1024;
	if (power == 0)
		snprintf(text, SIZE_TEXT, "%llu bytes", (unsigned long long)bytes);
	else
		snprintf(text, SIZE_TEXT, "%.*f %cB", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, units[power - 1]);
}
