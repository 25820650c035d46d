/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/guest.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"
#include "writers/qemu/image.h"
#include "writers/qemu/monitor.h"
#include "writers/qemu/note.h"
#include "writers/qemu/rescue.h"
#include "writers/qemu/warden.h"

#define WARDEN_SLACK (5 * USEC_PER_SEC) /* after the library's own dead-man should have let go */

int guest_notes = -1;

/* ---- what is known of it ---- */

static uint64_t span(const struct bundled_task *task, const char *key)
{
	return bundled_setting_span(task->settings, task->name, key);
}

static struct patience patience_for(const struct bundled_task *task, const char *key)
{
	const struct patience whole = { task->deadline, task->cancel };

	return patience_within(&whole, span(task, key));
}

const char *guest_agent_address(const struct bundled_task *task)
{
	return json_string_value(json_object_get(task->instance, "Agent"));
}

static json_t *disks_of(const struct bundled_task *task)
{
	return json_object_get(task->instance, "Disks");
}

static bool disks_are_in_use(const struct bundled_task *task, const char **ret_disk)
{
	size_t i;
	json_t *disk;

	json_array_foreach(disks_of(task), i, disk) {
		*ret_disk = json_string_value(disk);
		if (image_is_open_in_qemu(*ret_disk))
			return true;
	}
	return false;
}

void guest_disk_flaw(const struct bundled_task *task, char text[400])
{
	const char *problem = json_string_value(json_object_get(task->instance, "Problem")), *rest;
	size_t i;
	json_t *disk;

	text_format(text, 400, "%s", problem ? problem : "");
	json_array_foreach(disks_of(task), i, disk) {
		const char *path = json_string_value(disk);
		/* A device is a volume by itself; the coordinator's plan has found it. */
		if (*text || strncmp(path, "/dev/", 5) == 0 || bundled_place(task, path, &rest))
			continue;
		text_format(text, 400, "its disk %.300s lies on no volume of the set", path);
	}
}

/* ---- policy ---- */

static bool may_degrade(const struct bundled_task *task)
{
	return strcmp(bundled_setting_text(task->settings, task->name, "OnFailure"), "degrade") == 0;
}

