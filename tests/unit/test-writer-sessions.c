/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "writers/libvsswriter/sessions.h"

static const char session[] = "b2014c9e-8711-4c5c-a5a9-3cf384484757";
static const char other_session[] = "11111111-8711-4c5c-a5a9-3cf384484757";
static const char set[] = "22222222-8711-4c5c-a5a9-3cf384484757";
static const char other_set[] = "33333333-8711-4c5c-a5a9-3cf384484757";

static enum vss_error admit(struct sessions *s, enum vss_event event, const char *id, const char *in_set)
{
	struct session_row *row;
	struct err err = { 0 };

	return sessions_admit(s, event, id, in_set, &row, &err) < 0 ? err.code : VSS_OK;
}

static void answer(struct sessions *s, enum vss_event event, bool ok)
{
	sessions_answered(s, sessions_find(s, session), event, ok);
}

static void freeze(struct sessions *s)
{
	s->wants_prepare = true;
	assert_int_equal(admit(s, VSS_EVENT_PREPARE_SNAPSHOT, session, set), VSS_OK);
	answer(s, VSS_EVENT_PREPARE_SNAPSHOT, true);
	assert_int_equal(admit(s, VSS_EVENT_FREEZE, session, set), VSS_OK);
	answer(s, VSS_EVENT_FREEZE, true);
}

static void frozen_admits_only_its_own_end(void **state)
{
	for (enum vss_event event = VSS_EVENT_PREPARE_BACKUP; event <= VSS_EVENT_POST_RESTORE; event++) {
		struct sessions s = { 0 };
		freeze(&s);
		bool ends = event == VSS_EVENT_THAW || event == VSS_EVENT_ABORT;
		assert_int_equal(admit(&s, event, session, set) == VSS_OK, ends);
		assert_int_not_equal(sessions_find(&s, session)->phase, PHASE_KNOWN);
	}
}

static void frozen_makes_others_wait_or_refuses_them(void **state)
{
	for (enum vss_event event = VSS_EVENT_PREPARE_BACKUP; event <= VSS_EVENT_POST_RESTORE; event++) {
		struct sessions s = { 0 };
		freeze(&s);
		if (!sessions_must_wait(&s, event, other_session))
			assert_int_not_equal(admit(&s, event, other_session, other_set), VSS_OK);
		assert_false(sessions_must_wait(&s, event, session));
	}
}

static void the_phases_of_a_set(void **state)
{
	struct sessions s = { .last_sequence = 41 };

	freeze(&s);
	assert_int_equal(sessions_find(&s, session)->sequence, 42);
	assert_ptr_equal(sessions_held(&s), sessions_find(&s, session));
	assert_int_equal(admit(&s, VSS_EVENT_THAW, session, other_set), VSS_E_OBJECT_NOT_FOUND);
	assert_int_equal(admit(&s, VSS_EVENT_THAW, session, set), VSS_OK);
	assert_int_equal(sessions_find(&s, session)->phase, PHASE_THAWING);
	answer(&s, VSS_EVENT_THAW, true);
	assert_null(sessions_held(&s));
	assert_int_equal(admit(&s, VSS_EVENT_POST_SNAPSHOT, session, set), VSS_OK);
	assert_int_equal(admit(&s, VSS_EVENT_FREEZE, session, set), VSS_E_BAD_STATE);
	assert_int_equal(admit(&s, VSS_EVENT_BACKUP_SHUTDOWN, session, set), VSS_OK);
	answer(&s, VSS_EVENT_BACKUP_SHUTDOWN, true);
	assert_null(sessions_find(&s, session));
}

static void a_session_may_try_another_set(void **state)
{
	struct sessions s = { 0 };

	freeze(&s);
	assert_int_equal(admit(&s, VSS_EVENT_ABORT, session, set), VSS_OK);
	answer(&s, VSS_EVENT_ABORT, true);
	assert_int_equal(admit(&s, VSS_EVENT_PREPARE_SNAPSHOT, session, other_set), VSS_OK);
	assert_int_equal(admit(&s, VSS_EVENT_FREEZE, session, other_set), VSS_OK);
}

