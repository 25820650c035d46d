/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/bundled/task-run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/text.h"

/* ---- for the kinds ---- */

int bundled_wait(const struct bundled_task *task, int fd, short events, uint64_t until)
{
	struct pollfd polled[] = { { task->cancel, POLLIN, 0 }, { fd, events, 0 } };
	uint64_t end = until < task->deadline ? until : task->deadline;

	for (;;) {
		uint64_t now = clock_now();
		if (now >= end)
			return -ETIMEDOUT;
		struct timespec left = { .tv_sec = (time_t)((end - now) / USEC_PER_SEC),
					 .tv_nsec = (long)((end - now) % USEC_PER_SEC * 1000) };
		int n = ppoll(polled, ARRAY_SIZE(polled), &left, NULL);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && polled[0].revents)
			return -ECANCELED;
		if (n > 0)
			return 0;
	}
}

int bundled_expired(const struct bundled_task *task)
{
	struct pollfd cancel = { task->cancel, POLLIN, 0 };

	if (poll(&cancel, 1, 0) > 0)
		return -ECANCELED;
	return clock_now() >= task->deadline ? -ETIMEDOUT : 0;
}

enum vss_result bundled_fail(struct bundled_task *task, enum vss_result result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_vformat(task->message, sizeof task->message, format, args);
	va_end(args);
	return result;
}

/* Takes the value. */
static void append(json_t **array, json_t *value)
{
	if (!*array)
		*array = json_array();
	json_array_append_new(*array, value);
}

void bundled_doubt(struct bundled_task *task, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof text, format, args);
	va_end(args);
	append(&task->doubts, json_string(text));
}

void bundled_check(struct bundled_task *task, const char *check, enum vss_verdict verdict, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof text, format, args);
	va_end(args);
	append(&task->checks, json_pack("{ss si ss}", "Check", check, "Verdict", (int)verdict, "Text", text));
}

/* ---- who is done ---- */

int done_list_init(struct done_list *list)
{
	*list = (struct done_list){ .lock = PTHREAD_MUTEX_INITIALIZER };
	list->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return list->fd < 0 ? -errno : 0;
}

static void done_list_add(struct done_list *list, struct task_run *run)
{
	pthread_mutex_lock(&list->lock);
	run->next = list->first;
	list->first = run;
	pthread_mutex_unlock(&list->lock);
	(void)!write(list->fd, &(uint64_t){ 1 }, sizeof(uint64_t));
}

struct task_run *done_list_take(struct done_list *list)
{
	uint64_t count;

	(void)!read(list->fd, &count, sizeof count);
	pthread_mutex_lock(&list->lock);
	struct task_run *first = list->first;
	list->first = NULL;
	pthread_mutex_unlock(&list->lock);
	return first;
}

/* ---- the thread ---- */

#ifdef SYS_setresuid32
#define SET_GROUPS SYS_setgroups32
#define SET_GID SYS_setresgid32
#define SET_UID SYS_setresuid32
#else
#define SET_GROUPS SYS_setgroups
#define SET_GID SYS_setresgid
#define SET_UID SYS_setresuid
#endif

/* This thread alone, and for good: the C library's functions would change the whole process. What it opens, and whom it is
 * to a server that asks the socket, is then the owner; files that he controls cannot make root do anything. */
int bundled_become_owner(const json_t *row)
{
	json_t *uid = json_object_get(row, "Uid"), *gid = json_object_get(row, "Gid");
	long u = (long)json_integer_value(uid), g = (long)json_integer_value(gid);

	if (geteuid() != 0 || !json_is_integer(uid) || u == 0)
		return 0;
	if (syscall(SET_GROUPS, 0, NULL) < 0 || syscall(SET_GID, g, g, g) < 0 || syscall(SET_UID, u, u, u) < 0)
		return -1;
	return 0;
}

static void *run_task(void *data)
{
	struct task_run *run = data;

	if (bundled_become_owner(run->row) < 0)
		run->result = bundled_fail(&run->task, VSS_RESULT_NON_RETRYABLE, "Its user cannot be taken on: %s",
					   strerror(errno));
	else
		run->result = run->kind->serve(&run->task);
	done_list_add(run->done, run);
	return NULL;
}

static struct task_run *no_run(struct task_run *run, struct err *err)
{
	err_set(err, VSS_E_OUT_OF_MEMORY, "No thread can be started: %s", strerror(errno));
	return task_run_free(run);
}

struct task_run *task_run_start(const struct bundled_kind *kind, const json_t *settings, struct instance *instance,
				const struct event_copy *event, uint64_t deadline, struct done_list *done, struct err *err)
{
	struct task_run *run = calloc(1, sizeof *run);
	int ends[2];

	if (!run || pipe2(ends, O_CLOEXEC) < 0) {
		free(run);
		return no_run(NULL, err);
	}
	*run = (struct task_run){
		.task = { .event = event->event, .session = event->session, .set = event->set,
			  .backup_type = event->backup_type, .persistent = event->persistent,
			  .succeeded = event->succeeded, .verify = event->verify, .volumes = event->volumes, .n_volumes = event->n_volumes,
			  .settings = settings, .name = instance->name, .state = &instance->state,
			  .deadline = deadline, .cancel = ends[0] },
		.instance = instance, .kind = kind, .done = done, .cancel_end = ends[1],
		.row = json_deep_copy(instance->row),
	};
	run->task.instance = run->row;
	errno = pthread_create(&run->thread, NULL, run_task, run);
	if (errno) {
		run->instance = NULL; /* there is nobody to be joined */
		return no_run(run, err);
	}
	instance->busy = true;
	return run;
}

void task_run_cancel(struct task_run *run)
{
	cleanup_close(&run->cancel_end);
	run->cancel_end = -1;
}

struct task_run *task_run_free(struct task_run *run)
{
	if (!run)
		return NULL;
	if (run->instance) {
		pthread_join(run->thread, NULL);
		run->instance->busy = false;
	}
	cleanup_close(&run->cancel_end);
	cleanup_close(&run->task.cancel);
	json_decref(run->task.document);
	json_decref(run->task.doubts);
	json_decref(run->task.checks);
	json_decref(run->row);
	free(run);
	return NULL;
}
