#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A vssd that was built without the btrfs provider runs, and refuses every volume with the reason.
# Usage: test-without-btrfs.sh BUILD_DIRECTORY
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

scene_start "$1"
scene_vssd

begin "vssd and its clients run"
try list providers
check "providers can be listed" equal "$code" 0
check "btrfs is not among them" refuse contains "$lab/out" btrfs
try list writers
check "writers can be listed" equal "$code" 0

begin "a btrfs volume is refused"
try create shadow --for "$volume"
check "it fails for good" equal "$code" 1
check "and says why" contains "$lab/err" "No provider\|not supported\|no provider"
check "with VSS's number" contains "$lab/err" 0x8004230
try list volumes
check "volumes can be listed" equal "$code" 0
try list volumes --json
check "with the reason" equal "$(jq -r --arg path "$lab/v" '[.volumes[] | select(.Path == $path) | .Why != ""] | first' "$lab/out")" true
vssctl list volumes | grep -F "$lab/v" || true
scene_done
