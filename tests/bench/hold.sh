#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# How long sets of logical volumes hold writes, against other ways to hold them, in a machine of its own; for docs/measurements.md.
#   tests/uml/run.sh --kernel cloud --disk 3G --timeout 7200 BUILD tests/bench/hold.sh in-turn [ROUNDS [N...]]
# against bare-hold --serial --plain-rcu, which freezes, suspends, resumes and thaws the same volumes one after the other, without
# expedited grace periods and without making any copy.
#   tests/uml/run.sh --kernel 6.12 --disk 3G --timeout 3600 BUILD tests/bench/hold.sh lvcreate [ROUNDS [N...]]
# against freezing as many others and calling lvcreate -s for each before they are thawed. That damages them (until they are
# deactivated) and fails on older kernels: they are made for it, and gone afterwards. Nobody writes to them.
# Ends with 1 if a target was missed.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"
# shellcheck source=tests/bench/figures.sh
. "$SOURCE/tests/bench/figures.sh"

other=$1 rounds=${2:-10} missed=0
shift $(($# < 2 ? $# : 2))

# grow N: as many volumes as that, for the sets.
grow() {
	local i

	for ((i = ${#volumes[@]} + 1; i <= $1; i++)); do
		make_lv vg "v$i" 48M ext4
		mount_lv vg "v$i"
		volumes+=("/mnt/v$i")
	done
}

set_of_copies() {
	create_set /run/set.json || die "no set: $(cat /run/create.err)"
	jq .result.WritesHeldUsec /run/set.json >>/run/ours
	delete_set /run/set.json
}

in_turn() {
	local volume pairs=()

	for volume in "${volumes[@]}"; do
		pairs+=("$volume" "vg-${volume##*/}")
	done
	"$BUILD/tests/uml/bare-hold" --serial --plain-rcu "${pairs[@]}" >>/run/theirs
}

lvcreate_frozen() {
	local i n=${#volumes[@]} begin

	for ((i = 1; i <= n; i++)); do
		make_lv vg "f$i" 48M ext4
		mount_lv vg "f$i"
	done
	sync
	begin=$(now)
	for ((i = 1; i <= n; i++)); do
		fsfreeze --freeze "/mnt/f$i"
	done
	for ((i = 1; i <= n; i++)); do
		lvcreate -qq -y -s -n "p$i" -L 16M "vg/f$i" || true # the thaw comes first
	done
	for ((i = 1; i <= n; i++)); do
		fsfreeze --unfreeze "/mnt/f$i"
	done
	echo $(($(now) - begin)) >>/run/theirs
	[ "$(lvs --noheadings -o lv_name -S 'lv_name=~^p' vg | wc -l)" -eq "$n" ] || die "lvcreate -s does not work on frozen volumes here"
	for ((i = 1; i <= n; i++)); do
		umount "/mnt/f$i"
		lvremove -qq -y "vg/f$i" >/dev/null
	done
}

# measure N LEAST-RATIO COMMAND: who begins changes every round; between two, 100 ms pass on synced filesystems.
measure() {
	local n=$1 least=$2 theirs=$3 first second i

	"$theirs" # warm
	set_of_copies
	rm /run/ours /run/theirs
	for ((i = 1; i <= rounds; i++)); do
		first=set_of_copies second=$theirs
		((i % 2)) || first=$theirs second=set_of_copies
		sync
		sleep 0.1
		"$first"
		sync
		sleep 0.1
		"$second"
	done
	verdict /run/theirs /run/ours "$least" least >/run/verdict
	note "N=$n writes held: set $(summary /run/ours), $other $(summary /run/theirs) ms: $(cat /run/verdict)"
	! grep -q MISSED /run/verdict || missed=1
}

# With one processor, there is nothing to expedite.
[ "$(cat /sys/kernel/rcu_expedited 2>/dev/null || echo 0)" = 0 ] || die "grace periods are expedited for everybody here: nothing to compare"
# An emulated machine takes seconds for what a real one does at once.
printf '[Coordinator]\nMachineId=%s\n[Limits]\nResolve=120\nPrepareCopies=600\nFinishCopies=600\nRemoveCopies=600\n' "$(machine_id)" >/run/vssd.conf
make_vg vg /dev/ubdb
start_all
note "kernel $(uname -r), $(nproc) processors, $rounds rounds; median (p95, maximum)"
[ $# -gt 0 ] || set -- 4 8 16
for count in "$@"; do
	grow "$count"
	start_writer
	case $other in
	in-turn) measure "$count" $((count >= 8 ? 8 : count >= 4 ? 6 : 0)) in_turn ;;
	lvcreate) measure "$count" $((count >= 4 ? 100 : 0)) lvcreate_frozen ;;
	*) die "against what: in-turn or lvcreate?" ;;
	esac
	stop_writer
done
for volume in "${volumes[@]}"; do
	writable "$volume" || die "$volume is left frozen"
done
exit $missed
