#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vssd is killed or terminated in each phase and started again: a set under way is given up cleanly or finished, a backup
# whose copies are made goes on as if nothing had happened, half-made copies go, writers and leases are taken up again.
# Usage: test-restart.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

stopped=0 # when vssd was last stopped

# vssd_down SIGNAL: and waits for its end.
vssd_down() {
	local pid=${lab_pid[vssd]} i

	stopped=$(scene_now)
	kill -s "$1" "$pid"
	for ((i = 0; i < 600; i++)); do
		kill -0 "$pid" 2>/dev/null || break
		[[ "$(awk '{ print $3 }' "/proc/$pid/stat" 2>/dev/null)" != Z ]] || break
		sleep 0.02
	done
	wait "$pid" 2>/dev/null || true
	unset 'lab_pid[vssd]'
	cat "$lab/vssd.log" >>"$lab/vssd.before.log"
}

vssd_up() {
	scene_gated_vssd
}

writers_again() {
	scene_end_writer Good
	scene_writer Good --path "$volume" "$@"
}

nothing_left() {
	check "no session remains" lab_wait 8 scene_no_session
	check "no copy remains" lab_wait 5 scene_no_copies
}

works() {
	writers_again
	try create shadow --for "$volume" --json
	[ "$code" -eq 0 ] && equal "$(scene_result .Consistency)" application && scene_clear && scene_no_copies
}

# What is so after vssd was killed while the set was being made.
set_given_up() {
	scene_ended backup 15
	check "exit code: worth another try" equal "$code" 75
	check "the requestor is told why" contains "$lab/err" "restarted\|0x8004f004"
	nothing_left
	check "the next set works" works
}

killed_in_writer_phase() {
	local event=$1 state=$2

	begin "killed in $state"
	writers_again --on "$event=once:late:2500"
	scene_background backup backup --for "$volume" -- true
	check "it is in $state" lab_wait 5 scene_is_in "$state"
	vssd_down KILL
	sleep 0.3
	vssd_up
	if [ "$event" = Freeze ] || [ "$event" = Thaw ]; then
		check "the writer lets go by itself" lab_wait 5 scene_runs_again_already
		check "the writer runs again at once" soon "$stopped" "$(scene_runs_again Good)" 1500
	fi
	set_given_up
}

scene_runs_again_already() {
	[ -n "$(scene_runs_again Good)" ]
}

killed_in_worker_phase() {
	local op=$1 state=$2

	begin "killed in $state, while the worker is at it"
	writers_again
	scene_gate "$op" "delay 1500"
	scene_background backup backup --for "$volume" -- true
	check "the worker is at it" lab_wait 5 scene_at_gate "$op"
	vssd_down KILL
	[ "$op" = prepare ] || check "something half-made is there" contains <(scene_copies) unfinished
	vssd_up
	set_given_up
}

killed_while_worker_ends_with_it() {
	local i tries found=0

	tries=$(scene_level 5 15 100)
	begin "killed at $tries moments of a set"
	writers_again
	for ((i = 0; i < tries; i++)); do
		scene_background backup create shadow --for "$volume"
		sleep "$(awk -v i="$i" -v n="$tries" 'BEGIN { printf "%.4f", 0.005 + 0.05 * i / n }')"
		vssd_down KILL
		! scene_copies | grep -q unfinished || found=$((found + 1))
		vssd_up
		scene_ended backup 15
		check "the requestor is answered" differ "$code" 124
		check "what is left is whole" lab_wait 5 scene_all_whole
		if [ "$code" -eq 0 ]; then
			check "success means a copy" differ "$(scene_copies)" ""
		fi
		scene_clear
	done
	seen "$found of them left something half-made, which the next start removed"
	check "no copy remains" lab_wait 5 scene_no_copies
	check "the next set works" works
}

terminated_in_writer_phase() {
	local event=$1 state=$2

	begin "terminated in $state: the set is finished first"
	writers_again --on "$event=once:late:1500"
	scene_background backup backup --for "$volume" -- true
	check "it is in $state" lab_wait 5 scene_is_in "$state"
	vssd_down TERM
	vssd_up
	scene_ended backup 15
	check "the backup succeeds" equal "$code" 0
	check "the writer heard BackupComplete" scene_heard Good BackupComplete
	check "the writer was not told to abort" refuse scene_heard Good Abort
	nothing_left
}

