#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every kind of logical volume and volume group: sets of those that are supported show what was there and are clean, the others
# are refused with the rule and the error's name; none is guessed. The table in docs/admin-guide.md says the same.
# Usage: test-refusals.sh [PART]...: supported, levels, caches, journals, snapshots, groups, missing
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

[ "$UDEV" = yes ] || export DM_DISABLE_UDEV=1 # dmsetup makes the nodes
failures=0
piece=$((200 * 2048)) # sectors

lap() {
	note "$* ($SECONDS s)"
}

failed() {
	note "FAILED: $*"
	failures=$((failures + 1))
}

nothing_left() {
	! dmsetup info -c --noheadings -o attr | grep -q s || die "$1: something is suspended"
	! compgen -G '/run/vss-guard/held-*' >/dev/null || die "$1: something is held"
	! dmsetup info -c --noheadings -o name | grep -- '-vss--' || die "$1: a device of a copy is left"
}

# refused PATH NAME WORDS: by vssctl, with an error of this name, with these words (an expression)
refused() {
	local code=0

	timeout 60 "$BUILD/requestor/vssctl" create shadow --for "$1" --json >/run/out 2>/run/err || code=$?
	if [ "$code" -eq 0 ]; then
		failed "$1 is copied, although: $3"
		vssctl delete shadows --for "$1" --all -y >/dev/null 2>&1 || true
	elif [ "$(jq -r .error.name /run/out)" != "$2" ]; then
		failed "$1 is refused, as $(jq -r .error.name /run/out) and not $2: $(cat /run/err)"
	elif ! grep -qE -- "$3" /run/err; then
		failed "$1 is refused with other words than '$3': $(cat /run/err)"
	else
		note "refused: $2: $(head -n 1 /run/err)"
	fi
	nothing_left "$1"
}

# same_after NAME: the copy in /run/set.json is clean and holds "before"
same_after() {
	local device

	[ "$(jq -r .result.Instant /run/set.json)" = set ] || failed "$1: no instant: $(jq -r .result.InstantReason /run/set.json)"
	device=$(jq -r '.result.Shadows[0].Device' /run/set.json)
	[ -e "$device" ] || lvchange -qq -ay -K "${device#/dev/}"
	e2fsck -fn "$device" >/run/fsck.log 2>&1 || failed "$1: $(cat /run/fsck.log)"
	mount -o ro "$device" /mnt/copy || die "the copy of $1 cannot be mounted"
	[ "$(cat /mnt/copy/file)" = before ] || failed "the copy of $1 shows '$(cat /mnt/copy/file)'"
	umount /mnt/copy
}

# copied LV: of the group st; mounted, with a filesystem
copied() {
	echo before >"/mnt/$1/file"
	if ! vssctl create shadow --for "/mnt/$1" --json >/run/set.json 2>/run/err; then
		failed "$1 is refused: $(cat /run/err)"
		return
	fi
	echo after >"/mnt/$1/file"
	sync -f "/mnt/$1"
	same_after "$1"
	vssctl delete shadows --for "/mnt/$1" --all -y >/dev/null || failed "the copy of $1 cannot be deleted"
	assert_healthy st "$1"
	note "copied: $1"
}

# kind LV SIZE LVCREATE-OPTION...: in the group st, with a filesystem, mounted; false where this kernel has it not
kind() {
	local lv=$1 size=$2

	shift 2
	lvcreate -qq -y -Wy -Zy -n "$lv" -L "$size" "$@" st >/run/lvm.log 2>&1 || {
		note "not here: $lv ($*): $(tail -n 1 /run/lvm.log)"
		return 1
	}
	make_fs "/dev/st/$lv" ext4
	mount_lv st "$lv"
}

gone() {
	umount "/mnt/$1"
	lvremove -qq -y "st/$1" 2>/dev/null || die "st/$1 cannot be removed"
}

# converted LV OPTION...: to that kind; false where this kernel has it not
converted() {
	local lv=$1

	shift
	lvconvert -qq -y "$@" "st/$lv" >/run/lvm.log 2>&1 || {
		note "not here: $lv ($*): $(tail -n 1 /run/lvm.log)"
		return 1
	}
}

