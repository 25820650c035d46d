/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssctl's outputs for fixed rows, to the letter: parsers of vssadmin's output rely on them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "requestor/vssctl/held.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

typedef void (*print_fn)(FILE *out, json_t *rows);

static void check(print_fn print, const char *rows_text, const char *expected)
{
	json_error_t why;
	autojson json_t *rows = json_loads(rows_text, JSON_DECODE_ANY, &why);
	autofree char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!rows)
		fail_msg("%s", why.text);
	print(out, rows);
	fclose(out);
	assert_string_equal(text, expected);
}

#define WRITER                                                                                                         \
	"\"Name\":\"Task Scheduler Writer\",\"WriterId\":\"d61d61c8-d73a-4eee-8cdd-f6f9786b7124\","                    \
	"\"InstanceId\":\"1bddd48e-5052-49db-9b07-b96f96727e6b\""
#define WRITER_TEXT                                                                                                    \
	"Writer name: 'Task Scheduler Writer'\n"                                                                       \
	"   Writer Id: {d61d61c8-d73a-4eee-8cdd-f6f9786b7124}\n"                                                       \
	"   Writer Instance Id: {1bddd48e-5052-49db-9b07-b96f96727e6b}\n"

static void brief_writers(FILE *out, json_t *rows)
{
	print_writers(out, rows, false);
}

static void verbose_writers(FILE *out, json_t *rows)
{
	print_writers(out, rows, true);
}

static void writers(void **state)
{
	check(brief_writers,
	      "[{" WRITER ",\"State\":1,\"StateText\":\"Stable\",\"LastError\":\"No error\"},"
	      "{" WRITER ",\"State\":9,\"StateText\":\"Failed\",\"LastError\":\"Timed out\"}]",
	      WRITER_TEXT "   State: [1] Stable\n   Last error: No error\n\n" WRITER_TEXT
			  "   State: [9] Failed\n   Last error: Timed out\n");
	check(brief_writers, "[]", "");
}

static void writers_verbose(void **state)
{
	check(
	    verbose_writers,
	    "[{" WRITER ",\"State\":9,\"StateText\":\"Failed\",\"LastError\":\"Timed out\",\"Code\":2147754994,"
	    "\"Phase\":\"Freeze\",\"FailedAt\":1700000000,\"ElapsedUsec\":60001234,\"Message\":\"the log is stuck\","
	    "\"Level\":\"front-end\",\"Unit\":\"task.service\",\"Present\":true,\"Expected\":true,\"Pid\":42,\"Uid\":7,"
	    "\"AgeUsec\":3000000,\"Components\":[{\"LogicalPath\":\"a\",\"Name\":\"b\"}],\"Timings\":{\"Freeze\":1500}}"
	    "]",
	    WRITER_TEXT "   State: [9] Failed\n   Last error: Timed out\n"
			"   Failed at: Freeze, 2023-11-14 22:13:20 +0000, after 60001.2 ms\n"
			"   Code: 0x800423f2\n"
			"   Message: the log is stuck\n"
			"   Level: front-end\n"
			"   Unit: task.service\n"
			"   Process: 42, user 7\n"
			"   Present: yes, expected: yes\n"
			"   Last heard of: 3 s ago\n"
			"   Component: a/b\n"
			"   Freeze: 1.5 ms\n");
}

static void brief_shadows(FILE *out, json_t *rows)
{
	print_shadows(out, rows, false);
}

