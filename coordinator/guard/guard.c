/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-guard's command line. */
#include "coordinator/guard/guard.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/guard/spawn.h"

#define EXECUTOR_FD 3

const struct kernel *guard_kernel = &real_kernel;

static int usage(void)
{
	fputs("Usage: vss-guard [--run-directory DIRECTORY]            serve vssd\n"
	      "       vss-guard --release [--json]                     release what a guard that ended has left held\n"
	      "       vss-guard --list [--json]                        tell what its lists name\n"
	      "       vss-guard --version\n",
	      stderr);
	return 2;
}

int guard_main(int argc, char **argv, const struct kernel *kernel)
{
	bool executor = false, release = false, list = false, json = false;
	const char *run_directory = VSS_GUARD_DIRECTORY;

	guard_kernel = kernel;
	spawn_remember_self();
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--executor") == 0)
			executor = true;
		else if (strcmp(argv[i], "--release") == 0)
			release = true;
		else if (strcmp(argv[i], "--list") == 0)
			list = true;
		else if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (strcmp(argv[i], "--run-directory") == 0 && argv[i + 1])
			run_directory = argv[++i];
		else if (strcmp(argv[i], "--version") == 0)
			return puts("vss-guard " VSSD_VERSION), 0;
		else
			return usage();
	}
	if (executor)
		return executor_main(EXECUTOR_FD, run_directory, argv[0]);
	if (release || list)
		return leftovers_main(run_directory, list, json);
	return releaser_main(run_directory, argv[0]);
}
