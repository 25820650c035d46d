/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `vssctl verify` prints of a guest: all that can be found out without freezing it. */
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "writers/qemu/guest.h"
#include "writers/qemu/note.h"

#define POLL_EVERY (50 * USEC_PER_MSEC)
#define LIST_SIZE 300

static struct patience patience_of(const struct bundled_task *task, const char *key)
{
	const struct patience whole = { task->deadline, task->cancel };

	return patience_within(&whole, bundled_setting_span(task->settings, task->name, key));
}

static void check_disks(struct bundled_task *task)
{
	char flaw[400];
	size_t n = json_array_size(json_object_get(task->instance, "Disks"));

	guest_disk_flaw(task, flaw);
	if (*flaw)
		bundled_check(task, "disks", VSS_VERDICT_BAD, "%s", flaw);
	else
		bundled_check(task, "disks", VSS_VERDICT_OK, "%zu file%s, all on volumes of the set", n, n == 1 ? "" : "s");
}

/* ---- the agent ---- */

/* "" if the command can be used; else what is in its way. */
static void command_flaw(json_t *info, const char *command, char text[128])
{
	size_t i;
	json_t *row;

	json_array_foreach(json_object_get(info, "supported_commands"), i, row) {
		if (strcmp(json_string_value(json_object_get(row, "name")) ?: "", command) != 0)
			continue;
		text[0] = '\0';
		if (!json_is_true(json_object_get(row, "enabled")))
			text_format(text, 128, "%s is disabled in its agent", command);
		return;
	}
	text_format(text, 128, "its agent does not know %s", command);
}

static void check_freeze(struct bundled_task *task, struct guest *guest, json_t *info, const struct patience *patience)
{
	bool listed = bundled_setting(task->settings, task->name, "Filesystems");
	enum guest_freeze status;
	char flaw[128];

	command_flaw(info, listed ? "guest-fsfreeze-freeze-list" : "guest-fsfreeze-freeze", flaw);
	if (*flaw)
		bundled_check(task, "freeze", VSS_VERDICT_BAD, "%s", flaw);
	else if (agent_freeze_status(&guest->agent, &status, patience) != AGENT_OK)
		bundled_check(task, "freeze", VSS_VERDICT_BAD, "%s", guest->agent.why);
	else if (status == GUEST_FREEZE_FROZEN)
		bundled_check(task, "freeze", VSS_VERDICT_BAD, "it is frozen already, by somebody else");
	else
		bundled_check(task, "freeze", VSS_VERDICT_OK, "its agent can freeze");
}

/* ---- filesystems ---- */

static bool can_be_frozen(const char *type)
{
	static const char *const known[] = { "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "nilfs2", "reiserfs", "gfs2",
					     "ocfs2", "bcachefs", "NTFS", "ReFS" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i], type) == 0)
			return true;
	return false;
}

struct filesystems {
	char yes[LIST_SIZE], no[LIST_SIZE], full[LIST_SIZE];
	size_t n_yes, n_measured;
};

static void list(char text[LIST_SIZE], const char *what)
{
	text_append(text, LIST_SIZE, "%s%.60s", *text ? ", " : "", what);
}

static void look_at(struct filesystems *found, json_t *row, json_int_t least_percent)
{
	const char *where = json_string_value(json_object_get(row, "mountpoint")) ?: "?";
	const char *type = json_string_value(json_object_get(row, "type")) ?: "?";
	json_t *used = json_object_get(row, "used-bytes"), *total = json_object_get(row, "total-bytes");
	char text[160];

	text_format(text, sizeof text, "%.100s (%.20s)", where, type);
	if (!can_be_frozen(type)) {
		list(found->no, text);
		return;
	}
	list(found->yes, text);
	found->n_yes++;
	json_int_t size = json_integer_value(total), left = size - json_integer_value(used);
	if (!json_is_integer(used) || size <= 0)
		return;
	found->n_measured++;
	if ((double)left * 100 >= (double)size * (double)least_percent)
		return;
	text_format(text, sizeof text, "%.100s has %lld MiB of %lld left", where, left >> 20, size >> 20);
	list(found->full, text);
}

