/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writer-fixture.h"

#include <stdlib.h>

static enum vss_result on_event(struct vss_writer *writer, const struct vss_event_info *event, void *data)
{
	struct fixture *f = data;

	if (f->n_seen < EVENTS_MAX)
		f->seen[f->n_seen++] = event->event;
	if (f->inside)
		f->inside(f, event);
	return f->results[event->event];
}

struct vss_writer_ops all_ops(void)
{
	return (struct vss_writer_ops){
		.size = sizeof(struct vss_writer_ops),
		.version = VSS_WRITER_API_VERSION,
		.id = "b2014c9e-8711-4c5c-a5a9-3cf384484757",
		.name = "Test Writer",
		.app_version = "1.2",
		.level = VSS_LEVEL_BACK_END,
		.freeze_limit_msec = 400,
		.freeze = on_event,
		.thaw = on_event,
		.abort = on_event,
		.identify = on_event,
		.prepare_backup = on_event,
		.prepare_snapshot = on_event,
		.post_snapshot = on_event,
		.backup_complete = on_event,
		.backup_shutdown = on_event,
		.pre_restore = on_event,
		.post_restore = on_event,
	};
}

int dispatch_writer(void *data)
{
	return vss_writer_dispatch(data);
}

void start_writer(struct fixture *f, const struct vss_writer_ops *ops, unsigned flags)
{
	char error[256];

	if (vss_writer_new(&f->writer, ops, f, error, sizeof error) < 0)
		fail_msg("vss_writer_new: %s", error);
	const struct vss_component component = {
		.size = sizeof component,
		.name = "data",
		.database = true,
		.files = (struct vss_file_set[]){ { "/srv/data", "*", true } },
		.n_files = 1,
	};
	assert_int_equal(vss_writer_add_component(f->writer, &component), 0);
	assert_int_equal(vss_writer_start(f->writer, flags, NULL), 0);
	if (!(flags & VSS_WRITER_THREAD))
		stage_set_companion(f->stage, vss_writer_fd(f->writer), dispatch_writer, f->writer);
	assert_true(stage_wait_registrations(f->stage, 1, 10000));
	stage_wait(f->stage, 20); /* its answer arrives */
}

int set_up_stage(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct err err;

	f->bus = bus_harness_start();
	assert_non_null(f->bus);
	if (stage_open(&f->stage, bus_harness_address(f->bus), &err) < 0)
		fail_msg("%s", err.text);
	id_new(f->session);
	id_new(f->set);
	*state = f;
	return 0;
}

int set_up(void **state)
{
	struct vss_writer_ops ops = all_ops();

	set_up_stage(state);
	start_writer(*state, &ops, 0);
	return 0;
}

int tear_down(void **state)
{
	struct fixture *f = *state;

	stage_set_companion(f->stage, -1, NULL, NULL);
	vss_writer_free(f->writer);
	stage_close(f->stage);
	bus_harness_stop(f->bus);
	free(f);
	return 0;
}

enum vss_error send_full(struct fixture *f, const char *name, const char *session, const char *set,
			 struct stage_answer *answer)
{
	struct stage_event event = { .name = name, .session = session, .set = set };

	stage_send(f->stage, &event, answer);
	return answer->error;
}

enum vss_error send_event(struct fixture *f, const char *name)
{
	struct stage_answer answer;
	enum vss_error error = send_full(f, name, f->session, f->set, &answer);

	stage_answer_clear(&answer);
	return error;
}

json_int_t freeze(struct fixture *f)
{
	struct stage_answer answer;

	assert_int_equal(send_event(f, "PrepareSnapshot"), VSS_OK);
	assert_int_equal(send_full(f, "Freeze", f->session, f->set, &answer), VSS_OK);
	json_int_t sequence = json_integer_value(json_object_get(answer.body, "Sequence"));
	assert_true(sequence > 0);
	stage_answer_clear(&answer);
	return sequence;
}

void expect_thaw(struct fixture *f, json_int_t sequence, bool unbroken)
{
	struct stage_answer answer;

	assert_int_equal(send_full(f, "Thaw", f->session, f->set, &answer), VSS_OK);
	assert_int_equal(json_integer_value(json_object_get(answer.body, "Sequence")), sequence);
	assert_int_equal(json_is_true(json_object_get(answer.body, "Unbroken")), unbroken);
	stage_answer_clear(&answer);
}

bool wait_seen(struct fixture *f, enum vss_event event, unsigned milliseconds)
{
	for (unsigned waited = 0; waited <= milliseconds; waited += 10) {
		for (unsigned i = 0; i < f->n_seen; i++)
			if (f->seen[i] == event)
				return true;
		stage_wait(f->stage, 10);
	}
	return false;
}
