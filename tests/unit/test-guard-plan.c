/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Window plans as vss-guard takes them: those of vssd, and those of somebody who means it ill. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/guard/guard.h"
#include "coordinator/guard/window-plan.h"
#include "fake-kernel.h"

#define GOOD                                                                                                           \
	"'Set':'1b0e-4','Owner':'vssd','Hold':false,"                                                                  \
	"'Filesystems':[{'Fd':0,'Path':'/srv/a','Device':'254:1','Depth':1}],"                                         \
	"'Devices':[{'Device':'254:1','Name':'vg-a','Flags':96,'Depth':1}],"                                           \
	"'Cuts':[{'Kind':'resume','Device':'254:2','Name':'vg-as','Flags':112},"                                       \
	"{'Kind':'message','Device':'254:3','Name':'vg-pool','Message':'create_snap 5 3'},"                            \
	"{'Kind':'btrfs-snapshot','Source':1,'Store':2,'Name':'copy','ReadOnly':true}]"

static struct board board;
static struct err err;

static int parse(const char *text, size_t n_fds)
{
	json_error_t why;
	autofree char *quoted = strdup(text);

	for (char *p = quoted; p && *p; p++)
		*p = *p == '\'' ? '"' : *p;
	autojson json_t *plan = json_loads(quoted, 0, &why);
	if (!plan)
		fail_msg("%s: %s", quoted, why.text);
	err = (struct err){ 0 };
	return plan_parse(plan, n_fds, &board, &err);
}

static void good(void **state)
{
	assert_int_equal(parse("{" GOOD "}", 3), 0);
	assert_int_equal(board.n_filesystems, 1);
	assert_int_equal(board.n_devices, 1);
	assert_int_equal(board.n_cuts, 3);
	assert_string_equal(board.objects[0].name, "/srv/a");
	assert_int_equal(board.objects[1].minor, 1);
	assert_int_equal(board.objects[1].flags, 0x60);
	assert_int_equal(board.objects[1].depth, 1);
	assert_string_equal(board.cuts[1].message, "create_snap 5 3");
	assert_int_equal(board.cuts[2].store, 2);
	assert_true(board.cuts[2].read_only);
	assert_true(board.deadline > clock_now() + GUARD_DEADLINE_DEFAULT - USEC_PER_SEC);
	assert_true(board.deadline <= clock_now() + GUARD_DEADLINE_DEFAULT);
}

static void deadlines(void **state)
{
	assert_int_equal(parse("{" GOOD ",'Deadline':99999999999999999}", 3), 0);
	assert_true(board.deadline <= clock_now() + GUARD_DEADLINE_MAX);
	assert_int_equal(parse("{" GOOD ",'Deadline':1}", 3), -1);
	assert_int_equal(err.code, VSS_E_HOLD_WRITES_TIMEOUT);
	assert_int_equal(parse("{" GOOD ",'Deadline':-1}", 3), -1);
	assert_int_equal(parse("{" GOOD ",'Deadline':'soon'}", 3), -1);
}

static void refuses(const char *text, const char *word)
{
	if (parse(text, 1) == 0)
		fail_msg("accepted: %s", text);
	if (!strstr(err.text, word))
		fail_msg("\"%s\" is not in \"%s\" (%s)", word, err.text, text);
}

#define FS(body) "{'Set':'a','Filesystems':[{" body "}]}"
#define DEV(body) "{'Set':'a','Devices':[{" body "}]}"
#define CUT(body) "{'Set':'a','Cuts':[{" body "}]}"

