#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A virtual disk (an image on a logical volume, attached as a loop device) with a volume group inside, on a machine that has
# another one: it keeps its own copies and nobody else's, and goes with them to another machine.
# Usage: test-self-hosting.sh first|second plain|luks: the machine that makes it, and one that was freshly booted with the same
# disks; the group lies on a partition of the disk, or in an encrypted one
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/disks.sh
. "$SOURCE/tests/uml/disks.sh"

kind=$2

# attach LOOP IMAGE: $pv is what the group lies on
attach() {
	losetup "$1" "$2"
	addpart "$1" 1 2048 325632
	wait_for 5 test -b "$1p1" || die "no partition on the loop"
	pv=$1p1
	[ "$kind" = plain ] || pv=/dev/mapper/secret
}

first() {
	make_vg host /dev/ubdb
	make_lv host house 300M ext4
	make_lv host plain 48M ext4
	mount_lv host house
	mount_lv host plain
	truncate -s 160M /mnt/house/disk.img
	attach /dev/loop0 /mnt/house/disk.img
	[ "$kind" = plain ] || make_luks /dev/loop0p1 secret
	make_vg virtual "$pv"
	make_lv virtual v 32M ext4
	make_lv virtual w 24M ext4
	mount_lv virtual v
	mount_lv virtual w
	echo before >/mnt/v/file
	echo before >/mnt/w/file
	start_all

	note "who may keep whose copies"
	[ "$(may /mnt/v virtual)" = true ] || die "a virtual disk may not keep its own copies"
	[ "$(may /mnt/v host)" = false ] || die "copies of a virtual disk may lie elsewhere"
	[ "$(may /mnt/plain virtual)" = false ] || die "a virtual disk may keep others' copies"
	no_set_of "cannot be in one set" /mnt/v /mnt/house
	set_of /mnt/v /mnt/plain
	[ "$kind" = luks ] || both_kinds

	note "detached with its copies"
	spawn app "$BUILD/writers/test-writer/vss-test-writer" --name App --path /mnt/v
	wait_for 20 grep -q READY /run/log/app.log || die "no writer"
	works create shadow --for /mnt/v --for /mnt/w --json
	jq -S .result /run/out >"$LAB/set"
	works list shadows --json
	jq -S '[.shadows[] | {Shadow, Set, SetCount, Created, Host, Volume: .VolumeId, Consistency, Instant}] | sort_by(.Shadow)' \
		/run/out >"$LAB/rows"
	mkdir -p /mnt/copy
	works expose --shadow "$(copy_of v)" /mnt/copy
	cp /mnt/copy/.vss/record.json "$LAB/document"
	works unexpose --shadow "$(copy_of v)"
	grep -q App "$LAB/document" || die "the writer is not in the document"
	stop app
	echo after >/mnt/v/file
	echo after >/mnt/w/file
	umount /mnt/v /mnt/w
	stop vssd
	vgchange -qq -an virtual
	[ "$kind" = plain ] || cryptsetup close secret
	losetup -d /dev/loop0
	mv /mnt/house/disk.img /mnt/house/moved.img
	umount /mnt/house /mnt/plain
	vgchange -qq -an host
}

# copy_of LV: of the set that was made on the first machine
copy_of() {
	jq -r --arg v "/mnt/$1" '.Shadows[] | select(.Volume == $v) | .Shadow' "$LAB/set"
}

