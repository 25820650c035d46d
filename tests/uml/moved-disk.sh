#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A virtual disk with its copies is detached on one machine and attached on another: test-self-hosting.sh on both.
# Usage: moved-disk.sh [--kernel KERNEL] BUILD_DIRECTORY [plain|luks]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernel=6.1
[ "$1" != --kernel ] || { kernel=$2; shift 2; }
limit=600
[ "$kernel" != cloud ] || limit=2700
disks=$(mktemp -d "${TMPDIR:-/tmp}/vss-disks.XXXXXX")
trap 'rm -rf --one-file-system "$disks"' EXIT
for machine in first second; do
	"$here/run.sh" --kernel "$kernel" --disk 600M --disks "$disks" --timeout $limit "$1" "$here/test-self-hosting.sh" "$machine" \
		"${2:-plain}"
done