static void a_failed_preparation_allows_no_freeze(void **state)
{
	struct sessions s = { .wants_prepare = true };

	assert_int_equal(admit(&s, VSS_EVENT_PREPARE_SNAPSHOT, session, set), VSS_OK);
	answer(&s, VSS_EVENT_PREPARE_SNAPSHOT, false);
	assert_int_equal(admit(&s, VSS_EVENT_FREEZE, session, set), VSS_E_BAD_STATE);
}

static void a_broken_freeze_is_not_forgotten(void **state)
{
	struct sessions s = { 0 };

	freeze(&s);
	sessions_break(sessions_find(&s, session), "because");
	assert_null(sessions_held(&s));
	assert_int_equal(admit(&s, VSS_EVENT_THAW, session, set), VSS_OK);
	assert_int_equal(sessions_find(&s, session)->phase, PHASE_BROKEN);
	assert_false(sessions_find(&s, session)->unbroken);
	assert_int_equal(admit(&s, VSS_EVENT_POST_SNAPSHOT, session, set), VSS_E_BAD_STATE);
}

static void only_unfinished_sets_are_aborted_when_vssd_goes(void **state)
{
	static const struct {
		enum phase phase;
		bool due;
	} rows[] = {
		{ PHASE_KNOWN, false },  { PHASE_BACKUP_PREPARED, true }, { PHASE_PREPARED, true },
		{ PHASE_FROZEN, true },  { PHASE_FAILED, true },          { PHASE_THAWING, false },
		{ PHASE_BROKEN, false }, { PHASE_THAWED, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sessions s = { .n = 1 };
		strcpy(s.rows[0].id, session);
		s.rows[0].phase = rows[i].phase;
		sessions_coordinator_lost(&s, "gone");
		assert_int_equal(s.rows[0].abort_due, rows[i].due);
	}
}

static void the_table_is_bounded(void **state)
{
	struct sessions s = { 0 };
	char id[ID_SIZE];

	freeze(&s);
	for (int i = 0; i < 3 * SESSIONS_MAX; i++) {
		snprintf(id, sizeof id, "%08x-8711-4c5c-a5a9-3cf384484757", (unsigned)i);
		assert_int_equal(admit(&s, VSS_EVENT_PREPARE_BACKUP, id, ""), VSS_OK);
	}
	assert_int_equal(s.n, SESSIONS_MAX);
	assert_int_equal(sessions_find(&s, session)->phase, PHASE_FROZEN);
}

static void ids_must_be_ids(void **state)
{
	struct sessions s = { 0 };

	assert_int_equal(admit(&s, VSS_EVENT_PREPARE_BACKUP, "", ""), VSS_E_INVALID_ARGUMENT);
	assert_int_equal(admit(&s, VSS_EVENT_PREPARE_BACKUP, session, "x"), VSS_E_INVALID_ARGUMENT);
	assert_int_equal(admit(&s, VSS_EVENT_FREEZE, session, ""), VSS_E_INVALID_ARGUMENT);
	assert_int_equal(admit(&s, VSS_EVENT_ABORT, session, ""), VSS_OK);
	assert_int_equal(s.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frozen_admits_only_its_own_end),
		cmocka_unit_test(frozen_makes_others_wait_or_refuses_them),
		cmocka_unit_test(the_phases_of_a_set),
		cmocka_unit_test(a_session_may_try_another_set),
		cmocka_unit_test(a_failed_preparation_allows_no_freeze),
		cmocka_unit_test(a_broken_freeze_is_not_forgotten),
		cmocka_unit_test(only_unfinished_sets_are_aborted_when_vssd_goes),
		cmocka_unit_test(the_table_is_bounded),
		cmocka_unit_test(ids_must_be_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
