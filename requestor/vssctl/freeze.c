/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssctl freeze: COMMAND runs while writers and filesystems are still. It is forked before anything is, and waits at a
 * gate; from the first freeze to the last thaw nothing here needs the bus: vssd is spoken to over a socket of our own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"
#include "requestor/vssctl/freeze-places.h"
#include "requestor/vssctl/rows.h"
#include "requestor/vssctl/vssctl.h"

#define LINE_MAX_SIZE (1u << 20)
#define RELEASE_LIMIT (30 * USEC_PER_SEC)
#define MARGIN (200 * USEC_PER_MSEC) /* COMMAND is killed before the hold's own end */

struct freeze {
	struct vssctl *ctl;
	struct vss_backup *backup;
	int channel, gate, pidfd;
	pid_t pid;
	int code; /* of COMMAND */
	bool killed;
	json_t *held, *released;
};

static int fail(struct vssctl *ctl, enum vss_error error, const char *text)
{
	struct vss_failure *f = &ctl->failure;

	*f = (struct vss_failure){ .code = error_code(error), .retryable = error_is_retryable(error) };
	snprintf(f->name, sizeof f->name, "%s", error_name(error));
	snprintf(f->text, sizeof f->text, "%s", text);
	return vssctl_fail(ctl);
}

static int fail_from(struct vssctl *ctl, json_t *result)
{
	return fail(ctl, error_from_name(row_text(result, "Error")), row_text(result, "Message"));
}

/* ---- the child ---- */

static _Noreturn void child(const char *const *argv, int gate, pid_t parent)
{
	char byte;

	interrupt_restore();
	interrupt_block(false);
	setpgid(0, 0); /* to be killed with all that it starts */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || read(gate, &byte, 1) != 1)
		_exit(EXIT_FAILED);
	execvp(argv[0], (char *const *)argv);
	dprintf(STDERR_FILENO, "vssctl: %.400s cannot be run: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? EXIT_NO_COMMAND : EXIT_CANNOT_EXEC);
}

static int start(struct freeze *f)
{
	pid_t parent = getpid();
	int gate[2];

	if (pipe2(gate, O_CLOEXEC) < 0)
		return -1;
	fflush(NULL);
	interrupt_block(true);
	f->pid = fork();
	if (f->pid == 0) {
		if (f->ctl->options.json)
			dup2(STDERR_FILENO, STDOUT_FILENO);
		close(gate[1]);
		child(f->ctl->options.command, gate[0], parent);
	}
	interrupt_block(false);
	close(gate[0]);
	f->gate = gate[1];
	if (f->pid > 0)
		f->pidfd = pidfd_open(f->pid, 0);
	return f->pid > 0 && f->pidfd >= 0 ? 0 : -1;
}

static void end_child(struct freeze *f)
{
	int status = 0;

	if (f->pid <= 0)
		return;
	kill(-f->pid, SIGKILL); /* what it left behind, too */
	kill(f->pid, SIGKILL);
	while (waitpid(f->pid, &status, 0) < 0 && errno == EINTR)
		;
	f->code = WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
	f->pid = 0;
}

/* Until COMMAND has ended; at the deadline, or when we are told to end, it is killed. */
static void await_child(struct freeze *f, uint64_t deadline)
{
	for (;;) {
		uint64_t now = clock_now();
		int ms = deadline > now ? (int)((deadline - now) / USEC_PER_MSEC) + 1 : 0;
		if (poll(&(struct pollfd){ .fd = f->pidfd, .events = POLLIN }, 1, ms < 1000 ? ms : 1000) > 0)
			break;
		if (interrupt_signal() || clock_now() >= deadline) {
			f->killed = true;
			break;
		}
	}
	end_child(f);
}

/* ---- vssd, without the bus ---- */

/* The result of that operation; NULL when vssd is gone, has not said it by then, or we are told to end. */
static json_t *read_result(struct freeze *f, const char *operation, uint64_t deadline, bool interruptible)
{
	autofree char *text = malloc(LINE_MAX_SIZE);
	size_t n = 0;

	while (text && n < LINE_MAX_SIZE && clock_now() < deadline && !(interruptible && interrupt_signal())) {
		struct pollfd polled = { .fd = f->channel, .events = POLLIN };
		if (poll(&polled, 1, 500) <= 0)
			continue;
		ssize_t got = recv(f->channel, text + n, LINE_MAX_SIZE - n, 0);
		if (got <= 0)
			return NULL;
		n += (size_t)got;
		char *end = memchr(text, '\n', n);
		if (!end)
			continue;
		autojson json_t *line = json_loadb(text, (size_t)(end - text), 0, NULL);
		if (strcmp(row_text(line, "Operation"), operation) == 0)
			return json_incref(json_object_get(line, "Result"));
		n -= (size_t)(end + 1 - text);
		memmove(text, end + 1, n);
	}
	return NULL;
}

static int lost(struct freeze *f, const char *text)
{
	if (interrupt_signal())
		return fail(f->ctl, VSS_E_CANCELLED, "Cancelled");
	return fail(f->ctl, VSS_E_COORDINATOR_RESTARTED, text);
}

