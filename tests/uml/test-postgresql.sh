#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# PostgreSQL with its WAL on a logical volume of its own: a set of both is one instant, so a checkpoint is all that it costs, and
# a server starts on the copies with every promise kept. The control, plain snapshots with the WAL's first, does not start.
# Every few sets the load begins anew, so that none takes longer than the first.
# Usage: test-postgresql.sh ext4|xfs|thin [SETS]
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/system/postgresql.sh
. "$SOURCE/tests/system/postgresql.sh"

kind=$1 sets=${2:-$(count 1 1 20)}
# The scene of the system tests, in the machine's memory.
build=$BUILD lab=/run/pg pg_scale=1
mkdir -p "$lab" /run/log
ln -s /run/log/vssd.log "$lab/vssd.log"

make_volumes() {
	case $kind in
	thin)
		make_pool vg pool 1G
		make_thin vg pool data 500M ext4
		make_thin vg pool wal 320M ext4
		;;
	*)
		make_lv vg data 500M "$kind"
		make_lv vg wal 320M "$kind"
		;;
	esac
	mount_lv vg data
	mount_lv vg wal
}

# snapshot NAME VOLUME: LVM's own, plain.
snapshot() {
	if [ "$kind" = thin ]; then
		lvcreate -qq -y -s -kn -n "$1" "vg/$2"
	else
		lvcreate -qq -y -s -n "$1" -L 200M "vg/$2"
	fi
}

mount_copy() {
	mkdir -p "/mnt/$1"
	mount -o "$([ "$kind" = xfs ] && echo nouuid || echo rw)" "/dev/vg/$1" "/mnt/$1"
}

# copy_files DIRECTORY_OF_DATA DIRECTORY_OF_WAL: both copied to where they may be written.
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
	snapshot cwal wal
	pg_sql split "CHECKPOINT"
	pg_sql split "SELECT pg_switch_wal()" >/dev/null
	pg_sql split "CHECKPOINT"
	snapshot cdata data
	mount_copy cwal
	mount_copy cdata
	copy_files /mnt/cdata /mnt/cwal
	umount /mnt/cwal /mnt/cdata
	lvremove -qq -y vg/cwal vg/cdata >/dev/null
	check "a server does not start on it" refuse pg_restored_start restored /srv/pg/data -c fsync=off
	pg_stop restored
}

load() {
	kill -s "$1" "${lab_pid[ledger-split]}" "${lab_pid[bench-split]}"
}

load_anew() {
	load CONT
	lab_stop ledger-split
	lab_stop bench-split
	rm -f "$lab"/s/ledger-split.? "$lab/ledger-split.log"
	pg_sql split "TRUNCATE ledger, ledger_far"
	as_postgres pgbench -i -q -s "$pg_scale" -h "$lab/s" -p "${pg_port[split]}" postgres >"$lab/pgbench-init.log" 2>&1
	pg_load split
}

one_set() {
	begin "data and WAL on two logical volumes ($kind), set $1"
	load CONT
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
	seen "restored"
}

# The copies are as good an instant as before; nobody vouches for it.
without_writer() {
	begin "the same with the writer left out"
	try create shadow --for /mnt/data --for /mnt/wal --exclude-writer PostgreSQL --json
	check "the set is made" equal "$code" 0
	check "it is one instant, and not called consistent" equal "$(scene_result '.Instant + " " + .Consistency')" "set filesystem"
	scene_result .ConsistencyReason >"$lab/reason"
	check "and says why" contains "$lab/reason" "'PostgreSQL'"
	vssctl list shadows --set "$(scene_result .Set)" --json | jq -r '.shadows[] | .Consistency' >"$lab/labels"
	check "so say the records of both" equal "$(sort "$lab/labels" | uniq -c | xargs)" "2 filesystem"
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
}

pg_need "$BUILD"
pg_begin
cp "$BUILD/tests/ledger/pg-ledger" "$lab/pg-ledger"
make_vg vg /dev/ubdb
make_volumes
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
for ((set_number = 1; set_number <= sets; set_number++)); do
	[ $((set_number % 5)) -ne 1 ] || load_anew
	one_set "$set_number"
done
without_writer
check "the WAL's volume is needed" refuse vssctl create shadow --for /mnt/data 2>"$lab/err"
check "and named" contains "$lab/err" "not in the set: /mnt/wal"
load CONT
lab_stop ledger-split
lab_stop bench-split
pg_stop split
lab_note "${pg_entries:-0} entries were found again"
scene_done
