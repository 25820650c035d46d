#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Storage that goes wrong under a set: volumes that vanish, are full, read-only or of a kind that nobody can copy; workers
# that hang or die at each op; and what belongs to a set at all (mounts below, two ways to one volume, too many).
# Usage: test-storage-failures.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/scene.sh
. "$(dirname "$0")/scene.sh"

fresh_writer() {
	scene_end_writer Good
	scene_writer Good --path "$volume" "$@"
}

works() {
	fresh_writer
	try create shadow --for "$volume" --json
	[ "$code" -eq 0 ] && equal "$(scene_result .Consistency)" application && scene_all_whole && scene_clear &&
		scene_no_copies
}

nothing_left() {
	check "no session remains" lab_wait 4 scene_no_session
	check "no copy remains" lab_wait 4 scene_no_copies
}

# ---- volumes that vanish ----

unmounted_before_the_set() {
	begin "a volume is unmounted between AddToSnapshotSet and DoSnapshotSet"
	fresh_writer
	scene_steps one
	scene_step one 'new {}'
	scene_step one "add $volume"
	scene_step one "add $lab/w/data"
	check "both are members" scene_ok
	umount "$lab/w"
	scene_step one snapshot
	check "the set fails" refuse grep -q '"ok":true' <<<"$answer"
	check "the reason names the volume" contains <(echo "$answer") "$lab/w/data"
	scene_step one free
	scene_steps_end one
	mount "$w_device" "$lab/w"
	nothing_left
	check "nothing is left there either" scene_no_copies w
	check "the next set works" works

	begin "a volume is unmounted during PrepareBackup, and another one mounted in its place"
	scene_end_writer Good
	scene_writer Good --path "$lab/w/data" --on PrepareBackup=once:late:800
	scene_background backup create shadow --for "$lab/w/data"
	check "it is in PreparingBackup" lab_wait 5 scene_is_in PreparingBackup
	umount "$lab/w"
	mount -t tmpfs tmpfs "$lab/w"
	mkdir "$lab/w/data"
	scene_ended backup
	umount "$lab/w"
	mount "$w_device" "$lab/w"
	check "the set fails" differ "$code" 0
	check "the reason names the volume" contains "$lab/err" "$lab/w/data"
	check "the writer was let go" scene_heard Good Abort
	check "no copy remains" scene_no_copies w
	check "the next set works" works
}

full() {
	begin "a full filesystem"
	fresh_writer
	lab_make_btrfs full 256M 2>/dev/null
	btrfs --quiet subvolume create "$lab/full/data"
	dd if=/dev/zero of="$lab/full/data/big" bs=1M 2>/dev/null || true
	dd if=/dev/zero of="$lab/full/data/small" bs=4k 2>/dev/null || true
	sync -f "$lab/full"
	try create shadow --for "$lab/full/data"
	if [ "$code" -ne 0 ]; then
		seen "refused: $(head -n 1 "$lab/err")"
		check "nothing is left" scene_no_copies full
		check "exit code" equal "$code" 1
		check "the reason names the volume and the lack" contains "$lab/err" "$lab/full/data.*0x8004231f\|0x8004231f"
	else
		seen "btrfs had room for the copy's metadata still"
		check "the copy is whole" scene_all_whole full
		scene_clear "$lab/full/data"
	fi
	rm "$lab/full/data/big"
	sync -f "$lab/full"
	try create shadow --for "$lab/full/data"
	check "with room again it works" equal "$code" 0
	scene_clear "$lab/full/data"
	check "it can be deleted" scene_no_copies full
}

read_only() {
	begin "a read-only filesystem"
	mount -o remount,ro "$lab/w"
	try create shadow --for "$lab/w/data"
	check "it is refused" equal "$code" 1
	check "with the reason" contains "$lab/err" "$lab/w.*read-only"
	mount -o remount,rw "$lab/w"
	try create shadow --for "$lab/w/data"
	check "writable again it works" equal "$code" 0
	scene_clear "$lab/w/data"
}

