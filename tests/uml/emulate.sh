#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The machine of `run.sh --kernel cloud`: QEMU without acceleration, two processors in threads of their own. The file tree is shared
# by virtiofs, since Debian's cloud kernel has neither hostfs nor 9p; virtiofsd sees it read-only.
# emulate.sh KERNEL_DIRECTORY LAB SHARE MEMORY [DISK...]; emulate.sh --check: 77, with the reason, where something is missing
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
daemon=/usr/lib/qemu/virtiofsd
modules=(virtio_pci virtio_blk virtiofs)

check() {
	local program

	for program in qemu-system-x86_64 busybox "$daemon"; do
		command -v "$program" >/dev/null || { echo "skipped: $program is not there" >&2; exit 77; }
	done
}

# What the initramfs does: with the shared tree as root, init.sh is the first process.
first_process() {
	cat <<-INIT
		#!/bin/busybox sh
		export PATH=/bin
		/bin/busybox --install -s /bin
		mount -t devtmpfs dev /dev
		while read -r module; do insmod "\$module"; done </modules
		until mount -t virtiofs -o ro root /root; do sleep 1; done
		mount --move /dev /root/dev
		exec switch_root /root $here/init.sh
	INIT
}

# initramfs MODULES DIRECTORY FILE: the modules' names are in the order in which they go in.
initramfs() {
	local release root=$2 module

	release=$(basename "$1"/*)
	mkdir -p "$root"/{bin,dev,root,m/lib}
	ln -s "$1" "$root/m/lib/modules"
	for module in "${modules[@]}"; do
		modprobe -d "$root/m" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' | while read -r module; do
		cp "$module" "$root/"
		echo "/${module##*/}"
	done >"$root/modules"
	rm -r "$root/m"
	install "$(command -v busybox)" "$root/bin/busybox"
	first_process >"$root/init"
	chmod 755 "$root/init"
	(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$3"
}

# serve TAG DIRECTORY OPTION...
serve() {
	local tag=$1 directory=$2

	shift 2
	"$daemon" --socket-path="$lab/$tag.sock" -o source="$directory" -o sandbox=namespace -o log_level=err "$@" &
}

if [ "${1:-}" = --check ]; then
	check
	exit 0
fi
place=$1 lab=$2 share=$3 memory=$4
shift 4

# Its own mounts, which end with it.
if [ -z "${EMULATE_ALONE:-}" ]; then
	export EMULATE_ALONE=yes
	exec unshare --mount --propagation private "$0" "$place" "$lab" "$share" "$memory" "$@"
fi
mkdir -p "$lab/tree"
mount --rbind / "$lab/tree"
mount -o remount,bind,ro "$lab/tree"
initramfs "$place/modules" "$lab/initramfs.d" "$lab/initramfs"
serve root "$lab/tree" -o cache=always
serve lab "$share" -o cache=none -o allow_direct_io
devices=()
for tag in root lab; do
	devices+=(-chardev "socket,id=$tag,path=$lab/$tag.sock" -device "vhost-user-fs-pci,chardev=$tag,tag=$tag")
done
n=0
for disk in "$@"; do
	# Cutting the power of the machine does not cut that of its host: what is written needs no flush to be on the disk.
	devices+=(-drive "file=$disk,if=none,id=disk$n,format=raw,cache=unsafe,discard=unmap" -device "virtio-blk-pci,drive=disk$n")
	n=$((n + 1))
done
for ((i = 0; i < 100; i++)); do
	[ ! -S "$lab/root.sock" ] || [ ! -S "$lab/lab.sock" ] || break
	sleep 0.05
done
# What answers goes first: the machine waits for each file.
exec nice qemu-system-x86_64 -nodefaults -no-user-config -nographic -no-reboot -M q35 -accel tcg,thread=multi -smp 2 \
	-cpu Westmere,+rdrand -m "$memory" \
	-object "memory-backend-memfd,id=memory,size=$memory,share=on" -numa node,memdev=memory \
	-kernel "$place/linux" -initrd "$lab/initramfs" \
	-append "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable mitigations=off vss_share=lab" -serial stdio "${devices[@]}"
