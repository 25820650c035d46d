/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/bundled/event-copy.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "writers/script/strv.h"

static bool copy_volume(struct vss_volume *to, const struct vss_volume *from)
{
	*to = (struct vss_volume){
		.path = strdup(from->path),
		.id = strdup(from->id),
		.instant_group = from->instant_group,
		.copy = from->copy < 0 ? -1 : fcntl(from->copy, F_DUPFD_CLOEXEC, 3),
	};
	return to->path && to->id && (from->copy < 0 || to->copy >= 0);
}

struct event_copy *event_copy_new(const struct vss_event_info *event)
{
	struct event_copy *copy = calloc(1, sizeof *copy);
	bool good = copy;

	if (!copy)
		return NULL;
	*copy = (struct event_copy){
		.event = event->event,
		.session = strdup(event->session),
		.set = strdup(event->set),
		.backup_type = strdup(event->backup_type),
		.persistent = event->persistent,
		.succeeded = event->succeeded,
		.verify = event->verify,
		.deadline = event->deadline_usec,
		.volumes = calloc(event->n_volumes + 1, sizeof *copy->volumes),
	};
	good = copy->session && copy->set && copy->backup_type && copy->volumes;
	for (size_t i = 0; good && i < event->n_volumes; i++)
		good = copy_volume(&copy->volumes[copy->n_volumes++], &event->volumes[i]);
	for (size_t i = 0; good && i < event->n_components; i++)
		good = strv_add(&copy->components, event->components[i]) == 0;
	return good ? copy : event_copy_free(copy);
}

struct event_copy *event_copy_free(struct event_copy *copy)
{
	if (!copy)
		return NULL;
	for (size_t i = 0; i < copy->n_volumes; i++) {
		free((char *)copy->volumes[i].path);
		free((char *)copy->volumes[i].id);
		if (copy->volumes[i].copy >= 0)
			close(copy->volumes[i].copy);
	}
	free(copy->volumes);
	strv_free(copy->components);
	free(copy->session);
	free(copy->set);
	free(copy->backup_type);
	free(copy);
	return NULL;
}

bool event_copy_names(const struct event_copy *copy, const char *component)
{
	for (char **name = copy->components; name && *name; name++)
		if (strcmp(*name, component) == 0)
			return true;
	return false;
}
