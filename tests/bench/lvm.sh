#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What sets on logical volumes cost, in a machine of their own and under a writer; for docs/measurements.md.
#   tests/uml/run.sh [--kernel K] [--udev] --disk 3G --timeout 1200 BUILD_DIRECTORY tests/bench/lvm.sh [--held] [ROUNDS [N...]]
# For each N: how long writes are held, in interleaved pairs against the bare system calls; the same against the time from the
# first to the last of plain snapshots; and, over 16, the whole command against 16 times lvcreate -s. With --held only the first of these.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"
# shellcheck source=tests/bench/figures.sh
. "$SOURCE/tests/bench/figures.sh"

with_plain=yes
[ "${1:-}" != --held ] || { with_plain=no && shift; }
rounds=${1:-10}
shift || true
[ $# -gt 0 ] || set -- 1 4 8 16

bare() {
	local volume pairs=()

	for volume in "${volumes[@]}"; do
		pairs+=("$volume" "vg-${volume##*/}")
	done
	"$BUILD/tests/uml/bare-hold" "${pairs[@]}" >>"$1"
}

product() {
	local begin

	begin=$(now)
	create_set /run/set.json || die "no set: $(cat /run/create.err)"
	echo $(($(now) - begin)) >>"$2"
	jq .result.WritesHeldUsec /run/set.json >>"$1"
	delete_set /run/set.json
}

# plain SPAN COMMANDS: from the end of the first command to that of the last, and all of them.
plain() {
	local i begin first=0 end

	begin=$(now)
	for ((i = 1; i <= ${#volumes[@]}; i++)); do
		lvcreate -qq -y -s -n "p$i" -L 16M "vg/v$i"
		[ $i -gt 1 ] || first=$(now)
	done
	end=$(now)
	echo $((end - first)) >>"$1"
	echo $((end - begin)) >>"$2"
	for ((i = 1; i <= ${#volumes[@]}; i++)); do
		lvremove -qq -y "vg/p$i" >/dev/null
	done
}

make_vg vg /dev/ubdb
start_all
made=0
note "kernel $(uname -r), udevd: $UDEV, $rounds rounds"
for n in "$@"; do
	for ((; made < n; made++)); do
		make_lv vg "v$((made + 1))" 48M ext4
		mount_lv vg "v$((made + 1))"
		volumes+=("/mnt/v$((made + 1))")
	done
	start_writer
	rm -f /run/held /run/bare /run/span /run/command /run/commands
	bare /run/warm
	product /run/warm /run/warm
	for ((i = 1; i <= rounds; i++)); do
		if ((i % 2)); then
			bare /run/bare
			product /run/held /run/command
		else
			product /run/held /run/command
			bare /run/bare
		fi
		[ "$n" -lt 2 ] || [ $with_plain = no ] || plain /run/span /run/commands
	done
	stop_writer
	note "N=$n writes held: set $(summary /run/held), bare $(summary /run/bare) ms: $(verdict /run/held /run/bare 1.5)"
	[ "$n" -lt 2 ] || [ $with_plain = no ] || note "N=$n plain snapshots span $(summary /run/span) ms: $(verdict /run/span /run/held 100 least)"
	note "N=$n whole command: set $(summary /run/command) ms"
	[ "$n" -lt 2 ] || [ $with_plain = no ] || note "N=$n lvcreate -s each $(summary /run/commands) ms: $(verdict /run/command /run/commands "$([ "$UDEV" = yes ] && echo 1.1 || echo 0.7)")"
done
