/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvssrequestor against a coordinator that hangs, dies, restarts, or loses its signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "fake-harness.h"
#include "requestor/vssrequestor.h"

struct fixture {
	struct fake_harness *fake;
	struct vss_connection *connection;
	struct vss_backup *backup;
	struct vss_failure failure;
};

static void begin(struct fixture *x, const char *const *behaviours)
{
	*x = (struct fixture){ .fake = fake_harness_start(behaviours) };
	assert_non_null(x->fake);
	assert_int_equal(vss_connect(&x->connection, NULL, &x->failure), 0);
}

static void begin_backup(struct fixture *x, const char *const *behaviours)
{
	begin(x, behaviours);
	if (vss_backup_new(&x->backup, x->connection, NULL, &x->failure) < 0)
		fail_msg("%s", x->failure.text);
}

static void end(struct fixture *x)
{
	vss_backup_free(x->backup);
	vss_disconnect(x->connection);
	fake_harness_stop(x->fake);
}

#define BEHAVIOURS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define assert_works(call)                                                                                             \
	do {                                                                                                           \
		if ((call) < 0)                                                                                        \
			fail_msg("%s", x.failure.text);                                                                \
	} while (0)

static void whole_backup(void **state)
{
	static const char *const paths[] = { "/data", "/home", "/var" };
	struct fixture x;
	json_t *members = NULL, *result = NULL;

	begin_backup(&x, BEHAVIOURS(NULL));
	assert_works(vss_backup_add_paths(x.backup, paths, 3, &members, &x.failure));
	assert_int_equal(json_array_size(members), 3);
	assert_string_equal(json_string_value(json_object_get(json_array_get(members, 2), "Path")), "/var");
	assert_works(vss_backup_snapshot(x.backup, &result, &x.failure));
	assert_int_equal(json_array_size(json_object_get(result, "Shadows")), 3);
	assert_works(vss_backup_set_succeeded(x.backup, true, &x.failure));
	assert_works(vss_backup_complete(x.backup, &x.failure));
	x.backup = vss_backup_free(x.backup);
	assert_true(fake_harness_called(x.fake, "SetBackupSucceeded [true,{}]"));
	assert_true(fake_harness_called(x.fake, "Close"));
	assert_false(fake_harness_called(x.fake, "Abort"));
	json_decref(members);
	json_decref(result);
	end(&x);
}

/* The signal never comes: the session's properties say that it is over. */
static void finished_is_missed(void **state)
{
	struct fixture x;
	uint64_t begun = clock_now();

	begin_backup(&x, BEHAVIOURS("lose=DoSnapshotSet"));
	assert_works(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure));
	assert_works(vss_backup_snapshot(x.backup, NULL, &x.failure));
	assert_true(clock_now() - begun < 12 * USEC_PER_SEC);
	end(&x);
}

/* Killed when the set is made and before it could say so: the next one knows. */
static void dies_after_the_set(void **state)
{
	struct fixture x;
	json_t *result = NULL;

	begin_backup(&x, BEHAVIOURS("die-after=DoSnapshotSet"));
	fake_harness_restart_when_gone(x.fake, BEHAVIOURS(NULL));
	assert_works(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure));
	assert_works(vss_backup_snapshot(x.backup, &result, &x.failure));
	assert_int_equal(json_array_size(json_object_get(result, "Shadows")), 1);
	json_decref(result);
	assert_works(vss_backup_complete(x.backup, &x.failure));
	end(&x);
}

static void restarted_between_set_and_complete(void **state)
{
	struct fixture x;

	begin_backup(&x, BEHAVIOURS(NULL));
	assert_works(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure));
	assert_works(vss_backup_snapshot(x.backup, NULL, &x.failure));
	fake_harness_kill(x.fake);
	fake_harness_restart_when_gone(x.fake, BEHAVIOURS(NULL));
	assert_works(vss_backup_set_succeeded(x.backup, true, &x.failure));
	assert_works(vss_backup_complete(x.backup, &x.failure));
	assert_true(fake_harness_called(x.fake, "BackupComplete"));
	end(&x);
}

/* The request for BackupComplete itself is lost: it is made again, once. */
static void dies_at_complete(void **state)
{
	struct fixture x;

	begin_backup(&x, BEHAVIOURS("die=BackupComplete"));
	fake_harness_restart_when_gone(x.fake, BEHAVIOURS(NULL));
	assert_works(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure));
	assert_works(vss_backup_snapshot(x.backup, NULL, &x.failure));
	assert_works(vss_backup_complete(x.backup, &x.failure));
	end(&x);
}

