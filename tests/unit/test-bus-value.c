/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/bus-value.h"
#include "common/cleanup.h"

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	for (struct dirent *e; dir && (e = readdir(dir));)
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static DBusMessage *message_new(void)
{
	DBusMessage *message = dbus_message_new_signal("/", "org.example.Test", "Test");

	assert_non_null(message);
	return message;
}

/* As over the wire, so that libdbus' own checks have been passed. */
static DBusMessage *transfer(DBusMessage *message)
{
	DBusError error = DBUS_ERROR_INIT;
	DBusMessage *copy;
	char *bytes;
	int n;

	dbus_message_set_serial(message, 1);
	assert_true(dbus_message_marshal(message, &bytes, &n));
	copy = dbus_message_demarshal(bytes, n, &error);
	if (!copy)
		fail_msg("%s", error.message);
	dbus_free(bytes);
	dbus_message_unref(message);
	return copy;
}

static json_t *read_message(DBusMessage *message, struct err *err)
{
	int fds[BUS_VALUE_FDS_MAX];
	size_t n_fds = 0;
	json_t *args = NULL;

	if (bus_value_read(message, &args, fds, &n_fds, err) < 0)
		args = NULL;
	for (size_t i = 0; args && i < n_fds; i++)
		close(fds[i]);
	dbus_message_unref(message);
	return args;
}

/* JSON text -> D-Bus by signature -> JSON: equal to the text, or to back where that is given. */
static void round_trip(const char *signature, const char *text, const char *back)
{
	autojson json_t *args = json_loads(text, 0, NULL), *wanted = json_loads(back ? back : text, 0, NULL), *got = NULL;
	DBusMessage *message = message_new();
	struct err err = { 0 };

	assert_true(args && wanted);
	if (bus_value_append(message, signature, args, NULL, 0, &err) < 0)
		fail_msg("%s %s: %s", signature, text, err.text);
	assert_string_equal(dbus_message_get_signature(message), signature);
	got = read_message(transfer(message), &err);
	if (!got || !json_equal(got, wanted))
		fail_msg("%s %s: %s%s", signature, text, got ? json_dumps(got, 0) : "", err.text);
}

static void refuse(const char *signature, const char *text)
{
	autojson json_t *args = json_loads(text, 0, NULL);
	DBusMessage *message = message_new();
	struct err err = { 0 };

	assert_non_null(args);
	if (bus_value_append(message, signature, args, NULL, 0, &err) == 0)
		fail_msg("%s was taken for %s", text, signature);
	assert_int_equal(err.code, VSS_E_INVALID_ARGUMENT);
	assert_true(*err.text);
	dbus_message_unref(message);
}

static void plain_types(void **state)
{
	round_trip("", "[]", NULL);
	round_trip("s", "[\"\"]", NULL);
	round_trip("sog", "[\"Größe\", \"/org/vssd\", \"a{sv}\"]", NULL);
	round_trip("bb", "[true, false]", NULL);
	round_trip("ynqiuxt",
		   "[255, -32768, 65535, -2147483648, 4294967295, -9223372036854775808, 9223372036854775807]", NULL);
	round_trip("ddd", "[0.0, -1.5, 1e300]", NULL);
	round_trip("d", "[3]", "[3.0]");
}

static void containers(void **state)
{
	round_trip("as", "[[]]", NULL);
	round_trip("as", "[[\"a\", \"b\"]]", NULL);
	round_trip("aai", "[[[1], [], [2, 3]]]", NULL);
	round_trip("(s(ib))", "[[\"a\", [1, true]]]", NULL);
	round_trip("a(su)", "[[[\"a\", 1], [\"b\", 2]]]", NULL);
	round_trip("a{ss}", "[{\"a\": \"b\"}]", NULL);
	round_trip("a{sa{sv}}", "[{\"org.vssd.Session1\": {\"State\": \"Idle\"}}]", NULL);
	round_trip("sa{sv}as", "[\"x\", {}, []]", NULL);
	round_trip("ay", "[[1, 2, 255]]", NULL);
	/* What polkit takes and answers. */
	round_trip("(sa{sv})sa{ss}us", "[[\"system-bus-name\", {\"name\": \":1.7\"}], \"org.vssd.list\", {}, 0, \"\"]", NULL);
	round_trip("(bba{ss})", "[[true, false, {\"polkit.retains\": \"1\"}]]", NULL);
}

static void variants(void **state)
{
	round_trip("v", "[\"text\"]", NULL);
	round_trip("vvv", "[true, 7, 1.5]", NULL);
	round_trip("v", "[[]]", NULL);
	round_trip("v", "[[\"a\", \"b\"]]", NULL);
	round_trip("v", "[[{\"a\": 1}, {}]]", NULL);
	round_trip("v", "[[1, \"a\", [2], {\"b\": false}]]", NULL);
	round_trip("a{sv}", "[{\"a\": {\"b\": {\"c\": [1, 2]}}, \"d\": [\"x\"], \"e\": -1}]", NULL);
	round_trip("aa{sv}", "[[{\"Name\": \"A\"}, {\"Name\": \"B\", \"Paths\": []}]]", NULL);
	round_trip("a{sv}", "[{\"here\": 1, \"left out\": null}]", "[{\"here\": 1}]");
}

