/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/guard/window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "coordinator/guard/message.h"
#include "coordinator/guard/verdict.h"
#include "coordinator/guard/window-plan.h"

#define CONTROL "/dev/mapper/control"
#define SWEEP_INTERVAL (10 * USEC_PER_MSEC)
#define SLOW_SWEEP_INTERVAL (250 * USEC_PER_MSEC)
#define SLOW_AFTER (2 * USEC_PER_SEC)
/* After this the client hears, with the names of what is stuck. */
#define STUCK_AFTER (700 * USEC_PER_MSEC)
#define RELEASE_PATIENCE (2 * USEC_PER_SEC) /* for an executor that was told to release */
/* An executor that does not say in time that it is armed is replaced, so often. All of it is shorter than vssd waits.
 */
#define ARM_PATIENCE (800 * USEC_PER_MSEC)
#define REPLACE_MAX 2

/* ---- what concerns all windows ---- */

static size_t n_expedited;
static int rcu_before = -1;

static void expedite(struct window *w)
{
	if (n_expedited++ == 0)
		rcu_before = rcu_expedite();
	w->board->rcu_before = rcu_before;
	w->counted = true;
}

static void no_longer_expedite(struct window *w)
{
	if (w->counted && --n_expedited == 0)
		rcu_restore(rcu_before);
	w->counted = false;
}

/* ---- arming ---- */

static int open_control(struct window *w, const struct board *plan, struct err *err)
{
	bool needed = plan->n_devices > 0;

	for (size_t i = 0; i < plan->n_cuts; i++)
		needed = needed || plan->cuts[i].kind != CUT_SNAPSHOT;
	/* The executor gets one in any case, so that its descriptors have fixed places. */
	w->control = open(needed ? CONTROL : "/dev/null", O_RDWR | O_CLOEXEC);
	if (w->control < 0)
		return err_errno(err, errno, VSS_E_PROVIDER_VETO, "vss-guard cannot open %s: is device-mapper there?",
				 CONTROL);
	return 0;
}

static struct window *window_alloc(int directory)
{
	struct window *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->half = HALF_NONE;
	w->directory = directory;
	w->board_fd = w->control = -1;
	for (size_t i = 0; i < BOARD_FDS_MAX; i++)
		w->fds[i] = -1;
	return w;
}

static int start_crew(struct window *w, struct err *err)
{
	size_t n = board_objects(w->board);

	w->release = (struct release){ .board = w->board, .control = w->control, .fds = w->fds };
	if (crew_new(&w->crew, n ? n : 1, err) < 0)
		return -1;
	w->release.crew = w->crew;
	return 0;
}

static int prepare(struct window *w, struct board *plan, json_t *text, struct err *err)
{
	if (plan_parse(text, w->n_fds, plan, err) < 0 || open_control(w, plan, err) < 0 ||
	    plan_check(plan, w->control, w->fds, w->directory, err) < 0 ||
	    board_create(w->directory, plan, &w->board, &w->board_fd, err) < 0)
		return -1;
	w->deadline = w->board->deadline;
	if (start_crew(w, err) == 0)
		return 0;
	board_remove(w->directory, w->board);
	return -1;
}

/* Its executor is lost before it was told to go: nothing was begun, and another one may do it as well. */
static void lose_half(struct window *w)
{
	half_forget(&w->half);
	no_longer_expedite(w);
	w->release.holder = 0;
	w->state = WINDOW_ARMING;
	if (w->replaced++ == REPLACE_MAX)
		window_fence(w, FAULT_EXECUTOR);
}

static void tell_half(struct window *w)
{
	int fds[BOARD_FDS_MAX + 2] = { w->board_fd, w->control };

	memcpy(fds + 2, w->fds, w->n_fds * sizeof *fds);
	if (message_send(w->half.socket, WORD_ARM, fds, w->n_fds + 2) < 0)
		lose_half(w);
}

bool window_wants_half(const struct window *w)
{
	return w->state == WINDOW_ARMING && w->half.pid == 0;
}

void window_take_half(struct window *w, struct half *half)
{
	w->half = *half;
	*half = HALF_NONE;
	w->board->executor = w->half.pid;
	w->board->executor_start = process_start(w->half.pid);
	w->release.holder = w->half.pid;
	w->half_due = clock_now() + ARM_PATIENCE;
	if (w->half.ready)
		tell_half(w);
}

