#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The btrfs provider and the volumes worker on real filesystems: loop devices over images in a directory of its own.
# Usage: test-btrfs-provider.sh VSS-WORKER WORKER-CLIENT [test name...]; as root, otherwise skipped (exit 77).
set -u -o pipefail

WORKER=$(realpath "$1") CLIENT=$(realpath "$2")
shift 2
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
for tool in mkfs.btrfs btrfs jq losetup; do
	command -v $tool >/dev/null || { echo "needs $tool"; exit 77; }
done
grep -qw btrfs /proc/filesystems || modprobe btrfs 2>/dev/null || { echo "needs btrfs"; exit 77; }

DIR=$(mktemp -d /tmp/vssd-btrfs-test.XXXXXX)
CLIENTS=() LOOPS=() FAILED=0 HOST=0123456789abcdef0123456789abcdef

finish() {
	for pid in "${CLIENTS[@]:-}"; do [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null; done
	wait 2>/dev/null
	# only what lies below our own directory, innermost first
	awk -v d="$DIR/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r m; do
		umount "$m" || umount -l "$m"
	done
	for loop in "${LOOPS[@]:-}"; do [ -n "$loop" ] && losetup -d "$loop" 2>/dev/null; done
	rm -rf --one-file-system "$DIR"
}
trap finish EXIT
trap 'exit 1' INT TERM

fail() { echo "    FAILED (line ${BASH_LINENO[0]}): $*" >&2; FAILED=1; return 1; }

# open_worker NAME ROLE: a warm worker; NAME_in and NAME_out are its descriptors
open_worker() {
	mkfifo "$DIR/$1.in" "$DIR/$1.out"
	"$CLIENT" "$WORKER" "$2" <"$DIR/$1.in" >"$DIR/$1.out" &
	CLIENTS+=($!)
	eval "$1_pid=$!"
	eval "exec {$1_in}>\"$DIR/$1.in\" {$1_out}<\"$DIR/$1.out\""
	rm "$DIR/$1.in" "$DIR/$1.out"
}
close_worker() { eval "exec {$1_in}>&- {$1_out}<&-; wait \$$1_pid"; }
say() { local fd="$1_in"; echo "$2" >&"${!fd}"; }
hear() { local fd="$1_out" answer; read -r -t 60 answer <&"${!fd}" || answer='{"gone":true}'; echo "$answer"; }
ask() { say "$1" "$2"; hear "$1"; }

ok() { [ "$(jq -r .ok <<<"$1")" = true ] || { echo "    $1" >&2; return 1; }; }
is_error() { # answer, name, text
	[ "$(jq -r .error.Name <<<"$1")" = "$2" ] && grep -q -e "${3:-}" <<<"$(jq -r .error.Text <<<"$1")" ||
		{ echo "    got $1" >&2; return 1; }
}
new_id() { cat /proc/sys/kernel/random/uuid; }

# new_fs NAME SIZE [mkfs options]: mounts a new filesystem at $DIR/NAME
new_fs() {
	local name=$1 size=$2
	shift 2
	truncate -s "$size" "$DIR/$name.img"
	mkfs.btrfs -q "$@" "$DIR/$name.img" >/dev/null 2>&1 || return 1
	LOOP=$(losetup -f --show "$DIR/$name.img") || return 1
	LOOPS+=("$LOOP")
	mkdir -p "$DIR/$name"
	mount "$LOOP" "$DIR/$name"
}
drop_fs() {
	local loop
	loop=$(findmnt -no SOURCE "$DIR/$1" | head -1)
	umount "$DIR/$1" && losetup -d "$loop"
	rm -f "$DIR/$1.img"
}
new_subvolume() { btrfs -q subvolume create "$1" && echo "data of $1" >"$1/file"; }
fs_uuid() { btrfs filesystem show "$1" | sed -n 's/.*uuid: //p'; }
volume() { ask v "{\"op\":\"resolve\",\"Paths\":[\"$1\"]}" | jq -c '.Volumes[0]'; }

# member PATH [REPAIR]: a member of a prepare request, with a new copy id
member() { jq -nc --arg c "$(new_id)" --argjson v "$(volume "$1")" --argjson r "${2:-false}" '{Copy:$c,Volume:$v,Repair:$r}'; }
prepare() { # [extra,] members...
	local extra='{}'
	[[ $1 == \{\"Max* ]] && { extra=$1; shift; }
	jq -nc --arg s "${SET:-$(new_id)}" --arg h $HOST --argjson e "$extra" --jsonargs \
		'{op:"prepare",Set:$s,Host:$h,Members:$ARGS.positional}+$e' -- "$@"
}
# op NAME MEMBERS: MEMBERS as prepare answered them
op() { jq -nc --arg o "$1" --argjson m "$2" '{op:$o,Host:"'$HOST'",Members:$m}'; }
with_records() { jq -c 'map(.Record={Note:("of "+.Copy)})' <<<"$1"; }
list() { ask b "$(jq -nc --argjson k "${1:-null}" '{op:"list",Host:"'$HOST'",Known:($k//{})}')"; }
of_fs() { jq -c --arg u "$1" '.Filesystems[]|select(.Uuid==$u)'; }
copies() { list | of_fs "$1" | jq -r '.Copies[].Copy' | sort; }
remove() { ask b "{\"op\":\"remove\",\"Copy\":\"$1\",\"Filesystem\":\"$2\"}"; }

# make_copies REPAIR PATH...: the whole way; sets MEMBERS and COPIES
make_copies() {
	local repair=$1 answer path members=()
	shift
	for path; do members+=("$(member "$path" "$repair")"); done
	answer=$(ask b "$(prepare "${members[@]}")")
	ok "$answer" || return 1
	MEMBERS=$(jq -c --argjson r "$repair" '.Members|map(.Repair=$r)' <<<"$answer")
	COPIES=$(jq -r '.[].Copy' <<<"$MEMBERS")
	ok "$(ask b "$(op flush "$MEMBERS")")" && CUT=$(ask b "$(op cut "$MEMBERS")") && ok "$CUT"
}
# what vssd does at a set's end: closes the descriptors that it kept
seal() { ok "$(ask b "$(op seal "$(with_records "$MEMBERS")")")" && say b forget; }

test_one_copy() {
	make_copies false "$DIR/a/sv" && seal || return 1
	[ "$(copies "$A")" = "$COPIES" ] || fail "not listed"
	[ "$(list | of_fs "$A" | jq -r '.Copies[0].Record.Note')" = "of $COPIES" ] || fail "record differs"
	[ "$(cat "$DIR/a/.vss/$COPIES/copy/file")" = "data of $DIR/a/sv" ] || fail "content differs"
	[ "$(jq '.Members[0]|.End>=.Begin and .Generation>0' <<<"$CUT")" = true ] || fail "no times: $CUT"
	(echo changed >"$DIR/a/.vss/$COPIES/copy/file") 2>/dev/null && fail "copy is writable"
	[ "$(stat -c %a "$DIR/a/.vss")" = 700 ] || fail ".vss can be entered"
	ok "$(remove "$COPIES" "$A")" || fail "remove"
	[ -z "$(ls "$DIR/a/.vss")" ] || fail "left: $(ls "$DIR/a/.vss")"
	is_error "$(remove "$COPIES" "$A")" ObjectNotFound "holds no copy"
}

test_repair() {
	local answer dir fd
	make_copies true "$DIR/a/sv" || return 1
	answer=$(ask b "$(op open "$MEMBERS")")
	ok "$answer" || return 1
	# shellcheck disable=SC2154 # b_pid: set by open_worker
	dir=/proc/$b_pid/fd/$(jq -r '.Members[0].Directory' <<<"$answer" | tr -dc 0-9)
	echo repaired >"$dir/file" || fail "cannot repair"
	btrfs -q subvolume create "$dir/nested" && btrfs -q subvolume create "$dir/nested/deeper" || fail "nested"
	btrfs -q property set "$DIR/a/.vss/$COPIES/work/nested" ro true
	exec {fd}>>"$dir/file"
	seal || return 1
	{ echo late >&"$fd"; } 2>/dev/null
	exec {fd}>&-
	[ "$(cat "$DIR/a/.vss/$COPIES/copy/file")" = repaired ] || fail "content differs"
	[ "$(cat "$DIR/a/sv/file")" = "data of $DIR/a/sv" ] || fail "the original changed"
	[ ! -e "$DIR/a/.vss/$COPIES/work" ] || fail "the writable stage is still there"
	ok "$(remove "$COPIES" "$A")"
}

test_abort() {
	make_copies true "$DIR/a/sv" "$DIR/a/sv2" || return 1
	[ "$(list | of_fs "$A" | jq '.Unfinished|length')" = 2 ] || fail "unfinished ones not listed"
	[ "$(list | of_fs "$A" | jq -r '.Unfinished[0].Host')" = $HOST ] || fail "host unknown"
	btrfs -q subvolume create "$DIR/a/.vss/$(head -1 <<<"$COPIES")/work/nested"
	ok "$(ask b "$(op abort "$MEMBERS")")" || fail "abort"
	ok "$(ask b "$(op abort "$MEMBERS")")" || fail "abort again"
	[ -z "$(ls "$DIR/a/.vss")" ] || fail "left: $(ls "$DIR/a/.vss")"
	ok "$(ask b "$(op abort "[{\"Copy\":\"$(new_id)\",\"Filesystem\":\"$A\"}]")")" || fail "abort of nothing"
}

test_two_filesystems() {
	make_copies false "$DIR/a/sv" "$DIR/b/sv" "$DIR/a/sv2" && seal || return 1
	[ "$(copies "$A" | wc -l)" = 2 ] && [ "$(copies "$B" | wc -l)" = 1 ] || fail "not all listed"
	for copy in $(copies "$A"); do ok "$(remove "$copy" "$A")" || fail remove; done
	ok "$(remove "$(copies "$B")" "$B")"
}

# A worker that is still ending holds its private mount for a moment longer than its answer takes.
wait_unmounted() {
	local i

	for ((i = 0; i < 200; i++)); do
		[ -e "/sys/fs/btrfs/$1" ] || return 0
		sleep 0.05
	done
	fail "the filesystem $1 stays mounted somewhere"
}

test_volume_changed() {
	local m m2
	m=$(member "$DIR/a/sv2")
	btrfs -q subvolume delete "$DIR/a/sv2" >/dev/null && new_subvolume "$DIR/a/sv2"
	is_error "$(ask b "$(prepare "$m")")" ObjectNotFound "unmounted or replaced" || fail "replaced"
	m=$(member "$DIR/b/sv") m2=$(member "$DIR/a/sv")
	umount "$DIR/b"
	wait_unmounted "$B"
	is_error "$(ask b "$(prepare "$m2" "$m")")" ObjectNotFound "" || fail "unmounted"
	wait_unmounted "$B"
	mount -o ro "$B_LOOP" "$DIR/b"
	is_error "$(ask b "$(prepare "$m2" "$m")")" ProviderVeto "read-only" || fail "read-only"
	[ "$(volume "$DIR/b/sv" | jq -r '.ReadOnly,.Provider' | xargs)" = true ] || fail "claimed though read-only"
	grep -q " $DIR/b ro.* ro[, ]" /proc/self/mountinfo || grep " $DIR/b " /proc/self/mountinfo | grep -q ' ro,' ||
		fail "became writable"
	mount -o remount,rw "$DIR/b"
	[ -z "$(ls "$DIR/a/.vss")" ] || fail "a failed prepare left something"
}

test_hostile_store() {
	say b forget

	mv "$DIR/b/.vss" "$DIR/b/.vss.kept" 2>/dev/null
	mkdir "$DIR/b/elsewhere"
	ln -s elsewhere "$DIR/b/.vss"
	is_error "$(ask b "$(prepare "$(member "$DIR/b/sv")")")" ProviderVeto "move it away" || fail "symlink"
	[ "$(list | of_fs "$B" | jq 'has("Error")')" = true ] || fail "list says nothing"
	rm "$DIR/b/.vss"
	mkdir -m 755 "$DIR/b/.vss"
	is_error "$(ask b "$(prepare "$(member "$DIR/b/sv")")")" ProviderVeto "entered by others" || fail "mode"
	chmod 700 "$DIR/b/.vss" && chown 1000 "$DIR/b/.vss"
	is_error "$(ask b "$(prepare "$(member "$DIR/b/sv")")")" ProviderVeto "belongs to a user" || fail "owner"
	rmdir "$DIR/b/.vss" && btrfs -q subvolume create "$DIR/b/.vss" && chmod 700 "$DIR/b/.vss"
	is_error "$(ask b "$(prepare "$(member "$DIR/b/sv")")")" ProviderVeto "subvolume" || fail "subvolume"
	btrfs -q subvolume delete "$DIR/b/.vss" >/dev/null
	echo x >"$DIR/b/.vss"
	is_error "$(ask b "$(prepare "$(member "$DIR/b/sv")")")" ProviderVeto "not a directory" || fail "file"
	rm "$DIR/b/.vss"
	[ -z "$(ls -A "$DIR/b/elsewhere")" ] || fail "followed the link"
	rmdir "$DIR/b/elsewhere"
}

test_corrupt_records() {
	local place entry
	make_copies false "$DIR/b/sv" && seal || return 1
	place=$DIR/b/.vss/$COPIES
	broken() {
		entry=$(list | of_fs "$B" | jq -c '.Copies[0]')
		[ "$(jq -r 'has("Error") and (has("Record")|not)' <<<"$entry")" = true ] || fail "$1: $entry"
	}
	cp "$place/record.json" "$DIR/kept"
	head -c 20 "$DIR/kept" >"$place/record.json"; broken "cut off"
	: >"$place/record.json"; broken "empty"
	sed "s/$COPIES/$(new_id)/" "$DIR/kept" >"$place/record.json"; broken "another's"
	truncate -s 2G "$place/record.json"; broken "huge"
	head -c 500000 /dev/zero | tr '\0' '[' >"$place/record.json"; broken "deep"
	head -c 5000 /dev/urandom >"$place/record.json"; broken "noise"
	rm "$place/record.json"; mkfifo "$place/record.json"; broken "fifo"
	rm "$place/record.json"; ln -s /etc/machine-id "$place/record.json"; broken "link"
	rm "$place/record.json"; broken "missing"
	cp "$DIR/kept" "$place/record.json"
	[ "$(list | of_fs "$B" | jq '.Copies[0]|has("Record")')" = true ] || fail "good again"
	btrfs -q subvolume delete "$place/copy" >/dev/null; broken "no subvolume"
	mkdir "$DIR/b/.vss/stranger" "$DIR/b/.vss/$(new_id)"
	ln -s /etc "$DIR/b/.vss/$(new_id)"
	[ "$(list | of_fs "$B" | jq '[(.Copies|length),(.Unfinished|length)]' -c)" = '[1,1]' ] || fail "$(list | of_fs "$B")"
	ok "$(remove "$COPIES" "$B")" || fail "remove"
	rm -rf "$DIR/b/.vss"
}

test_limits() {
	make_copies false "$DIR/b/sv" && seal || return 1
	local one=$COPIES answer
	make_copies false "$DIR/b/sv2" && seal || return 1
	is_error "$(ask b "$(prepare '{"MaxCopies":1}' "$(member "$DIR/b/sv")")")" MaximumNumberOfSnapshotsReached "delete some" ||
		fail "limit"
	answer=$(ask b "$(prepare '{"MaxCopies":2}' "$(member "$DIR/b/sv")")")
	ok "$answer" || fail "below the limit"
	ok "$(ask b "$(op abort "$(jq -c .Members <<<"$answer")")")"
	ok "$(remove "$one" "$B")" && ok "$(remove "$COPIES" "$B")"
}

test_full() {
	local answer
	new_fs full 120M -M || return 1
	new_subvolume "$DIR/full/sv"
	head -c 200M /dev/urandom >"$DIR/full/sv/big" 2>/dev/null
	sync -f "$DIR/full"
	(head -c 10M /dev/urandom >"$DIR/full/sv/big2") 2>/dev/null
	answer=$(ask b "$(prepare "$(member "$DIR/full/sv")")")
	is_error "$answer" InsufficientStorage "older copies" || fail "full filesystem"
	[ -z "$(ls "$DIR/full/.vss" 2>/dev/null)" ] || fail "left something"
	rm "$DIR/full/sv/big" && sync -f "$DIR/full"
	make_copies false "$DIR/full/sv" && seal || return 1
	head -c 200M /dev/urandom >"$DIR/full/sv/big" 2>/dev/null
	sync -f "$DIR/full" 2>/dev/null
	ok "$(remove "$COPIES" "$(fs_uuid "$DIR/full")")" || fail "a copy on a full filesystem cannot be deleted"
	drop_fs full
}

test_expose() {
	local e="$DIR/exposed dir" answer sleeper
	mkdir -p "$e" && ln -s "$e" "$DIR/link"
	make_copies false "$DIR/a/sv" && seal || return 1
	local where="\"Copy\":\"$COPIES\",\"Filesystem\":\"$A\""
	is_error "$(ask b "{\"op\":\"expose\",$where,\"Path\":\"$DIR/link\"}")" InvalidArgument "symbolic link" || fail link
	answer=$(ask b "{\"op\":\"expose\",$where,\"Path\":\"$e\"}")
	ok "$answer" && [ "$(jq -r .Path <<<"$answer")" = "$e" ] || fail "$answer"
	grep -F "${e// /\\040} " /proc/self/mountinfo | grep -q ' ro,nosuid,nodev' || fail "mount flags"
	[ "$(cat "$e/file")" = "data of $DIR/a/sv" ] || fail "content"
	touch "$e/x" 2>/dev/null && fail "writable"
	is_error "$(remove "$COPIES" "$A")" VolumeInUse "unexpose it first" || fail "removed in use"
	is_error "$(ask b "{\"op\":\"unexpose\",\"Path\":\"$e\",\"Copy\":\"$(new_id)\"}")" ObjectNotFound "" || fail "stranger"
	is_error "$(ask b "{\"op\":\"unexpose\",\"Path\":\"$DIR/a\",\"Copy\":\"$COPIES\"}")" ObjectNotFound "" || fail "origin"
	(cd "$e" && exec sleep 30) & sleeper=$!
	sleep 0.2
	is_error "$(ask b "{\"op\":\"unexpose\",\"Path\":\"$e\",\"Copy\":\"$COPIES\"}")" VolumeInUse "sleep ($sleeper)" || fail busy
	kill $sleeper; wait $sleeper 2>/dev/null
	ok "$(ask b "{\"op\":\"unexpose\",\"Path\":\"$e\",\"Copy\":\"$COPIES\"}")" || fail unexpose
	unshare -m sh -c "mount --make-rprivate /; mount -o subvol=.vss/$COPIES/copy,ro $A_LOOP '$e' && sleep 30" & sleeper=$!
	sleep 0.5
	is_error "$(remove "$COPIES" "$A")" VolumeInUse "of process" || fail "removed while mounted in another namespace"
	kill $(pgrep -P $sleeper) $sleeper 2>/dev/null; wait $sleeper 2>/dev/null
	answer=$(ask b "{\"op\":\"mount\",$where}")
	ok "$answer" || fail mount
	[ "$(cat "/proc/$b_pid/fd/$(jq -r .Mount <<<"$answer" | tr -dc 0-9)/file")" = "data of $DIR/a/sv" ] || fail "mount content"
	ok "$(ask b "{\"op\":\"usage\",$where}")" || fail usage
	ok "$(remove "$COPIES" "$A")"
}

test_usage() {
	btrfs quota enable "$DIR/b" && btrfs quota rescan -w "$DIR/b" >/dev/null 2>&1
	make_copies false "$DIR/b/sv" && seal || return 1
	head -c 1M /dev/urandom >"$DIR/b/sv/later"
	sync -f "$DIR/b"
	local answer
	answer=$(ask b "{\"op\":\"usage\",\"Copy\":\"$COPIES\",\"Filesystem\":\"$B\"}")
	[ "$(jq '.Referenced>0 and .Exclusive>0' <<<"$answer")" = true ] || fail "$answer"
	btrfs quota disable "$DIR/b"
	answer=$(ask b "{\"op\":\"usage\",\"Copy\":\"$COPIES\",\"Filesystem\":\"$B\"}")
	[ "$(jq -c 'has("Exclusive")' <<<"$answer")" = false ] || fail "$answer"
	ok "$(remove "$COPIES" "$B")"
}

test_list_tokens() {
	make_copies false "$DIR/a/sv" && seal || return 1
	local known
	known=$(list | jq -c '[.Filesystems[]|{(.Uuid):([.Copies[]|{(.Copy):.Token}]|add)}]|add')
	[ "$(list "$known" | of_fs "$A" | jq '.Copies[0]|has("Record")')" = false ] || fail "record sent again"
	touch "$DIR/a/.vss/$COPIES/record.json"
	[ "$(list "$known" | of_fs "$A" | jq '.Copies[0]|has("Record")')" = true ] || fail "change unseen"
	ok "$(remove "$COPIES" "$A")"
}

# A stick that is mounted nowhere, named in a request; and one whose unfinished copy is another machine's.
test_devices() {
	local answer
	make_copies false "$DIR/b/sv" && seal || return 1
	umount "$DIR/b"
	wait_unmounted "$B"
	[ -z "$(list | of_fs "$B")" ] || fail "listed though not mounted"
	answer=$(ask b "{\"op\":\"list\",\"Host\":\"$HOST\",\"Devices\":[\"$B_LOOP\",\"$A_LOOP\",\"/etc/passwd\"]}")
	[ "$(of_fs "$B" <<<"$answer" | jq -r '.Copies[0].Copy')" = "$COPIES" ] || fail "$answer"
	[ "$(jq '.Filesystems|map(.Uuid)|length==(unique|length)' <<<"$answer")" = true ] || fail "twice: $answer"
	mount "$B_LOOP" "$DIR/b"
	ok "$(remove "$COPIES" "$B")"
}

# A power cut right after seal: the image as it is at that moment, mounted anew.
test_power_cut() {
	local repair
	for repair in false true; do
		new_fs p 256M || return 1
		local uuid loop
		uuid=$(fs_uuid "$DIR/p")
		new_subvolume "$DIR/p/sv"
		make_copies $repair "$DIR/p/sv" && seal || return 1
		cp --sparse=always "$DIR/p.img" "$DIR/p2.img"
		drop_fs p
		loop=$(losetup -f --show "$DIR/p2.img"); LOOPS+=("$loop")
		mount "$loop" "$DIR/p"
		[ "$(list | of_fs "$uuid" | jq -r '.Copies[0].Record.Note')" = "of $COPIES" ] ||
			fail "repair $repair: $(list | of_fs "$uuid")"
		[ "$(cat "$DIR/p/.vss/$COPIES/copy/file")" = "data of $DIR/p/sv" ] || fail "content"
		[ ! -e "$DIR/p/.vss/$COPIES/work" ] || fail "the writable stage came back"
		ok "$(remove "$COPIES" "$uuid")" || fail remove
		cp --sparse=always "$DIR/p2.img" "$DIR/p.img"
		umount "$DIR/p" && losetup -d "$loop" && rm "$DIR/p2.img"
		loop=$(losetup -f --show "$DIR/p.img"); LOOPS+=("$loop")
		mount "$loop" "$DIR/p"
		[ -z "$(ls "$DIR/p/.vss")" ] || fail "the removed copy came back"
		drop_fs p
	done
	# after the cut, before the record: the mark came with the snapshot
	new_fs p 256M && new_subvolume "$DIR/p/sv" && uuid=$(fs_uuid "$DIR/p")
	make_copies false "$DIR/p/sv" || return 1
	cp --sparse=always "$DIR/p.img" "$DIR/p2.img"
	say b forget
	drop_fs p
	loop=$(losetup -f --show "$DIR/p2.img"); LOOPS+=("$loop")
	mount "$loop" "$DIR/p"
	[ "$(list | of_fs "$uuid" | jq -c '[.Unfinished[0].Copy,.Unfinished[0].Host,(.Copies|length)]')" = "[\"$COPIES\",\"$HOST\",0]" ] ||
		fail "$(list | of_fs "$uuid")"
	ok "$(ask b "$(op abort "[{\"Copy\":\"$COPIES\",\"Filesystem\":\"$uuid\"}]")")" || fail abort
	[ -z "$(ls "$DIR/p/.vss")" ] || fail "left"
	umount "$DIR/p" && losetup -d "$loop" && rm "$DIR/p2.img"
}

# SIGKILL at a random moment of each op: afterwards there are only whole copies and unfinished ones, and those go.
test_kill() {
	local round answer state copy what
	for what in prepare cut seal remove abort; do
		for round in 1 2 3 4 5 6 7 8; do
			open_worker k btrfs
			local m members request
			m=$(member "$DIR/a/sv" "$([ $((round % 2)) = 0 ] && echo true || echo false)")
			copy=$(jq -r .Copy <<<"$m")
			request=$(prepare "$m" "$(member "$DIR/b/sv")")
			[ $what = prepare ] && say k "kill $((RANDOM % 1500))"
			answer=$(ask k "$request")
			if [ "$(jq -r .gone <<<"$answer")" != true ]; then
				members=$(jq -c --argjson m "$m" '.Members|map(.Repair=(.Copy==$m.Copy and $m.Repair))' <<<"$answer")
				[ $what = cut ] && say k "kill $((RANDOM % 4000))"
				answer=$(ask k "$(op cut "$members")")
			fi
			if [ "$(jq -r .gone <<<"$answer")" != true ]; then
				case $what in
				seal) say k "kill $((RANDOM % 4000))"; answer=$(ask k "$(op seal "$(with_records "$members")")") ;;
				abort) say k "kill $((RANDOM % 2000))"; answer=$(ask k "$(op abort "$members")") ;;
				remove)
					answer=$(ask k "$(op seal "$(with_records "$members")")")
					say k "kill $((RANDOM % 4000))"
					answer=$(ask k "{\"op\":\"remove\",\"Copy\":\"$copy\",\"Filesystem\":\"$A\"}") ;;
				esac
			fi
			close_worker k
			for fs in "$A" "$B"; do
				state=$(list | of_fs "$fs")
				[ "$(jq -c '[.Copies[]|select(has("Error"))]|length' <<<"$state")" = 0 ] || fail "$what: $state"
				for copy in $(jq -r '.Unfinished[].Copy' <<<"$state"); do
					ok "$(ask b "$(op abort "[{\"Copy\":\"$copy\",\"Filesystem\":\"$fs\"}]")")" || fail "$what: abort"
				done
				for copy in $(jq -r '.Copies[].Copy' <<<"$state"); do
					ok "$(remove "$copy" "$fs")" || fail "$what: remove"
				done
			done
			[ -z "$(ls -d "$DIR"/[ab]/.vss/* 2>/dev/null)" ] || fail "$what: left $(ls "$DIR"/?/.vss)"
		done
	done
	grep -q '/\.vss/' /proc/self/mountinfo && grep "$DIR" /proc/self/mountinfo | grep '\.vss' && fail "a mount is left"
	return 0
}

test_bad_requests() {
	local r
	for r in '{}' '{"op":5}' '5' '[]' '{"op":"nope"}' '{"op":"prepare"}' '{"op":"prepare","Set":"x","Host":"y","Members":[]}' \
		'{"op":"cut","Members":[{"Copy":"'$(new_id)'","Source":7,"Store":-1}]}' '{"op":"cut","Members":5}' \
		'{"op":"seal","Members":[5]}' '{"op":"abort","Members":["x"]}' '{"op":"remove","Copy":"../../etc","Filesystem":"x"}' \
		'{"op":"remove","Copy":"'$(new_id)'","Filesystem":"../../../etc"}' '{"op":"expose","Path":5}' \
		'{"op":"unexpose","Path":"","Copy":"'$(new_id)'"}' '{"op":"mount"}' '{"op":"usage"}' \
		'{"op":"cut","Members":[{"Copy":"'$(new_id)'","Source":"@open:/etc/passwd","Store":"@open:/etc"}]}' \
		'{"op":"seal","Members":[{"Copy":"'$(new_id)'","Store":"@open:/etc","Record":{}}]}' \
		'{"op":"abort","Members":[{"Copy":"'$(new_id)'","Store":"@open:/etc"}]}'; do
		[ "$(ask b "$r" | jq -r '.error.Name|type')" = string ] || [[ $r == *'"op":"abort"'*/etc* ]] || fail "$r"
	done
	for r in '{"op":"resolve"}' '{"op":"resolve","Paths":[5,null,{},"",".","/..//../",-1]}' '{"op":5}'; do
		[ "$(ask v "$r" | jq 'has("ok")')" = true ] || fail "$r"
	done
	[ "$(ask v 'raw {not json' | jq -r .error.Name)" = InvalidDocument ] || fail "not JSON"
	[ "$(volume / | jq -r .Path)" = / ] || fail "the worker is gone"
}

resolve() { ask v "$(jq -nc '{op:"resolve",Below:true,Paths:$ARGS.positional}' --args -- "$@")"; }

test_resolve_binds() {
	local d=$DIR/a answer
	mkdir -p "$d/sv/sub/deep" "$DIR/bind" "$DIR/only" && touch "$DIR/bindfile" "$d/sv/sub/f"
	mount --bind "$d/sv/sub" "$DIR/bind" && mount --bind "$d/sv/sub/f" "$DIR/bindfile"
	answer=$(resolve "$d/sv" "$DIR/bind/deep" "$DIR/bindfile" "$d/sv/sub/f" "@open:$DIR/bind/deep" "@open:$d/sv/sub/f")
	[ "$(jq '[.Volumes[].Id]|unique|length' <<<"$answer")" = 1 ] || fail "ids: $answer"
	[ "$(jq -c '[.Volumes[].Relative]' <<<"$answer")" = '["","sub/deep","sub/f","sub/f","sub/deep","sub/f"]' ] ||
		fail "$(jq -c '[.Volumes[].Relative]' <<<"$answer")"
	[ "$(jq -r '[.Volumes[].Path]|unique|.[]' <<<"$answer")" = "$d/sv" ] || fail "path: $answer"
	# only a bind mount of a directory is left
	umount "$DIR/bindfile" "$DIR/bind"
	mount --bind "$DIR/b/sv" "$DIR/only" && mkdir -p "$DIR/b/sv/s" && mount --bind "$DIR/b/sv/s" "$DIR/bind"
	umount "$DIR/only" "$DIR/b"
	[ "$(volume "$DIR/bind" | jq -c '[.Path,.Relative,.Subvolume]')" = "[\"$DIR/bind\",\"s\",\"sv\"]" ] ||
		fail "$(volume "$DIR/bind")"
	make_copies false "$DIR/bind" && seal || fail "a volume of which only a bind mount is left"
	mount "$B_LOOP" "$DIR/b"
	[ -e "$DIR/b/.vss/$COPIES/copy/file" ] || fail "copied something else"
	ok "$(remove "$COPIES" "$B")"
	umount "$DIR/bind"
}

test_resolve_below() {
	local answer
	btrfs -q subvolume create "$DIR/a/sv/n1" && mkdir "$DIR/a/sv/d" && btrfs -q subvolume create "$DIR/a/sv/d/n2" &&
		btrfs -q subvolume create "$DIR/a/sv/d/n2/n3" && mkdir -p "$DIR/a/sv/mnt sp"
	mount -t tmpfs none "$DIR/a/sv/mnt sp"
	make_copies false "$DIR/a/sv" && seal || return 1
	answer=$(resolve "$DIR/a/sv" "$DIR/a/sv/d/n2/n3/" "$DIR/a" "$DIR/a/sv/mnt sp")
	[ "$(jq -c --arg d "$DIR/a/sv/" '.Volumes[0].Below|map(.Path|ltrimstr($d))|sort' <<<"$answer")" = \
		'["d/n2","d/n2/n3","mnt sp","n1"]' ] || fail "$(jq -c '.Volumes[0].Below' <<<"$answer")"
	[ "$(jq -r '.Volumes[1].Path' <<<"$answer")" = "$DIR/a/sv/d/n2/n3" ] || fail "nested root"
	jq -e '.Volumes[2].Below|map(.Path)|any(contains(".vss"))' <<<"$answer" >/dev/null && fail "copies shown as data"
	[ "$(jq -r '.Volumes[3].Provider' <<<"$answer")" = "" ] && [ "$(jq -r '.Volumes[3].Why' <<<"$answer")" != null ] || fail tmpfs
	umount "$DIR/a/sv/mnt sp"
	ok "$(remove "$COPIES" "$A")"
	btrfs -q subvolume delete "$DIR/a/sv/d/n2/n3" "$DIR/a/sv/d/n2" "$DIR/a/sv/n1" >/dev/null
	rmdir "$DIR/a/sv/mnt sp" "$DIR/a/sv/d"
}

test_resolve_paths() {
	local d=$DIR/a answer fd
	mkdir -p "$DIR/cover/x"
	ln -sfn "$d/sv" "$DIR/l1"; ln -sfn l1/sub "$DIR/l2"; ln -sfn loop "$DIR/loop"
	mkdir -p "$d/sv/sub" && mkfifo "$d/sv/fifo" 2>/dev/null
	answer=$(resolve "$DIR/l2" "$DIR/l1/../sv/./sub//" "$DIR/loop" "$DIR/none/x" "$d/sv/fifo" "$d/sv/../../a/sv")
	[ "$(jq -c '[.Volumes[]|.Relative//.Error.Name]' <<<"$answer")" = \
		'["sub","sub","InvalidArgument","ObjectNotFound","fifo",""]' ] || fail "$(jq -c '[.Volumes[]|.Relative//.Error]' <<<"$answer")"
	answer=$(ask v "{\"op\":\"resolve\",\"Missing\":true,\"Paths\":[\"$d/sv/no/such\",\"$DIR/l1/no/such/./x\"]}")
	[ "$(jq -c '[.Volumes[]|.Relative,.Absent]' <<<"$answer")" = '["no/such",true,"no/such/x",true]' ] || fail "$answer"
	# over-mounts: the newest is what a path leads to; what is covered is gone
	mount -t tmpfs one "$DIR/cover" && mkdir "$DIR/cover/x" && mount --bind "$d/sv" "$DIR/cover/x"
	[ "$(volume "$DIR/cover/x" | jq -r .Type)" = btrfs ] || fail "before"
	exec {fd}<"$DIR/cover/x"
	mount -t tmpfs two "$DIR/cover" && mkdir "$DIR/cover/x"
	[ "$(volume "$DIR/cover/x" | jq -r .Type)" = tmpfs ] || fail "over-mount"
	is_error "$(ask v "{\"op\":\"resolve\",\"Paths\":[\"@open:/proc/$$/fd/$fd\"]}" | jq -c '{error:.Volumes[0].Error}')" \
		ObjectNotFound "covered" || fail "covered descriptor"
	exec {fd}<&-
	umount "$DIR/cover" && umount "$DIR/cover/x" && umount "$DIR/cover"
	mkdir "$d/sv/gone"; exec {fd}<"$d/sv/gone"; rmdir "$d/sv/gone"
	is_error "$(ask v "{\"op\":\"resolve\",\"Paths\":[\"@open:/proc/$$/fd/$fd\"]}" | jq -c '{error:.Volumes[0].Error}')" \
		ObjectNotFound "deleted" || fail "deleted"
	exec {fd}<&-
	rm "$d/sv/fifo"
}

test_multi_device() {
	truncate -s 200M "$DIR/m1.img" "$DIR/m2.img"
	local l1 l2 answer
	l1=$(losetup -f --show "$DIR/m1.img") && l2=$(losetup -f --show "$DIR/m2.img") && LOOPS+=("$l1" "$l2")
	mkfs.btrfs -q -d raid1 -m raid1 "$l1" "$l2" >/dev/null 2>&1 && mkdir "$DIR/multi" && mount "$l1" "$DIR/multi" || return 1
	new_subvolume "$DIR/multi/sv"
	answer=$(volume "$DIR/multi/sv")
	[ "$(jq '[.Layers[]|select(.Kind=="loop")]|length' <<<"$answer")" = 2 ] || fail "$answer"
	[ "$(jq '[.Domains[]|select(startswith("dev:7:"))]|length' <<<"$answer")" = 2 ] || fail "$answer"
	make_copies false "$DIR/multi/sv" && seal && ok "$(remove "$COPIES" "$(fs_uuid "$DIR/multi")")" || fail "copy"
	umount "$DIR/multi" && losetup -d "$l1" "$l2"
}

test_list_volumes() {
	local answer
	answer=$(ask v '{"op":"list"}')
	[ "$(jq '[.Volumes[].Id]|length==(unique|length)' <<<"$answer")" = true ] || fail "twice"
	jq -e --arg p "$DIR/a" '.Volumes[]|select(.Path==$p)|.Provider=="btrfs"' <<<"$answer" >/dev/null || fail "$answer"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# Not a test of speed: prints what one copy costs in each op, in microseconds.
test_times() {
	local op answer m t
	for _ in $(seq 15); do
		m=$(member "$DIR/a/sv")
		answer=$(ask b "time $(prepare "$m")"); jq .usec <<<"$answer" >>"$DIR/t.1prepare"
		m=$(jq -c .Members <<<"$answer")
		for op in 2flush 3cut; do ask b "time $(op "${op:1}" "$m")" | jq .usec >>"$DIR/t.$op"; done
		ask b "time $(op seal "$(with_records "$m")")" | jq .usec >>"$DIR/t.4seal"
		ask v "time {\"op\":\"resolve\",\"Paths\":[\"$DIR/a/sv\"]}" | jq .usec >>"$DIR/t.0resolve"
	done
	for _ in $(seq 15); do remove "$(copies "$A" | head -1)" "$A" >/dev/null; done
	for t in "$DIR"/t.*; do echo "    ${t##*/t.?}: $(median <"$t") us"; done
}

open_worker b btrfs
open_worker v volumes
new_fs a 1G && A=$(fs_uuid "$DIR/a") && A_LOOP=$LOOP && new_subvolume "$DIR/a/sv" && new_subvolume "$DIR/a/sv2" || exit 99
new_fs b 300M && B=$(fs_uuid "$DIR/b") && B_LOOP=$LOOP && new_subvolume "$DIR/b/sv" && new_subvolume "$DIR/b/sv2" || exit 99

# shellcheck disable=SC2046 # words
[ $# -gt 0 ] || set -- $(declare -F | sed -n 's/declare -f test_//p')
WORST=0
for name; do
	FAILED=0
	"test_$name" || FAILED=1
	[ $FAILED = 0 ] && echo "ok   $name" || { echo "FAIL $name"; WORST=1; }
done
close_worker b; close_worker v
exit $WORST
