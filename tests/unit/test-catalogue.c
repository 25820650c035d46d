/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The view of storage: what is read, what is remembered, what is swept, what is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "coordinator/catalogue.h"
#include "tests/unit/fake-workers.h"
#include "tests/unit/tape.h"

#define US "00000000000000000000000000000001"
#define THEM "00000000000000000000000000000002"
#define COPY(n) "00000000-0000-4000-8000-00000000000" n

struct bench {
	sd_event *event;
	struct config config;
	struct workers *workers;
	struct catalogue *catalogue;
	char answer[4096];
	unsigned told;
	struct err last;
	const char *live_session, *live_set;
};

static void added(const char *copy, void *data)
{
	tape_add("added %s", copy + 35);
}

static void removed(const char *copy, void *data)
{
	tape_add("removed %s", copy + 35);
}

static bool session_lives(const char *session, void *data)
{
	const char *live = ((struct bench *)data)->live_session;

	return live && strcmp(session, live) == 0;
}

static bool set_lives(const char *set, void *data)
{
	const char *live = ((struct bench *)data)->live_set;

	return live && strcmp(set, live) == 0;
}

static int setup(void **state)
{
	static struct bench b;

	b = (struct bench){ 0 };
	tape_clear();
	config_defaults(&b.config);
	assert_true(sd_event_new(&b.event) >= 0);
	b.workers = fake_workers_new(b.event);
	b.catalogue = catalogue_new(b.event, b.workers, &b.config, US,
				    &(struct catalogue_listener){ added, removed, session_lives, set_lives, &b });
	*state = &b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	workers_free(b->workers);
	catalogue_free(b->catalogue);
	sd_event_unref(b->event);
	return 0;
}

static void turns(struct bench *b)
{
	while (sd_event_run(b->event, 0) > 0)
		;
}

static void told(const struct err *err, void *data)
{
	struct bench *b = data;

	b->told++;
	b->last = *err;
}

/* Storage holds this from now on: the inside of one filesystem's object. */
static void storage(struct bench *b, const char *inside)
{
	fake_workers_obey(b->workers);
	snprintf(b->answer, sizeof b->answer, "{\"Filesystems\": [{\"Uuid\": \"fs\", %s}]}", inside);
	fake_workers_rule(b->workers, "btrfs list", FAKE_OK, VSS_OK, b->answer);
}

static void read_it(struct bench *b)
{
	unsigned before = b->told;

	catalogue_refresh(b->catalogue, told, b);
	turns(b);
	assert_int_equal(b->told, before + 1);
}

#define RECORD(host, persistent, session, created)                                                           \
	"{\"Host\": \"" host "\", \"Persistent\": " persistent ", \"Session\": \"" session                   \
	"\", \"Set\": \"s1\", \"SetCount\": 1, \"Created\": " created ", \"Volume\": {\"Path\": \"/data\", \"Id\": \"v1\"}}"
#define ENTRY(n, token, record) "{\"Copy\": \"" COPY(n) "\", \"Token\": \"" token "\", \"Record\": " record "}"

static void rows_of_what_is_there(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("2", "t", RECORD(US, "true", "", "20")) "," ENTRY(
			   "1", "t", RECORD(US, "true", "", "10")) "," ENTRY("3", "t", RECORD(THEM, "true", "", "15")) "]");
	read_it(b);
	assert_int_equal(b->last.code, VSS_OK);
	autojson json_t *rows = catalogue_rows(b->catalogue, NULL), *row = catalogue_row(b->catalogue, COPY("3"));
	assert_int_equal(json_array_size(rows), 3);
	assert_int_equal(catalogue_count(b->catalogue), 3);
	for (size_t i = 0; i < 3; i++) /* oldest first */
		assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, i), "Created")), 10 + 5 * (int)i);
	assert_string_equal(json_string_value(json_object_get(row, "State")), "foreign");
	assert_string_equal(json_string_value(json_object_get(row, "Volume")), "/data");
	autojson json_t *filter = json_pack("{ss}", "Shadow", COPY("1"));
	autojson json_t *one = catalogue_rows(b->catalogue, filter);
	assert_int_equal(json_array_size(one), 1);
	assert_null(catalogue_row(b->catalogue, COPY("9")));
}