static void wrong_types_are_refused(void **state)
{
	refuse("s", "[]");
	refuse("s", "[1]");
	refuse("s", "[null]");
	refuse("i", "[\"1\"]");
	refuse("i", "[1.5]");
	refuse("b", "[1]");
	refuse("d", "[\"1\"]");
	refuse("as", "[{}]");
	refuse("as", "[[1]]");
	refuse("a{ss}", "[[]]");
	refuse("a{ss}", "[{\"a\": 1}]");
	refuse("a{is}", "[{\"a\": \"b\"}]");
	refuse("(ss)", "[[\"a\"]]");
	refuse("(ss)", "[\"a\"]");
	refuse("ss", "[\"a\"]");
	refuse("h", "[0]");
	refuse("h", "[-1]");
	refuse("h", "[\"0\"]");
	refuse("v", "[{\"$fd\": 3}]");
	refuse("v", "[null]");
}

/* libdbus ends the process on these unless they are caught before. */
static void what_libdbus_would_die_of_is_refused(void **state)
{
	refuse("o", "[\"\"]");
	refuse("o", "[\"relative\"]");
	refuse("o", "[\"/a//b\"]");
	refuse("o", "[\"/a/\"]");
	refuse("g", "[\"a\"]");
	refuse("g", "[\"(((\"]");
	refuse("g", "[\"z\"]");
	autojson json_t *with_nul = json_pack("[o]", json_stringn("a\0b", 3));
	autojson json_t *not_utf8 = json_pack("[o]", json_string_nocheck("\xff"));
	autojson json_t *bad_key = json_pack("[{sb}]", "x", 1);
	DBusMessage *message = message_new();
	json_object_set_new_nocheck(json_array_get(bad_key, 0), "\xff", json_true());
	assert_int_equal(bus_value_append(message, "s", with_nul, NULL, 0, NULL), -1);
	assert_int_equal(bus_value_append(message, "s", not_utf8, NULL, 0, NULL), -1);
	assert_int_equal(bus_value_append(message, "a{sv}", bad_key, NULL, 0, NULL), -1);
	assert_int_equal(bus_value_append(message, "v", with_nul, NULL, 0, NULL), -1);
	dbus_message_unref(message);
}

static void numbers_keep_to_their_types(void **state)
{
	refuse("y", "[256]");
	refuse("y", "[-1]");
	refuse("n", "[32768]");
	refuse("q", "[65536]");
	refuse("q", "[-1]");
	refuse("i", "[2147483648]");
	refuse("u", "[4294967296]");
	refuse("u", "[-1]");
	refuse("t", "[-1]");
}

static void unsigned_beyond_json_is_refused(void **state)
{
	dbus_uint64_t big = UINT64_MAX, largest = INT64_MAX;
	DBusMessage *message = message_new();
	struct err err = { 0 };
	autojson json_t *args = NULL;

	dbus_message_append_args(message, DBUS_TYPE_UINT64, &big, DBUS_TYPE_INVALID);
	assert_null(read_message(transfer(message), &err));
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	message = message_new();
	dbus_message_append_args(message, DBUS_TYPE_UINT64, &largest, DBUS_TYPE_INVALID);
	args = read_message(transfer(message), &err);
	assert_int_equal(json_integer_value(json_array_get(args, 0)), INT64_MAX);
}

static void number_that_is_not_finite_is_refused(void **state)
{
	double values[] = { 1.0 / 0.0, 0.0 / 0.0 };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		DBusMessage *message = message_new();
		dbus_message_append_args(message, DBUS_TYPE_DOUBLE, &values[i], DBUS_TYPE_INVALID);
		assert_null(read_message(transfer(message), NULL));
	}
}

static void keys_that_are_no_strings_are_refused(void **state)
{
	DBusMessage *message = message_new();
	DBusMessageIter it, array, entry;
	dbus_int32_t n = 1;

	dbus_message_iter_init_append(message, &it);
	dbus_message_iter_open_container(&it, DBUS_TYPE_ARRAY, "{ii}", &array);
	dbus_message_iter_open_container(&array, DBUS_TYPE_DICT_ENTRY, NULL, &entry);
	dbus_message_iter_append_basic(&entry, DBUS_TYPE_INT32, &n);
	dbus_message_iter_append_basic(&entry, DBUS_TYPE_INT32, &n);
	dbus_message_iter_close_container(&array, &entry);
	dbus_message_iter_close_container(&it, &array);
	assert_null(read_message(transfer(message), NULL));
}

