/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "script-fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- files ---- */

void put(struct fixture *f, const char *name, mode_t mode, const char *format, ...)
{
	char path[512];
	va_list args;

	snprintf(path, sizeof path, "%s/%s", f->directory, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	va_start(args, format);
	vfprintf(file, format, args);
	va_end(args);
	fclose(file);
	assert_int_equal(chmod(path, mode), 0);
}

void put_hook(struct fixture *f, const char *event, const char *body)
{
	char name[64];

	snprintf(name, sizeof name, "hooks/%s", event);
	put(f, name, 0755, "#!/bin/sh\nDIR=%s\n%s\n", f->directory, body);
}

void read_file(struct fixture *f, const char *name, char *text, size_t size)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s", f->directory, name);
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(text, 1, size - 1, file) : 0;
	if (file)
		fclose(file);
	text[n] = '\0';
}

void expect_log(struct fixture *f, const char *expected)
{
	char text[4096];

	read_file(f, "log", text, sizeof text);
	assert_string_equal(text, expected);
}

bool exists(struct fixture *f, const char *name)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s", f->directory, name);
	return access(path, F_OK) == 0;
}

/* A zombie, which waits for its new parent, does not. */
bool process_runs(pid_t pid)
{
	char path[64], state = 'Z';

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "r");
	if (!file)
		return false;
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 'Z';
	fclose(file);
	return state != 'Z';
}

/* ---- the writer ---- */

int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	char path[512];
	struct err err;

	f->bus = bus_harness_start();
	assert_non_null(f->bus);
	f->directory = bus_harness_directory(f->bus);
	umask(022);
	snprintf(path, sizeof path, "%s/hooks", f->directory);
	assert_int_equal(mkdir(path, 0755), 0);
	put_hook(f, "freeze", "echo freeze >>$DIR/log");
	put_hook(f, "thaw", "echo $1 $VSS_EVENT >>$DIR/log");
	if (stage_open(&f->stage, bus_harness_address(f->bus), &err) < 0)
		fail_msg("%s", err.text);
	id_new(f->session);
	id_new(f->set);
	*state = f;
	return 0;
}

void start_process(struct fixture *f)
{
	char configuration[512], run[512];

	snprintf(configuration, sizeof configuration, "%s/writer.conf", f->directory);
	snprintf(run, sizeof run, "%s/run", f->directory);
	f->writer = fork();
	assert_true(f->writer >= 0);
	if (f->writer == 0) {
		execl(getenv("SCRIPT_WRITER"), "vss-script-writer", "--runtime-dir", run, configuration, NULL);
		_exit(127);
	}
}

void configure(struct fixture *f, const char *more)
{
	put(f, "writer.conf", 0644, "[Writer]\nId=" WRITER_ID "\nName=Test Script Writer\nPaths=/srv\n%s\n", more);
}

void start_configured(struct fixture *f)
{
	unsigned before = stage_registrations(f->stage);

	start_process(f);
	assert_true(stage_wait_registrations(f->stage, before + 1, 10000));
	stage_wait(f->stage, 20);
}

void start_hooks(struct fixture *f, const char *more)
{
	char text[1024];

	snprintf(text, sizeof text, "Hooks=%s/hooks\n%s", f->directory, more);
	configure(f, text);
	start_configured(f);
}

void start_coprocess(struct fixture *f, const char *body, const char *more)
{
	char text[1024];

	put(f, "co", 0755, "#!/bin/bash\nDIR=%s\n%s\n", f->directory, body);
	snprintf(text, sizeof text, "CoProcess=%s/co\n%s", f->directory, more);
	configure(f, text);
	start_configured(f);
}

int end_writer(struct fixture *f, int number)
{
	int status = 0;

	if (f->writer <= 0)
		return 0;
	kill(f->writer, number);
	while (waitpid(f->writer, &status, 0) < 0 && errno == EINTR)
		;
	f->writer = 0;
	return status;
}

int tear_down(void **state)
{
	struct fixture *f = *state;

	end_writer(f, SIGTERM);
	stage_close(f->stage);
	bus_harness_stop(f->bus);
	free(f);
	return 0;
}

/* ---- events ---- */

void send_within(struct fixture *f, const char *name, uint64_t msec, struct stage_answer *answer)
{
	const struct stage_event event = {
		.name = name,
		.session = f->session,
		.set = f->set,
		.deadline = clock_now() + msec * USEC_PER_MSEC,
	};

	stage_send(f->stage, &event, answer);
}

void expect(struct fixture *f, const char *name, enum vss_error error, const char *message)
{
	struct stage_answer answer;

	send_within(f, name, 20000, &answer);
	if (answer.error != error)
		fail_msg("%s: %s %s", name, answer.error_name, answer.message);
	const char *said = error ? answer.message : json_string_value(json_object_get(answer.body, "Message"));
	if (message && (!said || !strstr(said, message)))
		fail_msg("%s: \"%s\" does not hold \"%s\"", name, said ? said : "(nothing)", message);
	stage_answer_clear(&answer);
}

void expect_unbroken(struct fixture *f, bool unbroken)
{
	struct stage_answer answer;

	send_within(f, "Thaw", 20000, &answer);
	assert_int_equal(answer.error, VSS_OK);
	assert_int_equal(json_is_true(json_object_get(answer.body, "Unbroken")), unbroken);
	stage_answer_clear(&answer);
}

void new_set(struct fixture *f)
{
	id_new(f->session);
	id_new(f->set);
}