/* Died in the middle of an operation that was acknowledged, and does not know of it afterwards. */
static void forgets_the_operation(void **state)
{
	struct fixture x;

	begin_backup(&x, BEHAVIOURS("slow=DoSnapshotSet"));
	fake_harness_restart_after(x.fake, 500, BEHAVIOURS("forget=yes"));
	assert_works(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure));
	assert_int_equal(vss_backup_snapshot(x.backup, NULL, &x.failure), -1);
	assert_string_equal(x.failure.name, "CoordinatorRestarted");
	assert_true(x.failure.retryable);
	end(&x);
}

static void hang_is_noticed(void **state)
{
	struct fixture x;
	uint64_t begun;

	begin_backup(&x, BEHAVIOURS("hang=DoSnapshotSet"));
	assert_works(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure));
	begun = clock_now();
	assert_int_equal(vss_backup_snapshot(x.backup, NULL, &x.failure), -1);
	assert_string_equal(x.failure.name, "NotAvailable");
	x.backup = vss_backup_free(x.backup); /* does not wait for it once more */
	assert_true(clock_now() - begun < 16 * USEC_PER_SEC);
	end(&x);
}

static void not_there(void **state)
{
	struct bus_harness *bus = bus_harness_start();
	struct vss_connection *connection = NULL;
	struct vss_failure failure;
	json_t *rows = NULL;
	uint64_t begun = clock_now();

	assert_int_equal(vss_connect(&connection, NULL, &failure), 0);
	assert_int_equal(vss_query(connection, "ListWriters", NULL, 0, &rows, &failure), -1);
	assert_string_equal(failure.name, "NotAvailable");
	assert_true(clock_now() - begun < 2 * USEC_PER_SEC);
	vss_disconnect(connection);
	bus_harness_stop(bus);
}

static void errors_arrive(void **state)
{
	struct fixture x;
	json_t *result = NULL;

	begin_backup(&x,
		     BEHAVIOURS("error=AddToSnapshotSet:VolumeNotSupported", "result=DoSnapshotSet:WriterTimedOut"));
	assert_int_equal(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure), -1);
	assert_string_equal(x.failure.name, "VolumeNotSupported");
	assert_int_equal(x.failure.code, 0x8004230C);
	assert_false(x.failure.retryable);
	assert_int_equal(vss_backup_snapshot(x.backup, &result, &x.failure), -1);
	assert_string_equal(x.failure.name, "WriterTimedOut");
	assert_true(x.failure.retryable);
	assert_non_null(result);
	json_decref(result);
	x.backup = vss_backup_free(x.backup);
	assert_true(fake_harness_called(x.fake, "Abort"));
	end(&x);
}

static struct vss_connection *to_cancel; /* for the handler */

static void on_alarm(int number)
{
	vss_cancel(to_cancel);
}

/* From a signal handler, in the middle of a long wait. */
static void cancelled(void **state)
{
	struct fixture x;
	uint64_t begun;

	begin_backup(&x, BEHAVIOURS("slow=DoSnapshotSet"));
	assert_works(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure));
	to_cancel = x.connection;
	signal(SIGALRM, on_alarm);
	begun = clock_now();
	alarm(1);
	assert_int_equal(vss_backup_snapshot(x.backup, NULL, &x.failure), -1);
	assert_string_equal(x.failure.name, "Cancelled");
	assert_true(clock_now() - begun < 3 * USEC_PER_SEC);
	x.backup = vss_backup_free(x.backup);
	assert_true(fake_harness_called(x.fake, "Abort"));
	end(&x);
}

/* Somebody else on the bus says that the set is finished. */
static void forged_signal_is_ignored(void **state)
{
	struct fixture x;

	begin_backup(&x, BEHAVIOURS("slow=DoSnapshotSet"));
	assert_works(vss_backup_add(x.backup, "/data", -1, NULL, &x.failure));
	fake_harness_forge_finished(x.fake, vss_backup_id(x.backup));
	to_cancel = x.connection;
	signal(SIGALRM, on_alarm);
	alarm(2);
	assert_int_equal(vss_backup_snapshot(x.backup, NULL, &x.failure), -1);
	assert_string_equal(x.failure.name, "Cancelled");
	end(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_backup),
		cmocka_unit_test(finished_is_missed),
		cmocka_unit_test(dies_after_the_set),
		cmocka_unit_test(restarted_between_set_and_complete),
		cmocka_unit_test(dies_at_complete),
		cmocka_unit_test(forgets_the_operation),
		cmocka_unit_test(hang_is_noticed),
		cmocka_unit_test(not_there),
		cmocka_unit_test(errors_arrive),
		cmocka_unit_test(cancelled),
		cmocka_unit_test(forged_signal_is_ignored),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("requestor", tests, NULL, NULL);
}