static void hostile(void **state)
{
	refuses("{}", "Set");
	refuses("{'Set':''}", "Set");
	refuses("{'Set':7}", "Set");
	refuses("{'Set':'../../etc/x'}", "Set");
	refuses("{'Set':'..'}", "Set");
	refuses("{'Set':'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}", "Set");
	refuses("{'Set':'a'}", "empty");
	refuses("{'Set':'a','Filesystems':{}}", "at most");
	refuses("{'Set':'a','Filesystems':[7]}", "Path");
	refuses(FS("'Path':'/','Device':'1:1'"), "Fd");
	refuses(FS("'Path':'/','Device':'1:1','Fd':1"), "Fd");
	refuses(FS("'Path':'/','Device':'1:1','Fd':-1"), "Fd");
	refuses(FS("'Path':'/','Device':'1:1','Fd':4294967296"), "Fd");
	refuses(FS("'Path':'/','Device':'1:1','Fd':0.5"), "Fd");
	refuses(FS("'Path':'','Device':'1:1','Fd':0"), "Path");
	refuses(FS("'Path':'/','Device':'1','Fd':0"), "Device");
	refuses(FS("'Path':'/','Device':'1:','Fd':0"), "Device");
	refuses(FS("'Path':'/','Device':'1:1x','Fd':0"), "Device");
	refuses(FS("'Path':'/','Device':'-1:1','Fd':0"), "Device");
	refuses(FS("'Path':'/','Device':'1:9999999','Fd':0"), "Device");
	refuses(FS("'Path':'/','Device':'99999:1','Fd':0"), "Device");
	refuses(FS("'Path':'/','Device':'1:1','Fd':0,'Depth':9"), "Depth");
	refuses(FS("'Path':'/','Device':'1:1','Fd':0,'Depth':-1"), "Depth");
	refuses(DEV("'Device':'1:1'"), "Name");
	refuses(DEV("'Device':'1:1','Name':'a/b'"), "Name");
	refuses(DEV("'Device':'1:1','Name':'a','Flags':65536"), "Flags");
	refuses(DEV("'Device':'1:1','Name':'a','Flags':'x'"), "Flags");
	refuses(CUT("'Kind':'format'"), "Kind");
	refuses(CUT("'Kind':7"), "Kind");
	refuses(CUT("'Kind':'resume','Device':'1:1'"), "Name");
	refuses(CUT("'Kind':'message','Device':'1:1','Name':'p','Message':'delete 5'"), "Message");
	refuses(CUT("'Kind':'message','Device':'1:1','Name':'p','Message':'create_snap 5'"), "Message");
	refuses(CUT("'Kind':'message','Device':'1:1','Name':'p','Message':'create_snap 5 3 x'"), "Message");
	refuses(CUT("'Kind':'btrfs-snapshot','Source':0,'Store':1,'Name':'c'"), "Store");
	refuses(CUT("'Kind':'btrfs-snapshot','Source':0,'Store':0,'Name':'..'"), "Name");
	refuses(CUT("'Kind':'btrfs-snapshot','Source':0,'Store':0,'Name':'a/b'"), "Name");
}

static json_t *many(const char *key, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{ss so ss ss si}", "Device", "1:1", "Name",
						      json_sprintf("d%zu", i), "Kind", "resume", "Path", "/", "Fd", 0));
	return json_pack("{ss so}", "Set", "a", key, list);
}

static void too_many(void **state)
{
	static const struct {
		const char *key;
		size_t max;
	} lists[] = { { "Filesystems", BOARD_FILESYSTEMS_MAX },
		      { "Devices", BOARD_DEVICES_MAX },
		      { "Cuts", BOARD_CUTS_MAX } };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		autojson json_t *most = many(lists[i].key, lists[i].max), *more = many(lists[i].key, lists[i].max + 1);
		assert_int_equal(plan_parse(most, 1, &board, &err), 0);
		assert_int_equal(plan_parse(more, 1, &board, &err), -1);
		assert_int_equal(err.code, VSS_E_LIMITS_EXCEEDED);
	}
}

/* ---- against what is there ---- */

static int run_directory;

static int check(const char *text, const int *fds, size_t n)
{
	assert_int_equal(parse(text, n), 0);
	return plan_check(&board, -1, fds, run_directory, &err);
}

