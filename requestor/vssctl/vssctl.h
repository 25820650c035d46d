/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssctl: what its verbs share. A verb is a row of the table in commands.c and a file of its own. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "requestor/vssrequestor.h"

/* Exit codes; docs/man/vssctl.8 explains them to people. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* trying the same again will not help */
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3, /* no such object, or nothing matched */
	EXIT_DENIED = 4,
	EXIT_UNREACHABLE = 5, /* vssd cannot be reached, or hangs */
	EXIT_PARTIAL = 6,     /* done, but not all of it */
	EXIT_RETRY = 75,      /* EX_TEMPFAIL: the same may work later */
	EXIT_CANNOT_EXEC = 126,
	EXIT_NO_COMMAND = 127,
	EXIT_SIGNAL = 128, /* + the signal's number */
};

struct words {
	const char **items;
	size_t n;
};

struct options {
	bool help, verbose, json, quiet, force, probe, recursive, add_missing, persistent, oldest, all, wait_given,
	    retries_given, limit_given, timeout_given;
	unsigned retries, wait_seconds, limit_seconds, timeout_seconds;
	const char *on, *max_size;
	bool guaranteed;
	const char *shadow, *set, *session, *type, *on_writer_failure, *root, *name, *runtime_directory;
	struct words for_paths, require_writers, exclude_writers, include_writers;
	struct words words;	    /* what is no option */
	const char *const *command; /* what follows "--", or NULL */
};

struct vssctl {
	const struct command *command;
	struct options options;
	struct vss_connection *connection;
	struct vss_failure failure; /* of the last call of the library */
	char *command_line;	    /* as typed, for administrators to see */
	FILE *out, *err;
};

enum option_id {
	OPTION_ADD_MISSING,
	OPTION_ALL,
	OPTION_AUTORETRY,
	OPTION_EXCLUDE_WRITER,
	OPTION_FOR,
	OPTION_FORCE,
	OPTION_GUARANTEED,
	OPTION_HELP,
	OPTION_INCLUDE_WRITER,
	OPTION_JSON,
	OPTION_LIMIT,
	OPTION_MAXSIZE,
	OPTION_NAME,
	OPTION_OLDEST,
	OPTION_ON,
	OPTION_ON_WRITER_FAILURE,
	OPTION_PERSISTENT,
	OPTION_PROBE,
	OPTION_QUIET,
	OPTION_RECURSIVE,
	OPTION_REQUIRE_WRITER,
	OPTION_RETRIES,
	OPTION_ROOT,
	OPTION_RUNTIME_DIR,
	OPTION_SESSION,
	OPTION_SET,
	OPTION_SHADOW,
	OPTION_TIMEOUT,
	OPTION_TYPE,
	OPTION_VERBOSE,
	OPTION_WAIT,
	OPTION_COUNT
};
#define OPTION(id) (UINT64_C(1) << OPTION_##id)

struct command {
	const char *verb, *object; /* "list", "writers"; object NULL: the verb stands alone */
	const char *usage;	   /* what follows the name */
	const char *summary;	   /* one line */
	const char *details;	   /* more of it, for --help */
	uint64_t options;
	unsigned words_min, words_max;
	bool takes_command; /* -- COMMAND... */
	int (*run)(struct vssctl *ctl);
	bool alone; /* connects by itself, or works without vssd */
};

/* commands.c */
extern const struct command commands[]; /* ends with a NULL verb */
const struct command *command_find(const char *verb, const char *object);
const char *command_name(const struct command *command, char name[40]); /* "list writers" */
void print_help(FILE *out, const struct command *command);		/* NULL: of the program */

/* options.c: 0, or -1 with a text for people in why. argv after the command's name. */
int options_parse(struct options *options, const struct command *command, int argc, const char *const *argv,
		  char why[256]);
void options_free(struct options *options);
void options_print(FILE *out, uint64_t ids);

/* session-options.c: CreateSession's options from the command line's; paths made absolute. */
json_t *session_options(const struct vssctl *ctl, const char *context);
int absolute_paths(struct vssctl *ctl, const struct words *paths, char ***ret_paths);
void paths_free(char **paths, size_t n);

/* failure.c */
int exit_code_of(const struct vss_failure *failure, int signal_number);
/* Tells the last failure (in JSON on stdout too, where that was asked for) and returns the exit code for it. */
int vssctl_fail(struct vssctl *ctl);
/* The same; value (borrowed) stands beside the error in the JSON document. */
int vssctl_fail_beside(struct vssctl *ctl, const char *key, json_t *value);
int vssctl_usage(struct vssctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
int vssctl_nothing(struct vssctl *ctl); /* "No items found that satisfy the query." */
/* An id as people type it, without braces; EXIT_OK or the exit code of a failure that was told. */
int vssctl_id(struct vssctl *ctl, const char *what, const char *text, char id[37]);
/* After a set failed: which writers (that the failure's text does not name yet), and in which words. */
/* The set's timeline, for -v. */
void tell_timeline(struct vssctl *ctl, struct vss_backup *backup, FILE *out);
void tell_failed_writers(struct vssctl *ctl, struct vss_backup *backup);
void tell_warnings(struct vssctl *ctl, json_t *result);

/* interrupt.c: SIGINT, SIGTERM and SIGHUP cancel the call that waits, or go to a child. */
int vssctl_connect(struct vssctl *ctl); /* to vssd; signals cancel its calls from then on */
void interrupt_install(struct vss_connection *connection);
void interrupt_forward_to(int child); /* 0: to nobody, cancel again */
int interrupt_signal(void);	      /* the last one that came, or 0 */
void interrupt_block(bool block);     /* around fork, so that no signal falls between the two */
void interrupt_restore(void);	      /* for a child, before exec */
/* After so many seconds the call that waits is cancelled, and again each second after; at last the program is ended. */
void interrupt_deadline(unsigned seconds);
bool interrupt_out_of_time(void);

/* progress.c: the phase, on a terminal only. */
void progress_on(struct vssctl *ctl, struct vss_backup *backup);
void progress_clear(struct vssctl *ctl);

/* verbs */
int run_list_writers(struct vssctl *ctl);
int run_list_providers(struct vssctl *ctl);
int run_list_shadows(struct vssctl *ctl);
int run_list_volumes(struct vssctl *ctl);
int run_list_shadowstorage(struct vssctl *ctl);
int run_add_shadowstorage(struct vssctl *ctl);
int run_resize_shadowstorage(struct vssctl *ctl);
int run_delete_shadowstorage(struct vssctl *ctl);
int run_list_sessions(struct vssctl *ctl);
int run_status(struct vssctl *ctl);
int run_freeze(struct vssctl *ctl);
int run_release(struct vssctl *ctl);
int run_create_shadow(struct vssctl *ctl);
int run_delete_shadows(struct vssctl *ctl);
int run_expose(struct vssctl *ctl);
int run_unexpose(struct vssctl *ctl);
int run_backup(struct vssctl *ctl);
int run_verify(struct vssctl *ctl);
int run_reset_writer(struct vssctl *ctl);
int run_revert_shadow(struct vssctl *ctl);
int run_query_reverts(struct vssctl *ctl);
int run_abort(struct vssctl *ctl);
int run_hook_freeze(struct vssctl *ctl);
int run_hook_thaw(struct vssctl *ctl);
int run_hook_freeze_fail(struct vssctl *ctl);

/* create-shadow.c: what names the members of a set is the same for create shadow, backup and verify. */
bool members_given(struct vssctl *ctl);
int add_members(struct vssctl *ctl, struct vss_backup *backup);
