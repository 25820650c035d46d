#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What a restart of the machine leaves of copies, sets, their documents, and of what was half made, in boots of the same disks.
# "first" makes them, on logical volumes and a btrfs, and leaves half-made copies of this machine and of another one. "second"
# is the same machine with nothing on /run and /var: all is as it was, its own half-made copies go, the other's stay and are
# listed. "third" is that other machine, to which the volume group is imported: the same, the other way round.
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/uml/sets.sh
. "$SOURCE/tests/uml/sets.sh"

volumes=(/mnt/v1 /mnt/v2 /mnt/b)
other_id=0123456789abcdef0123456789abcdef

become() { # MACHINE-ID
	printf '[Coordinator]\nMachineId=%s\n[Limits]\nMixedHoldLimit=5s\n' "$1" >/run/vssd.conf # a busy host's disk is slow
}

# Of all copies but where they are mounted, which a restart ends. By the set, so that the order says nothing.
list() {
	vssctl list shadows --json >/run/list.json || die "nothing can be listed"
	jq -S '[.shadows[] | select(.State == "created") | .Exposed = ""] | sort_by(.Set, .Volume)' /run/list.json
}

documents() {
	jq -r '.shadows[] | select(.State != "unfinished") | .Shadow' /run/list.json | sort | while read -r copy; do
		busctl --address="$DBUS_SYSTEM_BUS_ADDRESS" --json=short call org.vssd /org/vssd org.vssd.Coordinator1 GetRecord 'sa{sv}' \
			"$copy" 0 | jq -S '.data[0] | fromjson'
	done
}

associations() {
	vssctl list shadowstorage --json | jq -S '[.. | objects | select(has("OnName")) | { For, Volume, On, Max, Explicit, Guaranteed }] | sort_by(.For)'
}

half_made() { # MACHINE-ID: how many copies
	local logical subvolumes

	logical=$(lvs -a --noheadings -o lv_tags vg | grep vss.state=preparing | grep -c "vss.host=$1" || true)
	subvolumes=$(find /mnt/b/.vss -maxdepth 2 -name unfinished -lname "$1,*" | wc -l)
	echo $((logical + subvolumes))
}

has_half_made() {
	[ "$(half_made "$1")" -eq 3 ]
}

has_none() {
	[ "$(half_made "$1")" -eq 0 ]
}

tell_half_made() {
	lvs -a --noheadings -o lv_name,lv_tags vg | grep preparing
	find /mnt/b/.vss -maxdepth 2 -name unfinished -ls
}

