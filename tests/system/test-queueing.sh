#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Sets that share something queue, and it is shown on what; sets that share nothing run side by side; what --wait and
# --retries do.
# Usage: test-queueing.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

other="" # a second subvolume of the same filesystem

writer() {
	scene_end_writer "$1"
	scene_writer "$@"
}

session_of() {
	vssctl list sessions --json | jq -r --argjson p "${lab_pid[$1]}" '.sessions[] | select(.Pid == $p) | '"$2"
}

one_is_in() {
	[ "$(session_of "$1" .State)" = "$2" ]
}

# frozen WRITER: "begin end" of its last freeze, in microseconds
frozen() {
	awk '$3 == "Freeze" && $6 == "begin" { b = $1 } $3 == "Thaw" && $6 == "end" { e = $1 } END { print b, e }' "$lab/$1.events"
}

overlap() {
	[ "$1" -lt "$4" ] && [ "$3" -lt "$2" ]
}

one_filesystem() {
	local first second

	begin "two sets on one filesystem queue, and who holds what is shown"
	writer First --path "$volume" --on Freeze=once:late:1500
	writer Second --path "$other"
	scene_background first create shadow --for "$volume"
	check "the first one has begun" lab_wait 5 scene_heard First Freeze
	scene_background second create shadow --for "$other"
	check "the second one waits" lab_wait 5 one_is_in second Waiting
	first=$(session_of first .Id) second=$(session_of second .Id)
	vssctl list sessions >"$lab/sessions"
	check "it is shown for what, and for whom" contains "$lab/sessions" \
		"Session $second waits for .*, held by session $first (.*create shadow"
	check "JSON tells the same" equal "$(session_of second '.WaitingFor[0].Session')" "$first"
	try create shadow --for "$other" --wait 0
	check "--wait 0: exit code for what may work later" equal "$code" 75
	check "--wait 0: says who holds it" contains "$lab/err" "$first.*0x80042316"
	try create shadow --for "$other" --wait 1
	check "--wait 1 is over before the first one ends" equal "$code" 75
	scene_ended first
	check "the first one is made" equal "$code" 0
	scene_ended second
	check "the second one is made then" equal "$code" 0
	# shellcheck disable=SC2046
	check "they were never frozen together" refuse overlap $(frozen First) $(frozen Second)
	scene_clear "$volume" "$other"
	check "all deleted" scene_no_copies
}

two_filesystems() {
	begin "sets on filesystems of their own run side by side"
	writer First --path "$volume" --on Freeze=once:late:1200
	writer Second --path "$lab/w" --on Freeze=once:late:1200
	scene_background first create shadow --for "$volume"
	scene_background second create shadow --for "$lab/w"
	check "both are frozen at once" lab_wait 5 both_frozen
	scene_ended first
	check "the first one is made" equal "$code" 0
	scene_ended second
	check "the second one is made" equal "$code" 0
	# shellcheck disable=SC2046
	check "their times overlap" overlap $(frozen First) $(frozen Second)
	scene_clear "$volume" "$lab/w"
}

both_frozen() {
	[ "$(vssctl list sessions --json | jq '[.sessions[] | select(.State == "FreezingFrontEnd")] | length')" = 2 ]
}

one_writer() {
	begin "sets that share a writer queue too, though their filesystems are their own"
	scene_end_writer Second
	writer First --all-volumes --on Freeze=once:late:1200
	scene_background first create shadow --for "$volume"
	check "the first one has begun" lab_wait 5 scene_heard First Freeze
	scene_background second create shadow --for "$lab/w"
	check "the second one waits for the writer" lab_wait 5 one_is_in second WaitingForWriters
	vssctl list sessions >"$lab/sessions"
	check "that is shown" contains "$lab/sessions" "Session $(session_of second .Id) waits for writer.*, held by session"
	scene_ended first
	check "the first one is made" equal "$code" 0
	scene_ended second
	check "the second one is made then" equal "$code" 0
	scene_clear "$volume" "$lab/w"
	scene_end_writer First
}

