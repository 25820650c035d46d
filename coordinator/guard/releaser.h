/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The main process of vss-guard: its windows, its clients, the executor in reserve. */
#pragma once

#include "common/frame.h"
#include "coordinator/guard/window.h"

#define WINDOWS_MAX 16
#define CLIENTS_MAX 48

struct releaser;

struct client {
	struct releaser *releaser;
	int fd; /* -1: free */
	struct frame in, out;
	struct window *window;
	bool waiting; /* an order is being carried out: nothing is read before its answer */
	bool ended;
	/* release-all: */
	uint64_t order_due; /* 0: none */
	json_t *ordered;    /* names of what was held then */
};

struct releaser {
	const char *run_directory, *program;
	int directory, listen, signals, notify;
	struct half reserve;
	uint64_t reserve_due; /* no new one before, after one that could not be started */
	struct window *windows[WINDOWS_MAX];
	size_t n_windows;
	struct client clients[CLIENTS_MAX];
	bool stopping;
	uint64_t stop_due;
	uint64_t watchdog, watchdog_due;
};

/* clients.c */
void clients_accept(struct releaser *releaser);
void client_event(struct client *client, short events);
short client_events(const struct client *client);
/* Answers to release-all, once nothing is held any more or that takes too long. */
void clients_step(struct releaser *releaser);
uint64_t clients_due(const struct releaser *releaser);

/* releaser.c */
/* A place for a window and an executor for it. */
int releaser_reserve(struct releaser *releaser, struct err *err);
