/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The binding (common/bus*.c) on a real dbus-daemon: objects, properties, signals, names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "bus-service.h"
#include "common/cleanup.h"
#include "common/clock.h"

#define PROPERTIES "org.freedesktop.DBus.Properties"
#define INTROSPECTABLE "org.freedesktop.DBus.Introspectable"
#define OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"

/* Signals as they come, "path member args" a line. */
struct heard {
	bool any;
	unsigned n;
	char text[4096];
	struct bus_watch *drop; /* freed by the first signal */
};

static void note_signal(const char *path, const char *member, json_t *args, void *data)
{
	struct heard *h = data;
	autofree char *json = json_dumps(args, JSON_COMPACT | JSON_SORT_KEYS);
	size_t n = strlen(h->text);

	snprintf(h->text + n, sizeof h->text - n, "%s %s %s\n", path, member, json);
	h->any = true;
	h->n++;
	h->drop = bus_watch_free(h->drop);
}

/* Until all that was sent before has been delivered: a call takes the same way. */
static void settle(struct service *s)
{
	struct answer a;

	service_run(s, NULL, 30);
	service_call(s, "Echo", "sa{sv}", "[\"\", {}]", &a);
	answer_reset(&a);
}

/* ---- introspection and properties ---- */

static void introspection_shows_the_tables(void **state)
{
	struct answer a;
	static const char *const parts[] = {
		"<interface name=\"org.vssd.Test1\">",
		"<method name=\"Echo\">",
		"<arg name=\"text\" type=\"s\" direction=\"in\"/>",
		"<arg name=\"options\" type=\"a{sv}\" direction=\"out\"/>",
		"<signal name=\"Rang\">",
		"<arg name=\"details\" type=\"a{sv}\"/>",
		"<property name=\"Number\" type=\"x\" access=\"read\"/>",
		"EmitsChangedSignal\" value=\"false\"",
		"org.freedesktop.DBus.Properties",
	};

	service_call_at(*state, SERVICE_PATH, INTROSPECTABLE, "Introspect", "", json_array(), &a);
	const char *xml = json_string_value(json_array_get(a.args, 0));
	assert_non_null(xml);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (!strstr(xml, parts[i]))
			fail_msg("%s is not in %s", parts[i], xml);
	answer_reset(&a);
}

/* Tools walk from "/" down to find the objects. */
static void introspection_leads_from_the_root_to_the_objects(void **state)
{
	static const char *const way[][2] = { { "/", "org" }, { "/org", "vssd" }, { "/org/vssd", "test" } };
	struct answer a;
	char node[64];

	for (size_t i = 0; i < ARRAY_SIZE(way); i++) {
		service_call_at(*state, way[i][0], INTROSPECTABLE, "Introspect", "", json_array(), &a);
		snprintf(node, sizeof node, "<node name=\"%s\"/>", way[i][1]);
		if (a.error || !strstr(json_string_value(json_array_get(a.args, 0)), node))
			fail_msg("%s: %s", way[i][0], a.message);
		answer_reset(&a);
	}
}

static void properties_can_be_read(void **state)
{
	struct service *s = *state;
	struct answer a;

	service_call_at(s, SERVICE_PATH, PROPERTIES, "Get", "ss", json_pack("[ss]", SERVICE_INTERFACE, "Number"), &a);
	assert_int_equal(json_integer_value(json_array_get(a.args, 0)), 7);
	answer_reset(&a);
	service_call_at(s, SERVICE_PATH, PROPERTIES, "GetAll", "s", json_pack("[s]", SERVICE_INTERFACE), &a);
	autojson json_t *wanted = json_loads("[{\"Number\": 7, \"Words\": [\"one\", \"two\"], \"Quiet\": true}]", 0, NULL);
	assert_true(json_equal(a.args, wanted));
	answer_reset(&a);
	service_call_at(s, SERVICE_PATH, PROPERTIES, "Get", "ss", json_pack("[ss]", SERVICE_INTERFACE, "None"), &a);
	assert_string_equal(a.error_name, "org.freedesktop.DBus.Error.UnknownProperty");
	answer_reset(&a);
	service_call_at(s, SERVICE_PATH, PROPERTIES, "Get", "s", json_pack("[s]", "x"), &a);
	assert_int_equal(a.error, VSS_E_INVALID_ARGUMENT);
	answer_reset(&a);
	service_call_at(s, SERVICE_PATH, PROPERTIES, "Set", "ssv", json_pack("[ssi]", SERVICE_INTERFACE, "Number", 8), &a);
	assert_string_equal(a.error_name, "org.freedesktop.DBus.Error.PropertyReadOnly");
	answer_reset(&a);
}