int window_new(struct window **ret, json_t *plan, int *fds, size_t n_fds, int directory, struct half *half,
	       struct err *err)
{
	autofree struct board *board = calloc(1, sizeof *board);
	struct window *w = window_alloc(directory);

	if (!w || !board || n_fds > BOARD_FDS_MAX) {
		free(w);
		return err_set(err, VSS_E_OUT_OF_MEMORY, "vss-guard has no memory for a window");
	}
	for (size_t i = 0; i < n_fds; i++)
		w->fds[i] = steal_fd(fds[i]);
	w->n_fds = n_fds;
	if (prepare(w, board, plan, err) < 0) {
		window_free(w);
		return -1;
	}
	window_take_half(w, half);
	*ret = w;
	return 0;
}

int window_adopt(struct window **ret, int board_fd, int directory, struct err *err)
{
	struct window *w = window_alloc(directory);

	if (!w || board_map(board_fd, &w->board, err) < 0) {
		free(w);
		return -1;
	}
	w->control = open(CONTROL, O_RDWR | O_CLOEXEC);
	w->n_fds = BOARD_FDS_MAX; /* opened when they are needed */
	if (start_crew(w, err) < 0) {
		window_free(w);
		return -1;
	}
	if (w->board->executor > 0 && process_start(w->board->executor) == w->board->executor_start)
		half_adopt(&w->half, w->board->executor);
	w->release.holder = w->half.pid;
	rcu_restore(w->board->rcu_before);
	window_fence(w, FAULT_RELEASER);
	*ret = w;
	return 0;
}

struct window *window_free(struct window *w)
{
	if (!w)
		return NULL;
	half_bury(&w->half);
	crew_free(w->crew);
	for (size_t i = 0; i < w->n_fds; i++)
		if (w->fds[i] >= 0)
			close(w->fds[i]);
	if (w->control >= 0)
		close(w->control);
	if (w->board_fd >= 0)
		close(w->board_fd);
	board_unmap(w->board);
	free(w);
	return NULL;
}

/* ---- the way through ---- */

static void answer(struct window *w, json_t *text)
{
	autojson json_t *owned = text;
	void *client = w->client;

	if (client && w->tell)
		w->tell(w, owned, client);
}

static json_t *held_answer(const struct window *w)
{
	json_t *text = verdict_answer(w->board);

	json_object_set_new(text, "Held", json_true());
	return text;
}

static void begin(struct window *w)
{
	expedite(w);
	w->state = WINDOW_RUNNING;
	if (message_send(w->half.socket, WORD_GO, NULL, 0) < 0)
		lose_half(w);
}

int window_go(struct window *w, struct err *err)
{
	if (!w->told || w->going)
		return err_set(err, VSS_E_BAD_STATE, "The window is not armed, or has begun already");
	w->going = true;
	if (w->state == WINDOW_ARMED)
		begin(w);
	return 0;
}

static void armed(struct window *w)
{
	w->state = WINDOW_ARMED;
	if (w->going) {
		begin(w);
	} else if (!w->told) {
		w->told = true;
		answer(w, json_pack("{sb sI}", "ok", 1, "Deadline", (json_int_t)w->deadline));
	}
}

int window_release(struct window *w, struct err *err)
{
	uint64_t patience = clock_now() + RELEASE_PATIENCE;

	if (w->state != WINDOW_HELD)
		return err_set(err, VSS_E_BAD_STATE, "The window holds nothing that could be released");
	w->state = WINDOW_RELEASING;
	if (patience < w->deadline)
		w->deadline = patience;
	if (message_send(w->half.socket, WORD_RELEASE, NULL, 0) < 0)
		window_fence(w, FAULT_EXECUTOR);
	return 0;
}

static void close_all(void *context, size_t index)
{
	struct window *w = context;

	for (size_t i = 0; i < w->n_fds; i++)
		if (w->fds[i] >= 0)
			close(steal_fd(w->fds[i]));
}

/* Nothing is held any more. The last descriptor of a detached mount unmounts, which may take as long as its device
 * does: not here. */
static void end(struct window *w)
{
	no_longer_expedite(w);
	board_remove(w->directory, w->board);
	w->state = WINDOW_CLOSING;
	answer(w, verdict_answer(w->board));
	w->client = NULL;
	half_kill(&w->half);
	crew_post(w->crew, 0, close_all, w, 0);
	crew_go(w->crew);
}