supported() {
	lap "kinds of volumes that are copied"
	kind linear 32M && copied linear && gone linear
	kind spread 250M && copied spread && gone spread
	if kind striped 32M --type striped -i 2; then
		copied striped
		gone striped
	fi
	if kind raid1 32M --type raid1 -m 1; then
		copied raid1
		gone raid1
	fi
	if kind mirror 32M --type mirror -m 1 --mirrorlog core; then
		copied mirror
		gone mirror
	fi
	if kind cached 48M; then
		umount /mnt/cached
		lvcreate -qq -y -an -Wn -Zn -n fast -L 16M st 2>/dev/null
		if converted cached --type writecache --cachevol fast; then
			mount_lv st cached
			copied cached
			umount /mnt/cached
		fi
		lvremove -qq -y st/cached 2>/dev/null
		lvremove -qq -y st/fast 2>/dev/null || true
	fi
	thin
	readonly
}

thin() {
	make_pool st pool 96M
	make_thin st pool thin 64M ext4
	mount_lv st thin
	copied thin
	lvcreate -qq -y -s -kn -ay -n foreign st/thin || die "no thin snapshot"
	mount_lv st foreign
	copied foreign # a thin snapshot is a volume like others
	gone foreign
	gone thin
	kind base 48M
	echo before >/mnt/base/file
	umount /mnt/base
	lvchange -qq -an st/base
	lvchange -qq -pr st/base
	lvcreate -qq -y --type thin --thinpool st/pool -n outside st/base 2>/run/lvm.log ||
		lvcreate -qq -y -s --thinpool st/pool -n outside st/base 2>/run/lvm.log || die "no external origin: $(cat /run/lvm.log)"
	lvchange -qq -kn st/outside
	lvchange -qq -ay st/outside
	mount_lv st outside
	copied outside
	gone outside
	lvremove -qq -y st/base st/pool
}

# What cannot be written can be copied all the same.
readonly() {
	kind still 32M
	echo before >/mnt/still/file
	umount /mnt/still
	lvchange -qq -pr st/still
	mount -o ro /dev/st/still /mnt/still || die "a read-only volume cannot be mounted"
	if vssctl create shadow --for /mnt/still --json >/run/set.json 2>/run/err; then
		same_after still
		vssctl delete shadows --for /mnt/still --all -y >/dev/null || failed "the copy of still cannot be deleted"
		note "copied: a read-only volume"
	else
		failed "a read-only volume is refused: $(cat /run/err)"
	fi
	nothing_left still
	gone still
}

levels() {
	local level

	lap "levels of RAID that are refused"
	for level in "raid0 -i 2" "raid4 -i 2" "raid5 -i 2" "raid6 -i 3" "raid10 -i 2 -m 1"; do
		# shellcheck disable=SC2086
		kind "${level%% *}" 32M --type $level || continue
		refused "/mnt/${level%% *}" VolumeNotSupported "is of ${level%% *}.*of RAID levels, raid1 is supported"
		gone "${level%% *}"
	done
	if kind summed 32M --type raid1 -m 1 --raidintegrity y; then
		refused /mnt/summed VolumeNotSupported "dm-integrity"
		gone summed
	fi
}

caches() {
	local level

	lap "caches"
	for level in cachevol cachepool; do
		kind "$level" 48M || continue
		umount "/mnt/$level"
		if [ "$level" = cachevol ]; then
			lvcreate -qq -y -an -Wn -Zn -n fast -L 16M st 2>/dev/null
		else
			lvcreate -qq -y --type cache-pool -n fast -L 16M st 2>/dev/null || true
		fi
		if converted "$level" --type cache "--$level" fast; then
			mount_lv st "$level"
			refused "/mnt/$level" VolumeNotSupported "cached by dm-cache"
			umount "/mnt/$level"
		fi
		lvremove -qq -y "st/$level" 2>/dev/null
		lvremove -qq -y st/fast 2>/dev/null || true
	done
	if kind vdo 5G --type vdo; then
		refused /mnt/vdo VolumeNotSupported "VDO"
		gone vdo
	fi
}

