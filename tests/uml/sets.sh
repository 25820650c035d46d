# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Sets of copies on many volumes, and what a good one looks like. Source after lib.sh.

volumes=() # mount points, in the order of the writer
writer_files=()

# make_volumes N TYPE: vg/v1 ... on /dev/ubdb, mounted at /mnt/v1 ...; adds to $volumes.
make_volumes() {
	local i

	for ((i = 1; i <= $1; i++)); do
		make_lv vg "v$i" "${VOLUME_SIZE:-48M}" "$2"
		mount_lv vg "v$i"
		volumes+=("/mnt/v$i")
	done
}

# make_mixed N: N ext4, XFS and thin volumes in turn, and one btrfs of its own on /dev/ubdc at /mnt/b.
make_mixed() {
	local i

	make_pool vg pool 256M
	for ((i = 1; i <= $1; i++)); do
		case $((i % 3)) in
		0) make_lv vg "v$i" 320M xfs ;;
		1) make_lv vg "v$i" 48M ext4 ;;
		2) make_thin vg pool "v$i" 64M ext4 ;;
		esac
		mount_lv vg "v$i"
		volumes+=("/mnt/v$i")
	done
	make_fs /dev/ubdc btrfs
	mkdir -p /mnt/b
	mount /dev/ubdc /mnt/b || die "no btrfs"
	volumes+=(/mnt/b)
}

has_size() {
	[ "$(stat -c %s "$1")" -ge "$2" ]
}

# start_writer: increasing numbers round-robin over all volumes, and As to Bs on the first.
start_writer() {
	local volume

	writer_files=()
	for volume in "${volumes[@]}"; do
		writer_files+=("$volume/number")
	done
	rm -f "${writer_files[@]}" "${volumes[0]}/prefix" # an earlier writer's, half of which would be in a copy
	spawn order "$BUILD/tests/uml/proof-writer" order "${writer_files[@]}"
	spawn prefix "$BUILD/tests/uml/proof-writer" prefix "${volumes[0]}/prefix"
	wait_for 20 test -s "${writer_files[-1]}" || die "the writer does not write"
	# All As, so that whatever a copy shows has its full length.
	wait_for 60 has_size "${volumes[0]}/prefix" $((512 * 4096)) || die "the file of As is not written"
	sleep 0.3
}

stop_writer() {
	stop order
	stop prefix
}

# create_set JSON_FILE [OPTION...]: of all $volumes.
create_set() {
	local json=$1 arguments=() volume

	shift
	for volume in "${volumes[@]}"; do
		arguments+=(--for "$volume")
	done
	vssctl create shadow --json "${arguments[@]}" "$@" >"$json" 2>/run/create.err
}

# device_of JSON_FILE VOLUME: where the volume's copy is.
device_of() {
	jq -r --arg volume "$2" '.result.Shadows[] | select(.Volume == $volume) | .Device' "$1"
}

copy_of() {
	jq -r --arg volume "$2" '.result.Shadows[] | select(.Volume == $volume) | .Shadow' "$1"
}

# expose_set JSON_FILE: each copy at /mnt/copy/vN.
expose_set() {
	local volume

	for volume in "${volumes[@]}"; do
		mkdir -p "/mnt/copy/${volume##*/}"
		vssctl expose --shadow "$(copy_of "$1" "$volume")" "/mnt/copy/${volume##*/}" >/dev/null ||
			die "the copy of $volume cannot be exposed"
	done
}

unexpose_set() {
	local volume

	for volume in "${volumes[@]}"; do
		vssctl unexpose --shadow "$(copy_of "$1" "$volume")" >/dev/null || die "the copy of $volume cannot be unexposed"
	done
}

delete_set() {
	vssctl delete shadows --set "$(jq -r .result.Set "$1")" -y >/dev/null || die "the set cannot be deleted"
}

# Of what is exposed.
is_ordered() {
	local volume files=()

	for volume in "${volumes[@]}"; do
		files+=("/mnt/copy/${volume##*/}/number")
	done
	"$BUILD/tests/uml/proof-writer" check-order "${files[@]}" &&
		"$BUILD/tests/uml/proof-writer" check-prefix "/mnt/copy/${volumes[0]##*/}/prefix"
}

# check_filesystem DEVICE: of a copy that is not mounted. An XFS is looked at through a writable layer, mounted once.
check_filesystem() {
	local type size layer active=yes

	if [ ! -e "$1" ]; then # one that is active only while it is exposed
		active=no
		lvchange -qq -ay -K "${1#/dev/}" || die "$1 cannot be activated"
	fi
	type=$(blkid -p -s TYPE -o value "$1")
	case $type in
	ext4) e2fsck -fn "$1" >/run/fsck.log 2>&1 || die "e2fsck -fn of $1: $(cat /run/fsck.log)" ;;
	xfs)
		size=$(blockdev --getsz "$1")
		truncate -s 64M /run/layer.img
		layer=$(losetup --find --show /run/layer.img)
		DM_DISABLE_UDEV=1 dmsetup create layer --table "0 $size snapshot $1 $layer N 8"
		mkdir -p /mnt/layer
		mount -o nouuid /dev/mapper/layer /mnt/layer || die "the XFS on $1 cannot be mounted"
		umount /mnt/layer
		xfs_repair -n /dev/mapper/layer >/run/fsck.log 2>&1 || die "xfs_repair -n of $1: $(cat /run/fsck.log)"
		DM_DISABLE_UDEV=1 dmsetup remove --retry layer
		losetup --detach "$layer"
		;;
	*) die "$1 has no filesystem that is known here ('$type')" ;;
	esac
	[ $active = yes ] || lvchange -qq -an "${1#/dev/}" || die "$1 cannot be deactivated"
}

# check_set JSON_FILE: it claims one instant, and keeps it; its filesystems are clean.
check_set() {
	local volume

	[ "$(jq -r .result.Instant "$1")" = set ] || die "the set is not one instant: $(jq -r .result.InstantReason "$1")"
	expose_set "$1"
	is_ordered >/run/order.log || die "the set is out of order: $(cat /run/order.log)"
	unexpose_set "$1"
	for volume in "${volumes[@]}"; do
		[ "$(findmnt -n -o FSTYPE --target "$volume")" != btrfs ] || continue # a subvolume: no device of its own
		check_filesystem "$(device_of "$1" "$volume")"
	done
}