static void check_filesystems(struct bundled_task *task, struct guest *guest, const struct patience *patience)
{
	json_int_t least = json_integer_value(bundled_setting(task->settings, task->name, "MinFree"));
	struct filesystems found = { 0 };
	autojson json_t *rows = NULL;
	size_t i;
	json_t *row;

	if (agent_call(&guest->agent, "guest-get-fsinfo", NULL, &rows, patience) != AGENT_OK) {
		bundled_check(task, "filesystems", VSS_VERDICT_UNKNOWN, "%s", guest->agent.why);
		bundled_check(task, "free space", VSS_VERDICT_UNKNOWN, "%s", guest->agent.why);
		return;
	}
	json_array_foreach(rows, i, row)
		look_at(&found, row, least);
	if (found.n_yes == 0)
		bundled_check(task, "filesystems", VSS_VERDICT_BAD, "none that can be frozen%s%s", *found.no ? ": " : "",
			      found.no);
	else
		bundled_check(task, "filesystems", VSS_VERDICT_OK, "can be frozen: %s%s%s", found.yes,
			      *found.no ? "; cannot: " : "", found.no);
	if (*found.full)
		bundled_check(task, "free space", VSS_VERDICT_BAD, "%s", found.full);
	else if (found.n_measured < found.n_yes || found.n_yes == 0)
		bundled_check(task, "free space", VSS_VERDICT_UNKNOWN, "its agent does not say how full its filesystems are");
	else
		bundled_check(task, "free space", VSS_VERDICT_OK, "at least %lld %% everywhere", (long long)least);
}

/* ---- shadow storage inside ---- */

/* Runs vssctl in the guest; its output, or NULL and why. */
static json_t *run_vssctl(struct guest *guest, const struct patience *patience, char why[200])
{
	autojson json_t *arguments = json_pack("{ss s[sss] sb}", "path", "vssctl", "arg", "list", "shadowstorage", "--json",
					       "capture-output", 1);
	autojson json_t *started = NULL, *of = NULL, *status = NULL;

	if (agent_call(&guest->agent, "guest-exec", arguments, &started, patience) != AGENT_OK) {
		text_format(why, 200, "vssctl cannot be run in it: %.150s", guest->agent.why);
		return NULL;
	}
	of = json_pack("{sO*}", "pid", json_object_get(started, "pid"));
	for (;;) {
		json_decref(status);
		status = NULL;
		if (agent_call(&guest->agent, "guest-exec-status", of, &status, patience) != AGENT_OK) {
			text_format(why, 200, "vssctl in it did not end: %.150s", guest->agent.why);
			return NULL;
		}
		if (json_is_true(json_object_get(status, "exited")))
			break;
		const struct patience pause = patience_within(patience, POLL_EVERY);
		(void)patience_wait(&pause, -1, 0);
	}
	if (json_integer_value(json_object_get(status, "exitcode")) == 0)
		return json_incref(json_object_get(status, "out-data"));
	text_format(why, 200, "vssctl in it failed with exit code %lld",
		    (long long)json_integer_value(json_object_get(status, "exitcode")));
	return NULL;
}

static int value_of(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *found = c ? strchr(digits, c) : NULL;

	return found ? (int)(found - digits) : -1;
}

/* Base64, as agents give output; NULL where it is none. */
static json_t *decode(const char *text)
{
	size_t n = strlen(text), used = 0;
	autofree char *plain = malloc(n + 1);
	unsigned bits = 0;
	int have = 0;

	for (size_t i = 0; plain && i < n && text[i] != '='; i++) {
		int value = value_of(text[i]);
		if (value < 0)
			return NULL;
		bits = (bits << 6 | (unsigned)value) & 0xFFFFFF;
		have += 6;
		if (have >= 8) {
			have -= 8;
			plain[used++] = (char)(bits >> have & 0xFF);
		}
	}
	return plain ? json_loadb(plain, used, 0, NULL) : NULL;
}

/* vssd in the guest says whether its copies stay with their volume; an older one does not, but a volume's id holds the uuid of its
 * filesystem or group, as does where its copies are kept: "fs:UUID", "vg:UUID". */
static enum vss_verdict judge_association(json_t *row)
{
	const char *of = json_string_value(json_object_get(row, "For")) ?: "";
	const char *on = json_string_value(json_object_get(row, "On")) ?: "";
	const char *uuid = strchr(on, ':');
	json_t *own = json_object_get(row, "Own");