/* What has not changed is not read again: its token says so. */
static void tokens(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "token-1", RECORD(US, "true", "", "10")) "]");
	read_it(b);
	json_t *known = json_object_get(fake_workers_request(b->workers, "btrfs list"), "Known");
	assert_int_equal(json_object_size(known), 0);
	storage(b, "\"Copies\": [{\"Copy\": \"" COPY("1") "\", \"Exposed\": \"/mnt\"}]");
	read_it(b);
	known = json_object_get(json_object_get(fake_workers_request(b->workers, "btrfs list"), "Known"), "fs");
	assert_string_equal(json_string_value(json_object_get(known, COPY("1"))), "token-1");
	autojson json_t *row = catalogue_row(b->catalogue, COPY("1"));
	assert_string_equal(json_string_value(json_object_get(row, "Volume")), "/data");
	assert_string_equal(json_string_value(json_object_get(row, "Exposed")), "/mnt");
	assert_string_equal(tape_text(), "job list\njob list\nadded 1\njob list\njob list\n");
	/* one that nobody knows and that says nothing is nothing */
	storage(b, "\"Copies\": [{\"Copy\": \"" COPY("7") "\"}]");
	read_it(b);
	assert_int_equal(catalogue_count(b->catalogue), 0);
}

static void gone_or_only_unreadable(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "true", "", "10")) "]");
	read_it(b);
	storage(b, "\"Error\": \"cannot be opened\"");
	read_it(b);
	assert_true(catalogue_has(b->catalogue, COPY("1")));
	fake_workers_rule(b->workers, "list", FAKE_ERROR, VSS_E_TIMED_OUT, NULL);
	read_it(b);
	assert_int_equal(b->last.code, VSS_E_TIMED_OUT);
	assert_true(catalogue_has(b->catalogue, COPY("1")));
	storage(b, "\"Copies\": []");
	read_it(b);
	assert_false(catalogue_has(b->catalogue, COPY("1")));
	assert_int_equal(tape_count("removed 1"), 1);
}

static void sweeps(void **state)
{
	struct bench *b = *state;

	b->live_session = "alive";
	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "false", "dead", "1")) "," ENTRY(
			   "2", "t", RECORD(US, "false", "alive", "2")) "," ENTRY("3", "t", RECORD(THEM, "false", "dead", "3")) "," ENTRY(
			   "4", "t", RECORD(US, "true", "dead", "4")) ", {\"Copy\": \"" COPY("5") "\", \"Error\": \"torn\"}]");
	read_it(b);
	turns(b);
	/* ours, volatile and without a session: the first alone */
	assert_int_equal(tape_count("job remove"), 1);
	assert_string_equal(json_string_value(json_object_get(fake_workers_request(b->workers, "remove"), "Copy")), COPY("1"));
	assert_false(catalogue_has(b->catalogue, COPY("1")));
	assert_int_equal(catalogue_count(b->catalogue), 4);
	autojson json_t *row = catalogue_row(b->catalogue, COPY("5"));
	assert_string_equal(json_string_value(json_object_get(row, "State")), "unfinished");
	assert_false(catalogue_is_busy(b->catalogue));
}

