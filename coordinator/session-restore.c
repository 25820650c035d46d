/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PreRestore and PostRestore of a requestor that puts files back itself: to the writers with components on the session's
 * volumes. They move the session through no state: nothing is frozen, and nothing is undone by Abort. */
#include <string.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "coordinator/restore.h"
#include "coordinator/session-internal.h"

static bool may_restore(const struct session *s)
{
	return s->state == SESSION_IDLE || s->state == SESSION_CREATED || s->state == SESSION_COMPLETED;
}

static int begin(struct session *s, const char *operation, bool right_time, struct err *err)
{
	if (*s->operation || s->closing || !may_restore(s) || !right_time)
		return err_set(err, VSS_E_BAD_STATE, "%s is not possible now: the session is %s%s%s", operation,
			       session_state_name(s->state), s->restore ? ", and a restore is under way" : "",
			       *s->operation ? ", busy" : "");
	text_format(s->operation, sizeof s->operation, "%s", operation);
	return 0;
}

static void told(const struct err *err, void *data)
{
	struct session *s = data;
	struct err failure = *err; /* the restore's own */
	json_t *rows = restore_rows(s->restore);

	if (strcmp(s->operation, "PostRestore") == 0)
		s->restore = restore_free(s->restore);
	session_finish(s, &failure, json_pack("{so}", "Writers", rows));
}

int session_pre_restore(struct session *s, struct err *err)
{
	struct restore_context context = { s->context->config, s->context->registry, s->context->workers,
					   s->context->fanout };
	json_t *volumes = json_array();

	for (size_t i = 0; i < s->n_members; i++)
		json_array_append(volumes, s->members[i].volume);
	if (begin(s, "PreRestore", !s->restore, err) < 0) {
		json_decref(volumes);
		return -1;
	}
	s->restore = restore_new(&context, s->id, volumes);
	if (!s->restore)
		err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for a restore");
	if (s->restore && restore_begin(s->restore, told, s, err) == 0)
		return 0;
	s->restore = restore_free(s->restore);
	s->operation[0] = '\0';
	return -1;
}

int session_post_restore(struct session *s, bool succeeded, struct err *err)
{
	if (begin(s, "PostRestore", s->restore, err) < 0)
		return -1;
	restore_end(s->restore, succeeded, told, s);
	return 0;
}

static void nobody_waits(const struct err *err, void *data)
{
}

void restore_abandon(struct session *s)
{
	if (s->restore)
		restore_end(s->restore, false, nobody_waits, NULL);
	s->restore = restore_free(s->restore);
}
