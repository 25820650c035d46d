/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/qemu/rescue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "writers/qemu/agent.h"
#include "writers/qemu/image.h"
#include "writers/qemu/note.h"
#include "writers/script/log.h"

#define ATTEMPT (5 * USEC_PER_SEC)
#define PAUSE_FIRST (100 * USEC_PER_MSEC)
#define PAUSE_MAX (2 * USEC_PER_SEC)
#define OFF_FOR (3 * USEC_PER_SEC)
#define THAW_FOR_DEFAULT (600 * USEC_PER_SEC)

struct rescue {
	int directory, stop;
	char file[NOTE_FILE_SIZE];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static unsigned under_way;

/* What is asked comes after everything that was asked before, for the agent does one thing after another: a freeze that
 * nobody waits for any more has either been executed by now, or never will be. */
static enum rescue_result settle(struct agent *agent, const struct patience *patience)
{
	enum guest_freeze status;
	json_int_t count;

	if (agent_freeze_status(agent, &status, patience) != AGENT_OK)
		return RESCUE_AGAIN;
	if (status == GUEST_FREEZE_THAWED)
		return RESCUE_THAWED;
	if (agent_count(agent, "guest-fsfreeze-thaw", NULL, &count, patience) != AGENT_OK ||
	    agent_freeze_status(agent, &status, patience) != AGENT_OK)
		return RESCUE_AGAIN;
	return status == GUEST_FREEZE_THAWED ? RESCUE_THAWED : RESCUE_AGAIN;
}

enum rescue_result rescue_try(struct agent *agent, const char *address, const struct patience *patience)
{
	if (!agent_is_open(agent)) {
		enum agent_result result = agent_open(agent, address, patience);
		if (result != AGENT_OK)
			return result == AGENT_ABSENT ? RESCUE_OFF : RESCUE_AGAIN;
	}
	return settle(agent, patience);
}

/* An agent that was stopped or restarted inside a running guest has no listener for a while either. */
static bool runs(json_t *note)
{
	size_t i;
	json_t *disk;

	json_array_foreach(json_object_get(note, "Disks"), i, disk)
		if (json_is_string(disk) && image_is_open_in_qemu(json_string_value(disk)))
			return true;
	return false;
}

static enum rescue_result attempt(struct agent *agent, json_t *note, const struct patience *patience)
{
	const struct patience once = patience_within(patience, ATTEMPT);
	enum rescue_result result = rescue_try(agent, json_string_value(json_object_get(note, "Agent")), &once);

	/* A connection that was good for nothing may be the reason. */
	if (result == RESCUE_AGAIN)
		agent_close(agent);
	return result == RESCUE_OFF && runs(note) ? RESCUE_AGAIN : result;
}

/* Off is believed when it has been so for a while: QEMU may just be making the socket, an agent being restarted. */
static bool stays_off(enum rescue_result result, uint64_t *off_since)
{
	uint64_t now = clock_now();

	if (result != RESCUE_OFF)
		*off_since = now;
	return now - *off_since >= OFF_FOR;
}

static enum rescue_result work(json_t *note, int stop)
{
	json_int_t span = json_integer_value(json_object_get(note, "ThawFor"));
	uint64_t begin = clock_now(), off_since = begin, pause = PAUSE_FIRST;
	const struct patience patience = { begin + (span > 0 ? (uint64_t)span : THAW_FOR_DEFAULT), stop };
	enum rescue_result result;
	struct agent agent;

	agent_init(&agent);
	for (;;) {
		result = attempt(&agent, note, &patience);
		const struct patience rest = patience_within(&patience, pause);
		if (result == RESCUE_THAWED || stays_off(result, &off_since) || clock_now() >= patience.until)
			break;
		if (patience_wait(&rest, -1, 0) == -ECANCELED)
			break;
		pause = pause * 2 < PAUSE_MAX ? pause * 2 : PAUSE_MAX;
	}
	agent_close(&agent);
	return result;
}

static void report(const char *guest, enum rescue_result result)
{
	if (result == RESCUE_THAWED)
		log_line(LOG_NOTICE, guest, "is thawed");
	else if (result == RESCUE_OFF)
		log_line(LOG_NOTICE, guest, "is off, and so no longer frozen");
	else
		log_line(LOG_ERR, guest,
			 "could not be thawed: its agent does not do it in time. Look into the guest (fsfreeze --unfreeze), or restart it");
}

static void carry_out(const struct rescue *rescue)
{
	autoclose int fd = openat(rescue->directory, rescue->file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	autojson json_t *note = NULL;

	/* Another process of ours that is at it already shall go on alone. */
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	note = note_read(rescue->directory, rescue->file);
	if (!note) {
		unlinkat(rescue->directory, rescue->file, 0);
		return;
	}
	const char *guest = json_string_value(json_object_get(note, "Guest"));
	log_line(LOG_WARNING, guest, "may be frozen; its agent is asked to thaw it");
	enum rescue_result result = work(note, rescue->stop);
	report(guest, result);
	if (result != RESCUE_AGAIN)
		unlinkat(rescue->directory, rescue->file, 0);
}

static void *rescue_thread(void *data)
{
	struct rescue *rescue = data;

	carry_out(rescue);
	free(rescue);
	pthread_mutex_lock(&lock);
	under_way--;
	pthread_cond_broadcast(&ended);
	pthread_mutex_unlock(&lock);
	return NULL;
}

bool rescue_start(int directory, const char *file, int stop)
{
	struct rescue *rescue = calloc(1, sizeof *rescue);
	pthread_t thread;

	if (!rescue)
		return false;
	*rescue = (struct rescue){ .directory = directory, .stop = stop };
	snprintf(rescue->file, sizeof rescue->file, "%s", file);
	pthread_mutex_lock(&lock);
	under_way++;
	pthread_mutex_unlock(&lock);
	if (pthread_create(&thread, NULL, rescue_thread, rescue) != 0) {
		rescue_thread(rescue); /* one after another, then */
		return false;
	}
	pthread_detach(thread);
	return true;
}

void rescue_wait(void)
{
	pthread_mutex_lock(&lock);
	while (under_way > 0)
		pthread_cond_wait(&ended, &lock);
	pthread_mutex_unlock(&lock);
}

static bool is_note(const char *name)
{
	size_t n = strlen(name), end = strlen(".frozen");

	return n > end && n < NOTE_FILE_SIZE && strcmp(name + n - end, ".frozen") == 0;
}

void rescue_all(int directory, int stop)
{
	int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *notes = copy >= 0 ? fdopendir(copy) : NULL;

	for (struct dirent *entry; notes && (entry = readdir(notes));)
		if (is_note(entry->d_name))
			rescue_start(directory, entry->d_name, stop);
	if (notes)
		closedir(notes);
}
