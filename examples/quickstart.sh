#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A consistent shadow copy of two live volumes, from nothing: installs what it needs (Debian 12, as root), builds vssd, and shows,
# on a bus and on btrfs volumes of its own, what vssd is for. Leaves nothing behind but the packages. About a minute.
#
# Ends with 0 if everything that it claims was proven.
#
# BUILD_DIR=DIR takes a build directory that is there; LEDGER=PROGRAM another build of ledger (the tests do both).
set -euo pipefail

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/system/lib.sh
. "$source/tests/system/lib.sh"

packages=(btrfs-progs dbus-daemon gcc libblkid-dev libbtrfsutil-dev libc6-dev libdbus-1-dev libjansson-dev libmount-dev
	libsmartcols-dev libsqlite3-dev libsystemd-dev meson mount ninja-build pkg-config tar)
control_tries=10
control_breaks_needed=9
vssd_tries=20

build=${BUILD_DIR:-}
a="" b="" # the two live volumes

step() {
	printf '\n== %s\n' "$*"
}

# ---- before anything can be shown ----

install_packages() {
	local package missing=()

	for package in "${packages[@]}"; do
		dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	step "Installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	lab_run apt-get --quiet=2 update
	lab_run apt-get --quiet=2 --yes --no-install-recommends install "${missing[@]}" >"$lab/apt.log" ||
		lab_die "the packages cannot be installed: $(tail -n 20 "$lab/apt.log")"
}

build_vssd() {
	[ -z "$build" ] || return 0
	build=$lab/build
	step "Building vssd"
	{
		lab_run meson setup "$build" "$source" -Dtests=false -Ddocs=false && lab_run ninja -C "$build"
	} >"$lab/build.log" 2>&1 || lab_die "vssd cannot be built: $(tail -n 40 "$lab/build.log")"
}

# Both halves are made before the load begins: a copy must not find half of nothing.
start_ledger() {
	lab_spawn ledger "${LEDGER:-$build/examples/ledger/ledger}" run --a "$a" --b "$b" --threads 4 --status "$lab/frozen-at"
	lab_wait 10 test -e "$b/credit.db" || lab_die "ledger does not start: $(cat "$lab/ledger.log")"
}

start_script_writer() {
	local sample=$source/examples/script-writer

	# Copied: what a script writer runs must belong to root.
	mkdir -m 0755 "$lab/hooks"
	cp -RP "$sample/event-log/." "$lab/hooks"
	chown -R root:root "$lab/hooks"
	sed -e "s|^Hooks=.*|Hooks=$lab/hooks|" -e "s|^Paths=.*|Paths=$a;$b|" \
		-e "s|^Environment=.*|Environment=EVENT_LOG=$lab/events.log|" "$sample/event-log.conf" >"$lab/event-log.conf"
	lab_spawn script-writer "$build/writers/script/vss-script-writer" --runtime-dir "$lab/script-run" "$lab/event-log.conf"
}

# ---- what is shown ----

both_writers_stable() {
	local listed

	listed=$(vssctl list writers)
	[ "$(grep -c -F "State: [1] Stable" <<<"$listed")" -eq 2 ] &&
		grep -q "Ledger Example Writer" <<<"$listed" && grep -q "Event Log Example Writer" <<<"$listed"
}

# No copy is left, neither in vssd's eyes nor on the filesystem, which then has the two volumes alone.
nothing_is_left() {
	! { vssctl list shadows --json --for "$a" && vssctl list shadows --json --for "$b"; } | grep -q '"Shadow":' &&
		[ "$(btrfs subvolume list "$lab/volume" | wc -l)" -eq 2 ]
}

# check_copy DIRECTORY [EXPECTED]: DIRECTORY holds the tree that a backup has copied.
check_copy() {
	local debit credit

	debit=$(find "$1" -name debit.db -print -quit)
	credit=$(find "$1" -name credit.db -print -quit)
	[[ -n $debit && -n $credit ]] || lab_die "a copy lacks a half of the ledger: $(find "$1")"
	"$build/examples/ledger/ledger" check --a "${debit%/*}" --b "${credit%/*}" ${2:+--expect "$2"}
}

drop_logs() {
	find "$1" \( -name '*-wal' -o -name '*-shm' \) -delete
}

