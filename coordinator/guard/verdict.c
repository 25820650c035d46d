/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/verdict.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/text.h"

static int frozen_error(const struct object *o, int error, struct err *err)
{
	if (error == EBUSY)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "%s is frozen by somebody else: thaw it (fsfreeze --unfreeze), and try again", o->name);
	if (error == EOPNOTSUPP || error == ENOTTY)
		return err_set(err, VSS_E_VOLUME_NOT_SUPPORTED, "The filesystem of %s cannot be frozen", o->name);
	return err_errno(err, error, VSS_E_UNEXPECTED_PROVIDER_ERROR, "%s could not be frozen", o->name);
}

static int object_error(const struct board *board, struct err *err)
{
	const struct object *o = &board->objects[board->fault_what % BOARD_OBJECTS_MAX];
	int error = -board->fault_error;

	switch (atomic_load(&board->fault)) {
	case FAULT_FREEZE:
		return frozen_error(o, error, err);
	case FAULT_SUSPEND:
		return err_errno(err, error, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The device %s could not be suspended",
				 o->name);
	case FAULT_NOT_SUSPENDED:
	case FAULT_RESUMED:
		return err_set(
		    err, VSS_E_VOLUME_IN_USE,
		    "The device %s was resumed by somebody else while held: the copies are not usable. Find who runs "
		    "dmsetup or LVM commands on it, and try again",
		    o->name);
	case FAULT_STATUS:
		return err_errno(err, error, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "The device %s could not be checked while held", o->name);
	case FAULT_RESUME:
		return err_errno(err, error, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "The device %s could not be resumed at once (see vssctl status)", o->name);
	case FAULT_THAWED:
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "%s was thawed by somebody else while held: the copies are not usable. Find who runs "
			       "fsfreeze on it, "
			       "and try again",
			       o->name);
	case FAULT_FORCED: /* the rest is said of each */
		return err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR, "A filesystem was damaged while it was held");
	default:
		return err_errno(err, error, VSS_E_UNEXPECTED_PROVIDER_ERROR,
				 "%s could not be thawed at once (see vssctl status)", o->name);
	}
}

static int cut_error(const struct board *board, struct err *err)
{
	const struct cut *cut = &board->cuts[board->fault_what % BOARD_CUTS_MAX];

	if (board->fault == FAULT_LIVE)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "The prepared copy %s was made live by somebody else before its time (lvchange "
			       "--refresh does that): "
			       "try again",
			       cut->name);
	if (board->fault == FAULT_EMPTY)
		return err_set(err, VSS_E_VOLUME_IN_USE,
			       "The prepared copy %s has lost the table that waited for the cut: somebody else cleared "
			       "it. Try again",
			       cut->name);
	return err_errno(err, -board->fault_error, VSS_E_UNEXPECTED_PROVIDER_ERROR, "The cut of %s failed", cut->name);
}

static void name_stuck(const struct board *board, struct err *err)
{
	const char *before = ". Not free yet, because its own I/O hangs: ";

	for (size_t i = 0; i < board_objects(board); i++) {
		if (!object_holds(&board->objects[i]))
			continue;
		text_append(err->text, sizeof err->text, "%s%s", before, board->objects[i].name);
		before = ", ";
	}
}

static void name_forced(const struct board *board, struct err *err)
{
	for (size_t i = 0; i < board_objects(board); i++)
		if (atomic_load(&board->objects[i].forced))
			text_append(err->text, sizeof err->text,
				    ". %s is read-only since it was thawed; its kernel does that when whoever thaws it "
				    "is killed. Unmount it and mount it again",
				    board->objects[i].name);
}

static int window_error(const struct board *board, struct err *err)
{
	switch (atomic_load(&board->fault)) {
	case FAULT_DEADLINE:
		err_set(err, VSS_E_HOLD_WRITES_TIMEOUT,
			"The volumes could not be held and copied in time and were released");
		break;
	case FAULT_ORDER:
		err_set(err, VSS_E_CANCELLED,
			"Everything held was released on an administrator's order (vssctl release)");
		break;
	case FAULT_CLIENT:
		err_set(err, VSS_E_CANCELLED, "Who had asked for the window went away; everything was released");
		break;
	case FAULT_EXECUTOR:
		err_set(
		    err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
		    "The half of vss-guard that holds volumes ended unexpectedly; everything was released. Try again");
		break;
	case FAULT_RELEASER:
		err_set(err, VSS_E_UNEXPECTED_PROVIDER_ERROR,
			"The half of vss-guard that watches ended unexpectedly; everything was released. Try again");
		break;
	default:
		err_set(err, VSS_E_CANCELLED, "vss-guard is being stopped; everything was released");
	}
	name_stuck(board, err);
	name_forced(board, err);
	return -1;
}

