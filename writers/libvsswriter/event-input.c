/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/libvsswriter/event-input.h"

#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"

static const char *text_member(json_t *object, const char *key, const char *fallback)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : fallback;
}

/* Integers may have come as any D-Bus integer; a negative or missing one is 0. */
static uint64_t number_member(json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value > 0 ? (uint64_t)value : 0;
}

static int read_volumes(struct event_input *input, json_t *list, event_take_fd_fn take_fd, void *data, struct err *err)
{
	size_t n = json_array_size(list), i;
	json_t *row;

	if (n > EVENT_VOLUMES_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "The event names more than %d volumes", EVENT_VOLUMES_MAX);
	input->volumes = calloc(n + 1, sizeof *input->volumes);
	if (!input->volumes)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for an event with %zu volumes", n);
	json_array_foreach(list, i, row) {
		struct vss_volume *volume = &input->volumes[input->info.n_volumes++];
		json_t *copy = json_object_get(row, "Copy");
		*volume = (struct vss_volume){
			.path = text_member(row, "Path", ""),
			.id = text_member(row, "Id", ""),
			.instant_group = (uint32_t)number_member(row, "InstantGroup"),
			.copy = json_is_integer(copy) ? take_fd(data, json_integer_value(copy)) : -1,
		};
		if (!*volume->path)
			return err_set(err, VSS_E_INVALID_ARGUMENT, "Volume %zu of the event has no Path", i + 1);
	}
	input->info.volumes = input->volumes;
	return 0;
}

static int read_components(struct event_input *input, json_t *list, struct err *err)
{
	size_t i;
	json_t *name;

	input->components = calloc(json_array_size(list) + 1, sizeof *input->components);
	if (!input->components)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for an event's components");
	json_array_foreach(list, i, name) {
		if (!json_is_string(name))
			return err_set(err, VSS_E_INVALID_ARGUMENT, "Components of the event must be an array of strings");
		input->components[input->info.n_components++] = json_string_value(name);
	}
	input->info.components = input->components;
	return 0;
}

static int read_details(struct event_input *input, json_t *details, event_take_fd_fn take_fd, void *data,
			struct err *err)
{
	input->info.backup_type = text_member(details, "BackupType", "copy");
	input->info.persistent = json_is_true(json_object_get(details, "Persistent"));
	input->info.succeeded = json_is_true(json_object_get(details, "Succeeded"));
	input->info.verify = json_is_true(json_object_get(details, "Verify"));
	input->more = json_is_true(json_object_get(details, "More"));
	if (read_volumes(input, json_object_get(details, "Volumes"), take_fd, data, err) < 0)
		return -1;
	return read_components(input, json_object_get(details, "Components"), err);
}

int event_input_read(struct event_input *input, enum vss_event event, json_t *args, event_take_fd_fn take_fd,
		     void *data, struct err *err)
{
	*input = (struct event_input){ .info = { .size = sizeof input->info, .event = event } };
	input->info.session = input->info.set = "";
	input->info.backup_type = "copy";
	input->texts = json_pack("[O]", args);
	if (!input->texts)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for an event");
	if (event == VSS_EVENT_IDENTIFY) {
		input->info.deadline_usec = UINT64_MAX;
		return 0;
	}
	input->info.session = json_string_value(json_array_get(args, 0));
	input->info.set = json_string_value(json_array_get(args, 1));
	input->info.deadline_usec = (uint64_t)json_integer_value(json_array_get(args, 2));
	if (read_details(input, json_array_get(args, 3), take_fd, data, err) == 0)
		return 0;
	event_input_clear(input);
	return -1;
}

static struct vss_volume *find_volume(struct event_input *input, const struct vss_volume *wanted)
{
	for (size_t i = 0; i < input->info.n_volumes; i++)
		if (strcmp(input->volumes[i].id, wanted->id) == 0 && strcmp(input->volumes[i].path, wanted->path) == 0)
			return &input->volumes[i];
	return NULL;
}

int event_input_join(struct event_input *input, struct event_input *earlier, struct err *err)
{
	size_t total = input->info.n_volumes + earlier->info.n_volumes;
	struct vss_volume *grown;

	if (total > EVENT_VOLUMES_MAX)
		return err_set(err, VSS_E_LIMITS_EXCEEDED, "The event names more than %d volumes", EVENT_VOLUMES_MAX);
	grown = reallocarray(input->volumes, total + 1, sizeof *grown);
	if (!grown)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory for an event with %zu volumes", total);
	input->volumes = grown;
	input->info.volumes = grown;
	for (size_t i = 0; i < earlier->info.n_volumes; i++) {
		struct vss_volume *volume = &earlier->volumes[i], *same = find_volume(input, volume);
		if (!same) {
			same = &input->volumes[input->info.n_volumes++];
			*same = *volume;
		} else if (same->copy < 0) {
			same->copy = volume->copy;
		} else {
			continue; /* a copy that came twice: event_input_clear closes the earlier descriptor */
		}
		volume->copy = -1;
	}
	json_array_extend(input->texts, earlier->texts);
	event_input_clear(earlier);
	return 0;
}

void event_input_clear(struct event_input *input)
{
	for (size_t i = 0; i < input->info.n_volumes; i++)
		if (input->volumes[i].copy >= 0)
			close(input->volumes[i].copy);
	free(input->volumes);
	free(input->components);
	json_decref(input->texts);
	*input = (struct event_input){ 0 };
}
