#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Writers that fail, hang, die, answer late, break their freeze, at every event: the others run again at once, it is
# told what happened, nothing half-made stays, and the next set works with nothing restarted.
# Usage: test-writer-failures.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

limit=1000000 # of every event, in vssd.conf

declare -A state=([Identify]=6 [PrepareBackup]=7 [PrepareSnapshot]=8 [Freeze]=9 [Thaw]=10 [PostSnapshot]=11
	[BackupComplete]=12 [BackupShutdown]=15)

writers_begin() {
	scene_end_writer Good Bad
	scene_writer Good --path "$volume"
	scene_writer Bad --path "$volume" "$@"
}

# writer_told EVENT NUMBER LASTERROR CODE [WORDS]: `list writers -v` names event, code, words and times.
writer_told() {
	vssctl list writers -v >"$lab/writers"
	sed -n "/^Writer name: 'Bad'/,/^\$/p" "$lab/writers" >"$lab/writers.bad"
	contains "$lab/writers.bad" "^   State: \[$2\] Failed" &&
		contains "$lab/writers.bad" "^   Last error: $3\$" &&
		contains "$lab/writers.bad" "^   Failed at: $1, 2[-0-9]* [:0-9]* .*, after [0-9.]* m\?s" &&
		contains "$lab/writers.bad" "^   Code: $4\$" &&
		contains "$lab/writers.bad" "^   Message: ${5:-.}" &&
		contains "$lab/writers.bad" "^   Unit: bad.service"
}

good_is_stable() {
	equal "$(scene_row Good '"\(.State) \(.LastError)"')" "1 No error"
}

# set_failed EVENT EXPECTED_CODE ALLOWANCE: what is so after every failure before the copies are sealed.
set_failed() {
	local failed_at

	failed_at=$(scene_when Bad "$1")
	check "exit code" equal "$code" "$2"
	check "the other writer runs again at once" soon "$((${failed_at:-0} + $3))" "$(scene_runs_again Good)" 1000
	seen "Good runs again $((($(scene_runs_again Good) - ${failed_at:-0} - $3) / 1000)) ms after the failure"
	check "the other writer is well" good_is_stable
	check "the other writer heard of the end" lab_wait 3 scene_heard Good BackupShutdown
	check "no copy remains" lab_wait 2 scene_no_copies
	check "no session remains" lab_wait 3 scene_no_session
}

# next_works LABEL: with nothing restarted
next_works() {
	try create shadow --for "$volume" --json
	check "the next set works" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	check "the next set's label" equal "$(scene_result .Consistency)" "$1"
	check "the next set is whole" scene_all_whole
	scene_clear
}

fails_freeze_with() {
	local action=$1 last_error=$2 number=$3 expected=$4

	begin "Freeze fails: $action"
	writers_begin --on "Freeze=once:fail:$action:words on $action"
	try backup --for "$volume" -- true
	set_failed Freeze "$expected" 0
	check "stderr names the writer and its words" contains "$lab/err" "'Bad'.*words on $action"
	check "list writers tells" writer_told Freeze 9 "$last_error" "$number" "words on $action"
	next_works application
	check "a failure is no latch" equal "$(scene_row Bad .Code)" 0
}

# fails_at EVENT ACTION ALLOWANCE LASTERROR NUMBER WORDS EXIT_CODE NEXT_LABEL
fails_at() {
	local event=$1 action=$2

	begin "$event: $action"
	writers_begin --on "$event=$action"
	try backup --for "$volume" -- true
	set_failed "$event" "$7" "$3"
	check "list writers tells" writer_told "$event" "${state[$event]}" "$4" "$5" "$6"
	case $action in
	once:*) ;;
	*) scene_end_writer Bad ;; # it hangs for ever
	esac
	next_works "$8"
}

each_event() {
	local event

	for event in PrepareBackup PrepareSnapshot Freeze Thaw PostSnapshot; do
		[ "$event" = Freeze ] ||
			fails_at "$event" once:fail:retryable:later 0 "Retryable error" 0x800423f3 later 75 application
		fails_at "$event" hang "$limit" "Timed out" 0x800423f2 "There was no answer within the limit" 75 filesystem
		fails_at "$event" exit 0 "Not responding" 0x80042319 "The writer's process is gone" 75 filesystem
		fails_at "$event" kill 0 "Not responding" 0x80042319 "The writer's process is gone" 75 filesystem
	done
}

# A failure after the copies are sealed leaves them to the backup; it has to be told.
fails_at_complete() {
	local action=$1 last_error=$2 number=$3

	begin "BackupComplete: $action"
	writers_begin --on "BackupComplete=$action"
	try backup --for "$volume" -- true
	check "exit code: done in part" equal "$code" 6
	check "stderr says so" contains "$lab/err" "COMMAND succeeded, but not every writer could be told so"
	check "list writers tells" writer_told BackupComplete 12 "$last_error" "$number"
	check "the other writer is well" good_is_stable
	check "the other writer heard BackupComplete" scene_heard Good BackupComplete
	check "the copy is gone with the session" lab_wait 3 scene_no_copies
	case $action in
	hang) scene_end_writer Bad ;;
	esac
	try create shadow --for "$volume"
	check "the next set works" equal "$code" 0
	scene_clear
}