	if (json_is_boolean(own))
		return json_is_true(own) ? VSS_VERDICT_OK : VSS_VERDICT_BAD;
	if (uuid && uuid[1] && strstr(of, uuid + 1))
		return VSS_VERDICT_OK;
	return strncmp(on, "fs:", 3) == 0 || strncmp(on, "vg:", 3) == 0 ? VSS_VERDICT_BAD : VSS_VERDICT_UNKNOWN;
}

/* Copies of a guest's volume inside the guest belong where the volume is, or there should be none: on another disk they would
 * be copied along, and a disk that is moved would leave them behind. */
static void judge_associations(struct bundled_task *task, json_t *rows)
{
	char foreign[LIST_SIZE] = "", parts[LIST_SIZE] = "";
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row) {
		const char *of = json_string_value(json_object_get(row, "For")) ?: "";
		const char *name = json_string_value(json_object_get(row, "Volume")) ?: of;
		enum vss_verdict verdict = judge_association(row);
		if (verdict != VSS_VERDICT_OK)
			list(verdict == VSS_VERDICT_BAD ? foreign : parts, name);
	}
	if (*foreign)
		bundled_check(task, "shadow storage", VSS_VERDICT_BAD, "copies are not kept on the volume's own: %s", foreign);
	else if (*parts)
		bundled_check(task, "shadow storage", VSS_VERDICT_UNKNOWN, "whose disk they are kept on: %s", parts);
	else
		bundled_check(task, "shadow storage", VSS_VERDICT_OK,
			      json_array_size(rows) ? "each volume's copies on its own" : "none");
}

static void check_shadow_storage(struct bundled_task *task, struct guest *guest, json_t *info,
				 const struct patience *patience)
{
	char why[200] = "", flaw[128];
	autojson json_t *output = NULL, *document = NULL;

	command_flaw(info, "guest-exec", flaw);
	if (*flaw) {
		bundled_check(task, "shadow storage", VSS_VERDICT_UNKNOWN, "%s", flaw);
		return;
	}
	output = run_vssctl(guest, patience, why);
	document = output ? decode(json_string_value(output) ?: "") : NULL;
	json_t *rows = json_object_get(document, "shadowstorage");
	if (json_is_array(rows))
		judge_associations(task, rows);
	else
		bundled_check(task, "shadow storage", VSS_VERDICT_UNKNOWN, "%s",
			      *why ? why : "what vssctl in it says cannot be read");
}

/* ---- the list ---- */

static void check_agent(struct bundled_task *task, struct guest *guest, uint64_t took)
{
	const struct patience patience = patience_of(task, "AgentLimit");
	autojson json_t *info = NULL;

	if (agent_call(&guest->agent, "guest-info", NULL, &info, &patience) != AGENT_OK) {
		bundled_check(task, "agent", VSS_VERDICT_BAD, "%s", guest->agent.why);
		return;
	}
	bundled_check(task, "agent", VSS_VERDICT_OK, "answers after %.1f ms, version %.20s", (double)took / 1000,
		      json_string_value(json_object_get(info, "version")) ?: "unknown");
	check_freeze(task, guest, info, &patience);
	check_filesystems(task, guest, &patience);
	check_shadow_storage(task, guest, info, &patience);
}

void guest_checklist(struct bundled_task *task)
{
	const struct patience patience = patience_of(task, "AgentLimit");
	struct guest guest = { .phase = PHASE_OFF };
	uint64_t begin = clock_now();

	agent_init(&guest.agent);
	check_disks(task);
	if (note_exists(guest_notes, task->name))
		bundled_check(task, "thawed", VSS_VERDICT_BAD,
			      "an earlier freeze was not undone yet: its agent is being asked to thaw it");
	switch (guest_reach(&guest, task, &patience)) {
	case GUEST_OFF:
		bundled_check(task, "agent", VSS_VERDICT_OK, "not needed: the guest is off and is copied as it is");
		break;
	case GUEST_ON:
		check_agent(task, &guest, clock_now() - begin);
		break;
	case GUEST_MUTE:
		bundled_check(task, "agent", VSS_VERDICT_BAD, "%s", guest.why);
		break;
	}
	agent_close(&guest.agent);
}
