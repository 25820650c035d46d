/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The third layer: a process that begins with nothing but the lists on /run, when both halves of a guard have ended or
 * hang. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "coordinator/guard/verdict.h"
#include "coordinator/guard/window.h"

#define BOARDS_MAX 64
#define PATIENCE (3 * USEC_PER_SEC) /* then a guard that is started anew goes on with the rest */
#define INTERVAL_MS 5

enum { LEFT_NOTHING = 0, LEFT_UNREADABLE = 1, LEFT_STUCK = 6 };

struct leftovers {
	const char *run_directory;
	int directory;
	struct window *windows[BOARDS_MAX];
	size_t n;
	json_t *held, *unreadable;
};

static void complain(struct leftovers *l, const char *name, const char *why)
{
	fprintf(stderr, "vss-guard: %s/%s is left alone: %s\n", l->run_directory, name, why);
	json_array_append_new(l->unreadable, json_string(name));
}

static void look_at(struct leftovers *l, const char *name, bool only_list)
{
	struct err err = { 0 };
	struct board *board;
	autoclose int fd = openat(l->directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return; /* gone meanwhile */
	if (board_map(fd, &board, &err) < 0) {
		complain(l, name, err.text);
		return;
	}
	verdict_held(board, l->held);
	board_unmap(board);
	if (only_list || l->n == BOARDS_MAX)
		return;
	if (window_adopt(&l->windows[l->n], fd, l->directory, &err) < 0)
		complain(l, name, err.text);
	else
		l->n++;
}

static void look_at_all(struct leftovers *l, bool only_list)
{
	DIR *list = opendir(l->run_directory);

	for (struct dirent *e; list && (e = readdir(list));)
		if (strncmp(e->d_name, BOARD_PREFIX, strlen(BOARD_PREFIX)) == 0)
			look_at(l, e->d_name, only_list);
	if (list)
		closedir(list);
}

static bool step_all(struct leftovers *l)
{
	bool over = true;

	for (size_t i = 0; i < l->n; i++) {
		struct window *w = l->windows[i];
		if (w->half.pidfd >= 0 && poll(&(struct pollfd){ .fd = w->half.pidfd, .events = POLLIN }, 1, 0) > 0)
			window_half_ended(w);
		window_step(w);
		over = over && w->state == WINDOW_OVER;
	}
	return over;
}

static void release_all(struct leftovers *l)
{
	uint64_t end = clock_now() + PATIENCE;

	while (!step_all(l) && clock_now() < end)
		poll(NULL, 0, INTERVAL_MS);
}

static json_t *stuck_names(const struct leftovers *l)
{
	json_t *names = json_array();

	for (size_t i = 0; i < l->n; i++) {
		autojson json_t *some = verdict_stuck(l->windows[i]->board);
		json_array_extend(names, some);
	}
	return names;
}

static bool contains(json_t *names, const char *name)
{
	size_t index;
	json_t *value;

	json_array_foreach (names, index, value)
		if (strcmp(json_string_value(value), name) == 0)
			return true;
	return false;
}

static void print_json(json_t *text)
{
	autojson json_t *owned = text;

	json_dumpf(owned, stdout, JSON_INDENT(2));
	putchar('\n');
}

static void report_release(struct leftovers *l, json_t *stuck, bool json)
{
	autojson json_t *names = json_array();
	size_t index;
	json_t *row;

	json_array_foreach (l->held, index, row) {
		const char *name = json_string_value(json_object_get(row, "Object"));
		if (contains(stuck, name))
			continue;
		json_array_append_new(names, json_string(name));
		if (!json)
			printf("Released %s\n", name);
	}
	if (json) {
		print_json(json_pack("{sI sO sO}", "Released", (json_int_t)json_array_size(names), "Objects", names,
				     "Stuck", stuck));
		return;
	}
	json_array_foreach (stuck, index, row)
		printf("Not free yet, because its own I/O hangs: %s\n", json_string_value(row));
	if (json_array_size(l->held) == 0)
		puts("Nothing was held.");
}

static void report_list(const struct leftovers *l, bool json)
{
	size_t index;
	json_t *row;

	if (json) {
		print_json(json_pack("{sO}", "Held", l->held));
		return;
	}
	json_array_foreach (l->held, index, row)
		printf("%s\tset %s\t%s\n", json_string_value(json_object_get(row, "Object")),
		       json_string_value(json_object_get(row, "Set")),
		       json_string_value(json_object_get(row, "Owner")));
}

/* What is stuck is left to the process' end: its threads hang in the kernel and cannot be waited for. */
int leftovers_main(const char *run_directory, bool only_list, bool json)
{
	autojson json_t *held = json_array(), *unreadable = json_array(), *stuck = NULL;
	struct leftovers l = { .run_directory = run_directory, .held = held, .unreadable = unreadable };
	autoclose int directory = open(run_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0 && errno != ENOENT) {
		fprintf(stderr, "vss-guard: cannot open %s: %s\n", run_directory, strerror(errno));
		return LEFT_UNREADABLE;
	}
	l.directory = directory;
	look_at_all(&l, only_list);
	if (only_list) {
		report_list(&l, json);
		return json_array_size(unreadable) ? LEFT_UNREADABLE : LEFT_NOTHING;
	}
	release_all(&l);
	stuck = stuck_names(&l);
	report_release(&l, stuck, json);
	fflush(stdout);
	if (json_array_size(stuck) > 0)
		_exit(LEFT_STUCK);
	return json_array_size(unreadable) ? LEFT_UNREADABLE : LEFT_NOTHING;
}