/* The guest's side has failed: as result says, or, where that is its policy, the set goes on with the guest as it runs. */
static enum vss_result failed(struct bundled_task *task, struct guest *guest, enum vss_result result, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static enum vss_result failed(struct bundled_task *task, struct guest *guest, enum vss_result result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_vformat(guest->why, sizeof guest->why, format, args);
	va_end(args);
	if (!may_degrade(task))
		return bundled_fail(task, result, "the guest: %s", guest->why);
	guest->phase = PHASE_LEFT_OUT;
	agent_close(&guest->agent);
	bundled_doubt(task, "is in the copy as it ran, not frozen: %s", guest->why);
	return VSS_RESULT_OK;
}

static enum vss_result result_of(enum agent_result result)
{
	switch (result) {
	case AGENT_SILENT:
	case AGENT_CANCELLED:
		return VSS_RESULT_TIMED_OUT;
	case AGENT_UNSUPPORTED:
		return VSS_RESULT_NON_RETRYABLE;
	case AGENT_OK:
	case AGENT_ABSENT:
	case AGENT_LOST:
	case AGENT_REFUSED:
		break;
	}
	return VSS_RESULT_RETRYABLE;
}

/* ---- is it on? ---- */

/* The monitor, where there is one, knows best. */
static bool monitor_says_on(struct guest *guest, const struct bundled_task *task, const struct patience *patience)
{
	const char *address = json_string_value(json_object_get(task->instance, "Qmp"));
	autojson json_t *unused = json_array();
	char status[32] = "";
	struct err err = { 0 };

	if (!address || monitor_ask(address, status, unused, patience, &err) != CHANNEL_OK)
		return false;
	if (strcmp(status, "running") != 0)
		text_format(guest->why, sizeof guest->why, "its QEMU says that it is %s", status);
	return true;
}

static enum guest_power without_agent(struct guest *guest, const struct bundled_task *task, const char *why,
				      const struct patience *patience)
{
	const char *disk = "";

	*guest->why = '\0';
	if (!monitor_says_on(guest, task, patience) && !disks_are_in_use(task, &disk))
		return GUEST_OFF;
	if (!*guest->why)
		text_format(guest->why, sizeof guest->why, "it runs%s%.200s%s, and %s", *disk ? " (a QEMU has " : "", disk,
			    *disk ? " open)" : "", why);
	return GUEST_MUTE;
}

enum guest_power guest_reach(struct guest *guest, const struct bundled_task *task, const struct patience *patience)
{
	const char *address = guest_agent_address(task);
	enum agent_result result;

	if (!address)
		return without_agent(guest, task, "no agent is configured (Agent=)", patience);
	result = agent_open(&guest->agent, address, patience);
	if (result == AGENT_OK)
		return GUEST_ON;
	if (result == AGENT_ABSENT)
		return without_agent(guest, task, "nobody listens at its agent's socket", patience);
	text_format(guest->why, sizeof guest->why, "its agent does not answer: %s", guest->agent.why);
	return GUEST_MUTE;
}

/* ---- letting go ---- */

static void thawed(struct guest *guest)
{
	note_remove(guest_notes, guest->name);
	warden_forget(guest->name);
	guest->phase = PHASE_READY;
}

/* Nobody here waits for the agent any longer; the warden does. */
static void hand_over(struct guest *guest)
{
	agent_close(&guest->agent);
	warden_rescue(guest->name);
	guest->phase = PHASE_READY;
}

/* True: it is thawed, and has been asked. */
static bool let_go(struct guest *guest, const char *address, const struct patience *patience)
{
	bool good = rescue_try(&guest->agent, address, patience) == RESCUE_THAWED;

	if (good)
		thawed(guest);
	else
		hand_over(guest);
	return good;
}

static struct guest *guest_free(struct guest *guest)
{
	if (!guest)
		return NULL;
	if (guest->phase == PHASE_HELD)
		hand_over(guest);
	agent_close(&guest->agent);
	free(guest->name);
	free(guest);
	return NULL;
}

void guest_forget(void *state)
{
	guest_free(state);
}

static void finish(struct bundled_task *task)
{
	*task->state = guest_free(*task->state);
}

/* ---- PrepareSnapshot ---- */

/* A freeze of ours that a writer before us, or an agent that came too late, has left. */
static enum vss_result check_leftover(struct bundled_task *task, struct guest *guest)
{
	if (!note_exists(guest_notes, guest->name))
		return VSS_RESULT_OK;
	return failed(task, guest, VSS_RESULT_RETRYABLE,
		      "an earlier freeze was not undone yet: its agent is being asked to thaw it");
}

static enum vss_result check_thawed(struct bundled_task *task, struct guest *guest, const struct patience *patience)
{
	enum guest_freeze status;
	enum agent_result result = agent_freeze_status(&guest->agent, &status, patience);

	if (result == AGENT_UNSUPPORTED)
		return failed(task, guest, VSS_RESULT_NON_RETRYABLE, "its agent cannot freeze: %s", guest->agent.why);
	if (result != AGENT_OK)
		return failed(task, guest, result_of(result), "its agent does not answer: %s", guest->agent.why);
	if (status == GUEST_FREEZE_FROZEN)
		return failed(task, guest, VSS_RESULT_RETRYABLE,
			      "it is frozen already, by somebody else: guest-fsfreeze-thaw would end that");
	guest->phase = PHASE_READY;
	return VSS_RESULT_OK;
}

static enum vss_result prepare(struct bundled_task *task, struct guest *guest)
{
	const struct patience patience = patience_for(task, "AgentLimit");
	char flaw[400];
	enum vss_result result = check_leftover(task, guest);

	if (result != VSS_RESULT_OK || guest->phase == PHASE_LEFT_OUT)
		return result;
	guest_disk_flaw(task, flaw);
	if (*flaw)
		return failed(task, guest, VSS_RESULT_INCONSISTENT_SNAPSHOT, "%s", flaw);
	switch (guest_reach(guest, task, &patience)) {
	case GUEST_OFF:
		guest->phase = PHASE_OFF;
		return VSS_RESULT_OK;
	case GUEST_ON:
		return check_thawed(task, guest, &patience);
	case GUEST_MUTE:
		break;
	}
	char why[sizeof guest->why];
	memcpy(why, guest->why, sizeof why);
	return failed(task, guest, VSS_RESULT_RETRYABLE, "%s", why);
}

static enum vss_result serve_prepare(struct bundled_task *task)
{
	struct guest *guest = calloc(1, sizeof *guest);

	finish(task); /* what a set that was never ended has left */
	if (guest)
		guest->name = strdup(task->name);
	if (!guest || !guest->name) {
		free(guest);
		return bundled_fail(task, VSS_RESULT_OUT_OF_RESOURCES, "Out of memory");
	}
	agent_init(&guest->agent);
	*task->state = guest;
	return prepare(task, guest);
}

/* ---- Freeze ---- */

static int announce(const struct bundled_task *task, const struct guest *guest, struct err *err)
{
	autojson json_t *note = json_pack("{ss ss sO* ss sI sI}", "Guest", guest->name, "Agent", guest_agent_address(task),
					  "Disks", disks_of(task), "Set", task->set, "Since", (json_int_t)time(NULL),
					  "ThawFor", (json_int_t)span(task, "ThawFor"));

	if (note_write(guest_notes, guest->name, note, err) == 0 &&
	    warden_watch(guest->name, task->deadline + WARDEN_SLACK, err) == 0)
		return 0;
	note_remove(guest_notes, guest->name);
	return -1;
}

static enum agent_result ask_to_freeze(struct bundled_task *task, struct guest *guest, const struct patience *patience)
{
	json_t *mountpoints = bundled_setting(task->settings, task->name, "Filesystems");
	enum guest_freeze status = GUEST_FREEZE_THAWED;
	enum agent_result result;

	if (mountpoints) {
		autojson json_t *arguments = json_pack("{sO}", "mountpoints", mountpoints);
		result = agent_count(&guest->agent, "guest-fsfreeze-freeze-list", arguments, &guest->filesystems, patience);
	} else {
		result = agent_count(&guest->agent, "guest-fsfreeze-freeze", NULL, &guest->filesystems, patience);
	}
	if (result == AGENT_OK)
		result = agent_freeze_status(&guest->agent, &status, patience);
	if (result == AGENT_OK && (status != GUEST_FREEZE_FROZEN || guest->filesystems == 0)) {
		text_format(guest->agent.why, sizeof guest->agent.why, "its agent froze none of its filesystems");
		result = AGENT_REFUSED;
	}
	return result;
}

static enum vss_result freeze(struct bundled_task *task, struct guest *guest)
{
	const struct patience patience = patience_for(task, "FreezeLimit");
	struct err err = { 0 };
	char why[400];

	if (announce(task, guest, &err) < 0)
		return failed(task, guest, VSS_RESULT_OUT_OF_RESOURCES, "%s", err.text);
	guest->phase = PHASE_HELD;
	enum agent_result result = ask_to_freeze(task, guest, &patience);
	guest->frozen_at = clock_now();
	if (result == AGENT_OK)
		return VSS_RESULT_OK;
	text_format(why, sizeof why, "%s", guest->agent.why);
	if (result == AGENT_REFUSED || result == AGENT_UNSUPPORTED) {
		const struct patience more = patience_for(task, "AgentLimit");
		let_go(guest, guest_agent_address(task), &more);
		return failed(task, guest, result_of(result), "it could not be frozen: %s", why);
	}
	hand_over(guest);
	return failed(task, guest, result_of(result), "its agent does not answer: %s. It is thawed as soon as it does", why);
}

static enum vss_result serve_freeze(struct bundled_task *task)
{
	struct guest *guest = *task->state;

	if (!guest)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "it was not prepared");
	return guest->phase == PHASE_READY ? freeze(task, guest) : VSS_RESULT_OK;
}