not_supported() {
	local device

	begin "volumes that no provider copies"
	truncate -s 32M "$lab/ext4.img"
	mkfs.ext4 -q "$lab/ext4.img"
	device=$(losetup --find --show "$lab/ext4.img")
	lab_defer losetup --detach "$device"
	mkdir "$lab/ext4" "$lab/tmpfs"
	lab_defer lab_unmount "$lab/ext4"
	mount "$device" "$lab/ext4"
	lab_defer lab_unmount "$lab/tmpfs"
	mount -t tmpfs tmpfs "$lab/tmpfs"
	try create shadow --for "$lab/ext4"
	check "ext4: exit code" equal "$code" 1
	check "ext4: the reason, and what would help" contains "$lab/err" "$lab/ext4: .*ext4.*0x8004230c"
	seen "$(cat "$lab/err")"
	try create shadow --for "$lab/tmpfs"
	check "tmpfs: exit code" equal "$code" 1
	check "tmpfs: the reason" contains "$lab/err" "$lab/tmpfs: .*tmpfs.*0x8004230c"
	seen "$(cat "$lab/err")"
	try create shadow --for "$volume" --for "$lab/tmpfs"
	check "one such member refuses the set" equal "$code" 1
	check "and nothing is made" scene_no_copies
	try create shadow --for "$lab/nowhere"
	check "no such path: exit code" equal "$code" 3
	check "no such path: the reason" contains "$lab/err" "$lab/nowhere"
	try create shadow --for /proc
	check "/proc is refused" equal "$code" 1
}

# ---- workers that hang or die ----

# worker_fails OP ACTION CODE: in a set
worker_fails() {
	local failed

	begin "worker: $1: $2"
	fresh_writer
	scene_gate "$1" "$2"
	try backup --for "$volume" -- true
	failed=$(stat -c %.6Y "$lab/gate/$1.done")
	check "the worker was at it" scene_at_gate "$1"
	check "exit code" equal "$code" "$3"
	check "the message names op and end" contains "$lab/err" "\"$1\""
	if scene_heard Good Freeze; then
		failed=$(awk -v f="$failed" -v now="$(date +%s.%N)" -v up="$(scene_now)" \
			'BEGIN { printf "%.0f", up - (now - f) * 1000000 }')
		check "the writer runs again at once" soon "$failed" "$(scene_runs_again Good)" 2000
	fi
	check "the writer is well" equal "$(scene_row Good .LastError)" "No error"
	nothing_left
	check "the next set works" works
}

worker_fails_in_each_op() {
	local op action

	for op in resolve prepare cut open seal; do
		for action in hang kill exit kill-after "kill-in 2"; do
			# 75: whoever tries again finds another worker
			worker_fails "$op" "$action" 75
		done
	done
}

worker_fails_to_clean_up() {
	local action

	for action in hang kill; do
		begin "worker: abort: $action: what could not be removed is removed later"
		scene_end_writer Good
		scene_writer Good --path "$volume" --on PostSnapshot=once:fail:retryable:no
		scene_gate abort "$action"
		try backup --for "$volume" -- true
		check "the worker was at it" scene_at_gate abort
		check "exit code" equal "$code" 75
		check "no session remains" lab_wait 5 scene_no_session
		vssctl list shadows >/dev/null || true
		check "no copy remains" lab_wait 4 scene_no_copies
		check "the next set works" works

		begin "worker: mount: $action"
		fresh_writer
		scene_gate mount "$action"
		try backup --for "$volume" -- true
		check "COMMAND did not run" differ "$code" 0
		check "the writer heard that the backup did not succeed" scene_heard Good BackupComplete
		nothing_left
		check "the next set works" works

		begin "worker: remove: $action"
		fresh_writer
		scene_gate remove "$action"
		try backup --for "$volume" -- true
		check "the backup itself is done" equal "$code" 0
		check "no session remains" lab_wait 5 scene_no_session
		vssctl list shadows >/dev/null || true
		check "the copy is removed later" lab_wait 4 scene_no_copies
		try create shadow --for "$volume" --json
		scene_gate remove "$action"
		try delete shadows --set "$(scene_result .Set)" -y
		check "delete tells" differ "$code" 0
		vssctl delete shadows --for "$volume" --all -y >/dev/null 2>&1 || true
		check "deleted the second time" lab_wait 4 scene_no_copies

		begin "worker: list: $action"
		scene_gate list "$action"
		try list shadows
		seen "exit code $code: $(head -n 1 "$lab/err")"
		try list shadows
		check "the next time it works" at_most "$code" 3
	done
}

