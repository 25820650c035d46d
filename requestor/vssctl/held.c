/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requestor/vssctl/held.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/frame.h"
#include "common/names.h"
#include "common/text.h"
#include "requestor/vssctl/rows.h"

#define ANSWER_SECONDS 3 /* the guard answers an order within one */

enum reach { REACHED, ABSENT, DENIED };

static int fail(struct vss_failure *failure, enum vss_error code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(struct vss_failure *failure, enum vss_error code, const char *format, ...)
{
	va_list args;

	*failure = (struct vss_failure){ .code = error_code(code), .retryable = error_is_retryable(code) };
	text_format(failure->name, sizeof failure->name, "%s", error_name(code));
	va_start(args, format);
	text_vformat(failure->text, sizeof failure->text, format, args);
	va_end(args);
	return -1;
}

static const char *guard_directory(void)
{
	const char *given = getenv(VSS_ENV_GUARD_DIRECTORY);

	return given && *given ? given : VSS_GUARD_DIRECTORY;
}

/* ---- the guard's socket ---- */

static enum reach reach_guard(int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (snprintf(address.sun_path, sizeof address.sun_path, "%s/guard.sock", guard_directory()) >=
	    (int)sizeof address.sun_path)
		return ABSENT;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return errno == EACCES || errno == EPERM ? DENIED : ABSENT;
	*ret_fd = steal_fd(fd);
	return REACHED;
}

/* One that does not answer in time counts as absent. */
static enum reach ask_guard(const char *op, json_t **ret_answer)
{
	autojson json_t *order = json_pack("{ss}", "op", op);
	struct frame out = { 0 }, in = { 0 };
	autoclose int fd = -1;
	enum reach reach = reach_guard(&fd);

	*ret_answer = NULL;
	if (reach == REACHED && frame_init(&out, order, NULL, 0, NULL) == 0 && frame_send(&out, fd, NULL) > 0 &&
	    frame_receive(&in, fd, NULL) > 0 && json_is_true(json_object_get(in.value, "ok")))
		*ret_answer = json_incref(in.value);
	frame_done(&out);
	frame_done(&in);
	return reach == DENIED ? DENIED : *ret_answer ? REACHED : ABSENT;
}

/* ---- its program, for what a guard that ended has left ---- */

static json_t *read_json(int fd)
{
	FILE *stream = fdopen(fd, "r");
	json_t *value = stream ? json_loadf(stream, 0, NULL) : NULL;

	if (stream)
		fclose(stream);
	return value;
}

/* Its output; NULL when it cannot be run or says nothing of use. */
static json_t *run_program(const char *what)
{
	const char *program = getenv(VSS_ENV_GUARD_PROGRAM) ?: VSSD_LIBEXEC_DIR "/vss-guard";
	char *argv[] = { (char *)program,	    (char *)what, (char *)"--json", (char *)"--run-directory",
			 (char *)guard_directory(), NULL };
	posix_spawn_file_actions_t actions;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	int r = posix_spawn(&pid, program, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	/* It ends by itself within a few seconds, and is not waited for where its last thread hangs in the kernel. */
	json_t *value = read_json(ends[0]);
	if (r == 0)
		waitpid(pid, NULL, WNOHANG);
	return value;
}

/* ---- both ---- */

static int denied(struct vss_failure *failure)
{
	return fail(failure, VSS_E_ACCESS_DENIED, "Only root may ask vss-guard what is held, and have it released");
}

int held_list(json_t **ret_rows, struct vss_failure *failure)
{
	autojson json_t *answer = NULL;
	enum reach reach = ask_guard("status", &answer);

	if (reach == DENIED)
		return denied(failure);
	if (reach == ABSENT && access(guard_directory(), F_OK) == 0)
		answer = run_program("--list");
	*ret_rows = json_incref(json_object_get(answer, "Held"));
	if (!*ret_rows)
		*ret_rows = json_array();
	return 0;
}

int held_release(json_t **ret_result, struct vss_failure *failure)
{
	autojson json_t *answer = NULL;
	const char *by = "guard";
	enum reach reach = ask_guard("release-all", &answer);

	if (reach == DENIED)
		return denied(failure);
	if (reach == ABSENT) {
		by = "list";
		answer = run_program("--release");
	}
	if (!json_is_array(json_object_get(answer, "Objects")))
		return fail(failure, VSS_E_NOT_AVAILABLE,
			    "vss-guard does not answer, and its program could not release what is on its list %s: see "
			    "dmsetup info "
			    "for suspended devices (dmsetup resume) and use fsfreeze --unfreeze",
			    guard_directory());
	*ret_result =
	    json_pack("{sO sO sO ss}", "Released", json_object_get(answer, "Released"), "Objects",
		      json_object_get(answer, "Objects"), "Stuck", json_object_get(answer, "Stuck"), "By", by);
	return 0;
}

/* ---- for people ---- */

void print_held(FILE *out, json_t *rows)
{
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row) {
		fprintf(out, "Held: %s, for %s, since ", row_text(row, "Object"), row_text(row, "Owner"));
		print_time(out, row_number(row, "Since") / (int64_t)USEC_PER_SEC);
		fputs(", at the latest until ", out);
		print_time(out, row_number(row, "Deadline") / (int64_t)USEC_PER_SEC);
		fprintf(out, " (set %s)\n", row_text(row, "Set"));
	}
}

static void print_names(FILE *out, json_t *result, const char *key, const char *before, json_t *but)
{
	json_t *names = json_object_get(result, key), *name, *other;
	size_t index, k;

	json_array_foreach (names, index, name) {
		bool left_out = false;
		json_array_foreach (but, k, other)
			left_out = left_out || json_equal(name, other);
		if (!left_out)
			fprintf(out, "%s%s\n", before, json_string_value(name) ?: "?");
	}
}

void print_released(FILE *out, json_t *result)
{
	json_t *stuck = json_object_get(result, "Stuck");

	if (strcmp(row_text(result, "By"), "list") == 0)
		fputs("vss-guard does not answer; released what is on its list.\n", out);
	if (json_array_size(json_object_get(result, "Objects")) + json_array_size(stuck) == 0)
		fputs("Nothing was held.\n", out);
	print_names(out, result, "Objects", "Released ", stuck);
	print_names(out, result, "Stuck", "Not free yet, because its own I/O hangs: ", NULL);
}
