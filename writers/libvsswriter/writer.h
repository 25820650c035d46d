/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The inside of libvsswriter.
 *
 * Everything happens in vss_writer_dispatch, in this order: the bus is read (its callbacks only leave notes: requests
 * and flags), then what is due is done: aborts, answers, limits, requests. So callbacks of the application never run
 * inside the bus' own code, and a request never sees a state that is out of date. */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/bus.h"
#include "common/error.h"
#include "common/id.h"
#include "writers/libvsswriter/event-input.h"
#include "writers/libvsswriter/sessions.h"
#include "writers/vsswriter.h"

#define REQUESTS_MAX 64
#define MESSAGE_SIZE 1024
#define DOCUMENT_MAX (256u * 1024u)
#define FREEZE_LIMIT_MAX_MSEC 60000u
#define DOUBTS_MAX 64
#define CHECKS_MAX 2048
#define EVENT_COUNT (VSS_EVENT_POST_RESTORE + 1)

/* An event that waits for its turn. */
struct request {
	struct request *next;
	struct vss_writer *writer;
	struct bus_call *call; /* NULL once the bus is gone */
	enum vss_event event;
	bool asking; /* the bus is being asked who sent it */
	bool refused;
};

/* An event that the application has been given. */
struct job {
	bool busy;
	bool own; /* an abort by the dead-man: the session's row stays, for a later Thaw to be answered */
	enum vss_event event;
	struct bus_call *call; /* NULL: nobody to answer */
	struct event_input input;
	char session[ID_SIZE], set[ID_SIZE];
	uint64_t deadline, span; /* span: what KeepAlive adds from now */

	/* Under the writer's lock, for vss_writer_done comes from any thread. */
	bool answered;
	enum vss_result result;
	char message[MESSAGE_SIZE];
	char *document;
	json_t *doubts, *checks; /* arrays; NULL: none */
};

/* The way to vssd. */
struct link {
	struct bus *bus; /* NULL while there is none */
	struct bus_watch *name_watch, *holder_watch;
	struct bus_pending *registering;
	bool set_up;                              /* the watch is set and the first registration sent */
	bool registered;
	bool name_lost, name_gained, holder_lost; /* notes for the next turn */
	uint64_t connect_at, connect_backoff;     /* while bus is NULL */
	uint64_t register_at, register_backoff;   /* USEC_INFINITY: wait for the name of vssd */
};

struct vss_writer {
	struct vss_writer_ops ops; /* strings owned */
	void *data;
	char instance[ID_SIZE];
	json_t *components;
	json_t *metadata; /* as last given, for an Identify that comes while the application is busy */

	char *bus_address;
	bool started, has_thread;
	pthread_t thread;
	int epoll_fd, wake_fd, timer_fd;
	struct link link;

	struct sessions sessions;
	uint64_t freeze_until; /* the dead-man's time while frozen, else USEC_INFINITY */
	bool hold_is_over;     /* at that time: it is vssd's limit for the hold, not the application's */
	struct request *requests;
	struct job work, abort;
	struct event_input partial; /* PostSnapshot's volumes of earlier messages */
	char partial_session[ID_SIZE];

	pthread_mutex_t lock; /* of what follows, and of the jobs' answers */
	struct job *running;  /* whose callback is on the dispatching thread's stack */
	pthread_t dispatcher;
	bool keep_alive, broken; /* notes of vss_writer_keep_alive and vss_writer_break_freeze */
	char broken_why[MESSAGE_SIZE];
	char text[MESSAGE_SIZE], text_shown[MESSAGE_SIZE]; /* of vss_writer_status */
	atomic_int status;
	atomic_bool stop;
};

/* ops.c */
int ops_copy(struct vss_writer_ops *to, const struct vss_writer_ops *from, char *error, size_t error_size);
void ops_free(struct vss_writer_ops *ops);
vss_event_fn ops_callback(const struct vss_writer_ops *ops, enum vss_event event);
void ops_instance_id(const struct vss_writer_ops *ops, const char *machine_id, char id[ID_SIZE]);

/* component.c */
json_t *writer_metadata(const struct vss_writer *writer);

/* link.c: all of these need the dispatching thread */
int link_dispatch(struct vss_writer *writer);
void link_close(struct vss_writer *writer);
void link_turn(struct vss_writer *writer);
uint64_t link_next_time(const struct vss_writer *writer);
void link_watch_holder(struct vss_writer *writer, const char *sender);
void link_forget_holder(struct vss_writer *writer);
void link_keep_alive(struct vss_writer *writer);

/* request.c */
extern const struct bus_interface writer_interface;
void requests_run(struct vss_writer *writer);
void requests_bus_lost(struct vss_writer *writer);
void requests_free(struct vss_writer *writer);

/* job.c */
void job_begin(struct vss_writer *writer, struct job *job, struct bus_call *call, struct event_input *input);
void job_call(struct vss_writer *writer, struct job *job);
void job_cancel(struct vss_writer *writer, struct job *job, enum vss_error error, const char *why);
void job_drop_call(struct job *job);
void jobs_turn(struct vss_writer *writer);
void job_thaw_broken(struct bus_call *call, const struct session_row *row);
uint64_t jobs_next_time(const struct vss_writer *writer);
void aborts_run(struct vss_writer *writer);
void break_take(struct vss_writer *writer);
void freeze_ended(struct vss_writer *writer);

/* writer.c */
void writer_wake(struct vss_writer *writer);
void writer_set_status(struct vss_writer *writer, const char *text);
