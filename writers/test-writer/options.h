/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What vss-test-writer was told to be and to do. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <vsswriter.h>

#define EVENTS (VSS_EVENT_POST_RESTORE + 1)
#define PATHS_MAX 64
#define ACTIONS_MAX 64

enum action_kind {
	ACTION_OK,
	ACTION_FAIL,    /* result, text */
	ACTION_HANG,    /* never answers, never reads the bus again */
	ACTION_EXIT,    /* _exit(1) */
	ACTION_KILL,    /* SIGKILL to itself */
	ACTION_STOP,    /* SIGSTOP to itself */
	ACTION_LATE,    /* milliseconds; answers then, the loop runs on */
	ACTION_DELAY,   /* milliseconds; blocks in the callback */
	ACTION_BREAK,   /* Freeze: succeeds, and breaks at once */
	ACTION_UNKNOWN, /* the method does not exist */
	ACTION_WRITE,   /* PostSnapshot: makes the file text in every copy */
};

struct action {
	enum vss_event event;
	unsigned writer; /* from 1; 0: all */
	enum action_kind kind;
	enum vss_result result;
	unsigned milliseconds;
	const char *text;
	bool once; /* the first time only; afterwards all is well */
};

struct options {
	const char *name, *id, *instance, *log;
	enum vss_level level;
	const char *paths[PATHS_MAX];
	size_t n_paths;
	const char *requires_paths[PATHS_MAX];
	size_t n_requires;
	bool all_volumes;
	unsigned freeze_limit;
	unsigned count;
	struct action actions[ACTIONS_MAX];
	size_t n_actions;
};

/* 0; -1 after a message on stderr; 1 for --help, which has been printed. */
int options_parse(struct options *options, int argc, char **argv);
/* The last action given for the event of writer number; never NULL. */
const struct action *options_action(const struct options *options, enum vss_event event, unsigned writer);
bool options_want_unknown(const struct options *options);
