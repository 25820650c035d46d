/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fake-kernel.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"

struct fake_object fake_filesystems[FAKE_MAX], fake_devices[FAKE_MAX];
static char story[8192];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void fake_reset(void)
{
	memset(fake_filesystems, 0, sizeof fake_filesystems);
	memset(fake_devices, 0, sizeof fake_devices);
	story[0] = '\0';
}

const char *fake_story(void)
{
	return story;
}

int fake_place(const char *what)
{
	char word[64];
	int place = 0;

	snprintf(word, sizeof word, "%s ", what);
	const char *found = strstr(story, word);
	if (!found)
		return -1;
	for (const char *p = story; p < found; p++)
		place += *p == ' ';
	return place;
}

static void tell(const char *what, int which)
{
	pthread_mutex_lock(&lock);
	text_append(story, sizeof story, "%s-%d ", what, which);
	pthread_mutex_unlock(&lock);
}

static int hold(struct fake_object *o, const char *what, int which)
{
	tell(what, which);
	if (o->slow)
		poll(NULL, 0, (int)o->slow);
	if (o->hold_error)
		return o->hold_error;
	o->held += !o->ignore_hold;
	return 0;
}

static int fake_flush(int fd)
{
	tell("flush", fd - FAKE_FD);
	if (fake_filesystems[fd - FAKE_FD].slow_flush)
		poll(NULL, 0, (int)fake_filesystems[fd - FAKE_FD].slow_flush);
	return 0;
}

static int fake_freeze(int fd)
{
	return hold(&fake_filesystems[fd - FAKE_FD], "freeze", fd - FAKE_FD);
}

static int fake_thaw(int fd)
{
	struct fake_object *o = &fake_filesystems[fd - FAKE_FD];

	tell("thaw", fd - FAKE_FD);
	if (o->release_error)
		return o->release_error;
	if (o->held == 0)
		return -EINVAL;
	o->held--;
	return 0;
}

static bool fake_is_read_only(int fd)
{
	return fake_filesystems[fd - FAKE_FD].read_only;
}

static int fake_suspend(int control, uint32_t major, uint32_t minor)
{
	return hold(&fake_devices[minor], "suspend", (int)minor);
}

static int fake_resume(int control, uint32_t major, uint32_t minor, uint32_t flags, bool *ret_changed)
{
	struct fake_object *o = &fake_devices[minor];
	int error = o->loaded ? o->cut_error : o->release_error;

	tell("resume", (int)minor);
	*ret_changed = error == 0 && (o->held > 0 || o->loaded);
	if (error)
		return error;
	o->live = o->live || o->loaded;
	o->loaded = false;
	o->held = 0;
	return 0;
}

static int fake_status(int control, uint32_t major, uint32_t minor, struct device_status *ret)
{
	struct fake_object *o = &fake_devices[minor];

	*ret = (struct device_status){ .suspended = o->held > 0, .live = o->live, .loaded = o->loaded };
	snprintf(ret->name, sizeof ret->name, "dev%u", minor);
	return 0;
}

static int fake_message(int control, uint32_t major, uint32_t minor, const char *text)
{
	tell("message", (int)minor);
	return fake_devices[minor].cut_error;
}

static int fake_snapshot(int source, int store, const char *name, bool read_only)
{
	tell("snapshot", source - FAKE_FD);
	return fake_filesystems[source - FAKE_FD].cut_error;
}

const struct kernel fake_kernel = {
	.flush = fake_flush,
	.freeze = fake_freeze,
	.thaw = fake_thaw,
	.is_read_only = fake_is_read_only,
	.suspend = fake_suspend,
	.resume = fake_resume,
	.status = fake_status,
	.message = fake_message,
	.snapshot = fake_snapshot,
};
