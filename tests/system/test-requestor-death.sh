#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Requestors that are killed or interrupted in each phase: the copies go, the writers run on and hear the end, no mount is
# left; and what `vssctl backup` passes on of its COMMAND.
# Usage: test-requestor-death.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

mounts="" # before

# What has to be so whenever a backup has ended, however.
nothing_left() {
	check "no session remains" lab_wait 5 scene_no_session
	check "no copy remains" lab_wait 5 scene_no_copies
	check "no mount remains" lab_wait 3 mounts_are_as_before
	# Whoever is killed cannot remove the empty directory that he made; rmdir would fail on any other.
	[ "${1:-}" != KILL ] || find "$lab/tmp" -mindepth 1 -delete
	check "no directory for a root remains" equal "$(find "$lab/tmp" -mindepth 1)" ""
}

mounts_are_as_before() {
	[ "$(scene_mounts)" = "$mounts" ]
}

# held_by_writer EVENT: the writer answers this event late, for all that the test needs.
held_by_writer() {
	scene_end_writer Good
	scene_writer Good --path "$volume" --on "$1=once:late:3000"
}

# ended STATE SIGNAL EXPECTED_CODE: the backup under way is in STATE; it is sent SIGNAL.
ended() {
	local state=$1 signal=$2 expected=$3 sent

	check "it is in $state" lab_wait 5 scene_is_in "$state"
	sent=$(scene_now)
	kill -s "$signal" "${lab_pid[backup]}"
	scene_ended backup 10
	check "exit code" equal "$code" "$expected"
	nothing_left "$signal"
	seen "all gone $((($(scene_now) - sent) / 1000)) ms after SIG$signal"
	if scene_heard Good Freeze || [ "$state" = PreparingBackup ] || [ "$state" = Preparing ]; then
		check "the writer was let go at once" soon "$sent" "$(scene_runs_again Good)" 1000
	fi
	check "the writer heard BackupShutdown" lab_wait 4 scene_heard Good BackupShutdown
	check "the writer is no failure of itself" equal "$(scene_row Good .LastError)" "No error"
}

in_each_writer_phase() {
	local signal=$1 expected=$2 pair

	for pair in PrepareBackup:PreparingBackup PrepareSnapshot:Preparing Freeze:FreezingFrontEnd Thaw:ThawingFrontEnd \
		PostSnapshot:PostSnapshot; do
		begin "SIG$signal in ${pair#*:}"
		held_by_writer "${pair%:*}"
		scene_background backup backup --for "$volume" -- true
		ended "${pair#*:}" "$signal" "$expected"
	done
}

in_each_worker_phase() {
	local signal=$1 expected=$2 pair

	for pair in prepare:Preparing cut:Cutting open:Opening seal:Sealing; do
		begin "SIG$signal in ${pair#*:}, while the worker is at it"
		scene_end_writer Good
		scene_writer Good --path "$volume"
		scene_gate "${pair%:*}" "delay 1500"
		scene_background backup backup --for "$volume" -- true
		check "the worker is at it" lab_wait 5 scene_at_gate "${pair%:*}"
		ended "${pair#*:}" "$signal" "$expected"
	done
}

in_the_rest() {
	local signal=$1 expected=$2

	begin "SIG$signal while COMMAND runs"
	scene_end_writer Good
	scene_writer Good --path "$volume"
	scene_background backup backup --for "$volume" -- sleep 30
	check "COMMAND runs" lab_wait 5 command_runs
	ended Created "$signal" "$expected"
	check "COMMAND has ended too" lab_wait 3 refuse command_runs
	if [ "$signal" = INT ]; then
		check "the writer heard that the backup did not succeed" scene_heard Good BackupComplete
	else
		check "the writer heard of no success" refuse scene_heard Good BackupComplete
	fi

	begin "SIG$signal while the writers hear BackupComplete"
	held_by_writer BackupComplete
	scene_background backup backup --for "$volume" -- true
	# COMMAND was successful, the copies have served: what is cut short is the telling.
	ended Completing "$signal" "$([ "$signal" = INT ] && echo 6 || echo "$expected")"

	begin "SIG$signal while it waits for another set"
	held_by_writer PrepareBackup
	scene_background first backup --for "$volume" -- true
	check "the first one has begun" lab_wait 5 scene_heard Good PrepareBackup
	scene_background backup backup --for "$volume" -- true
	check "the second one waits" lab_wait 5 one_waits
	kill -s "$signal" "${lab_pid[backup]}"
	scene_ended backup 5
	check "exit code" equal "$code" "$expected"
	check "its session is gone" lab_wait 3 one_session
	scene_ended first 15
	check "the first one is not disturbed" equal "$code" 0
	nothing_left "$signal"
}

command_group=0 # scene_background gives each its own process group

command_runs() {
	command_group=${lab_pid[backup]:-$command_group}
	pgrep -g "$command_group" -x sleep >/dev/null
}

