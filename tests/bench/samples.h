/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Times of a benchmark, in microseconds: collected, summed up as a line, judged by their ratio to a baseline. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct samples {
	const char *name;
	uint64_t *usec;
	size_t n, room;
};

void samples_add(struct samples *samples, uint64_t usec);
void samples_free(struct samples *samples);
void samples_sort(struct samples *samples);
uint64_t samples_percentile(struct samples *samples, unsigned percent);
uint64_t samples_median(struct samples *samples);

void samples_print_heading(const char *title, size_t rounds);
/* One line: median, 95th percentile, maximum. */
void samples_print(struct samples *samples);
/* Prints the ratio of the medians and whether it is at most limit, or the product at most slack above the
 * baseline. limit 0: there is no target. */
bool samples_judge(struct samples *product, struct samples *baseline, double limit, uint64_t slack);