static void changes_of_one_turn_go_out_as_one_signal(void **state)
{
	struct service *s = *state;
	struct heard h = { 0 };
	struct bus_watch *watch = bus_watch_signals(s->client, SERVICE_NAME, SERVICE_PATH, PROPERTIES, note_signal, &h);

	settle(s);
	for (int i = 0; i < 100; i++) {
		s->number = i;
		bus_changed(s->server, SERVICE_PATH, SERVICE_INTERFACE, "Number");
	}
	bus_changed(s->server, SERVICE_PATH, SERVICE_INTERFACE, "Words");
	bus_changed(s->server, SERVICE_PATH, SERVICE_INTERFACE, "Quiet");
	bus_changed(s->server, SERVICE_PATH, SERVICE_INTERFACE, "NoSuch");
	bus_changed(s->server, "/no/such", SERVICE_INTERFACE, "Number");
	settle(s);
	assert_string_equal(h.text, SERVICE_PATH " PropertiesChanged [\"" SERVICE_INTERFACE
						 "\",{\"Number\":99,\"Words\":[\"one\",\"two\"]},[]]\n");
	bus_watch_free(watch);
}

static void change_of_an_object_that_goes_is_dropped(void **state)
{
	struct service *s = *state;
	struct heard h = { 0 };
	struct bus_watch *watch = bus_watch_signals(s->client, SERVICE_NAME, "/org/vssd", PROPERTIES, note_signal, &h);
	const struct bus_interface *const interfaces[] = { &service_interface, NULL };

	assert_int_equal(bus_export(s->server, "/org/vssd/brief", interfaces, s, NULL), 0);
	settle(s);
	bus_changed(s->server, "/org/vssd/brief", SERVICE_INTERFACE, "Number");
	bus_unexport(s->server, "/org/vssd/brief");
	settle(s);
	assert_int_equal(h.n, 0);
	bus_watch_free(watch);
}

/* ---- objects ---- */

static void manager_knows_all_objects(void **state)
{
	struct service *s = *state;
	struct heard h = { 0 };
	struct bus_watch *watch = bus_watch_signals(s->client, SERVICE_NAME, "/org/vssd", OBJECT_MANAGER, note_signal, &h);
	const struct bus_interface *const interfaces[] = { &service_interface, NULL };
	struct answer a;

	assert_int_equal(bus_export(s->server, "/org/vssd", NULL, s, NULL), 0);
	assert_int_equal(bus_export_manager(s->server, "/org/vssd", NULL), 0);
	settle(s);
	assert_int_equal(bus_export(s->server, "/org/vssd/other", interfaces, s, NULL), 0);
	settle(s);
	assert_string_equal(h.text, "/org/vssd InterfacesAdded [\"/org/vssd/other\",{\"" SERVICE_INTERFACE
				    "\":{\"Number\":7,\"Quiet\":true,\"Words\":[\"one\",\"two\"]}}]\n");
	*h.text = '\0';
	bus_unexport(s->server, "/org/vssd/other");
	settle(s);
	assert_string_equal(h.text, "/org/vssd InterfacesRemoved [\"/org/vssd/other\",[\"" SERVICE_INTERFACE "\"]]\n");
	assert_int_equal(bus_call(s->client, SERVICE_NAME, "/org/vssd", OBJECT_MANAGER, "GetManagedObjects", "", json_array(),
				  NULL, 0, USEC_INFINITY, answer_note, memset(&a, 0, sizeof a), NULL, NULL),
			 0);
	assert_true(service_run(s, &a.done, 20000));
	assert_int_equal(a.error, VSS_OK);
	json_t *object = json_object_get(json_array_get(a.args, 0), SERVICE_PATH);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(object, SERVICE_INTERFACE), "Number")), 7);
	answer_reset(&a);
	bus_watch_free(watch);
}

static void path_is_exported_once(void **state)
{
	struct service *s = *state;
	const struct bus_interface *const interfaces[] = { &service_interface, NULL };
	struct err err = { 0 };

	assert_int_equal(bus_export(s->server, SERVICE_PATH, interfaces, s, &err), -1);
	assert_non_null(strstr(err.text, SERVICE_PATH));
}

static void handler_may_end_its_own_object(void **state)
{
	struct service *s = *state;
	struct answer a;

	service_call(s, "EndObject", "", "[]", &a);
	assert_int_equal(a.error, VSS_OK);
	answer_reset(&a);
	service_call(s, "Echo", "sa{sv}", "[\"\", {}]", &a);
	assert_int_not_equal(a.error, VSS_OK);
	answer_reset(&a);
}

