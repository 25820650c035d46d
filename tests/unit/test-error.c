/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/error.h"
#include "common/names.h"

static void every_row_is_whole_and_unique(void **state)
{
	for (enum vss_error a = VSS_OK + 1; a < VSS_E_COUNT; a++) {
		assert_true(*error_name(a));
		assert_true(*error_text(a));
		assert_true(error_code(a) & 0x80000000);
		assert_memory_equal(error_dbus_name(a), VSS_ERROR_PREFIX, strlen(VSS_ERROR_PREFIX));
		assert_int_equal(error_from_name(error_name(a)), a);
		assert_int_equal(error_from_name(error_dbus_name(a)), a);
		assert_int_equal(error_from_code(error_code(a)), a);
	}
}

/* Numbers that other software knows (vsserror.h). */
static void numbers_are_those_of_vss(void **state)
{
	assert_int_equal(error_code(VSS_E_BAD_STATE), 0x80042301);
	assert_int_equal(error_code(VSS_E_OBJECT_NOT_FOUND), 0x80042308);
	assert_int_equal(error_code(VSS_E_SNAPSHOT_SET_IN_PROGRESS), 0x80042316);
	assert_int_equal(error_code(VSS_E_WRITER_NOT_RESPONDING), 0x80042319);
	assert_int_equal(error_code(VSS_E_WRITER_INCONSISTENT_SNAPSHOT), 0x800423F0);
	assert_int_equal(error_code(VSS_E_WRITER_NON_RETRYABLE), 0x800423F4);
	assert_true(error_is_retryable(VSS_E_WRITER_TIMED_OUT));
	assert_false(error_is_retryable(VSS_E_WRITER_NON_RETRYABLE));
}

static void none_and_unknown(void **state)
{
	assert_int_equal(error_code(VSS_OK), 0);
	assert_string_equal(error_name(VSS_OK), "");
	assert_string_equal(error_text(VSS_OK), "No error");
	assert_int_equal(error_from_code(0), VSS_OK);
	assert_int_equal(error_from_code(0xDEADBEEF), VSS_E_UNEXPECTED);
	assert_int_equal(error_from_name("org.example.Error"), VSS_E_UNEXPECTED);
	assert_int_equal(error_from_name(""), VSS_E_UNEXPECTED);
	assert_int_equal(error_code((enum vss_error)9999), error_code(VSS_E_UNEXPECTED));
}

static void long_texts_are_cut_on_a_character(void **state)
{
	struct err err = { 0 };
	char text[2048];

	for (size_t offset = 0; offset < 4; offset++) {
		memset(text, 'x', offset);
		for (size_t i = offset; i + 4 < sizeof text; i += 4)
			memcpy(text + i, "\xF0\x9F\x92\xBE", 5);
		assert_int_equal(err_set(&err, VSS_E_UNEXPECTED, "%s", text), -1);
		size_t n = strlen(err.text);
		assert_in_range(n, sizeof err.text - 4, sizeof err.text - 1);
		assert_int_equal((n - offset) % 4, 0);
		assert_memory_equal(err.text, text, n);
	}
}

/* A precision counts bytes, and what strangers say is quoted with one: half a character would fit into no JSON. */
static void broken_characters_are_dropped(void **state)
{
	static const struct {
		const char *text, *kept;
	} cases[] = {
		{ "a\xC3\xA4\xC3", "a\xC3\xA4" },	  { "\xC0\x80z", "z" },	{ "\xED\xA0\x80z", "z" },
		{ "\xF4\x90\x80\x80z", "z" },	  { "\x80\xFF\xFEz", "z" },	{ "\xE0\x9F\x80z", "z" },
		{ "\xF0\x9F\x92\xBE", "\xF0\x9F\x92\xBE" }, { "\xF0\x9F\x92z", "z" }, { "\xEF\xBF\xBF", "\xEF\xBF\xBF" },
	};
	struct err err = { 0 };

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		err_set(&err, VSS_E_UNEXPECTED, "<%s>", cases[i].text);
		assert_int_equal(strlen(err.text), strlen(cases[i].kept) + 2);
		assert_memory_equal(err.text + 1, cases[i].kept, strlen(cases[i].kept));
	}
	err_set(&err, VSS_E_UNEXPECTED, "%.4s", "abc\xC3\xA4");
	assert_string_equal(err.text, "abc");
}

static void system_errors_find_their_code(void **state)
{
	static const struct {
		int number;
		enum vss_error code;
	} rows[] = { { ENOSPC, VSS_E_INSUFFICIENT_STORAGE }, { EDQUOT, VSS_E_INSUFFICIENT_STORAGE },
		     { EACCES, VSS_E_ACCESS_DENIED },        { EPERM, VSS_E_ACCESS_DENIED },
		     { ENOENT, VSS_E_OBJECT_NOT_FOUND },     { ENOMEM, VSS_E_OUT_OF_MEMORY },
		     { EBUSY, VSS_E_VOLUME_IN_USE },         { EIO, VSS_E_PROVIDER_VETO } };

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct err err = { 0 };
		assert_int_equal(err_errno(&err, rows[i].number, VSS_E_PROVIDER_VETO, "Cannot open %s", "/srv"), -1);
		assert_int_equal(err.code, rows[i].code);
		assert_memory_equal(err.text, "Cannot open /srv: ", 18);
		assert_string_equal(err.text + 18, strerror(rows[i].number));
	}
	assert_int_equal(err_errno(NULL, EIO, VSS_E_UNEXPECTED, "nobody listens"), -1);
	assert_int_equal(err_set(NULL, VSS_E_UNEXPECTED, "nobody listens"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_is_whole_and_unique),
		cmocka_unit_test(numbers_are_those_of_vss),
		cmocka_unit_test(none_and_unknown),
		cmocka_unit_test(long_texts_are_cut_on_a_character),
		cmocka_unit_test(broken_characters_are_dropped),
		cmocka_unit_test(system_errors_find_their_code),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
