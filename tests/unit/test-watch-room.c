/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/watch/room.h"

#define MIB 1048576ll
#define GIB (1024 * MIB)

static char sessions[] = "/tmp/vssd-test-room.XXXXXX";
static struct room_owner owner = { "H", sessions };

/* A group with `room` on a real disk and plenty on a virtual one; a volume with two stores of 1 GiB, and at most `max`. */
static json_t *make_facts(long long room, long long max, const char *session)
{
	autofree char *text = NULL;
	json_t *facts;

	assert_true(asprintf(&text,
			     "{\"Groups\": [{\"Uuid\": \"G\", \"Name\": \"vg\", \"Free\": %lld, \"ExtentSize\": 4194304, \"Pvs\": ["
			     "  {\"Uuid\": \"A\", \"Device\": \"/dev/sda\", \"Free\": %lld, \"Disks\": [{\"Device\": \"sda\"}]},"
			     "  {\"Uuid\": \"L\", \"Device\": \"/dev/loop0\", \"Free\": 99999999999, \"Disks\": [{\"Device\": \"loop0\", \"Virtual\": true}]}]}],"
			     " \"Pools\": [{\"Uuid\": \"P\", \"Group\": \"G\", \"Name\": \"vg/pool\", \"Vg\": \"vg\", \"Lv\": \"pool\", \"Device\": \"vg-pool-tpool\","
			     "   \"Disks\": [{\"Device\": \"sda\"}]}],"
			     " \"Associations\": [{\"For\": \"lvm:G:V\", \"Volume\": \"/data\", \"On\": \"vg:G\", \"Max\": %lld, \"Allocated\": 2147483648,"
			     "   \"Provider\": \"lvm\", \"Kind\": \"cow\", \"Vg\": \"vg\", \"VgUuid\": \"G\", \"Path\": \"/data\", \"Copies\": 2,"
			     "   \"Disks\": [{\"Device\": \"sda\"}], \"Stores\": ["
			     "   {\"Host\": \"H\", \"Copy\": \"old\", \"Device\": \"vg-vss--old\", \"Lv\": \"vss-old\", \"Full\": 10737418240, \"Allocated\": 1073741824, \"Session\": \"%s\"},"
			     "   {\"Host\": \"H\", \"Copy\": \"new\", \"Device\": \"vg-vss--new\", \"Lv\": \"vss-new\", \"Full\": 10737418240, \"Allocated\": 1073741824}]},"
			     "  {\"For\": \"lvm:G:T\", \"Volume\": \"/thin\", \"PoolUuid\": \"P\", \"VgUuid\": \"G\", \"Copies\": 2, \"Stores\": ["
			     "   {\"Host\": \"H\", \"Copy\": \"t2\", \"Created\": 20}, {\"Host\": \"H\", \"Copy\": \"t1\", \"Created\": 10}]}]}",
			     room, room, max, session) > 0);
	facts = json_loads(text, 0, NULL);
	assert_non_null(facts);
	return facts;
}

static const char *text_in(const struct room_choice *choice, const char *key)
{
	return json_string_value(json_object_get(choice->request, key)) ?: "";
}

static json_int_t growth_in(const struct room_choice *choice)
{
	return json_integer_value(json_object_get(choice->request, "Size"));
}

static struct room_choice choose(long long room, long long max, const char *device, const char *session)
{
	autojson json_t *facts = make_facts(room, max, session);
	struct fill fill = { .used = 700 * MIB, .size = GIB };
	struct room_choice choice = { 0 };

	room_for_store(&choice, facts, device, &fill, &owner);
	return choice;
}

static void extended_where_it_may_lie(void **state)
{
	struct room_choice choice = choose(20 * GIB, -1, "vg-vss--new", "");

	assert_int_equal(choice.kind, ROOM_EXTEND);
	assert_int_equal(growth_in(&choice), 512 * MIB);
	assert_string_equal(text_in(&choice, "Lv"), "vss-new");
	json_t *pvs = json_object_get(choice.request, "Pvs");
	assert_int_equal(json_array_size(pvs), 1); /* not on the virtual disk */
	assert_string_equal(json_string_value(json_array_get(pvs, 0)), "/dev/sda");
	room_choice_done(&choice);
}

static void max_size_costs_the_oldest(void **state)
{
	struct room_choice choice = choose(20 * GIB, 2 * GIB, "vg-vss--new", "");

	assert_int_equal(choice.kind, ROOM_EVICT);
	assert_string_equal(text_in(&choice, "Copy"), "old");
	room_choice_done(&choice);
	choice = choose(20 * GIB, 2 * GIB + 100 * MIB, "vg-vss--new", "");
	assert_int_equal(choice.kind, ROOM_EXTEND);
	assert_int_equal(growth_in(&choice), 100 * MIB);
	room_choice_done(&choice);
}

