#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Virtual disks of every kind that a host may have, with volume groups on them: each is copied as the rules have it, or refused
# with the rule and the right names. Usage: test-virtual-disks.sh [CASE]...
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/disks.sh
. "$SOURCE/tests/uml/disks.sh"

# attach LOOP IMAGE SIZE: makes the image
attach() {
	truncate -s "$3" "$2"
	losetup "$1" "$2" || die "$2 cannot be attached"
}

# What every virtual disk whose image lies on /mnt/house may, and may not: judged_as_virtual GROUP PV
judged_as_virtual() {
	[ "$(may "/mnt/$1" "$1")" = true ] || die "$1 may not keep its own copies: $(why_not "/mnt/$1" "$1")"
	[ "$(may "/mnt/$1" "$2")" = true ] || die "$2 may not keep its own copies: $(why_not "/mnt/$1" "$2")"
	[ "$(may "/mnt/$1" host)" = false ] || die "host may keep copies of $1"
	[ "$(may /mnt/plain "$1")" = false ] || die "$1 may keep others' copies"
	works add shadowstorage --for "/mnt/$1" --on "$1" --maxsize 64MB
	works delete shadowstorage --for "/mnt/$1" -y
	fails "own volume group" add shadowstorage --for "/mnt/$1" --on host
	set_of "/mnt/$1"
}

case_partition() {
	note "partitions: of the kernel's making, and of device-mapper's"
	attach /dev/loop0 /mnt/house/disk.img 100M
	# One of 80 MiB, from 1 MiB on.
	printf '\0\0\0\0\x8e\0\0\0\0\x08\0\0\0\x80\x02\0' | dd of=/mnt/house/disk.img bs=1 seek=446 conv=notrunc status=none
	printf '\x55\xaa' | dd of=/mnt/house/disk.img bs=1 seek=510 conv=notrunc status=none
	losetup -d /dev/loop0
	losetup -P /dev/loop0 /mnt/house/disk.img
	wait_for 5 test -b /dev/loop0p1 || die "the loop's partition table is not read"
	make_virtual scanned /dev/loop0p1
	judged_as_virtual scanned /dev/loop0p1
	set_of /mnt/scanned /mnt/plain
	no_set_of "image of which (/mnt/house/disk.img) is on /mnt/house" /mnt/scanned /mnt/house
	drop_virtual scanned /dev/loop0 /mnt/house/disk.img
	attach /dev/loop1 /mnt/house/disk.img 100M
	dmsetup create loop1p1 --uuid part1-loop1 --table "0 163840 linear /dev/loop1 2048" # as kpartx does
	make_virtual mapped /dev/mapper/loop1p1
	judged_as_virtual mapped /dev/mapper/loop1p1
	set_of /mnt/mapped /mnt/plain
	no_set_of "is on /mnt/house" /mnt/mapped /mnt/house
	umount /mnt/mapped
	vgremove -qq -f -y mapped
	dmsetup remove loop1p1
	losetup -d /dev/loop1
	rm /mnt/house/disk.img
}

case_direct() {
	note "a loop over a logical volume, without a file between"
	make_lv host raw 100M none
	losetup /dev/loop0 /dev/host/raw
	make_virtual direct /dev/loop0
	judged_as_virtual direct /dev/loop0
	set_of /mnt/direct /mnt/house
	no_set_of "attached as loop0" /mnt/direct /dev/host/raw
	drop_virtual direct /dev/loop0
	lvremove -qq -y host/raw
}

case_names() {
	note "an image that has another name by now, or none"
	mkdir -p /mnt/house/images /mnt/bound
	mount --bind /mnt/house/images /mnt/bound
	attach /dev/loop0 /mnt/bound/disk.img 100M
	make_virtual named /dev/loop0
	no_set_of "is on /mnt/house" /mnt/named /mnt/house
	set_of /mnt/named /mnt/plain
	umount -l /mnt/bound # the loop has a file open in it
	no_set_of "is on /mnt/house" /mnt/named /mnt/house
	drop_virtual named /dev/loop0 /mnt/house/images/disk.img
	attach /dev/loop0 /mnt/house/images/disk.img 100M
	make_virtual named /dev/loop0
	mv /mnt/house/images/disk.img /mnt/house/moved.img
	no_set_of "(/mnt/house/moved.img) is on /mnt/house" /mnt/named /mnt/house
	rm /mnt/house/moved.img
	no_set_of "(deleted)) is on /mnt/house" /mnt/named /mnt/house
	set_of /mnt/named /mnt/plain
	judged_as_virtual named /dev/loop0
	drop_virtual named /dev/loop0
	# Its name means nothing here: only the kernel knows where it lies.
	unshare -m bash -c 'mount --bind /mnt/house/images /srv && truncate -s 100M /srv/disk.img && losetup /dev/loop0 /srv/disk.img'
	make_virtual named /dev/loop0
	no_set_of "is on /mnt/house" /mnt/named /mnt/house
	set_of /mnt/named /mnt/plain
	drop_virtual named /dev/loop0 /mnt/house/images/disk.img
}

