#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The first process of the machine that run.sh boots: makes the places that may be written, loads what LVM needs, runs the
# script, says how it ended and switches the machine off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/run

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
share=$(sed -n 's/.*vss_share=\([^ ]*\).*/\1/p' /proc/cmdline)
mkdir -p /run/lab /run/build /run/source /run/lock /run/lvm /run/modules/lib/modules
# The root is read-only, this is not.
if [ "$(stat -f -c %T /)" = fuseblk ] || grep -q ' / virtiofs ' /proc/mounts; then
	emulated=yes
	mount -t virtiofs lab /run/lab
else
	emulated=no
	mount -t hostfs -o "$share" none /run/lab
fi
exec </dev/null >>/run/lab/.output 2>&1

power_off() {
	echo "${1:-125}" >/run/lab/.exit
	sync
	echo o >/proc/sysrq-trigger
	sleep 60
}
trap 'power_off 125' EXIT

build="" source="" kernel_modules="" udev="" level="" command=() # from:
# shellcheck disable=SC1091
. /run/lab/.machine
# share DIRECTORY PLACE: read-only, and not hidden by what is mounted below.
share() {
	if [ $emulated = yes ]; then
		mount --bind "$1" "$2"
	else
		mount -t hostfs -o "$1" none "$2"
	fi
	mount -o remount,ro "$2"
}
share "$build" /run/build
share "$source" /run/source
for place in /tmp /var/tmp /var/lib /var/log /mnt /root /home /etc/lvm /srv; do
	[ ! -d "$place" ] || mount -t tmpfs -o mode=1777 tmpfs "$place"
done
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts 2>/dev/null
mount -t tmpfs tmpfs /dev/shm 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
ip link set lo up 2>/dev/null
echo 1 >/proc/sys/kernel/sysrq 2>/dev/null

ln -s "$kernel_modules/$(uname -r)" /run/modules/lib/modules/
# What the kernel asks for by itself comes from there, too.
printf '#!/bin/sh\nexec /sbin/modprobe -d /run/modules "$@"\n' >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
# dm-raid measures its ways to compute for seconds in an emulated machine: there it comes when it is needed.
[ $emulated = yes ] || modprobe -d /run/modules dm-raid 2>/dev/null
for module in dm-mod dm-snapshot dm-thin-pool dm-mirror dm-flakey dm-delay loop; do
	modprobe -d /run/modules "$module" 2>/dev/null
done
if [ $emulated = yes ]; then
	for disk in /sys/block/vd?; do # the names that the tests know
		letter=$(tr a-y b-z <<<"${disk#/sys/block/vd}")
		ln -s "${disk##*/}" "/dev/ubd$letter"
	done
fi

if [ "$udev" = yes ]; then
	/usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
	udevadm trigger --type=subsystems --action=add
	udevadm trigger --type=devices --action=add
	udevadm settle --timeout=30
	cat >/etc/lvm/lvm.conf <<-CONFIG
		activation { udev_sync=1 udev_rules=1 monitoring=0 }
		devices { use_devicesfile=0 }
	CONFIG
else
	cat >/etc/lvm/lvm.conf <<-CONFIG
		activation { udev_sync=0 udev_rules=0 monitoring=0 }
		devices { scan=["/dev"] use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source="none" }
	CONFIG
fi

export BUILD=/run/build SOURCE=/run/source LAB=/run/lab VSSD_TEST_LEVEL=$level LVM_SUPPRESS_FD_WARNINGS=1 UDEV=$udev
export KERNEL_MODULES=/run/modules
"${command[@]}"
power_off $?
