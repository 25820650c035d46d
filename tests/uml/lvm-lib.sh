# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For scripts in the machine of run.sh that speak to the LVM provider's worker without vssd.

HOST=0123456789abcdef0123456789abcdef
WORKER=$BUILD/coordinator/providers/vss-worker CLIENT=$BUILD/tests/system/worker-client

new_id() {
	cat /proc/sys/kernel/random/uuid
}

# open_worker NAME ROLE: a warm worker; NAME_in and NAME_out are its descriptors.
open_worker() {
	mkfifo "/run/$1.in" "/run/$1.out"
	"$CLIENT" "$WORKER" "$2" <"/run/$1.in" >"/run/$1.out" &
	eval "$1_pid=$!"
	eval "exec {$1_in}>/run/$1.in {$1_out}</run/$1.out"
	rm "/run/$1.in" "/run/$1.out"
}

close_worker() {
	eval "exec {$1_in}>&- {$1_out}<&-; wait \$$1_pid"
}

say() {
	local fd="$1_in"
	echo "$2" >&"${!fd}"
}

hear() {
	local fd="$1_out" answer
	read -r -t 60 answer <&"${!fd}" || answer='{"gone":true}'
	echo "$answer"
}

ask() {
	say "$1" "$2"
	hear "$1"
}

# must ANSWER: prints it; ends the test when it is a failure.
must() {
	[ "$(jq -r .ok <<<"$1")" = true ] || die "unexpected: $1"
	printf '%s\n' "$1"
}

# refused ANSWER NAME TEXT: ends the test unless it is that error.
refused() {
	[ "$(jq -r .error.Name <<<"$1")" = "$2" ] && grep -q -e "$3" <<<"$(jq -r .error.Text <<<"$1")" ||
		die "expected $2 ($3), got $1"
}

# volume PATH: as the volumes worker resolves it.
volume() {
	ask V "{\"op\":\"resolve\",\"Paths\":[\"$1\"]}" | jq -c '.Volumes[0]'
}

# begin_set PATH...: SET, and MEMBERS as prepare takes them.
begin_set() {
	local path
	SET=$(new_id) MEMBERS=[]
	for path in "$@"; do
		MEMBERS=$(jq -c --arg copy "$(new_id)" --argjson volume "$(volume "$path")" \
			'. + [{Copy: $copy, Volume: $volume, Repair: false}]' <<<"$MEMBERS")
	done
}

# op WORKER NAME [JSON]: an op on the set's members.
op() {
	ask "$1" "$(jq -nc --arg op "$2" --arg set "$SET" --arg host $HOST --argjson members "$MEMBERS" --argjson more "${3:-{\}}" \
		'{op: $op, Set: $set, Host: $host, Members: $members} + $more')"
}

# take ANSWER: what it gave for each member goes into MEMBERS.
take() {
	MEMBERS=$(jq -c --argjson members "$MEMBERS" '[$members, .Members] | transpose | map(add)' <<<"$1")
}

# record: what vssd would write.
add_records() {
	MEMBERS=$(jq -c --arg set "$SET" --arg host $HOST 'length as $n | map(. + {Record: {Set: $set, SetCount: $n, Created: 1700000000,
		Host: $host, HostName: "machine", Session: $set, Persistent: true, Context: "app-rollback", Consistency: "filesystem",
		ConsistencyReason: "nobody was asked", Instant: "set", InstantReason: "", Volume: .Volume}})' <<<"$MEMBERS")
}

# make_set WORKER PATH...: a sealed set.
make_set() {
	local worker=$1
	shift
	begin_set "$@"
	take "$(must "$(op "$worker" prepare)")"
	must "$(op "$worker" flush)" >/dev/null
	must "$(op "$worker" arm)" >/dev/null
	must "$(ask "$worker" window)" >/dev/null
	say "$worker" unlock
	must "$(op "$worker" open)" >/dev/null
	add_records
	must "$(op "$worker" seal)" >/dev/null
}

# copy N: the id of the set's Nth member, from 0.
copy() {
	jq -r ".[$1].Copy" <<<"$MEMBERS"
}

# group_state VG: what must be as before.
group_state() {
	lvs -a --noheadings -o lv_name,lv_attr,lv_size,lv_tags,devices "$1" | sed 's/^ *//' | sort
	dmsetup table | grep "^$1-" | sort
	dmsetup info -c --noheadings -o name,attr | grep "^$1-" | sort
	vgs --noheadings -o vg_free_count "$1"
}