one_waits() {
	vssctl list sessions >"$lab/sessions"
	grep -q "waits for .* held by session" "$lab/sessions"
}

one_session() {
	[ "$(scene_sessions)" = 1 ]
}

survived_by_command() {
	begin "COMMAND does not mind SIGTERM and reads on: the copy goes when it ends"
	scene_end_writer Good
	scene_writer Good --path "$volume"
	scene_background backup backup --for "$volume" -- sh -c 'trap "" TERM; sleep 1; sleep 1'
	check "COMMAND runs" lab_wait 5 command_runs
	kill -s KILL "${lab_pid[backup]}"
	scene_ended backup
	check "no session remains" lab_wait 5 scene_no_session
	check "the copy is still there" scene_all_whole
	nothing_left KILL
}

exit_codes() {
	local n

	begin "COMMAND's exit code is passed on"
	scene_end_writer Good
	scene_writer Good --path "$volume"
	for n in 0 1 3 75 128 255; do
		try backup --for "$volume" -- sh -c "exit $n"
		check "exit $n" equal "$code" "$n"
	done
	try backup --for "$volume" -- sh -c "kill -s TERM \$\$"
	check "COMMAND ended by SIGTERM" equal "$code" 143
	try backup --for "$volume" -- sh -c "kill -s KILL \$\$"
	check "COMMAND ended by SIGKILL" equal "$code" 137
	try backup --for "$volume" -- /nonexistent/command
	check "there is no COMMAND" equal "$code" 127
	try backup --for "$volume" -- /etc/passwd
	check "COMMAND is no program" equal "$code" 126
	nothing_left
}

what_command_sees() {
	begin "COMMAND sees the copies, and nobody else does"
	echo "as it was" >"$volume/file"
	# shellcheck disable=SC2016
	try backup --for "$volume" -- sh -c '
		echo "later" >"$VSS_LIVE_1/file"
		[ "$1$VSS_LIVE_1" = "$VSS_COPY_1" ] && [ "$1" = "$VSS_ROOT" ] || exit 10
		[ "$(cat "$VSS_COPY_1/file")" = "as it was" ] || exit 11
		! echo no 2>/dev/null >"$VSS_COPY_1/file" || exit 12
		! nsenter --target "$2" --mount test -e "$VSS_COPY_1/file" || exit 13
		[ "$(pwd)" = "$3" ] || exit 14' sh '{}' $$ "$PWD"
	check "all of it" equal "$code" 0
	check "the volume went on" equal "$(cat "$volume/file")" later
	nothing_left
	mkdir "$lab/root"
	try backup --for "$volume" --root "$lab/root" -- test -e "$lab/root$volume/file"
	check "--root" equal "$code" 0
	check "its directory stays, empty" equal "$(ls -A "$lab/root")" ""
	nothing_left
}

killed_with_persistent_copies() {
	begin "create shadow is killed before its set is made"
	held_by_writer Freeze
	scene_background backup create shadow --for "$volume"
	check "it is in FreezingFrontEnd" lab_wait 5 scene_is_in FreezingFrontEnd
	kill -s KILL "${lab_pid[backup]}"
	scene_ended backup
	nothing_left
	check "the next set works" succeeds
}

succeeds() {
	scene_end_writer Good
	scene_writer Good --path "$volume"
	try backup --for "$volume" -- true
	[ "$code" -eq 0 ]
}

a_thousand_cuts() {
	local i tries

	tries=$(scene_level 5 20 200)
	begin "killed at $tries moments from beginning to end"
	scene_end_writer Good
	scene_writer Good --path "$volume"
	for ((i = 0; i < tries; i++)); do
		scene_background backup backup --for "$volume" -- true
		sleep "$(awk -v i="$i" -v n="$tries" 'BEGIN { printf "%.4f", 0.002 + 0.12 * i / n }')"
		kill -s KILL "${lab_pid[backup]}" 2>/dev/null || true
		scene_ended backup
	done
	nothing_left KILL
	check "the next set works" succeeds
}

scene_start "$1" nsenter setsid pgrep
scene_configure PrepareBackup=10s PrepareSnapshot=10s Freeze=10s Event=10s
scene_gated_vssd
mkdir "$lab/tmp"
export XDG_RUNTIME_DIR=$lab/tmp
mounts=$(scene_mounts)

for how in "INT 130" "KILL 137"; do
	# shellcheck disable=SC2086
	set -- $how
	in_each_writer_phase "$1" "$2"
	in_each_worker_phase "$1" "$2"
	in_the_rest "$1" "$2"
done
begin "SIGTERM and SIGHUP while COMMAND runs"
for how in "TERM 143" "HUP 129"; do
	scene_end_writer Good
	scene_writer Good --path "$volume"
	scene_background backup backup --for "$volume" -- sleep 30
	check "COMMAND runs" lab_wait 5 command_runs
	ended Created "${how% *}" "${how#* }"
done
survived_by_command
exit_codes
what_command_sees
killed_with_persistent_copies
a_thousand_cuts
scene_done