# restarted_during_command SIGNAL SECONDS_DOWN TIMES
restarted_during_command() {
	local i

	begin "SIG$1 while COMMAND runs, $2 s without vssd, $3 times"
	writers_again
	echo "the data" >"$volume/file"
	rm -f "$lab/go"
	# shellcheck disable=SC2016
	scene_background backup backup --for "$volume" -- sh -c \
		'for i in $(seq 600); do [ ! -e "$1" ] || break; sleep 0.1; done; cat "$VSS_COPY_1/file"' command "$lab/go"
	check "its copies are made" lab_wait 5 scene_is_in Created
	for ((i = 0; i < $3; i++)); do
		vssd_down "$1"
		sleep "$2"
		vssd_up
		check "the session is taken up again" equal "$(scene_state)" Created
		check "the copy is listed" equal "$(vssctl list shadows --for "$volume" --json | jq '.shadows | length')" 1
		check "the copy is whole" scene_all_whole
	done
	touch "$lab/go"
	scene_ended backup 15
	check "the backup succeeds" equal "$code" 0
	check "COMMAND read the copy" contains "$lab/err" "the data"
	check "the writer heard BackupComplete" scene_heard Good BackupComplete
	check "the writer heard BackupShutdown" lab_wait 3 scene_heard Good BackupShutdown
	nothing_left
}

back_after_command() {
	begin "vssd is away when COMMAND ends, and comes back"
	writers_again
	scene_background backup backup --for "$volume" -- sleep 1
	check "its copies are made" lab_wait 5 scene_is_in Created
	vssd_down KILL
	sleep 2
	vssd_up
	scene_ended backup 15
	check "the backup succeeds" equal "$code" 0
	check "the writer heard BackupComplete" scene_heard Good BackupComplete
	nothing_left
}

killed_in_completing() {
	begin "killed in Completing"
	writers_again --on BackupComplete=once:late:1500
	scene_background backup backup --for "$volume" -- true
	check "it is in Completing" lab_wait 5 scene_is_in Completing
	vssd_down KILL
	vssd_up
	scene_ended backup 15
	check "the backup succeeds" equal "$code" 0
	nothing_left
}

requestor_gone_meanwhile() {
	begin "the requestor dies while vssd is away"
	writers_again
	scene_background backup backup --for "$volume" -- sleep 20
	check "its copies are made" lab_wait 5 scene_is_in Created
	vssd_down KILL
	kill -s KILL "${lab_pid[backup]}"
	scene_ended backup
	check "the copy is still there" scene_all_whole
	vssd_up
	nothing_left
	check "the writer heard BackupShutdown" lab_wait 3 scene_heard Good BackupShutdown
}

lease() {
	local token

	begin "a detached session is adopted after a restart"
	writers_again
	scene_steps one
	scene_step one 'new {}'
	scene_step one "add $volume"
	scene_step one snapshot
	check "its copies are made" scene_ok
	scene_step one detach 60
	token=$(jq -r .value <<<"$answer")
	scene_steps_end one KILL
	sleep 0.3
	check "it outlives its requestor" equal "$(scene_state)" Created
	vssd_down KILL
	vssd_up
	check "it is taken up again" equal "$(scene_state)" Created
	scene_steps two
	scene_step two adopt "$token"
	check "it is adopted" scene_ok
	scene_step two succeeded 1
	scene_step two complete
	check "it is completed" scene_ok
	check "the writer heard BackupComplete" scene_heard Good BackupComplete
	scene_step two free
	scene_steps_end two
	nothing_left

	begin "a lease ends while vssd is away"
	writers_again
	scene_steps three
	scene_step three 'new {}'
	scene_step three "add $volume"
	scene_step three snapshot
	scene_step three detach 2
	check "it is detached" scene_ok
	scene_steps_end three
	vssd_down KILL
	sleep 2.5
	check "the copy is still there" scene_all_whole
	vssd_up
	nothing_left
	check "the writer heard BackupShutdown" lab_wait 3 scene_heard Good BackupShutdown
}