/* A variant in a variant in a variant, as deep as libdbus lets it pass. */
static DBusMessage *nested(int depth)
{
	DBusMessage *message = message_new();
	DBusMessageIter it[64];
	dbus_int32_t n = 1;

	dbus_message_iter_init_append(message, &it[0]);
	for (int i = 0; i < depth; i++)
		dbus_message_iter_open_container(&it[i], DBUS_TYPE_VARIANT, i + 1 < depth ? "v" : "i", &it[i + 1]);
	dbus_message_iter_append_basic(&it[depth], DBUS_TYPE_INT32, &n);
	for (int i = depth; i-- > 0;)
		dbus_message_iter_close_container(&it[i], &it[i + 1]);
	return transfer(message);
}

static void depth_is_bounded(void **state)
{
	struct err err = { 0 };
	autojson json_t *args = read_message(nested(BUS_VALUE_DEPTH_MAX - 1), &err);

	assert_int_equal(json_integer_value(json_array_get(args, 0)), 1);
	for (int depth = BUS_VALUE_DEPTH_MAX + 1; depth <= 60; depth += 5) {
		err = (struct err){ 0 };
		assert_null(read_message(nested(depth), &err));
		assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	}
}

/* What we write is bounded too: libdbus would not send a deeper one, and would not say so. */
static void deep_json_is_refused(void **state)
{
	json_t *deep = json_integer(1);
	DBusMessage *message = message_new();
	struct err err = { 0 };

	for (int i = 0; i < 200; i++)
		deep = json_pack("{so}", "x", deep);
	autojson json_t *args = json_pack("[o]", deep);
	assert_int_equal(bus_value_append(message, "v", args, NULL, 0, &err), -1);
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	dbus_message_unref(message);
}

static void number_of_values_is_bounded(void **state)
{
	size_t sizes[] = { 1000, BUS_VALUE_NODES_MAX - 1, BUS_VALUE_NODES_MAX + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned char *bytes = calloc(1, sizes[i]);
		DBusMessage *message = message_new();
		struct err err = { 0 };
		dbus_message_append_args(message, DBUS_TYPE_ARRAY, DBUS_TYPE_BYTE, &bytes, (int)sizes[i],
					 DBUS_TYPE_INVALID);
		autojson json_t *args = read_message(transfer(message), &err);
		if (sizes[i] < BUS_VALUE_NODES_MAX)
			assert_int_equal(json_array_size(json_array_get(args, 0)), sizes[i]);
		else
			assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
		free(bytes);
	}
}

static void descriptors_travel_by_index(void **state)
{
	int before = count_fds(), fds[BUS_VALUE_FDS_MAX];
	int given[2] = { open("/dev/null", O_RDONLY | O_CLOEXEC), open("/dev/zero", O_RDONLY | O_CLOEXEC) };
	DBusMessage *message = message_new();
	json_t *args = json_pack("[i{s{si}}]", 1, "Copy", "$fd", 0), *got;
	size_t n_fds;

	assert_int_equal(bus_value_append(message, "ha{sv}", args, given, 2, NULL), 0);
	json_decref(args);
	assert_int_equal(bus_value_read(message, &got, fds, &n_fds, NULL), 0);
	assert_int_equal(n_fds, 2);
	assert_int_equal(json_integer_value(json_array_get(got, 0)), 0);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(got, 1), "Copy")), 1);
	struct stat first, second;
	fstat(fds[0], &first);
	fstat(fds[1], &second);
	assert_true(first.st_rdev == makedev(1, 5) && second.st_rdev == makedev(1, 3));
	json_decref(got);
	dbus_message_unref(message);
	for (size_t i = 0; i < 2; i++) {
		close(fds[i]);
		close(given[i]);
	}
	assert_int_equal(count_fds(), before);
}

static void too_many_descriptors_are_refused_and_closed(void **state)
{
	int before = count_fds(), fd = STDIN_FILENO, fds[BUS_VALUE_FDS_MAX];
	DBusMessage *message = message_new();
	json_t *args = NULL;
	size_t n_fds;
	struct err err = { 0 };

	for (int i = 0; i < BUS_VALUE_FDS_MAX + 1; i++)
		dbus_message_append_args(message, DBUS_TYPE_UNIX_FD, &fd, DBUS_TYPE_INVALID);
	assert_int_equal(bus_value_read(message, &args, fds, &n_fds, &err), -1);
	assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	dbus_message_unref(message);
	assert_int_equal(count_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_types),
		cmocka_unit_test(containers),
		cmocka_unit_test(variants),
		cmocka_unit_test(wrong_types_are_refused),
		cmocka_unit_test(what_libdbus_would_die_of_is_refused),
		cmocka_unit_test(numbers_keep_to_their_types),
		cmocka_unit_test(unsigned_beyond_json_is_refused),
		cmocka_unit_test(number_that_is_not_finite_is_refused),
		cmocka_unit_test(keys_that_are_no_strings_are_refused),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(deep_json_is_refused),
		cmocka_unit_test(number_of_values_is_bounded),
		cmocka_unit_test(descriptors_travel_by_index),
		cmocka_unit_test(too_many_descriptors_are_refused_and_closed),
	};

	return cmocka_run_group_tests_name("bus-value", tests, NULL, NULL);
}
