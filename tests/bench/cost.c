/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an application notices of a set and of the script that does the same, in interleaved pairs, told by a ledger client
 * (tests/ledger/client.h) that is at work all the time:
 *   cost [--rounds N] [--around SECONDS] [--target RATIO] TITLE LOG THREADS :: NAME COMMAND AFTERWARDS :: NAME COMMAND AFTERWARDS
 * The first is the product, the second its baseline. COMMAND is what is measured; AFTERWARDS, SECONDS later, undoes it. If it prints
 * "held USEC", that long COMMAND said that it held the application's writes: then there must be a span of that length in which
 * no thread got more than one acknowledgement (it may note late what came in time).
 * Both are programs, called with the number of the round.
 * Ends with 0 when the target is met, 1 when it is missed, 2 when something did not work. */
#include <getopt.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/bench/samples.h"

#define ROUNDS_MAX 100
#define REST (500 * USEC_PER_MSEC) /* what one has left to be done shall not be paid by the other */

enum period { BEFORE, DURING, AFTER, PERIODS };

struct window {
	uint64_t from, begin, end, to; /* the command, and what is looked at around it */
	uint64_t stall, stalled, held; /* the longest, how far into the command it began */
	struct samples acknowledged; /* when, while the command ran */
};

struct side {
	const char *name, *command, *afterwards;
	struct window windows[ROUNDS_MAX];
	struct samples latencies[PERIODS], durations;
	uint64_t writes[PERIODS], usec[PERIODS];
};

static struct side sides[2];
static unsigned rounds = 10, threads;
static uint64_t around = 2 * USEC_PER_SEC;
static double target;

/* ---- running ---- */

static int run(const char *program, unsigned round)
{
	char number[16];
	char *argv[] = { (char *)program, number, NULL };
	pid_t pid;
	int status = -1;

	snprintf(number, sizeof number, "%u", round);
	if (posix_spawn(&pid, program, NULL, NULL, argv, environ) == 0)
		waitpid(pid, &status, 0);
	if (status != 0)
		fprintf(stderr, "cost: %s %u failed\n", program, round);
	return status == 0 ? 0 : -1;
}

static int undo(const struct side *side, unsigned round, uint64_t *ret_held)
{
	char command[512], line[256];

	snprintf(command, sizeof command, "%s %u", side->afterwards, round);
	FILE *out = popen(command, "re");
	if (!out)
		return -1;
	while (fgets(line, sizeof line, out))
		sscanf(line, "held %" SCNu64, ret_held);
	if (pclose(out) == 0)
		return 0;
	fprintf(stderr, "cost: %s failed\n", command);
	return -1;
}

static int measure(struct side *side, unsigned round)
{
	struct window *window = &side->windows[round];

	usleep(REST);
	window->from = clock_now();
	usleep((useconds_t)around);
	window->begin = clock_now();
	if (run(side->command, round) < 0)
		return -1;
	window->end = clock_now();
	usleep((useconds_t)around);
	window->to = clock_now();
	return undo(side, round, &window->held);
}

/* ---- what the ledger tells ---- */

static bool is_in(uint64_t time, uint64_t from, uint64_t to)
{
	return time >= from && time < to;
}

/* What stood still while the command ran is its own, whenever it began. */
static void count(struct side *side, struct window *window, uint64_t issued, uint64_t acknowledged)
{
	bool during = issued < window->end && acknowledged >= window->begin;
	uint64_t took = acknowledged - issued;

	if (during && took > window->stall) {
		window->stall = took;
		window->stalled = issued > window->begin ? issued - window->begin : 0;
	}
	samples_add(&side->latencies[during ? DURING : issued < window->begin ? BEFORE : AFTER], took);
	side->writes[BEFORE] += is_in(acknowledged, window->from, window->begin);
	side->writes[AFTER] += is_in(acknowledged, window->end, window->to);
	if (!is_in(acknowledged, window->begin, window->end))
		return;
	side->writes[DURING]++;
	samples_add(&window->acknowledged, acknowledged);
}

static void count_everywhere(uint64_t issued, uint64_t acknowledged)
{
	for (size_t i = 0; i < 2; i++)
		for (unsigned r = 1; r <= rounds; r++) {
			struct window *window = &sides[i].windows[r];
			if (acknowledged >= window->from && issued < window->to)
				count(&sides[i], window, issued, acknowledged);
		}
}

static int read_log(const char *log, unsigned thread)
{
	uint64_t number, time, open = 0, issued = 0;
	char name[512], line[128], what;

	snprintf(name, sizeof name, "%s.%u", log, thread);
	FILE *file = fopen(name, "re");
	if (!file) {
		fprintf(stderr, "cost: there is no %s\n", name);
		return -1;
	}
	while (fgets(line, sizeof line, file)) {
		if (!strchr(line, '\n') || sscanf(line, "%c %" SCNu64 " %" SCNu64, &what, &number, &time) != 3)
			continue;
		if (what == 'i')
			open = number, issued = time;
		else if (number == open)
			count_everywhere(issued, time);
	}
	fclose(file);
	return 0;
}

/* ---- the verdicts ---- */

