/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What vssd and writers serve as introspection is what is written down in coordinator/data/org.vssd.*.xml: whoever
 * changes an interface changes those files too, and a reviewer sees it. `ninja update-introspection` writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/names.h"
#ifdef INTROSPECT_WRITER
#include "writers/libvsswriter/writer.h"
#else
#include "coordinator/faces.h"
#endif

static const char head[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
			   "<!-- SPDX-License-Identifier: LGPL-2.1-or-later -->\n"
			   "<!-- Written by `ninja update-introspection`; docs/protocol.md tells what all this means. -->\n"
			   "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n"
			   " \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n"
			   "<node>\n";
static const char foot[] = "</node>\n";

/* Built twice: once with what the coordinator serves, once with what a writer does. */
#ifdef INTROSPECT_WRITER
static const struct bus_interface *const interfaces[] = { &writer_interface };
#else
static const struct bus_interface *const interfaces[] = { &coordinator_interface, &session_interface,
							  &shadow_interface, &storage_interface,
							  &writer_record_interface };
#endif
static const char *directory;

static char *document(const struct bus_interface *interface)
{
	char *xml = bus_interface_xml(interface), *text = NULL;

	if (!xml || asprintf(&text, "%s%s%s", head, xml, foot) < 0)
		text = NULL;
	free(xml);
	return text;
}

static char *golden_path(const struct bus_interface *interface)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s.xml", directory, interface->name) < 0 ? NULL : path;
}

static char *read_all(const char *path)
{
	FILE *in = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (!in)
		return NULL;
	if (getdelim(&text, &size, '\0', in) < 0) {
		free(text);
		text = NULL;
	}
	fclose(in);
	return text;
}

static void test_golden(void **state)
{
	const struct bus_interface *interface = *state;
	char *served = document(interface), *path = golden_path(interface), *golden = path ? read_all(path) : NULL;

	assert_non_null(served);
	if (!golden)
		fail_msg("%s cannot be read; `ninja update-introspection` writes it", path);
	if (strcmp(served, golden) != 0)
		fail_msg("%s is not what is served; if the change is meant, run `ninja update-introspection` and commit it. "
			 "Served:\n%s", path, served);
	free(golden);
	free(path);
	free(served);
}

/* Names in an interface are a promise: arguments have names of their own, and every method takes options last. */
static void test_arguments_are_named(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++) {
		char *xml = document(interfaces[i]);

		assert_non_null(xml);
		if (strstr(xml, "name=\"\""))
			fail_msg("%s has an argument without a name", interfaces[i]->name);
		free(xml);
		for (const struct bus_method *m = interfaces[i]->methods; m && m->name; m++) {
			size_t length = strlen(m->in);

			if (length < 5 || strcmp(m->in + length - 5, "a{sv}") != 0)
				fail_msg("%s.%s does not take options last", interfaces[i]->name, m->name);
		}
	}
}

static int write_all(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++) {
		char *text = document(interfaces[i]), *path = golden_path(interfaces[i]);
		FILE *out = text && path ? fopen(path, "we") : NULL;
		bool written = out && fputs(text, out) >= 0;

		if (out && fclose(out) != 0)
			written = false;
		if (!written)
			fprintf(stderr, "cannot write %s\n", path ? path : interfaces[i]->name);
		free(path);
		free(text);
		if (!written)
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[ARRAY_SIZE(interfaces) + 1] = { cmocka_unit_test(test_arguments_are_named) };

	if (argc < 2) {
		fprintf(stderr, "Usage: test-introspection DIRECTORY [--write]\n");
		return 2;
	}
	directory = argv[1];
	if (argc > 2 && strcmp(argv[2], "--write") == 0)
		return write_all();
	for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++)
		tests[i + 1] = (struct CMUnitTest){ .name = interfaces[i]->name,
						    .test_func = test_golden,
						    .initial_state = (void *)interfaces[i] };
	return cmocka_run_group_tests_name("introspection", tests, NULL, NULL);
}
