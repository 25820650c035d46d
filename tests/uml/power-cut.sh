#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# power-cut.sh KERNEL BUILD_DIRECTORY [SCENE:WHERE[:ACTION]...]: cuts the power of a machine at each step of sets, deletions and
# reverts, and boots its disks again (test-power-cut.sh). At level long every step; otherwise, or when some are named, those.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernel=$1 build=$2
shift 2
disks=$(mktemp -d "${TMPDIR:-/tmp}/vss-disks.XXXXXX")
trap 'rm -rf "$disks"' EXIT

# SCENE WHERE ACTION; "within" an op is so many milliseconds after it began, which an emulated machine takes seconds for.
steps() {
	printf 'set %s\n' "arm hang-after" "seal hang-after"
	[ "${VSSD_TEST_LEVEL:-default}" = long ] || return 0
	printf 'set prepare %s\n' hang "mark-in 60" "mark-in 150" "mark-in 300" "mark-in 500" "mark-in 800" "mark-in 1100" hang-after
	printf 'set arm %s\n' hang "mark-in 2"
	printf 'set window:%s\n' freeze:1:after freeze:3:after suspend:1:after suspend:3:after cut:1:before cut:1:after cut:3:after \
		resume:1:before resume:1:after resume:3:after thaw:1:after thaw:3:after
	printf 'set open %s\n' hang "mark-in 20" "mark-in 100" hang-after
	printf 'set seal %s\n' hang "mark-in 20" "mark-in 60" "mark-in 120" "mark-in 200" "mark-in 300"
	printf 'delete remove %s\n' hang "mark-in 20" "mark-in 60" "mark-in 120" "mark-in 200" "mark-in 300" hang-after
	printf 'revert-thick revert %s\n' hang "mark-in 30" "mark-in 100" "mark-in 200" "mark-in 400" hang-after
	printf 'revert-thin revert %s\n' hang "mark-in 30" "mark-in 100" "mark-in 200" "mark-in 400" hang-after
	printf 'revert-used revert %s\n' "mark-in 100" hang-after
}

# machine SCRIPT-ARGUMENT...
machine() {
	"$here/run.sh" --kernel "$kernel" --disk 2G --disks "$disks" --timeout 300 "${cut[@]}" "$build" "$here/test-power-cut.sh" "$@"
}

try() { # SCENE WHERE [ACTION]
	local mark

	case "$2 ${3-}" in
	window:*) mark=step/reached ;;
	*" hang") mark=gate/$2.done ;;
	*) mark=gate/$2.after ;;
	esac
	rm -rf "${disks:?}"/*
	cut=(--cut "$mark")
	machine cut "$@" || { echo "cut at $*: not reached"; return 1; }
	cut=()
	machine boot "$1" || { echo "cut at $*: the next boot failed"; return 1; }
	echo "cut at $*: clean"
}

"$here/get-kernel.sh" "$kernel" >/dev/null || exit $?
failed=0
if [ $# -eq 0 ]; then
	mapfile -t chosen < <(steps)
else
	chosen=("$@")
fi
for step in "${chosen[@]}"; do
	read -r scene where action <<<"$step"
	try "$scene" "$where" ${action:+"$action"} || failed=$((failed + 1))
	[ "${VSSD_TEST_LEVEL:-default}" != fast ] || break
done
echo "${#chosen[@]} power cuts, $failed failed"
[ $failed -eq 0 ]
