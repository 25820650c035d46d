#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The newcomer's script proves what it says, notices a writer that lies, and leaves nothing behind, however it ends.
# Usage: test-quickstart.sh QUICKSTART BUILD_DIR LEDGER-CARELESS
set -euo pipefail

quickstart=$1 build=$2 careless=$3

if [ "$(id -u)" -ne 0 ] || [ ! -e /dev/loop-control ] || ! grep -qw btrfs /proc/filesystems; then
	echo "needs root, loop devices and btrfs"
	exit 77
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export TMPDIR=$dir BUILD_DIR=$build

fail() {
	echo "FAIL: $*"
	tail -n 60 "$dir"/*.out
	exit 1
}

expect_nothing_left() {
	[ -z "$(compgen -G "$dir/vss-lab.*")" ] || fail "$1 left $(ls -d "$dir"/vss-lab.*)"
	! grep -F "$dir/" /proc/self/mountinfo || fail "$1 left a mount"
	! losetup --list --noheadings | grep -F "$dir/" || fail "$1 left a loop device"
	! pgrep -f "$dir/vss-lab" >/dev/null || fail "$1 left processes: $(pgrep -af "$dir/vss-lab")"
}

echo "--- as it is"
begin=$SECONDS
"$quickstart" >"$dir/good.out" 2>&1 || fail "quickstart.sh failed"
cat "$dir/good.out"
[ $((SECONDS - begin)) -lt 120 ] || fail "quickstart.sh took $((SECONDS - begin)) s, of 120 that it may"
expect_nothing_left "the whole run"

echo "--- with a ledger whose Freeze does nothing"
! LEDGER=$careless "$quickstart" >"$dir/careless.out" 2>&1 || fail "a writer that lies was believed"
grep -q "step 4 failed" "$dir/careless.out" || fail "a writer that lies was noticed, but not in step 4"
grep "^WRONG" "$dir/careless.out" || fail "step 4 failed for another reason than the books"
expect_nothing_left "the failed run"

for signal in INT TERM HUP; do
	for seconds in 0.3 1 2; do
		echo "--- ended by SIG$signal after $seconds s"
		# Job control: else a background process ignores SIGINT.
		set -m
		"$quickstart" >"$dir/ended.out" 2>&1 &
		set +m
		pid=$!
		sleep "$seconds"
		kill -s "$signal" -- "-$pid" || fail "quickstart.sh is over after $seconds s"
		! wait "$pid" || fail "a run that was ended by SIG$signal claims success"
		expect_nothing_left "a run that was ended by SIG$signal after $seconds s"
	done
done
