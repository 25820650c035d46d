#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A disk fails under a volume and under the store of another one's copies, before, at each step of and after sets, and in lists:
# what fails says why and names the object, nothing stays held, volumes on other disks work on, and when the disk is back the
# next set is whole.
# Usage: test-disk-faults.sh [PART]...: store_away, origin_away, in_list, detached, "sets all_fails"
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

[ "$UDEV" = yes ] || export DM_DISABLE_UDEV=1 # dmsetup makes the nodes
sectors=$(blockdev --getsz /dev/ubdc)
gate=/run/gate
step=/run/step
pause=2000 # ms that a step is kept open for the fault
reasons='/mnt/[abc]|/dev/vg/|vg/|volume group vg|vg-|bad' # what a failure has to name, one of them
cases=0

lap() {
	note "$* ($SECONDS s)"
}

# become TARGET...: the table of the disk that fails
become() {
	dmsetup load bad --table "0 $sectors $*" || die "the disk cannot be made $*"
	dmsetup suspend --noflush --nolockfs bad
	dmsetup resume bad
}

# ---- faults ----

all_fails() {
	become error
}

# LVM that has written the group's metadata meanwhile believes that the disk is missing until it is told otherwise.
mend() {
	become linear /dev/ubdc 0
	vgextend -qq --restoremissing vg /dev/mapper/bad >/dev/null 2>&1 || true
	vgck -qq --updatemetadata vg >/dev/null 2>&1 || true
}

# ---- vssctl ----

# try ARGUMENT...: $code, /run/out, /run/err; it ends in time
try() {
	code=0
	timeout 120 "$BUILD/requestor/vssctl" "$@" >/run/out 2>/run/err || code=$?
	[ "$code" -ne 124 ] || die "vssctl $* does not end: $(vssctl status)"
}

works() {
	try "$@"
	[ "$code" -eq 0 ] || die "vssctl $*: $(cat /run/err)"
}

# fails WORDS ARGUMENT...: an expression that its error matches
fails() {
	local words=$1

	shift
	try "$@"
	[ "$code" -ne 0 ] || die "vssctl $* succeeds with a broken disk: $(cat /run/out)"
	grep -qE -- "$words" /run/err || die "vssctl $* fails with other words than '$words': $(cat /run/err)"
	note "said: $(tail -n 1 /run/err)"
}

# ---- what has to be so ----

nothing_held() {
	! compgen -G '/run/vss-guard/held-*' >/dev/null || die "$1: still held: $(vssctl status)"
	! dmsetup info -c --noheadings -o attr | grep -q s || die "$1: suspended: $(dmsetup info -c -o name,attr)"
}

# Of a filesystem whose disk was away.
again() {
	umount "/mnt/$1" || die "$1 cannot be unmounted"
	e2fsck -fy "/dev/vg/$1" >/run/fsck.log 2>&1 || [ $? -le 2 ] || die "e2fsck of $1: $(cat /run/fsck.log)"
	mount_lv vg "$1"
}

no_copy_left() {
	! lvs -a --noheadings -o lv_name vg | grep -q vss- && ! dmsetup info -c --noheadings -o name | grep -q -- -vss--
}

delete_all() { # WHAT
	local volume

	for volume in a b c; do
		try delete shadows --for /mnt/$volume --all -y
	done
	wait_for 60 no_copy_left || die "$1: left: $(lvs -a vg) $(dmsetup info -c -o name,attr)"
}

# check_copies WHAT SETTING: of the set in /run/set.json: each shows what was there
check_copies() {
	local volume device

	for volume in a b c; do
		device=$(jq -r --arg v /mnt/$volume '.result.Shadows[] | select(.Volume == $v) | .Device' /run/set.json)
		e2fsck -fn "$device" >/run/fsck.log 2>&1 || die "$1: the copy of $volume: $(cat /run/fsck.log)"
		mount -o ro "$device" /mnt/copy || die "$1: the copy of $volume cannot be mounted"
		[ "$(cat /mnt/copy/now)" = "$2" ] || die "$1: the copy of $volume shows something else"
		umount /mnt/copy
	done
}