journals() {
	lap "journals elsewhere, and swap"
	kind one 64M
	umount /mnt/one
	lvcreate -qq -y -Wn -Zn -n journal -L 16M st 2>/dev/null
	mke2fs -q -F -O journal_dev -b 4096 /dev/st/journal
	mkfs.ext4 -q -F -b 4096 -J device=/dev/st/journal /dev/st/one
	mount_lv st one
	refused /mnt/one VolumeNotSupported "keeps its journal on another device"
	refused /dev/st/journal VolumeNotSupported "in use|journal"
	umount /mnt/one
	refused /dev/st/one VolumeNotSupported "keeps its journal on another device" # by its device
	refused /dev/st/journal VolumeNotSupported "is the journal of another filesystem"
	wipefs -q -a /dev/st/one
	mkswap -q /dev/st/one
	refused /dev/st/one VolumeNotSupported "is swap space"
	swapon /dev/st/one
	refused /dev/st/one VolumeNotSupported "is swap space in use"
	swapoff /dev/st/one
	lvremove -qq -y st/one st/journal
}

snapshots() {
	lap "snapshots, and reverts under way"
	kind one 64M
	echo before >/mnt/one/file
	lvcreate -qq -y -s -n mine -L 32M st/one 2>/dev/null || die "no snapshot"
	refused /dev/st/mine VolumeNotSupported "is itself a snapshot.*copy its origin"
	mkdir -p /mnt/mine
	mount /dev/st/mine /mnt/mine
	refused /mnt/mine VolumeNotSupported "is itself a snapshot.*copy its origin"
	umount /mnt/mine
	copied one # one that has another's snapshot
	echo before >/mnt/one/file
	lvconvert -qq -y --merge st/mine >/run/lvm.log 2>&1 || die "no merge: $(cat /run/lvm.log)"
	refused /mnt/one VolumeNotSupported "is being reverted to an earlier copy" # when it is activated the next time
	umount /mnt/one
	lvchange -qq -an st/one
	lvchange -qq -ay st/one
	wait_for 60 sh -c '! lvs -a st | grep mine' || die "the merge does not end"
	mount_lv st one
	copied one
	gone one
	merging
}

# A merge that takes long: the store lies on a slow disk.
merging() {
	dmsetup create slow --table "0 $piece delay /dev/ubdc $((2048 + 4 * piece)) 100" 2>/dev/null || {
		note "not here: dm-delay"
		return
	}
	make_vg sl /dev/mapper/p6 /dev/mapper/slow
	lvcreate -qq -y -Wn -Zn -n one -L 64M sl /dev/mapper/p6 2>/dev/null
	make_fs /dev/sl/one ext4
	mount_lv sl one
	lvcreate -qq -y -s -n mine -L 48M sl/one /dev/mapper/slow 2>/dev/null || die "no snapshot on a slow disk"
	dd if=/dev/urandom of=/mnt/one/file bs=1M count=8 conv=fsync 2>/dev/null
	umount /mnt/one
	lvconvert -qq -y --merge --background sl/mine >/run/lvm.log 2>&1 || die "no merge: $(cat /run/lvm.log)"
	if dmsetup table sl-one | grep -q snapshot-merge; then
		mount -o ro /dev/sl/one /mnt/one
		refused /mnt/one VolumeNotSupported "is being reverted to an earlier copy"
		umount /mnt/one
		refused /dev/sl/one VolumeNotSupported "is being reverted to an earlier copy"
	else
		note "the merge was over too soon"
	fi
	dmsetup load slow --table "0 $piece linear /dev/ubdc $((2048 + 4 * piece))"
	dmsetup resume slow
	wait_for 60 sh -c '! dmsetup table sl-one | grep snapshot-merge' || die "the merge does not end"
	wait_for 30 vgchange -qq -an sl || true
	lvconvert -qq --startpoll sl/one 2>/dev/null || true
	vgremove -qq -ff -y sl 2>/dev/null || true
}

# described SED-EXPRESSION...: the group vg says something else of itself, while its volumes are in use
described() {
	vgcfgbackup -qq -f /run/vg.conf vg >/dev/null || die "no metadata"
	sed "$@" /run/vg.conf >/run/edited.conf
	! cmp -s /run/vg.conf /run/edited.conf || die "nothing was edited: $*"
	dd if=/dev/ubdb of=/run/area bs=1M count=1 iflag=direct 2>/dev/null
	vgcfgrestore -qq -y --force -f /run/edited.conf vg >/run/lvm.log 2>&1 || die "$*: $(cat /run/lvm.log)"
}