both_kinds() {
	local lv copy

	note "a group of both kinds"
	umount /mnt/v /mnt/w
	vgmerge -qq host virtual 2>/dev/null || { vgchange -qq -an virtual && vgmerge -qq host virtual; }
	lvchange -qq -ay host/v
	mount_lv host v
	[ "$(may /mnt/v /dev/loop0p1)" = true ] || die "its own disk may not keep its copies"
	[ "$(may /mnt/v /dev/ubdb)" = false ] || die "the real disk may keep a virtual volume's copies"
	[ "$(may /mnt/plain /dev/loop0p1)" = false ] || die "the virtual disk may keep a real volume's copies"
	no_set_of "holds the image" /mnt/house
	works create shadow --for /mnt/v --for /mnt/plain
	for lv in v plain; do
		copy=$(lvs --noheadings -o lv_name -S "origin=$lv" host | tr -d ' ')
		lvs -a --noheadings -o devices "host/$copy" >/run/devices
		case $lv in
		v) ! grep -q ubdb /run/devices || die "the virtual volume's store lies on $(cat /run/devices)" ;;
		plain) ! grep -q loop /run/devices || die "the real volume's store lies on $(cat /run/devices)" ;;
		esac
	done
	works delete shadows --for /mnt/v --all -y
	works delete shadows --for /mnt/plain --all -y
	umount /mnt/v
	lvchange -qq -an host/v host/w
	vgsplit -qq -n v host virtual || die "the groups cannot be split again"
	vgchange -qq -ay virtual
	mount_lv virtual v
	mount_lv virtual w
}

no_reverts() {
	! vssctl query reverts | grep -q Volume
}

second() {
	vgchange -qq -ay host
	mount_lv host house
	tr -d - </proc/sys/kernel/random/uuid >/run/own-id
	printf '[Coordinator]\nMachineId=%s\n' "$(cat /run/own-id)" >/run/vssd.conf
	start_all
	works list shadows --json
	[ "$(jq '.shadows | length' /run/out)" = 0 ] || die "there are copies before the disk is attached"
	attach /dev/loop3 /mnt/house/moved.img
	[ "$kind" = plain ] || open_luks /dev/loop3p1 secret
	vgchange -qq -ay virtual
	mount_lv virtual v
	mount_lv virtual w

	note "copies, sets and documents are there on another machine"
	works list shadows --set "$(jq -r .Set "$LAB/set")" --json
	jq -S '[.shadows[] | {Shadow, Set, SetCount, Created, Host, Volume: .VolumeId, Consistency, Instant}] | sort_by(.Shadow)' \
		/run/out >/run/rows
	cmp -s /run/rows "$LAB/rows" || die "the copies are other ones: $(diff "$LAB/rows" /run/rows)"
	[ "$(jq length /run/rows)" = 2 ] || die "the set has $(jq length /run/rows) copies"
	[ "$(jq -r '.[0].Host' /run/rows)" != "$(cat /run/own-id)" ] || die "it is taken for this machine's: $(cat /run/out)"
	mkdir -p /mnt/copy
	works expose --shadow "$(copy_of v)" /mnt/copy
	[ "$(cat /mnt/copy/file)" = before ] || die "the copy holds $(cat /mnt/copy/file)"
	cmp -s /mnt/copy/.vss/record.json "$LAB/document" || die "its document has changed, or is missing"
	works unexpose --shadow "$(copy_of v)"
	[ "$(cat /mnt/v/file)" = after ] || die "the volume holds $(cat /mnt/v/file)"

	note "and can be gone back to"
	umount /mnt/v
	works revert shadow --shadow "$(copy_of v)" -y
	wait_for 60 no_reverts || die "still merging: $(vssctl query reverts)"
	mount_lv virtual v
	[ "$(cat /mnt/v/file)" = before ] || die "the volume holds $(cat /mnt/v/file) after the revert"
	works resize shadowstorage --for /mnt/w --on virtual --maxsize 40MB
	fails "another machine's" create shadow --for /mnt/w # which has no room beside that copy, and does not take it
	works delete shadows --shadow "$(copy_of w)" -y      # as who asks for it may
	works list shadows --json
	[ "$(jq '.shadows | length' /run/out)" = 0 ] || die "copies are left: $(cat /run/out)"
	judged_anew
	assert_healthy virtual v
	assert_healthy virtual w
}

# The rules hold here as they did there.
judged_anew() {
	no_set_of "cannot be in one set" /mnt/v /mnt/house
	set_of /mnt/v /mnt/w
}

"$1"
