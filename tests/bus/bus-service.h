/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The service and the client that the tests of the binding share: two connections of one process. */
#pragma once

#include "bus-harness.h"

#define SERVICE_NAME "org.vssd.Test"
#define SERVICE_PATH "/org/vssd/test"
#define SERVICE_INTERFACE "org.vssd.Test1"

struct service {
	struct bus_harness *harness;
	struct bus *buses[2];
	struct bus *server, *client; /* the same two */
	struct bus_call *kept[2048];
	size_t n_kept;
	json_int_t number; /* the property Number */
	unsigned reads;    /* of it */
	unsigned noted;    /* calls of Note, which have no answer */
	int fds_before;
};

/* What has come of a call. */
struct answer {
	bool done;
	unsigned calls;
	enum vss_error error;
	char error_name[128], message[256];
	json_t *args;
	int fd; /* the first descriptor, or -1 */
};

extern const struct bus_interface service_interface;

/* cmocka fixtures: a daemon for the group, two connections for a test, whose teardown counts descriptors. */
int service_group_setup(void **state);
int service_group_teardown(void **state);
int service_setup(void **state);
int service_teardown(void **state);

void answer_note(const struct bus_reply *reply, void *data);
void answer_reset(struct answer *answer);

/* Calls the service and waits; args as JSON text. */
void service_call(struct service *s, const char *method, const char *signature, const char *args, struct answer *answer);
/* Any object, interface and destination of it. */
void service_call_at(struct service *s, const char *path, const char *interface, const char *method,
		     const char *signature, json_t *args, struct answer *answer);
/* Sends without waiting; 10 s unless deadline says otherwise (0). */
void service_send(struct service *s, const char *method, const char *signature, json_t *args, uint64_t deadline,
		  struct answer *answer, struct bus_pending **pending);
bool service_run(struct service *s, const bool *flag, unsigned milliseconds);
int count_fds(void);
