#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What a power cut leaves, in two boots of the same disks. "cut SCENE WHERE [ACTION]": a set, a revert or a deletion that comes to
# WHERE, an op of the provider with what the gate does to it or window:OP:N:WHEN, where run.sh cuts the power. "boot SCENE":
# every volume activates, origins are clean, no half-made copy remains, what was there before still is, and a set works.
# Scenes: set, delete, revert-thick, revert-thin, revert-used (of a mounted volume: it waits for its next activation).
# Scenes are functions that are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

all=(v1 v2 v3 thick thin)

# ---- before the cut ----

start_stepped() {
	mkdir -p "$LAB/gate" "$LAB/step" /run/vss-guard
	export GATE_DIRECTORY=$LAB/gate GATE_WORKER=$BUILD/coordinator/providers/vss-worker GUARD_STEP_DIRECTORY=$LAB/step
	start_bus
	spawn guard "$BUILD/tests/system/guard-stepper"
	wait_for 10 test -S /run/vss-guard/guard.sock || die "vss-guard does not start"
	start_vssd --worker "$BUILD/tests/system/gate-worker"
}

# arm WHERE [ACTION]: from now on.
arm() {
	case $1 in
	window:*) tr : ' ' <<<"${1#window:}" >"$LAB/step/step" ;;
	*) echo "$2" >"$LAB/gate/$1" ;;
	esac
}

cut_set() {
	arm "$@"
	create_set /run/set.json || note "the set failed: $(cat /run/create.err)"
}

cut_delete() {
	create_set "$LAB/doomed.json" || die "no set: $(cat /run/create.err)"
	sync
	arm "$@"
	delete_set "$LAB/doomed.json"
}

cut_revert() { # VOLUME used|unused WHERE ACTION
	local copy

	echo old >"/mnt/$1/file"
	sync -f "/mnt/$1"
	copy=$(vssctl create shadow --json --for "/mnt/$1" | jq -r '.result.Shadows[0].Shadow')
	echo "$copy" >"$LAB/copy"
	echo new >"/mnt/$1/file"
	dd if=/dev/urandom of="/mnt/$1/other" bs=1M count=8 status=none # for the merge to have something to do
	sync -f "/mnt/$1"
	[ "$2" = used ] || umount "/mnt/$1"
	sync
	arm "$3" "$4"
	vssctl revert shadow --shadow "$copy" -y || note "the revert failed"
}

cut() {
	local scene=$1

	shift
	make_vg vg /dev/ubdb
	make_pool vg pool 160M
	make_volumes 2 ext4
	make_thin vg pool v3 64M ext4
	make_lv vg thick 48M ext4
	make_thin vg pool thin 64M ext4
	volumes+=(/mnt/v3)
	mount_lv vg v3
	mount_lv vg thick
	mount_lv vg thin
	start_stepped
	start_writer
	create_set "$LAB/before.json" || die "no set: $(cat /run/create.err)"
	sync
	case $scene in
	set | delete) "cut_$scene" "$@" ;;
	revert-thick) cut_revert thick unused "$@" ;;
	revert-thin) cut_revert thin unused "$@" ;;
	revert-used) cut_revert thick used "$@" ;;
	esac
	sleep 10 # run.sh has seen the mark, and cuts
}

# ---- after it ----

no_half_made() {
	! lvs -a --noheadings -o lv_tags vg | grep -q vss.state=preparing
}

is_merged() {
	! vssctl query reverts | grep -q Volume
}

list() {
	vssctl list shadows --json >/run/list.json || die "nothing can be listed"
}

# as_set SET: what is listed of it, as create shadow tells of a set
as_set() {
	jq --arg set "$1" '[.shadows[] | select(.Set == $set)] | { result: { Set: $set, Instant: .[0].Instant, Shadows: . } }' /run/list.json
}

