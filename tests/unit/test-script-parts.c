/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-script-writer's parts that start nothing: what ends and lines mean, lines, configuration, which files are run. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/script/commands.h"
#include "writers/script/config.h"
#include "writers/script/environment.h"
#include "writers/script/foreign.h"
#include "writers/script/held.h"
#include "writers/script/lines.h"
#include "writers/script/outcome.h"
#include "writers/script/run.h"
#include "writers/script/strv.h"
#include "writers/script/trust.h"

/* ---- a directory of our own ---- */

static char top[] = "/tmp/vss-script-parts-XXXXXX";

static int set_up_directory(void **state)
{
	umask(022);
	return mkdtemp(top) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	return remove(path);
}

static int remove_directory(void **state)
{
	return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Paths below the directory; the result is overwritten by the fourth call from now. */
static const char *at(const char *name)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", top, name);
	return path;
}

static void put_file(const char *name, mode_t mode, const char *text)
{
	FILE *file = fopen(at(name), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(at(name), mode), 0);
}

static void put_directory(const char *name, mode_t mode)
{
	assert_int_equal(mkdir(at(name), 0755), 0);
	assert_int_equal(chmod(at(name), mode), 0);
}

/* ---- what ends and lines mean ---- */

static void exit_codes_have_meanings(void **state)
{
	char text[64];

	assert_int_equal(outcome_of_exit(false, 0), VSS_RESULT_OK);
	assert_int_equal(outcome_of_exit(false, 75), VSS_RESULT_RETRYABLE);
	assert_int_equal(outcome_of_exit(false, 65), VSS_RESULT_INCONSISTENT_SNAPSHOT);
	assert_int_equal(outcome_of_exit(false, 71), VSS_RESULT_OUT_OF_RESOURCES);
	assert_int_equal(outcome_of_exit(false, 124), VSS_RESULT_TIMED_OUT);
	assert_int_equal(outcome_of_exit(false, 1), VSS_RESULT_NON_RETRYABLE);
	assert_int_equal(outcome_of_exit(false, 127), VSS_RESULT_NON_RETRYABLE);
	assert_int_equal(outcome_of_exit(true, SIGKILL), VSS_RESULT_NON_RETRYABLE);
	outcome_describe_exit(true, SIGKILL, text, sizeof text);
	assert_string_equal(text, "was killed by signal 9 (Killed)");
	outcome_describe_exit(false, 3, text, sizeof text);
	assert_string_equal(text, "ended with exit code 3");
}

static void expect_answer(const char *line, enum answer answer, enum vss_result result, const char *text)
{
	enum vss_result got = VSS_RESULT_OK;
	const char *rest;

	assert_int_equal(answer_parse(line, &got, &rest), answer);
	if (answer == ANSWER_OK || answer == ANSWER_FAIL) {
		assert_int_equal(got, result);
		assert_string_equal(rest, text);
	}
}

static void answers_are_understood(void **state)
{
	expect_answer("ok", ANSWER_OK, VSS_RESULT_OK, "");
	expect_answer("ok  locked at 5", ANSWER_OK, VSS_RESULT_OK, "locked at 5");
	expect_answer("fail retryable busy now", ANSWER_FAIL, VSS_RESULT_RETRYABLE, "busy now");
	expect_answer("fail 75 busy now", ANSWER_FAIL, VSS_RESULT_RETRYABLE, "busy now");
	expect_answer("fail 1", ANSWER_FAIL, VSS_RESULT_NON_RETRYABLE, "");
	expect_answer("fail non-retryable", ANSWER_FAIL, VSS_RESULT_NON_RETRYABLE, "");
	expect_answer("fail inconsistent x", ANSWER_FAIL, VSS_RESULT_INCONSISTENT_SNAPSHOT, "x");
	expect_answer("fail out-of-resources x", ANSWER_FAIL, VSS_RESULT_OUT_OF_RESOURCES, "x");
	expect_answer("fail timed-out x", ANSWER_FAIL, VSS_RESULT_TIMED_OUT, "x");
	expect_answer("alive", ANSWER_ALIVE, 0, NULL);
	expect_answer("# a word", ANSWER_COMMENT, 0, NULL);
}

