/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/cleanup.h"
#include "common/size.h"

#define KIB UINT64_C(1024)
#define GIB (KIB * KIB * KIB)

static void every_notation(void **state)
{
	static const struct {
		const char *text;
		enum size_kind kind;
		uint64_t value;
	} cases[] = {
		{ "0", SIZE_BYTES, 0 },		     { "335544320", SIZE_BYTES, 320 * KIB * KIB },
		{ "10GB", SIZE_BYTES, 10 * GIB },    { "10G", SIZE_BYTES, 10 * GIB },
		{ "10gb", SIZE_BYTES, 10 * GIB },    { "1.5 GB", SIZE_BYTES, 3 * GIB / 2 },
		{ "2k", SIZE_BYTES, 2 * KIB },	     { "2KB", SIZE_BYTES, 2 * KIB },
		{ "3M", SIZE_BYTES, 3 * KIB * KIB }, { "1T", SIZE_BYTES, GIB * KIB },
		{ "1PB", SIZE_BYTES, GIB * KIB * KIB }, { "7E", SIZE_BYTES, 7 * GIB * GIB },
		{ "512B", SIZE_BYTES, 512 },	     { "512 bytes", SIZE_BYTES, 512 },
		{ "15%", SIZE_PERCENT, 15 },	     { "100%", SIZE_PERCENT, 100 },
		{ "UNBOUNDED", SIZE_UNBOUNDED, 0 },  { "unbounded", SIZE_UNBOUNDED, 0 },
	};
	struct size size;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (size_parse(cases[i].text, &size) < 0)
			fail_msg("%s is not understood", cases[i].text);
		assert_int_equal(size.kind, cases[i].kind);
		assert_int_equal(size.kind == SIZE_PERCENT ? size.percent : size.bytes, cases[i].value);
	}
}

static void what_is_none(void **state)
{
	static const char *const texts[] = { "",    "GB",   "-1",  "+1",    "1X",   "1GiB", "1GBB", "0%",   "101%", "1.5%",
					     "8E",  "1.",   ".5G", "1.2345G", "0.5", "1 2",  " 1",   "1G ",  "99999999999999999999",
					     "UNBOUNDEDX" };
	struct size size;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (size_parse(texts[i], &size) == 0)
			fail_msg("'%s' is taken for a size", texts[i]);
}

static void written(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 bytes" },	  { 512, "512 bytes" },		    { KIB, "1.00 KB" },
		{ 2 * GIB, "2.00 GB" },	  { 12 * GIB + 2 * GIB / 5, "12.4 GB" }, { 320 * KIB * KIB, "320 MB" },
		{ GIB - 1, "1.00 GB" },   { 10 * GIB - 1, "10.0 GB" },	    { UINT64_MAX, "16.0 EB" },
	};
	char text[SIZE_TEXT];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_format(cases[i].bytes, text);
		assert_string_equal(text, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_notation),
		cmocka_unit_test(what_is_none),
		cmocka_unit_test(written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