/* It is among its volume's copies, with the reason and no label. */
static void damaged_copies(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [{\"Copy\": \"" COPY("1") "\", \"Token\": \"t\", \"Error\": \"it has overflowed\", \"Record\": " RECORD(
			   US, "true", "", "1") "}]");
	read_it(b);
	autojson json_t *row = catalogue_row(b->catalogue, COPY("1"));
	assert_string_equal(json_string_value(json_object_get(row, "State")), "unfinished");
	assert_string_equal(json_string_value(json_object_get(row, "ConsistencyReason")), "it has overflowed");
	assert_string_equal(json_string_value(json_object_get(row, "Consistency")), "");
	assert_true(json_string_length(json_object_get(row, "Volume")) > 0);
	assert_string_equal(json_string_value(json_object_get(row, "Host")), US);
}

#define UNFINISHED(n, host, set) \
	"{\"Copy\": \"" COPY(n) "\", \"Host\": \"" host "\", \"Set\": \"" set "\"}"

static void unfinished_copies(void **state)
{
	struct bench *b = *state;

	b->live_set = "being-made";
	storage(b, "\"Unfinished\": [" UNFINISHED("1", US, "crashed") "," UNFINISHED("2", US, "being-made") "," UNFINISHED(
			   "3", THEM, "crashed") ", {\"Copy\": \"../../etc\", \"Host\": \"" US "\"}]");
	read_it(b);
	turns(b);
	assert_int_equal(tape_count("job abort"), 1);
	json_t *request = fake_workers_request(b->workers, "abort");
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(json_object_get(request, "Members"), 0), "Copy")), COPY("1"));
	assert_string_equal(json_string_value(json_object_get(request, "Host")), US);
	assert_int_equal(catalogue_count(b->catalogue), 1); /* another machine's: listed, left alone */
	assert_true(catalogue_has(b->catalogue, COPY("3")));
}

/* Whoever asks while storage is being read may have changed what was read already: he waits for the next reading. */
static void readings_are_shared_but_not_stale(void **state)
{
	struct bench *b = *state;

	fake_workers_rule(b->workers, "btrfs list", FAKE_HOLD, VSS_OK, NULL);
	catalogue_refresh(b->catalogue, told, b);
	catalogue_refresh(b->catalogue, told, b);
	catalogue_refresh(b->catalogue, told, b);
	assert_int_equal(tape_count("job list"), 2);
	fake_workers_answer(b->workers, "btrfs list", VSS_OK);
	turns(b);
	assert_int_equal(b->told, 1);
	assert_int_equal(tape_count("job list"), 4); /* of each provider */
	fake_workers_answer(b->workers, "btrfs list", VSS_OK);
	turns(b);
	assert_int_equal(b->told, 3);
	assert_int_equal(tape_count("job list"), 4); /* of each provider */
}

/* A copy that was deleted while storage was read does not come back from the old reading. */
static void deleted_during_a_reading(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "true", "", "10")) "]");
	read_it(b);
	fake_workers_rule(b->workers, "btrfs list", FAKE_HOLD, VSS_OK, b->answer);
	catalogue_refresh(b->catalogue, told, b);
	catalogue_forget(b->catalogue, COPY("1"));
	fake_workers_obey(b->workers);
	storage(b, "\"Copies\": []");
	fake_workers_answer(b->workers, "btrfs list", VSS_OK);
	turns(b);
	assert_int_equal(b->told, 2);
	assert_false(catalogue_has(b->catalogue, COPY("1")));
	assert_int_equal(tape_count("added 1"), 1);
}

/* And one that was sealed meanwhile does not vanish because the reading missed it. */
static void sealed_during_a_reading(void **state)
{
	struct bench *b = *state;
	autojson json_t *record = json_loads(RECORD(US, "true", "", "10"), 0, NULL);
	autojson json_t *volume = json_pack("{ss ss}", "Provider", "btrfs", "FsUuid", "fs");

	json_object_set_new(record, "Shadow", json_string(COPY("1")));
	fake_workers_rule(b->workers, "btrfs list", FAKE_HOLD, VSS_OK, "{\"Filesystems\": []}");
	catalogue_refresh(b->catalogue, told, b);
	catalogue_add(b->catalogue, volume, record);
	fake_workers_answer(b->workers, "btrfs list", VSS_OK);
	turns(b);
	assert_true(catalogue_has(b->catalogue, COPY("1")));
}

