#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Shadow storage of btrfs volumes by the command line: associations are kept in the filesystem, survive vssd, and refuse
# what may not be, each with its reason.
# Usage: test-shadow-storage.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

associations() {
	vssctl list shadowstorage --for "$volume" --json | jq -r ".shadowstorage[] | $1"
}

candidates() {
	begin "what could hold copies is listed, and why the rest may not"
	try list volumes --for "$volume" --json
	check "exit code" equal "$code" 0
	check "its own filesystem may" equal "$(jq '[.candidates[] | select(.Candidate)] | length' "$lab/out")" 1
	check "and no other" equal "$(jq '[.candidates[] | select(.Candidate | not) | select(.Why == "")] | length' "$lab/out")" 0
	try list volumes --for "$volume"
	check "as a table" contains "$lab/out" "$lab/v *filesystem .* yes"
}

implicit() {
	begin "an association is implicit while there are copies, and gone with the last"
	try list shadowstorage --for "$volume"
	check "none before" equal "$code" 3
	try create shadow --for "$volume"
	check "a copy is made" equal "$code" 0
	check "implicit" equal "$(associations .Explicit)" false
	check "with one copy" equal "$(associations .Copies)" 1
	try add shadowstorage --for "$volume" --on "$volume"
	check "none can be added while copies exist" equal "$code" 1
	check "which is said" contains "$lab/err" "already.*0x8004230d"
	try resize shadowstorage --for "$volume" --on "$volume"
	check "resizing makes it explicit" equal "$code$(associations .Explicit)" 0true
	try delete shadowstorage --for "$volume" -y
	check "not deleted while it holds copies" equal "$code" 75
	check "which is said" contains "$lab/err" "holds 1 copies"
	try delete shadows --for "$volume" --all -y
	try delete shadowstorage --for "$volume" -y
	check "deleted afterwards" equal "$code" 0
	try list shadowstorage --for "$volume"
	check "none left" equal "$code" 3
}

explicit() {
	begin "an explicit one stays, in the filesystem itself"
	try add shadowstorage "/for=$volume" "/on=$lab/v" /MaxSize=UNBOUNDED
	check "added, in vssadmin's spelling" equal "$code" 0
	check "said in VSS's words" contains "$lab/out" "Successfully added the shadow copy storage association"
	try add shadowstorage --for "$volume" --on "$volume"
	check "one a volume" equal "$code" 1
	try list shadowstorage
	check "the layout" contains "$lab/out" "^   Shadow Copy Storage volume: ($lab/v)fs:"
	check "unbounded" contains "$lab/out" "^   Maximum Shadow Copy Storage space: UNBOUNDED (100%)"
	lab_stop vssd
	scene_vssd
	check "a new vssd knows it" equal "$(associations .Explicit)" true
	check "it is a file beside the copies" test -s "$lab/v/.vss/storage.json"
}

refusals() {
	begin "what may not be is refused, with its reason"
	try resize shadowstorage --for "$volume" --on "$volume" --maxsize 1GB
	check "sizes of what shares its blocks" equal "$code" 1
	check "which is said" contains "$lab/err" "only UNBOUNDED"
	try resize shadowstorage --for "$volume" --on "$volume" --maxsize much
	check "what is no size" equal "$code" 2
	try add shadowstorage --for "$volume" --on no-such-storage
	check "what is no storage" equal "$code" 3
	try add shadowstorage --for /proc --on /proc
	check "what is no volume" equal "$code" 1
	try add shadowstorage --for "$volume"
	check "without saying where" equal "$code" 2
}

scene_start "$1"
scene_vssd
candidates
implicit
explicit
refusals
scene_done
