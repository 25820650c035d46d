/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hook freeze, thaw, freezeFail: the door for whoever makes the copies from outside. Between the two calls there is no
 * process of ours: the session is left with a lease, and its token in a note. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/id.h"
#include "requestor/vssctl/hook-note.h"
#include "requestor/vssctl/print.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

/* A lease goes on for so long after the writers have been let go, so that a thaw which comes too late still hears why.
 */
#define REMEMBERED_SECONDS 300
#define TIMEOUT_SECONDS 60

struct hook {
	struct vssctl *ctl;
	struct hook_note note;
	struct vss_backup *backup;
	json_t *result;
};

static int fail(struct vssctl *ctl, enum vss_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(struct vssctl *ctl, enum vss_error error, const char *format, ...)
{
	struct vss_failure *f = &ctl->failure;
	va_list args;

	*f = (struct vss_failure){ .code = error_code(error), .retryable = error_is_retryable(error) };
	snprintf(f->name, sizeof f->name, "%s", error_name(error));
	va_start(args, format);
	vsnprintf(f->text, sizeof f->text, format, args);
	va_end(args);
	return vssctl_fail(ctl);
}

/* The library's failure; out of time it says only that a call was cancelled. */
static int fail_last(struct hook *h)
{
	char name[40];
	int r;

	if (interrupt_out_of_time())
		return fail(h->ctl, VSS_E_TIMED_OUT, "%s was not done within --timeout: the writers are let go",
			    command_name(h->ctl->command, name));
	r = vssctl_fail(h->ctl);
	if (h->backup)
		tell_failed_writers(h->ctl, h->backup);
	return r;
}

static int open_note(struct hook *h)
{
	const struct options *o = &h->ctl->options;
	unsigned seconds = o->timeout_given ? o->timeout_seconds : TIMEOUT_SECONDS;
	/* A second less, so that it is we who say what took so long. */
	uint64_t until = clock_now() + (seconds > 1 ? seconds - 1 : 0) * USEC_PER_SEC;
	char why[512];

	if (hook_note_open(&h->note, o->runtime_directory ? o->runtime_directory : HOOK_DIRECTORY,
			   o->name ? o->name : "hook", until, why) < 0)
		return fail(h->ctl, VSS_E_BAD_STATE, "%s", why);
	return EXIT_OK;
}

/* Also to the log: guest agents read a hook's exit code, and throw its words away. */
static int end(struct hook *h, int r)
{
	if (r != EXIT_OK)
		syslog(LOG_DAEMON | LOG_ERR, "vssctl %s %s: %s", h->ctl->command->verb, h->ctl->command->object,
		       h->ctl->failure.text);
	vss_backup_free(h->backup);
	hook_note_close(&h->note);
	json_decref(h->result);
	return r;
}

/* ---- freeze ---- */

static bool is_over(const char *state)
{
	static const char *const over[] = { "",	      "Failed",		 "Created",	  "Closing",
					    "Closed", "AbortingWriters", "AbortingCopies" };

	for (size_t i = 0; i < ARRAY_SIZE(over); i++)
		if (strcmp(over[i], state) == 0)
			return true;
	return false;
}

static int find_state(struct hook *h, char state[32])
{
	autojson json_t *rows = NULL;
	size_t index;
	json_t *row;

	if (vss_query(h->ctl->connection, "ListSessions", NULL, 0, &rows, &h->ctl->failure) < 0)
		return fail_last(h);
	state[0] = '\0';
	json_array_foreach (rows, index, row)
		if (strcmp(row_text(row, "Id"), h->note.session) == 0)
			snprintf(state, 32, "%s", row_text(row, "State"));
	return EXIT_OK;
}

/* What an earlier freeze has left: a hold that goes on is not ours to end; what is over is cleared away. */
static int clear_earlier(struct hook *h)
{
	const char *name = h->ctl->options.name ? h->ctl->options.name : "hook";
	struct vss_backup *earlier = NULL;
	char state[32];
	int r = h->note.held ? find_state(h, state) : EXIT_OK;

	if (r != EXIT_OK || !h->note.held)
		return r;
	if (!is_over(state) && *h->note.token)
		return fail(h->ctl, VSS_E_SNAPSHOT_SET_IN_PROGRESS,
			    "'%s' holds the writers already, for %" PRId64
			    " s (session %s): \"vssctl hook thaw --name %s\" lets them go",
			    name, (int64_t)time(NULL) - h->note.since, h->note.session, name);
	/* Without a token its freeze was killed; vssd ends such a session by itself. */
	if (*state && *h->note.token && vss_backup_adopt(&earlier, h->ctl->connection, h->note.token, NULL) == 0)
		vss_backup_free(earlier);
	hook_note_clear(&h->note);
	return EXIT_OK;
}

static json_t *hold_options(const struct vssctl *ctl)
{
	json_t *options = session_options(ctl, "backup");

	json_object_set_new(options, "Hold", json_string("writers"));
	if (ctl->options.limit_given)
		json_object_set_new(options, "HoldLimitUsec",
				    json_integer((json_int_t)ctl->options.limit_seconds * (json_int_t)USEC_PER_SEC));
	return options;
}

static int cannot_note(struct hook *h)
{
	return fail(h->ctl, VSS_E_UNEXPECTED, "What is held cannot be noted: %s. The writers are let go",
		    strerror(errno));
}

static int hold(struct hook *h)
{
	autojson json_t *options = hold_options(h->ctl);
	struct vssctl *ctl = h->ctl;
	int r;

	if (vss_backup_new(&h->backup, ctl->connection, options, &ctl->failure) < 0)
		return fail_last(h);
	snprintf(h->note.session, sizeof h->note.session, "%s", vss_backup_id(h->backup));
	h->note.since = time(NULL);
	h->note.token[0] = '\0';
	if (hook_note_write(&h->note) < 0)
		return cannot_note(h);
	progress_on(ctl, h->backup);
	r = add_members(ctl, h->backup);
	if (r != EXIT_OK)
		return r;
	return vss_backup_hold(h->backup, &h->result, &ctl->failure) < 0 ? fail_last(h) : EXIT_OK;
}

static int take_back(struct hook *h, int r)
{
	struct vss_backup *again = NULL;

	if (vss_backup_adopt(&again, h->ctl->connection, h->note.token, NULL) == 0)
		vss_backup_abort(again, NULL);
	vss_backup_free(again);
	return r;
}

static int leave(struct hook *h)
{
	unsigned seconds = (unsigned)(row_number(h->result, "HoldLeftUsec") / (int64_t)USEC_PER_SEC);

	if (vss_backup_detach(h->backup, seconds + REMEMBERED_SECONDS, h->note.token, &h->ctl->failure) < 0)
		return fail_last(h);
	return hook_note_write(&h->note) < 0 ? take_back(h, cannot_note(h)) : EXIT_OK;
}

static unsigned count_held(json_t *result)
{
	unsigned n = 0;
	size_t index;
	json_t *row;

	json_array_foreach (json_object_get(result, "Writers"), index, row)
		n += row_true(row, "Took");
	return n;
}

static void log_doubts(const struct hook *h)
{
	size_t index;
	json_t *doubt;

	json_array_foreach(json_object_get(h->result, "Doubts"), index, doubt)
		syslog(LOG_DAEMON | LOG_WARNING, "vssctl hook: %s", json_string_value(doubt) ?: "?");
}

static int report(struct hook *h, const char *key)
{
	struct vssctl *ctl = h->ctl;
	unsigned n = count_held(h->result);
	bool held = strcmp(key, "held") == 0;
	char name[40];

	tell_warnings(ctl, h->result);
	log_doubts(h);
	if (ctl->options.json)
		return print_json(ctl->out, command_name(ctl->command, name), key, h->result);
	fprintf(ctl->out, "%u writer%s held%s for ", n, n == 1 ? "" : "s", held ? "," : " without a break,");
	print_msec(ctl->out, row_number(h->result, held ? "HoldLeftUsec" : "HoldUsec"));
	fputs(held ? " at most\n" : "\n", ctl->out);
	return EXIT_OK;
}

int run_hook_freeze(struct vssctl *ctl)
{
	struct hook h = { .ctl = ctl, .note = HOOK_NOTE_INIT };
	int r = open_note(&h);

	if (r == EXIT_OK)
		r = clear_earlier(&h);
	if (r != EXIT_OK)
		return end(&h, r);
	r = hold(&h);
	if (r == EXIT_OK)
		r = leave(&h);
	if (r == EXIT_OK)
		return end(&h, report(&h, "held"));
	hook_note_clear(&h.note);
	return end(&h, r);
}

/* ---- thaw ---- */

static int nothing_held(struct hook *h)
{
	autojson json_t *nothing = json_object();
	char name[40];

	if (h->ctl->options.json)
		return print_json(h->ctl->out, command_name(h->ctl->command, name), "released", nothing);
	fputs("Nothing is held\n", h->ctl->out);
	return EXIT_OK;
}

/* The writers run again already, and whoever copied meanwhile has to know. */
static int too_late(struct hook *h)
{
	int64_t seconds = (int64_t)time(NULL) - h->note.since;

	/* vssd hangs: its session may still be there when it goes on. */
	if (strcmp(h->ctl->failure.name, "NotAvailable") == 0 || interrupt_out_of_time())
		return fail_last(h);
	hook_note_clear(&h->note);
	return fail(h->ctl, VSS_E_HOLD_WRITES_TIMEOUT,
		    "The writers were let go before this thaw, which came %" PRId64
		    " s after the freeze: what was copied since is "
		    "not consistent",
		    seconds);
}

static int never_held(struct hook *h)
{
	hook_note_clear(&h->note);
	return fail(h->ctl, VSS_E_BAD_STATE, "The freeze was ended before all was held: there was nothing to let go");
}

int run_hook_thaw(struct vssctl *ctl)
{
	struct hook h = { .ctl = ctl, .note = HOOK_NOTE_INIT };
	int r = open_note(&h);

	if (r != EXIT_OK || !h.note.held)
		return end(&h, r == EXIT_OK ? nothing_held(&h) : r);
	if (!*h.note.token)
		return end(&h, never_held(&h));
	if (vss_backup_adopt(&h.backup, ctl->connection, h.note.token, &ctl->failure) < 0)
		return end(&h, too_late(&h));
	r = vss_backup_release(h.backup, &h.result, &ctl->failure) < 0 ? fail_last(&h) : report(&h, "released");
	hook_note_clear(&h.note);
	return end(&h, r);
}

/* No snapshot was made: nobody minds whether the hold was unbroken. */
int run_hook_freeze_fail(struct vssctl *ctl)
{
	struct hook h = { .ctl = ctl, .note = HOOK_NOTE_INIT };
	int r = open_note(&h);

	if (r != EXIT_OK)
		return end(&h, r);
	if (h.note.held && *h.note.token &&
	    vss_backup_adopt(&h.backup, ctl->connection, h.note.token, &ctl->failure) == 0)
		vss_backup_abort(h.backup, NULL);
	hook_note_clear(&h.note);
	return end(&h, nothing_held(&h));
}