static void the_only_one_stays(void **state)
{
	autojson json_t *facts = make_facts(0, -1, "");
	struct fill fill = { .used = 700 * MIB, .size = GIB };
	struct room_choice choice = { 0 };

	json_array_remove(json_object_get(json_array_get(json_object_get(facts, "Associations"), 0), "Stores"), 0);
	room_for_store(&choice, facts, "vg-vss--new", &fill, &owner);
	assert_int_equal(choice.kind, ROOM_NONE);
	room_choice_done(&choice);
}

static void oldest_goes_and_none_in_use(void **state)
{
	char path[64];
	struct room_choice choice = choose(0, -1, "vg-vss--old", "");

	assert_int_equal(choice.kind, ROOM_EVICT);
	assert_string_equal(text_in(&choice, "Copy"), "old"); /* no younger one for its sake */
	room_choice_done(&choice);

	snprintf(path, sizeof path, "%s/session-1", sessions);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	choice = choose(0, -1, "vg-vss--old", "session-1");
	assert_int_equal(choice.kind, ROOM_EVICT);
	assert_string_equal(text_in(&choice, "Copy"), "new"); /* the old one is being read */
	room_choice_done(&choice);
	choice = choose(0, -1, "vg-vss--new", "session-1");
	assert_int_equal(choice.kind, ROOM_NONE);
	assert_non_null(strstr(choice.why, "/data"));
	assert_non_null(strstr(choice.why, "volume group is full"));
	room_choice_done(&choice);
	unlink(path);
	choice = choose(0, -1, "vg-vss--new", "session-1"); /* it has ended */
	assert_int_equal(choice.kind, ROOM_EVICT);
	room_choice_done(&choice);
	owner.machine_id = "another";
	choice = choose(0, -1, "vg-vss--new", "");
	assert_int_equal(choice.kind, ROOM_NONE);
	room_choice_done(&choice);
	owner.machine_id = "H";
}

static void full_needs_nothing(void **state)
{
	autojson json_t *facts = make_facts(0, -1, "");
	struct fill fill = { .used = 9 * GIB, .size = 10 * GIB };
	struct room_choice choice = { 0 };

	room_for_store(&choice, facts, "vg-vss--new", &fill, &owner);
	assert_int_equal(choice.kind, ROOM_ENOUGH);
	room_for_store(&choice, facts, "vg-vss--gone", &fill, &owner);
	assert_int_equal(choice.kind, ROOM_UNKNOWN);
	fill = (struct fill){ .used = 500 * MIB, .size = GIB }; /* half full, and slow: nobody has to go for it */
	room_for_store(&choice, facts, "vg-vss--new", &fill, &owner);
	assert_int_equal(choice.kind, ROOM_QUIET);
}

static void pools(void **state)
{
	autojson json_t *roomy = make_facts(20 * GIB, -1, ""), *tight = make_facts(0, -1, "");
	struct fill fill = { .used = 95 * MIB, .size = 100 * MIB };
	struct room_choice choice = { 0 };

	assert_int_equal(room_count_copies(roomy, "vg-pool-tpool"), 2);
	assert_int_equal(room_count_copies(roomy, "vg-other-tpool"), 0);
	room_for_pool(&choice, roomy, "vg-pool-tpool", &fill, false, false, &owner);
	assert_int_equal(choice.kind, ROOM_EXTEND);
	assert_string_equal(text_in(&choice, "Lv"), "pool");
	assert_int_equal(growth_in(&choice), 20 * MIB);
	assert_string_equal(json_string_value(json_array_get(json_object_get(choice.request, "Pvs"), 0)), "/dev/sda");
	assert_int_equal(json_array_size(json_object_get(choice.request, "Pvs")), 1); /* not on the virtual disk */
	room_choice_done(&choice);
	room_for_pool(&choice, tight, "vg-pool-tpool", &fill, true, false, &owner);
	assert_int_equal(choice.kind, ROOM_EVICT);
	assert_string_equal(text_in(&choice, "Copy"), "t1");
	room_choice_done(&choice);
	room_for_pool(&choice, tight, "vg-pool-tpool", &fill, true, true, &owner); /* it would be lost for nothing */
	assert_int_equal(choice.kind, ROOM_NONE);
	assert_non_null(strstr(choice.why, "read-only"));
	room_choice_done(&choice);
	room_for_pool(&choice, roomy, "vg-pool-tpool", &fill, true, true, &owner);
	assert_int_equal(choice.kind, ROOM_EXTEND);
	room_choice_done(&choice);
}

static int setup(void **state)
{
	return mkdtemp(sessions) ? 0 : -1;
}

static int teardown(void **state)
{
	return rmdir(sessions);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(extended_where_it_may_lie),	     cmocka_unit_test(max_size_costs_the_oldest),
		cmocka_unit_test(oldest_goes_and_none_in_use),	     cmocka_unit_test(full_needs_nothing),
		cmocka_unit_test(the_only_one_stays),		     cmocka_unit_test(pools),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