/* Two sets whose rows come mixed up; the first has lost a copy since. */
static void shadows(void **state)
{
	check(brief_shadows,
	      "[{\"Set\":\"S1\",\"SetCount\":3,\"Created\":1700000000,\"Shadow\":\"A\",\"Volume\":\"/"
	      "a\",\"VolumeId\":\"id\","
	      "\"Device\":\"/dev/x\",\"HostName\":\"h\",\"Provider\":\"btrfs\",\"Context\":\"app-rollback\","
	      "\"Attributes\":[\"Persistent\",\"Differential\"],\"Consistency\":\"crash\",\"ConsistencyReason\":\"r\","
	      "\"Instant\":\"set\",\"State\":\"foreign\",\"Exposed\":\"/mnt\"},"
	      "{\"Set\":\"S2\",\"SetCount\":1,\"Created\":1700000000,\"Shadow\":\"B\",\"Volume\":\"/"
	      "b\",\"VolumeId\":\"id\","
	      "\"Device\":\"/dev/y\",\"HostName\":\"h\",\"Provider\":\"btrfs\",\"Context\":\"backup\","
	      "\"Consistency\":\"application\",\"ConsistencyReason\":\"\",\"Instant\":\"volume\",\"InstantReason\":"
	      "\"why\"}]",
	      "Contents of shadow copy set ID: {S1}\n"
	      "   Contained 3 shadow copies at creation time: 2023-11-14 22:13:20 +0000\n"
	      "      Shadow Copy ID: {A}\n"
	      "         Original Volume: (/a)id\n"
	      "         Shadow Copy Volume: /dev/x\n"
	      "         Originating Machine: h\n"
	      "         Service Machine: h\n"
	      "         Provider: 'btrfs'\n"
	      "         Type: ApplicationRollback\n"
	      "         Attributes: Persistent, Differential\n"
	      "         Consistency: crash (r)\n"
	      "         Instant: set\n"
	      "         Exposed at: /mnt\n"
	      "         State: foreign\n"
	      "\n"
	      "Contents of shadow copy set ID: {S2}\n"
	      "   Contained 1 shadow copies at creation time: 2023-11-14 22:13:20 +0000\n"
	      "      Shadow Copy ID: {B}\n"
	      "         Original Volume: (/b)id\n"
	      "         Shadow Copy Volume: /dev/y\n"
	      "         Originating Machine: h\n"
	      "         Service Machine: h\n"
	      "         Provider: 'btrfs'\n"
	      "         Type: Backup\n"
	      "         Attributes: Auto release\n"
	      "         Consistency: application\n"
	      "         Instant: volume (why)\n");
}

static void brief_providers(FILE *out, json_t *rows)
{
	print_providers(out, rows, false);
}

static void providers(void **state)
{
	check(brief_providers, "[{\"Name\":\"btrfs\",\"Id\":\"P\",\"Version\":\"1.0\",\"Type\":\"System\"}]",
	      "Provider name: 'btrfs'\n   Provider type: System\n   Provider Id: {P}\n   Version: 1.0\n");
}

static void brief_volumes(FILE *out, json_t *rows)
{
	print_volumes(out, rows, false);
}

static void volumes(void **state)
{
	check(brief_volumes,
	      "[{\"Path\":\"/srv\",\"Type\":\"btrfs\",\"Device\":\"/dev/vdb\",\"Provider\":\"btrfs\"},"
	      "{\"Path\":\"/\",\"Type\":\"ext4\",\"Device\":\"/dev/vda1\",\"Provider\":\"\",\"Why\":\"no LVM\"}]",
	      "VOLUME TYPE  DEVICE    PROVIDER NOTE\n"
	      "/srv   btrfs /dev/vdb  btrfs    \n"
	      "/      ext4  /dev/vda1 none     no LVM\n");
}

static void candidates(void **state)
{
	check(print_candidates,
	      "[{\"Name\":\"vg\",\"Kind\":\"vg\",\"Size\":1073741824,\"Free\":0,\"Candidate\":true,\"Why\":\"\"},"
	      "{\"Name\":\"/dev/sdb\",\"Kind\":\"pv\",\"Size\":2048,\"Free\":1024,\"Candidate\":false,\"Why\":\"a "
	      "rule\"}]",
	      "STORAGE  KIND               SIZE    FREE MAY NOTE\n"
	      "vg       volume group    1.00 GB 0 bytes yes \n"
	      "/dev/sdb physical volume 2.00 KB 1.00 KB no  a rule\n");
}

static void brief_shadowstorage(FILE *out, json_t *rows)
{
	print_shadowstorage(out, rows, false);
}

