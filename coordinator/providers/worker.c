/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-worker ROLE [--fd N]: answers vssd's requests one at a time, until vssd closes its end or kills it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/frame.h"
#include "coordinator/providers/provider.h"
#include "coordinator/providers/volumes.h"

#define DEFAULT_FD 3

struct role {
	const char *name;
	const struct provider_op *ops;
};

static const struct provider_op *find_op(const struct role *role, const char *name)
{
	for (const struct provider_op *op = role->ops; op->name; op++)
		if (strcmp(op->name, name) == 0)
			return op;
	return NULL;
}

static int run_op(const struct role *role, json_t *request, const struct fd_list *fds, json_t *answer,
		  struct fd_list *answer_fds, struct err *err)
{
	const char *name = json_string_value(json_object_get(request, "op"));

	if (!name)
		return err_set(err, VSS_E_INVALID_ARGUMENT, "A request to the %s worker names no \"op\"", role->name);
	const struct provider_op *op = find_op(role, name);
	if (!op)
		return err_set(err, VSS_E_NOT_SUPPORTED, "The %s worker knows no op \"%.60s\"", role->name, name);
	return op->run(request, fds, answer, answer_fds, err);
}

static json_t *error_answer(const struct err *err)
{
	return json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "Name", error_name(err->code), "Text", err->text);
}

static void close_fds(struct fd_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		close(list->fds[i]);
	list->n = 0;
}

static int send_answer(int fd, json_t *answer, const struct fd_list *fds, struct err *err)
{
	struct frame frame;
	int sent = frame_init(&frame, answer, fds->fds, fds->n, err) < 0 ? -1 : frame_send(&frame, fd, err);

	frame_done(&frame);
	return sent;
}

/* Runs one request and answers it; -1 when vssd cannot be answered any more. */
static int serve(const struct role *role, int fd, json_t *request, const struct fd_list *fds)
{
	autojson json_t *answer = json_object();
	struct fd_list answer_fds = { 0 };
	struct err err = { 0 };
	int r;

	if (run_op(role, request, fds, answer, &answer_fds, &err) == 0) {
		json_object_set_new(answer, "ok", json_true());
		r = send_answer(fd, answer, &answer_fds, &err);
		close_fds(&answer_fds);
		if (r > 0 || err.code != VSS_E_LIMITS_EXCEEDED)
			return r;
	}
	close_fds(&answer_fds);
	autojson json_t *failure = error_answer(&err);
	if (!failure)
		return -1;
	return send_answer(fd, failure, &answer_fds, &err);
}

static int serve_frame(const struct role *role, int fd, struct frame *frame)
{
	struct fd_list fds = { .n = frame->n_fds };

	memcpy(fds.fds, frame->fds, frame->n_fds * sizeof *fds.fds);
	return serve(role, fd, frame->value, &fds);
}

/* A frame that is not JSON was still read to its end, so the stream goes on; any other failure ends it. */
static int serve_next(const struct role *role, int fd)
{
	struct frame frame = { 0 };
	struct err err = { 0 };
	int r = frame_receive(&frame, fd, &err);

	if (r > 0) {
		r = serve_frame(role, fd, &frame);
	} else if (err.code == VSS_E_INVALID_DOCUMENT) {
		autojson json_t *answer = error_answer(&err);
		r = send_answer(fd, answer, &(struct fd_list){ 0 }, &err);
	}
	frame_done(&frame);
	return r;
}

/* Never outlives vssd, holds no directory of its caller, makes nothing that others may read. */
static int settle(void)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || chdir("/") < 0) {
		fprintf(stderr, "vss-worker: cannot set itself up: %s\n", strerror(errno));
		return -1;
	}
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

static int parse_fd(int argc, char **argv)
{
	int fd;
	char rest;

	if (argc == 2)
		return DEFAULT_FD;
	if (argc == 4 && strcmp(argv[2], "--fd") == 0 && sscanf(argv[3], "%d%c", &fd, &rest) == 1 && fd >= 0)
		return fd;
	return -1;
}

static bool find_role(const char *name, struct role *ret)
{
	const struct role roles[] = {
#ifdef HAVE_BTRFS
		{ btrfs_provider.role, btrfs_provider.ops },
#else
		{ "btrfs", absent_ops },
#endif
#ifdef HAVE_LVM
		{ lvm_provider.role, lvm_provider.ops },
#else
		{ "lvm", absent_ops },
#endif
		{ "volumes", volumes_ops },
	};

	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		if (strcmp(roles[i].name, name) == 0) {
			*ret = roles[i];
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	struct role role;
	int fd = parse_fd(argc, argv);

	if (fd < 0 || !find_role(argv[1], &role)) {
		fprintf(stderr, "vss-worker is started by vssd: vss-worker ROLE [--fd N]\n");
		return 2;
	}
	if (settle() < 0)
		return 1;
	while (serve_next(&role, fd) > 0)
		;
	return 0;
}