int verdict_error(const struct board *board, struct err *err)
{
	switch ((enum fault_kind)board->fault) {
	case FAULT_NONE:
		return 0;
	case FAULT_FREEZE:
	case FAULT_SUSPEND:
	case FAULT_NOT_SUSPENDED:
	case FAULT_STATUS:
	case FAULT_RESUMED:
	case FAULT_RESUME:
	case FAULT_THAWED:
	case FAULT_THAW:
	case FAULT_FORCED:
		object_error(board, err);
		name_stuck(board, err);
		name_forced(board, err);
		return -1;
	case FAULT_LIVE:
	case FAULT_EMPTY:
	case FAULT_CUT:
		return cut_error(board, err);
	case FAULT_DEADLINE:
	case FAULT_ORDER:
	case FAULT_CLIENT:
	case FAULT_EXECUTOR:
	case FAULT_RELEASER:
	case FAULT_STOPPED:
		return window_error(board, err);
	}
	return err_set(err, VSS_E_UNEXPECTED, "vss-guard failed for a reason that it does not know (%u)", board->fault);
}

json_t *verdict_failure(const struct err *err)
{
	return json_pack("{sb s{ss ss}}", "ok", 0, "error", "Name", error_name(err->code), "Text", err->text);
}

json_t *verdict_stuck(const struct board *board)
{
	json_t *names = json_array();

	for (size_t i = 0; i < board_objects(board); i++)
		if (object_holds(&board->objects[i]))
			json_array_append_new(names, json_string(board->objects[i].name));
	return names;
}

static json_t *number_of(const struct object *object)
{
	return json_sprintf("%u:%u", object->major, object->minor);
}

static void add_objects(const struct board *board, json_t *answer)
{
	json_t *filesystems = json_array(), *devices = json_array();

	for (size_t i = 0; i < board_objects(board); i++) {
		const struct object *o = &board->objects[i];
		json_int_t held = (json_int_t)atomic_load(&o->held_at), freed = (json_int_t)atomic_load(&o->freed_at);
		if (o->is_device)
			json_array_append_new(devices, json_pack("{ss so sI sI}", "Name", o->name, "Device",
								 number_of(o), "Suspended", held, "Resumed", freed));
		else
			json_array_append_new(filesystems, json_pack("{ss so sI sI}", "Path", o->name, "Device",
								     number_of(o), "Frozen", held, "Thawed", freed));
	}
	json_object_set_new(answer, "Filesystems", filesystems);
	json_object_set_new(answer, "Devices", devices);
}

static json_t *cuts(const struct board *board)
{
	json_t *list = json_array();

	for (size_t i = 0; i < board->n_cuts; i++)
		json_array_append_new(list, json_pack("{sI sI}", "Begin", (json_int_t)board->cuts[i].begin, "End",
						      (json_int_t)board->cuts[i].end));
	return list;
}

json_t *verdict_answer(const struct board *board)
{
	struct err err = { 0 };
	json_t *answer;

	if (verdict_error(board, &err) < 0) {
		answer = verdict_failure(&err);
		json_object_set_new(answer, "Stuck", verdict_stuck(board));
		return answer;
	}
	answer = json_pack("{sb sI sI}", "ok", 1, "Begin", (json_int_t)board->begin, "End", (json_int_t)board->end);
	add_objects(board, answer);
	json_object_set_new(answer, "Cuts", cuts(board));
	return answer;
}

void verdict_held(const struct board *board, json_t *rows)
{
	uint64_t to_epoch = clock_usec(CLOCK_REALTIME) - clock_now();

	for (size_t i = 0; i < board_objects(board); i++) {
		const struct object *o = &board->objects[i];
		uint64_t held = atomic_load(&o->held_at);
		if (object_holds(o))
			json_array_append_new(rows,
					      json_pack("{ss ss ss so sI sI}", "Set", board->set, "Owner", board->owner,
							"Object", o->name, "Device", number_of(o), "Since",
							(json_int_t)(held ? held + to_epoch : board->since), "Deadline",
							(json_int_t)(board->deadline + to_epoch)));
	}
}