fails_at_shutdown() {
	local action=$1 last_error=$2 number=$3

	begin "BackupShutdown: $action"
	writers_begin --on "BackupShutdown=$action"
	try backup --for "$volume" -- true
	check "the backup is done" equal "$code" 0
	check "the session ends" lab_wait 4 scene_no_session
	check "list writers tells" writer_told BackupShutdown 15 "$last_error" "$number"
	check "the other writer is well" good_is_stable
	check "the copy is gone" lab_wait 3 scene_no_copies
	case $action in
	hang) scene_end_writer Bad ;;
	esac
	try create shadow --for "$volume"
	check "the next set works" equal "$code" 0
	scene_clear
}

fails_at_abort() {
	local action=$1

	begin "Freeze fails, then Abort: $action"
	writers_begin --on Freeze=fail:retryable:no --on "Abort=$action"
	try backup --for "$volume" -- true
	set_failed Freeze 75 0
	check "the record keeps the first failure" writer_told Freeze 9 "Retryable error" 0x800423f3 no
	scene_end_writer Bad
	next_works filesystem
}

answers_late() {
	local event

	for event in PrepareBackup Freeze Thaw; do
		begin "$event is answered after the limit"
		writers_begin --on "$event=once:late:1600"
		try backup --for "$volume" -- true
		set_failed "$event" 75 "$limit"
		check "list writers tells" writer_told "$event" "${state[$event]}" "Timed out" 0x800423f2
		sleep 0.5 # the late answer arrives, and means nothing
		next_works application
	done
	begin "Freeze is answered late, but in time"
	writers_begin --on Freeze=once:late:600
	try backup --for "$volume" -- true
	check "the set is made" equal "$code" 0
	check "no writer has failed" good_is_stable
}

breaks_freeze() {
	begin "a writer breaks its freeze before the copy is cut"
	writers_begin --on Freeze=once:break
	try backup --for "$volume" -- true
	check "exit code" equal "$code" 75
	check "list writers tells" writer_told Thaw 10 "Timed out" 0x800423f2 "The freeze was broken"
	check "the other writer runs again at once" soon "$(scene_when Bad Freeze)" "$(scene_runs_again Good)" 1000
	check "no copy remains" scene_no_copies
	next_works application

	begin "a writer's own limit is shorter than the hold takes"
	scene_end_writer Good Bad
	scene_writer Good --path "$volume" --on Freeze=once:late:700
	scene_writer Bad --path "$volume" --freeze-limit 200
	try backup --for "$volume" -- true
	check "exit code" equal "$code" 75
	check "the writer that could not bear more was let go" soon "$(scene_when Bad Freeze)" "$(scene_runs_again Bad)" 1200
	check "no copy remains" scene_no_copies
	next_works application
}

lacks_a_method() {
	local event

	for event in PrepareSnapshot Freeze Thaw; do
		begin "$event: UnknownMethod"
		scene_end_writer Good Bad
		scene_writer Good --path "$volume"
		scene_writer Bad --path "$volume" --on "$event=unknown"
		try backup --for "$volume" -- true
		check "exit code: it would fail again" equal "$code" 1
		check "list writers tells" writer_told "$event" "${state[$event]}" "Non-retryable error" 0x800423f4
		check "the other writer was let go" scene_heard Good "$([ "$event" = Thaw ] && echo Thaw || echo Abort)"
		check "the other writer is well" good_is_stable
		check "no copy remains" scene_no_copies
		scene_end_writer Bad
		next_works filesystem
	done
}

is_stopped() {
	begin "a writer is stopped by SIGSTOP"
	writers_begin
	kill -s STOP "${lab_pid[Bad]}"
	try backup --for "$volume" -- true
	check "exit code" equal "$code" 75
	check "list writers tells" writer_told Identify 6 "Timed out" 0x800423f2
	check "no copy remains" scene_no_copies
	kill -s CONT "${lab_pid[Bad]}"
	sleep 0.3
	next_works application

	begin "a writer stops inside Freeze"
	writers_begin --on Freeze=stop
	try backup --for "$volume" -- true
	set_failed Freeze 75 "$limit"
	check "list writers tells" writer_told Freeze 9 "Timed out" 0x800423f2
	scene_end_writer Bad
	next_works filesystem
}

