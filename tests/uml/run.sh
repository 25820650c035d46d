#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs a script in a machine of its own, which has device-mapper and may be frozen, filled, killed and booted again: a User-Mode
# Linux, or an emulated machine with two processors. Its root is this machine's file tree, read-only; what it may write is in
# memory, on its disks, and in /run/lab. Needs root (the tree's files are read as root) and, for some kernels, one download.
#
# Usage: run.sh [OPTION]... BUILD_DIRECTORY SCRIPT [ARGUMENT]...
#   --kernel 6.1|6.12|cloud  which one (default 6.1); 77 where that one cannot be had. cloud: Debian's, on two emulated processors
#   --disk SIZE         a disk: /dev/ubdb, the next /dev/ubdc ... (sparse)
#   --disks DIRECTORY   keep the disks there, and $LAB, and use those that are there: to boot the same machine again
#   --memory SIZE       (default 1G)
#   --udev              with systemd-udevd inside, and LVM that goes by it
#   --timeout SECONDS   then its power is cut (default 300); exit code 124
#   --cut FILE          cut its power as soon as the script has made /run/lab/FILE; exit code 0 then, 1 if it never did
#
# The script runs as root with BUILD, SOURCE and LAB (a directory that outlives the machine: /run/lab) in its environment;
# its output and exit code are this program's. Inside, source "$SOURCE/tests/uml/lib.sh".
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$here/../.." && pwd)
kernel=6.1 memory=1G limit=300 udev=no cut="" keep=""
sizes=()

usage() {
	sed -n 's/^# \{0,1\}//; 6,14p' "${BASH_SOURCE[0]}" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--kernel) kernel=$2 ;;
	--disk) sizes+=("$2") ;;
	--disks) keep=$(mkdir -p "$2" && cd "$2" && pwd) ;;
	--memory) memory=$2 ;;
	--timeout) limit=$2 ;;
	--cut) cut=$2 ;;
	--udev) udev=yes ;;
	-*) usage ;;
	*) break ;;
	esac
	[ "$1" = --udev ] && shift || shift 2
done
[ $# -ge 2 ] || usage
[ "$(id -u)" -eq 0 ] || { echo "skipped: a machine of its own needs root"; exit 77; }
build=$(cd "$1" && pwd)
script=$(readlink -f "$2")
shift 2

place=$("$here/get-kernel.sh" "$kernel") || exit $?
[ "$kernel" != cloud ] || "$here/emulate.sh" --check || exit $?
lab=$(mktemp -d "${TMPDIR:-/tmp}/vss-machine.XXXXXX")
machine=""

finish() {
	[ -z "$machine" ] || kill -KILL -- "-$machine" 2>/dev/null || true
	[ -z "$machine" ] || wait "$machine" 2>/dev/null || true
	rm -rf --one-file-system "$lab"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

disks=() letter=b
for size in "${sizes[@]}"; do
	file=${keep:-$lab}/disk-$letter
	[ -e "$file" ] || truncate -s "$size" "$file"
	disks+=("$file")
	letter=$(tr b-y c-z <<<"$letter")
done
share=${keep:-$lab}/share
mkdir -p "$share" "$lab/uml"
rm -f "$share/.exit" "$share/.output"
case $script in
"$source"/*) script=/run/source/${script#"$source"/} ;;
*)
	install -m 755 "$script" "$share/.script" # may lie where the machine has memory of its own
	script=/run/lab/.script
	;;
esac
{
	printf 'kernel_modules=%q\nudev=%q\nbuild=%q\nsource=%q\nlevel=%q\n' "$place/modules" "$udev" "$build" "$source" \
		"${VSSD_TEST_LEVEL:-default}"
	printf 'command=('
	printf '%q ' "$script" "$@"
	printf ')\n'
} >"$share/.machine"

# setsid: its processes are a group of their own, so that cutting the power leaves none.
boot_uml() {
	local disk letter=b options=()

	for disk in "${disks[@]}"; do
		options+=("ubd$letter=$disk")
		letter=$(tr b-y c-z <<<"$letter")
	done
	TMPDIR=/dev/shm HOME=$lab setsid "$place/linux" mem="$memory" uml_dir="$lab/uml/" umid=machine rootfstype=hostfs rootflags=/ \
		ro init="$here/init.sh" "${options[@]}" con=null con0=null,fd:1 quiet vss_share="$share" \
		</dev/null >"$lab/console" 2>&1 &
	machine=$!
}

boot_emulated() {
	setsid "$here/emulate.sh" "$place" "$lab" "$share" "$memory" "${disks[@]}" </dev/null >"$lab/console" 2>&1 &
	machine=$!
}

if [ "$kernel" = cloud ]; then
	boot_emulated
else
	boot_uml
fi

# What the script prints is passed on as it comes.
touch "$share/.output"
tail --quiet --follow --bytes=+1 --sleep-interval=0.2 --pid="$machine" "$share/.output" &
printer=$!
deadline=$((SECONDS + limit))
while kill -0 "$machine" 2>/dev/null; do
	if [ -n "$cut" ] && [ -e "$share/$cut" ]; then
		kill -KILL -- "-$machine"
		wait "$machine" 2>/dev/null || true
		wait "$printer" 2>/dev/null || true
		exit 0
	fi
	if [ "$SECONDS" -ge "$deadline" ]; then
		echo "The machine was still running after $limit s; the end of its console:"
		tail -n 20 "$lab/console"
		exit 124
	fi
	sleep 0.05
done
wait "$machine" 2>/dev/null || true
machine=""
wait "$printer" 2>/dev/null || true
code=$(cat "$share/.exit" 2>/dev/null || echo 125)
[ "$code" -ne 125 ] || { echo "The machine ended by itself; the end of its console:"; tail -n 40 "$lab/console"; }
[ -z "$cut" ] || { echo "The script ended (code $code) before $cut was made"; exit 1; }
exit "$code"
