/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/run.h"

#include <errno.h>
#include <poll.h>

#include "common/clock.h"
#include "coordinator/guard/guard.h"

#define SWEEP_INTERVAL_MS 10

/* ---- what the crew does ---- */

/* BEGUN is on the board before the plan is looked at once more: whoever revokes it and then reads the board either sees
 * BEGUN or has stopped us. */
static bool begin_hold(struct board *board, struct object *object)
{
	atomic_store(&object->holder, crew_thread_id());
	atomic_store(&object->state, HOLD_BEGUN);
	if (!atomic_load(&board->revoked))
		return true;
	atomic_store(&object->state, HOLD_NONE);
	return false;
}

static void end_hold(struct board *board, size_t index, int r, enum fault_kind fault)
{
	struct object *object = &board->objects[index];

	atomic_store(&object->error, r);
	if (r != 0)
		board_fault(board, fault, index, r);
	else if (board->hold && !object->is_device) /* who waits for it wants to know of each */
		atomic_store(&object->held_at, clock_now());
	/* The releaser may have freed it already. */
	atomic_compare_exchange_strong(&object->state, &(uint32_t){ HOLD_BEGUN }, r == 0 ? HOLD_HELD : HOLD_NONE);
	atomic_store(&object->holder, 0);
}

/* A failure is the freeze's to tell. */
static void flush_filesystem(void *context, size_t index)
{
	struct release *release = context;

	if (!atomic_load(&release->board->revoked))
		guard_kernel->flush(release->fds[release->board->objects[index].fd]);
}

static void hold_filesystem(void *context, size_t index)
{
	struct release *release = context;
	struct object *object = &release->board->objects[index];

	if (begin_hold(release->board, object))
		end_hold(release->board, index, guard_kernel->freeze(release->fds[object->fd]), FAULT_FREEZE);
}

static void hold_device(void *context, size_t index)
{
	struct release *release = context;
	struct object *object = &release->board->objects[index];

	if (begin_hold(release->board, object))
		end_hold(release->board, index, guard_kernel->suspend(release->control, object->major, object->minor),
			 FAULT_SUSPEND);
}

static void make_cut(void *context, size_t index)
{
	struct release *release = context;
	struct cut *cut = &release->board->cuts[index];
	bool changed;

	if (atomic_load(&release->board->revoked))
		return;
	switch (cut->kind) {
	case CUT_RESUME:
		cut->error = guard_kernel->resume(release->control, cut->major, cut->minor, cut->flags, &changed);
		if (cut->error == 0 && !changed)
			board_fault(release->board, FAULT_LIVE, index, 0);
		break;
	case CUT_MESSAGE:
		cut->error = guard_kernel->message(release->control, cut->major, cut->minor, cut->message);
		break;
	case CUT_SNAPSHOT:
		cut->begin = clock_now();
		cut->error = guard_kernel->snapshot(release->fds[cut->source], release->fds[cut->store], cut->name,
						    cut->read_only);
		cut->end = clock_now();
		break;
	}
	if (cut->error != 0)
		board_fault(release->board, FAULT_CUT, index, cut->error);
}

/* ---- phases ---- */

/* Waits until every thread is idle; false if that was broken off. */
static bool finish_phase(struct run *run)
{
	struct crew *crew = run->release.crew;

	crew_go(crew);
	while (crew_busy(crew) > 0) {
		run->stopped = run->wait(run);
		if (run->stopped != STOP_NONE)
			return false;
	}
	return true;
}

/* Posts fn for every object of that kind and depth that is in that state. */
static bool phase(struct run *run, bool devices, uint32_t depth, uint32_t state, crew_fn fn)
{
	struct board *board = run->release.board;

	for (size_t i = 0; i < board_objects(board); i++) {
		struct object *object = &board->objects[i];
		if (object->is_device == devices && object->depth == depth && atomic_load(&object->state) == state)
			crew_post(run->release.crew, i, fn, &run->release, i);
	}
	return finish_phase(run);
}

static uint32_t depth_max(const struct board *board)
{
	uint32_t max = 0;

	for (size_t i = 0; i < board_objects(board); i++)
		if (board->objects[i].depth > max)
			max = board->objects[i].depth;
	return max;
}

static bool is_faulty(const struct board *board)
{
	return atomic_load(&board->fault) != FAULT_NONE || atomic_load(&board->revoked);
}

/* What a freeze has to write out it writes while writers wait already: so most of it goes before. A device that hangs
 * does so while nothing is held yet. */
static bool flush_all(struct run *run)
{
	for (uint32_t depth = depth_max(run->release.board) + 1; depth-- > 0;)
		if (!phase(run, false, depth, HOLD_NONE, flush_filesystem))
			return false;
	return !is_faulty(run->release.board);
}

/* What was written through an inner layer must have arrived before the outer one is held. */
bool run_hold(struct run *run)
{
	struct board *board = run->release.board;

	if (!flush_all(run))
		return false;
	board->begin = clock_now();
	for (uint32_t depth = depth_max(board) + 1; depth-- > 0;) {
		if (!phase(run, false, depth, HOLD_NONE, hold_filesystem) || is_faulty(board))
			return false;
		if (!phase(run, true, depth, HOLD_NONE, hold_device) || is_faulty(board))
			return false;
	}
	return true;
}

/* Of all that have come to that state since it was called last, and have no time of their own: asking for it is a system
 * call on some machines. */