as_before() {
	dd if=/run/area of=/dev/ubdb bs=1M count=1 oflag=direct conv=notrunc 2>/dev/null
	vgs -qq vg >/dev/null || die "the group is not as before"
}

groups() {
	lap "volume groups that are refused"
	make_vg vg /dev/ubdb
	make_lv vg v 32M ext4
	mount_lv vg v
	vssctl create shadow --for /mnt/v >/dev/null || die "no set in an ordinary group"
	vssctl delete shadows --for /mnt/v --all -y >/dev/null

	described '0,/"WRITE"/s/"WRITE"/"WRITE", "EXPORTED"/'
	refused /mnt/v ProviderVeto "volume group vg is exported"
	as_before
	for type in sanlock dlm; do
		described "s/^\\textent_size/\\tlock_type = \"$type\"\\n\\tlock_args = \"1.0.0:x\"\\n\\textent_size/"
		refused /mnt/v ProviderVeto "volume group vg is shared with other machines"
		as_before
	done
	described '0,/"WRITE"/s/"WRITE"/"WRITE", "CLUSTERED"/'
	refused /mnt/v ProviderVeto "LVM does not show its volume group vg on this machine: it is clustered"
	as_before
	described 's/^\textent_size/\tsystem_id = "elsewhere"\n\textent_size/'
	refused /mnt/v ProviderVeto "volume group vg belongs to another machine.*system ID"
	as_before
	described '0,/, "WRITE"/s/, "WRITE"//'
	refused /mnt/v ProviderVeto "volume group vg is read-only"
	as_before

	vssctl create shadow --for /mnt/v >/dev/null || die "no set in a group that is well again"
	vssctl delete shadows --for /mnt/v --all -y >/dev/null
	assert_healthy vg v
	umount /mnt/v
	vgremove -qq -y vg
}

become() { # TABLE...: the disk p1
	dmsetup load p1 --table "0 $piece $*" || die "p1 cannot be made $*"
	dmsetup suspend --noflush --nolockfs p1
	dmsetup resume p1
}

missing() {
	lap "physical volumes that are missing"
	vgremove -qq -y st 2>/dev/null || true
	make_vg vg /dev/ubdb
	make_lv vg v 32M ext4
	mount_lv vg v
	vgextend -qq -y vg /dev/mapper/p1 2>/dev/null || die "no second physical volume"
	lvcreate -qq -y -Wn -Zn -n half --type striped -i 2 -L 32M vg /dev/ubdb /dev/mapper/p1 2>/dev/null || die "no volume on both"
	make_fs /dev/vg/half ext4
	lvchange -qq -an vg/half
	become error
	refused /mnt/v ProviderVeto "volume group vg is incomplete"
	lvchange -qq -ay --activationmode partial vg/half 2>/dev/null || note "not here: partial activation"
	if [ -e /dev/vg/half ]; then
		refused /dev/vg/half VolumeNotSupported "has parts that are missing"
		lvchange -qq -an vg/half
	fi
	become linear /dev/ubdc 2048
	vssctl create shadow --for /mnt/v >/dev/null 2>/run/err || die "no set when the physical volume is back: $(cat /run/err)"
	vssctl delete shadows --for /mnt/v --all -y >/dev/null
	assert_healthy vg v
	umount /mnt/v
	vgremove -qq -y vg
}

for module in raid0 raid1 raid10 raid456 dm-raid dm-writecache dm-cache dm-cache-smq dm-integrity dm-crypt; do
	modprobe -d "$KERNEL_MODULES" "$module" 2>/dev/null || note "no $module on this kernel"
done
for i in 1 2 3 4 6 7; do
	dmsetup create "p$i" --table "0 $piece linear /dev/ubdc $((2048 + (i - 1) * piece))"
done
mkdir -p /mnt/copy
start_all
make_vg st /dev/mapper/p1 /dev/mapper/p2 /dev/mapper/p3 /dev/mapper/p4 /dev/mapper/p7
[ $# -gt 0 ] || set -- supported levels caches journals snapshots groups missing
for part; do
	"$part"
done
[ "$failures" -eq 0 ] || die "$failures are not as they should be"
