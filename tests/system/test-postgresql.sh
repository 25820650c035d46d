#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Real PostgreSQL servers under load: sets on btrfs, restored, and every acknowledged write counted. One cluster lies on one
# subvolume (checkpoint), one has data, WAL and a tablespace on three (backup). The control shows that those three are not in
# order by themselves.
# Usage: test-postgresql.sh BUILD_DIRECTORY
# Checks are called by name.
# shellcheck disable=SC2317
set -euo pipefail
# shellcheck source=tests/system/postgresql.sh
. "$(dirname "$0")/postgresql.sh"

# ---- sets, one after another ----

# one_subvolume ROUND: restores, with all promises up to the thaw.
one_subvolume() {
	begin "one subvolume: checkpoint, round $1"
	pg_set "$single" || return 0
	check "the copy says which way it went" equal "$(pg_way)" checkpoint
	pg_restore a
	check "it has no label" refuse test -e "$lab/d/restored/a/single/pg/backup_label"
	check "it has no server's lock" refuse test -e "$lab/d/restored/a/single/pg/postmaster.pid"
	# Nothing that was issued after the thaw may be in a copy of one instant.
	pg_restored_is_good single "$lab/d/restored/a/single/pg" "$(scene_when Clock Freeze)" "$(scene_when Clock Thaw)" "$2"
	seen "restored"
	pg_drop a
}

three_subvolumes() {
	begin "three subvolumes: backup, round $1"
	pg_set "${split[@]}" || return 0
	local to
	to=$(scene_now)
	check "the copy says which way it went" equal "$(pg_way)" backup
	check "and how it is restored" contains <(pg_document .Restore) "Do not remove backup_label"
	pg_restore b
	pg_relocate b
	check "the label is there" test -s "$lab/d/restored/b/data/pg/backup_label"
	check "the map of tablespaces is there" test -s "$lab/d/restored/b/data/pg/tablespace_map"
	pg_restored_is_good split "$lab/d/restored/b/data/pg" "$(scene_when Clock Freeze)" "$to" "$2"
	check "it was a recovery from a backup" contains "$lab/restored.log" "consistent recovery state reached"
	seen "restored"
	pg_drop b
	check "the server keeps nothing of the backup" pg_is_free split
}

# The same volumes, seconds apart, WAL first, and nobody who does anything about it.
control() {
	local path

	begin "control: the three subvolumes without vssd, round $1"
	mkdir -p "$lab/d/restored/c"
	for path in wal data space; do
		btrfs --quiet subvolume snapshot "$lab/d/$path" "$lab/d/restored/c/$path"
		pg_sql split "CHECKPOINT"
		pg_sql split "SELECT pg_switch_wal()" >/dev/null
		pg_sql split "CHECKPOINT"
	done
	rm -f "$lab/d/restored/c/data/pg/postmaster.pid"
	pg_relocate c
	check "a server does not start on it" refuse pg_restored_start restored "$lab/d/restored/c/data/pg"
	check "and says why" contains "$lab/restored.log" "could not locate a valid checkpoint record\|invalid checkpoint"
	pg_stop restored
	pg_drop_restored c
}