# Of the machine with this id, which ends in the middle of it.
leave_half_made() { # MACHINE-ID
	rm -rf /run/vssd # what a machine knows of its own sets
	become "$1"
	mkdir -p "$LAB/gate"
	export GATE_DIRECTORY=$LAB/gate GATE_WORKER=$BUILD/coordinator/providers/vss-worker
	start_vssd --worker "$BUILD/tests/system/gate-worker"
	rm -f "$LAB/gate"/*
	echo hang >"$LAB/gate/arm"
	create_set /run/half.json &
	wait_for 60 test -e "$LAB/gate/arm.done" || die "no half-made copies: $(cat /run/create.err)"
	stop vssd KILL
	wait_for 10 has_half_made "$1" || die "no half-made copies of $1: $(tell_half_made)"
}

mount_all() {
	mount_lv vg v1
	mount_lv vg v2
	mkdir -p /mnt/b
	mount /dev/ubdc /mnt/b || die "the btrfs cannot be mounted"
}

compare() { # NAME WHAT
	diff "$LAB/$1" "/run/$1" || die "$2"
}

# known: what was known before, and what is in the copies
known() {
	list >/run/list || die "nothing is listed"
	documents >/run/documents
	associations >/run/associations
	compare list "copies are not what they were"
	compare documents "documents are not what they were"
	compare associations "associations are not what they were"
	contents
}

contents() {
	expose_set "$LAB/set.json"
	is_ordered >/run/order.log || die "the set is out of order: $(cat /run/order.log)"
	[ -s /mnt/copy/v1/.vss/record.json ] || die "no document lies in the copy"
	unexpose_set "$LAB/set.json"
}

first() {
	make_vg vg /dev/ubdb
	make_pool vg pool 160M
	make_lv vg v1 48M ext4
	make_thin vg pool v2 64M ext4
	make_fs /dev/ubdc btrfs
	mount_all
	become "$(machine_id)"
	start_all
	vssctl add shadowstorage --for /mnt/v1 --on vg --maxsize 200MB >/dev/null || die "no association"
	spawn app "$BUILD/writers/test-writer/vss-test-writer" --name App --path /mnt/v1
	wait_for 15 grep -q READY /run/log/app.log || die "the writer does not start"
	start_writer
	create_set "$LAB/set.json" || die "no set: $(cat /run/create.err)"
	stop_writer
	create_set "$LAB/later.json" || die "no second set: $(cat /run/create.err)"
	list >"$LAB/list"
	[ "$(jq length "$LAB/list")" -eq 6 ] || die "not all copies are listed: $(cat "$LAB/list")"
	documents >"$LAB/documents"
	grep -q '"App"' "$LAB/documents" || die "the documents do not tell of the writer: $(cat "$LAB/documents")"
	associations >"$LAB/associations"
	grep -q /mnt/v1 "$LAB/associations" || die "no association is listed"
	mkdir -p /mnt/exposed
	vssctl expose --shadow "$(copy_of "$LAB/later.json" /mnt/v1)" /mnt/exposed >/dev/null || die "it cannot be exposed"
	stop app
	stop vssd
	leave_half_made "$other_id"
	leave_half_made "$(machine_id)"
	sync
	note "two sets, their documents, and half-made copies of two machines"
}

second() {
	start_bus
	start_guard
	become "$(machine_id)"
	start_vssd # before the volumes are there, as it may be
	vgchange -qq -ay vg || die "the volume group does not activate"
	mount_all
	stop vssd
	start_vssd
	wait_for 30 has_none "$(machine_id)" || die "our own half-made copies remain: $(tell_half_made)"
	note "ours went, without being asked for"
	has_half_made "$other_id" || die "another machine's half-made copies were removed"
	known
	unfinished=$(jq -r --arg host $other_id '.shadows[] | select(.State == "unfinished" and .Host == $host) | .Shadow' /run/list.json)
	[ "$(wc -w <<<"$unfinished")" -eq 3 ] || die "another machine's half-made copies are not listed: $(cat /run/list.json)"
	for copy in $unfinished; do
		vssctl delete shadows --shadow "$copy" -y >/run/out 2>&1 && die "another machine's half-made copy was deleted"
		grep -q "another machine" /run/out || die "it does not say why: $(cat /run/out)"
	done
	[ "$(jq -r '[.shadows[].Exposed] | unique[]' /run/list.json)" = "" ] || die "something passes for exposed: $(cat /run/list.json)"
	create_set /run/set.json || die "no set: $(cat /run/create.err)"
	delete_set /run/set.json
	delete_set "$LAB/later.json"
	list >"$LAB/list"
	documents >"$LAB/documents"
	note "all is known again, the other's half-made copies are listed"
	umount /mnt/v1 /mnt/v2 /mnt/b
	vgchange -qq -an vg
	vgexport -qq vg || die "no export"
}

third() {
	become "$other_id"
	vgimport -qq vg || die "no import"
	vgchange -qq -ay vg || die "the volume group does not activate"
	mount_all
	start_all
	wait_for 30 has_none "$other_id" || die "its own half-made copies remain: $(tell_half_made)"
	vssctl list shadows --json >/run/list.json
	[ "$(jq -r '[.shadows[].State] | unique | join(" ")' /run/list.json)" = foreign ] || die "they are not foreign: $(cat /run/list.json)"
	jq -S '[.shadows[] | .Exposed = "" | .State = "created"] | sort_by(.Set, .Volume)' /run/list.json >/run/list
	documents >/run/documents
	compare list "copies are not what they were"
	compare documents "documents are not what they were"
	contents
	vssctl resize shadowstorage --for /mnt/v1 --on vg --maxsize 32MB >/dev/null || die "it cannot be resized"
	vssctl list shadows --json | grep -q "$(copy_of "$LAB/set.json" /mnt/v1)" || die "another machine's copy went to make room"
	delete_set "$LAB/set.json"
	umount /mnt/b
	[ "$(lvs --noheadings -o lv_name vg | grep -cv pool)" -eq 2 ] || die "volumes are left: $(lvs -a vg)"
	for lv in v1 v2; do
		assert_healthy vg "$lv"
	done
	note "known on another machine, whose own half-made copies went"
}

"$1"