# What is left of a set that was being made or deleted: nothing, or all of it and whole; being deleted, any of its copies.
check_other() { # SET whole|some
	local count listed saved=("${volumes[@]}") volume

	as_set "$1" >/run/other.json
	listed=$(jq '.result.Shadows | length' /run/other.json)
	count=$(jq '.result.Shadows[0].SetCount' /run/other.json)
	if [ "$listed" -eq "$count" ]; then
		check_set /run/other.json
	else
		[ "$2" = some ] || die "$listed copies of $count of a set are left: $(cat /run/other.json)"
		mapfile -t volumes < <(jq -r '.result.Shadows[].Volume' /run/other.json)
		expose_set /run/other.json
		for volume in "${volumes[@]}"; do
			[ -s "/mnt/copy/${volume##*/}/number" ] || die "a copy of $volume that was not deleted is empty"
		done
		unexpose_set /run/other.json
		volumes=("${saved[@]}")
	fi
	vssctl delete shadows --set "$1" -y >/run/out 2>&1 || die "the set $1 cannot be deleted: $(cat /run/out)"
	note "$listed copies of $count of the other set were there"
}

check_others() { # whole|some
	local set

	list
	jq -r --arg before "$(jq -r .result.Set "$LAB/before.json")" '[.shadows[].Set] | unique[] | select(. != $before)' \
		/run/list.json >/run/sets
	while read -r set; do
		check_other "$set" "$1"
	done </run/sets
}

# The volume shows what it was or what the copy holds; while the copy is there, it can be reverted to.
check_revert() { # VOLUME
	local copy shown

	copy=$(cat "$LAB/copy")
	wait_for 60 is_merged || die "still merging: $(vssctl query reverts; lvs -a vg; dmsetup status)"
	mount_lv vg "$1"
	shown=$(cat "/mnt/$1/file")
	umount "/mnt/$1"
	note "after the cut $1 shows '$shown'"
	[ "$shown" = old ] || [ "$shown" = new ] || die "$1 shows '$shown'"
	list
	if jq -e --arg copy "$copy" 'any(.shadows[]; .Shadow == $copy)' /run/list.json >/dev/null; then
		vssctl revert shadow --shadow "$copy" -y >/run/out 2>&1 || die "no revert after the cut: $(cat /run/out)"
		wait_for 60 is_merged || die "still merging: $(vssctl query reverts)"
	fi
	mount_lv vg "$1"
	[ "$(cat "/mnt/$1/file")" = old ] || die "in the end $1 shows '$(cat "/mnt/$1/file")'"
	[ ! -e "/mnt/$1/other" ] || die "in the end $1 holds what came after the copy"
	umount "/mnt/$1"
	list
	jq -e --arg copy "$copy" 'any(.shadows[]; .Shadow == $copy) | not' /run/list.json >/dev/null || die "the copy is still listed"
}

boot() {
	local lv volume

	vgchange -qq -ay vg || die "the volume group does not activate"
	for lv in "${all[@]}"; do
		e2fsck -p "/dev/vg/$lv" >/run/fsck.log 2>&1 || [ $? -le 1 ] || die "$lv is damaged: $(cat /run/fsck.log)"
		e2fsck -fn "/dev/vg/$lv" >/run/fsck.log 2>&1 || die "$lv is not clean: $(cat /run/fsck.log)"
	done
	for lv in v1 v2 v3; do
		mount_lv vg "$lv"
		volumes+=("/mnt/$lv")
	done
	start_all
	wait_for 30 no_half_made || die "half-made copies remain: $(lvs -a -o lv_name,lv_tags vg)"
	list
	for volume in "${volumes[@]}"; do
		jq -e --arg id "$(copy_of "$LAB/before.json" "$volume")" '.shadows[] | select(.Shadow == $id)' /run/list.json \
			>/dev/null || die "the copy of $volume, made before the cut, is gone: $(cat /run/list.json)"
	done
	case $1 in
	set) check_others whole ;;
	delete) check_others some ;;
	revert-thin) check_revert thin ;;
	revert-*) check_revert thick ;;
	esac
	check_set "$LAB/before.json"
	start_writer
	create_set /run/set.json || die "no set after the cut: $(cat /run/create.err)"
	check_set /run/set.json
	stop_writer
	delete_set /run/set.json
	delete_set "$LAB/before.json"
	mount_lv vg thick
	mount_lv vg thin
	for lv in "${all[@]}"; do
		assert_healthy vg "$lv"
	done
	[ "$(lvs --noheadings -o lv_name vg | grep -cv pool)" -eq "${#all[@]}" ] || die "volumes are left: $(lvs -a vg)"
	for lv in "${all[@]}"; do
		umount "/mnt/$lv"
	done
	vgchange -qq -an vg || die "the volume group does not deactivate"
	[ "$(dmsetup ls)" = "No devices found" ] || die "devices are left: $(dmsetup ls)"
}

"$@"
