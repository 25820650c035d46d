#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What a power cut leaves, in two boots of the same disks. "cut OP ACTION": makes a set and hangs before or after that op of
# the provider, where run.sh cuts the power. "boot": every volume activates, origins are clean, no half-made copy remains, what
# was there before still is, and a set works.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

no_half_made() {
	! lvs --noheadings -o lv_tags vg | grep -q vss.state=preparing
}

cut() {
	make_vg vg /dev/ubdb
	make_pool vg pool 96M
	make_volumes 2 ext4
	make_thin vg pool v3 64M ext4
	mount_lv vg v3
	volumes+=(/mnt/v3)
	start_bus
	start_guard
	mkdir -p "$LAB/gate"
	export GATE_DIRECTORY=$LAB/gate GATE_WORKER=$BUILD/coordinator/providers/vss-worker
	start_vssd --worker "$BUILD/tests/system/gate-worker"
	start_writer
	create_set "$LAB/before.json" || die "no set: $(cat /run/create.err)"
	sync
	echo "$2" >"$LAB/gate/$1"
	create_set /run/set.json || note "the set failed: $(cat /run/create.err)"
}

boot() {
	local i volume

	vgchange -qq -ay vg || die "the volume group does not activate"
	for i in 1 2 3; do
		e2fsck -p "/dev/vg/v$i" >/run/fsck.log 2>&1 || [ $? -le 1 ] || die "v$i is damaged: $(cat /run/fsck.log)"
		mount_lv vg "v$i"
		volumes+=("/mnt/v$i")
	done
	start_all
	vssctl list shadows >/dev/null || true
	wait_for 30 no_half_made || die "half-made copies remain: $(lvs -a -o lv_name,lv_tags vg)"
	vssctl list shadows --json >/run/list.json
	for volume in "${volumes[@]}"; do
		jq -e --arg id "$(copy_of "$LAB/before.json" "$volume")" '.shadows[] | select(.Shadow == $id)' /run/list.json \
			>/dev/null || die "the copy of $volume, made before the cut, is gone: $(cat /run/list.json)"
	done
	start_writer
	create_set /run/set.json || die "no set after the cut: $(cat /run/create.err)"
	check_set /run/set.json
	stop_writer
	for i in 1 2 3; do
		assert_healthy vg "v$i"
	done
}

"$@"
