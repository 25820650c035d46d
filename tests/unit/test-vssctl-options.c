/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssctl's command line: spellings, values, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "requestor/vssctl/vssctl.h"

/* Parses the words (ending with NULL) for a command; 0, or -1 with why. */
static int parse(struct options *options, const char *verb, const char *object, const char *const *words, char why[256])
{
	const struct command *command = command_find(verb, object);
	int n = 0;

	assert_non_null(command);
	*options = (struct options){ 0 };
	while (words[n])
		n++;
	return options_parse(options, command, n, words, why);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void long_and_short(void **state)
{
	struct options o;
	char why[256];

	assert_int_equal(parse(&o, "create", "shadow",
			       WORDS("--for", "/a", "--for=/b", "-rv", "--retries=3", "--wait", "5", "--type=full"),
			       why),
			 0);
	assert_int_equal(o.for_paths.n, 2);
	assert_string_equal(o.for_paths.items[1], "/b");
	assert_true(o.recursive && o.verbose && o.retries_given && o.wait_given);
	assert_int_equal(o.retries, 3);
	assert_int_equal(o.wait_seconds, 5);
	assert_string_equal(o.type, "full");
	options_free(&o);
}

static void vssadmin_spelling(void **state)
{
	struct options o;
	char why[256];

	assert_int_equal(parse(&o, "DELETE", "Shadows", WORDS("/For=/srv", "/OLDEST", "/Quiet"), why), 0);
	assert_string_equal(o.for_paths.items[0], "/srv");
	assert_true(o.oldest && o.quiet);
	options_free(&o);
	assert_int_equal(parse(&o, "create", "shadow", WORDS("/for=/srv", "/AutoRetry=2"), why), 0);
	assert_int_equal(o.wait_seconds, 120);
	options_free(&o);
	assert_int_equal(parse(&o, "list", "writers", WORDS("/?"), why), 0);
	assert_true(o.help);
	options_free(&o);
}

/* A word with a slash is an option only where the verb has one of that name. */
static void paths_stay_paths(void **state)
{
	struct options o;
	char why[256];

	assert_int_equal(parse(&o, "create", "shadow", WORDS("/for", "/home", "/shadow=x", "/all"), why), 0);
	assert_int_equal(o.words.n, 4);
	assert_string_equal(o.words.items[0], "/for");
	options_free(&o);
}

static void command_after_dashes(void **state)
{
	struct options o;
	char why[256];

	assert_int_equal(parse(&o, "backup", NULL, WORDS("--for", "/a", "--", "tar", "--for", "{}"), why), 0);
	assert_string_equal(o.command[0], "tar");
	assert_string_equal(o.command[1], "--for");
	assert_int_equal(o.for_paths.n, 1);
	options_free(&o);
	assert_int_equal(parse(&o, "backup", NULL, WORDS("--for", "/a", "--"), why), -1);
	options_free(&o);
	assert_int_equal(parse(&o, "backup", NULL, WORDS("--for", "/a"), why), -1);
	options_free(&o);
}

static void refused(const char *verb, const char *object, const char *const *words, const char *expected)
{
	struct options o;
	char why[256] = "";

	assert_int_equal(parse(&o, verb, object, words, why), -1);
	assert_string_equal(why, expected);
	options_free(&o);
}

static void refusals(void **state)
{
	refused("create", "shadow", WORDS("--oldest"), "there is no option --oldest here");
	refused("create", "shadow", WORDS("--for"), "--for needs a value: PATH");
	refused("create", "shadow", WORDS("--for="), "--for is empty");
	refused("create", "shadow", WORDS("--retries=many"), "--retries takes a number, not \"many\"");
	refused("create", "shadow", WORDS("--retries=-1"), "--retries takes a number, not \"-1\"");
	refused("create", "shadow", WORDS("--on-writer-failure=de"),
		"--on-writer-failure takes fail|degrade, not \"de\"");
	refused("create", "shadow", WORDS("--json=yes"), "--json takes no value");
	refused("create", "shadow", WORDS("-x"), "there is no option -x here");
	refused("list", "writers", WORDS("extra"), "\"extra\" is too much");
	refused("list", "shadows", WORDS("--set=1", "--set=2"), "--set is given twice");
	refused("reset", "writer", WORDS(NULL), "something is missing");
}

/* Every row of the table is complete, and found by its own name only. */
static void table_is_sound(void **state)
{
	for (const struct command *c = commands; c->verb; c++) {
		assert_non_null(c->usage);
		assert_non_null(c->summary);
		assert_non_null(c->run);
		assert_true(c->words_min <= c->words_max);
		assert_ptr_equal(command_find(c->verb, c->object), c);
	}
	assert_null(command_find("list", NULL));
	assert_null(command_find("list", "nonsense"));
	assert_null(command_find("thaw", "x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_and_short),   cmocka_unit_test(vssadmin_spelling),
		cmocka_unit_test(paths_stay_paths), cmocka_unit_test(command_after_dashes),
		cmocka_unit_test(refusals),	    cmocka_unit_test(table_is_sound),
	};

	return cmocka_run_group_tests_name("vssctl-options", tests, NULL, NULL);
}
