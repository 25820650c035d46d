/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole processes against whole processes, in interleaved pairs:
 *   compare [--rounds N] [--target RATIO] [--slack USEC] [--settle DIR] TITLE :: NAME COMMAND... :: NAME COMMAND...
 * The first is the product, the second its baseline. In a command, `++` separates processes that run one after the
 * other, what comes before `+-` is not counted, and `@` in an argument stands for the round's number. Nothing is printed by them; one that fails ends it.
 * Ends with 0 when the target is met, 1 when it is missed, 2 when something did not work. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/bench/samples.h"

#define ARGUMENTS_MAX 64
#define REST (100 * USEC_PER_MSEC) /* what one has left to be done shall not be paid by the other */

struct side {
	struct samples samples;
	char **words; /* processes, each ending with NULL; as a whole ending with two */
	size_t uncounted; /* processes that only set the scene */
};

static const char *settle_path;

static void settle(void)
{
	autoclose int fd = settle_path ? open(settle_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0)
		syncfs(fd);
	usleep(REST);
}

static char *fill(const char *word, unsigned round)
{
	char *text = NULL;
	const char *at = strchr(word, '@');

	if (asprintf(&text, at ? "%.*s%u%s" : "%.*s", at ? (int)(at - word) : (int)strlen(word), word, round,
		     at ? at + 1 : "") < 0)
		abort();
	return text;
}

/* Runs one process with `@` filled in; its usec, 0 if it failed. */
static uint64_t run(char **words, unsigned round)
{
	posix_spawn_file_actions_t actions;
	char *argv[ARGUMENTS_MAX + 1] = { NULL };
	uint64_t begin, end;
	pid_t pid;
	int status = -1;

	for (size_t i = 0; words[i] && i < ARGUMENTS_MAX; i++)
		argv[i] = fill(words[i], round);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	begin = clock_now();
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) == 0)
		waitpid(pid, &status, 0);
	end = clock_now();
	posix_spawn_file_actions_destroy(&actions);
	if (status != 0)
		fprintf(stderr, "compare: %s failed\n", argv[0]);
	for (size_t i = 0; argv[i]; i++)
		free(argv[i]);
	return status == 0 ? end - begin : 0;
}

static int measure(struct side *side, unsigned round, bool count)
{
	uint64_t total = 0;
	size_t n = 0;

	settle();
	for (char **words = side->words; *words; words++) {
		uint64_t usec = run(words, round);
		if (usec == 0)
			return -1;
		total += n++ < side->uncounted ? 0 : usec;
		while (*words)
			words++;
	}
	if (count)
		samples_add(&side->samples, total);
	return 0;
}

/* Cuts the arguments at `::`, and a side's at `++` and `+-`. argv's own end is the second NULL of the last side. */
static int parse_sides(struct side sides[2], char **words)
{
	size_t n = 0;

	for (; *words && n < 2; n++) {
		if (strcmp(*words, "::") != 0 || !words[1] || !words[2])
			return -1;
		*words++ = NULL;
		sides[n].samples.name = *words++;
		sides[n].words = words;
		for (size_t ended = 0; *words && strcmp(*words, "::") != 0; words++) {
			if (strcmp(*words, "++") != 0 && strcmp(*words, "+-") != 0)
				continue;
			ended++;
			if (strcmp(*words, "+-") == 0)
				sides[n].uncounted = ended;
			*words = NULL;
		}
	}
	return n == 2 && !*words ? 0 : -1;
}

/* Each side's own list of words, ending with two NULLs: `::` gave room for one only. */
static void own_words(struct side *side, char **end)
{
	size_t n = (size_t)(end - side->words);
	char **copy = calloc(n + 2, sizeof *copy);

	if (!copy)
		abort();
	memcpy(copy, side->words, n * sizeof *copy);
	side->words = copy;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "rounds", required_argument, NULL, 'r' },
						 { "target", required_argument, NULL, 't' },
						 { "slack", required_argument, NULL, 's' },
						 { "settle", required_argument, NULL, 'd' },
						 { NULL, 0, NULL, 0 } };
	struct side sides[2] = { 0 };
	unsigned rounds = 30;
	uint64_t slack = 0;
	double target = 1;

	for (int option; (option = getopt_long(argc, argv, "+", options, NULL)) >= 0;) {
		if (option == 'r')
			rounds = (unsigned)atoi(optarg);
		else if (option == 't')
			target = atof(optarg);
		else if (option == 's')
			slack = strtoull(optarg, NULL, 10);
		else if (option == 'd')
			settle_path = optarg;
		else
			return 2;
	}
	if (optind + 1 >= argc || parse_sides(sides, argv + optind + 1) < 0) {
		fprintf(stderr, "compare: TITLE :: NAME COMMAND... :: NAME COMMAND...\n");
		return 2;
	}
	own_words(&sides[0], (char **)sides[1].words - 2);
	own_words(&sides[1], argv + argc);
	for (unsigned round = 0; round <= rounds; round++) /* round 0 warms up */
		for (size_t i = 0; i < 2; i++)
			if (measure(&sides[(i + round) % 2], round, round > 0) < 0)
				return 2;
	samples_print_heading(argv[optind], rounds);
	samples_print(&sides[0].samples);
	samples_print(&sides[1].samples);
	return samples_judge(&sides[0].samples, &sides[1].samples, target, slack) ? 0 : 1;
}