other_hosts_copies() {
	local mine=$scene_machine copy

	begin "another machine's unfinished copy is listed and left alone"
	writers_again
	scene_gate seal "delay 5000"
	scene_background backup create shadow --for "$volume"
	check "the worker is at it" lab_wait 5 scene_at_gate seal
	vssd_down KILL
	copy=$(scene_copies | sed -n 's|^\.vss/\([^/]*\)$|\1|p')
	check "something half-made is there" contains <(scene_copies) unfinished
	scene_machine=$(tr -d - </proc/sys/kernel/random/uuid)
	scene_configure "${limits_here[@]}"
	rm -rf "$lab/run"
	vssd_up
	scene_ended backup 15
	sleep 0.5
	vssctl list shadows --for "$volume" --json >"$lab/out" || true
	vssctl list shadows --shadow "$copy" --json >"$lab/out" || true
	check "it is listed" equal "$(jq -r '.shadows[0] | "\(.State) \(.Host)"' "$lab/out")" "unfinished $mine"
	check "it is still there" contains <(scene_copies) "$copy/unfinished"
	try create shadow --for "$volume"
	check "a set beside it works" equal "$code" 0
	check "it is still there" contains <(scene_copies) "$copy/unfinished"

	begin "another machine's finished copies are listed as foreign, persistent or not"
	vssd_down TERM
	scene_machine=$mine
	scene_configure "${limits_here[@]}"
	vssd_up
	check "our own unfinished one is removed now" lab_wait 5 refuse sh -c "ls '$lab/v/.vss' | grep -q $copy"
	vssctl list shadows --for "$volume" --json >"$lab/out"
	check "the other's is foreign" equal "$(jq -r '.shadows[0].State' "$lab/out")" foreign
	check "the other's is whole" scene_all_whole
	scene_clear
	check "it can be deleted" lab_wait 3 scene_no_copies
}

writers_known() {
	begin "writers are known again"
	writers_again
	scene_end_writer Bare Mortal
	# One that lacks a method is not libvsswriter's: it does not register again by itself.
	scene_writer Bare --path "$volume" --on PreRestore=unknown
	scene_writer Mortal --path "$volume"
	vssd_down KILL
	scene_kill_quietly Mortal
	vssd_up
	check "libvsswriter's" lab_wait 3 equal_quietly Good true
	check "one by hand" equal_quietly Bare true
	check "one that died meanwhile is not there" lab_wait 2 refuse equal_quietly Mortal true
	try create shadow --for "$volume" --json
	check "a set with them works" equal "$code" 0
	check "its label" equal "$(scene_result .Consistency)" application
	scene_clear
	scene_end_writer Bare
}

scene_kill_quietly() {
	kill -s KILL "${lab_pid[$1]}"
	wait "${lab_pid[$1]}" 2>/dev/null || true
	unset "lab_pid[$1]"
}

equal_quietly() {
	[ "$(scene_row "$1" .Present)" = "$2" ]
}

limits_here=(PrepareBackup=10s PrepareSnapshot=10s Freeze=10s Event=10s)
scene_start "$1"
scene_configure "${limits_here[@]}"
vssd_up

killed_in_writer_phase PrepareBackup PreparingBackup
killed_in_writer_phase PrepareSnapshot Preparing
killed_in_writer_phase Freeze FreezingFrontEnd
killed_in_writer_phase Thaw ThawingFrontEnd
killed_in_writer_phase PostSnapshot PostSnapshot
killed_in_worker_phase prepare Preparing
killed_in_worker_phase cut Cutting
killed_in_worker_phase open Opening
killed_in_worker_phase seal Sealing
killed_while_worker_ends_with_it
terminated_in_writer_phase PrepareBackup PreparingBackup
terminated_in_writer_phase Freeze FreezingFrontEnd
terminated_in_writer_phase PostSnapshot PostSnapshot
restarted_during_command KILL 0 1
restarted_during_command TERM 0 1
restarted_during_command KILL 0.5 3
back_after_command
killed_in_completing
requestor_gone_meanwhile
lease
other_hosts_copies
writers_known
scene_done