/* Storage is as it was before the copy was made, by its token, too: somebody has deleted it since. */
static void made_and_gone_between_readings(void **state)
{
	struct bench *b = *state;
	autojson json_t *record = json_loads(RECORD(US, "true", "", "10"), 0, NULL);
	autojson json_t *volume = json_pack("{ss ss}", "Provider", "btrfs", "FsUuid", "fs");

	json_object_set_new(record, "Shadow", json_string(COPY("1")));
	storage(b, "\"Token\": \"0\", \"Copies\": [], \"Unfinished\": []");
	read_it(b);
	for (int pass = 0; pass < 2; pass++) { /* made between two readings, and during one */
		unsigned before = b->told;
		if (pass == 0)
			catalogue_add(b->catalogue, volume, record);
		fake_workers_rule(b->workers, "btrfs list", FAKE_HOLD, VSS_OK, b->answer);
		catalogue_refresh(b->catalogue, told, b);
		json_t *tokens = json_object_get(fake_workers_request(b->workers, "btrfs list"), "Tokens");
		assert_int_equal(json_object_size(tokens), 0);
		if (pass == 0)
			catalogue_add(b->catalogue, volume, record);
		fake_workers_answer(b->workers, "btrfs list", VSS_OK);
		turns(b);
		assert_int_equal(b->told, before + 1);
	}
	assert_false(catalogue_has(b->catalogue, COPY("1")));
}

/* Nor is it taken for one that a crash has left, when the reading has seen it half made and its session has closed since. */
static void finished_during_a_reading(void **state)
{
	struct bench *b = *state;
	autojson json_t *record = json_loads(RECORD(US, "true", "", "10"), 0, NULL);
	autojson json_t *volume = json_pack("{ss ss}", "Provider", "btrfs", "FsUuid", "fs");

	json_object_set_new(record, "Shadow", json_string(COPY("1")));
	b->live_set = "being-made";
	fake_workers_rule(b->workers, "btrfs list", FAKE_HOLD, VSS_OK,
			  "{\"Filesystems\": [{\"Uuid\": \"fs\", \"Unfinished\": [" UNFINISHED("1", US, "being-made") "]}]}");
	catalogue_refresh(b->catalogue, told, b);
	catalogue_add(b->catalogue, volume, record);
	b->live_set = NULL;
	fake_workers_answer(b->workers, "btrfs list", VSS_OK);
	turns(b);
	assert_int_equal(tape_count("job abort"), 0);
	assert_true(catalogue_has(b->catalogue, COPY("1")));
}

static const char *member_of(struct bench *b, const char *copy, const char *member);

/* A reading that began before it was exposed does not know of it. */
static void exposed_during_a_reading(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "true", "", "10")) "]");
	read_it(b);
	fake_workers_rule(b->workers, "btrfs list", FAKE_HOLD, VSS_OK, b->answer);
	catalogue_refresh(b->catalogue, told, b);
	catalogue_set_exposed(b->catalogue, COPY("1"), "/mnt");
	fake_workers_obey(b->workers);
	fake_workers_rule(b->workers, "btrfs list", FAKE_HOLD, VSS_OK, NULL);
	fake_workers_answer_with(b->workers, "btrfs list", b->answer);
	turns(b);
	assert_int_equal(b->told, 1); /* storage is read again */
	assert_string_equal(member_of(b, COPY("1"), "Exposed"), "/mnt");
	fake_workers_answer_with(b->workers, "btrfs list",
				 "{\"Filesystems\": [{\"Uuid\": \"fs\", \"Copies\": [{\"Copy\": \"" COPY("1") "\", \"Token\": \"t\", "
				 "\"Exposed\": \"/mnt\"}]}]}");
	turns(b);
	assert_int_equal(b->told, 2);
	assert_string_equal(member_of(b, COPY("1"), "Exposed"), "/mnt");
}