settle() { # SETTING
	local volume

	for volume in a b c; do
		echo "$1" >/mnt/$volume/now || die "$1: $volume cannot be written"
		sync -f /mnt/$volume
	done
}

# whole WHAT: a set of all, whose copies are clean and show what is there; then there is none
whole() {
	settle "$1"
	works create shadow --for /mnt/a --for /mnt/b --for /mnt/c --json
	cp /run/out /run/set.json
	check_copies "$1" "$1"
	delete_all "$1"
}

# ---- before and after ----

store_away() {
	local copy device

	lap "the disk of a store goes: the copy is lost and says so, the volume goes on"
	works create shadow --for /mnt/a --json
	copy=$(jq -r '.result.Shadows[0].Shadow' /run/out)
	device=$(jq -r '.result.Shadows[0].Device' /run/out)
	all_fails
	dd if=/dev/urandom of=/mnt/a/more bs=1M count=4 oflag=direct 2>/dev/null || die "the volume cannot be written"
	dmsetup status "$device" | grep -q Invalid || die "the copy is still valid: $(dmsetup status "$device")"
	fails "volume group vg is incomplete" create shadow --for /mnt/a
	nothing_held "a set whose store is away"
	works list shadows --for /mnt/a
	grep -q "overflowed\|cannot be used" /run/out || die "a lost copy passes for a good one: $(cat /run/out)"
	try delete shadows --shadow "$copy" -y
	note "deleted while its disk is away: $code $(cat /run/err)"
	[ -e /mnt/a/more ] || die "the volume is not well"
	mend
	delete_all "a store's disk is back"
	whole "after the disk of a store was away"
}

origin_away() {
	lap "the disk of a volume goes"
	all_fails
	fails "volume group vg is incomplete" create shadow --for /mnt/b --for /mnt/c
	nothing_held "a set of a volume that is away"
	writable /mnt/c || die "another volume of the set cannot be written"
	works list shadows
	works list volumes
	mend
	again b
	whole "after the disk of a volume was away"
}

# ---- in the middle ----

