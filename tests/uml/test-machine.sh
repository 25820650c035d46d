#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The machine itself: it has device-mapper and LVM, and leaves this machine's files alone.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

! touch /usr/machine-was-here 2>/dev/null || die "the file tree may be written"
make_vg vg /dev/ubdb
make_lv vg one 64M ext4
mount_lv vg one
echo before >/mnt/one/file
lvcreate -qq -y -s -n copy -L 16M vg/one
echo after >/mnt/one/file
mount_readonly vg copy /mnt/copy
[ "$(cat /mnt/copy/file)" = before ] || die "the snapshot shows '$(cat /mnt/copy/file)'"
umount /mnt/copy
assert_healthy vg one
note "device-mapper and LVM work on $(uname -r)"
