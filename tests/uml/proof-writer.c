/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes in an order that a copy must have kept, and says whether it has.
 *
 * order FILE...        writes 1 to each file in turn, then 2, ...: each write is on the disk before the next begins. Until
 *                      SIGTERM; then tells how many rounds there were and how long the slowest write took.
 * check-order FILE...  of a copy: no file is behind one that comes after it, the first is one ahead of the last at most.
 * prefix FILE          overwrites its As with Bs from the beginning; when it is through, the other way round. Until SIGTERM.
 * check-prefix FILE    of a copy: one letter, then the other, and at most one change between blocks.
 * Exit code 0, 1: the order is violated, 2: it cannot be told. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define BLOCK 4096u
#define FILES_MAX 64
#define PREFIX_BLOCKS 512u

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
	stopped = 1;
}

static char *aligned_block(char fill)
{
	char *block = NULL;

	if (posix_memalign((void **)&block, BLOCK, BLOCK) != 0)
		exit(2);
	memset(block, fill, BLOCK);
	return block;
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_DSYNC | O_CLOEXEC, 0644);

	if (fd < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	return fd;
}

static void put(int fd, const char *block, off_t at, uint64_t *slowest)
{
	uint64_t begin = clock_now(), took;

	if (pwrite(fd, block, BLOCK, at) != BLOCK) {
		fprintf(stderr, "A write failed: %s\n", strerror(errno));
		exit(2);
	}
	took = clock_now() - begin;
	if (took > *slowest)
		*slowest = took;
}

static int write_order(char **paths, int n)
{
	int fds[FILES_MAX];
	char *block = aligned_block('\0');
	unsigned long round = 0;
	uint64_t slowest = 0;

	for (int i = 0; i < n; i++)
		fds[i] = open_file(paths[i]);
	while (!stopped) {
		round++;
		snprintf(block, BLOCK, "%lu\n", round);
		for (int i = 0; i < n; i++)
			put(fds[i], block, 0, &slowest);
	}
	printf("%lu rounds, slowest write %.1f ms\n", round, (double)slowest / 1000);
	for (int i = 0; i < n; i++)
		close(fds[i]);
	free(block);
	return 0;
}

static unsigned long number_in(const char *path)
{
	char text[64] = "";
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (length <= 0) {
		fprintf(stderr, "%s: %s\n", path, length < 0 ? strerror(errno) : "empty");
		exit(2);
	}
	return strtoul(text, NULL, 10);
}

static int check_order(char **paths, int n)
{
	unsigned long first = number_in(paths[0]), before = first;
	bool kept = first > 0;

	for (int i = 0; i < n; i++) {
		unsigned long number = number_in(paths[i]);
		kept = kept && number <= before && first - number <= 1;
		printf("%lu ", number);
		before = number;
	}
	puts(kept ? "in order" : "ORDER VIOLATED");
	return kept ? 0 : 1;
}

static int write_prefix(const char *path)
{
	char *blocks[2] = { aligned_block('A'), aligned_block('B') };
	int fd = open_file(path);
	uint64_t slowest = 0;

	for (unsigned i = 0; i < PREFIX_BLOCKS; i++)
		put(fd, blocks[0], (off_t)i * BLOCK, &slowest);
	for (unsigned pass = 1; !stopped; pass++)
		for (unsigned i = 0; i < PREFIX_BLOCKS && !stopped; i++)
			put(fd, blocks[pass % 2], (off_t)i * BLOCK, &slowest);
	close(fd);
	free(blocks[0]);
	free(blocks[1]);
	return 0;
}

/* The letter of which the whole block is made; '\0': it is torn. */
static char letter_of(const char *block)
{
	for (unsigned i = 1; i < BLOCK; i++)
		if (block[i] != block[0])
			return '\0';
	return block[0];
}

static int check_prefix(const char *path)
{
	static char block[BLOCK];
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned changes = 0, n = 0;
	char before = '\0';

	while (fd >= 0 && read(fd, block, BLOCK) == BLOCK) {
		char letter = letter_of(block);
		if (letter != 'A' && letter != 'B') {
			printf("block %u is torn\n", n);
			return 1;
		}
		changes += before && letter != before;
		before = letter;
		n++;
	}
	printf("%u blocks, %u changes\n", n, changes);
	if (n < PREFIX_BLOCKS)
		return 2;
	return changes <= 1 ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = stop };

	if (argc < 3 || argc - 2 > FILES_MAX) {
		fprintf(stderr, "usage: proof-writer {order|check-order} FILE... | {prefix|check-prefix} FILE\n");
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	if (strcmp(argv[1], "order") == 0)
		return write_order(argv + 2, argc - 2);
	if (strcmp(argv[1], "check-order") == 0)
		return check_order(argv + 2, argc - 2);
	if (strcmp(argv[1], "prefix") == 0)
		return write_prefix(argv[2]);
	if (strcmp(argv[1], "check-prefix") == 0)
		return check_prefix(argv[2]);
	return 2;
}
