#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# power-cut.sh KERNEL BUILD_DIRECTORY: cuts the power of a machine at each step of a set, and boots its disks again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernel=$1 build=$2
disks=$(mktemp -d "${TMPDIR:-/tmp}/vss-disks.XXXXXX")
trap 'rm -rf "$disks"' EXIT

# step OP ACTION MARK
step() {
	rm -rf "${disks:?}"/*
	"$here/run.sh" --kernel "$kernel" --disk 1G --disks "$disks" --timeout 120 --cut "gate/$1.$3" "$build" \
		"$here/test-power-cut.sh" cut "$1" "$2" || { echo "cut at $1 ($2): not reached"; exit 1; }
	"$here/run.sh" --kernel "$kernel" --disk 1G --disks "$disks" --timeout 120 "$build" "$here/test-power-cut.sh" boot ||
		{ echo "cut at $1 ($2): the next boot failed"; exit 1; }
	echo "cut at $1 ($2): clean"
}

"$here/get-kernel.sh" "$kernel" >/dev/null || exit $?
step arm hang-after after
[ "${VSSD_TEST_LEVEL:-default}" != fast ] || exit 0
step seal hang-after after
[ "${VSSD_TEST_LEVEL:-default}" = long ] || exit 0
step prepare hang-after after
step open hang "done"
step open hang-after after
step seal hang "done"
