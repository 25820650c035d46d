/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vss-guard: holds volumes for vssd, and lets go of them whatever happens. */
#include "coordinator/guard/guard.h"

int main(int argc, char **argv)
{
	return guard_main(argc, argv, &real_kernel);
}
