#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The writer of QEMU guests with a real guest agent: qemu-ga in a mount namespace of its own, whose "guest" is one
# filesystem of this test in an image file on the volume that is copied. The agent may not freeze anything else: the command that
# freezes all is disabled, and the writer names the one mount point.
# Usage: test-qemu-agent.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

inside="" # where the guest's filesystem is mounted
declare -r writer_name="QEMU Guest Writer"

# ---- the guest ----

make_guest() {
	inside=$lab/inside
	mkdir "$inside" "$lab/agent" "$lab/qemu-run"
	truncate -s 64M "$volume/guest.img"
	mkfs.ext4 -q -F "$volume/guest.img"
	mount -o loop "$volume/guest.img" "$inside"
	lab_defer lab_unmount "$inside"
	truncate -s 1M "$volume/off.img"
}

# start_agent [OPTION...]
start_agent() {
	rm -f "$lab/agent.sock"
	lab_spawn agent lab_alone "$inside" qemu-ga -m unix-listen -p "$lab/agent.sock" -t "$lab/agent" -b guest-fsfreeze-freeze,guest-exec "$@"
	lab_wait 10 test -S "$lab/agent.sock" || lab_die "qemu-ga does not start: $(cat "$lab/agent.log")"
}

# hook COMMAND: what the agent's hook does before it freezes.
hook() {
	# shellcheck disable=SC2016
	printf '#!/bin/sh\n[ "$1" != freeze ] || %s\n' "$1" >"$lab/hook"
	chmod 755 "$lab/hook"
}

# Each round writes a number into one file, then the same into the other, both to the disk.
start_load() {
	# shellcheck disable=SC2016
	lab_spawn load bash -c '
		for ((i = 1; ; i++)); do
			printf "%012d\n" $i | dd of="$1/first" conv=fsync,notrunc status=none
			printf "%012d\n" $i | dd of="$1/second" conv=fsync,notrunc status=none
		done' sh "$inside"
	lab_wait 10 test -s "$inside/second" || lab_die "nothing is written"
}

load_runs() {
	local before

	before=$(cat "$inside/second")
	# shellcheck disable=SC2016
	lab_wait "${1:-10}" bash -c '[ "$(cat "$1")" != "$2" ]' sh "$inside/second" "$before"
}

# By its agent's own note.
guest_is_frozen() {
	[ -e "$lab/agent/qga.state.isfrozen" ]
}

# A probe that writes would hang and could not be killed; the load hangs already.
load_stands() {
	! load_runs 1
}

# ---- the writer ----

# configure [LINE...]: of [Guest web]
configure() {
	{
		printf '[QEMU]\nAgentLimit=1s\nFreezeLimit=2s\n[Guest web]\nAgent=%s\nRawDisks=%s\nFilesystems=%s\n' \
			"$lab/agent.sock" "$volume/guest.img" "$inside"
		printf '%s\n' "$@"
		printf '[Guest off]\nAgent=%s\nDisks=%s\n' "$lab/none.sock" "$volume/off.img"
	} >"$lab/qemu.conf"
}

start_writer() {
	RUNTIME_DIRECTORY=$lab/qemu-run lab_spawn writer "$build/writers/qemu/vss-qemu-writer" --config "$lab/qemu.conf"
	lab_wait 15 writer_is_there || lab_die "the writer does not register: $(cat "$lab/writer.log" "$lab/vssd.log")"
}

writer_is_there() {
	[ "$(scene_row "$writer_name" .Present)" = true ]
}

restart_writer() {
	lab_stop writer
	configure "$@"
	start_writer
}

no_notes() {
	equal "$(ls "$lab/qemu-run")" ""
}

# ---- the copy ----

copied_image() {
	local copy

	copy=$(scene_result '.Shadows[0].Shadow')
	mkdir -p "$lab/exposed"
	vssctl expose --shadow "$copy" "$lab/exposed" >/dev/null
	cp --sparse=always "$lab/exposed/guest.img" "$lab/copied.img"
	vssctl unexpose --shadow "$copy" >/dev/null
}

needs_recovery() {
	dumpe2fs -h "$1" 2>/dev/null | grep -q '^Filesystem features:.*needs_recovery'
}

