/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vss-worker for machines that do not exist: everything below /data lies on one volume, every op succeeds, nothing
 * real is touched whatever a stranger has asked vssd for. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/frame.h"

#define SOCKET 3

struct answer {
	json_t *value;
	int fds[FRAME_FDS_MAX];
	size_t n_fds;
};

static json_t *hand_out(struct answer *a)
{
	if (a->n_fds == FRAME_FDS_MAX)
		_exit(1);
	a->fds[a->n_fds] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return json_integer((json_int_t)a->n_fds++);
}

static json_t *resolve(json_t *path)
{
	const char *text = json_string_value(path);
	json_t *row;

	if (text && strncmp(text, "/data", 5) != 0)
		row = json_pack("{s{ss ss}}", "Error", "Name", "ObjectNotFound", "Text", "There is no such path");
	else
		row = json_pack("{ss ss ss ss ss ss s[s] s[]}", "Path", "/data", "Id", "data", "Provider", "btrfs",
				"ProviderId", "p", "FsUuid", "fs-1", "Device", "/dev/none", "Domains", "fs:1", "Below");
	json_object_set(row, "Given", path);
	return row;
}

static json_t *do_member(struct answer *a, const char *op, json_t *member)
{
	json_t *row = json_object();

	json_object_set(row, "Copy", json_object_get(member, "Copy"));
	if (strcmp(op, "prepare") == 0) {
		json_object_set_new(row, "Source", hand_out(a));
		json_object_set_new(row, "Store", hand_out(a));
	}
	if (strcmp(op, "open") == 0)
		json_object_set_new(row, "Directory", hand_out(a));
	return row;
}

static void do_op(struct answer *a, json_t *request)
{
	const char *op = json_string_value(json_object_get(request, "op"));
	json_t *members = json_array(), *volumes = json_array(), *value;
	size_t i;

	json_array_foreach (json_object_get(request, "Paths"), i, value)
		json_array_append_new(volumes, resolve(value));
	json_array_foreach (json_object_get(request, "Members"), i, value)
		json_array_append_new(members, do_member(a, op, value));
	if (strcmp(op, "mount") == 0)
		hand_out(a);
	/* Storage that cannot be read now: what is known of it stays. */
	a->value = json_pack("{sb so so s[{ss ss}] sO? s{ss}}", "ok", 1, "Members", members, "Volumes", volumes,
			     "Filesystems", "Uuid", "fs-1", "Error", "hostile", "Path",
			     json_object_get(request, "Path"), "Record", "Of", "nothing");
}

int main(void)
{
	for (;;) {
		struct frame in = { 0 }, out;
		struct answer a = { 0 };

		if (frame_receive(&in, SOCKET, NULL) != 1)
			return 0;
		do_op(&a, in.value);
		frame_done(&in);
		if (frame_init(&out, a.value, a.fds, a.n_fds, NULL) < 0 || frame_send(&out, SOCKET, NULL) != 1)
			return 1;
		frame_done(&out);
		json_decref(a.value);
		for (size_t i = 0; i < a.n_fds; i++)
			close(a.fds[i]);
	}
}
