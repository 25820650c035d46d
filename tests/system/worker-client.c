/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* worker-client WORKER ROLE: speaks to a vss-worker for a test script. Reads requests from stdin, one JSON object a
 * line, and prints the answers, one a line.
 *
 * Descriptors: "@open:PATH" in a request is the index of PATH, opened with O_PATH. Those of an answer are kept for the
 * client's life and their members (Source, Store, Directory, Mount) read "@fd:N"; the same string in a later request
 * sends them again, and /proc/CLIENT/fd/N reaches them. A line "forget" closes them. A line "kill USEC" sends the
 * worker the next request and kills it that much later; a line "time JSON" answers with "usec" added. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/frame.h"

struct client {
	pid_t worker;
	int fd;
	int sent[FRAME_FDS_MAX], opened[FRAME_FDS_MAX];
	size_t n_sent, n_opened;
};

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static pid_t start_worker(const char *worker, const char *role, int *ret_fd)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		fail("socketpair");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		if (dup2(pair[1], 3) < 0 || (pair[1] == 3 && fcntl(3, F_SETFD, 0) < 0))
			_exit(126);
		execl(worker, worker, role, NULL);
		_exit(127);
	}
	close(pair[1]);
	*ret_fd = pair[0];
	return pid;
}

/* The index at which a descriptor named in the request travels; -1 if the string names none. */
static int send_fd(struct client *client, const char *text)
{
	int fd;

	if (client->n_sent == FRAME_FDS_MAX)
		return -1;
	if (strncmp(text, "@open:", 6) == 0) {
		fd = open(text + 6, O_PATH | O_CLOEXEC);
		if (fd < 0)
			fail(text);
		client->opened[client->n_opened++] = fd;
	} else if (sscanf(text, "@fd:%d", &fd) != 1) {
		return -1;
	}
	client->sent[client->n_sent] = fd;
	return (int)client->n_sent++;
}

static void name_indices(struct client *client, json_t *value);

static json_t *index_for(struct client *client, json_t *value)
{
	int index = json_is_string(value) ? send_fd(client, json_string_value(value)) : -1;

	name_indices(client, value);
	return index < 0 ? json_incref(value) : json_integer(index);
}

static void name_indices(struct client *client, json_t *value)
{
	const char *key;
	json_t *entry;
	void *next;
	size_t i;

	json_object_foreach_safe(value, next, key, entry) json_object_set_new(value, key, index_for(client, entry));
	json_array_foreach(value, i, entry) json_array_set_new(value, i, index_for(client, entry));
}

static void name_descriptors(json_t *value, struct frame *frame)
{
	static const char *const keys[] = { "Source", "Store", "Directory", "Mount" };
	const char *key;
	json_t *entry;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		entry = json_object_get(value, keys[i]);
		if (json_is_integer(entry) && (size_t)json_integer_value(entry) < frame->n_fds)
			json_object_set_new(value, keys[i],
					    json_sprintf("@fd:%d", frame->fds[json_integer_value(entry)]));
	}
	json_object_foreach(value, key, entry) name_descriptors(entry, frame);
	json_array_foreach(value, i, entry) name_descriptors(entry, frame);
}

static void print(json_t *value)
{
	json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	putchar('\n');
	fflush(stdout);
}

static bool receive(struct client *client, uint64_t begin)
{
	struct frame frame = { 0 };
	struct err err = { 0 };

	if (frame_receive(&frame, client->fd, &err) <= 0) {
		printf("{\"gone\":true}\n");
		fflush(stdout);
		return false;
	}
	if (begin)
		json_object_set_new(frame.value, "usec", json_integer((json_int_t)(clock_now() - begin)));
	name_descriptors(frame.value, &frame);
	print(frame.value);
	frame.n_fds = 0; /* kept */
	frame_done(&frame);
	return true;
}

static bool send_request(struct client *client, const char *text)
{
	json_t *request = json_loads(text, JSON_DECODE_ANY, NULL);
	struct frame frame;
	struct err err = { 0 };
	bool sent;

	if (!request) {
		fprintf(stderr, "not JSON: %s\n", text);
		exit(2);
	}
	client->n_sent = client->n_opened = 0;
	name_indices(client, request);
	sent = frame_init(&frame, request, client->sent, client->n_sent, &err) == 0 &&
	       frame_send(&frame, client->fd, &err) > 0;
	frame_done(&frame);
	json_decref(request);
	for (size_t i = 0; i < client->n_opened; i++)
		close(client->opened[i]);
	return sent;
}

/* Bytes that are no JSON, in a frame that is well-formed. */
static void send_raw(struct client *client, const char *text)
{
	uint32_t length = (uint32_t)strlen(text);

	if (write(client->fd, &length, sizeof length) != sizeof length || write(client->fd, text, length) != length)
		fail("write");
}

int main(int argc, char **argv)
{
	struct client client = { 0 };
	autofree char *line = NULL;
	size_t size = 0;
	int kill_after = -1;

	if (argc != 3) {
		fprintf(stderr, "usage: worker-client WORKER ROLE\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	close_range(3, ~0u, 0); /* the script's pipes to other clients */
	client.worker = start_worker(argv[1], argv[2], &client.fd);
	while (getline(&line, &size, stdin) > 0) {
		uint64_t begin = strncmp(line, "time ", 5) == 0 ? clock_now() : 0;
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "forget") == 0) {
			close_range((unsigned)client.fd + 1, ~0u, 0);
			continue;
		}
		if (sscanf(line, "kill %d", &kill_after) == 1)
			continue;
		if (strncmp(line, "raw ", 4) == 0)
			send_raw(&client, line + 4);
		else
			send_request(&client, begin ? line + 5 : line);
		if (kill_after >= 0) {
			usleep((useconds_t)kill_after);
			kill(client.worker, SIGKILL);
		}
		if (!receive(&client, begin))
			break;
	}
	close(client.fd);
	waitpid(client.worker, NULL, 0);
	return 0;
}
