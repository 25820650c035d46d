/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The smallest useful writer: an application that appends to one file, and pauses while a copy is made.
 *
 *     cc minimal-writer.c -o minimal-writer $(pkg-config --cflags --libs libvsswriter)
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vsswriter.h>

struct journal {
	pthread_mutex_t lock; /* held by whoever appends */
	int fd;
	bool paused;
};

/* After this returns OK the file on disk is complete and does not change until thaw or abort. */
static enum vss_result freeze(struct vss_writer *writer, const struct vss_event_info *event, void *data)
{
	struct journal *journal = data;

	pthread_mutex_lock(&journal->lock); /* waits for the line that is being appended */
	journal->paused = fsync(journal->fd) == 0;
	pthread_mutex_unlock(&journal->lock);
	if (journal->paused)
		return VSS_RESULT_OK;
	vss_writer_set_message(writer, "the journal cannot be synced");
	return VSS_RESULT_RETRYABLE;
}

/* Serves as abort too: it may come at any time, also when nothing is paused, also twice. */
static enum vss_result thaw(struct vss_writer *writer, const struct vss_event_info *event, void *data)
{
	struct journal *journal = data;

	pthread_mutex_lock(&journal->lock);
	journal->paused = false;
	pthread_mutex_unlock(&journal->lock);
	return VSS_RESULT_OK;
}

static const struct vss_writer_ops ops = {
	.size = sizeof ops,
	.version = VSS_WRITER_API_VERSION,
	.id = "5e0c8a7e-2f43-4a8e-bb0c-97d1d8f0a6c4", /* of your own: uuidgen */
	.name = "Minimal Example",
	.freeze_limit_msec = 5000,
	.freeze = freeze,
	.thaw = thaw,
};

static const struct vss_component component = {
	.size = sizeof component,
	.name = "journal",
	.files = &(const struct vss_file_set){ .path = "/tmp", .spec = "minimal-writer.journal" },
	.n_files = 1,
};

int main(void)
{
	struct journal journal = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct vss_writer *writer;
	char error[256];

	journal.fd = open("/tmp/minimal-writer.journal", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (journal.fd < 0 || vss_writer_new(&writer, &ops, &journal, error, sizeof error) < 0)
		return 1;
	/* VSS_WRITER_THREAD: the library runs by itself. An application with a loop polls vss_writer_fd() instead. */
	if (vss_writer_add_component(writer, &component) < 0 || vss_writer_start(writer, VSS_WRITER_THREAD, NULL) < 0)
		return 1;
	for (;;) {
		pthread_mutex_lock(&journal.lock);
		if (!journal.paused && write(journal.fd, "tick\n", 5) != 5)
			perror("minimal-writer.journal");
		pthread_mutex_unlock(&journal.lock);
		sleep(1);
	}
}
