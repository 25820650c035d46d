/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writers/script/outcome.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define EXIT_OF_TIMEOUT_1 124 /* coreutils' timeout(1) killed what the script ran */

enum vss_result outcome_of_exit(bool killed, int status)
{
	if (killed)
		return VSS_RESULT_NON_RETRYABLE;
	switch (status) {
	case EX_OK:
		return VSS_RESULT_OK;
	case EX_DATAERR:
		return VSS_RESULT_INCONSISTENT_SNAPSHOT;
	case EX_OSERR:
		return VSS_RESULT_OUT_OF_RESOURCES;
	case EX_TEMPFAIL:
		return VSS_RESULT_RETRYABLE;
	case EXIT_OF_TIMEOUT_1:
		return VSS_RESULT_TIMED_OUT;
	default:
		return VSS_RESULT_NON_RETRYABLE;
	}
}

void outcome_describe_exit(bool killed, int status, char *text, size_t size)
{
	if (killed)
		snprintf(text, size, "was killed by signal %d (%s)", status, strsignal(status));
	else
		snprintf(text, size, "ended with exit code %d", status);
}

/* Splits the first word off; *rest is what follows it without the blanks between. */
static size_t first_word(const char *text, const char **rest)
{
	size_t n = strcspn(text, " \t");

	*rest = text + n + strspn(text + n, " \t");
	return n;
}

static bool word_is(const char *word, size_t n, const char *expected)
{
	return strlen(expected) == n && strncmp(word, expected, n) == 0;
}

/* A word, or the exit code that a script would have used. */
static bool parse_code(const char *word, size_t n, enum vss_result *ret_result)
{
	static const struct {
		const char *word;
		enum vss_result result;
	} codes[] = {
		{ "inconsistent", VSS_RESULT_INCONSISTENT_SNAPSHOT },
		{ "out-of-resources", VSS_RESULT_OUT_OF_RESOURCES },
		{ "timed-out", VSS_RESULT_TIMED_OUT },
		{ "retryable", VSS_RESULT_RETRYABLE },
		{ "non-retryable", VSS_RESULT_NON_RETRYABLE },
	};

	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		if (word_is(word, n, codes[i].word)) {
			*ret_result = codes[i].result;
			return true;
		}
	}
	if (n == 0 || n > 3 || strspn(word, "0123456789") < n)
		return false;
	*ret_result = outcome_of_exit(false, atoi(word));
	return *ret_result != VSS_RESULT_OK;
}

enum answer answer_parse(const char *line, enum vss_result *ret_result, const char **ret_text)
{
	size_t n = first_word(line, ret_text);

	if (word_is(line, n, "ok")) {
		*ret_result = VSS_RESULT_OK;
		return ANSWER_OK;
	}
	if (word_is(line, n, "alive"))
		return ANSWER_ALIVE;
	if (*line == '#') {
		*ret_text = line + 1 + strspn(line + 1, " \t");
		return ANSWER_COMMENT;
	}
	if (!word_is(line, n, "fail"))
		return ANSWER_GARBAGE;
	const char *code = *ret_text;
	n = first_word(code, ret_text);
	return parse_code(code, n, ret_result) ? ANSWER_FAIL : ANSWER_GARBAGE;
}