dies_between_events() {
	begin "a frozen writer is killed while another one freezes"
	scene_end_writer Good Bad
	scene_writer Good --path "$volume" --level back-end --on Freeze=once:late:600
	scene_writer Bad --path "$volume" --level front-end
	lab_spawn backup "$build/requestor/vssctl" backup --for "$volume" -- true
	lab_wait 5 scene_heard Good Freeze
	scene_end_writer Bad
	code=0
	wait "${lab_pid[backup]}" || code=$?
	unset 'lab_pid[backup]'
	check "exit code" equal "$code" 75
	check "the other writer runs again" soon "$(scene_when Good Freeze)" "$(scene_runs_again Good)" 1600
	check "list writers tells" writer_told Thaw 10 "Not responding" 0x80042319
	check "no copy remains" scene_no_copies
	next_works filesystem
}

holds_up_others_of_other_levels() {
	begin "a writer of the system level hangs in Thaw; applications do not wait for it"
	scene_end_writer Good Bad
	scene_writer Good --path "$volume" --level front-end
	scene_writer Bad --path "$volume" --level system --on Thaw=hang
	try backup --for "$volume" -- true
	check "the application is held for a second at most" soon "$(scene_when Bad Thaw)" "$(scene_runs_again Good)" 1500
	check "exit code" equal "$code" 75
	check "no copy remains" scene_no_copies
	scene_end_writer Bad
}

is_expected_and_absent() {
	begin "an expected writer is not running: the label goes down, the set goes on"
	scene_end_writer Good Bad
	scene_writer Good --path "$volume"
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	check "its label" equal "$(scene_result .Consistency)" filesystem
	scene_result .ConsistencyReason >"$lab/reason"
	check "the reason" contains "$lab/reason" "expected writer 'Bad'.*not running"
	check "it is listed" equal "$(scene_row Bad '"\(.Present) \(.Expected)"')" "false true"
	vssctl list writers -v >"$lab/writers"
	check "-v says so" contains "$lab/writers" "Present: no, expected: yes"
	scene_clear
	try create shadow --for "$volume" --require-writer Bad
	check "--require-writer makes that a failure" equal "$code" 3
	check "nothing was made" scene_no_copies
}

policies() {
	begin "--on-writer-failure degrade"
	writers_begin --on Freeze=once:fail:non-retryable:"no freeze today"
	try create shadow --for "$volume" --on-writer-failure degrade --json
	check "the set is made" equal "$code" 0
	check "its label" equal "$(scene_result .Consistency)" filesystem
	scene_result .ConsistencyReason >"$lab/reason"
	check "the reason" contains "$lab/reason" "Bad.*no freeze today"
	scene_clear

	begin "--exclude-writer"
	writers_begin --on Freeze=fail:non-retryable
	try create shadow --for "$volume" --exclude-writer Bad --json
	check "the set is made" equal "$code" 0
	check "its label" equal "$(scene_result .Consistency)" filesystem
	check "the writer was asked nothing" refuse scene_heard Bad PrepareBackup
	scene_clear
}

identify() {
	begin "Identify hangs while another answers"
	writers_begin --on Identify=hang
	try list writers --probe -v
	check "exit code" equal "$code" 0
	cp "$lab/out" "$lab/writers"
	sed -n "/^Writer name: 'Bad'/,/^\$/p" "$lab/writers" >"$lab/writers.bad"
	check "the one that hangs is shown" contains "$lab/writers.bad" "Last error: Not responding"
	check "the other one is well" good_is_stable
	scene_end_writer Bad
}

reset_writer() {
	begin "reset writer clears the record"
	writers_begin --on Freeze=fail:non-retryable:broken
	try backup --for "$volume" -- true
	check "it failed" writer_told Freeze 9 "Non-retryable error" 0x800423f4 broken
	try reset writer Bad
	check "exit code" equal "$code" 0
	check "the record is clear" equal "$(scene_row Bad '"\(.State) \(.LastError)"')" "1 No error"
}

scene_start "$1"
scene_expect Bad "$volume"
scene_vssd

fails_freeze_with inconsistent "Inconsistent shadow copy" 0x800423f0 1
fails_freeze_with out-of-resources "Out of resources" 0x800423f1 75
fails_freeze_with timed-out "Timed out" 0x800423f2 75
fails_freeze_with retryable "Retryable error" 0x800423f3 75
fails_freeze_with non-retryable "Non-retryable error" 0x800423f4 1
each_event
fails_at_complete once:fail:retryable:"cannot truncate" "Retryable error" 0x800423f3
fails_at_complete hang "Timed out" 0x800423f2
fails_at_complete exit "Not responding" 0x80042319
fails_at_complete kill "Not responding" 0x80042319
fails_at_shutdown once:fail:retryable:no "Retryable error" 0x800423f3
fails_at_shutdown hang "Timed out" 0x800423f2
fails_at_shutdown exit "Not responding" 0x80042319
fails_at_shutdown kill "Not responding" 0x80042319
fails_at_abort fail:non-retryable
fails_at_abort hang
fails_at_abort exit
fails_at_abort kill
answers_late
breaks_freeze
lacks_a_method
is_stopped
dies_between_events
holds_up_others_of_other_levels
is_expected_and_absent
policies
identify
reset_writer
scene_done