step_backup() {
	step "3. vssctl backup --for VOLUME --for VOLUME -- tar -cf backup.tar {}"
	(cd "$lab" && vssctl backup --for "$a" --for "$b" -- tar -cf backup.tar {} 2>backup.err) || {
		cat "$lab/backup.err" >&2
		lab_die "the backup failed"
	}
	grep -v "Removing leading" "$lab/backup.err" || true
	grep -q "BackupComplete: the backup succeeded" "$lab/ledger.log" || lab_die "ledger was not told of the success"
	grep -q "^backup-complete" "$lab/events.log" || lab_die "the script writer was not told of the end"
	nothing_is_left || lab_die "the backup left copies behind"
	lab_note "The script writer was called for: $(cut -d' ' -f1 "$lab/events.log" | tr '\n' ' ')"
	lab_note "Done; every copy is removed again."
}

step_proof() {
	local frozen_at

	frozen_at=$(cat "$lab/frozen-at")
	step "4. Proof: the archive holds the ledger as it was at transaction $frozen_at, without its write-ahead logs"
	mkdir "$lab/unpacked"
	tar -xf "$lab/backup.tar" -C "$lab/unpacked"
	drop_logs "$lab/unpacked"
	check_copy "$lab/unpacked" "$frozen_at" || lab_die "step 4 failed: the copy is not what ledger promised"
}

# What snapshot tools do: copy, and note on disk what was copied.
copy_by_hand() {
	btrfs --quiet subvolume snapshot -r "$1" "$2"
	date --iso-8601=ns >"$2.note"
	sync "$2.note"
}

# Each volume is copied in one instant, and whole, logs and all. One after the other is still not enough.
try_without_vssd() {
	local to=$lab/control

	mkdir "$to"
	copy_by_hand "$a" "$lab/volume/control-a"
	copy_by_hand "$b" "$lab/volume/control-b"
	mkdir "$to/a" "$to/b"
	cp "$lab/volume/control-a/"* "$to/a"
	cp "$lab/volume/control-b/"* "$to/b"
	btrfs --quiet subvolume delete "$lab/volume/control-a" "$lab/volume/control-b"
	local code=0
	check_copy "$to" >"$lab/check.log" 2>&1 || code=1
	rm -r "$to"
	return "$code"
}

try_with_vssd() {
	local to=$lab/with code=0

	mkdir "$to"
	vssctl backup --for "$a" --for "$b" -- cp -R {}/. "$to" 2>"$lab/backup.err" || {
		cat "$lab/backup.err" >&2
		lab_die "a backup failed"
	}
	drop_logs "$to"
	check_copy "$to" "$(cat "$lab/frozen-at")" >"$lab/check.log" 2>&1 || code=1
	rm -r "$to"
	return "$code"
}

# On a machine that is busy with something else ledger may stand still for both copies of a try: hence a second round.
control_round() {
	local i broken=0

	for ((i = 0; i < control_tries; i++)); do
		try_without_vssd || broken=$((broken + 1))
	done
	lab_note "without vssd $broken of $control_tries copies do not balance; the last one:"
	sed -n 's/^WRONG: /    /p' "$lab/check.log"
	[ "$broken" -ge "$control_breaks_needed" ]
}

step_control() {
	local i broken=0

	step "5. Control: the same copies, without vssd and with it, under the same load"
	control_round || control_round || lab_die "step 5 failed: the control shows nothing, the load is too low"
	for ((i = 0; i < vssd_tries; i++)); do
		try_with_vssd || broken=$((broken + 1))
	done
	lab_note "with vssd    $broken of $vssd_tries"
	[ "$broken" -eq 0 ] || lab_die "step 5 failed: copies made with vssd are broken: $(cat "$lab/check.log")"
}

step_timeline() {
	step "6. What took how long"
	"$build/examples/timeline/timeline" "$a" "$b" || lab_die "step 6 failed"
	nothing_is_left || lab_die "copies are left behind"
}

vssctl() {
	"$build/requestor/vssctl" "$@"
}

main() {
	lab_begin
	install_packages
	build_vssd

	step "1. A bus, a btrfs filesystem with two volumes, vssd, and two applications that write"
	lab_make_btrfs volume 2G
	a=$lab/volume/a b=$lab/volume/b
	btrfs --quiet subvolume create "$a"
	btrfs --quiet subvolume create "$b"
	lab_start_bus
	lab_start_vssd "$build"
	start_ledger
	start_script_writer
	lab_note "ledger keeps debits in $a and credits in $b, with four threads."

	step "2. vssctl list writers"
	lab_wait 10 both_writers_stable || lab_die "step 2 failed: $(vssctl list writers 2>&1; cat "$lab"/*.log)"
	vssctl list writers

	step_backup
	step_proof
	step_control
	step_timeline
	lab_alive ledger || lab_die "ledger has ended: $(cat "$lab/ledger.log")"
	step "All of it held. Everything is removed now."
}

main "$@"