/* ---- two providers ---- */

static void lvm_storage(struct bench *b, const char *inside)
{
	static char answer[2048];

	snprintf(answer, sizeof answer, "{\"Filesystems\": [{\"Uuid\": \"vg\", %s}]}", inside);
	fake_workers_rule(b->workers, "lvm list", FAKE_OK, VSS_OK, answer);
}

static const char *member_of(struct bench *b, const char *copy, const char *member)
{
	static char text[256];
	autojson json_t *row = catalogue_row(b->catalogue, copy);

	snprintf(text, sizeof text, "%s", json_string_value(json_object_get(row, member)) ?: "");
	return text;
}

static void each_copy_is_its_providers(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "true", "", "10")) "]");
	lvm_storage(b, "\"Copies\": [{\"Copy\": \"" COPY("2") "\", \"Token\": \"7\", \"Record\": {\"Host\": \"" US
		       "\", \"Persistent\": true, \"Created\": 20, \"Device\": \"/dev/vg/vss\"}}]");
	read_it(b);
	assert_int_equal(catalogue_count(b->catalogue), 2);
	assert_string_equal(member_of(b, COPY("1"), "Provider"), "btrfs");
	assert_string_equal(member_of(b, COPY("2"), "Provider"), "lvm");
	assert_string_equal(member_of(b, COPY("2"), "Filesystem"), "vg");
	assert_string_equal(member_of(b, COPY("2"), "Device"), "/dev/vg/vss");
	catalogue_remove(b->catalogue, COPY("2"), told, b);
	turns(b);
	assert_non_null(fake_workers_request(b->workers, "lvm remove"));
	assert_null(fake_workers_request(b->workers, "btrfs remove"));
}

#define IN_GROUP(group) "{\"Uuid\": \"" group "\", \"Token\": \"" group "\", \"Copies\": [{\"Copy\": \"" COPY("2") \
	"\", \"Token\": \"7\", \"Record\": {\"Host\": \"" US "\", \"Persistent\": true, \"Created\": 20, \"Device\": \"/dev/" group "/vss\"}}]}"

static void lvm_groups(struct bench *b, const char *groups)
{
	static char answer[2048];

	snprintf(answer, sizeof answer, "{\"Filesystems\": [%s]}", groups);
	fake_workers_rule(b->workers, "lvm list", FAKE_OK, VSS_OK, answer);
}

static void expect_removal(struct bench *b, bool possible)
{
	unsigned before = b->told;

	catalogue_remove(b->catalogue, COPY("2"), told, b);
	turns(b);
	assert_int_equal(b->told, before + 1);
	assert_int_equal(b->last.code, possible ? VSS_OK : VSS_E_BAD_STATE);
	assert_int_equal(fake_workers_request(b->workers, "lvm remove") != NULL, possible);
}

/* Deleting, or reverting to, whichever was read first would be a toss. */
static void a_clones_copy_is_not_taken_for_the_original(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": []");
	lvm_groups(b, IN_GROUP("vg") "," IN_GROUP("clone"));
	for (int i = 0; i < 2; i++) {
		read_it(b);
		assert_int_equal(catalogue_count(b->catalogue), 1);
		assert_string_equal(member_of(b, COPY("2"), "Device"), "/dev/vg/vss");
		expect_removal(b, false);
	}
	assert_non_null(strstr(b->last.text, "/dev/vg/vss and /dev/clone/vss"));
	lvm_groups(b, "{\"Uuid\": \"vg\", \"Unchanged\": true}, {\"Uuid\": \"clone\", \"Unchanged\": true}");
	read_it(b);
	expect_removal(b, false);
	lvm_groups(b, "{\"Uuid\": \"vg\", \"Unchanged\": true}"); /* the clone was exported */
	read_it(b);
	expect_removal(b, true);
}