static void a_thousand_objects(void **state)
{
	struct service *s = *state;
	const struct bus_interface *const interfaces[] = { &service_interface, NULL };
	struct answer a;
	char path[64];

	assert_int_equal(bus_export(s->server, "/org/vssd", NULL, s, NULL), 0);
	assert_int_equal(bus_export_manager(s->server, "/org/vssd", NULL), 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(path, sizeof path, "/org/vssd/many/%d", i);
		assert_int_equal(bus_export(s->server, path, interfaces, s, NULL), 0);
	}
	service_call_at(s, "/org/vssd", OBJECT_MANAGER, "GetManagedObjects", "", json_array(), &a);
	assert_int_equal(json_object_size(json_array_get(a.args, 0)), 1001);
	answer_reset(&a);
}

/* ---- signals ---- */

static void emit(struct bus *bus, const char *path, const char *name)
{
	bus_emit(bus, path, SERVICE_INTERFACE, "Rang", "sa{sv}", json_pack("[s{}]", name));
}

static void signals_come_from_path_and_interface(void **state)
{
	struct service *s = *state;
	struct heard h = { 0 };
	struct bus_watch *watch = bus_watch_signals(s->client, SERVICE_NAME, "/org/vssd/test", SERVICE_INTERFACE,
						    note_signal, &h);

	settle(s);
	emit(s->server, "/org/vssd/test", "a");
	emit(s->server, "/org/vssd/test/below", "b");
	emit(s->server, "/org/vssd/testing", "not below");
	emit(s->server, "/org/vssd", "above");
	bus_emit(s->server, "/org/vssd/test", "org.example.Other", "Rang", "s", json_pack("[s]", "other"));
	settle(s);
	assert_string_equal(h.text, "/org/vssd/test Rang [\"a\",{}]\n/org/vssd/test/below Rang [\"b\",{}]\n");
	bus_watch_free(watch);
	emit(s->server, "/org/vssd/test", "too late");
	settle(s);
	assert_int_equal(h.n, 2);
}

/* Whoever else sends the same signal, also straight to us: only the owner of the name is believed. */
static void only_the_owner_of_the_name_is_believed(void **state)
{
	struct service *s = *state;
	struct heard believed = { 0 }, all = { 0 };
	struct bus_watch *watch =
		bus_watch_signals(s->client, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, note_signal, &believed);
	struct bus_watch *any = bus_watch_signals(s->client, NULL, SERVICE_PATH, SERVICE_INTERFACE, note_signal, &all);
	struct bus *stranger;

	assert_int_equal(bus_open(&stranger, NULL, NULL), 0);
	settle(s);
	emit(stranger, SERVICE_PATH, "forged");
	bus_flush(stranger);
	assert_true(service_run(s, &all.any, 20000));
	assert_string_equal(all.text, SERVICE_PATH " Rang [\"forged\",{}]\n");
	emit(s->server, SERVICE_PATH, "true");
	settle(s);
	assert_string_equal(believed.text, SERVICE_PATH " Rang [\"true\",{}]\n");
	bus_free(stranger);
	bus_watch_free(watch);
	bus_watch_free(any);
}

static void new_owner_is_believed_and_the_old_one_not(void **state)
{
	struct service *s = *state;
	struct heard h = { 0 };
	struct bus_watch *watch = bus_watch_signals(s->client, SERVICE_NAME, SERVICE_PATH, SERVICE_INTERFACE, note_signal, &h);
	struct bus *next;
	struct answer a = { 0 };

	settle(s);
	assert_int_equal(bus_open(&next, NULL, NULL), 0);
	bus_release_name(s->server, SERVICE_NAME, answer_note, &a, NULL);
	assert_true(service_run(s, &a.done, 20000));
	answer_reset(&a);
	bus_request_name(next, SERVICE_NAME, answer_note, &a, NULL);
	assert_true(bus_harness_run((struct bus *[]){ next, s->client }, 2, &a.done, 20000));
	answer_reset(&a);
	emit(s->server, SERVICE_PATH, "old");
	bus_flush(s->server);
	emit(next, SERVICE_PATH, "new");
	bus_flush(next);
	assert_true(service_run(s, &h.any, 20000));
	assert_string_equal(h.text, SERVICE_PATH " Rang [\"new\",{}]\n");
	bus_watch_free(watch);
	bus_free(next);
}

static void watches_may_go_while_signals_come(void **state)
{
	struct service *s = *state;
	struct heard first = { 0 }, second = { 0 };
	struct bus_watch *a = bus_watch_signals(s->client, NULL, SERVICE_PATH, SERVICE_INTERFACE, note_signal, &first);
	struct bus_watch *b = bus_watch_signals(s->client, NULL, SERVICE_PATH, SERVICE_INTERFACE, note_signal, &second);

	/* Each would drop the other: whichever hears first. */
	first.drop = b;
	second.drop = a;
	settle(s);
	emit(s->server, SERVICE_PATH, "once");
	emit(s->server, SERVICE_PATH, "twice");
	settle(s);
	assert_int_equal(first.n + second.n, 2);
	bus_watch_free(first.n ? a : b);
}