case_nested() {
	local path

	note "a disk in a disk in a disk"
	attach /dev/loop0 /mnt/house/disk.img 140M
	make_virtual outer /dev/loop0 96M
	attach /dev/loop1 /mnt/outer/disk.img 80M
	make_virtual middle /dev/loop1 40M
	attach /dev/loop2 /mnt/middle/disk.img 36M
	make_virtual inner /dev/loop2 16M
	set_of /mnt/outer
	for path in /mnt/middle /mnt/inner /dev/inner/v; do
		no_set_of "disk in a disk" "$path"
		no_set_of "disk in a disk" "$path" /mnt/plain
	done
	may_not /mnt/inner inner "loop2, the image of which lies on a virtual disk"
	may_not /mnt/middle /dev/loop1 "disk in a disk"
	fails "disk in a disk" add shadowstorage --for /mnt/middle --on middle
	drop_virtual inner /dev/loop2
	drop_virtual middle /dev/loop1
	drop_virtual outer /dev/loop0 /mnt/house/disk.img
}

case_spread() {
	local move

	note "a volume on two disks, and one that is being moved"
	make_lv host other 160M ext4
	mount_lv host other
	attach /dev/loop0 /mnt/house/disk.img 100M
	attach /dev/loop1 /mnt/other/disk.img 100M
	make_virtual both /dev/loop0 40M
	vgextend -qq -y both /dev/loop1 /dev/ubdc
	set_of /mnt/both /mnt/plain
	lvextend -qq both/v -L +8M /dev/loop1
	no_set_of "virtual disk loop. and on loop. as well" /mnt/both
	fails "as well, so that" add shadowstorage --for /mnt/both --on both
	may_not /mnt/both /dev/loop0 "as well"
	pvmove -qq /dev/loop1 /dev/loop0 >/dev/null
	set_of /mnt/both /mnt/plain /mnt/other
	pvmove -qq -n v /dev/loop0:0-3 /dev/ubdc >/dev/null || die "it cannot be moved half"
	no_set_of "virtual disk loop0 and on $real as well" /mnt/both
	pvmove -qq -n v /dev/loop0 /dev/ubdc >/dev/null
	may_not /mnt/both /dev/loop0 "keeps the copies of its own volumes alone"
	[ "$(may /mnt/both /dev/ubdc)" = true ] || die "the disk it was moved to may not keep its copies: $(why_not /mnt/both /dev/ubdc)"
	set_of /mnt/both /mnt/house # it is no virtual one any more
	pvmove -qq -i 60 -n v /dev/ubdc /dev/loop0 >/dev/null 2>&1 & # which looks after a minute whether it is through
	move=$!
	wait_for 20 dmsetup info both-pvmove0 || die "pvmove does not begin"
	no_set_of "being moved by pvmove" /mnt/both
	fails "being moved by pvmove" add shadowstorage --for /mnt/both --on both
	may_not /mnt/both /dev/loop0 "being moved by pvmove"
	set_of /mnt/plain /mnt/house
	kill "$move"
	wait "$move" || true
	pvmove -qq --abort >/dev/null 2>&1 || die "pvmove cannot be ended"
	set_of /mnt/both /mnt/house
	vgreduce -qq both /dev/loop1
	losetup -d /dev/loop1
	drop_virtual both /dev/loop0 /mnt/house/disk.img
	umount /mnt/other
	lvremove -qq -y host/other
	pvremove -qq -y /dev/ubdc
}

