/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* timeline: makes a shadow copy set of the volumes at PATHS, throws it away, and prints what took how long: every
 * phase, and every writer in it. A whole requestor in one file, on nothing but <vssrequestor.h>. */
#include <stdio.h>
#include <string.h>

#include <vssrequestor.h>

#define EXIT_USAGE 2

static double msec(json_t *usec)
{
	return (double)json_integer_value(usec) / 1000.0;
}

static void print_interval(json_t *interval)
{
	const char *phase = json_string_value(json_object_get(interval, "Phase"));
	const char *writer = json_string_value(json_object_get(interval, "Writer"));
	const char *outcome = json_string_value(json_object_get(interval, "Outcome"));
	double begin = msec(json_object_get(interval, "BeginUsec"));
	double end = msec(json_object_get(interval, "EndUsec"));
	bool failed = writer && *writer && outcome && strcmp(outcome, "ok") != 0;

	printf("  %10.1f %10.1f   %-20s %s%s%s\n", begin, end - begin, phase ? phase : "", writer ? writer : "",
	       failed ? ": " : "", failed ? outcome : "");
}

static int print_timeline(struct vss_backup *backup, json_t *result, struct vss_failure *failure)
{
	json_t *properties = NULL, *interval;
	size_t index;

	if (vss_backup_properties(backup, &properties, failure) < 0)
		return -1;
	printf("  %10s %10s   %-20s %s\n", "begin (ms)", "took (ms)", "phase", "writer");
	json_array_foreach (json_object_get(properties, "Timeline"), index, interval)
		print_interval(interval);
	printf("Writes were held for %.1f ms.\n", msec(json_object_get(result, "HoldUsec")));
	json_decref(properties);
	return 0;
}

static int make_set(struct vss_backup *backup, const char *const *paths, size_t n, struct vss_failure *failure)
{
	json_t *result = NULL;
	int done = -1;

	/* Here a backup tool would read the copies, and then say whether it got them all. */
	if (vss_backup_add_paths(backup, paths, n, NULL, failure) == 0 &&
	    vss_backup_snapshot(backup, &result, failure) == 0 &&
	    vss_backup_set_succeeded(backup, true, failure) == 0 && vss_backup_complete(backup, failure) == 0)
		done = print_timeline(backup, result, failure);
	json_decref(result);
	return done;
}

int main(int argc, char **argv)
{
	struct vss_connection *connection = NULL;
	struct vss_backup *backup = NULL;
	struct vss_failure failure = { 0 };
	int done = -1;

	if (argc < 2) {
		fputs("Usage: timeline PATH...\n", stderr);
		return EXIT_USAGE;
	}
	if (vss_connect(&connection, NULL, &failure) == 0 && vss_backup_new(&backup, connection, NULL, &failure) == 0)
		done = make_set(backup, (const char *const *)argv + 1, (size_t)argc - 1, &failure);
	if (done < 0)
		fprintf(stderr, "timeline: %s\n", failure.text);
	vss_backup_free(backup); /* the copies go with it */
	vss_disconnect(connection);
	return done < 0;
}
