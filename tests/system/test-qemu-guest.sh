#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The writer of QEMU guests with a real guest: the disk in the copy is clean, byte for byte that of the freeze, and what the
# guest counts agrees in it. A guest that hangs, dies frozen, or is off.
# Usage: test-qemu-guest.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"
# shellcheck source=tests/system/guest.sh
. "$(dirname "$0")/guest.sh"

declare -r writer_name="QEMU Guest Writer"

writer_is_there() {
	[ "$(scene_row "$writer_name" .Present)" = true ]
}

start_writer() {
	printf '[QEMU]\nAgentLimit=3s\nFreezeLimit=8s\n[Guest one]\nAgent=%s\nQmp=%s\n' "$lab/qga.sock" "$lab/qmp.sock" >"$lab/qemu.conf"
	RUNTIME_DIRECTORY=$lab/qemu-run lab_spawn writer "$build/writers/qemu/vss-qemu-writer" --config "$lab/qemu.conf"
	lab_wait 15 writer_is_there || lab_die "the writer does not register: $(cat "$lab/writer.log" "$lab/vssd.log")"
}

no_notes() {
	[ -z "$(ls "$lab/qemu-run")" ]
}

agent_answers() {
	try verify --for "$volume"
	grep -q '\[ok\] one: agent: answers' "$lab/out"
}

# storage_is PATTERN: in the checklist
storage_is() {
	try verify --for "$volume"
	grep -q "$1" "$lab/out"
}

digest() {
	cat "$1"/base.img "$1"/guest.qcow2 | sha256sum
}

# flat DIRECTORY: the disk that a guest would find, at $lab/flat.img.
flat() {
	qemu-img convert -U -O raw "$1/guest.qcow2" "$lab/flat.img"
}

expose() {
	mkdir -p "$lab/exposed"
	vssctl expose --shadow "$(scene_result '.Shadows[0].Shadow')" "$lab/exposed" >/dev/null
}

unexpose() {
	vssctl unexpose --shadow "$(scene_result '.Shadows[0].Shadow')" >/dev/null
}

needs_recovery() {
	dumpe2fs -h "$lab/flat.img" 2>/dev/null | grep -q '^Filesystem features:.*needs_recovery'
}

counted() {
	debugfs -R "cat /$1" "$lab/flat.img" 2>/dev/null
}