case_own_group() {
	note "the image of a disk of the own group"
	attach /dev/loop0 /mnt/house/disk.img 120M
	vgextend -qq -y host /dev/loop0
	lvcreate -qq -y -Wn -Zn -n guest -L 40M host /dev/loop0
	mkfs.ext4 -q /dev/host/guest
	mount_lv host guest
	# LVM itself would stand still here for ever.
	no_set_of "/mnt/house holds the image (/mnt/house/disk.img) of the virtual disk loop0" /mnt/house
	no_set_of "/mnt/house holds the image" /mnt/house /mnt/plain
	fails "holds the image" add shadowstorage --for /mnt/house --on host
	may_not /mnt/house host "holds the image"
	set_of /mnt/guest /mnt/plain
	[ "$(may /mnt/guest /dev/loop0)" = true ] || die "$(why_not /mnt/guest /dev/loop0)"
	umount /mnt/guest
	lvremove -qq -y host/guest
	vgreduce -qq host /dev/loop0
	losetup -d /dev/loop0
	rm /mnt/house/disk.img
	set_of /mnt/house
}

case_btrfs() {
	note "an image on a subvolume; and a btrfs on a virtual disk"
	mkfs.btrfs -q -f /dev/ubdc
	mkdir -p /mnt/b
	mount /dev/ubdc /mnt/b
	btrfs -q subvolume create /mnt/b/images 2>/dev/null || btrfs subvolume create /mnt/b/images >/dev/null
	btrfs subvolume create /mnt/b/else >/dev/null
	attach /dev/loop0 /mnt/b/images/disk.img 180M
	make_virtual onb /dev/loop0
	for path in /mnt/b /mnt/b/images /mnt/b/else; do
		no_set_of "is on /mnt/b" /mnt/onb "$path"
	done
	set_of /mnt/onb /mnt/plain /mnt/house
	cp --reflink=always /mnt/b/images/disk.img /mnt/b/images/clone.img
	losetup /dev/loop1 /mnt/b/images/clone.img
	# The same group twice: LVM does not touch it, and says so.
	fails "uplicate" create shadow --for /mnt/onb
	losetup -d /dev/loop1
	set_of /mnt/onb
	lvcreate -qq -y -Wn -Zn -n bt -L 120M onb
	mkfs.btrfs -q -f /dev/onb/bt
	mount_lv onb bt
	set_of /mnt/bt /mnt/plain
	no_set_of "is on /mnt/b" /mnt/bt /mnt/b/else
	umount /mnt/bt
	drop_virtual onb /dev/loop0
	umount /mnt/b
	wipefs -q -a /dev/ubdc
}

case_overlay() {
	modprobe -d "$KERNEL_MODULES" overlay 2>/dev/null || { note "no overlay on this kernel"; return; }
	note "an image on an overlay, which lies on other volumes"
	mkdir -p /mnt/house/{lower,upper,work} /mnt/over
	mount -t overlay overlay -o lowerdir=/mnt/house/lower,upperdir=/mnt/house/upper,workdir=/mnt/house/work /mnt/over
	attach /dev/loop0 /mnt/over/disk.img 100M
	make_virtual onover /dev/loop0
	judged_as_virtual onover /dev/loop0
	no_set_of "could be on /mnt/house" /mnt/onover /mnt/house
	no_set_of "could be on /mnt/plain" /mnt/onover /mnt/plain
	fails "could be on /mnt/house" freeze --for /mnt/onover --for /mnt/house -- true
	drop_virtual onover /dev/loop0
	umount /mnt/over
	rm -r /mnt/house/{lower,upper,work}
}

is_larger_pool() {
	[ "$(blockdev --getsize64 /dev/mapper/mixed-pool-tpool)" -gt "$1" ]
}

has_copies() {
	[ "$(vssctl list shadows --for "$1" --json | jq '.shadows | length')" -gt 0 ]
}

has_none() {
	! has_copies "$1"
}

case_pool() {
	local before

	note "a thin pool on a virtual disk grows on that disk alone"
	attach /dev/loop0 /mnt/house/disk.img 220M
	make_vg mixed /dev/loop0 /dev/ubdc
	lvcreate -qq -y --type thin-pool --poolmetadataspare n -n pool -L 64M mixed /dev/loop0
	lvcreate -qq -y -Wn -Zn -n filler -L 132M mixed /dev/loop0 # all but 16 MiB
	make_thin mixed pool v 100M ext4
	mount_lv mixed v /mnt/mixed
	[ "$(may /mnt/mixed mixed/pool)" = true ] || die "$(why_not /mnt/mixed mixed/pool)"
	no_set_of "is on /mnt/house" /mnt/mixed /mnt/house
	works create shadow --for /mnt/mixed --for /mnt/plain
	before=$(blockdev --getsize64 /dev/mapper/mixed-pool-tpool)
	dd if=/dev/zero of=/mnt/mixed/fill bs=1M count=54 conv=fsync 2>/dev/null
	wait_for 40 is_larger_pool "$before" || die "the pool is not extended"
	dd if=/dev/zero of=/mnt/mixed/fill bs=1M count=10 seek=54 conv=fsync,notrunc 2>/dev/null # there is room on the real one alone
	wait_for 40 has_none /mnt/mixed || die "no copy makes room: $(cat /run/vss-watch/state/watch)"
	lvs -a --noheadings -o lv_name,devices mixed >/run/devices
	! grep -q "$real" /run/devices || die "the pool lies on the real disk as well: $(cat /run/devices)"
	works delete shadows --for /mnt/plain --all -y
	drop_virtual mixed /dev/loop0 /mnt/house/disk.img
}