# ---- what belongs to a set ----

below() {
	local set

	begin "what lies below a member is named, and --recursive adds it"
	btrfs --quiet subvolume create "$volume/nested"
	mkdir "$volume/mounted"
	mount -t tmpfs tmpfs "$volume/mounted"
	lab_defer lab_unmount "$volume/mounted"
	try create shadow --for "$volume" --json
	check "the set is made" equal "$code" 0
	check "stderr names the nested subvolume" contains "$lab/err" "not in the set: $volume/nested"
	check "stderr names the mount" contains "$lab/err" "not in the set: $volume/mounted"
	set=$(scene_result .Set)
	jq -r '.Record.NotIncluded[]' "$lab"/v/.vss/*/record.json | sort >"$lab/record"
	check "the record names both" equal "$(cat "$lab/record")" "$(printf '%s\n' "$volume/mounted" "$volume/nested")"
	vssctl delete shadows --set "$set" -y >/dev/null
	umount "$volume/mounted"
	rmdir "$volume/mounted"
	try create shadow --for "$volume" --recursive --json
	check "--recursive: the set is made" equal "$code" 0
	check "--recursive: two copies" equal "$(scene_result '.Shadows | length')" 2
	check "--recursive: nothing is left out" equal "$(scene_result '.NotIncluded | length')" 0
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
	btrfs --quiet subvolume delete "$volume/nested"
	check "all deleted" scene_no_copies
}

one_member() {
	begin "bind mounts and two paths on one volume are one member"
	mkdir -p "$lab/bind" "$volume/deep/er"
	mount --bind "$volume/deep" "$lab/bind"
	lab_defer lab_unmount "$lab/bind"
	try create shadow --for "$volume" --for "$volume/deep/er" --for "$lab/bind" --json
	check "the set is made" equal "$code" 0
	check "one copy" equal "$(scene_result '.Shadows | length')" 1
	check "its instant" equal "$(scene_result .Instant)" set
	umount "$lab/bind"
	rm -r "$volume/deep"
	scene_clear
}

several_filesystems() {
	begin "several filesystems in a set"
	fresh_writer
	try create shadow --for "$volume" --for "$lab/w/data" --json
	check "the set is made" equal "$code" 0
	check "two copies" equal "$(scene_result '.Shadows | length')" 2
	check "each is whole" scene_all_whole
	check "each is whole" scene_all_whole w
	check "it says that there is more than one instant" equal "$(scene_result .Instant)" volume
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
	check "both deleted" scene_no_copies
	check "both deleted" scene_no_copies w

	begin "one of two filesystems fails: nothing of the other remains"
	mount -o remount,ro "$lab/w"
	try create shadow --for "$volume" --for "$lab/w/data"
	check "it is refused" differ "$code" 0
	mount -o remount,rw "$lab/w"
	check "nothing is left" scene_no_copies
	check "the next set works" works
}

many() {
	local i members=()

	begin "64 volumes are a set, 65 are refused"
	for ((i = 1; i <= 65; i++)); do
		btrfs --quiet subvolume create "$lab/v/many$i"
		members+=(--for "$lab/v/many$i")
	done
	try create shadow "${members[@]}" --json
	check "65: exit code" equal "$code" 1
	check "65: the rule" contains "$lab/err" "64 volumes.*0x80042312"
	check "65: nothing is made" scene_no_copies
	try create shadow "${members[@]:0:128}" --json
	check "64: the set is made" equal "$code" 0
	check "64: copies" equal "$(scene_result '.Shadows | length')" 64
	check "64: each is whole" scene_all_whole
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
	check "64: all deleted" scene_no_copies
	btrfs --quiet subvolume delete "$lab/v"/many*
}

scene_start "$1" mkfs.ext4
scene_configure Resolve=1s PrepareCopies=1s Cut=1s FinishCopies=1s RemoveCopies=1s Freeze=5s
lab_make_btrfs w 256M 2>/dev/null
btrfs --quiet subvolume create "$lab/w/data"
w_device=$(findmnt --noheadings --output SOURCE --mountpoint "$lab/w")
scene_gated_vssd

unmounted_before_the_set
full
read_only
not_supported
worker_fails_in_each_op
worker_fails_to_clean_up
below
one_member
several_filesystems
many
scene_done