/* The fewest acknowledgements that any span as long as what was held has. */
static size_t fewest_in_span(struct window *window)
{
	struct samples *times = &window->acknowledged;
	uint64_t start = window->begin;
	size_t fewest = SIZE_MAX;

	samples_sort(times);
	for (size_t first = 0; start + window->held <= window->end; first++) {
		size_t last = first;
		while (last < times->n && times->usec[last] < start + window->held)
			last++;
		if (last - first < fewest)
			fewest = last - first;
		if (first >= times->n)
			break;
		start = times->usec[first] + 1; /* behind this one */
	}
	return fewest;
}

static int judge_held(struct side *side)
{
	struct samples held = { .name = side->name };
	size_t most = 0;

	for (unsigned r = 1; r <= rounds; r++) {
		size_t found = fewest_in_span(&side->windows[r]);
		if (side->windows[r].held == 0)
			return 0;
		samples_add(&held, side->windows[r].held);
		if (found > most)
			most = found;
	}
	printf("  %-62s %10.3f ms (median), at most %zu acknowledged in it: %s\n", side->name,
	       (double)samples_median(&held) / 1000, most, most <= threads ? "held" : "NOT HELD");
	samples_free(&held);
	return most <= threads ? 0 : -1;
}

static void print_periods(const char *title)
{
	static const char *const names[] = { "before", "during", "after" };
	char heading[128];

	snprintf(heading, sizeof heading, "%s (%u interleaved rounds)", title, rounds);
	printf("\n%-64s %10s %10s %10s\n", heading, names[BEFORE], names[DURING], names[AFTER]);
	for (size_t i = 0; i < 2; i++) {
		printf("  %-62s", sides[i].name);
		for (size_t p = 0; p < PERIODS; p++)
			printf(" %10.1f", (double)sides[i].writes[p] * USEC_PER_SEC / (double)sides[i].usec[p]);
		printf("  writes/s\n  %-62s", "");
		for (size_t p = 0; p < PERIODS; p++)
			printf(" %10.3f", (double)samples_percentile(&sides[i].latencies[p], 99) / 1000);
		printf("  ms, 99th percentile\n");
	}
}

static bool judge_stalls(void)
{
	struct samples stalls[2] = { { .name = sides[0].name }, { .name = sides[1].name } };

	samples_print_heading("whole command", rounds);
	for (size_t i = 0; i < 2; i++)
		samples_print(&sides[i].durations);
	samples_print_heading("longest stall", rounds);
	for (size_t i = 0; i < 2; i++) {
		struct samples begins = { 0 };
		for (unsigned r = 1; r <= rounds; r++) {
			samples_add(&stalls[i], sides[i].windows[r].stall);
			samples_add(&begins, sides[i].windows[r].stalled);
		}
		samples_print(&stalls[i]);
		printf("    which began so long after the command %39.3f\n", (double)samples_median(&begins) / 1000);
		samples_free(&begins);
	}
	bool met = samples_judge(&stalls[0], &stalls[1], target, 0);
	samples_free(&stalls[0]);
	samples_free(&stalls[1]);
	return met;
}

static void sum_up(struct side *side)
{
	side->durations.name = side->name;
	for (unsigned r = 1; r <= rounds; r++) {
		const struct window *window = &side->windows[r];
		samples_add(&side->durations, window->end - window->begin);
		side->usec[BEFORE] += window->begin - window->from;
		side->usec[DURING] += window->end - window->begin;
		side->usec[AFTER] += window->to - window->end;
	}
}

/* ---- the program ---- */

static bool parse(int argc, char **argv)
{
	static const struct option options[] = { { "rounds", required_argument, NULL, 'r' },
						 { "around", required_argument, NULL, 'a' },
						 { "target", required_argument, NULL, 't' },
						 { NULL, 0, NULL, 0 } };

	for (int option; (option = getopt_long(argc, argv, "+", options, NULL)) >= 0;) {
		if (option == 'r')
			rounds = (unsigned)atoi(optarg);
		else if (option == 'a')
			around = (uint64_t)(atof(optarg) * USEC_PER_SEC);
		else if (option == 't')
			target = atof(optarg);
		else
			return false;
	}
	char **words = argv + optind;
	if (argc - optind != 11 || rounds < 1 || rounds >= ROUNDS_MAX)
		return false;
	threads = (unsigned)atoi(words[2]);
	for (size_t i = 0; i < 2; i++) {
		char **side = words + 3 + 4 * i;
		if (strcmp(side[0], "::") != 0)
			return false;
		sides[i] = (struct side){ .name = side[1], .command = side[2], .afterwards = side[3] };
	}
	return true;
}

int main(int argc, char **argv)
{
	int r = 0;

	if (!parse(argc, argv)) {
		fprintf(stderr, "cost: TITLE LOG THREADS :: NAME COMMAND AFTERWARDS :: NAME COMMAND AFTERWARDS\n");
		return 2;
	}
	const char *title = argv[optind], *log = argv[optind + 1];
	for (unsigned round = 0; round <= rounds; round++) /* round 0 warms up */
		for (size_t i = 0; i < 2; i++)
			if (measure(&sides[(i + round) % 2], round) < 0)
				return 2;
	for (unsigned thread = 1; thread <= threads; thread++)
		if (read_log(log, thread) < 0)
			return 2;
	for (size_t i = 0; i < 2; i++)
		sum_up(&sides[i]);
	print_periods(title);
	bool met = judge_stalls();
	for (size_t i = 0; i < 2; i++)
		r |= judge_held(&sides[i]);
	return r < 0 ? 2 : met ? 0 : 1;
}