arrange() { # STEP
	rm -f "${gate:?}"/* "${step:?}"/*
	case $1 in
	window:*) tr : ' ' <<<"${1#window:}" >"$step/step" ;;
	*) echo "delay $pause" >"$gate/$1" ;;
	esac
}

reached() { # STEP
	case $1 in
	window:*) [ -e "$step/reached" ] ;;
	*) [ -e "$gate/$1.done" ] ;;
	esac
}

# during FAULT STEP ARGUMENT...: of vssctl; $outcome
during() {
	local fault=$1 at=$2 requestor

	shift 2
	arrange "$at"
	timeout 120 "$BUILD/requestor/vssctl" "$@" >/run/out 2>/run/err &
	requestor=$!
	wait_for 60 reached "$at" || die "$what: not reached: $(cat /run/err)"
	"$fault"
	touch "$step/go-on"
	outcome=0
	wait "$requestor" || outcome=$?
	rm -f "${step:?}"/*
	[ "$outcome" -ne 124 ] || die "$what: it does not end: $(vssctl status)"
	[ "$outcome" -eq 0 ] || grep -qE "$reasons" /run/err || die "$what: the failure names nothing: $(cat /run/err)"
	nothing_held "$what"
	writable /mnt/c || die "$what: a volume on a good disk cannot be written"
	if [ "$outcome" -eq 0 ]; then
		note "$what: done"
	else
		note "$what: $(tail -n 1 /run/err)"
	fi
	cases=$((cases + 1))
}

# in_set FAULT STEP: what was made all the same is good when the disk is back, or known to be lost
in_set() {
	what="$1 at $2"
	settle "$what"
	during "$1" "$2" create shadow --for /mnt/a --for /mnt/b --for /mnt/c --json
	cp /run/out /run/set.json
	mend
	again b
	if [ "$outcome" -eq 0 ] && ! dmsetup status | grep -q Invalid; then
		check_copies "$what" "$what"
	elif [ "$outcome" -eq 0 ]; then
		works list shadows --for /mnt/a
		grep -q "overflowed\|cannot be used" /run/out || die "$what: a lost copy passes for a good one: $(cat /run/out)"
	fi
	delete_all "$what"
	whole "after: $what"
}

sets() { # FAULT
	local at steps=(prepare arm window:freeze:1:after window:suspend:2:after window:cut:1:after window:thaw:1:after open seal)

	lap "$1 in the middle of sets"
	for at in "${steps[@]}"; do
		in_set "$1" "$at"
	done
}

in_list() {
	lap "the disk goes while copies are listed"
	what="all_fails at list"
	works create shadow --for /mnt/a --for /mnt/b --for /mnt/c --json
	during all_fails list list shadows --for /mnt/c --json
	[ "$outcome" -eq 0 ] || die "$what: a copy on a good disk is not listed: $(cat /run/err)"
	jq -e '.shadows | length == 1' /run/out >/dev/null || die "$what: $(cat /run/out)"
	mend
	again b
	delete_all "$what"
	whole "after: $what"
}

detached() {
	local loop

	lap "a loop device is detached in the middle of a set"
	what="a loop device is detached"
	truncate -s 120M /dev/shm/disk.img
	loop=$(losetup --find --show /dev/shm/disk.img)
	make_vg other "$loop"
	make_lv other l 48M ext4
	mount_lv other l
	detach() {
		# shellcheck disable=SC2317
		losetup --detach "$loop" # goes when nobody has it open any more
	}
	during detach arm create shadow --for /mnt/l
	[ "$outcome" -eq 0 ] || die "a set on a loop device that is to go: $(cat /run/err)"
	works delete shadows --for /mnt/l --all -y
	writable /mnt/l || die "the volume is not well"
	umount /mnt/l
	vgchange -qq -an other
	wait_for 20 sh -c "! losetup $loop" || die "the loop device does not go"
	works list shadows
}

start_gated_guard() {
	mkdir -p /run/vss-guard
	spawn guard "$BUILD/tests/system/guard-stepper"
	wait_for 20 test -S /run/vss-guard/guard.sock || die "vss-guard does not start"
}

sed -i 's#devices {#devices { filter=["r|^/dev/ubdc$|", "a|.*|"]#' /etc/lvm/lvm.conf
dmsetup create bad --table "0 $sectors linear /dev/ubdc 0"
make_vg vg /dev/ubdb /dev/mapper/bad
for volume in a:/dev/ubdb b:/dev/mapper/bad c:/dev/ubdb; do
	lvcreate -qq -y -Wy -Zy -n "${volume%%:*}" -L 48M vg "${volume#*:}" || die "no volume"
	make_fs "/dev/vg/${volume%%:*}" ext4
	mount_lv vg "${volume%%:*}"
done
export GATE_DIRECTORY=$gate GATE_WORKER=$BUILD/coordinator/providers/vss-worker GUARD_STEP_DIRECTORY=$step
mkdir -p /mnt/copy "$gate" "$step"
start_bus
start_gated_guard
start_vssd --worker "$BUILD/tests/system/gate-worker"
works add shadowstorage --for /mnt/a --on /dev/mapper/bad
works add shadowstorage --for /mnt/b --on /dev/ubdb
works add shadowstorage --for /mnt/c --on /dev/ubdb
whole "at first"
[ $# -gt 0 ] || set -- store_away origin_away in_list detached "sets all_fails"
for part; do
	$part
done
for volume in a b c; do
	assert_healthy vg $volume
done
note "$cases faults in the middle, none left anything"
