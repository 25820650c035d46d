/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/bench/samples.h"

#include <stdio.h>
#include <stdlib.h>

void samples_add(struct samples *s, uint64_t usec)
{
	if (s->n == s->room) {
		s->room = s->room ? s->room * 2 : 32;
		s->usec = realloc(s->usec, s->room * sizeof *s->usec);
		if (!s->usec)
			abort();
	}
	s->usec[s->n++] = usec;
}

void samples_free(struct samples *s)
{
	free(s->usec);
	*s = (struct samples){ 0 };
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void samples_sort(struct samples *s)
{
	if (s->n > 0)
		qsort(s->usec, s->n, sizeof *s->usec, compare);
}

uint64_t samples_percentile(struct samples *s, unsigned percent)
{
	size_t rank = (s->n * percent + 99) / 100;

	if (s->n == 0)
		return 0;
	samples_sort(s);
	return s->usec[rank ? rank - 1 : 0];
}

uint64_t samples_median(struct samples *s)
{
	return samples_percentile(s, 50);
}

void samples_print_heading(const char *title, size_t rounds)
{
	char heading[128];

	snprintf(heading, sizeof heading, "%s (%zu interleaved rounds, ms)", title, rounds);
	printf("\n%-64s %10s %10s %10s\n", heading, "median", "p95", "maximum");
}

void samples_print(struct samples *s)
{
	printf("  %-62s %10.3f %10.3f %10.3f\n", s->name, (double)samples_median(s) / 1000,
	       (double)samples_percentile(s, 95) / 1000, (double)samples_percentile(s, 100) / 1000);
}

bool samples_judge(struct samples *product, struct samples *baseline, double limit, uint64_t slack)
{
	uint64_t mine = samples_median(product), theirs = samples_median(baseline);
	double ratio = theirs ? (double)mine / (double)theirs : 0;
	bool met = (double)mine <= (double)theirs * limit || (slack && mine <= theirs + slack);

	if (limit <= 0) {
		printf("  ratio %.2f, no target\n", ratio);
		return true;
	}
	printf("  ratio %.2f, target %.2f", ratio, limit);
	if (slack)
		printf(" or %.1f ms more", (double)slack / 1000);
	printf(": %s\n", met ? "met" : "MISSED");
	return met;
}
