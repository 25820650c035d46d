#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Two hundred writers that hang, on a bus with the limits of Debian's system bus (128 unanswered calls a connection, 256
# connections a user): they do not keep the one after them from its Freeze, nor `list writers` from an answer.
# Usage: test-many-writers.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

hung=$(scene_level 140 200 200)

milliseconds() {
	local begin=$EPOCHREALTIME

	code=0
	"$@" >"$lab/out" 2>"$lab/err" || code=$?
	elapsed=$(awk -v b="$begin" -v e="$EPOCHREALTIME" 'BEGIN { printf "%.0f", (e - b) * 1000 }')
}
elapsed=0

first_freeze() {
	awk '$3 == "Freeze" && $6 == "begin" { print $1; exit }' "$lab/$1.events"
}

scene_start "$1"
contains "$lab/bus.conf" '<type>system</type>' >/dev/null || scene_skip "the bus is of another type"
scene_configure Freeze=2s
scene_vssd

begin "$hung writers hang at Freeze; the one after them does not"
scene_writer Hung --count "$hung" --path "$volume" --on Freeze=hang --on Identify=ok
scene_writer Last --path "$volume"
check "all are there" equal "$(vssctl list writers --json | jq '[.writers[] | select(.Present)] | length')" $((hung + 1))
milliseconds vssctl create shadow --for "$volume"
check "exit code" equal "$code" 75
check "all of them got their Freeze" equal "$(grep -c " Freeze .* begin" "$lab/Hung.events")" "$hung"
check "the last one got its Freeze with the first" soon "$(first_freeze Hung)" "$(scene_when Last Freeze)" 1000
seen "its Freeze came $((($(scene_when Last Freeze) - $(first_freeze Hung)) / 1000)) ms after the first one's"
check "it runs again when the limit is over" soon "$(($(first_freeze Hung) + 2000000))" "$(scene_runs_again Last)" 1000
check "the set ends soon after" at_most "$elapsed" 12000
seen "the whole took $elapsed ms"
check "it is well" equal "$(scene_row Last .LastError)" "No error"
check "no copy remains" scene_no_copies
vssctl list writers --json | jq '[.writers[] | select(.LastError == "Timed out")] | length' >"$lab/timed"
check "each of the others is told of" equal "$(cat "$lab/timed")" "$hung"

begin "list writers while $hung of them hang"
milliseconds vssctl list writers
check "without --probe at once" at_most "$elapsed" 1000
milliseconds vssctl list writers --probe
check "exit code" equal "$code" 0
check "with --probe in two seconds" at_most "$elapsed" 3000
check "those that hang are told of" equal "$(grep -c "Last error: Not responding" "$lab/out")" "$hung"
check "the one that does not" equal "$(scene_row Last .LastError)" "No error"
seen "probing took $elapsed ms"

begin "a second set while they hang still"
milliseconds vssctl create shadow --for "$volume" --exclude-writer Hung
check "it is made" equal "$code" 0
scene_clear

begin "they are gone, and the next set works"
scene_end_writer Hung
lab_wait 10 refuse sh -c "'$build/requestor/vssctl' list writers --json | jq -e '[.writers[] | select(.Present)] | length > 1' >/dev/null"
milliseconds vssctl create shadow --for "$volume"
check "it is made" equal "$code" 0
check "it is whole" scene_all_whole
scene_clear

begin "a stopped writer shows Not responding within 2 s of a probe"
scene_writer Stopped --path "$volume"
kill -s STOP "${lab_pid[Stopped]}"
milliseconds vssctl list writers
check "without --probe it is listed as it was" equal "$(scene_row Stopped .LastError)" "No error"
milliseconds vssctl list writers --probe
check "it is told" equal "$(sed -n "/'Stopped'/,/Last error/p" "$lab/out" | sed -n 's/ *Last error: //p')" "Not responding"
check "in 2 s, and what a process takes" at_most "$elapsed" 2300
seen "after $elapsed ms"
kill -s CONT "${lab_pid[Stopped]}"
sleep 0.2
milliseconds vssctl list writers --probe
check "it answers again" equal "$(sed -n "/'Stopped'/,/Last error/p" "$lab/out" | sed -n 's/ *Last error: //p')" "No error"
scene_done