holder_dies() {
	begin "whoever waits goes on at once when the holder is killed"
	writer First --path "$volume" --on Freeze=once:late:4000
	writer Second --path "$other"
	scene_background first create shadow --for "$volume"
	check "the first one has begun" lab_wait 5 scene_heard First Freeze
	scene_background second create shadow --for "$other"
	check "the second one waits" lab_wait 5 one_is_in second Waiting
	kill -s KILL "${lab_pid[first]}"
	scene_ended second 3
	check "the second one is made" equal "$code" 0
	scene_ended first
	scene_clear "$other"

	begin "vssctl abort ends the holder"
	writer First --path "$volume" --on Freeze=once:late:4000
	scene_background first create shadow --for "$volume"
	check "the first one has begun" lab_wait 5 scene_heard First Freeze
	try abort --session "$(session_of first .Id)"
	check "abort" equal "$code" 0
	scene_ended first
	check "the first one has failed" differ "$code" 0
	check "its writer was let go" scene_heard First Abort
	check "nothing is left" lab_wait 3 scene_no_copies
}

in_order() {
	local i names=()

	begin "ten sets on one filesystem: each gets its turn"
	writer First --path "$volume"
	for ((i = 0; i < 10; i++)); do
		scene_background "set$i" create shadow --for "$volume"
		names+=("set$i")
	done
	for i in "${names[@]}"; do
		scene_ended "$i" 20
		check "$i is made" equal "$code" 0
	done
	check "ten copies" equal "$(vssctl list shadows --for "$volume" --json | jq '.shadows | length')" 10
	check "each is whole" scene_all_whole
	scene_clear
	check "all deleted" scene_no_copies
}

retries() {
	begin "--retries repeats what is retryable"
	writer First --path "$volume" --on Freeze=once:fail:retryable:"not now"
	try create shadow --for "$volume" --retries 2 --json
	check "the second attempt works" equal "$code" 0
	check "both are on record" equal "$(scene_result '[.Attempts[] | "\(.Number) \(.Error)"] | join(", ")')" \
		"1 WriterRetryable, 2 "
	check "the copy is labelled by the attempt that made it" equal "$(scene_result .Consistency)" application
	check "and is the only one" scene_all_whole
	scene_clear

	begin "--retries gives up at last"
	writer First --path "$volume" --on Freeze=fail:out-of-resources:"still not"
	try create shadow --for "$volume" --retries 2
	check "exit code" equal "$code" 75
	check "three attempts" equal "$(grep -c " Freeze .* begin" "$lab/First.events")" 3
	check "nothing is left" scene_no_copies

	begin "--retries does not repeat what would fail again"
	writer First --path "$volume" --on Freeze=fail:non-retryable:never
	try create shadow --for "$volume" --retries 5
	check "exit code" equal "$code" 1
	check "one attempt" equal "$(grep -c " Freeze .* begin" "$lab/First.events")" 1

	begin "--retries with one retryable failure and one that is not"
	writer First --path "$volume" --on Freeze=fail:non-retryable:never
	writer Second --path "$volume" --on Freeze=once:fail:retryable:later
	try create shadow --for "$volume" --retries 5
	# The first failure ends the attempt: the other one may be heard in the next one only.
	check "two attempts at most" at_most "$(grep -c " Freeze .* begin" "$lab/First.events")" 2
	scene_end_writer Second
}

scene_start "$1" setsid
scene_configure Freeze=10s PrepareBackup=10s PrepareSnapshot=10s Event=10s
other=$lab/v/other
btrfs --quiet subvolume create "$other"
# On storage that shares nothing with the first: its image lies in memory, the first one's on the disk of $lab.
mkdir "$lab/ram"
lab_defer lab_unmount "$lab/ram"
mount -t tmpfs tmpfs "$lab/ram"
truncate -s 256M "$lab/ram/w.img"
mkfs.btrfs --quiet "$lab/ram/w.img" 2>/dev/null
w_device=$(losetup --find --show "$lab/ram/w.img")
lab_defer losetup --detach "$w_device"
mkdir "$lab/w"
lab_defer lab_unmount "$lab/w"
mount "$w_device" "$lab/w"
scene_vssd

one_filesystem
two_filesystems
one_writer
holder_dies
in_order
retries
scene_done
