#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the volumes worker says of volumes on logical volumes, stack by stack: which can be copied, and of those that cannot
# the rule; where a volume really lies, down to virtual disks and what holds their images.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"

failures=0

lap() {
	note "$* ($SECONDS s)"
}

coproc worker { exec "$BUILD/tests/system/worker-client" "$BUILD/coordinator/providers/vss-worker" volumes; }
exec 8>&"${worker[1]}" 9<&"${worker[0]}" # which subshells have, too
answer=""
ask() {
	printf '%s\n' "$1" >&8
	IFS= read -r -t 20 answer <&9 || die "the volumes worker does not answer"
}

# fact PATH FILTER: of the volume that PATH leads to.
fact() {
	ask "{\"op\": \"resolve\", \"Paths\": [\"$1\"]}"
	jq -r ".Volumes[0] | $2" <<<"$answer"
}

# is PATH {FILTER EXPECTED}...
is() {
	local path=$1 filters="" expected="" found

	shift
	while [ $# -ge 2 ]; do
		filters+="${filters:+, }($1)"
		expected+="$2|"
		shift 2
	done
	found=$(fact "$path" "[$filters] | map(tostring + \"|\") | add")
	[ "$found" = "$expected" ] || {
		note "FAILED: $path: $filters: '$found', not '$expected'; $(jq -r '.Volumes[0] | .Why // .Error.Text' <<<"$answer")"
		failures=$((failures + 1))
	}
}

# refused PATH WORDS: no provider, and the reason has these words.
refused() {
	is "$1" .Provider "" "((.Why // \"\") | contains(\"$2\"))" true
}

pvs_of() {
	fact "$1" '[.Pvs[].Device] | sort | join(" ")'
}

for module in raid1 dm-writecache dm-cache dm-cache-smq nbd; do
	modprobe -d "$KERNEL_MODULES" "$module" 2>/dev/null || note "no $module on this kernel"
done
make_vg my-vg /dev/ubdb /dev/ubdc
make_lv my-vg plain 64M ext4
mount_lv my-vg plain
mkdir /mnt/plain/sub

lap "one volume, whichever way it is named"
id=$(fact /mnt/plain .Id)
[[ $id == lvm:??????-????-????-????-????-????-??????:??????-????-????-????-????-????-?????? ]] || die "its id is $id"
[ "$id" = "lvm:$(vgs --noheadings -o uuid my-vg | tr -d ' '):$(lvs --noheadings -o uuid my-vg/plain | tr -d ' ')" ] ||
	die "$id is not what LVM says"
mount --bind /mnt/plain/sub /srv
for path in /mnt/plain/sub /dev/my-vg/plain /dev/mapper/my--vg-plain "$(readlink -f /dev/my-vg/plain)" /srv; do
	is "$path" .Id "$id" \
		.Provider lvm \
		.Mounted true
done
is /mnt/plain/sub .Relative sub
is /srv .Relative sub
is /dev/my-vg/plain .Relative ""
is /mnt/plain .Vg my-vg \
	.Lv plain \
	.Kind cow \
	.Dm.Name my--vg-plain \
	'.Domains | map(select(startswith("vg:"))) | length' 1
umount /srv
umount /mnt/plain
is /dev/my-vg/plain .Id "$id" \
	.Mounted false \
	.Path /dev/my-vg/plain
mount_lv my-vg plain
lvcreate -qq -y -s -n snap -L 16M my-vg/plain
is /mnt/plain .Id "$id" \
	.Provider lvm
refused /dev/my-vg/snap "itself a snapshot"
lvremove -qq -y my-vg/snap

lap "stacks that can be copied"
make_lv my-vg spread 64M none --type striped -i 2
make_lv my-vg copied 32M none --type raid1 -m 1
make_lv my-vg mirrored 32M none --type mirror -m 1
make_pool my-vg pool 64M
make_thin my-vg pool thin 64M ext4
for lv in spread copied mirrored thin; do
	is "/dev/my-vg/$lv" .Provider lvm
	[ "$(pvs_of "/dev/my-vg/$lv")" = "/dev/ubdb /dev/ubdc" ] || [ "$lv" = thin ] || die "$lv lies on $(pvs_of "/dev/my-vg/$lv")"
done
is /dev/my-vg/thin .Kind thin \
	'.Domains | map(select(startswith("pool:"))) | length' 1
if modprobe -d "$KERNEL_MODULES" dm-writecache 2>/dev/null; then
	make_lv my-vg cached 32M none
	lvcreate -qq -y -an -Wn -Zn -n fast -L 16M my-vg 2>/dev/null
	lvconvert -qq -y --type writecache --cachevol fast my-vg/cached 2>/dev/null && is /dev/my-vg/cached .Provider lvm
fi

lap "what cannot be copied says the rule"
refused /dev/mapper/my--vg-pool "a pool"
refused /dev/mapper/my--vg-copied_rimage_0 "part of another"
make_lv my-vg swap 32M none
mkswap -q /dev/my-vg/swap
refused /dev/my-vg/swap "swap space"
swapon /dev/my-vg/swap
refused /dev/my-vg/swap "swap space in use"
swapoff /dev/my-vg/swap
make_lv my-vg journal 32M none
mke2fs -q -F -O journal_dev -b 4096 /dev/my-vg/journal
make_lv my-vg outside 64M none
mkfs.ext4 -q -F -b 4096 -J device=/dev/my-vg/journal /dev/my-vg/outside
refused /dev/my-vg/journal "journal of another"
refused /dev/my-vg/outside "keeps its journal on another device"
mount_lv my-vg outside
refused /mnt/outside "keeps its journal on another device"
refused /dev/my-vg/journal "in use by the kernel"
umount /mnt/outside
make_lv my-vg fat 32M none
if mkfs.vfat /dev/my-vg/fat >/dev/null 2>&1 && mkdir /mnt/fat && mount /dev/my-vg/fat /mnt/fat 2>/dev/null; then
	refused /mnt/fat "cannot be held still"
	umount /mnt/fat
fi
make_lv my-vg btr 128M btrfs
refused /dev/my-vg/btr "btrfs and not mounted"
mount_lv my-vg btr
is /mnt/btr .Provider btrfs
is /dev/my-vg/btr .Id "$(fact /mnt/btr .Id)"
dmsetup create held --table "0 8 linear /dev/my-vg/spread 0"
refused /dev/my-vg/spread "held by held"
dmsetup remove held
losetup /dev/loop7 /dev/my-vg/spread
refused /dev/my-vg/spread "attached as loop7"
losetup -d /dev/loop7
unshare -m sh -c 'mount /dev/my-vg/thin /mnt && touch /run/held && sleep 30' &
holder=$!
wait_for 10 test -e /run/held
refused /dev/my-vg/thin "another mount namespace"
kill "$holder"
wait "$holder" 2>/dev/null || true

lap "virtual disks: where the image lies"
make_lv my-vg house 400M ext4
mount_lv my-vg house
truncate -s 120M /mnt/house/disk.img
losetup -P /dev/loop0 /mnt/house/disk.img
make_vg inner /dev/loop0
make_lv inner v 48M ext4
mount_lv inner v /mnt/v
is /mnt/v '.Disks[0] | .Device + " " + (.Virtual | tostring)' "loop0 true" \
	'.Disks[0].Images[0].Volume' "$(fact /mnt/house .Id)" \
	'.Disks[0].Nested' null
is /mnt/house '.Disks | map(select(.Virtual)) | length' 0
truncate -s 24M /mnt/v/nested.img
losetup /dev/loop1 /mnt/v/nested.img
make_fs /dev/loop1 ext4
is /dev/loop1 '.Disks[0].Nested' true \
	'.Disks[0].Images | length' 2
losetup -d /dev/loop1
mv /mnt/house/disk.img /mnt/house/elsewhere.img
is /mnt/v '.Disks[0] | (.Images | length | tostring) + " " + (.Unknown | tostring)' "1 null"
umount /mnt/v
vgchange -qq -an inner
losetup -d /dev/loop0

lap "a partition on a loop, a group of both kinds, a half-done pvmove"
truncate -s 100M /mnt/house/parted.img
losetup /dev/loop2 /mnt/house/parted.img
addpart /dev/loop2 1 2048 196608
wait_for 5 test -b /dev/loop2p1 || die "no partition on the loop"
vgextend -qq -y my-vg /dev/loop2p1
lvcreate -qq -y -Wn -Zn -n virtual -L 32M my-vg /dev/loop2p1 2>/dev/null
is /dev/my-vg/virtual '[.Disks[].Device] | join(" ")' loop2
[ "$(pvs_of /dev/my-vg/virtual)" = /dev/loop2p1 ] || die "it lies on $(pvs_of /dev/my-vg/virtual)"
lvcreate -qq -y -Wn -Zn -n moved -L 32M my-vg /dev/ubdb 2>/dev/null
pvmove -qq -i 60 -n moved /dev/ubdb /dev/loop2p1 >/dev/null 2>&1 & # which looks after a minute whether it is through
mover=$!
wait_for 20 dmsetup info my--vg-pvmove0 || die "pvmove does not begin"
is /dev/my-vg/moved '[.Disks[].Device] | sort | join(" ")' "loop2 ubdb"
refused /dev/my-vg/moved "pvmove"
kill "$mover"
wait "$mover" || true
pvmove -qq --abort >/dev/null 2>&1 || die "pvmove cannot be ended"
is /dev/my-vg/moved .Provider lvm

lap "a network block device says nothing of its image"
truncate -s 64M /mnt/house/net.img
if [ -b /dev/nbd0 ] && command -v nbdkit >/dev/null && command -v nbd-client >/dev/null; then
	spawn nbdkit nbdkit --foreground --unix /run/nbd.sock file /mnt/house/net.img
	wait_for 10 test -S /run/nbd.sock
	nbd-client -unix /run/nbd.sock /dev/nbd0 >/dev/null 2>&1 || die "no nbd device"
	make_vg remote /dev/nbd0
	make_lv remote n 32M ext4
	mount_lv remote n
	is /mnt/n '.Disks[0] | .Device + " " + (.Virtual | tostring) + " " + (.Unknown | tostring)' "nbd0 true true"
	umount /mnt/n
	vgchange -qq -an remote
	nbd-client -d /dev/nbd0 >/dev/null 2>&1
	stop nbdkit
else
	note "no nbd here"
fi

lap "the list"
ask '{"op":"list"}'
printf '%s' "$answer" >/run/list
[ "$(jq -r '[.Volumes[] | select(.Path | startswith("/dev/my-vg/")) | .Lv] | sort | join(" ")' /run/list)" = \
	"cached copied fat journal mirrored moved outside spread swap thin virtual" ] ||
	die "unmounted volumes: $(jq -rc '[.Volumes[] | select(.Mounted | not) | .Lv]' /run/list)"
[ "$(jq '[.Volumes[] | select(.Provider == "" and (.Why // "") == "")] | length' /run/list)" -eq 0 ] ||
	die "a volume without a provider and without a reason"
[ "$failures" -eq 0 ] || die "$failures facts are wrong"
