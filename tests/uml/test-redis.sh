#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Redis on a logical volume, under load: each set is held, copied, exposed, started as a server of its own, and every promise counted;
# with an append-only file of both policies, and with a dump.
# Usage: test-redis.sh ext4|xfs|thin [SETS]
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/uml/lib.sh
. "$SOURCE/tests/uml/lib.sh"
# shellcheck source=tests/system/redis.sh
. "$SOURCE/tests/system/redis.sh"

kind=$1 sets=${2:-$(count 3 3 20)} redis_patience=60
# The scene of the system tests, in the machine's memory.
build=$BUILD lab=/run/redis-lab
mkdir -p "$lab" /run/log
ln -s /run/log/vssd.log "$lab/vssd.log"

make_volume() {
	if [ "$kind" = thin ]; then
		make_pool vg pool 1200M
		make_thin vg pool data 600M ext4
	else
		make_lv vg data 600M "$kind"
	fi
	mount_lv vg data
}

# restore WAY: what the copy has, on a server of its own.
restore() {
	rm -rf /srv/redis
	check "the copy is exposed" vssctl expose --shadow "$(scene_result '.Shadows[0].Shadow')" /mnt/copy >/dev/null
	cp --archive /mnt/copy/redis /srv/redis
	vssctl unexpose /mnt/copy >/dev/null
	if [ "$1" = dump ]; then
		redis_server restored /srv/redis
	else
		redis_server restored /srv/redis --appendonly yes
	fi
}

# one_set WAY NUMBER
one_set() {
	local since

	begin "$1, $kind, set $2"
	: >"$lab/Clock.events"
	since=$(scene_now)
	try create shadow --for /mnt/data --json
	kill -STOP "${lab_pid[ledger]}" # the machine is slow; it goes on with the next set
	check "the set is made" equal "$code" 0
	[ "$code" -eq 0 ] || { tail -n 5 "$lab/writer.log"; return 0; }
	check "it is one instant" equal "$(scene_result '.Instant + .InstantReason')" set
	check "it is consistent" equal "$(scene_result '.Consistency + .ConsistencyReason')" application
	[ "$1" = dump ] || since=$(scene_when Clock Freeze)
	restore "$1"
	check "every promise is kept" redis_promises "$since" "$(scene_when Clock Thaw)" restored
	check "there were some" differ "$(redis_ask restored ZCARD ledger:1)" 0
	lab_stop restored
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
	kill -CONT "${lab_pid[ledger]}"
	check "the server is writable" is_writable
	seen "restored"
}

# The third way of each three sets has no append-only file.
prepare_way() {
	case $(($1 % 3)) in
	1) redis_ask main CONFIG SET appendfsync everysec >/dev/null ;;
	2) redis_ask main CONFIG SET appendfsync always >/dev/null ;;
	0) redis_ask main CONFIG SET appendonly no >/dev/null ;;
	esac
}

has_rewritten() {
	redis_ask main INFO persistence | grep -q "aof_rewrite_in_progress:0"
}

mkdir -p /mnt/copy
make_vg vg /dev/ubdb
make_volume
redis_begin
install -d -o "$redis_user" -g "$redis_group" /mnt/data/redis
redis_server main /mnt/data/redis --appendonly yes
printf '[Coordinator]\nMachineId=%s\n[Limits]\nPrepareSnapshot=60s\nEvent=60s\n' "$(machine_id)" >/run/vssd.conf
start_all
redis_writer CommandLimit=20s
scene_writer Clock --all-volumes --level system
redis_ledger
sleep 1
for ((number = 1; number <= sets; number++)); do
	prepare_way "$number"
	if ((number % 3)); then
		one_set "append-only file" "$number"
	else
		one_set dump "$number"
		redis_ask main CONFIG SET appendonly yes >/dev/null
		check "the append-only file is there again" lab_wait 60 has_rewritten
	fi
done
lab_stop ledger
lab_stop main
lab_note "$entries entries were found again"
scene_done
