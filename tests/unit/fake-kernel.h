/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A kernel for the guard's tests: filesystems are numbers from 0 (as descriptors 100 and on), devices are minor
 * numbers. It writes down what it is asked, in order. */
#pragma once

#include <stdbool.h>

#include "coordinator/guard/kernel.h"

#define FAKE_FD 100
#define FAKE_MAX 32

struct fake_object {
	int held;				  /* how often */
	int hold_error, release_error, cut_error; /* negative errno to answer */
	unsigned slow;				  /* msec that holding it takes */
	unsigned slow_flush;			  /* of a filesystem */
	bool live, loaded;			  /* of a device */
	bool read_only;				  /* of a filesystem */
	bool ignore_hold;			  /* says that it is held, and is not: a stranger undid it at once */
};

extern struct fake_object fake_filesystems[FAKE_MAX], fake_devices[FAKE_MAX];
extern const struct kernel fake_kernel;

void fake_reset(void);
/* What was asked: "freeze 0 suspend 3 resume 3 thaw 0". Statuses are left out. */
const char *fake_story(void);
/* Place of a word in the story; -1. */
int fake_place(const char *what);
