#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What a set says of itself: for each value of Consistency and Instant a set that must get it and one that just misses it.
# (Consistency "crash" needs a provider whose copies can be unclean: the unit tests cover it.)
# Usage: test-labels.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

# labelled CONSISTENCY INSTANT [REASON]: of the last set; its copies' rows and records say the same.
labelled() {
	local set

	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	set=$(scene_result .Set)
	check "Consistency" equal "$(scene_result .Consistency)" "$1"
	check "Instant" equal "$(scene_result .Instant)" "$2"
	scene_result '"\(.ConsistencyReason) \(.InstantReason)"' >"$lab/reason"
	if [ "$1 $2" = "application set" ]; then
		check "no reason is needed" equal "$(cat "$lab/reason")" " "
	else
		check "the reason" contains "$lab/reason" "${3:-.}"
	fi
	vssctl list shadows --set "$set" --json >"$lab/rows"
	check "the copies' rows say the same" equal \
		"$(jq -r '[.shadows[] | "\(.Consistency) \(.Instant)"] | unique | .[]' "$lab/rows")" "$1 $2"
	check "the records say the same" equal \
		"$(jq -r '"\(.Record.Consistency) \(.Record.Instant)"' "$lab"/v/.vss/*/record.json | sort -u)" "$1 $2"
	vssctl delete shadows --set "$set" -y >/dev/null
	try create shadow --for "$volume" --for "$volume" "${again[@]}"
	if [ "$2" = set ] && [ "$1" != application ]; then
		check "people are told too" contains "$lab/out" "Consistency: $1 (.*)"
	fi
	scene_clear
}

writer() {
	scene_end_writer "$1"
	scene_writer "$@"
}

make() {
	again=("$@")
	try create shadow "$@" --json
}

again=()
other="" # a second subvolume of the same filesystem

scene_start "$1"
other=$lab/v/other
btrfs --quiet subvolume create "$other"
scene_expect Expected "$other"
scene_expect Hidden
scene_vssd

begin "not application: nothing says where an expected writer's data lie that has never been seen"
writer One --path "$volume"
make --for "$volume"
labelled filesystem set "'Hidden'.*nothing says where"

begin "application: every expected writer with data there took part and held"
writer Hidden --path "$lab"
writer Two --path "$volume"
make --for "$volume"
labelled application set

begin "application: an absent writer whose data lie elsewhere does not matter"
check "it is absent" equal "$(scene_row Expected .Present)" false
make --for "$volume"
labelled application set

begin "application: an expected writer has gone, and it is known that its data lie elsewhere"
scene_end_writer Hidden
make --for "$volume"
labelled application set

begin "application: a writer for all volumes is enough"
scene_end_writer One Two
writer All --all-volumes
make --for "$volume"
labelled application set
scene_end_writer All

begin "not application: no writer has data there"
make --for "$volume"
labelled filesystem set "No writer has data"

begin "not application: an expected writer with data there is absent"
writer Two --path "$other"
make --for "$other"
scene_result .ConsistencyReason >"$lab/reason"
check "Consistency" equal "$(scene_result .Consistency)" filesystem
check "the reason names it" contains "$lab/reason" "'Expected'"
scene_clear "$other"

begin "application again: the expected one runs"
writer Expected --path "$other"
make --for "$other"
check "Consistency" equal "$(scene_result .Consistency)" application
scene_clear "$other"
scene_end_writer Two

writer One --path "$volume"

begin "not application: a writer was excluded"
make --for "$volume" --exclude-writer One
labelled filesystem set "'One' was excluded"

begin "application: a writer without data there was excluded"
writer Two --path "$other"
make --for "$volume" --exclude-writer Two
labelled application set
scene_end_writer Two

for event in PrepareBackup PrepareSnapshot Freeze Thaw PostSnapshot; do
	begin "not application: a writer failed at $event and the set went on without it"
	writer Two --path "$volume" --on "$event=fail:non-retryable:it cannot"
	make --for "$volume" --on-writer-failure degrade
	labelled filesystem set "'Two' failed at $event.*it cannot"
done
scene_end_writer Two

begin "not application: a writer broke its freeze"
writer Two --path "$volume" --on Freeze=break
make --for "$volume" --on-writer-failure degrade
labelled filesystem set "'Two' failed at Thaw.*broken"
scene_end_writer Two

begin "a writer that fails after the copies are sealed takes nothing from them"
writer Two --path "$volume" --on BackupComplete=fail:non-retryable --on BackupShutdown=fail:non-retryable
make --for "$volume"
labelled application set
scene_end_writer Two

begin "a writer that failed and is gone, and that nobody expects, takes nothing from a set"
check "its failure is still listed" equal "$(scene_row Two '"\(.Present) \(.Expected)"')" "false false"
make --for "$volume"
labelled application set

begin "Instant set: one subvolume, named twice"
make --for "$volume" --for "$volume/."
labelled application set

begin "Instant volume: a second subvolume of the same filesystem"
writer Expected --path "$other"
try create shadow --for "$volume" --for "$other" --json
check "the set is made" equal "$code" 0
check "Instant" equal "$(scene_result .Instant)" volume
check "Consistency does not suffer" equal "$(scene_result .Consistency)" application
scene_result .InstantReason >"$lab/reason"
check "the reason" contains "$lab/reason" "2 btrfs subvolumes.*instant of its own"
check "people are told too" equal "$(vssctl list shadows --set "$(scene_result .Set)" --json |
	jq -r '[.shadows[].Instant] | unique | .[]')" volume
vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null

begin "Instant volume: two filesystems"
lab_make_btrfs w 256M 2>/dev/null
try create shadow --for "$volume" --for "$lab/w" --json
check "Instant" equal "$(scene_result .Instant)" volume
vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
check "nothing is left" scene_no_copies
check "nothing is left" scene_no_copies w

scene_done