waits() {
	vssctl list sessions --json | jq -e '.sessions[] | select((.WaitsFor // []) | length > 0)' >/dev/null
}

case_held() {
	note "held by somebody else: both, in the right order; and sets wait for each other"
	attach /dev/loop0 /mnt/house/disk.img 100M
	make_virtual held /dev/loop0
	works freeze --for /mnt/house --for /mnt/held -- touch /run/frozen
	[ -e /run/frozen ] || die "nothing was run"
	writable /mnt/held && writable /mnt/house || die "they are still held"
	rm -f /run/frozen
	spawn freeze "$BUILD/requestor/vssctl" freeze --for /mnt/house -- sh -c 'touch /run/frozen; sleep 3'
	wait_for 20 test -e /run/frozen || die "/mnt/house is not held"
	set_of /mnt/held
	wait "${pid_of[freeze]}" || die "the hold failed: $(cat /run/log/freeze.log)"
	drop_virtual held /dev/loop0 /mnt/house/disk.img
}

# has MODULE...: on this kernel
has() {
	local module

	for module in "$@"; do
		modprobe -d "$KERNEL_MODULES" "$module" 2>/dev/null || { note "no $module on this kernel"; return 1; }
	done
}

case_luks() {
	has dm-crypt xts || return 0
	note "dm-crypt: over a loop, over a logical volume, within the group of what holds the image"
	attach /dev/loop0 /mnt/house/disk.img 116M
	make_luks /dev/loop0 secret
	make_virtual crypt /dev/mapper/secret
	judged_as_virtual crypt /dev/mapper/secret
	set_of /mnt/crypt /mnt/plain
	no_set_of "disk loop0, the image of which (/mnt/house/disk.img) is on /mnt/house" /mnt/crypt /mnt/house
	umount /mnt/crypt # and the filesystem encrypted in the volume
	make_luks /dev/crypt/v deeper
	mkfs.ext4 -q /dev/mapper/deeper
	mount /dev/mapper/deeper /mnt/crypt
	set_of /mnt/crypt /mnt/plain
	no_set_of "is on /mnt/house" /mnt/crypt /mnt/house
	umount /mnt/crypt
	cryptsetup close deeper
	vgremove -qq -f -y crypt
	vgextend -qq -y host /dev/mapper/secret
	no_set_of "/mnt/house holds the image" /mnt/house
	set_of /mnt/plain
	vgreduce -qq host /dev/mapper/secret
	cryptsetup close secret
	losetup -d /dev/loop0
	rm /mnt/house/disk.img
	make_lv host vault 100M none
	make_luks /dev/host/vault opened
	make_virtual vault /dev/mapper/opened
	[ "$(may /mnt/vault vault)" = true ] || die "$(why_not /mnt/vault vault)"
	set_of /mnt/vault /mnt/plain /mnt/house
	no_set_of "held by opened" /dev/host/vault
	umount /mnt/vault
	vgremove -qq -f -y vault
	cryptsetup close opened
	lvremove -qq -y host/vault
}

serve_nbd() {
	spawn nbdkit nbdkit --foreground --unix /run/nbd.sock file "$1"
	wait_for 20 test -S /run/nbd.sock || die "nbdkit does not start"
	nbd-client -unix /run/nbd.sock /dev/nbd0 >/dev/null 2>&1 || die "no nbd device"
}