static void shadowstorage(void **state)
{
	check(brief_shadowstorage,
	      "[{\"For\":\"lvm:a\",\"Volume\":\"/srv\",\"On\":\"vg:g\",\"OnName\":\"vg\",\"Used\":16837635735,"
	      "\"Allocated\":17343378432,\"Max\":-1,\"Size\":43173380992},"
	      "{\"For\":\"lvm:b\",\"Volume\":\"/b\",\"On\":\"pv:p\",\"OnName\":\"/dev/"
	      "sdb\",\"Used\":0,\"Max\":2147483648,"
	      "\"Size\":4294967296}]",
	      "Shadow Copy Storage association\n"
	      "   For volume: (/srv)lvm:a\n"
	      "   Shadow Copy Storage volume: (vg)vg:g\n"
	      "   Used Shadow Copy Storage space: 15.7 GB (39%)\n"
	      "   Allocated Shadow Copy Storage space: 16.2 GB (40%)\n"
	      "   Maximum Shadow Copy Storage space: UNBOUNDED (100%)\n"
	      "\n"
	      "Shadow Copy Storage association\n"
	      "   For volume: (/b)lvm:b\n"
	      "   Shadow Copy Storage volume: (/dev/sdb)pv:p\n"
	      "   Used Shadow Copy Storage space: 0 bytes (0%)\n"
	      "   Allocated Shadow Copy Storage space: unknown\n"
	      "   Maximum Shadow Copy Storage space: 2.00 GB (50%)\n");
}

static void sessions_at(FILE *out, json_t *rows)
{
	print_sessions(out, rows, false, 1700000090);
}

static void sessions(void **state)
{
	check(sessions_at,
	      "[{\"Id\":\"I\",\"State\":\"Waiting\",\"Uid\":0,\"Pid\":9,\"Created\":1700000000,\"Command\":\"vssctl "
	      "backup\","
	      "\"WaitingFor\":[{\"Domain\":\"fs:1\",\"Session\":\"J\",\"Command\":\"tar\"}]}]",
	      "SESSION STATE   USER PID  AGE COMMAND\n"
	      "I       Waiting    0   9 90 s vssctl backup\n"
	      "Session I waits for fs:1, held by session J (tar)\n");
}

static void brief_created(FILE *out, json_t *result)
{
	print_created(out, result, false);
}

static void created(void **state)
{
	check(brief_created,
	      "{\"Set\":\"S\",\"Shadows\":[{\"Volume\":\"/a\",\"Shadow\":\"A\",\"Device\":\"/dev/x\"}],"
	      "\"Consistency\":\"filesystem\",\"ConsistencyReason\":\"no writers\",\"Instant\":\"set\"}",
	      "Successfully created shadow copy for '/a'\n"
	      "    Shadow Copy ID: {A}\n"
	      "    Shadow Copy Volume Name: /dev/x\n"
	      "Shadow copy set ID: {S}\n"
	      "    Consistency: filesystem (no writers)\n"
	      "    Instant: set\n");
}

static void verification(void **state)
{
	check(print_verification,
	      "{\"Participants\":[{" WRITER
	      ",\"Took\":true,\"Why\":\"data on /a\",\"State\":1,\"StateText\":\"Stable\","
	      "\"LastError\":\"No error\",\"Checks\":[{\"Object\":\"web\",\"Check\":\"agent\",\"Verdict\":\"bad\","
	      "\"Text\":\"does not answer\"},{\"Object\":\"\",\"Check\":\"room\",\"Verdict\":\"ok\",\"Text\":\"\"}]}],"
	      "\"Timeline\":[{\"Phase\":\"PrepareBackup\",\"Writer\":\"Task Scheduler Writer\",\"BeginUsec\":100,"
	      "\"EndUsec\":2600},{\"Phase\":\"Gathering\",\"Writer\":\"\",\"BeginUsec\":0,\"EndUsec\":1}],"
	      "\"Members\":[{\"Path\":\"/a\",\"Type\":\"btrfs\",\"Device\":\"/dev/x\",\"Provider\":\"btrfs\","
	      "\"Below\":[{\"Path\":\"/a/b\",\"Kind\":\"subvolume\"}]}]}",
	      "Writer name: 'Task Scheduler Writer'\n"
	      "   Takes part: yes (data on /a)\n"
	      "   State: [1] Stable\n"
	      "   Last error: No error\n"
	      "   PrepareBackup: 2.5 ms\n"
	      "   [bad] web: agent: does not answer\n"
	      "   [ok] room\n"
	      "\n"
	      "Volume: /a\n"
	      "   Type: btrfs on /dev/x\n"
	      "   Provider: btrfs\n"
	      "   Below it: /a/b (subvolume)\n"
	      "\n");
}

