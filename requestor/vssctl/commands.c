/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of verbs: the help texts, the dispatcher and the tests read it. */
#include <string.h>
#include <strings.h>

#include "requestor/vssctl/vssctl.h"

#define COMMON (OPTION(VERBOSE) | OPTION(JSON) | OPTION(HELP))
#define WRITER_CHOICE (OPTION(REQUIRE_WRITER) | OPTION(EXCLUDE_WRITER) | OPTION(INCLUDE_WRITER))
#define SET_CHOICE                                                                                                     \
	(OPTION(FOR) | OPTION(RECURSIVE) | OPTION(ADD_MISSING) | OPTION(RETRIES) | OPTION(WAIT) | OPTION(AUTORETRY) |  \
	 OPTION(TYPE) | OPTION(ON_WRITER_FAILURE) | WRITER_CHOICE)
/* Of all three: what is meant for one may be given to each, as hypervisors' hooks have one command line. */
#define HOOK                                                                                                           \
	(COMMON | OPTION(NAME) | OPTION(TIMEOUT) | OPTION(RUNTIME_DIR) | OPTION(FOR) | OPTION(LIMIT) | OPTION(WAIT) |   \
	 OPTION(ON_WRITER_FAILURE) | WRITER_CHOICE)
#define PATHS_MAX 1000

const struct command commands[] = {
	{ "list", "writers", "[--probe] [-v]", "List the writers and how they are",
	  "Five lines for each writer, registered or expected. -v adds its unit, its place in the order,\n"
	  "the phase and time of its last failure and its own words. --probe asks all of them first, in\n"
	  "parallel; one that does not answer is shown as \"Not responding\".",
	  COMMON | OPTION(PROBE), 0, 0, false, run_list_writers },
	{ "list", "providers", "", "List the providers of shadow copies", NULL, COMMON, 0, 0, false,
	  run_list_providers },
	{ "list", "shadows", "[--for PATH] [--shadow ID | --set ID]", "List shadow copies", NULL,
	  COMMON | OPTION(FOR) | OPTION(SHADOW) | OPTION(SET), 0, 0, false, run_list_shadows },
	{ "list", "volumes", "[--for PATH]", "List volumes, each with its provider or why it has none",
	  "--for: lists what could hold copies of that volume instead, and of each that may not, why.",
	  COMMON | OPTION(FOR), 0, 0, false, run_list_volumes },
	{ "list", "shadowstorage", "[--for PATH | --on STORAGE]", "List where copies are kept, and how much that may take",
	  NULL, COMMON | OPTION(FOR) | OPTION(ON), 0, 0, false, run_list_shadowstorage },
	{ "list", "sessions", "", "List backup sessions, and who holds what", NULL, COMMON, 0, 0, false,
	  run_list_sessions },
	{ "status", NULL, "", "Tell how vssd is, what it does, and what is held",
	  "What vss-guard holds is told first, to root, also where vssd or the bus does not work.", COMMON, 0, 0, false,
	  run_status, true },
	{ "create", "shadow", "--for PATH... [options]", "Make shadow copies that stay",
	  "The copies of all named volumes are one set. They stay until they are deleted; what is known of their\n"
	  "consistency and of their instant is printed with the reason wherever it is less than the best.",
	  COMMON | SET_CHOICE | OPTION(PERSISTENT), 0, PATHS_MAX, false, run_create_shadow },
	{ "delete", "shadows", "{--shadow ID | --set ID | --for PATH {--oldest | --all} | --all} [-y]",
	  "Delete shadow copies", "Asks on a terminal; elsewhere --quiet (-y) is needed.",
	  COMMON | OPTION(SHADOW) | OPTION(SET) | OPTION(FOR) | OPTION(OLDEST) | OPTION(ALL) | OPTION(QUIET), 0, 0,
	  false, run_delete_shadows },
	{ "revert", "shadow", "--shadow ID [-y] [--force]", "Make a volume what a shadow copy of it says",
	  "What has changed since is lost; this is shown, and asked about on a terminal (elsewhere --quiet, -y, is\n"
	  "needed). Writers with files there are told before and after. A copy on LVM is used up by it; a logical volume\n"
	  "in use is reverted when it is activated the next time, \"query reverts\" tells which are. A btrfs subvolume\n"
	  "must not be mounted itself, but lie below what is mounted.",
	  COMMON | OPTION(SHADOW) | OPTION(QUIET) | OPTION(FORCE), 0, 1, false, run_revert_shadow },
	{ "query", "reverts", "[--for PATH]", "List reverts that are under way or pending", NULL, COMMON | OPTION(FOR), 0, 0,
	  false, run_query_reverts },
	{ "add", "shadowstorage", "--for PATH --on STORAGE [--maxsize SIZE] [--guaranteed]",
	  "Say where copies of a volume are kept",
	  "STORAGE is a volume group, one of its physical volumes, a thin pool, or simply the volume itself. Without\n"
	  "--maxsize the storage may take all there is.",
	  COMMON | OPTION(FOR) | OPTION(ON) | OPTION(MAXSIZE) | OPTION(GUARANTEED), 0, 0, false,
	  run_add_shadowstorage },
	{ "resize", "shadowstorage", "--for PATH --on STORAGE [--maxsize SIZE] [--guaranteed]",
	  "Say anew how much copies of a volume may take",
	  "A smaller size costs the oldest copies that are not in use. Without --maxsize: UNBOUNDED.",
	  COMMON | OPTION(FOR) | OPTION(ON) | OPTION(MAXSIZE) | OPTION(GUARANTEED), 0, 0, false,
	  run_resize_shadowstorage },
	{ "delete", "shadowstorage", "--for PATH [--on STORAGE] [-y]", "Forget where copies of a volume are kept",
	  "Only while it holds no copies.", COMMON | OPTION(FOR) | OPTION(ON) | OPTION(QUIET), 0, 0, false,
	  run_delete_shadowstorage },
	{ "expose", NULL, "--shadow ID DIRECTORY", "Mount a shadow copy read-only at a directory", NULL,
	  COMMON | OPTION(SHADOW), 1, 2, false, run_expose },
	{ "unexpose", NULL, "--shadow ID | DIRECTORY", "Undo expose", NULL, COMMON | OPTION(SHADOW), 0, 1, false,
	  run_unexpose },
	{ "backup", NULL, "--for PATH... [options] -- COMMAND...", "Run COMMAND on shadow copies, then remove them",
	  "Every copy is mounted read-only at its live path under one root that COMMAND alone can see:\n"
	  "{} in its arguments, VSS_ROOT in its environment; VSS_COPY_n and VSS_LIVE_n, n from 1, are each\n"
	  "copy's directory and live path. COMMAND runs in this directory, as this user; its exit code is\n"
	  "passed on, and the writers hear whether it was 0. With --json its output goes to stderr.",
	  COMMON | SET_CHOICE | OPTION(ROOT), 0, PATHS_MAX, true, run_backup },
	{ "verify", NULL, "--for PATH... [options]", "Rehearse a backup: everything but the copy",
	  "Says of each writer whether it takes part, why, and what each event costs; of each volume its\n"
	  "provider and what lies below it.",
	  COMMON | (SET_CHOICE & ~OPTION(RETRIES)), 0, PATHS_MAX, false, run_verify },
	{ "freeze", NULL, "--for PATH... [--limit SECONDS] [options] -- COMMAND...", "Run COMMAND while volumes are frozen",
	  "For snapshots made by other means. The writers with data there are frozen, then the filesystems; COMMAND is\n"
	  "killed when it takes longer than --limit (10 seconds unless given, 60 at most). Its exit code is passed on.\n"
	  "Refused where COMMAND, its interpreter, the working directory or its output lie on what is frozen.",
	  COMMON | OPTION(FOR) | OPTION(LIMIT) | OPTION(WAIT) | OPTION(TYPE) | OPTION(ON_WRITER_FAILURE) | WRITER_CHOICE, 0, PATHS_MAX, true,
	  run_freeze },
	{ "hook", "freeze", "[--limit SECONDS] [--for PATH]... [options]", "Hold the writers while somebody else makes the copies",
	  "For hypervisors and storage arrays that snapshot from outside: holds the writers with data on the\n"
	  "named volumes, or all, and leaves them held for \"hook thaw\". They run again by themselves if that\n"
	  "does not come. A writer that fails makes this fail, and nobody is held.",
	  HOOK, 0, PATHS_MAX, false, run_hook_freeze },
	{ "hook", "thaw", "[options]", "Let the writers run again that \"hook freeze\" holds",
	  "Fails if any of them did not hold still to this moment. Nothing to let go is no failure.", HOOK, 0, 0, false,
	  run_hook_thaw },
	{ "hook", "freezeFail", "[options]", "The same when there is no snapshot: writers are told that it was called off", NULL,
	  HOOK, 0, 0, false, run_hook_freeze_fail },
	{ "reset", "writer", "WRITER", "Clear the failure record of a writer (name, id or instance id)", NULL, COMMON,
	  1, 1, false, run_reset_writer },
	{ "abort", NULL, "{--session ID | --all}", "End backup sessions: writers run again, half-made copies go", NULL,
	  COMMON | OPTION(SESSION) | OPTION(ALL), 0, 0, false, run_abort },
	{ "release", NULL, "--all", "Release everything that is held, at once",
	  "Sets that are being made fail. Works without vssd and without the bus; where vss-guard has ended\n"
	  "or hangs, what stands on its list is released.",
	  COMMON | OPTION(ALL), 0, 0, false, run_release, true },
	{ 0 },
};