static int hold(struct freeze *f)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return fail(f->ctl, VSS_E_OUT_OF_MEMORY, "No socket for vssd can be made");
	f->channel = ends[0];
	int r = vss_backup_hold_over(f->backup, ends[1], &f->ctl->failure);
	close(ends[1]);
	if (r < 0)
		return vssctl_fail(f->ctl);
	f->held = read_result(f, "Hold", USEC_INFINITY, true);
	if (!f->held)
		return lost(f, "vssd went away before the volumes were held: nothing was done");
	if (row_true(f->held, "Success"))
		return EXIT_OK;
	r = fail_from(f->ctl, f->held);
	tell_failed_writers(f->ctl, f->backup);
	return r;
}

static int release(struct freeze *f)
{
	static const char order[] = "release\n";

	if (send(f->channel, order, sizeof order - 1, MSG_NOSIGNAL) == (ssize_t)sizeof order - 1)
		f->released = read_result(f, "Release", clock_now() + RELEASE_LIMIT, false);
	if (!f->released)
		return fail(f->ctl, VSS_E_COORDINATOR_RESTARTED,
			    "vssd went away while the volumes were held: they may have run again before COMMAND's end. "
			    "Do not use what it copied");
	return row_true(f->released, "Success") ? EXIT_OK : fail_from(f->ctl, f->released);
}

/* ---- all of it ---- */

static int check_places(struct freeze *f)
{
	const struct options *o = &f->ctl->options;
	struct words all = { 0 };
	char why[512], **paths = NULL;
	int r;

	all.items = calloc(o->for_paths.n + o->words.n + 1, sizeof *all.items);
	for (size_t i = 0; all.items && i < o->for_paths.n + o->words.n; i++)
		all.items[all.n++] = i < o->for_paths.n ? o->for_paths.items[i] : o->words.items[i - o->for_paths.n];
	r = absolute_paths(f->ctl, &all, &paths);
	if (r == EXIT_OK && freeze_places_check(paths, all.n, o->command[0], why) < 0)
		r = fail(f->ctl, VSS_E_NOT_SUPPORTED, why);
	paths_free(paths, all.n);
	free(all.items);
	return r;
}

static void report(struct freeze *f)
{
	if (f->ctl->options.json) {
		autojson json_t *document =
		    json_pack("{sO sO si}", "held", f->held, "released", f->released, "exitCode", f->code);
		print_json(f->ctl->out, "freeze", "freeze", document);
	} else if (f->ctl->options.verbose) {
		fputs("vssctl: frozen within ", f->ctl->err);
		print_msec(f->ctl->err, row_number(f->held, "FreezeUsec"));
		fputs(", held for ", f->ctl->err);
		print_msec(f->ctl->err, row_number(f->released, "HoldUsec"));
		fputc('\n', f->ctl->err);
	}
}

static int run(struct freeze *f)
{
	int r = add_members(f->ctl, f->backup);

	if (r == EXIT_OK)
		r = check_places(f);
	if (r != EXIT_OK)
		return r;
	if (start(f) < 0)
		return fail(f->ctl, VSS_E_OUT_OF_MEMORY, "COMMAND cannot be started");
	r = hold(f);
	if (r != EXIT_OK)
		return r;
	tell_warnings(f->ctl, f->held);
	uint64_t left = (uint64_t)row_number(f->held, "HoldLeftUsec");
	(void)!write(f->gate, "", 1);
	await_child(f, clock_now() + (left > MARGIN ? left - MARGIN : 0));
	r = release(f);
	if (r != EXIT_OK)
		return r;
	report(f);
	if (f->killed && !interrupt_signal())
		return fail(
		    f->ctl, VSS_E_HOLD_WRITES_TIMEOUT,
		    "COMMAND took longer than the volumes may be held (--limit) and was killed; everything runs again");
	return f->killed ? EXIT_SIGNAL + interrupt_signal() : f->code;
}

int run_freeze(struct vssctl *ctl)
{
	autojson json_t *options = session_options(ctl, "backup");
	struct freeze f = { .ctl = ctl, .channel = -1, .gate = -1, .pidfd = -1 };
	int r;

	if (!members_given(ctl))
		return vssctl_usage(ctl, "freeze needs --for PATH");
	json_object_set_new(options, "Hold", json_string("volumes"));
	if (ctl->options.limit_given)
		json_object_set_new(options, "HoldLimitUsec",
				    json_integer((json_int_t)ctl->options.limit_seconds * (json_int_t)USEC_PER_SEC));
	if (vss_backup_new(&f.backup, ctl->connection, options, &ctl->failure) < 0)
		return vssctl_fail(ctl);
	r = run(&f);
	end_child(&f);
	for (int *fd[] = { &f.channel, &f.gate, &f.pidfd, NULL }, **p = fd; *p; p++)
		cleanup_close(*p);
	vss_backup_free(f.backup);
	json_decref(f.held);
	json_decref(f.released);
	return r;
}
