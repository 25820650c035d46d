#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copies live with their volume group: they are known after it has been exported and imported, and by a vssd that knows
# nothing but the disk, as when an image is moved.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

make_vg vg /dev/ubdb
make_volumes 2 ext4
start_all
start_writer
create_set /run/set.json || die "no set: $(cat /run/create.err)"
stop_writer

# known WHEN: the same copies, and what is in them.
known() {
	local volume

	vssctl list shadows --json >/run/list.json || die "$1: nothing can be listed"
	for volume in "${volumes[@]}"; do
		jq -e --arg id "$(copy_of /run/set.json "$volume")" --arg set "$(jq -r .result.Set /run/set.json)" \
			'.shadows[] | select(.Shadow == $id and .Set == $set)' /run/list.json >/dev/null ||
			die "$1: the copy of $volume is not known: $(cat /run/list.json)"
	done
	expose_set /run/set.json
	is_ordered >/run/order.log || die "$1: out of order: $(cat /run/order.log)"
	unexpose_set /run/set.json
	note "$1: known, and in order"
}

away() {
	local volume

	for volume in "${volumes[@]}"; do
		umount "$volume"
	done
	vgchange -qq -an vg || die "the group cannot be deactivated"
}

back() {
	local volume

	vgchange -qq -ay vg || die "the group cannot be activated"
	for volume in "${volumes[@]}"; do
		mount_lv vg "${volume##*/}"
	done
}

known "made"
away
vgexport -qq vg || die "no export"
vssctl list shadows --json >/run/list.json || die "a list with an exported group fails"
vgimport -qq vg || die "no import"
back
known "exported and imported"

stop vssd
stop guard
away
rm -rf /run/vssd /run/vss-guard /run/vssd.conf
size=$(blockdev --getsize64 /dev/ubdb)
cp --sparse=always /dev/ubdb /dev/shm/moved.img
wipefs -qaf /dev/ubdb
truncate -s "$size" /dev/shm/moved.img
loop=$(losetup --find --show /dev/shm/moved.img)
note "the disk is now $loop"
vgscan -qq >/dev/null 2>&1 || true
back
start_guard
start_vssd
known "moved"
delete_set /run/set.json
[ "$(lvs -a --noheadings -o lv_name vg | wc -l)" -eq 2 ] || die "volumes are left: $(lvs -a vg)"
for i in 1 2; do
	assert_healthy vg "v$i"
done
