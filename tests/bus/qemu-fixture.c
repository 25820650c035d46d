/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qemu-fixture.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- files ---- */

const char *path_of(struct fixture *f, const char *name)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", f->directory, name);
	return path;
}

static void put(struct fixture *f, const char *name, const char *text)
{
	FILE *file = fopen(path_of(f, name), "we");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(path_of(f, name), 0644), 0);
}

bool has_note(struct fixture *f, const char *guest)
{
	char name[128];

	snprintf(name, sizeof name, "run/%s.frozen", guest);
	return access(path_of(f, name), F_OK) == 0;
}

/* ---- processes ---- */

bool process_runs(pid_t pid)
{
	char path[64], state = 'Z';

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 'Z';
	fclose(file);
	return state != 'Z';
}

static pid_t parent_of(pid_t pid, char comm[32])
{
	char path[64];
	int parent = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%*d (%31[^)]) %*c %d", comm, &parent) != 2)
		parent = 0;
	fclose(file);
	return parent;
}

pid_t warden_of(struct fixture *f)
{
	DIR *proc = opendir("/proc");
	pid_t found = 0;

	for (struct dirent *entry; proc && !found && (entry = readdir(proc));) {
		char comm[32] = "";
		pid_t pid = (pid_t)atoi(entry->d_name);
		if (pid > 0 && parent_of(pid, comm) == f->writer && strcmp(comm, "vss-qemu-warden") == 0)
			found = pid;
	}
	closedir(proc);
	return found;
}

static void start_process(struct fixture *f)
{
	setenv("RUNTIME_DIRECTORY", path_of(f, "run"), 1);
	f->writer = fork();
	assert_true(f->writer >= 0);
	if (f->writer == 0) {
		execl(getenv("QEMU_WRITER"), "vss-qemu-writer", "--config", path_of(f, "writer.conf"), NULL);
		_exit(127);
	}
}

void start_again(struct fixture *f)
{
	unsigned before = stage_registrations(f->stage);

	start_process(f);
	assert_true(stage_wait_registrations(f->stage, before + 1, 20000));
	stage_wait(f->stage, 20);
}

void start_writer(struct fixture *f, const char *general)
{
	char text[8192];

	snprintf(text, sizeof text,
		 "[QEMU]\nAgentLimit=500ms\nFreezeLimit=700ms\n%s\n"
		 "[Guest web]\nAgent=%s\nRawDisks=%s\n[Guest db]\nAgent=%s\nRawDisks=%s\n",
		 general, path_of(f, "web.sock"), path_of(f, "web.img"), path_of(f, "db.sock"), path_of(f, "db.img"));
	put(f, "writer.conf", text);
	start_again(f);
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

int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct err err;

	f->bus = bus_harness_start();
	assert_non_null(f->bus);
	f->directory = bus_harness_directory(f->bus);
	umask(022);
	put(f, "web.img", "disk");
	put(f, "db.img", "disk");
	f->web = fake_agent_start(path_of(f, "web.sock"));
	f->db = fake_agent_start(path_of(f, "db.sock"));
	if (stage_open(&f->stage, bus_harness_address(f->bus), &err) < 0)
		fail_msg("%s", err.text);
	id_new(f->session);
	id_new(f->set);
	*state = f;
	return 0;
}

int tear_down(void **state)
{
	struct fixture *f = *state;
	pid_t warden = f->writer > 0 ? warden_of(f) : 0;

	end_writer(f, SIGTERM);
	f->web = fake_agent_stop(f->web);
	f->db = fake_agent_stop(f->db);
	/* With nothing to thaw it ends by itself; where a test left something, it would go on for minutes. */
	for (int i = 0; warden && process_runs(warden) && i < 50; i++)
		usleep(20000);
	if (warden && process_runs(warden))
		kill(warden, SIGKILL);
	stage_close(f->stage);
	bus_harness_stop(f->bus);
	free(f);
	return 0;
}

/* ---- events ---- */

static json_t *details_for(struct fixture *f, const char *names)
{
	json_t *components = json_array(), *details;
	autofree char *copy = strdup(names);

	for (char *rest = copy, *name; (name = strsep(&rest, " "));)
		json_array_append_new(components, json_string(name));
	details = json_pack("{ss so s[{ss ss si}]}", "BackupType", "copy", "Components", components, "Volumes", "Path",
			    f->directory, "Id", "v", "InstantGroup", 1);
	return details;
}

void send_to(struct fixture *f, const char *name, const char *names, unsigned milliseconds, struct stage_answer *answer)
{
	autojson json_t *details = details_for(f, names);
	const struct stage_event event = {
		.name = name,
		.session = f->session,
		.set = f->set,
		.deadline = clock_now() + milliseconds * USEC_PER_MSEC,
		.details = details,
	};

	stage_send(f->stage, &event, answer);
}

void expect(struct fixture *f, const char *name, enum vss_error error, const char *words)
{
	struct stage_answer answer;

	send_to(f, name, "web db", 20000, &answer);
	if (answer.error != error)
		fail_msg("%s: %s %s", name, answer.error_name, answer.message);
	const char *said = error ? answer.message : json_string_value(json_object_get(answer.body, "Message"));
	if (words && (!said || !strstr(said, words)))
		fail_msg("%s: \"%s\" does not hold \"%s\"", name, said ? said : "(nothing)", words);
	if (!error && json_object_get(answer.body, "Doubts"))
		fail_msg("%s: there is a doubt: %s", name,
			 json_string_value(json_array_get(json_object_get(answer.body, "Doubts"), 0)));
	stage_answer_clear(&answer);
}

void expect_doubt(struct fixture *f, const char *name, const char *words)
{
	struct stage_answer answer;

	send_to(f, name, "web db", 20000, &answer);
	if (answer.error)
		fail_msg("%s: %s %s", name, answer.error_name, answer.message);
	const char *doubt = json_string_value(json_array_get(json_object_get(answer.body, "Doubts"), 0));
	if (!doubt || !strstr(doubt, words))
		fail_msg("%s: \"%s\" does not hold \"%s\"", name, doubt ? doubt : "(no doubt)", words);
	assert_int_equal(json_array_size(json_object_get(answer.body, "Doubts")), 1);
	stage_answer_clear(&answer);
}

void expect_unbroken(struct fixture *f, bool unbroken)
{
	struct stage_answer answer;

	send_to(f, "Thaw", "web db", 20000, &answer);
	if (answer.error)
		fail_msg("Thaw: %s %s", answer.error_name, answer.message);
	assert_int_equal(json_is_true(json_object_get(answer.body, "Unbroken")), unbroken);
	stage_answer_clear(&answer);
}

void new_set(struct fixture *f)
{
	id_new(f->session);
	id_new(f->set);
}

void expect_good_set(struct fixture *f)
{
	new_set(f);
	expect(f, "PrepareSnapshot", VSS_OK, NULL);
	expect(f, "Freeze", VSS_OK, NULL);
	assert_true(fake_agent_is_frozen(f->web));
	assert_true(fake_agent_is_frozen(f->db));
	assert_true(has_note(f, "web"));
	expect_unbroken(f, true);
	assert_false(fake_agent_is_frozen(f->web));
	assert_false(fake_agent_is_frozen(f->db));
	assert_false(has_note(f, "web"));
	assert_false(has_note(f, "db"));
}

bool wait_until(struct fixture *f, bool (*is_so)(struct fixture *f), unsigned milliseconds)
{
	for (unsigned waited = 0; waited <= milliseconds; waited += 20) {
		if (is_so(f))
			return true;
		stage_wait(f->stage, 20);
	}
	return false;
}
