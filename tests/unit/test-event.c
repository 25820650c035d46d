/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events, levels and states: numbers and words that VSS fixed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/event.h"

static void event_names_round_trip(void **state)
{
	for (int e = 0; e < WRITER_EVENT_COUNT; e++)
		assert_int_equal(writer_event_from_name(writer_event_name((enum writer_event)e)), e);
	assert_int_equal(writer_event_from_name("freeze"), -1);
	assert_int_equal(writer_event_from_name(""), -1);
	for (int l = 0; l < WRITER_LEVEL_COUNT; l++)
		assert_int_equal(writer_level_from_name(writer_level_name((enum writer_level)l)), l);
	assert_int_equal(writer_level_from_name("middle"), -1);
}

static void states_as_vss_numbers_them(void **state)
{
	static const struct {
		const char *event;
		int after, failed; /* -1: as before */
	} rows[] = {
		{ "Identify", -1, 6 },	{ "PrepareBackup", 1, 7 },  { "PrepareSnapshot", 2, 8 }, { "Freeze", 3, 9 },
		{ "Thaw", 4, 10 },	{ "PostSnapshot", 5, 11 },  { "BackupComplete", 1, 12 }, { "BackupShutdown", 1, 15 },
		{ "Abort", 1, -1 },	{ "PreRestore", 1, 13 },    { "PostRestore", 1, 14 },
	};

	assert_int_equal(ARRAY_SIZE(rows), WRITER_EVENT_COUNT);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		enum writer_event event = (enum writer_event)writer_event_from_name(rows[i].event);
		for (enum writer_state before = WRITER_STATE_UNKNOWN; before <= 15; before++) {
			assert_int_equal(writer_state_after(event, before), rows[i].after < 0 ? (int)before : rows[i].after);
			assert_int_equal(writer_state_failed_at(event, before),
					 rows[i].failed < 0 ? (int)before : rows[i].failed);
		}
	}
}

static void texts_as_vssadmin_prints_them(void **state)
{
	static const char *const texts[] = { "Unknown", "Stable", "Waiting for freeze", "Frozen", "Waiting for completion",
					     "Waiting for completion" };

	for (int s = 0; s <= 15; s++)
		assert_string_equal(writer_state_text((enum writer_state)s), s < 6 ? texts[s] : "Failed");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(event_names_round_trip),
					    cmocka_unit_test(states_as_vss_numbers_them),
					    cmocka_unit_test(texts_as_vssadmin_prints_them) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
