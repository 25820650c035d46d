#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A virtual disk (an image on a logical volume, attached as a loop device) with a volume group inside, on a machine that has
# another one: it keeps its own copies and nobody else's, and goes with them to another machine.
# Usage: test-self-hosting.sh first|second: the machine that makes it, and one that was freshly booted with the same disks
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

fails() {
	local words=$1

	shift
	! vssctl "$@" >/run/out 2>/run/err || die "vssctl $* succeeds"
	grep -q "$words" /run/err || die "vssctl $* fails with other words than '$words': $(cat /run/err)"
}

works() {
	vssctl "$@" >/run/out 2>/run/err || die "vssctl $*: $(cat /run/err)"
}

# may FOR NAME: yes or no, in the list of what could hold copies
may() {
	vssctl list volumes --for "$1" --json | jq -r --arg n "$2" '.candidates[] | select(.Name == $n) | .Candidate'
}

first() {
	make_vg host /dev/ubdb
	make_lv host house 300M ext4
	make_lv host plain 48M ext4
	mount_lv host house
	mount_lv host plain
	truncate -s 160M /mnt/house/disk.img
	losetup /dev/loop0 /mnt/house/disk.img
	addpart /dev/loop0 1 2048 325632
	wait_for 5 test -b /dev/loop0p1 || die "no partition on the loop"
	make_vg virtual /dev/loop0p1
	make_lv virtual v 48M ext4
	mount_lv virtual v
	echo before >/mnt/v/file
	start_all

	note "who may keep whose copies"
	[ "$(may /mnt/v virtual)" = true ] || die "a virtual disk may not keep its own copies"
	[ "$(may /mnt/v host)" = false ] || die "copies of a virtual disk may lie elsewhere"
	[ "$(may /mnt/plain virtual)" = false ] || die "a virtual disk may keep others' copies"
	fails "cannot be in one set" create shadow --for /mnt/v --for /mnt/house
	works create shadow --for /mnt/v --for /mnt/plain
	works delete shadows --for /mnt/v --all -y
	works delete shadows --for /mnt/plain --all -y

	note "a disk in a disk"
	make_lv virtual inner 24M ext4
	mount_lv virtual inner
	truncate -s 18M /mnt/inner/nested.img
	losetup /dev/loop1 /mnt/inner/nested.img
	make_vg nested /dev/loop1
	lvcreate -qq -y -Wn -Zn -n n -L 8M nested 2>/dev/null
	fails "disk in a disk" create shadow --for /dev/nested/n
	vgchange -qq -an nested
	losetup -d /dev/loop1
	umount /mnt/inner
	lvremove -qq -y virtual/inner

	note "a group of both kinds"
	umount /mnt/v
	vgmerge -qq host virtual 2>/dev/null || { vgchange -qq -an virtual && vgmerge -qq host virtual; }
	lvchange -qq -ay host/v
	mount_lv host v
	[ "$(may /mnt/v /dev/loop0p1)" = true ] || die "its own disk may not keep its copies"
	[ "$(may /mnt/v /dev/ubdb)" = false ] || die "the real disk may keep a virtual volume's copies"
	[ "$(may /mnt/plain /dev/loop0p1)" = false ] || die "the virtual disk may keep a real volume's copies"
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
	lvextend -qq host/v -L +8M /dev/ubdb 2>/dev/null
	fails "as well, so that it cannot be detached" create shadow --for /mnt/v
	umount /mnt/v
	lvreduce -qq -f -y -L -8M host/v 2>/dev/null || die "it cannot be made smaller again"
	lvchange -qq -an host/v
	vgsplit -qq -n v host virtual || die "the groups cannot be split again"
	vgchange -qq -ay virtual

	note "detached with its copies"
	mount_lv virtual v
	works create shadow --for /mnt/v
	echo after >/mnt/v/file
	umount /mnt/v
	stop vssd
	vgchange -qq -an virtual
	losetup -d /dev/loop0
	mv /mnt/house/disk.img /mnt/house/moved.img
	umount /mnt/house /mnt/plain
	vgchange -qq -an host
}

second() {
	vgchange -qq -ay host
	mount_lv host house
	losetup /dev/loop3 /mnt/house/moved.img
	addpart /dev/loop3 1 2048 325632
	wait_for 5 test -b /dev/loop3p1 || die "no partition on the loop"
	vgchange -qq -ay virtual
	mount_lv virtual v
	tr -d - </proc/sys/kernel/random/uuid >/run/own-id
	printf '[Coordinator]\nMachineId=%s\n' "$(cat /run/own-id)" >/run/vssd.conf
	start_all
	note "copies, sets and documents are there on another machine"
	works list shadows --json
	[ "$(jq '.shadows | length' /run/out)" = 1 ] || die "there are $(jq '.shadows | length' /run/out) copies"
	copy=$(jq -r '.shadows[0].Shadow' /run/out)
	[ "$(jq -r '.shadows[0].Host' /run/out)" != "$(cat /run/own-id)" ] || die "it is taken for this machine's: $(cat /run/out)"
	mkdir -p /mnt/copy
	works expose --shadow "$copy" /mnt/copy
	[ "$(cat /mnt/copy/file)" = before ] || die "the copy holds $(cat /mnt/copy/file)"
	jq -e .Record /mnt/copy/.vss/record.json >/dev/null || die "its document is missing"
	works unexpose --shadow "$copy"
	[ "$(cat /mnt/v/file)" = after ] || die "the volume holds $(cat /mnt/v/file)"
	works create shadow --for /mnt/v
}

"$1"
