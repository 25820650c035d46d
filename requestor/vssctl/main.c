/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vssctl: the command line of vssd. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "requestor/vssctl/vssctl.h"

#define TIMEOUT_SECONDS 60 /* of commands that a hypervisor waits for */

/* The arguments as typed, for `list sessions` to show. */
static char *join(char **argv)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	for (int i = 0; stream && argv[i]; i++)
		fprintf(stream, "%s%s", i ? " " : "", argv[i]);
	if (stream)
		fclose(stream);
	return text;
}

static bool is_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "/?") == 0 ||
	       strcasecmp(word, "help") == 0;
}

/* Output that could not be written is a failure that nobody may miss. */
static int flush(struct vssctl *ctl, int r)
{
	if (fflush(ctl->out) == 0 && !ferror(ctl->out))
		return r < 0 ? EXIT_FAILED : r;
	fputs("vssctl: the output could not be written\n", ctl->err);
	return r > 0 ? r : EXIT_FAILED;
}

static int run(struct vssctl *ctl)
{
	int r;

	if (ctl->command->options & OPTION(TIMEOUT))
		interrupt_deadline(ctl->options.timeout_given ? ctl->options.timeout_seconds : TIMEOUT_SECONDS);
	if (!ctl->command->alone && vssctl_connect(ctl) < 0)
		return vssctl_fail(ctl);
	r = ctl->command->run(ctl);
	interrupt_restore();
	vss_disconnect(ctl->connection);
	return flush(ctl, r);
}

static int parse_and_run(struct vssctl *ctl, int argc, char **argv)
{
	char why[256];
	int taken = 2 + (ctl->command->object != NULL);

	if (options_parse(&ctl->options, ctl->command, argc - taken, (const char *const *)argv + taken, why) < 0)
		return vssctl_usage(ctl, "%s", why);
	if (ctl->options.help) {
		print_help(ctl->out, ctl->command);
		return EXIT_OK;
	}
	ctl->command_line = join(argv);
	return run(ctl);
}

int main(int argc, char **argv)
{
	struct vssctl ctl = { .out = stdout, .err = stderr };
	int r;

	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("vssctl %s\n", vss_requestor_version());
		return EXIT_OK;
	}
	if (argc < 2 || is_help(argv[1])) {
		print_help(argc < 2 ? stderr : stdout, NULL);
		return argc < 2 ? EXIT_USAGE : EXIT_OK;
	}
	ctl.command = command_find(argv[1], argc > 2 ? argv[2] : NULL);
	if (!ctl.command) {
		vssctl_usage(&ctl, "there is no command \"%s%s%s\" (see vssctl --help)", argv[1], argc > 2 ? " " : "",
			     argc > 2 ? argv[2] : "");
		return EXIT_USAGE;
	}
	r = parse_and_run(&ctl, argc, argv);
	options_free(&ctl.options);
	free(ctl.command_line);
	return r;
}