/* ---- Thaw ---- */

/* Nobody may have had it in between: then what it wrote meanwhile may be in the copy, or half of it. */
static enum vss_result thaw(struct bundled_task *task, struct guest *guest)
{
	const struct patience patience = patience_for(task, "AgentLimit");
	const char *address = guest_agent_address(task);
	enum guest_freeze status;
	json_int_t count = 0;
	char why[400];
	enum agent_result result = agent_freeze_status(&guest->agent, &status, &patience);

	if (result == AGENT_OK && status == GUEST_FREEZE_THAWED) {
		thawed(guest);
		return failed(task, guest, VSS_RESULT_TIMED_OUT, "it was thawed before its time, by somebody else or by itself");
	}
	if (result == AGENT_OK)
		result = agent_count(&guest->agent, "guest-fsfreeze-thaw", NULL, &count, &patience);
	text_format(why, sizeof why, "%s", guest->agent.why);
	bool done = let_go(guest, address, &patience);
	if (result != AGENT_OK || !done)
		return failed(task, guest, result_of(result), "it cannot be thawed yet, its agent is asked again and again: %s",
			      result == AGENT_OK ? "it says that it is still frozen" : why);
	if (count < guest->filesystems)
		return failed(task, guest, VSS_RESULT_TIMED_OUT,
			      "of %lld frozen filesystems %lld were frozen to the end: somebody else has thawed the others",
			      (long long)guest->filesystems, (long long)count);
	return VSS_RESULT_OK;
}