# What a program inside would see: the second file is never ahead, and no more than one round behind.
pair_agrees() {
	local first second

	first=$(debugfs -R 'cat /first' "$1" 2>/dev/null)
	second=$(debugfs -R 'cat /second' "$1" 2>/dev/null)
	lab_note "    first $first, second $second"
	[ -n "$first" ] && ((10#$first == 10#$second || 10#$first == 10#$second + 1))
}

good_copy() {
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	check "the label" equal "$(scene_result '"\(.Consistency) \(.Instant)"')" "application set"
	copied_image
	check "the disk in the copy needs no replay" refuse needs_recovery "$lab/copied.img"
	check "nor any repair" e2fsck -fn "$lab/copied.img" >/dev/null 2>&1
	check "what lies in it agrees" pair_agrees "$lab/copied.img"
	check "the guest runs on" load_runs
	check "no note stays" lab_wait 5 no_notes
	scene_clear
}

next_works() {
	try create shadow --for "$volume" --json
	good_copy
}

# ---- whose fault ----

# fails WHAT: the set fails, its guest runs on, nothing stays behind.
fails() {
	try create shadow --for "$volume" --json
	check "$1: the set fails" differ "$code" 0
	check "$1: the guest runs on" load_runs
	check "$1: no note stays" lab_wait 5 no_notes
	check "$1: no copy remains" lab_wait 5 scene_no_copies
}

guests_fault() {
	contains "$lab/err" "web: the guest: it could not be frozen"
}

hosts_fault() {
	contains "$lab/err" "$1" && refuse grep -q "the guest" "$lab/err"
}

# Nobody is restarted in between.
host_and_guest() {
	local op

	lab_stop agent
	hook true
	start_agent -F"$lab/hook"
	begin "host good, guest good"
	next_works
	begin "host good, guest bad"
	hook "exit 3"
	fails "the guest's hook fails"
	check "whose fault it is" guests_fault
	hook true
	next_works
	begin "host bad, guest good"
	for op in $(scene_level cut cut "prepare cut seal"); do
		scene_gate "$op" kill
		fails "the provider dies at $op"
		check "whose fault it is" hosts_fault "provider\|worker"
		next_works
	done
	scene_writer Beside --path "$volume" --level system --on 'Freeze=once:fail:retryable:no room'
	fails "another writer fails"
	check "whose fault it is" hosts_fault "Beside.*no room"
	next_works
	scene_end_writer Beside
	begin "host bad, guest bad"
	scene_writer Beside --path "$volume" --level system --on 'Freeze=fail:retryable:no room'
	hook "exit 3"
	fails "both fail"
	check "one of the two is told" contains "$lab/err" "web: the guest: it could not be frozen\|Beside.*no room"
	hook true
	fails "the host fails still"
	check "whose fault it is" hosts_fault "Beside.*no room"
	scene_end_writer Beside
	hook "exit 3"
	fails "the guest fails still"
	check "whose fault it is" guests_fault
	hook true
	next_works
	lab_stop agent
	start_agent
}

# ---- cases ----

scene_start "$1" qemu-ga mkfs.ext4 dumpe2fs debugfs e2fsck
make_guest
scene_configure PrepareSnapshot=10s Freeze=10s Event=10s
printf '[Writer]\nId=5a3e0d0c-9c0b-4d6e-8f57-2b1d3c9a7e41\nName=%s\nLevel=system\nPaths=%s\n' "$writer_name" "$volume" \
	>"$lab/manifests/qemu.writer"
scene_gated_vssd
start_agent
start_load
configure
start_writer

begin "without the writer: the disk in the copy is as after a power cut, and the label says less"
try create shadow --for "$volume" --exclude-writer "$writer_name" --json
check "the label" equal "$(scene_result .Consistency)" filesystem
copied_image
check "the disk in the copy needs a replay" needs_recovery "$lab/copied.img"
scene_clear

begin "with it: the disk in the copy is clean, time after time"
for ((i = 0; i < $(scene_level 1 3 20); i++)); do
	next_works
done

begin "the record says what became of each guest"
try create shadow --for "$volume" --json
jq . "$lab"/v/.vss/*/record.json >"$lab/record"
check "frozen" contains "$lab/record" 'web.*State\\":\\"frozen'
check "off" contains "$lab/record" 'off.*State\\":\\"off'
check "with their files" contains "$lab/record" "guest.img"
scene_clear

begin "verify: a checklist, nothing frozen"
try verify --for "$volume"
check "exit code" equal "$code" 0
for row in '\[ok\] web: disks: 1 file' '\[ok\] web: agent: answers after .* version 7' '\[ok\] web: freeze' \
	'\[ok\] web: filesystems: can be frozen: ' '\[.*\] web: free space' '\[unknown\] web: shadow storage: guest-exec is disabled' \
	'\[ok\] off: agent: not needed'; do
	check "a row" contains "$lab/out" "$row"
done

begin "a hook in the guest fails: the set fails, and says whose side it was"
lab_stop agent
hook "exit 3"
start_agent -F"$lab/hook"
try create shadow --for "$volume" --json
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "web: the guest: it could not be frozen:.*hook has failed"
check "the guest runs on" load_runs
check "no copy remains" lab_wait 2 scene_no_copies
lab_stop agent
start_agent
next_works

begin "the agent stands still: the set fails in time, and its late freeze is undone"
kill -STOP "${lab_pid[agent]}"
try create shadow --for "$volume" --json
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "web: the guest: its agent does not answer"
check "the guest runs on" load_runs
kill -CONT "${lab_pid[agent]}"
next_works

begin "a hook hangs: the freeze comes when nobody waits any more, and is undone"
lab_stop agent
hook "sleep 4"
start_agent -F"$lab/hook"
try create shadow --for "$volume" --json
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "It is thawed as soon as it does"
check "the note stays until then" refuse no_notes
try verify --for "$volume"
check "verify tells, too" contains "$lab/out" '\[bad\] web: thawed: an earlier freeze was not undone yet'
check "exit code" equal "$code" 1
try verify --for "$volume" --json
check "and its document" equal "$code" 1
check "keeps to the schema" python3 "$(dirname "$0")/../bus/check-schema.py" "$(dirname "$0")/../../docs/vssctl.schema.json" "$lab/out"
check "the note goes" lab_wait 20 no_notes
check "the guest runs on" load_runs
check "the log tells" contains "$lab/writer.log" "web: is thawed"
lab_stop agent
start_agent
next_works

host_and_guest

begin "by policy the set goes on without it, and is labelled"
restart_writer OnFailure=degrade
lab_stop agent
hook "exit 3"
start_agent -F"$lab/hook"
try create shadow --for "$volume" --json
check "exit code" equal "$code" 0
check "the label" equal "$(scene_result .Consistency)" filesystem
scene_result .ConsistencyReason >"$lab/reason"
check "the reason names the guest" contains "$lab/reason" "'$writer_name': web: is in the copy as it ran, not frozen: .*hook has failed"
vssctl list shadows >"$lab/shadows"
check "and stays with the copy" contains "$lab/shadows" "web: is in the copy as it ran"
scene_clear
lab_stop agent
start_agent
next_works
restart_writer

begin "somebody else has frozen the guest: it is left alone"
fsfreeze --freeze "$inside"
printf '' >"$lab/agent/qga.state.isfrozen"
lab_stop agent
start_agent
try create shadow --for "$volume" --json
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "web: the guest: it is frozen already, by somebody else"
check "it is frozen still" load_stands
fsfreeze --unfreeze "$inside"
rm -f "$lab/agent/qga.state.isfrozen"
lab_stop agent KILL # one that takes itself for frozen minds no other signal
start_agent
next_works

begin "somebody thaws the guest in between: the writer does not vouch"
scene_gate cut "delay 2500"
scene_background set create shadow --for "$volume" --json
lab_wait 10 scene_at_gate cut || lab_die "the set does not get there"
check "it is frozen" guest_is_frozen
fsfreeze --unfreeze "$inside"
scene_ended set
check "exit code" differ "$code" 0
check "the text" contains "$lab/err" "web: the guest:.*thaw"
check "no copy remains" lab_wait 2 scene_no_copies
lab_stop agent
start_agent
next_works

begin "the writer is killed while the guest is frozen: it is thawed"
scene_gate cut "delay 3000"
scene_background set create shadow --for "$volume" --json
lab_wait 10 scene_at_gate cut || lab_die "the set does not get there"
check "it is frozen" guest_is_frozen
kill -KILL "${lab_pid[writer]}"
check "it runs at once" load_runs 5
seen "the guest runs again"
scene_ended set
check "the set has failed" differ "$code" 0
check "no copy remains" lab_wait 5 scene_no_copies
check "no note stays" lab_wait 5 no_notes
lab_stop writer
start_writer
next_works

begin "vssd is killed while the guest is frozen: it is thawed"
scene_gate cut "delay 3000"
scene_background set create shadow --for "$volume" --json
lab_wait 10 scene_at_gate cut || lab_die "the set does not get there"
kill -KILL "${lab_pid[vssd]}"
check "it runs at once" load_runs 5
seen "the guest runs again"
lab_stop vssd
scene_gated_vssd
scene_ended set
check "the set has failed" differ "$code" 0
lab_wait 15 writer_is_there
next_works

begin "the agent is killed while the guest is frozen: the next one thaws it"
exec {held}<"$volume/guest.img"
python3 -c 'import fcntl, struct, sys; fcntl.fcntl(int(sys.argv[1]), fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_RDLCK, 0, 201, 1, 0))' "$held"
scene_gate cut "delay 2500"
scene_background set create shadow --for "$volume" --json
lab_wait 10 scene_at_gate cut || lab_die "the set does not get there"
lab_stop agent KILL
check "it is frozen still" load_stands
scene_ended set 20
check "the set has failed" differ "$code" 0
check "the text" contains "$lab/err" "web: the guest: it cannot be thawed yet"
start_agent
check "it runs again" load_runs 20
check "no note stays" lab_wait 20 no_notes
exec {held}<&-
next_works

scene_done
