/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/redis/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"

static const char *const wanted[] = {
	"unixsocket", "port", "bind", "requirepass", "dir", "dbfilename", "appenddirname", "appendfilename", "sentinel",
};

/* The word at *at, without its quotes, ended in place. */
static char *next_word(char **at)
{
	char *word = *at + strspn(*at, " \t"), quote = *word == '"' || *word == '\'' ? *word : '\0';
	size_t n;

	word += quote != '\0';
	n = quote ? strcspn(word, quote == '"' ? "\"\r\n" : "'\r\n") : strcspn(word, " \t\r\n");
	*at = word + n + (word[n] != '\0');
	word[n] = '\0';
	return word;
}

json_t *settings_of_file(const char *path)
{
	autofree char *line = NULL;
	size_t room = 0;
	FILE *file = fopen(path, "re");
	json_t *settings = json_object();

	while (file && getline(&line, &room, file) > 0) {
		char *at = line, *keyword = next_word(&at);
		for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
			if (strcasecmp(keyword, wanted[i]) == 0)
				json_object_set_new(settings, wanted[i], json_string(next_word(&at)));
	}
	if (file)
		fclose(file);
	if (json_object_size(settings) > 0 && !json_object_get(settings, "sentinel")) /* one of those has no data */
		return settings;
	json_decref(settings);
	return NULL;
}