static void time_objects(struct board *board, uint32_t state, uint64_t now)
{
	for (size_t i = 0; i < board_objects(board); i++) {
		struct object *object = &board->objects[i];
		_Atomic uint64_t *at = state == HOLD_HELD ? &object->held_at : &object->freed_at;
		if (atomic_load(&object->state) == state && atomic_load(at) == 0)
			atomic_store(at, now);
	}
}

static bool check_devices(struct run *run)
{
	struct board *board = run->release.board;
	struct device_status status;

	for (size_t i = board->n_filesystems; i < board_objects(board); i++) {
		struct object *object = &board->objects[i];
		int r = guard_kernel->status(run->release.control, object->major, object->minor, &status);
		if (r != 0)
			board_fault(board, FAULT_STATUS, i, r);
		else if (!status.suspended)
			board_fault(board, FAULT_NOT_SUSPENDED, i, 0);
	}
	return !is_faulty(board);
}

/* The snapshots that the cut brings to life wait with their table loaded, and nobody has been faster. */
static bool check_cuts(struct run *run)
{
	struct board *board = run->release.board;
	struct device_status status;

	for (size_t i = 0; i < board->n_cuts; i++) {
		struct cut *cut = &board->cuts[i];
		if (cut->kind != CUT_RESUME)
			continue;
		int r = guard_kernel->status(run->release.control, cut->major, cut->minor, &status);
		if (r != 0)
			board_fault(board, FAULT_CUT, i, r);
		else if (status.live)
			board_fault(board, FAULT_LIVE, i, 0);
		else if (!status.loaded)
			board_fault(board, FAULT_EMPTY, i, 0);
	}
	return !is_faulty(board);
}

/* Whoever was stopped, and goes on now, must not cut any more. */
static bool is_late(struct run *run, uint64_t now)
{
	uint64_t deadline = run->release.board->deadline;

	if (deadline == 0 || now < deadline + GUARD_EXECUTOR_GRACE)
		return false;
	run->stopped = STOP_DEADLINE;
	return true;
}

/* A snapshot of a device shows what it was between the last suspend and the first resume: nothing changes in between.
 */
static void time_cuts(struct board *board, bool end, uint64_t now)
{
	for (size_t i = 0; i < board->n_cuts; i++) {
		uint64_t *at = end ? &board->cuts[i].end : &board->cuts[i].begin;
		if (board->cuts[i].kind != CUT_SNAPSHOT && *at == 0)
			*at = now;
	}
}

bool run_cut(struct run *run)
{
	struct board *board = run->release.board;
	uint64_t begin = clock_now();

	if (is_late(run, begin))
		return false;
	time_objects(board, HOLD_HELD, begin);
	time_cuts(board, false, begin);
	if (!check_devices(run) || !check_cuts(run))
		return false;
	for (size_t i = 0; i < board->n_cuts; i++)
		crew_post(run->release.crew, i, make_cut, &run->release, i);
	return finish_phase(run) && !is_faulty(board) && check_devices(run);
}

/* ---- the way out ---- */

static void resume_device(void *context, size_t index)
{
	struct release *release = context;
	struct object *object = &release->board->objects[index];
	bool changed;
	int r = guard_kernel->resume(release->control, object->major, object->minor, object->flags, &changed);

	atomic_store(&object->error, r);
	if (r != 0) {
		board_fault(release->board, FAULT_RESUME, index, r);
		return;
	}
	atomic_store(&object->stolen, !changed);
	atomic_store(&object->state, HOLD_FREED);
}

static void release_in_order(struct run *run)
{
	struct board *board = run->release.board;
	uint32_t max = depth_max(board);

	for (uint32_t depth = 0; depth <= max; depth++) {
		if (!phase(run, true, depth, HOLD_HELD, resume_device))
			return;
		if (board->n_devices > 0) {
			uint64_t now = clock_now();
			time_objects(board, HOLD_FREED, now);
			time_cuts(board, true, now);
		}
		if (!phase(run, false, depth, HOLD_HELD, release_object))
			return;
	}
}

static uint64_t last_freed(const struct board *board)
{
	uint64_t last = board->begin;

	for (size_t i = 0; i < board_objects(board); i++)
		if (atomic_load(&board->objects[i].freed_at) > last)
			last = atomic_load(&board->objects[i].freed_at);
	return last;
}

/* Whatever is left: all at once, again and again, until nothing is. */
static void release_rest(struct run *run)
{
	while (release_pending(&run->release) > 0) {
		release_sweep(&run->release);
		for (int i = 0; i < SWEEP_INTERVAL_MS && release_pending(&run->release) > 0; i++)
			poll(NULL, 0, 1);
	}
}

void run_release(struct run *run)
{
	struct board *board = run->release.board;

	if (run->stopped == STOP_PEER)
		poll(NULL, 0, GUARD_LAST_MOMENT / USEC_PER_MSEC);
	if (run->stopped == STOP_NONE)
		release_in_order(run);
	if (run->stopped != STOP_NONE)
		atomic_store(&board->revoked, true);
	release_rest(run);
	board->end = last_freed(board);
}

void run_verify(struct run *run)
{
	struct board *board = run->release.board;

	for (size_t i = 0; i < board_objects(board); i++)
		if (atomic_load(&board->objects[i].stolen))
			board_fault(board, board->objects[i].is_device ? FAULT_RESUMED : FAULT_THAWED, i, 0);
}