const struct command *command_find(const char *verb, const char *object)
{
	for (const struct command *c = commands; c->verb; c++)
		if (strcasecmp(c->verb, verb) == 0 && (!c->object || (object && strcasecmp(c->object, object) == 0)))
			return c;
	return NULL;
}

const char *command_name(const struct command *command, char name[40])
{
	snprintf(name, 40, "%s%s%s", command->verb, command->object ? " " : "", command->object ? command->object : "");
	return name;
}

static void print_program_help(FILE *out)
{
	fputs(
	    "Usage: vssctl COMMAND [options]\n\n"
	    "Volume shadow copies: consistent copies of live volumes, in agreement with the applications on them.\n\n",
	    out);
	for (const struct command *c = commands; c->verb; c++) {
		char name[40];
		fprintf(out, "  %-16s %s\n", command_name(c, name), c->summary);
	}
	fputs("\nvssctl COMMAND --help tells more. vssadmin's spelling (/for=PATH) is understood.\n"
	      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 vssd not reachable,\n"
	      "6 done in part, 75 failed but may work later, 128+n ended by signal n; of backup otherwise\n"
	      "COMMAND's own.\n",
	      out);
}

void print_help(FILE *out, const struct command *command)
{
	if (!command) {
		print_program_help(out);
		return;
	}
	char name[40];
	fprintf(out, "Usage: vssctl %s %s\n\n%s.\n", command_name(command, name), command->usage, command->summary);
	if (command->details)
		fprintf(out, "%s\n", command->details);
	fputs("\nOptions:\n", out);
	options_print(out, command->options);
}
