/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/task.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/script/child.h"
#include "writers/script/environment.h"
#include "writers/script/strv.h"

static bool for_coprocess(const struct config *config, enum vss_event event)
{
	return config->coprocess && config->coprocess_events & 1u << event;
}

bool task_is_served(const struct config *config, const struct commands *commands, enum vss_event event)
{
	return commands->n > 0 || for_coprocess(config, event);
}

/* Whose executables serve the event: *ret_role is thaw for an abort without any of its own, so that a script that knows
 * freeze and thaw alone is called with what it knows. */
static int find_commands(struct task *task, const struct config *config, enum vss_event *ret_role, struct err *err)
{
	*ret_role = task->event;
	if (commands_find(&task->commands, config, task->event, err) < 0)
		return -1;
	if (task->event != VSS_EVENT_ABORT || task_is_served(config, &task->commands, VSS_EVENT_ABORT))
		return 0;
	*ret_role = VSS_EVENT_THAW;
	return commands_find(&task->commands, config, VSS_EVENT_THAW, err);
}

static int keep_copies(struct task *task, const struct vss_event_info *event, struct err *err)
{
	task->fds = calloc(event->n_volumes + 1, sizeof *task->fds);
	if (!task->fds)
		return err_set(err, VSS_E_OUT_OF_MEMORY, "Out of memory");
	for (size_t i = 0; i < event->n_volumes; i++) {
		if (event->volumes[i].copy < 0)
			continue;
		int fd = fcntl(event->volumes[i].copy, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return err_errno(err, errno, VSS_E_WRITER_OUT_OF_RESOURCES,
					 "The copy of %s cannot be kept open", event->volumes[i].path);
		task->fds[task->n_fds++] = fd;
	}
	return 0;
}

static int describe_for_commands(struct task *task, const struct config *config, const struct vss_event_info *event)
{
	int *numbers = calloc(task->n_fds + 1, sizeof *numbers);
	int bad = numbers ? environment_add_base(&task->environment, config) : -1;

	for (size_t i = 0; numbers && i < task->n_fds; i++)
		numbers[i] = CHILD_FIRST_FD + (int)i;
	if (!bad)
		bad = environment_add_event(&task->environment, config, event, "/proc/self/fd", numbers);
	free(numbers);
	return bad;
}

static int describe_for_coprocess(struct task *task, const struct config *config, const struct vss_event_info *event)
{
	char directory[64], **variables = NULL;

	/* It runs already and inherits nothing any more. */
	snprintf(directory, sizeof directory, "/proc/%d/fd", (int)getpid());
	if (environment_add_event(&variables, config, event, directory, task->fds) == 0)
		task->line = environment_line(event_hook_name(event->event), variables);
	strv_free(variables);
	return task->line ? 0 : -1;
}

static int describe(struct task *task, const struct config *config, const struct vss_event_info *event,
		    enum vss_event role, struct err *err)
{
	int bad = 0;

	if (keep_copies(task, event, err) < 0)
		return -1;
	if (task->commands.n > 0)
		bad = describe_for_commands(task, config, event);
	else if (for_coprocess(config, role))
		bad = describe_for_coprocess(task, config, event);
	else if (role == VSS_EVENT_FREEZE || role == VSS_EVENT_THAW)
		return err_set(err, VSS_E_WRITER_NON_RETRYABLE, "There is no executable for %s", event_hook_name(role));
	return bad ? err_set(err, VSS_E_WRITER_OUT_OF_RESOURCES, "Out of memory") : 0;
}

int task_new(struct task **ret, const struct config *config, const struct vss_event_info *event, struct err *err)
{
	struct task *task = calloc(1, sizeof *task);
	enum vss_event role;

	if (!task)
		return err_set(err, VSS_E_WRITER_OUT_OF_RESOURCES, "Out of memory");
	task->event = event->event;
	task->begin = clock_now();
	task->deadline = event->deadline_usec;
	if (find_commands(task, config, &role, err) < 0 || describe(task, config, event, role, err) < 0) {
		task_free(task);
		return -1;
	}
	*ret = task;
	return 0;
}

struct task *task_free(struct task *task)
{
	if (!task)
		return NULL;
	for (size_t i = 0; i < task->n_fds; i++)
		close(task->fds[i]);
	free(task->fds);
	commands_done(&task->commands);
	strv_free(task->environment);
	free(task->line);
	free(task);
	return NULL;
}
