/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/text.h"

/* However long the buffer: what is in it is valid UTF-8 and as much of the text as fits. */
static void cut_on_a_character(void **state)
{
	static const char text[] = "a\u00e9\u20ac\U0001F4BEz";

	for (size_t size = 1; size <= sizeof text + 1; size++) {
		char buffer[32];
		memset(buffer, '#', sizeof buffer);
		text_format(buffer, size, "%s", text);
		assert_true(strlen(buffer) < size);
		assert_int_equal(strncmp(buffer, text, strlen(buffer)), 0);
		assert_true(strlen(buffer) + 4 >= (size < sizeof text ? size : sizeof text) - 0u);
		assert_int_equal(buffer[size], '#');
		autojson json_t *valid = json_string(buffer); /* jansson refuses what is not UTF-8 */
		assert_non_null(valid);
	}
}

static void whole_text_stays(void **state)
{
	char buffer[8];

	text_format(buffer, sizeof buffer, "%s", "\u20ac\u20ac");
	assert_string_equal(buffer, "\u20ac\u20ac");
	text_format(buffer, sizeof buffer, "%d", 1234567);
	assert_string_equal(buffer, "1234567");
	text_format(buffer, sizeof buffer, "%d", 12345678);
	assert_string_equal(buffer, "1234567");
}

static void appends(void **state)
{
	char buffer[8] = "";

	text_append(buffer, sizeof buffer, "%s", "ab");
	text_append(buffer, sizeof buffer, "%s", "cd");
	assert_string_equal(buffer, "abcd");
	text_append(buffer, sizeof buffer, "%s", "\u20ac\u20ac"); /* one of them fits */
	assert_string_equal(buffer, "abcd\u20ac");
	text_append(buffer, sizeof buffer, "%s", "x"); /* full */
	assert_string_equal(buffer, "abcd\u20ac");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(cut_on_a_character), cmocka_unit_test(whole_text_stays),
					    cmocka_unit_test(appends) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
