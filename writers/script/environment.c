/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/environment.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/names.h"
#include "writers/script/strv.h"

#define CLEAN_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *yes_no(bool flag)
{
	return flag ? "yes" : "no";
}

static int add_volumes(char ***variables, const struct vss_event_info *event, const char *fd_directory,
		       const int *fd_numbers)
{
	int bad = strv_addf(variables, "VSS_VOLUMES=%zu", event->n_volumes);

	for (size_t i = 0; i < event->n_volumes; i++) {
		const struct vss_volume *volume = &event->volumes[i];

		bad |= strv_addf(variables, "VSS_VOLUME_%zu=%s", i + 1, volume->path);
		bad |= strv_addf(variables, "VSS_GROUP_%zu=%" PRIu32, i + 1, volume->instant_group);
		if (volume->copy >= 0)
			bad |= strv_addf(variables, VSS_ENV_COPY "%zu=%s/%d", i + 1, fd_directory, *fd_numbers++);
	}
	return bad ? -1 : 0;
}

int environment_add_event(char ***variables, const struct config *config, const struct vss_event_info *event,
			  const char *fd_directory, const int *fd_numbers)
{
	uint64_t now = clock_now();
	uint64_t left = event->deadline_usec > now ? event->deadline_usec - now : 0;
	int bad = 0;

	bad |= strv_addf(variables, "VSS_EVENT=%s", event_hook_name(event->event));
	bad |= strv_addf(variables, "VSS_WRITER=%s", config->name);
	bad |= strv_addf(variables, "VSS_SESSION=%s", event->session);
	bad |= strv_addf(variables, "VSS_SET=%s", event->set);
	bad |= strv_addf(variables, "VSS_DEADLINE=%" PRIu64, event->deadline_usec);
	bad |= strv_addf(variables, "VSS_SECONDS=%" PRIu64, left / USEC_PER_SEC);
	bad |= strv_addf(variables, "VSS_BACKUP_TYPE=%s", event->backup_type ? event->backup_type : "copy");
	bad |= strv_addf(variables, "VSS_PERSISTENT=%s", yes_no(event->persistent));
	if (event->event == VSS_EVENT_BACKUP_COMPLETE)
		bad |= strv_addf(variables, "VSS_SUCCEEDED=%s", yes_no(event->succeeded));
	bad |= add_volumes(variables, event, fd_directory, fd_numbers);
	bad |= strv_addf(variables, "VSS_COMPONENTS=%zu", event->n_components);
	for (size_t i = 0; i < event->n_components; i++)
		bad |= strv_addf(variables, "VSS_COMPONENT_%zu=%s", i + 1, event->components[i]);
	return bad ? -1 : 0;
}

int environment_add_base(char ***variables, const struct config *config)
{
	int bad = strv_add(variables, "PATH=" CLEAN_PATH) | strv_add(variables, "LANG=C.UTF-8");

	bad |= strv_addf(variables, "HOME=%s", config->home ? config->home : "/");
	if (config->user)
		bad |= strv_addf(variables, "USER=%s", config->user) | strv_addf(variables, "LOGNAME=%s", config->user);
	for (size_t i = 0; config->environment && config->environment[i]; i++)
		bad |= strv_add(variables, config->environment[i]);
	return bad ? -1 : 0;
}

static void put_encoded(FILE *to, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c <= ' ' || *c == '%' || *c == 0x7F)
			fprintf(to, "%%%02X", *c);
		else
			fputc(*c, to);
	}
}

char *environment_line(const char *event, char *const *variables)
{
	char *line = NULL;
	size_t size;
	FILE *to = open_memstream(&line, &size);

	if (!to)
		return NULL;
	fputs(event, to);
	for (size_t i = 0; variables && variables[i]; i++) {
		fputc(' ', to);
		put_encoded(to, variables[i]);
	}
	fputc('\n', to);
	if (fclose(to) == 0)
		return line;
	free(line);
	return NULL;
}
