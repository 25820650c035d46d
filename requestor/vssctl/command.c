/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requestor/vssctl/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "requestor/vssctl/vssctl.h"

/* ---- arguments and environment ---- */

static char *expand(const char *word, const char *root)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	const char *braces;

	if (!stream)
		return NULL;
	for (; (braces = strstr(word, "{}")); word = braces + 2)
		fprintf(stream, "%.*s%s", (int)(braces - word), word, root);
	fputs(word, stream);
	fclose(stream);
	return text;
}

char **command_expand(const char *const *argv, const char *root)
{
	size_t n = 0;
	char **result;

	while (argv[n])
		n++;
	result = calloc(n + 1, sizeof *result);
	for (size_t i = 0; result && i < n; i++) {
		result[i] = expand(argv[i], root);
		if (!result[i]) {
			command_free(result);
			return NULL;
		}
	}
	return result;
}

void command_free(char **argv)
{
	for (size_t i = 0; argv && argv[i]; i++)
		free(argv[i]);
	free(argv);
}

static int set_environment(const char *root, const struct copy_mount *copies, size_t n)
{
	int r = setenv(VSS_ENV_ROOT, root, 1);

	for (size_t i = 0; r == 0 && i < n; i++) {
		autofree char *path = NULL;
		char name[32];

		if (asprintf(&path, "%s%s", root, strcmp(copies[i].live, "/") == 0 ? "" : copies[i].live) < 0) {
			path = NULL;
			return -1;
		}
		snprintf(name, sizeof name, VSS_ENV_COPY "%zu", i + 1);
		r = setenv(name, path, 1);
		snprintf(name, sizeof name, VSS_ENV_LIVE "%zu", i + 1);
		r = r < 0 ? r : setenv(name, copies[i].live, 1);
	}
	return r;
}

/* ---- the child ---- */

/* What the child could not do; an exec that works closes the pipe without a word. */
struct refusal {
	int code;
	char why[512];
};

static _Noreturn void give_up(int report, int code, const char *why)
{
	struct refusal refusal = { .code = code };

	snprintf(refusal.why, sizeof refusal.why, "%s", why);
	(void)!write(report, &refusal, sizeof refusal);
	_exit(code);
}

static _Noreturn void child(char *const *argv, const char *root, const struct copy_mount *copies, size_t n,
			    pid_t parent, int report)
{
	char why[512];

	interrupt_restore();
	interrupt_block(false);
	/* The copies go when vssctl does: COMMAND must not go on reading what is being taken away. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	if (root_enter(root, copies, n, why) < 0)
		give_up(report, EXIT_FAILED, why);
	if (set_environment(root, copies, n) < 0)
		give_up(report, EXIT_FAILED, "out of memory for COMMAND's environment");
	execvp(argv[0], argv);
	snprintf(why, sizeof why, "%.400s cannot be run: %s", argv[0], strerror(errno));
	give_up(report, errno == ENOENT ? EXIT_NO_COMMAND : EXIT_CANNOT_EXEC, why);
}

/* ---- the parent ---- */

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_FAILED;
	return WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

static pid_t start(char *const *argv, const char *root, const struct copy_mount *copies, size_t n,
		   bool stdout_to_stderr, int report)
{
	pid_t parent = getpid(), pid;

	interrupt_block(true);
	pid = fork();
	if (pid == 0) {
		if (stdout_to_stderr)
			dup2(STDERR_FILENO, STDOUT_FILENO);
		child(argv, root, copies, n, parent, report);
	}
	if (pid > 0)
		interrupt_forward_to(pid);
	interrupt_block(false);
	return pid;
}

int command_run(char *const *argv, const char *root, const struct copy_mount *copies, size_t n, bool stdout_to_stderr,
		bool *ret_started, char why[512])
{
	struct refusal refusal;
	int report[2], code;
	pid_t pid;

	*ret_started = false;
	snprintf(why, 512, "COMMAND cannot be started: %s", strerror(errno));
	if (pipe2(report, O_CLOEXEC) < 0)
		return EXIT_FAILED;
	fflush(NULL);
	pid = start(argv, root, copies, n, stdout_to_stderr, report[1]);
	close(report[1]);
	if (pid < 0) {
		snprintf(why, 512, "COMMAND cannot be started: %s", strerror(errno));
		close(report[0]);
		return EXIT_FAILED;
	}
	ssize_t told = TEMP_FAILURE_RETRY(read(report[0], &refusal, sizeof refusal));
	close(report[0]);
	code = wait_for(pid);
	interrupt_forward_to(0);
	*ret_started = told <= 0;
	if (told == (ssize_t)sizeof refusal)
		snprintf(why, 512, "%s", refusal.why);
	return code;
}
