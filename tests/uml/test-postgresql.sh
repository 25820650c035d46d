#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# PostgreSQL with its WAL on a logical volume of its own: a set of both is one instant, so a checkpoint is all that it costs, and
# a server starts on the copies with every promise kept. The control, plain snapshots with the WAL's first, does not start.
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/system/postgresql.sh
. "$SOURCE/tests/system/postgresql.sh"

sets=$(count 1 1 20)
# The scene of the system tests, in the machine's memory.
build=$BUILD lab=/run/pg pg_scale=1
mkdir -p "$lab" /run/log
ln -s /run/log/vssd.log "$lab/vssd.log"

# restored_from DIRECTORY_OF_DATA DIRECTORY_OF_WAL: both copied to where they may be written.
copy_files() {
	rm -rf /srv/pg
	mkdir -p /srv/pg
	cp --archive "$1/pg" /srv/pg/data
	cp --archive "$2/pg_wal" /srv/pg/wal
	rm -f /srv/pg/data/postmaster.pid
	ln -sfn /srv/pg/wal /srv/pg/data/pg_wal
	chmod 0711 /srv/pg
}

control() {
	begin "control: plain snapshots, the WAL's first"
	lvcreate -qq -y -s -n cwal -L 100M vg/wal
	pg_sql split "CHECKPOINT"
	pg_sql split "SELECT pg_switch_wal()" >/dev/null
	pg_sql split "CHECKPOINT"
	lvcreate -qq -y -s -n cdata -L 100M vg/data
	mount_lv vg cwal
	mount_lv vg cdata
	copy_files /mnt/cdata /mnt/cwal
	umount /mnt/cwal /mnt/cdata
	lvremove -qq -y vg/cwal vg/cdata >/dev/null
	check "a server does not start on it" refuse pg_restored_start restored /srv/pg/data -c fsync=off
	pg_stop restored
}

load() {
	kill -s "$1" "${lab_pid[ledger-split]}" "${lab_pid[bench-split]}"
}

one_set() {
	begin "data and WAL on two logical volumes, set $1"
	: >"$lab/Clock.events"
	try create shadow --for /mnt/data --for /mnt/wal --json
	load STOP # the machine is slow; they go on with the next set
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	check "it is one instant" equal "$(scene_result '.Instant + .InstantReason')" set
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
	mkdir -p /mnt/copy/data /mnt/copy/wal
	for volume in data wal; do
		check "the copy is exposed" vssctl expose --shadow \
			"$(scene_result ".Shadows[] | select(.Volume == \"/mnt/$volume\") | .Shadow")" "/mnt/copy/$volume" >/dev/null
	done
	check "a checkpoint was enough, and the copy says so" equal "$(jq -r '.. | objects | .Documents? // empty |
		.PostSnapshot? // empty | fromjson | .[].Way' /mnt/copy/data/.vss/record.json)" checkpoint
	copy_files /mnt/copy/data /mnt/copy/wal
	vssctl unexpose /mnt/copy/data >/dev/null
	vssctl unexpose /mnt/copy/wal >/dev/null
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
	pg_restored_is_good split /srv/pg/data "$(scene_when Clock Freeze)" "$(scene_when Clock Thaw)" \
		"$([ "$1" -gt 1 ] || echo thoroughly)"
	load CONT
	seen "restored"
}

pg_need "$BUILD"
pg_begin
cp "$BUILD/tests/ledger/pg-ledger" "$lab/pg-ledger"
make_vg vg /dev/ubdb
make_lv vg data 400M ext4
make_lv vg wal 256M ext4
mount_lv vg data
mount_lv vg wal
pg_make split /mnt/data/pg /mnt/wal/pg_wal
pg_start split
pg_tables split
start_all
printf '[PostgreSQL]\nConfigRoots=/nothing\nDataRoots=/nothing\nDataDirectory=/mnt/data/pg\nConnectLimit=20s\n' >"$lab/writer.conf"
pg_writer
scene_writer Clock --all-volumes
pg_load split
sleep 2
load STOP
control
load CONT
for ((set_number = 1; set_number <= sets; set_number++)); do
	one_set "$set_number"
done
check "the WAL's volume is needed" refuse vssctl create shadow --for /mnt/data 2>"$lab/err"
check "and named" contains "$lab/err" "not in the set: /mnt/wal"
lab_stop ledger-split
lab_stop bench-split
pg_stop split
scene_done