case_nbd() {
	has nbd || return 0
	command -v nbdkit >/dev/null && command -v nbd-client >/dev/null || { note "no server for nbd"; return; }
	note "nbd, of which nothing tells where its image is; and one whose server stands still"
	truncate -s 100M /mnt/house/net.img
	serve_nbd /mnt/house/net.img
	make_virtual net /dev/nbd0
	judged_as_virtual net /dev/nbd0
	no_set_of "could be on /mnt/house" /mnt/net /mnt/house
	no_set_of "could be on /mnt/plain" /mnt/net /mnt/plain
	set_of /mnt/house /mnt/plain
	fails "could be on /mnt/house" freeze --for /mnt/net --for /mnt/house -- true
	works freeze --for /mnt/net -- true
	kill -STOP "${pid_of[nbdkit]}"
	spawn set "$BUILD/requestor/vssctl" create shadow --for /mnt/plain
	sleep 3
	works list sessions --json # vssd itself waits for nobody
	kill -CONT "${pid_of[nbdkit]}"
	wait "${pid_of[set]}" || die "a set fails although the server goes on: $(cat /run/log/set.log)"
	works delete shadows --for /mnt/plain --all -y
	umount /mnt/net
	vgremove -qq -f -y net
	vgextend -qq -y host /dev/nbd0
	no_set_of "/mnt/plain has the physical volume /dev/nbd0 on the virtual disk nbd0" /mnt/plain
	vgreduce -qq host /dev/nbd0
	nbd-client -d /dev/nbd0 >/dev/null 2>&1
	stop nbdkit
	rm /mnt/house/net.img
}

case_md() {
	has md-mod raid1 || return 0
	command -v mdadm >/dev/null || { note "no mdadm"; return; }
	note "arrays: of a virtual disk, of two of them, of a real one"
	attach /dev/loop0 /mnt/house/disk.img 100M
	attach /dev/loop1 /mnt/house/disk2.img 100M
	mdadm --create /dev/md0 --quiet --run --metadata=1.2 --level=1 --raid-devices=2 /dev/loop0 missing
	make_virtual array /dev/md0
	judged_as_virtual array /dev/md0
	set_of /mnt/array /mnt/plain
	no_set_of "is on /mnt/house" /mnt/array /mnt/house
	mdadm --quiet /dev/md0 --add /dev/loop1
	no_set_of "virtual disk loop. and on loop. as well" /mnt/array
	umount /mnt/array
	vgremove -qq -f -y array
	mdadm --quiet --stop /dev/md0
	losetup -d /dev/loop0
	losetup -d /dev/loop1
	rm /mnt/house/disk.img /mnt/house/disk2.img
	mdadm --create /dev/md0 --quiet --run --metadata=1.2 --level=1 --raid-devices=2 /dev/ubdc missing
	make_virtual array /dev/md0
	set_of /mnt/array /mnt/house
	umount /mnt/array
	vgremove -qq -f -y array
	mdadm --quiet --stop /dev/md0
	wipefs -q -a /dev/ubdc
}

case_mapped() {
	local sectors

	note "device-mapper beneath a group: linear, and paths to one disk"
	sectors=$(blockdev --getsz /dev/ubdc)
	dmsetup create whole --table "0 $((sectors - 2048)) linear /dev/ubdc 2048"
	make_virtual mapped /dev/mapper/whole
	set_of /mnt/mapped /mnt/house
	umount /mnt/mapped
	vgremove -qq -f -y mapped
	dmsetup remove whole
	wipefs -q -a /dev/ubdc
	has dm-multipath dm-round-robin || return 0
	# As where multipathd has told LVM that the disk is one of its paths.
	sed -i.before "s|devices { |&global_filter=[\"r:/$real\$:\", \"r:/ubdc\$:\"] |" /etc/lvm/lvm.conf
	dmsetup create mpatha --uuid mpath-1 --table "0 $sectors multipath 2 queue_mode bio 0 1 1 round-robin 0 1 1 /dev/ubdc 1000"
	make_virtual mapped /dev/mapper/mpatha
	set_of /mnt/mapped /mnt/house
	umount /mnt/mapped
	vgremove -qq -f -y mapped
	dmsetup remove mpatha
	mv /etc/lvm/lvm.conf.before /etc/lvm/lvm.conf
	wipefs -q -a /dev/ubdc
}

real=$(basename "$(readlink -f /dev/ubdc)")
make_vg host /dev/ubdb
make_lv host house 320M ext4
make_lv host plain 48M ext4
mount_lv host house
mount_lv host plain
export DM_DISABLE_UDEV=1 # for dmsetup and cryptsetup, where there is no udevd
# However slow the machine is.
printf '[Coordinator]\nMachineId=%s\n[Limits]\nMixedHoldLimit=10\n' "$(machine_id)" >/run/vssd.conf
start_all
[ $# -gt 0 ] || set -- partition direct names nested spread own_group btrfs overlay pool held luks nbd md mapped
for name; do
	"case_$name"
	note "($SECONDS s)"
done