/* A group that was moved, or given a new UUID, while nobody looked. */
static void a_copy_may_move(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": []");
	lvm_groups(b, IN_GROUP("vg"));
	read_it(b);
	lvm_groups(b, IN_GROUP("clone"));
	read_it(b);
	assert_int_equal(catalogue_count(b->catalogue), 1);
	assert_string_equal(member_of(b, COPY("2"), "Device"), "/dev/clone/vss");
	expect_removal(b, true);
}

static void the_clones_copy_is_left_when_the_original_goes(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": []");
	lvm_groups(b, IN_GROUP("vg") "," IN_GROUP("clone"));
	read_it(b);
	lvm_groups(b, "{\"Uuid\": \"vg\", \"Token\": \"8\", \"Copies\": []}, {\"Uuid\": \"clone\", \"Unchanged\": true}");
	read_it(b);
	assert_int_equal(catalogue_count(b->catalogue), 0);
	lvm_groups(b, "{\"Uuid\": \"vg\", \"Unchanged\": true}," IN_GROUP("clone"));
	read_it(b);
	assert_string_equal(member_of(b, COPY("2"), "Device"), "/dev/clone/vss");
	expect_removal(b, true);
}

/* LVM that does not answer hides neither the others' copies nor its own of before. */
static void one_provider_cannot_tell(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "true", "", "10")) "]");
	lvm_storage(b, "\"Copies\": [" ENTRY("2", "7", RECORD(US, "true", "", "20")) "]");
	read_it(b);
	storage(b, "\"Copies\": [" ENTRY("3", "t", RECORD(US, "true", "", "30")) "]");
	fake_workers_rule(b->workers, "lvm list", FAKE_ERROR, VSS_E_TIMED_OUT, NULL);
	read_it(b);
	assert_int_equal(b->last.code, VSS_OK);
	assert_false(catalogue_has(b->catalogue, COPY("1")));
	assert_true(catalogue_has(b->catalogue, COPY("2")));
	assert_true(catalogue_has(b->catalogue, COPY("3")));
	fake_workers_rule(b->workers, "btrfs list", FAKE_ERROR, VSS_E_TIMED_OUT, NULL);
	read_it(b);
	assert_int_equal(b->last.code, VSS_E_TIMED_OUT);
	assert_int_equal(catalogue_count(b->catalogue), 2);
}

static void unfinished_is_aborted_by_its_provider(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": []");
	lvm_storage(b, "\"Unfinished\": [{\"Copy\": \"" COPY("4") "\", \"Host\": \"" US "\", \"Set\": \"s\"}]");
	read_it(b);
	turns(b);
	assert_non_null(fake_workers_request(b->workers, "lvm abort"));
	assert_null(fake_workers_request(b->workers, "btrfs abort"));
}

static void nobody_waits_for_ever(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "true", "", "10")) "]");
	read_it(b);
	/* no reading can be started at all */
	fake_workers_rule(b->workers, "list", FAKE_REFUSE, VSS_OK, NULL);
	read_it(b);
	assert_int_equal(b->last.code, VSS_E_LIMITS_EXCEEDED);
	/* the one that has to be repeated cannot be: those who wait for the one after it are told too */
	fake_workers_obey(b->workers);
	fake_workers_rule(b->workers, "btrfs list", FAKE_HOLD, VSS_OK, b->answer);
	catalogue_refresh(b->catalogue, told, b);
	catalogue_refresh(b->catalogue, told, b);
	catalogue_forget(b->catalogue, COPY("1"));
	fake_workers_rule(b->workers, "list", FAKE_REFUSE, VSS_OK, NULL);
	fake_workers_answer(b->workers, "btrfs list", VSS_OK);
	turns(b);
	assert_int_equal(b->told, 4);
}

