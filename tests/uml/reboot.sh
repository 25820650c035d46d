#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copies, sets and documents live through a restart, and an export to another machine: test-reboot.sh in three boots.
# Usage: reboot.sh [--kernel KERNEL] BUILD_DIRECTORY
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernel=6.1
[ "$1" != --kernel ] || { kernel=$2; shift 2; }
disks=$(mktemp -d "${TMPDIR:-/tmp}/vss-disks.XXXXXX")
trap 'rm -rf --one-file-system "$disks"' EXIT
for boot in first second third; do
	"$here/run.sh" --kernel "$kernel" --disk 2G --disk 200M --disks "$disks" --timeout 300 "$1" "$here/test-reboot.sh" "$boot"
done