/* One that was off, and is on now, has been started while it was being copied. */
static enum vss_result check_still_off(struct bundled_task *task, struct guest *guest)
{
	const struct patience patience = patience_for(task, "AgentLimit");

	if (guest_reach(guest, task, &patience) == GUEST_OFF)
		return VSS_RESULT_OK;
	return failed(task, guest, VSS_RESULT_RETRYABLE, "it was off, and was started while it was being copied");
}

static void document(struct bundled_task *task, const struct guest *guest)
{
	static const char *const states[] = {
		[PHASE_OFF] = "off",
		[PHASE_READY] = "frozen",
		[PHASE_HELD] = "frozen",
		[PHASE_LEFT_OUT] = "running",
	};

	task->document = json_pack("{ss ss sO*}", "State", states[guest->phase], "Reason",
				   guest->phase == PHASE_LEFT_OUT ? guest->why : "", "Disks", disks_of(task));
	if (guest->phase == PHASE_READY)
		json_object_update_new(task->document, json_pack("{sI sI}", "Filesystems", guest->filesystems, "FrozenUsec",
								 (json_int_t)(clock_now() - guest->frozen_at)));
}

static enum vss_result serve_thaw(struct bundled_task *task)
{
	struct guest *guest = *task->state;
	enum vss_result result = VSS_RESULT_OK;

	if (!guest)
		return bundled_fail(task, VSS_RESULT_RETRYABLE, "it was not frozen");
	if (guest->phase == PHASE_HELD)
		result = thaw(task, guest);
	else if (guest->phase == PHASE_OFF)
		result = check_still_off(task, guest);
	document(task, guest);
	finish(task);
	return result;
}

/* ---- Abort ---- */

static enum vss_result serve_abort(struct bundled_task *task)
{
	struct guest *guest = *task->state;
	const struct patience patience = patience_for(task, "AgentLimit");
	bool good = true;

	if (guest->phase == PHASE_HELD)
		good = let_go(guest, guest_agent_address(task), &patience);
	finish(task);
	if (good)
		return VSS_RESULT_OK;
	return bundled_fail(task, VSS_RESULT_RETRYABLE, "the guest: its agent does not answer. It is thawed as soon as it does");
}

enum vss_result guest_serve(struct bundled_task *task)
{
	switch ((int)task->event) {
	case VSS_EVENT_PREPARE_BACKUP:
		if (task->verify)
			guest_checklist(task);
		return VSS_RESULT_OK;
	case VSS_EVENT_PREPARE_SNAPSHOT:
		return serve_prepare(task);
	case VSS_EVENT_FREEZE:
		return serve_freeze(task);
	case VSS_EVENT_THAW:
		return serve_thaw(task);
	case VSS_EVENT_ABORT:
		return serve_abort(task);
	default:
		return VSS_RESULT_OK;
	}
}