static void garbage_is_no_answer(void **state)
{
	static const char *const lines[] = {
		"",	    "okay",	   "OK",	  "fail",   "fail 0 but well", "failed 1 x",
		"fail hm x", "fail 1234 x", "fail 12x y", "alive?", "\xFF\xFE",
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		expect_answer(lines[i], ANSWER_GARBAGE, 0, NULL);
}

/* ---- lines ---- */

struct heard {
	char lines[4][LINE_SIZE];
	unsigned n;
};

static void hear(const char *line, void *data)
{
	struct heard *heard = data;

	assert_true(heard->n < ARRAY_SIZE(heard->lines));
	snprintf(heard->lines[heard->n++], LINE_SIZE, "%s", line);
}

static void output_becomes_lines(void **state)
{
	struct lines lines = { 0 };
	struct heard heard = { 0 };

	lines_feed(&lines, "on", 2, hear, &heard);
	lines_feed(&lines, "e\r\n\ntw\033o", 8, hear, &heard);
	assert_int_equal(heard.n, 2);
	lines_end(&lines, hear, &heard);
	lines_end(&lines, hear, &heard);
	assert_int_equal(heard.n, 3);
	assert_string_equal(heard.lines[0], "one");
	assert_string_equal(heard.lines[1], "");
	assert_string_equal(heard.lines[2], "tw?o");
}

static void long_lines_come_in_pieces(void **state)
{
	struct lines lines = { 0 };
	struct heard heard = { 0 };
	char text[2 * LINE_SIZE];

	memset(text, 'x', sizeof text);
	lines_feed(&lines, text, sizeof text, hear, &heard);
	lines_end(&lines, hear, &heard);
	assert_int_equal(heard.n, 3);
	assert_int_equal(strlen(heard.lines[0]), LINE_SIZE - 1);
	assert_int_equal(strlen(heard.lines[2]), 2);
}

/* ---- limits ---- */

static void limits_leave_time_for_the_answer(void **state)
{
	struct config config = { 0 };
	uint64_t terminate, kill, second = USEC_PER_SEC;

	run_limits(config.event_limit, 100 * second, 100 * second, 60 * second, &terminate, &kill);
	assert_int_equal(terminate, 154 * second);
	assert_int_equal(kill, 155 * second);
	run_limits(config.event_limit, 0, 0, second, &terminate, &kill);
	assert_int_equal(kill, 950 * USEC_PER_MSEC);
	config.event_limit = 5 * second;
	run_limits(config.event_limit, 100 * second, 103 * second, 60 * second, &terminate, &kill);
	assert_int_equal(terminate, 105 * second);
}

/* ---- trust ---- */

static void expect_refused(const char *path, mode_t type, const char *blamed, const char *word)
{
	struct err err = { 0 };

	assert_int_equal(trust_open(path, type, NULL, &err), -1);
	if (!strstr(err.text, blamed) || !strstr(err.text, word))
		fail_msg("\"%s\" names neither \"%s\" nor \"%s\"", err.text, blamed, word);
}

static void what_others_may_write_is_refused(void **state)
{
	struct err err = { 0 };

	put_directory("loose", 0755);
	put_file("loose/script", 0755, "");
	close(trust_open(at("loose/script"), S_IFREG, NULL, &err));
	assert_int_equal(err.code, VSS_OK);
	assert_int_equal(chmod(at("loose/script"), 0775), 0);
	expect_refused(at("loose/script"), S_IFREG, "loose/script", "written by others");
	assert_int_equal(chmod(at("loose/script"), 0757), 0);
	expect_refused(at("loose/script"), S_IFREG, "loose/script", "written by others");
	assert_int_equal(chmod(at("loose/script"), 0755), 0);
	assert_int_equal(chmod(at("loose"), 0777), 0);
	expect_refused(at("loose/script"), S_IFREG, "loose can be", "written by others");
	expect_refused(at("loose/../loose/script"), S_IFREG, "loose can be", "written by others");
}

static void what_belongs_to_others_is_refused(void **state)
{
	if (geteuid() != 0)
		skip();
	put_directory("theirs", 0755);
	put_file("theirs/script", 0755, "");
	assert_int_equal(chown(at("theirs/script"), 65534, 65534), 0);
	expect_refused(at("theirs/script"), S_IFREG, "theirs/script", "another user");
	assert_int_equal(chown(at("theirs/script"), 0, 0), 0);
	assert_int_equal(chown(at("theirs"), 65534, 65534), 0);
	expect_refused(at("theirs/script"), S_IFREG, "theirs belongs", "another user");
}

static void links_are_walked_and_judged(void **state)
{
	char *real = NULL;
	struct err err = { 0 };

	put_directory("good", 0755);
	put_directory("open", 0777);
	put_file("good/script", 0755, "");
	put_file("open/script", 0755, "");
	assert_int_equal(symlink("good/../good", at("way")), 0);
	assert_int_equal(symlink(at("open/script"), at("good/out")), 0);
	assert_int_equal(symlink(at("good/script"), at("open/back")), 0);
	assert_int_equal(symlink("ring", at("ring")), 0);
	int fd = trust_open(at("way/./script"), S_IFREG, &real, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_string_equal(real, at("good/script"));
	free(real);
	expect_refused(at("good/out"), S_IFREG, "open can be", "written by others");
	expect_refused(at("open/back"), S_IFREG, "open can be", "written by others");
	expect_refused(at("ring"), S_IFREG, "ring", "symbolic link");
}

static void the_wrong_kind_is_refused(void **state)
{
	struct err err = { 0 };

	put_directory("kind", 0755);
	expect_refused(at("kind"), S_IFREG, "kind", "not a regular file");
	expect_refused("relative", S_IFREG, "relative", "not an absolute path");
	assert_int_equal(trust_open(at("kind/none"), S_IFREG, NULL, &err), -1);
	assert_int_equal(err.code, VSS_E_OBJECT_NOT_FOUND);
	put_file("kind/file", 0755, "");
	assert_int_equal(trust_open(at("kind/file/x"), S_IFREG, NULL, &err), -1);
}

/* ---- which executables serve an event ---- */

static void leftovers_are_not_hooks(void **state)
{
	static const char *const no[] = { "",	 "a~",	 "a.bak", ".a",	   "a.dpkg-old", "a.rpmsave",
					  "#a#", "a.sh", "a b",	  "a.swp", "\xC3\xA4" };

	assert_true(commands_name_counts("50-mysql_lock"));
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		assert_false(commands_name_counts(no[i]));
}

static const char *base_name(const struct commands *commands, size_t i)
{
	return strrchr(commands->items[i].path, '/') + 1;
}

static void hooks_run_in_order_and_thaw_in_reverse(void **state)
{
	struct config config = { .hooks = (char *)top };
	struct commands commands;
	struct err err = { 0 };
	char hooks[64];

	put_directory("hooks", 0755);
	snprintf(hooks, sizeof hooks, "%s", at("hooks"));
	config.hooks = hooks;
	for (const char *const *event = (const char *const[]){ "freeze", "thaw", NULL }; *event; event++) {
		char name[64];
		snprintf(name, sizeof name, "hooks/%s", *event);
		put_file(name, 0755, "");
		snprintf(name, sizeof name, "hooks/%s.d", *event);
		put_directory(name, 0755);
		for (const char *const *file = (const char *const[]){ "20-b", "10-a", "10-a~", "30-c.dpkg-new", NULL };
		     *file; file++) {
			snprintf(name, sizeof name, "hooks/%s.d/%s", *event, *file);
			put_file(name, 0755, "");
		}
	}
	put_file("hooks/freeze.d/40-off", 0644, "");
	assert_int_equal(commands_find(&commands, &config, VSS_EVENT_FREEZE, &err), 0);
	assert_int_equal(commands.n, 3);
	assert_string_equal(base_name(&commands, 0), "freeze");
	assert_string_equal(base_name(&commands, 1), "10-a");
	assert_string_equal(base_name(&commands, 2), "20-b");
	assert_string_equal(commands.items[1].argv[1], "freeze");
	assert_null(commands.items[1].argv[2]);
	commands_done(&commands);
	assert_int_equal(commands_find(&commands, &config, VSS_EVENT_THAW, &err), 0);
	assert_string_equal(base_name(&commands, 0), "20-b");
	assert_string_equal(base_name(&commands, 2), "thaw");
	commands_done(&commands);
	assert_int_equal(commands_find(&commands, &config, VSS_EVENT_POST_SNAPSHOT, &err), 0);
	assert_int_equal(commands.n, 0);
	assert_int_equal(chmod(at("hooks/freeze.d/20-b"), 0757), 0);
	assert_int_equal(commands_find(&commands, &config, VSS_EVENT_FREEZE, &err), -1);
	assert_int_equal(commands.n, 0);
}

/* ---- configuration ---- */

static void expect_config_error(const char *text, const char *word)
{
	struct config config;
	struct err err = { 0 };

	put_file("bad.conf", 0644, text);
	assert_int_equal(config_read(&config, at("bad.conf"), &err), -1);
	if (!strstr(err.text, word) || !strstr(err.text, "bad.conf"))
		fail_msg("\"%s\" does not tell of \"%s\"", err.text, word);
	assert_null(config.name);
}

#define HEAD "[Writer]\nId=0b9bb1c4-3f0e-4f0e-8a5c-58a2c9f2c001\nName=N\n"

static void a_configuration_is_read(void **state)
{
	struct config config;
	struct err err = { 0 };

	put_file("good.conf", 0644,
		 HEAD "Level=system\nPaths=/srv/a;/srv/b\nPaths=/srv/c\nFreezeLimit=1500ms\nEventLimit=2min\n"
		      "Freeze=/bin/app  --freeze now\nCoProcess=/bin/co x\nCoProcessEvents=post-snapshot\n"
		      "Environment=A=b c\nEnvironment=D=e\nAllVolumes=yes\n");
	if (config_read(&config, at("good.conf"), &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(config.level, VSS_LEVEL_SYSTEM);
	assert_int_equal(strv_length(config.paths), 3);
	assert_string_equal(config.paths[2], "/srv/c");
	assert_int_equal(config.freeze_limit_msec, 1500);
	assert_int_equal(config.event_limit, 120 * USEC_PER_SEC);
	assert_int_equal(strv_length(config.commands[VSS_EVENT_FREEZE]), 3);
	assert_string_equal(config.commands[VSS_EVENT_FREEZE][2], "now");
	assert_true(config.coprocess_events & 1u << VSS_EVENT_POST_SNAPSHOT);
	assert_true(config.coprocess_events & 1u << VSS_EVENT_THAW);
	assert_string_equal(config.environment[0], "A=b c");
	assert_true(config.all_volumes);
	config_done(&config);
}

static void foreign_formats_have_their_places(void **state)
{
	struct config config;
	struct err err = { 0 };

	put_file("foreign.conf", 0644, HEAD "Format=vmware-scripts\nAllVolumes=yes\n");
	assert_int_equal(config_read(&config, at("foreign.conf"), &err), 0);
	assert_string_equal(config.directory, "/etc/vmware-tools/backupScripts.d");
	config_done(&config);
	put_file("foreign.conf", 0644, HEAD "Format=azure-plugin\nFile=/x/y.json\nAllVolumes=yes\n");
	assert_int_equal(config_read(&config, at("foreign.conf"), &err), 0);
	assert_string_equal(config.plugin, "/x/y.json");
	config_done(&config);
}

static void qemus_leftovers_are_not_hooks(void **state)
{
	static const char *const hooks[] = { "a", "a.sh", "mysql flush", "bak", "dpkg-old", "a.bak.sh" };
	static const char *const others[] = { "a~", "a.bak", ".a", "a.rpmorig", "a.dpkg-tmp", "a.dpkg-backup", ".sample" };

	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		assert_true(foreign_is_qemu_hook(hooks[i]));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_false(foreign_is_qemu_hook(others[i]));
}

static void a_bad_configuration_is_explained(void **state)
{
	expect_config_error("[Writer]\nName=N\n", "Id= and Name=");
	expect_config_error(HEAD "Paths=/srv\n", "nothing to run");
	expect_config_error(HEAD "Hooks=/x\n", "Paths=");
	expect_config_error(HEAD "Hooks=x\n", ":4: Hooks: \"x\" is not an absolute path");
	expect_config_error(HEAD "Level=middle\n", "front-end, back-end or system");
	expect_config_error(HEAD "FreezeLimit=61\n", "1ms to 60s");
	expect_config_error(HEAD "FreezeLimit=soon\n", "not a time");
	expect_config_error(HEAD "EventLimit=99999999999\n", "not a time");
	expect_config_error(HEAD "AllVolumes=maybe\n", "yes nor no");
	expect_config_error(HEAD "User=no such user\n", "there is no user");
	expect_config_error(HEAD "Environment=VSS_SET=1\n", "VSS_");
	expect_config_error(HEAD "CoProcessEvents=melt\n", "melt");
	expect_config_error(HEAD "Identify=/bin/true\n", "no such key");
	expect_config_error(HEAD "Colour=red\n", "no such key");
	expect_config_error(HEAD "Format=windows\n", "qemu-hooks, vmware-scripts or azure-plugin");
	expect_config_error(HEAD "Directory=/x\nFreeze=/x\nPaths=/srv\n", "Directory= does not go with Format=native");
	expect_config_error(HEAD "Format=azure-plugin\nDirectory=/x\nPaths=/srv\n", "Directory= does not go with Format=azure");
	expect_config_error(HEAD "Format=qemu-hooks\nFile=/x\nPaths=/srv\n", "File= does not go with Format=qemu-hooks");
	expect_config_error(HEAD "Format=qemu-hooks\nHooks=/x\nPaths=/srv\n", "Hooks= does not go with");
	expect_config_error(HEAD "Format=vmware-scripts\nThaw=/x\nPaths=/srv\n", "Thaw does not go with");
	expect_config_error(HEAD "Format=vmware-scripts\n", "Paths=");
	expect_config_error(HEAD "Format=azure-plugin\nUser=root\nPaths=/srv\n", "User= does not go with");
	expect_config_error("[Reader]\nName=N\n", "only [Writer]");
	expect_config_error(HEAD "Freeze=\n", "absolute path");
}

static void a_configuration_that_others_may_write_is_refused(void **state)
{
	struct config config;
	struct err err = { 0 };

	put_file("open.conf", 0666, HEAD "Hooks=/x\nPaths=/srv\n");
	assert_int_equal(config_read(&config, at("open.conf"), &err), -1);
	assert_int_equal(err.code, VSS_E_ACCESS_DENIED);
}

/* ---- environment ---- */

static const char *value_of(char *const *variables, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; variables[i]; i++)
		if (strncmp(variables[i], name, n) == 0 && variables[i][n] == '=')
			return variables[i] + n + 1;
	return "(missing)";
}

static void an_event_is_told_in_variables(void **state)
{
	struct config config = { .name = (char *)"N" };
	const struct vss_volume volumes[] = {
		{ .path = "/srv/a b%\n", .instant_group = 1, .copy = -1 },
		{ .path = "/srv/c", .instant_group = 2, .copy = 9 },
	};
	const struct vss_event_info event = {
		.event = VSS_EVENT_BACKUP_COMPLETE,
		.session = "s",
		.set = "t",
		.backup_type = "full",
		.succeeded = true,
		.volumes = volumes,
		.n_volumes = 2,
	};
	char **variables = NULL;

	assert_int_equal(environment_add_event(&variables, &config, &event, "/fds", (const int[]){ 3 }), 0);
	assert_string_equal(value_of(variables, "VSS_EVENT"), "backup-complete");
	assert_string_equal(value_of(variables, "VSS_VOLUMES"), "2");
	assert_string_equal(value_of(variables, "VSS_VOLUME_1"), "/srv/a b%\n");
	assert_string_equal(value_of(variables, "VSS_COPY_1"), "(missing)");
	assert_string_equal(value_of(variables, "VSS_COPY_2"), "/fds/3");
	assert_string_equal(value_of(variables, "VSS_GROUP_2"), "2");
	assert_string_equal(value_of(variables, "VSS_SUCCEEDED"), "yes");
	char *line = environment_line("backup-complete", variables);
	assert_non_null(strstr(line, "VSS_VOLUME_1=/srv/a%20b%25%0A "));
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	free(line);
	strv_free(variables);
}

static void the_environment_is_clean(void **state)
{
	struct config config = { .name = (char *)"N" };
	char **variables = NULL;

	setenv("LD_PRELOAD", "", 1);
	assert_int_equal(environment_add_base(&variables, &config), 0);
	assert_string_equal(value_of(variables, "PATH"),
			    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	assert_string_equal(value_of(variables, "LD_PRELOAD"), "(missing)");
	strv_free(variables);
}

/* ---- the note ---- */

static void a_freeze_is_noted_until_it_ends(void **state)
{
	static const char id[] = "0b9bb1c4-3f0e-4f0e-8a5c-58a2c9f2c001";
	char session[ID_SIZE], set[ID_SIZE];
	struct err err = { 0 };
	autoclose int directory = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_false(held_read(directory, id, session, set));
	assert_int_equal(held_set(directory, id, id, "0b9bb1c4-3f0e-4f0e-8a5c-58a2c9f2c002", &err), 0);
	assert_true(held_read(directory, id, session, set));
	assert_string_equal(session, id);
	assert_string_equal(set, "0b9bb1c4-3f0e-4f0e-8a5c-58a2c9f2c002");
	held_clear(directory, id);
	assert_false(held_read(directory, id, session, set));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exit_codes_have_meanings),
		cmocka_unit_test(answers_are_understood),
		cmocka_unit_test(garbage_is_no_answer),
		cmocka_unit_test(output_becomes_lines),
		cmocka_unit_test(long_lines_come_in_pieces),
		cmocka_unit_test(limits_leave_time_for_the_answer),
		cmocka_unit_test(what_others_may_write_is_refused),
		cmocka_unit_test(what_belongs_to_others_is_refused),
		cmocka_unit_test(links_are_walked_and_judged),
		cmocka_unit_test(the_wrong_kind_is_refused),
		cmocka_unit_test(leftovers_are_not_hooks),
		cmocka_unit_test(hooks_run_in_order_and_thaw_in_reverse),
		cmocka_unit_test(a_configuration_is_read),
		cmocka_unit_test(foreign_formats_have_their_places),
		cmocka_unit_test(qemus_leftovers_are_not_hooks),
		cmocka_unit_test(a_bad_configuration_is_explained),
		cmocka_unit_test(a_configuration_that_others_may_write_is_refused),
		cmocka_unit_test(an_event_is_told_in_variables),
		cmocka_unit_test(the_environment_is_clean),
		cmocka_unit_test(a_freeze_is_noted_until_it_ends),
	};

	return cmocka_run_group_tests(tests, set_up_directory, remove_directory);
}
