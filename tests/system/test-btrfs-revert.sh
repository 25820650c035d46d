#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A btrfs subvolume made what a copy of it says: what is put back, what stays, and what is refused with its reason.
# Usage: test-btrfs-revert.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

create() {
	try create shadow --for "${1:-$volume}" --json
	check "a copy is made" equal "$code" 0
	copy=$(jq -r '.result.Shadows[0].Shadow // .result.Members[0].Shadow' "$lab/out")
}

copies() {
	vssctl list shadows --for "$volume" --json | jq -r '.shadows[].Shadow' | sort | tr '\n' ' '
}

left() {
	find "$lab/v/.vss" -mindepth 2 -name 'revert*' -o -mindepth 2 -name '*.new'
}

put_back() {
	local older

	begin "a subvolume below a mount is put back, and its copies stay its copies"
	echo first >"$volume/file"
	chmod 0710 "$volume"
	try add shadowstorage --for "$volume" --on "$volume"
	create
	older=$copy
	echo second >"$volume/file"
	create
	echo third >"$volume/file"
	touch "$volume/new"
	chmod 0777 "$volume"
	try revert shadow --shadow "$copy" -y
	check "exit code" equal "$code" 0
	check "said" contains "$lab/out" "$volume is reverted"
	check "the file is as it was" equal "$(cat "$volume/file")" second
	check "what is new is gone" test ! -e "$volume/new"
	check "with the directory's own mode" equal "$(stat -c %a "$volume")" 710
	check "it can be written to" touch "$volume/written"
	check "both copies are still copies of it" equal "$(copies)" "$(printf '%s\n' "$older" "$copy" | sort | tr '\n' ' ')"
	check "its storage association is too" equal "$(vssctl list shadowstorage --for "$volume" --json | jq '.shadowstorage[].Explicit')" true
	check "nothing is left over" equal "$(left)" ""
	try revert shadow --shadow "$older" -y
	check "to the older one" equal "$code$(cat "$volume/file")" 0first
	lab_stop vssd
	scene_vssd
	check "a new vssd knows the copies as well" equal "$(copies)" "$(printf '%s\n' "$older" "$copy" | sort | tr '\n' ' ')"
	try delete shadows --for "$volume" --all -y
	check "they can be deleted" equal "$code" 0
	check "whole" equal "$(find "$lab/v/.vss" -mindepth 1 -maxdepth 1 -type d)" ""
}

# refused CODE TEXT: nothing changes.
refused() {
	try revert shadow --shadow "$copy" -y
	check "refused" equal "$code" "$1"
	check "with the reason" contains "$lab/err" "$2"
	check "nothing is changed" equal "$(cat "$volume/file")" later
	check "nothing is left over" equal "$(left)" ""
}

refusals() {
	local holder

	begin "what cannot be put back is refused"
	echo first >"$volume/file"
	create
	echo later >"$volume/file"

	mkdir "$lab/m"
	mount -t btrfs -o subvol=data "$device" "$lab/m"
	lab_defer lab_unmount "$lab/m"
	refused 75 "mounted at $lab/m.*cannot be replaced"
	umount "$lab/m"

	lab_spawn elsewhere unshare --mount sh -c "mount -t btrfs -o subvol=data '$device' '$lab/m' && echo there && exec sleep 60"
	lab_wait 5 grep -q there "$lab/elsewhere.log"
	refused 75 "mounted at $lab/m of process"
	lab_stop elsewhere

	lab_spawn holder sh -c "exec sleep 60 3<'$volume/file'"
	lab_wait 5 test /proc/"${lab_pid[holder]}"/fd/3 -ef "$volume/file"
	refused 75 "in use by sleep"
	lab_stop holder

	btrfs --quiet subvolume create "$volume/nested"
	refused 1 "holds another subvolume, nested"
	btrfs --quiet subvolume delete "$volume/nested"

	mv "$volume" "$volume-moved"
	btrfs --quiet subvolume create "$volume"
	echo later >"$volume/file"
	try revert shadow --shadow "$copy" -y
	check "one that was moved is put back where it is" equal "$code$(cat "$volume-moved/file")" 0first
	check "which is said" contains "$lab/out" "^$volume-moved is reverted"
	check "what has its old place is left alone" equal "$(cat "$volume/file")" later
	btrfs --quiet subvolume delete "$volume-moved"
	refused 3 "is another volume now"

	create "$lab/v"
	try revert shadow --shadow "$copy" -y
	check "the top level" equal "$code" 1
	check "with the reason" contains "$lab/err" "top-level subvolume"
}

unmounted() {
	begin "a volume that was mounted itself is put back below the top level"
	mount -t btrfs -o subvol=data "$device" "$lab/m"
	echo first >"$lab/m/file"
	create "$lab/m"
	echo later >"$lab/m/file"
	umount "$lab/m"
	try revert shadow --shadow "$copy" -y
	check "exit code" equal "$code" 0
	check "the file is as it was" equal "$(cat "$volume/file")" first
	mount -t btrfs -o subvol=data "$device" "$lab/m"
	check "where it was mounted, too" equal "$(cat "$lab/m/file")" first
	check "its copy is found there" equal "$(vssctl list shadows --for "$lab/m" --json | jq -r '.shadows[].Shadow' | grep -c "$copy")" 1
	umount "$lab/m"
}

scene_start "$1"
scene_vssd
device=$(findmnt --noheadings --output SOURCE --target "$lab/v")
put_back
refusals
unmounted
scene_done
