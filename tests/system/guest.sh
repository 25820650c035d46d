# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# A small virtual machine: Debian's cloud kernel under QEMU without acceleration, with busybox, qemu-ga and one disk, on which
# a program counts. Source it after lib.sh.
#
# The kernel's package is fetched once, from where this machine's apt gets its packages, and kept in
# ${XDG_CACHE_HOME:-/var/cache}/vssd-tests.
# shellcheck source=tests/system/lib.sh
[ -n "${lab+set}" ] || . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# shellcheck disable=SC2034 # for scene_start
guest_tools=(qemu-system-x86_64 qemu-img busybox depmod dpkg-deb)
guest_modules=(virtio_pci virtio_blk virtio_console)
guest_module_places=('drivers/virtio/*' drivers/block/virtio_blk.ko drivers/char/virtio_console.ko)

# guest_kernel: its package's path; fails where it cannot be had.
guest_kernel() {
	"$(dirname "${BASH_SOURCE[0]}")/../uml/get-kernel.sh" cloud-package
}

# guest_add PROGRAM...: with the libraries that it needs, below $lab/guest/root.
guest_add() {
	local program file

	for program in "$@"; do
		for file in "$program" $(ldd "$program" 2>/dev/null | grep -o '/[^ )]*'); do
			[ -e "$lab/guest/root$file" ] || install -D "$file" "$lab/guest/root$file"
		done
	done
}

guest_init() {
	cat <<-'INIT'
		#!/bin/busybox sh
		/bin/busybox --install -s /bin
		export PATH=/bin:/usr/sbin:/usr/bin DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
		mkdir -p /proc /sys /dev /run /mnt /tmp
		mount -t proc proc /proc
		mount -t sysfs sysfs /sys
		mount -t devtmpfs dev /dev
		while read -r module; do insmod "$module"; done </modules
		until [ -e /dev/vda ] && [ -e /dev/vport1p1 -o -e /dev/vport0p1 ]; do usleep 20000; done
		mount -t ext4 /dev/vda /mnt
		[ ! -e /dev/vdb ] || { mkdir /data && mount -t btrfs /dev/vdb /data; }
		count() {
			i=0
			while i=$((i + 1)); do
				while [ -e /run/pause ]; do : >/run/paused; usleep 10000; done
				rm -f /run/paused
				printf '%012d\n' $i | dd of=/mnt/first conv=fsync,notrunc 2>/dev/null
				printf '%012d\n' $i | dd of=/mnt/second conv=fsync,notrunc 2>/dev/null
			done
		}
		count &
		[ ! -x /start ] || /start
		while :; do
			qemu-ga -m virtio-serial -p /dev/vport*p1 -t /run -F/hook $(cat /run/agent-options 2>/dev/null)
		done
	INIT
}

guest_hook() {
	printf '#!/bin/sh\nexit 0\n'
}

# guest_add_btrfs: a second disk, for vssd in the guest to make copies on
guest_add_btrfs() {
	guest_modules+=(btrfs)
	guest_module_places+=('fs/btrfs/*' 'lib/*' 'crypto/*' 'arch/x86/crypto/*')
}

