/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The binding (common/bus*.c) on a real dbus-daemon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus-harness.h"

static int start_bus(void **state)
{
	*state = bus_harness_start();
	return *state ? 0 : -1;
}

static int stop_bus(void **state)
{
	bus_harness_stop(*state);
	return 0;
}

static void opens_and_closes(void **state)
{
	struct bus *bus;
	struct err err = { 0 };

	assert_int_equal(bus_open(&bus, NULL, &err), 0);
	assert_string_equal(bus_unique_name(bus), ":1.0");
	bus_free(bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_and_closes),
	};

	return cmocka_run_group_tests_name("bus", tests, start_bus, stop_bus);
}
