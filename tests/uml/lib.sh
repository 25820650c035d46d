# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For scripts that run in the machine of run.sh. Nothing has to be undone: the machine goes when the script ends.

note() {
	printf '%s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*"
	for log in /run/log/*.log; do
		[ -s "$log" ] && { echo "--- ${log##*/}"; tail -n "${LOG_LINES:-25}" "$log"; }
	done
	exit 1
}

# count FAST DEFAULT LONG: the count for this level.
count() {
	case $VSSD_TEST_LEVEL in
	fast) echo "$1" ;;
	long) echo "$3" ;;
	*) echo "$2" ;;
	esac
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds.
wait_for() {
	local deadline=$((SECONDS + $1))

	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -le "$deadline" ] || return 1
		sleep 0.05
	done
}

# spawn NAME COMMAND...: in the background, its output in /run/log/NAME.log, its pid in ${pid_of[NAME]}.
declare -A pid_of=()
spawn() {
	local name=$1

	shift
	mkdir -p /run/log
	"$@" >>"/run/log/$name.log" 2>&1 </dev/null &
	pid_of[$name]=$!
}

# stop NAME [SIGNAL]: and waits for it.
stop() {
	kill -s "${2:-TERM}" "${pid_of[$1]}" 2>/dev/null || true
	wait "${pid_of[$1]}" 2>/dev/null || true
	unset "pid_of[$1]"
}

# ---- volumes ----

make_vg() {
	vgcreate -qq -y "$@" || die "no volume group $1"
}

make_fs() {
	case $2 in
	ext4) mkfs.ext4 -q -F "$1" ;;
	xfs) mkfs.xfs -q -f "$1" ;;
	btrfs) mkfs.btrfs -q -f "$1" >/dev/null ;;
	none) ;;
	esac
}

# make_lv VG LV SIZE TYPE [LVCREATE OPTION...]
make_lv() {
	local vg=$1 lv=$2 size=$3 type=$4

	shift 4
	lvcreate -qq -y -Wy -Zy -n "$lv" -L "$size" "$@" "$vg" || die "no volume $vg/$lv"
	make_fs "/dev/$vg/$lv" "$type"
}

# make_pool VG POOL SIZE
make_pool() {
	lvcreate -qq -y --type thin-pool -n "$2" -L "$3" "$1" || die "no thin pool $1/$2"
}

# make_thin VG POOL LV SIZE TYPE
make_thin() {
	lvcreate -qq -y --type thin --thinpool "$2" -n "$3" -V "$4" "$1" || die "no thin volume $1/$3"
	make_fs "/dev/$1/$3" "$5"
}

# mount_lv VG LV [DIRECTORY]: at /mnt/LV unless given.
mount_lv() {
	mkdir -p "${3:-/mnt/$2}"
	mount "/dev/$1/$2" "${3:-/mnt/$2}" || die "cannot mount $1/$2"
}

# mount_readonly VG LV DIRECTORY: a copy, whatever its filesystem.
mount_readonly() {
	local options=ro

	mkdir -p "$3"
	[ "$(blkid -p -s TYPE -o value "/dev/$1/$2")" != xfs ] || options=ro,nouuid,norecovery
	mount -o "$options" "/dev/$1/$2" "$3" || die "cannot mount $1/$2"
}

# The filesystem at the mount point can be written, in time.
writable() {
	timeout 10 touch "$1/.writable" 2>/dev/null
}

# is_frozen DIRECTORY: FIFREEZE finds somebody's freeze. Freezes and thaws the filesystem if it is not.
is_frozen() {
	if fsfreeze --freeze "$1" 2>/dev/null; then
		fsfreeze --unfreeze "$1"
		return 1
	fi
}

# assert_healthy VG LV [DIRECTORY]: a mounted volume that nothing has poisoned: it can be written, suspended and found frozen,
# unmounted, deactivated, activated and mounted again.
assert_healthy() {
	local dir=${3:-/mnt/$2} name

	name=$(lvs --noheadings -o vg_name,lv_name --separator - "$1/$2" | tr -d ' ')
	name=$(dmsetup info -c --noheadings -o name "$(readlink -f "/dev/$1/$2")" 2>/dev/null || echo "$name")
	writable "$dir" || die "$1/$2 cannot be written"
	dmsetup suspend "$name" || die "$1/$2 cannot be suspended"
	is_frozen "$dir" || { dmsetup resume "$name"; die "$1/$2 is suspended and its filesystem is not frozen: poisoned"; }
	dmsetup resume "$name"
	writable "$dir" || die "$1/$2 cannot be written after a suspend"
	umount "$dir" || die "$1/$2 cannot be unmounted"
	lvchange -qq -an "$1/$2" || die "$1/$2 cannot be deactivated"
	lvchange -qq -ay "$1/$2" || die "$1/$2 cannot be activated"
	mount "/dev/$1/$2" "$dir" || die "$1/$2 cannot be mounted again"
	writable "$dir" || die "$1/$2 cannot be written after being mounted again"
}

# ---- vssd ----

# start_bus: a system bus, at $DBUS_SYSTEM_BUS_ADDRESS.
start_bus() {
	cat >/run/bus.conf <<-CONFIG
		<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
		 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig>
		  <type>system</type>
		  <listen>unix:path=/run/bus</listen>
		  <auth>EXTERNAL</auth>
		  <policy context="default">
		    <allow user="*"/>
		    <allow own="*"/>
		    <allow send_destination="*"/>
		    <allow receive_sender="*"/>
		  </policy>
		</busconfig>
	CONFIG
	export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
	spawn bus dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile
	wait_for 10 test -S /run/bus || die "dbus-daemon does not start"
}

vssctl() {
	"$BUILD/requestor/vssctl" "$@"
}

# start_guard [ARGUMENT...]
start_guard() {
	mkdir -p /run/vss-guard
	spawn guard "$BUILD/coordinator/guard/vss-guard" "$@"
	wait_for 10 test -S /run/vss-guard/guard.sock || die "vss-guard does not start"
}

# The machine's id, the same at every boot of the same test.
machine_id() {
	[ -e "$LAB/machine-id" ] || tr -d - </proc/sys/kernel/random/uuid >"$LAB/machine-id"
	cat "$LAB/machine-id"
}

# start_vssd [ARGUMENT...]: and waits until it can be called.
start_vssd() {
	mkdir -p /run/vssd /run/manifests
	printf '#!/bin/sh\nexec "%s" --worker "%s" --linger 3 --config /run/vssd.conf\n' "$BUILD/coordinator/watch/vss-watch" \
		"$BUILD/coordinator/providers/vss-worker" >/run/watch
	chmod +x /run/watch
	[ -e /run/vssd.conf ] || printf '[Coordinator]\nMachineId=%s\n' "$(machine_id)" >/run/vssd.conf
	spawn vssd env ${VSSD_DEBUG:+VSSD_DEBUG=1} "$BUILD/coordinator/vssd" --runtime-dir /run/vssd --manifests /run/manifests \
		--config /run/vssd.conf --worker "$BUILD/coordinator/providers/vss-worker" --watch /run/watch "$@"
	wait_for 20 vssctl list sessions || die "vssd does not start" # status tells of what is held without vssd, too
}

# start_all: bus, guard, vssd.
start_all() {
	start_bus
	start_guard
	start_vssd
}