# The copies of a set may be further apart than two ioctls are: here the WAL's copy is replaced by one from before the others,
# with checkpoints in between, and only the segments that the writer put into the set's copy are added to it.
copies_apart() {
	local to first last x=$lab/d/restored/x y=$lab/d/restored/y file

	begin "three subvolumes, the WAL's copy a second older, round $1"
	mkdir -p "$x" "$y"
	scene_gate cut "delay 1000"
	: >"$lab/Clock.events"
	scene_background set create shadow --for "$lab/d/data" --for "$lab/d/wal" --for "$lab/d/space" --json
	check "the set comes to the cut" lab_wait 20 scene_at_gate cut
	btrfs --quiet subvolume snapshot "$lab/d/wal" "$x/wal"
	btrfs --quiet subvolume snapshot "$lab/d/wal" "$y/wal"
	pg_sql split "CHECKPOINT"
	pg_sql split "SELECT pg_switch_wal()" >/dev/null
	pg_sql split "CHECKPOINT"
	scene_ended set 20
	check "the set is made" equal "$code" 0
	to=$(scene_now)
	set=$(jq -r .result.Set "$lab/err")
	pg_restore z
	for path in data space; do
		btrfs --quiet subvolume snapshot "$lab/d/restored/z/$path" "$x/$path"
		btrfs --quiet subvolume snapshot "$lab/d/restored/z/$path" "$y/$path"
	done
	pg_relocate x
	pg_relocate y

	check "without what the writer wrote it does not start" refuse pg_restored_start restored "$x/data/pg"
	pg_stop restored
	first=$(sed -n 's/^START WAL.*(file \(.*\))/\1/p' "$y/data/pg/backup_label")
	last=$(pg_sql split "SELECT pg_walfile_name('$(pg_document .Stop)')")
	for file in "$lab/d/restored/z/wal/pg_wal/"????????????????????????; do
		[[ ${file##*/} < $first || ${file##*/} > $last ]] || cp --archive "$file" "$y/wal/pg_wal/"
	done
	pg_restored_is_good split "$y/data/pg" "$(scene_when Clock Freeze)" "$to" thoroughly
	pg_drop_restored x
	pg_drop_restored y
	pg_drop z
}

# ---- what a set must have ----

incomplete_sets() {
	begin "a set without the WAL's volume"
	try create shadow --for "$lab/d/data" --for "$lab/d/space"
	check "it is refused" equal "$code" 1
	check "the error" contains "$lab/err" "'PostgreSQL': Inconsistent shadow copy.*not in the set: $lab/d/wal"
	check "the record" equal "$(scene_row PostgreSQL .LastError)" "Inconsistent shadow copy"

	begin "a set without the tablespace's volume"
	try create shadow --for "$lab/d/data" --for "$lab/d/wal"
	check "it is refused" equal "$code" 1
	check "the error" contains "$lab/err" "not in the set: $lab/d/space"

	begin "missing volumes are added when that is asked for"
	try create shadow --for "$lab/d/data" --add-missing --json
	check "it is made" equal "$code" 0
	check "it has them" equal "$(scene_result '.Shadows | length')" 3
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null

	begin "a rehearsal"
	try verify --for "$single" --for "$lab/d/data" --for "$lab/d/wal" --for "$lab/d/space"
	check "the servers were asked" contains "$lab/out" "split: server: answers, version"
	check "it says which way a copy of one volume would go" contains "$lab/out" "ok. .*-pg: copy: by a checkpoint"
	check "and one of three" contains "$lab/out" "ok. postgresql/[0-9]*/split: copy: by a backup"
	check "and about the WAL" contains "$lab/out" "split: WAL: a replication slot is free"

	begin "the writer is left out"
	try create shadow --for "$single" --exclude-writer PostgreSQL --json
	check "it is made" equal "$code" 0
	check "the label goes" equal "$(scene_result .Consistency)" filesystem
	check "and says why" contains <(scene_result .ConsistencyReason) "'PostgreSQL' was excluded"
	vssctl delete shadows --set "$(scene_result .Set)" -y >/dev/null
}

pg_scene "$1"
scene_configure PrepareSnapshot=2s Freeze=10s Event=20s
scene_gated_vssd
pg_writer
scene_writer Clock --all-volumes
check "the cluster with a configuration is named after it" contains <(vssctl list writers -v) "postgresql/[0-9]*/split$"
check "its configuration is a component" contains <(vssctl list writers -v) "postgresql/[0-9]*/split/configuration"
pg_load single
pg_load split
incomplete_sets
rounds=$(scene_level 1 1 20)
for ((round = 1; round <= rounds; round++)); do
	thoroughly=$([ "$round" -gt 1 ] || echo thoroughly)
	one_subvolume "$round" "$thoroughly"
	three_subvolumes "$round" "$thoroughly"
done
for ((round = 1; round <= $(scene_level 1 1 5); round++)); do
	copies_apart "$round"
	control "$round"
done
lab_note "$pg_entries entries were found again"
scene_done
