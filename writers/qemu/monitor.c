/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/monitor.h"

#include <string.h>

#include "common/cleanup.h"
#include "common/text.h"
#include "writers/qemu/image.h"

#define LINES_MAX 1000 /* events between a command and its answer */

static enum channel_result say(struct channel *channel, enum channel_result result, struct err *err)
{
	err_set(err, VSS_E_WRITER_RETRYABLE, "Its QEMU's monitor cannot be used: %s", channel->why);
	return result;
}

static enum channel_result command(struct channel *channel, const char *name, json_t **ret,
				   const struct patience *patience)
{
	char line[80];
	enum channel_result result;

	text_format(line, sizeof line, "{\"execute\":\"%s\"}\n", name);
	result = channel_send(channel, line, strlen(line), patience);
	for (int i = 0; result == CHANNEL_OK && i < LINES_MAX; i++) {
		autojson json_t *answer = NULL;
		result = channel_json(channel, &answer, patience);
		json_t *value = json_object_get(answer, "return");
		if (value) {
			*ret = json_incref(value);
			return CHANNEL_OK;
		}
		if (json_object_get(answer, "error"))
			break;
	}
	if (result != CHANNEL_OK)
		return result;
	text_format(channel->why, sizeof channel->why, "%s was refused", name);
	return CHANNEL_GARBLED;
}

static enum channel_result greet(struct channel *channel, const struct patience *patience)
{
	autojson json_t *greeting = NULL, *nothing = NULL;
	enum channel_result result = channel_json(channel, &greeting, patience);

	if (result != CHANNEL_OK)
		return result;
	if (json_object_get(greeting, "QMP"))
		return command(channel, "qmp_capabilities", &nothing, patience);
	text_format(channel->why, sizeof channel->why, "what listens at its socket is no QEMU monitor");
	return CHANNEL_GARBLED;
}

static void add_file(json_t *files, json_t *name, struct err *err)
{
	const char *text = json_string_value(name);
	autofree char *path = text ? image_reference("/", text, err) : NULL;

	if (path)
		image_files(path, false, files, err);
}

/* ImageInfo: the monitor knows the chain, so that nothing has to be guessed from what guests may write. */
static void add_chain(json_t *image, json_t *files, struct err *err)
{
	for (int i = 0; image && i < IMAGE_FILES_MAX; i++) {
		json_t *data = json_object_get(json_object_get(image, "format-specific"), "data");
		add_file(files, json_object_get(image, "filename"), err);
		if (json_object_get(data, "data-file"))
			add_file(files, json_object_get(data, "data-file"), err);
		image = json_object_get(image, "backing-image");
	}
}

static void add_disks(json_t *blocks, json_t *files, struct err *err)
{
	size_t i;
	json_t *block;

	json_array_foreach(blocks, i, block) {
		json_t *inserted = json_object_get(block, "inserted");
		bool medium = json_is_true(json_object_get(block, "removable")) &&
			      json_is_true(json_object_get(inserted, "ro"));
		if (inserted && !medium)
			add_chain(json_object_get(inserted, "image"), files, err);
	}
}

static enum channel_result ask(struct channel *channel, char status[32], json_t *files, const struct patience *patience,
			       struct err *err)
{
	autojson json_t *state = NULL, *blocks = NULL;
	enum channel_result result = greet(channel, patience);

	if (result == CHANNEL_OK)
		result = command(channel, "query-status", &state, patience);
	if (result == CHANNEL_OK)
		result = command(channel, "query-block", &blocks, patience);
	if (result != CHANNEL_OK)
		return result;
	text_format(status, 32, "%s", json_string_value(json_object_get(state, "status")) ?: "unknown");
	add_disks(blocks, files, err);
	return CHANNEL_OK;
}

enum channel_result monitor_ask(const char *address, char status[32], json_t *files, const struct patience *patience,
				struct err *err)
{
	struct channel channel;

	channel_init(&channel);
	enum channel_result result = channel_open(&channel, address, patience);
	if (result == CHANNEL_OK)
		result = ask(&channel, status, files, patience, err);
	if (result != CHANNEL_OK && result != CHANNEL_ABSENT)
		say(&channel, result, err);
	channel_close(&channel);
	return result;
}