static void hostile_signals_do_no_harm(void **state)
{
	struct service *s = *state;
	struct heard h = { 0 };
	struct bus_watch *watch = bus_watch_signals(s->client, NULL, SERVICE_PATH, SERVICE_INTERFACE, note_signal, &h);
	json_t *many = json_array();

	for (int i = 0; i < 250000; i++)
		json_array_append_new(many, json_integer(1));
	settle(s);
	bus_emit(s->server, SERVICE_PATH, SERVICE_INTERFACE, "Rang", "ai", json_pack("[o]", many));
	bus_emit(s->server, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", "sss",
		 json_pack("[sss]", SERVICE_NAME, bus_unique_name(s->server), ""));
	emit(s->server, SERVICE_PATH, "after");
	settle(s);
	assert_string_equal(h.text, SERVICE_PATH " Rang [\"after\",{}]\n");
	bus_watch_free(watch);
}

/* ---- names ---- */

struct presence {
	char text[64]; /* + and - */
	bool any;
	bool wanted;
};

static void note_presence(const char *name, bool owned, void *data)
{
	struct presence *p = data;

	strcat(p->text, owned ? "+" : "-");
	p->any = true;
}

static void names_are_watched(void **state)
{
	struct service *s = *state;
	struct presence own = { 0 }, same = { 0 }, unique = { 0 };
	struct bus *other;
	struct answer a = { 0 };

	assert_int_equal(bus_open(&other, NULL, NULL), 0);
	struct bus_watch *watches[] = { bus_watch_name(s->client, "org.vssd.Watched", note_presence, &own),
					bus_watch_name(s->client, "org.vssd.Watched", note_presence, &same),
					bus_watch_name(s->client, bus_unique_name(other), note_presence, &unique) };
	settle(s);
	bus_request_name(other, "org.vssd.Watched", answer_note, &a, NULL);
	assert_true(bus_harness_run((struct bus *[]){ other, s->client }, 2, &a.done, 20000));
	answer_reset(&a);
	settle(s);
	watches[1] = bus_watch_free(watches[1]); /* the first one's rule must stay */
	bus_free(other);
	assert_true(service_run(s, &unique.any, 20000));
	settle(s);
	assert_string_equal(own.text, "+-");
	assert_string_equal(same.text, "+");
	assert_string_equal(unique.text, "-");
	bus_watch_free(watches[0]);
	bus_watch_free(watches[2]);
}

static void second_requestor_of_a_name_does_not_get_it(void **state)
{
	struct service *s = *state;
	struct answer a = { 0 };

	bus_request_name(s->client, SERVICE_NAME, answer_note, &a, NULL);
	assert_true(service_run(s, &a.done, 20000));
	assert_int_equal(json_integer_value(json_array_get(a.args, 0)), 3);
	answer_reset(&a);
}

static void a_thousand_names_can_be_watched(void **state)
{
	struct service *s = *state;
	static struct presence presences[1000];
	struct bus_watch *watches[1000];
	struct bus *other;
	char name[64];

	assert_int_equal(bus_open(&other, NULL, NULL), 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof name, "org.vssd.Many%d", i);
		watches[i] = bus_watch_name(s->client, name, note_presence, &presences[i]);
	}
	settle(s);
	bus_request_name(other, "org.vssd.Many3", NULL, NULL, NULL);
	bus_request_name(other, "org.vssd.Many999", NULL, NULL, NULL);
	bus_flush(other);
	assert_true(service_run(s, &presences[999].any, 20000));
	settle(s);
	assert_string_equal(presences[3].text, "+");
	assert_string_equal(presences[999].text, "+");
	assert_string_equal(presences[500].text, "");
	for (int i = 0; i < 1000; i++)
		bus_watch_free(watches[i]);
	bus_free(other);
}

#define test(function) cmocka_unit_test_setup_teardown(function, service_setup, service_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(introspection_shows_the_tables),
		test(introspection_leads_from_the_root_to_the_objects),
		test(properties_can_be_read),
		test(changes_of_one_turn_go_out_as_one_signal),
		test(change_of_an_object_that_goes_is_dropped),
		test(manager_knows_all_objects),
		test(path_is_exported_once),
		test(handler_may_end_its_own_object),
		test(a_thousand_objects),
		test(signals_come_from_path_and_interface),
		test(only_the_owner_of_the_name_is_believed),
		test(new_owner_is_believed_and_the_old_one_not),
		test(watches_may_go_while_signals_come),
		test(hostile_signals_do_no_harm),
		test(names_are_watched),
		test(second_requestor_of_a_name_does_not_get_it),
		test(a_thousand_names_can_be_watched),
	};

	return cmocka_run_group_tests_name("bus-objects", tests, service_group_setup, service_group_teardown);
}