# guest_add_vssd: vssd in the guest, behind its agent's hook, with a script writer that stops the counting.
guest_add_vssd() {
	local root=$lab/guest/root

	build=$(realpath "$build") # its place in the guest, too
	mkdir -p "$root/etc/vssd/hooks" "$root/tmp"
	guest_add "$(command -v dbus-daemon)" "$build/coordinator/vssd" "$build/coordinator/providers/vss-worker" \
		"$build/requestor/vssctl" "$build/writers/script/vss-script-writer"
	mkdir -p "$root/bin"
	ln -sf "$build/requestor/vssctl" "$root/bin/vssctl" # where its agent finds it
	echo 'root:x:0:0::/:/bin/sh' >"$root/etc/passwd"
	cat >"$root/etc/bus.conf" <<-'CONFIG'
		<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
		 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig>
		  <type>system</type>
		  <listen>unix:path=/run/bus</listen>
		  <auth>EXTERNAL</auth>
		  <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
		</busconfig>
	CONFIG
	cat >"$root/etc/vssd/hooks/freeze" <<-'HOOK'
		#!/bin/sh
		[ ! -e /run/fail ] || { echo "the counter cannot stop"; exit 1; }
		touch /run/pause
		until [ -e /run/paused ]; do usleep 10000; done
		echo held >/mnt/application
	HOOK
	cat >"$root/etc/vssd/hooks/thaw" <<-'HOOK'
		#!/bin/sh
		echo runs >/mnt/application
		rm -f /run/pause
	HOOK
	printf '[Writer]\nId=%s\nName=Counter\nPaths=/mnt\nHooks=/etc/vssd/hooks\n' \
		"$(cat /proc/sys/kernel/random/uuid)" >"$root/etc/vssd/counter.conf"
	printf '[Coordinator]\nMachineId=%s\n' "$(tr -d - </proc/sys/kernel/random/uuid)" >"$root/etc/vssd/vssd.conf"
	cat >"$root/start" <<-START
		#!/bin/sh
		mkdir -p /run/vssd /run/counter /run/manifests
		echo runs >/mnt/application
		dbus-daemon --config-file=/etc/bus.conf --fork --nopidfile
		$build/coordinator/vssd --runtime-dir /run/vssd --manifests /run/manifests --config /etc/vssd/vssd.conf \\
			--worker $build/coordinator/providers/vss-worker >/dev/console 2>&1 &
		$build/writers/script/vss-script-writer --runtime-dir /run/counter /etc/vssd/counter.conf >/dev/console 2>&1 &
		until $build/requestor/vssctl list writers | grep -q "'Counter'"; do usleep 50000; done
	START
	sed "s|^exec |export VSSCTL=$build/requestor/vssctl\nexec |" "$build/requestor/doors/fsfreeze-hook" >"$root/hook"
	chmod -R go-w "$root/etc"
	chmod 755 "$root/start" "$root/hook" "$root"/etc/vssd/hooks/*
}

# guest_run COMMAND: in the guest, by its agent. While nobody else is connected to it.
guest_run() {
	python3 - "$lab/qga.sock" "$1" <<-'PYTHON'
		import json, socket, sys
		agent = socket.socket(socket.AF_UNIX)
		agent.settimeout(20)
		agent.connect(sys.argv[1])
		agent.sendall(b"\xff" + json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": 4711}}).encode() + b"\n")
		answers = agent.makefile("rb")
		while b"4711" not in answers.readline():
		    pass
		agent.sendall(json.dumps({"execute": "guest-exec", "arguments": {"path": "/bin/sh", "arg": ["-c", sys.argv[2]]}}).encode() + b"\n")
		sys.exit("return" not in json.loads(answers.readline()))
	PYTHON
}

# guest_build PACKAGE: $lab/guest/kernel and $lab/guest/initramfs. What is in $lab/guest/root already goes with it.
guest_build() {
	local root=$lab/guest/root modules=$lab/guest/modules release module

	mkdir -p "$root/bin" "$root/lib/modules" "$modules"
	# The filesystem is built in.
	dpkg-deb --fsys-tarfile "$1" | tar -x -C "$modules" --wildcards './boot/vmlinuz-*' './lib/modules/*/modules.*' \
		"${guest_module_places[@]/#/./lib/modules/*/kernel/}"
	release=$(basename "$modules"/lib/modules/*)
	mv "$modules"/boot/vmlinuz-* "$lab/guest/kernel"
	depmod -b "$modules" "$release"
	for module in "${guest_modules[@]}"; do
		modprobe -d "$modules" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' | while read -r module; do
		install -D "$module" "$root/lib/modules/$(basename "$module")"
		echo "/lib/modules/$(basename "$module")"
	done >"$root/modules"
	guest_add "$(command -v qemu-ga)"
	install "$(command -v busybox)" "$root/bin/busybox"
	guest_init >"$root/init"
	[ -e "$root/hook" ] || guest_hook >"$root/hook"
	chmod 755 "$root/init" "$root/hook"
	(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$lab/guest/initramfs"
	rm -rf "$modules"
}

# guest_start DISK [QEMU-OPTION...]: sockets $lab/qga.sock and $lab/qmp.sock.
# no_timer_check: on a busy host the kernel finds its timer broken, and panics.
guest_start() {
	local disk=$1

	shift
	lab_spawn guest qemu-system-x86_64 -nodefaults -M q35,accel=tcg -m 256 -nographic -no-reboot \
		-kernel "$lab/guest/kernel" -initrd "$lab/guest/initramfs" \
		-append "console=ttyS0 quiet panic=-1 no_timer_check rcupdate.rcu_expedited=1" -serial "file:$lab/guest/console" \
		-drive "file=$disk,if=virtio,discard=unmap" -qmp "unix:$lab/qmp.sock,server=on,wait=off" -device virtio-serial-pci \
		-chardev "socket,id=qga,path=$lab/qga.sock,server=on,wait=off" \
		-device virtserialport,chardev=qga,name=org.qemu.guest_agent.0 "$@"
}