pair_agrees() {
	local first second

	first=$(counted first) second=$(counted second)
	lab_note "    first $first, second $second"
	[ -n "$first" ] && ((10#$first == 10#$second || 10#$first == 10#$second + 1))
}

good_disk() {
	flat "$lab/exposed"
	check "the disk in the copy needs no replay" refuse needs_recovery
	check "nor any repair" e2fsck -fn "$lab/flat.img" >/dev/null 2>&1
	check "what the guest counts agrees" pair_agrees
}

good_set() {
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	check "the label" equal "$(scene_result '"\(.Consistency) \(.Instant)"')" "application set"
	expose
	good_disk
	unexpose
	scene_clear
}

scene_start "$1" "${guest_tools[@]}" mkfs.ext4 dumpe2fs debugfs e2fsck
package=$(guest_kernel) || scene_skip "needs Debian's cloud kernel (apt-get download)"
guest_build "$package"
mkdir "$lab/qemu-run"
truncate -s 64M "$volume/base.img"
mkfs.ext4 -q -F "$volume/base.img"
qemu-img create -q -f qcow2 -F raw -b base.img "$volume/guest.qcow2"
guest_start "$volume/guest.qcow2"
scene_configure PrepareBackup=20s PrepareSnapshot=10s Freeze=15s Event=10s
printf '[Writer]\nId=5a3e0d0c-9c0b-4d6e-8f57-2b1d3c9a7e41\nName=%s\nLevel=system\nPaths=%s\n' "$writer_name" "$volume" \
	>"$lab/manifests/qemu.writer"
scene_gated_vssd
start_writer

begin "the guest boots, and its agent answers"
lab_wait 60 agent_answers || lab_die "the guest does not start: $(cat "$lab/guest.log" "$lab/guest/console" "$lab/out")"
seen "it answers"
for row in '\[ok\] one: disks: 2 files' '\[ok\] one: freeze' '\[ok\] one: filesystems: can be frozen: /mnt (ext4)' \
	'\[ok\] one: free space' '\[unknown\] one: shadow storage: vssctl cannot be run in it'; do
	check "a row" contains "$lab/out" "$row"
done

begin "without the writer the disk in the copy is as after a power cut"
try create shadow --for "$volume" --exclude-writer "$writer_name" --json
check "the label" equal "$(scene_result .Consistency)" filesystem
expose
flat "$lab/exposed"
check "it needs a replay" needs_recovery
unexpose
scene_clear

begin "the disk in the copy is byte for byte that of the freeze"
scene_gate cut "delay 4000"
scene_background set create shadow --for "$volume" --json
lab_wait 20 scene_at_gate cut || lab_die "the set does not get there: $(cat "$lab/set.log")"
before=$(digest "$volume")
sleep 0.5
after=$(digest "$volume")
check "it was held all the while" scene_is_in Cutting
scene_ended set 20
cp "$lab/set.log" "$lab/out"
check "nothing was written while it was held" equal "$after" "$before"
check "the set is made" equal "$code" 0
expose
check "nor in the copy" equal "$(digest "$lab/exposed")" "$before"
good_disk
unexpose
scene_clear
check "no note stays" lab_wait 5 no_notes

begin "set after set, while the guest counts"
for ((i = 0; i < $(scene_level 1 3 50); i++)); do
	last=$(counted second)
	try create shadow --for "$volume" --json
	good_set
	check "it has gone on" [ "$(counted second)" \> "$last" ]
done

begin "the guest hangs as a whole: the set fails in time, and the next one works"
kill -STOP "${lab_pid[guest]}"
try create shadow --for "$volume" --json
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "one: the guest: its agent does not answer"
kill -CONT "${lab_pid[guest]}"
lab_wait 10 agent_answers
try create shadow --for "$volume" --json
good_set

begin "it hangs while it is frozen: the set fails, and it is thawed when it runs again"
scene_gate cut "delay 500"
scene_background set create shadow --for "$volume" --json
lab_wait 20 scene_at_gate cut || lab_die "the set does not get there: $(cat "$lab/set.log")"
kill -STOP "${lab_pid[guest]}"
scene_ended set 20
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "one: the guest: it cannot be thawed yet"
check "the note stays" refuse no_notes
kill -CONT "${lab_pid[guest]}"
check "the note goes" lab_wait 20 no_notes
try create shadow --for "$volume" --json
good_set

begin "its QEMU dies while it is frozen: the set fails, nothing stays behind"
scene_gate cut "delay 500"
scene_background set create shadow --for "$volume" --json
lab_wait 20 scene_at_gate cut || lab_die "the set does not get there: $(cat "$lab/set.log")"
kill -KILL "${lab_pid[guest]}"
scene_ended set 20
check "exit code" equal "$code" 75
check "the note goes" lab_wait 20 no_notes
lab_stop guest

begin "a guest that is off is copied as it is"
try create shadow --for "$volume" --json
check "the set is made" equal "$code" 0
check "the label" equal "$(scene_result .Consistency)" application
jq . "$lab"/v/.vss/*/record.json >"$lab/record"
check "the record" contains "$lab/record" 'one.*State\\":\\"off'
expose
check "byte for byte" equal "$(digest "$lab/exposed")" "$(digest "$volume")"
unexpose
scene_clear

# A sanitizer's memory is more than this guest has.
! grep -q __asan_init "$build/coordinator/vssd" || scene_done

begin "vssd inside, behind the agent's hook: its application is in order in the copy, too"
guest_add_vssd
second_disk=()
if [ "$(scene_level no no yes)" = yes ]; then
	guest_add_btrfs
	truncate -s 128M "$volume/second.img"
	mkfs.btrfs --quiet "$volume/second.img" >/dev/null
	second_disk=(-drive "file=$volume/second.img,if=virtio,format=raw")
fi
guest_build "$package"
guest_start "$volume/guest.qcow2" "${second_disk[@]}"
lab_wait 90 agent_answers || lab_die "the guest does not start: $(cat "$lab/guest.log" "$lab/guest/console" "$lab/out")"
seen "it answers"
check "vssctl inside tells of its copies" lab_wait 40 storage_is '\[ok\] one: shadow storage: none'
for ((i = 0; i < $(scene_level 1 2 20); i++)); do
	try create shadow --for "$volume" --json
	good_set
	check "the application was held" equal "$(counted application)" held
	check "in the middle of nothing" equal "$(counted first)" "$(counted second)"
done

begin "a writer inside fails: the set outside fails, and says so"
check "it will" guest_run "touch /run/fail"
try create shadow --for "$volume" --json
check "exit code" equal "$code" 75
check "the text" contains "$lab/err" "one: the guest: it could not be frozen:.*hook has failed"
check "no note stays" lab_wait 5 no_notes
check "it is well again" guest_run "rm /run/fail"
try create shadow --for "$volume" --json
good_set
check "the application was held" equal "$(counted application)" held

if [ ${#second_disk[@]} -gt 0 ]; then
	begin "vssd inside keeps copies: verify says where"
	check "it makes one" guest_run "vssctl create shadow --for /data"
	check "on the volume's own" lab_wait 40 storage_is '\[ok\] one: shadow storage: each volume'
	seen "told"
fi

begin "guest-exec is not allowed: verify does not guess"
check "its agent is started again" guest_run "echo -b guest-exec >/run/agent-options; { sleep 1; killall qemu-ga; } &"
check "unknown" lab_wait 40 storage_is '\[unknown\] one: shadow storage: guest-exec is disabled in its agent'
check "and no failure" equal "$code" 0
try create shadow --for "$volume" --json
good_set

scene_done
