/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <string.h>

#include "common/id.h"

static void new_ones_are_valid_and_differ(void **state)
{
	char a[ID_SIZE], b[ID_SIZE];

	for (int i = 0; i < 1000; i++) {
		id_new(a);
		id_new(b);
		assert_true(id_is_valid(a));
		assert_string_not_equal(a, b);
		assert_int_equal(a[14], '4');
		assert_non_null(strchr("89ab", a[19]));
	}
}

static void only_the_one_spelling_is_valid(void **state)
{
	assert_true(id_is_valid("b2014c9e-8711-4c5c-a5a9-3cf384484757"));
	assert_false(id_is_valid(""));
	assert_false(id_is_valid("B2014c9e-8711-4c5c-a5a9-3cf384484757"));
	assert_false(id_is_valid("b2014c9e-8711-4c5c-a5a9-3cf38448475"));
	assert_false(id_is_valid("b2014c9e-8711-4c5c-a5a9-3cf3844847570"));
	assert_false(id_is_valid("b2014c9e08711-4c5c-a5a9-3cf384484757"));
	assert_false(id_is_valid("b2014c9-e8711-4c5c-a5a9-3cf384484757"));
	assert_false(id_is_valid("../../../../../../../../etc/passwd/x"));
}

static void goes_to_hex_and_back(void **state)
{
	char id[ID_SIZE], hex[ID_HEX_SIZE], back[ID_SIZE];

	id_to_hex("b2014c9e-8711-4c5c-a5a9-3cf384484757", hex);
	assert_string_equal(hex, "b2014c9e87114c5ca5a93cf384484757");
	for (int i = 0; i < 1000; i++) {
		id_new(id);
		id_to_hex(id, hex);
		assert_true(id_from_hex(hex, back));
		assert_string_equal(id, back);
	}
	assert_false(id_from_hex("b2014c9e87114c5ca5a93cf38448475", back));
	assert_false(id_from_hex("b2014c9e87114c5ca5a93cf3844847577", back));
	assert_false(id_from_hex("B2014c9e87114c5ca5a93cf384484757", back));
	assert_false(id_from_hex("b2014c9e-8711-4c5c-a5a9-3cf3844847", back));
}

static void parses_what_people_type(void **state)
{
	static const char *const good[] = { "b2014c9e-8711-4c5c-a5a9-3cf384484757", "B2014C9E-8711-4C5C-A5A9-3CF384484757",
					    "{b2014c9e-8711-4c5c-a5a9-3cf384484757}", "b2014c9e87114c5ca5a93cf384484757",
					    "{B2014C9E87114C5CA5A93CF384484757}" };
	static const char *const bad[] = { "", "{", "}", "{}", "x", "{b2014c9e-8711-4c5c-a5a9-3cf384484757",
					   "b2014c9e-8711-4c5c-a5a9-3cf384484757}", " b2014c9e-8711-4c5c-a5a9-3cf384484757",
					   "{{b2014c9e-8711-4c5c-a5a9-3cf384484757}}",
					   "b2014c9e-8711-4c5c-a5a9-3cf384484757b2014c9e-8711-4c5c-a5a9-3cf384484757" };
	char id[ID_SIZE];

	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_true(id_parse(good[i], id));
		assert_string_equal(id, "b2014c9e-8711-4c5c-a5a9-3cf384484757");
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(id_parse(bad[i], id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_ones_are_valid_and_differ),
		cmocka_unit_test(only_the_one_spelling_is_valid),
		cmocka_unit_test(goes_to_hex_and_back),
		cmocka_unit_test(parses_what_people_type),
	};

	return cmocka_run_group_tests_name("id", tests, NULL, NULL);
}
