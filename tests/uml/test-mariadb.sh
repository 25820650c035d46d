#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# MariaDB with its redo log on a logical volume of its own: a set of both is one instant, and a server starts on the copies with every
# promise kept. Without the redo log's volume a set is refused. The control, plain snapshots without a lock, is printed: what becomes
# of it depends on luck. Every few sets the ledger begins anew, so that none takes longer than the first.
# Usage: test-mariadb.sh ext4|xfs|thin [SETS]
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/system/mariadb.sh
. "$SOURCE/tests/system/mariadb.sh"

kind=$1 sets=${2:-$(count 1 1 20)} entries=0
# The scene of the system tests, in the machine's memory.
build=$BUILD lab=/run/maria
mkdir -p "$lab" /run/log
chmod 0711 "$lab"
ln -s /run/log/vssd.log "$lab/vssd.log"

make_volumes() {
	case $kind in
	thin)
		make_pool vg pool 1G
		make_thin vg pool data 500M ext4
		make_thin vg pool redo 320M ext4
		;;
	*)
		make_lv vg data 500M "$kind"
		make_lv vg redo 320M "$kind"
		;;
	esac
	mount_lv vg data
	mount_lv vg redo
}

# copy_files DIRECTORY_OF_DATA DIRECTORY_OF_REDO: to where they may be written.
copy_files() {
	rm -rf /srv/mysql
	mkdir -p /srv/mysql
	cp --archive "$1/mysql" /srv/mysql/data
	cp --archive "$2/log" /srv/mysql/log
	chmod 0711 /srv/mysql
}

start_restored() {
	maria_data[restored]=/srv/mysql/data
	sed 's|^innodb_log_group_home_dir=.*|innodb_log_group_home_dir=/srv/mysql/log|' "$lab/main.cnf" >"$lab/restored.cnf"
	rm -f "$lab/s/restored.pid"
	maria_spawn restored
	# It is up, or has ended: a damaged copy is no reason to wait.
	lab_wait 90 restored_is_decided
	maria_sql restored "SELECT 1" >/dev/null 2>&1
}

restored_is_decided() {
	! lab_alive restored || maria_sql restored "SELECT 1"
}

control() {
	begin "control: plain snapshots, the redo log's first, nobody holds anything"
	snapshot credo redo
	sleep 2
	snapshot cdata data
	mount_copy credo
	mount_copy cdata
	copy_files /mnt/cdata /mnt/credo
	umount /mnt/credo /mnt/cdata
	lvremove -qq -y vg/credo vg/cdata >/dev/null
	if start_restored; then
		lab_note "    a server starts on it"
	else
		lab_note "    no server starts on it: $(grep -m 1 'InnoDB: .*\(log\|LSN\|lsn\)' "$lab/restored.log" || true)"
	fi
	lab_stop restored KILL
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

one_set() {
	local volume

	begin "data and redo log on two logical volumes ($kind), set $1"
	kill -CONT "${lab_pid[ledger]}"
	: >"$lab/Clock.events"
	try create shadow --for /mnt/data --for /mnt/redo --json
	kill -STOP "${lab_pid[ledger]}" # the machine is slow; it goes on with the next set
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || return 0
	check "it is one instant" equal "$(scene_result '.Instant + .InstantReason')" set
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
	for volume in data redo; do
		mkdir -p "/mnt/copy/$volume"
		check "the copy is exposed" vssctl expose --shadow \
			"$(scene_result ".Shadows[] | select(.Volume == \"/mnt/$volume\") | .Shadow")" "/mnt/copy/$volume" >/dev/null
	done
	copy_files /mnt/copy/data /mnt/copy/redo
	vssctl unexpose /mnt/copy/data >/dev/null
	vssctl unexpose /mnt/copy/redo >/dev/null
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
	check "a server starts on the copies" start_restored
	maria_sql restored "SELECT thread, count(*), max(number) FROM test.ledger WHERE thread < 90 GROUP BY thread" >"$lab/rows" || true
	check "every promise is kept" maria_promises "$(scene_when Clock Freeze)" "$(scene_when Clock Thaw)" "$lab/rows"
	maria_sql restored "CHECK TABLE test.ledger" >"$lab/tables" || true
	check "its tables are in order" contains "$lab/tables" "status.OK"
	lab_stop restored KILL
	seen "restored"
}

ledger_anew() {
	kill -CONT "${lab_pid[ledger]}"
	lab_stop ledger
	rm -f "$lab"/s/ledger.? "$lab/ledger.log"
	maria_sql main "TRUNCATE TABLE test.ledger; RESET MASTER"
	maria_ledger
}

# The copies are as good an instant as before; nobody vouches for it.
without_writer() {
	begin "the same with the writer left out"
	try create shadow --for /mnt/data --for /mnt/redo --exclude-writer MariaDB --json
	check "the set is made" equal "$code" 0
	check "it is one instant, and not called consistent" equal "$(scene_result '.Instant + " " + .Consistency')" "set filesystem"
	scene_result .ConsistencyReason >"$lab/reason"
	check "and says why" contains "$lab/reason" "'MariaDB'"
	vssctl list shadows --set "$(scene_result .Set)" --json | jq -r '.shadows[] | .Consistency' >"$lab/labels"
	check "so say the records of both" equal "$(sort "$lab/labels" | uniq -c | xargs)" "2 filesystem"
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
}

install -d -o mysql -g mysql "$lab/s"
cp "$build/tests/ledger/maria-ledger" "$lab/maria-ledger"
make_vg vg /dev/ubdb
make_volumes
maria_make main /mnt/data/mysql
install -d -o mysql -g mysql /mnt/redo/log
mv /mnt/data/mysql/ib_logfile* /mnt/redo/log/
echo "innodb_log_group_home_dir=/mnt/redo/log" >>"$lab/main.cnf"
maria_start main
maria_sql main "CREATE DATABASE test; CREATE TABLE test.ledger (thread int, number bigint, PRIMARY KEY (thread, number)) ENGINE=InnoDB"
printf '[Coordinator]\nMachineId=%s\n[Limits]\nPrepareSnapshot=60s\nEvent=60s\n' "$(machine_id)" >/run/vssd.conf
mkdir -p /run/manifests # who may be that writer
cp "$SOURCE/writers/mariadb/mariadb.writer" /run/manifests/
start_all
maria_configure "ConnectLimit=20s"
maria_writer
scene_writer Clock --all-volumes --level system
maria_ledger
sleep 2
control
for ((set_number = 1; set_number <= sets; set_number++)); do
	[ $((set_number % 5)) -ne 1 ] || ledger_anew
	one_set "$set_number"
done
without_writer
check "the redo log's volume is needed" refuse vssctl create shadow --for /mnt/data 2>"$lab/err"
check "and named" contains "$lab/err" "not in the set: /mnt/redo"
kill -CONT "${lab_pid[ledger]}"
lab_stop ledger
lab_stop main
lab_note "${entries:-0} entries were found again"
scene_done
