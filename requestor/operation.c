/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Long methods of a session. Their end comes as the signal Finished; that is only the fast way: the session's
 * properties tell the same to whoever missed it, and vssd keeps them over a restart. So whatever happens (a signal
 * lost, vssd restarted or killed), the properties are read again and say whether to go on waiting, to take the result,
 * or to ask once more because the request never arrived. */
#include <string.h>

#include "common/cleanup.h"
#include "requestor/backup.h"

#define LOOK_USEC (5 * USEC_PER_SEC) /* without a signal for so long, the properties are read */

void operation_signal(const char *path, const char *member, json_t *args, void *data)
{
	struct vss_backup *b = data;
	const char *first = json_string_value(json_array_get(args, 0));

	if (strcmp(path, b->path) != 0 || !first)
		return;
	if (strcmp(member, "Progress") == 0 && b->progress) {
		json_int_t percent = json_integer_value(json_array_get(args, 1));
		b->progress(first, percent < 0 ? 0 : (unsigned)percent, json_array_get(args, 2), b->progress_data);
	}
	if (strcmp(member, "Finished") == 0 && b->operation && strcmp(first, b->operation) == 0 && !b->finished) {
		b->finished = true;
		b->result = json_incref(json_array_get(args, 1));
	}
}

/* ---- after silence or a restart ---- */

enum look { LOOK_RUNNING, LOOK_FINISHED, LOOK_UNKNOWN, LOOK_FAILED };

/* What the session itself says of the operation. LOOK_UNKNOWN: it neither runs nor has it finished. */
static enum look look(struct vss_backup *b, struct vss_failure *error)
{
	autojson json_t *properties = NULL;
	const char *running, *last;

	if (session_properties(b, &properties, error) < 0)
		return LOOK_FAILED;
	if (b->finished) /* the signal came first after all */
		return LOOK_FINISHED;
	running = json_string_value(json_object_get(properties, "Operation"));
	last = json_string_value(json_object_get(properties, "LastOperation"));
	if (running && strcmp(running, b->operation) == 0)
		return LOOK_RUNNING;
	if (!last || strcmp(last, b->operation) != 0)
		return LOOK_UNKNOWN;
	b->finished = true;
	b->result = json_incref(json_object_get(properties, "LastResult"));
	return LOOK_FINISHED;
}

static int lost(struct vss_backup *b, struct vss_failure *error)
{
	return fail(error, VSS_E_COORDINATOR_RESTARTED,
		    "%s: vssd was restarted and does not know how far it was. Its writers are released; try again",
		    b->operation);
}

/* ---- waiting ---- */

struct running {
	struct vss_backup *backup;
	json_t *options;
	struct answer call;
	unsigned losses; /* of the connection, when it was last looked */
	bool acknowledged, asked_again;
};

static int start(struct running *r, struct vss_failure *error)
{
	struct vss_backup *b = r->backup;
	struct target target = { b->path, VSS_IFACE_SESSION, b->operation, "a{sv}" };

	answer_clear(&r->call);
	r->losses = b->connection->losses;
	return connection_start(b->connection, &target, json_pack("[O]", r->options), NULL, 0, CALL_USEC, &r->call, error);
}

static bool has_news(const void *data)
{
	const struct running *r = data;

	return r->backup->finished || (r->call.done && !r->acknowledged) || r->losses != r->backup->connection->losses;
}

/* The request was answered: with a refusal, which is the end; or not at all, as vssd went away. */
static int take_answer(struct running *r, struct vss_failure *error)
{
	r->acknowledged = !r->call.error;
	if (!r->call.error || r->call.gone)
		return 0;
	return fail_from_answer(error, &r->call);
}

static int look_again(struct running *r, struct vss_failure *error)
{
	struct vss_backup *b = r->backup;
	/* A result of the same name as the last one we had may be that one. */
	bool ambiguous = b->previous && strcmp(b->previous, b->operation) == 0 && !r->acknowledged;
	bool gone = r->losses != b->connection->losses || r->call.gone;

	r->losses = b->connection->losses;
	if (!gone && !r->call.done)
		return 0; /* no answer to the call itself yet, and no reason to expect one: its limit is running */
	switch (look(b, error)) {
	case LOOK_FAILED:
		return -1;
	case LOOK_RUNNING:
		r->acknowledged = true;
		return 0;
	case LOOK_FINISHED:
		return ambiguous ? lost(b, error) : 0;
	case LOOK_UNKNOWN:
		break;
	}
	if (r->acknowledged || r->asked_again)
		return lost(b, error);
	r->asked_again = true;
	return start(r, error);
}

static int run(struct running *r, struct vss_failure *error)
{
	struct vss_backup *b = r->backup;

	if (start(r, error) < 0)
		return -1;
	while (!b->finished) {
		enum wait_result w = connection_wait(b->connection, has_news, r, clock_now() + LOOK_USEC, error);

		if (w == WAIT_FAILED)
			return -1;
		if (b->finished)
			break;
		if (r->call.done && !r->acknowledged && take_answer(r, error) < 0)
			return -1;
		if ((w == WAIT_DEADLINE || r->call.gone || r->losses != b->connection->losses) &&
		    look_again(r, error) < 0)
			return -1;
	}
	return 0;
}

int operation_run(struct vss_backup *b, const char *method, json_t *options, json_t **ret_result,
		  struct vss_failure *error)
{
	autojson json_t *none = json_object(), *result = NULL;
	struct running r = { .backup = b, .options = options ? options : none, .call = ANSWER_INIT };
	int ended;

	if (b->closed)
		return fail(error, VSS_E_BAD_STATE, "%s: the session has ended", method);
	b->operation = method;
	b->finished = false;
	b->unfinished = true;
	ended = run(&r, error);
	answer_clear(&r.call);
	result = steal_pointer(b->result);
	b->previous = method;
	b->operation = NULL;
	if (ended < 0)
		return -1;
	if (fail_from_result(error, result) == 0) {
		b->unfinished = false;
		ended = 0;
	} else {
		ended = -1;
	}
	if (ret_result)
		*ret_result = steal_pointer(result);
	return ended;
}