/* ---- strangers' words ---- */

static void held(void **state)
{
	check(print_held,
	      "[{\"Object\":\"/srv/a\",\"Device\":\"8:1\",\"Set\":\"S\",\"Owner\":\"vssd, set "
	      "S\",\"Since\":1700000000000000,"
	      "\"Deadline\":1700000010000000}]",
	      "Held: /srv/a, for vssd, set S, since 2023-11-14 22:13:20 +0000, at the latest until 2023-11-14 22:13:30 "
	      "+0000 (set "
	      "S)\n");
	check(print_released, "{\"Released\":1,\"Objects\":[\"/a\",\"vg-b\"],\"Stuck\":[\"vg-b\"],\"By\":\"guard\"}",
	      "Released /a\nNot free yet, because its own I/O hangs: vg-b\n");
	check(print_released, "{\"Released\":0,\"Objects\":[],\"Stuck\":[],\"By\":\"list\"}",
	      "vss-guard does not answer; released what is on its list.\nNothing was held.\n");
}

static void check_printable(const char *text, const char *expected)
{
	autofree char *result = text_printable(text);

	assert_string_equal(result, expected);
}

static void escapes(void **state)
{
	check_printable("plain text, Grüße, 漢字", "plain text, Grüße, 漢字");
	check_printable("\033[2Jgone\r\n\t\x7f", "\\x1b[2Jgone\\x0d\\x0a\\x09\\x7f");
	check_printable("c1 \xc2\x9b", "c1 \\u{009b}");
	check_printable("\xe2\x80\xaegnp.exe", "\\u{202e}gnp.exe");
	check_printable("cut \xe2\x80", "cut \\xe2\\x80");
	check_printable("\xc0\xaf overlong \xff", "\\xc0\\xaf overlong \\xff");
	check_printable("\xed\xa0\x80 surrogate", "\\xed\\xa0\\x80 surrogate");
}

static void exit_codes(void **state)
{
	assert_int_equal(exit_code_of(&(struct vss_failure){ .name = "ObjectNotFound" }, 0), EXIT_NOT_FOUND);
	assert_int_equal(exit_code_of(&(struct vss_failure){ .name = "AccessDenied" }, 0), EXIT_DENIED);
	assert_int_equal(exit_code_of(&(struct vss_failure){ .name = "NotAvailable" }, 0), EXIT_UNREACHABLE);
	assert_int_equal(exit_code_of(&(struct vss_failure){ .name = "InvalidArgument" }, 0), EXIT_USAGE);
	assert_int_equal(exit_code_of(&(struct vss_failure){ .name = "WriterTimedOut", .retryable = true }, 0),
			 EXIT_RETRY);
	assert_int_equal(exit_code_of(&(struct vss_failure){ .name = "ProviderVeto" }, 0), EXIT_FAILED);
	assert_int_equal(exit_code_of(&(struct vss_failure){ .name = "Cancelled" }, 2), 130);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writers),	 cmocka_unit_test(writers_verbose), cmocka_unit_test(shadows),
		cmocka_unit_test(providers),	 cmocka_unit_test(volumes),	    cmocka_unit_test(candidates),
		cmocka_unit_test(shadowstorage), cmocka_unit_test(sessions),	    cmocka_unit_test(created),
		cmocka_unit_test(verification),	 cmocka_unit_test(escapes),	    cmocka_unit_test(exit_codes),
		cmocka_unit_test(held),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests_name("vssctl-output", tests, NULL, NULL);
}