static void removal(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "true", "", "10")) "]");
	read_it(b);
	catalogue_remove(b->catalogue, COPY("9"), told, b);
	assert_int_equal(b->last.code, VSS_E_OBJECT_NOT_FOUND);
	catalogue_set_exposed(b->catalogue, COPY("1"), "/mnt");
	catalogue_remove(b->catalogue, COPY("1"), told, b);
	assert_int_equal(b->last.code, VSS_E_VOLUME_IN_USE);
	assert_non_null(strstr(b->last.text, "/mnt"));
	assert_int_equal(tape_count("job remove"), 0);
	catalogue_set_exposed(b->catalogue, COPY("1"), "");
	fake_workers_rule(b->workers, "remove", FAKE_ERROR, VSS_E_UNEXPECTED_PROVIDER_ERROR, NULL);
	catalogue_remove(b->catalogue, COPY("1"), told, b);
	turns(b);
	assert_int_equal(b->last.code, VSS_E_UNEXPECTED_PROVIDER_ERROR);
	assert_true(catalogue_has(b->catalogue, COPY("1")));
	/* somebody else was faster: that is what was asked for */
	fake_workers_rule(b->workers, "remove", FAKE_ERROR, VSS_E_OBJECT_NOT_FOUND, NULL);
	catalogue_remove(b->catalogue, COPY("1"), told, b);
	turns(b);
	assert_int_equal(b->last.code, VSS_OK);
	assert_false(catalogue_has(b->catalogue, COPY("1")));
	assert_int_equal(b->told, 5);
}

/* Rows are handed out: what somebody holds stays as it was. */
static void rows_do_not_change_under_their_holder(void **state)
{
	struct bench *b = *state;

	storage(b, "\"Copies\": [" ENTRY("1", "t", RECORD(US, "true", "", "10")) "]");
	read_it(b);
	autojson json_t *held = catalogue_row(b->catalogue, COPY("1"));
	catalogue_set_exposed(b->catalogue, COPY("1"), "/mnt");
	assert_string_equal(json_string_value(json_object_get(held, "Exposed")), "");
}

/* A record that somebody made up: wrong types get no further than the row. */
static void hostile_records(void **state)
{
	static const char *const records[] = {
		"{}", "[]", "7", "{\"Host\": 1, \"Set\": [], \"Created\": \"x\", \"Volume\": \"y\", \"Persistent\": \"z\"}",
		"{\"Volume\": {\"Path\": {}, \"Id\": 3}, \"SetCount\": {}, \"Consistency\": null}",
	};
	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
		char inside[1024];
		snprintf(inside, sizeof inside, "\"Copies\": [{\"Copy\": \"" COPY("1") "\", \"Record\": %s}]", records[i]);
		storage(b, inside);
		read_it(b);
		autojson json_t *row = catalogue_row(b->catalogue, COPY("1"));
		assert_non_null(row);
		assert_string_equal(json_string_value(json_object_get(row, "State")), "foreign");
		assert_true(json_is_string(json_object_get(row, "Volume")));
		assert_int_equal(tape_count("job remove"), 0); /* not ours: never deleted */
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rows_of_what_is_there),
		TEST(tokens),
		TEST(made_and_gone_between_readings),
		TEST(gone_or_only_unreadable),
		TEST(sweeps),
		TEST(damaged_copies),
		TEST(unfinished_copies),
		TEST(readings_are_shared_but_not_stale),
		TEST(deleted_during_a_reading),
		TEST(sealed_during_a_reading),
		TEST(finished_during_a_reading),
		TEST(exposed_during_a_reading),
		TEST(each_copy_is_its_providers),
		TEST(a_clones_copy_is_not_taken_for_the_original),
		TEST(a_copy_may_move),
		TEST(the_clones_copy_is_left_when_the_original_goes),
		TEST(one_provider_cannot_tell),
		TEST(unfinished_is_aborted_by_its_provider),
		TEST(nobody_waits_for_ever),
		TEST(removal),
		TEST(rows_do_not_change_under_their_holder),
		TEST(hostile_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
