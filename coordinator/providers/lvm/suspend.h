/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How LVM suspends volumes in this process. A volume whose snapshots come or go is suspended with its filesystem
 * frozen, for the sake of what the snapshot will show; LVM has no setting for that. Nothing here needs it: what a copy
 * shows is decided in the window, and whoever writes to the volume would wait for all that there is to be written.
 * Under somebody else's freeze it fails, or leaves the volume in a state in which nothing can freeze it any more. */
#pragma once

#include <stdbool.h>

/* While true, what this process suspends is suspended without a freeze, and from then until it is resumed the process
 * comes before all others: everybody who writes there waits for it. */
void suspend_briefly(bool yes);