static void checks_devices(void **state)
{
	guard_kernel = &fake_kernel;
	fake_reset();
	fake_devices[1].live = fake_devices[2].live = true;
	assert_int_equal(check(DEV("'Device':'254:1','Name':'dev1'"), NULL, 0), 0);
	assert_int_equal(check(DEV("'Device':'254:1','Name':'dev2'"), NULL, 0), -1);
	assert_non_null(strstr(err.text, "is now dev1"));
	assert_int_equal(check(DEV("'Device':'254:3','Name':'dev3'"), NULL, 0), -1);
	assert_non_null(strstr(err.text, "has no table"));
	fake_devices[2].held = 1;
	assert_int_equal(check(DEV("'Device':'254:2','Name':'dev2'"), NULL, 0), -1);
	assert_non_null(strstr(err.text, "suspended by somebody else"));
	assert_int_equal(
	    check("{'Set':'a','Devices':[{'Device':'254:1','Name':'dev1'},{'Device':'254:1','Name':'dev1'}]}", NULL, 0),
	    -1);
	assert_non_null(strstr(err.text, "each is held once"));
}

static void checks_descriptors(void **state)
{
	char text[256];
	struct stat st;
	autoclose int dir = open("/proc", O_RDONLY | O_DIRECTORY), file = open("/proc/self/stat", O_RDONLY);

	assert_int_equal(fstat(dir, &st), 0);
	snprintf(text, sizeof text, FS("'Path':'/proc','Device':'%u:%u','Fd':0"), major(st.st_dev), minor(st.st_dev));
	assert_int_equal(check(text, (const int[]){ dir }, 1), 0);
	assert_int_equal(check(text, (const int[]){ file }, 1), -1);
	assert_non_null(strstr(err.text, "not a directory"));
	snprintf(text, sizeof text, FS("'Path':'/proc','Device':'%u:%u','Fd':0"), major(st.st_dev),
		 minor(st.st_dev) + 1);
	assert_int_equal(check(text, (const int[]){ dir }, 1), -1);
	assert_non_null(strstr(err.text, "unmounted or replaced"));
	/* Its own list lies there. */
	assert_int_equal(fstat(run_directory, &st), 0);
	snprintf(text, sizeof text, FS("'Path':'/run','Device':'%u:%u','Fd':0"), major(st.st_dev), minor(st.st_dev));
	assert_int_equal(check(text, (const int[]){ run_directory }, 1), -1);
	assert_non_null(strstr(err.text, "tmpfs"));
}

/* ---- boards that were not made by us ---- */

static void boards(void **state)
{
	struct board *made, *mapped;
	int fd;

	assert_int_equal(parse("{" GOOD "}", 3), 0);
	assert_int_equal(board_create(run_directory, &board, &made, &fd, &err), 0);
	assert_int_equal(board_create(run_directory, &board, &mapped, &fd, &err), -1);
	assert_int_equal(err.code, VSS_E_SNAPSHOT_SET_IN_PROGRESS);
	assert_int_equal(board_map(fd, &mapped, &err), 0);
	assert_string_equal(mapped->set, "1b0e-4");
	made->objects[0].state = HOLD_HELD;
	assert_true(board_holds(mapped));
	board_unmap(mapped);
	made->n_devices = 100000;
	assert_int_equal(board_map(fd, &mapped, &err), -1);
	made->n_devices = 1;
	made->objects[0].fd = BOARD_FDS_MAX;
	assert_int_equal(board_map(fd, &mapped, &err), -1);
	made->objects[0].fd = 0;
	made->magic[0] = 'x';
	assert_int_equal(board_map(fd, &mapped, &err), -1);
	board_remove(run_directory, made);
	board_unmap(made);
	assert_int_equal(ftruncate(fd, 10), 0);
	assert_int_equal(board_map(fd, &mapped, &err), -1);
	close(fd);
}

static int make_directory(void **state)
{
	char path[] = "/tmp/test-guard-plan.XXXXXX";

	if (!mkdtemp(path))
		return -1;
	run_directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = strdup(path);
	return run_directory < 0 ? -1 : 0;
}

static int remove_directory(void **state)
{
	int r = rmdir(*state); /* fails when a board was left */

	free(*state);
	close(run_directory);
	return r;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),	    cmocka_unit_test(deadlines),      cmocka_unit_test(hostile),
		cmocka_unit_test(too_many), cmocka_unit_test(checks_devices), cmocka_unit_test(checks_descriptors),
		cmocka_unit_test(boards),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
