/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ledger: a double-entry ledger under constant load, and a VSS writer (writer.c). */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ledger.h"
#include "writer.h"

#define EXIT_USAGE 2

struct options {
	const char *a, *b, *status;
	unsigned threads;
	int64_t expect; /* -1: nothing in particular */
};

static int usage(void)
{
	fputs("Usage: ledger run --a DIR --b DIR [--threads N] [--status FILE]\n"
	      "       ledger check --a DIR --b DIR [--expect NUMBER]\n"
	      "\n"
	      "run keeps a ledger, debits in DIR a, credits in DIR b, with N threads (4) entering transactions,\n"
	      "until SIGTERM or Ctrl-C. It is a VSS writer; FILE gets the last transaction of each freeze.\n"
	      "check tells whether the two halves in DIR a and DIR b agree, and end at transaction NUMBER.\n",
	      stderr);
	return EXIT_USAGE;
}

static int parse_number(const char *text, int64_t least, int64_t most, int64_t *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoll(text, &end, 10);
	if (errno || end == text || *end || *ret_number < least || *ret_number > most) {
		fprintf(stderr, "ledger: \"%s\" is not a number from %" PRId64 " to %" PRId64 "\n", text, least, most);
		return -1;
	}
	return 0;
}

static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "a", required_argument, NULL, 'a' },	     { "b", required_argument, NULL, 'b' },
		{ "threads", required_argument, NULL, 't' }, { "status", required_argument, NULL, 's' },
		{ "expect", required_argument, NULL, 'e' },  { 0 },
	};
	int64_t number;
	int option;

	*options = (struct options){ .threads = 4, .expect = -1 };
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'a')
			options->a = optarg;
		else if (option == 'b')
			options->b = optarg;
		else if (option == 's')
			options->status = optarg;
		else if (option == 't' && parse_number(optarg, 1, LEDGER_THREADS_MAX, &number) == 0)
			options->threads = (unsigned)number;
		else if (option == 'e' && parse_number(optarg, 0, INT64_MAX, &number) == 0)
			options->expect = number;
		else
			return -1;
	}
	return options->a && options->b && optind == argc ? 0 : -1;
}

/* Threads inherit the mask, so that the signals wait for us here. */
static void block_signals(sigset_t *signals)
{
	sigemptyset(signals);
	sigaddset(signals, SIGINT);
	sigaddset(signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, signals, NULL);
}

/* Until somebody ends us, or the books can no longer be written. */
static int wait_for_end(struct ledger *ledger, const sigset_t *signals)
{
	const struct timespec second = { .tv_sec = 1 };

	while (!atomic_load(&ledger->stopping))
		if (sigtimedwait(signals, NULL, &second) > 0)
			return EXIT_SUCCESS;
	return EXIT_FAILURE;
}

static int run(const struct options *options)
{
	struct ledger ledger;
	struct ledger_writer writer = {
		.ledger = &ledger,
		.debit_directory = options->a,
		.credit_directory = options->b,
		.status_file = options->status,
	};
	sigset_t signals;
	int code = EXIT_FAILURE;

	setvbuf(stdout, NULL, _IOLBF, 0); /* our log is read while we run */
	block_signals(&signals);
	if (ledger_open(&ledger, options->a, options->b) == 0 && ledger_start(&ledger, options->threads) == 0 &&
	    ledger_writer_start(&writer) == 0) {
		printf("ledger runs with %u threads\n", options->threads);
		code = wait_for_end(&ledger, &signals);
	}
	ledger_writer_stop(&writer);
	ledger_close(&ledger);
	return code;
}

int main(int argc, char **argv)
{
	struct options options;

	if (argc < 2 || parse_options(argc - 1, argv + 1, &options) < 0)
		return usage();
	if (strcmp(argv[1], "run") == 0)
		return run(&options);
	if (strcmp(argv[1], "check") == 0)
		return ledger_check(options.a, options.b, options.expect);
	return usage();
}