/* Nothing new is begun by a condemned executor, so that there is time to wait for what must not be broken off. */
static void kill_half(struct window *w)
{
	if (!release_is_delicate(&w->release))
		half_kill(&w->half);
}

void window_fence(struct window *w, enum fault_kind fault)
{
	if (w->state >= WINDOW_FENCED)
		return;
	atomic_store(&w->board->revoked, true);
	atomic_store(&w->board->condemned_by, (int32_t)getpid());
	kill_half(w);
	board_fault(w->board, fault, 0, 0);
	w->state = WINDOW_FENCED;
	w->fenced_at = clock_now();
	w->sweep_from = fault == FAULT_EXECUTOR ? w->fenced_at + GUARD_LAST_MOMENT : 0;
	window_step(w);
}

/* The executor says that it has released everything; what the board says is believed. */
static void done(struct window *w)
{
	if (w->state >= WINDOW_FENCED)
		return;
	if (board_holds(w->board))
		window_fence(w, FAULT_EXECUTOR);
	else
		end(w);
}

void window_heard(struct window *w)
{
	int word = message_receive(w->half.socket, NULL, 0, NULL);

	if (word == WORD_READY) {
		w->half.ready = true;
		if (w->state == WINDOW_ARMING)
			tell_half(w);
	} else if (word == WORD_ARMED && w->state == WINDOW_ARMING) {
		armed(w);
	} else if (word == WORD_HELD && w->state == WINDOW_RUNNING) {
		w->state = WINDOW_HELD;
		answer(w, held_answer(w));
	} else if (word == WORD_DONE) {
		done(w);
	} else if (word != 0 && w->state <= WINDOW_ARMED) {
		lose_half(w);
	} else if (word != 0) {
		/* Nonsense, a refusal, or its end, which the pidfd tells too. */
		close(steal_fd(w->half.socket));
		window_fence(w, FAULT_EXECUTOR);
	}
}

/* Its end may be seen before its last word. */
void window_half_ended(struct window *w)
{
	if (w->half.socket >= 0 && w->state < WINDOW_FENCED)
		window_heard(w);
	if (w->half.pid > 0 && w->state <= WINDOW_ARMED)
		lose_half(w);
	if (w->half.pid == 0)
		return;
	half_bury(&w->half);
	w->release.holder = 0;
	w->sweep_due = 0;
	window_fence(w, FAULT_EXECUTOR);
	window_step(w);
}

/* What is in flight may fail at once, again and again: not more often than every interval. */
static void sweep(struct window *w)
{
	uint64_t now = clock_now();

	if (release_pending(&w->release) == 0 || now < w->sweep_from || now < w->sweep_due)
		return;
	w->sweep_due = now + (now < w->fenced_at + SLOW_AFTER ? SWEEP_INTERVAL : SLOW_SWEEP_INTERVAL);
	release_sweep(&w->release);
}

static void step_fenced(struct window *w)
{
	kill_half(w);
	sweep(w);
	if (release_pending(&w->release) == 0 && w->half.pid == 0)
		end(w);
	else if (w->client && clock_now() >= w->fenced_at + STUCK_AFTER) {
		answer(w, verdict_answer(w->board));
		w->client = NULL;
	}
}

void window_step(struct window *w)
{
	crew_clear(w->crew);
	if (w->state < WINDOW_FENCED && clock_now() >= w->deadline)
		window_fence(w, FAULT_DEADLINE);
	else if (w->state == WINDOW_ARMING && w->half.pid > 0 && clock_now() >= w->half_due)
		lose_half(w);
	else if (w->state == WINDOW_FENCED)
		step_fenced(w);
	if (w->state == WINDOW_CLOSING && crew_idle(w->crew, 0) && w->half.pid == 0)
		w->state = WINDOW_OVER;
}

uint64_t window_due(const struct window *w)
{
	if (w->state == WINDOW_ARMING && w->half_due < w->deadline)
		return w->half_due;
	if (w->state < WINDOW_FENCED)
		return w->deadline;
	if (w->state == WINDOW_FENCED && release_pending(&w->release) > 0)
		return w->sweep_from > w->sweep_due ? w->sweep_from : w->sweep_due;
	if (w->state == WINDOW_FENCED && release_is_delicate(&w->release))
		return clock_now() + SWEEP_INTERVAL;
	/* The executor's end is polled for: whoever asks again at once keeps it, on one CPU, from coming. */
	return clock_now() + SLOW_SWEEP_INTERVAL;
}
