#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs inside the container that test-container.sh boots, as a unit. Leaves /results/log, /results/journal, and, if
# everything held, /results/passed.
# Usage: container-inside.sh DEVICE (of a btrfs filesystem that is mounted nowhere)
set -uo pipefail

device=$1
tools=/opt/vssd-tests
work=/run/vssd-tests
failures=0
app_id=11111111-2222-4333-8444-555555555555

section() {
	printf -- '--- %s\n' "$*"
}

# check WHAT COMMAND...
check() {
	local what=$1

	shift
	if "$@" >"$work/check" 2>&1; then
		echo "ok   $what"
	else
		echo "FAIL $what ($*)"
		sed 's/^/     /' "$work/check"
		failures=$((failures + 1))
	fi
}

# until_true SECONDS COMMAND...
until_true() {
	local end=$((SECONDS + $1))

	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

as() {
	runuser -u "$1" -- "${@:2}"
}

# is VALUE COMMAND...: COMMAND prints VALUE.
is() {
	local value

	value=$("${@:2}")
	[ "$value" = "$1" ] || {
		echo "'$value', not '$1'"
		return 1
	}
}

# says TEXT COMMAND...: COMMAND prints TEXT somewhere; its exit code does not matter.
says() {
	local output

	output=$("${@:2}" 2>&1)
	[[ $output == *"$1"* ]] || {
		echo "'$1' is not in: $output"
		return 1
	}
}

# exits CODE COMMAND...
exits() {
	local code=0

	"${@:2}" || code=$?
	[ "$code" -eq "$1" ] || {
		echo "exit code $code, not $1"
		return 1
	}
}

not() {
	! "$@"
}

property() {
	systemctl show --property "$2" --value "$1"
}

main_pid() {
	property "$1" MainPID
}

# start_writer UNIT USER PROGRAM [ARGUMENT...]
start_writer() {
	systemd-run --quiet --unit="$1" --uid="$2" --property=Restart=no "${@:3}"
}

unique_name() {
	busctl --system list --no-legend --unique | awk -v pid="$(main_pid "$1")" '$2 == pid { print $1; exit }'
}

copies_left() {
	vssctl list shadows --json | grep -c '"Shadow":'
}

writer_is_stable() {
	vssctl list writers | grep -A 4 -F "Writer name: '$1'" | grep -qF "State: [1] Stable"
}

# heard EVENT: in how many sets the writer was sent it.
heard() {
	awk -v event="$1" '$3 == event { print $4, $5 }' /run/app/events | sort -u | wc -l
}

logged() {
	journalctl --quiet --no-pager --unit=vssd.service "$@"
}

restarted_from() {
	[ "$(property vssd.service ActiveState)" = active ] && [ "$(main_pid vssd.service)" != "$1" ]
}

# ---- what is seen ----

activation() {
	section "a call starts vssd"
	check "vssd does not run before anybody asks" is inactive property vssd.service ActiveState
	check "anybody may list writers" as nobody vssctl list writers
	check "vssd runs now" is active property vssd.service ActiveState
	check "started by the bus, kept by systemd" is org.vssd property vssd.service BusName
	check "it ends before an hour is over: nothing failed" is "" systemctl list-units --failed --plain --no-legend 'vss*'
	check "it has no mount namespace of its own" is "$(readlink /proc/1/ns/mnt)" \
		readlink "/proc/$(main_pid vssd.service)/ns/mnt"
	check "systemctl status shows it running" says "active (running)" systemctl status vssd.service
	check "an expected writer is shown before it comes" says "Writer name: 'Application'" vssctl list writers
}

writer_of_another_user() {
	section "a writer that is not root"
	install -d -o app /run/app
	start_writer app-writer app "$tools/vss-test-writer" --name Application --id "$app_id" --path /srv/data --log /run/app/events
	check "registers" until_true 10 writer_is_stable Application
	start_writer minimal-writer app "$tools/minimal-writer"
	check "so does the example of a minimal writer" until_true 10 writer_is_stable "Minimal Example"
	check "a set is made" vssctl create shadow --for /srv/data
	check "the writer was frozen" is 1 heard Freeze
	check "and thawed" is 1 heard Thaw
	check "the copy may be called consistent for applications" says application vssctl list shadows
	shadow=$(vssctl list shadows --json | sed -n 's/.*"Shadow": "\([^"]*\)".*/\1/p')
	mkdir -p /mnt/exposed
	check "the copy is exposed" vssctl expose --shadow "$shadow" /mnt/exposed
	check "where everybody sees it" is "written before" cat /mnt/exposed/file
	check "and nobody can write" not touch /mnt/exposed/new
	check "it is taken away again" vssctl unexpose --shadow "$shadow"
	check "and deleted" vssctl delete shadows --all --quiet
	check "nothing of it is left" is 0 copies_left
	check "vssd had nothing to warn of" is "" logged --priority=warning --output=cat
}

strangers() {
	section "who is not a writer"
	# The id of a writer whose manifest names another user, and one without a manifest.
	start_writer stranger nobody "$tools/vss-test-writer" --name Stranger --id "$app_id" --path /srv/data
	start_writer stranger2 nobody "$tools/vss-test-writer" --name Stranger --path /srv/data
	sleep 2
	check "may not register" not says Stranger vssctl list writers
	systemctl stop stranger stranger2 2>/dev/null
	systemctl reset-failed stranger stranger2 2>/dev/null

	section "who may call a writer"
	local call=(busctl --system call "$(unique_name app-writer)" /org/vssd/Writer org.vssd.Writer1)
	check "the writer's connection is known" [ -n "$(unique_name app-writer)" ]
	check "root may" says "$app_id" "${call[@]}" Identify 'a{sv}' 0
	check "another user may not" says "Access denied" as nobody "${call[@]}" Identify 'a{sv}' 0
	check "nor its own user" says "Access denied" as app "${call[@]}" Identify 'a{sv}' 0
	check "nor may they freeze it" says "Access denied" as nobody "${call[@]}" Freeze 'ssta{sv}' "" "" 0 0
	check "nobody but root may be vssd" says "Access denied" as nobody busctl --system call org.freedesktop.DBus \
		/org/freedesktop/DBus org.freedesktop.DBus RequestName su org.vssd 2
}

requestors() {
	section "a requestor that polkit allows"
	check "makes a backup" is "written before" as backup vssctl backup --for /srv/data -- sh -c "cat \$VSS_ROOT/srv/data/file"
	check "of which nothing is left" is 0 copies_left
	check "makes a copy that stays, and deletes it" as backup sh -c \
		"vssctl create shadow --for /srv/data && vssctl delete shadows --for /srv/data --all --quiet"
	check "but not where the rule says no" exits 4 as backup vssctl create shadow --for /srv/other
	check "and is told so" says "org.vssd.create is not granted" as backup vssctl create shadow --for /srv/other
	check "whatever it calls it" exits 4 as backup vssctl create shadow --for /srv/data/../other
	check "by a link, too" exits 4 as backup vssctl create shadow --for /srv/data/elsewhere

	section "a requestor that polkit does not allow"
	check "may not make a copy" exits 4 as games vssctl create shadow --for /srv/data
	check "and is told what would help" says "granted to administrators only" as games vssctl create shadow --for /srv/data
	check "may not make a backup" exits 4 as games vssctl backup --for /srv/data -- true
	check "may not delete one" exits 4 as games vssctl delete shadows --for /srv/data --all --quiet
	check "may list" as games vssctl list shadows
	check "nothing was made" is 0 copies_left
	check "the writer works on" writer_is_stable Application
}

# A backup that lasts until $work/go exists; it reads its copy at the end.
start_backup() {
	rm -f "$work/go" "$work/begun" "$work/output"
	# shellcheck disable=SC2016 # for the shell of the command
	vssctl backup --for /srv/data -- sh -c 'touch '"$work/begun"'
		i=0; while [ ! -e '"$work/go"' ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
		cat $VSS_ROOT/srv/data/file' >"$work/output" 2>"$work/errors" &
	backup=$!
	until_true 30 test -e "$work/begun"
}

finish_backup() {
	touch "$work/go"
	wait "$backup"
}

restarts() {
	local how before completed

	for how in "restart" "kill --kill-whom=main --signal=KILL"; do
		section "systemctl $how under a running backup"
		completed=$(heard BackupComplete)
		check "the backup begins" start_backup
		before=$(main_pid vssd.service)
		# shellcheck disable=SC2086 # words
		check "vssd is ended" systemctl $how vssd.service
		check "and there again" until_true 10 restarted_from "$before"
		check "the backup finishes as if nothing had happened" finish_backup
		check "it has read the copy" is "written before" cat "$work/output"
		check "without a word of trouble" not grep vssctl: "$work/errors"
		check "the writers heard of its success" is $((completed + 1)) heard BackupComplete
		check "no copy is left" is 0 copies_left
		check "the writers are known" until_true 10 writer_is_stable Application
	done
}

watchdog() {
	local before limit=15

	section "a vssd that hangs"
	[ "$VSSD_TEST_LEVEL" != long ] || limit=90
	before=$(main_pid vssd.service)
	kill -STOP "$before"
	check "is restarted by systemd's watchdog" until_true "$limit" restarted_from "$before"
	check "for that reason" says "Watchdog timeout" logged
	check "is of use again" vssctl status
	check "knows its writers" until_true 10 writer_is_stable Application
	check "makes a backup" vssctl backup --for /srv/data -- true
}

# Writes go through, to a filesystem that was held.
is_free() {
	timeout 5 touch /srv/data/free
}

# hold: /srv/data, through the guard, until let_go.
hold() {
	rm -f "$work/feed" "$work/held"
	mkfifo "$work/feed"
	"$tools/guard-holder" /run/vss-guard/guard.sock 50 /srv/data <"$work/feed" >"$work/held" 2>&1 &
	holder=$!
	exec 8>"$work/feed"
	until_true 10 grep -q '"Held":true' "$work/held"
}

let_go() {
	exec 8>&-
	wait "$holder"
}

guards() {
	local before what

	section "the guard"
	check "runs since vssd was started" is active property vss-guard.service ActiveState
	check "in a cgroup of its own" not is "$(property vssd.service ControlGroup)" property vss-guard.service ControlGroup
	before=$(main_pid vss-guard.service)
	check "a filesystem is held" hold
	systemctl kill --signal=KILL vssd.service
	systemctl reset-failed vssd.service # it has been killed often enough for systemd to give up
	check "vssd's end does not touch it" is "$before" main_pid vss-guard.service
	check "nor what it holds" says "Held: /srv/data, for guard-holder" vssctl status
	check "it is released when that is asked for" let_go
	check "and free" is_free
	for what in "--kill-whom=all --signal=KILL" "--kill-whom=main --signal=KILL" "--kill-whom=all --signal=STOP"; do
		section "a guard whose processes get $what"
		before=$(main_pid vss-guard.service)
		check "a filesystem is held" hold
		# shellcheck disable=SC2086 # words
		systemctl kill $what vss-guard.service
		# With both halves stopped it is the watchdog's turn.
		check "it is released" until_true "$([ "$VSSD_TEST_LEVEL" = long ] && echo 40 || echo 15)" is_free
		check "whoever held it fails" not let_go
		check "a new guard is there" until_true 20 guard_restarted_from "$before"
		check "which holds nothing" says "Nothing was held" vssctl release --all
	done
	check "vssd makes sets" vssctl backup --for /srv/data -- true
	systemctl reset-failed vss-guard.service 2>/dev/null
}

guard_restarted_from() {
	[ "$(property vss-guard.service ActiveState)" = active ] && [ "$(main_pid vss-guard.service)" != "$1" ]
}

idle() {
	local i lost=0 tries=6

	section "a vssd that nobody needs"
	[ "$VSSD_TEST_LEVEL" != long ] || tries=40
	check "stays while there are writers" exits 1 until_true 6 is inactive property vssd.service ActiveState
	systemctl stop app-writer minimal-writer
	vssctl list writers >/dev/null
	check "ends when it is idle" until_true 20 is inactive property vssd.service ActiveState
	check "in peace" is success property vssd.service Result
	check "is started again by a call" vssctl list writers
	check "and runs" is active property vssd.service ActiveState
	# Calls that come just when it ends, from a bit before to a bit after.
	for ((i = 0; i < tries; i++)); do
		sleep "$(awk -v i="$i" -v n="$tries" 'BEGIN { print 2.9 + 0.2 * i / n }')"
		vssctl list writers >/dev/null || lost=$((lost + 1))
	done
	check "no call of $tries that came just then was lost" [ "$lost" -eq 0 ]
}

in_the_end() {
	section "in the end"
	check "nothing failed" is "" systemctl list-units --failed --plain --no-legend 'vss*'
	check "no copy is left" is 0 copies_left
	check "nor anything in the store" is "" find /srv/data/.vss -mindepth 1
	check "systemctl status shows it running" systemctl status vssd.service
}

# A script writer by its shipped unit.
script_writer() {
	section "a script writer by its unit"
	mkdir -p /etc/vssd/script-writers.d /etc/vssd/hooks
	cp -RP "$tools/script-writer/event-log" /etc/vssd/hooks/
	sed 's|^Paths=.*|Paths=/srv/data|' "$tools/script-writer/event-log.conf" >/etc/vssd/script-writers.d/event-log.conf
	check "starts" systemctl start vss-script-writer.service
	check "registers" until_true 10 writer_is_stable "Event Log Example Writer"
	check "takes part" vssctl backup --for /srv/data -- true
	check "and its executables were run" says freeze cat /var/log/vss-events.log
	section "a hypervisor's hook, as it is installed"
	check "holds" /usr/libexec/vssd/doors/fsfreeze-hook freeze
	check "without a process of its own" says Holding vssctl list sessions
	check "not twice" exits 75 /usr/libexec/vssd/doors/fsfreeze-hook freeze
	check "lets go" /usr/libexec/vssd/doors/fsfreeze-hook thaw
	check "and leaves nothing" is "" cat /run/vss-hook/qemu-ga
	check "stops" systemctl stop vss-script-writer.service
	check "in peace" is success property vss-script-writer.service Result
}

guests_writer() {
	section "the writer of guests by its unit"
	echo disk >/srv/data/guest.img
	printf '[QEMU]\n[Guest one]\nAgent=/run/none\nDisks=/srv/data/guest.img\n' >/etc/vssd/qemu-writer.conf
	check "starts" systemctl start vss-qemu-writer.service
	check "registers" until_true 10 writer_is_stable "QEMU Guest Writer"
	check "takes part" vssctl backup --for /srv/data -- true
	check "checks" says "[ok] one: agent: not needed" vssctl verify --for /srv/data
	# As one that is killed leaves it; the guest is off by now.
	printf '{"Guest":"one","Agent":"/run/none"}' >/run/vss-qemu-writer/one.frozen
	check "is killed" systemctl kill --signal=KILL vss-qemu-writer.service
	check "what it left is looked after" until_true 15 test ! -e /run/vss-qemu-writer/one.frozen
	check "comes again" until_true 15 writer_is_stable "QEMU Guest Writer"
	check "stops" systemctl stop vss-qemu-writer.service
	check "in peace" is success property vss-qemu-writer.service Result
}

# database_writer PROGRAM NAME USER DOCUMENT: by its unit, with the data of a server that does not run, which its user alone may read.
database_writer() {
	section "the writer $1 by its unit"
	vssctl delete shadows --all --quiet
	check "starts" systemctl start "$1.service"
	check "as its user" is "$3" stat -c %U "/proc/$(main_pid "$1.service")"
	check "registers" until_true 10 writer_is_stable "$2"
	check "takes part" vssctl create shadow --for /srv/data --require-writer "$2"
	check "the copy is consistent for applications" says application vssctl list shadows
	check "and has the writer's word" grep -rqF "$4" /srv/data/.vss --include=record.json
}

database_writers() {
	local shadow program

	install -d -o mysql -m 0700 /srv/data/mysql /srv/data/mysql/mysql
	install -o mysql /dev/null /srv/data/mysql/ib_logfile0
	printf '[MariaDB]\nDataDirectory=/srv/data/mysql\n' >/etc/vssd/mariadb-writer.conf
	database_writer vss-mariadb-writer MariaDB mysql '\"Way\":\"offline\",\"Version\":\"\",\"DataDirectory\":\"/srv/data/mysql\"'

	install -d -m 0700 /srv/data/redis /etc/redis
	printf 'port 0\nunixsocket /run/none\ndir /srv/data/redis\n' >/etc/redis/redis.conf
	database_writer vss-redis-writer Redis root '\"Way\":\"offline\",\"Files\":[{\"Path\":\"/srv/data/redis\"'

	install -d -m 0700 /srv/data/pg /srv/data/pg/global /srv/data/pg/pg_wal /srv/data/pg/pg_tblspc
	echo 15 >/srv/data/pg/PG_VERSION
	head -c 8192 /dev/zero >/srv/data/pg/global/pg_control
	echo 1 >/srv/data/pg/postmaster.pid # of some other program by now
	chown -R postgres /srv/data/pg
	printf '[PostgreSQL]\nDataDirectory=/srv/data/pg\n' >/etc/vssd/postgresql-writer.conf
	database_writer vss-postgresql-writer PostgreSQL postgres '\"Way\":\"offline\",\"Version\":\"15\",\"DataDirectory\":\"/srv/data/pg\"'
	shadow=$(vssctl list shadows --json | sed -n 's/.*"Shadow": "\([^"]*\)".*/\1/p')
	check "its copy is exposed" vssctl expose --shadow "$shadow" /mnt/exposed
	check "in which it could remove a file" not test -e /mnt/exposed/pg/postmaster.pid
	check "only there" test -e /srv/data/pg/postmaster.pid
	vssctl unexpose --shadow "$shadow"
	vssctl delete shadows --all --quiet
	for program in vss-mariadb-writer vss-redis-writer vss-postgresql-writer; do
		check "$program stops" systemctl stop "$program.service"
		check "in peace" is success property "$program.service" Result
	done
}

mkdir -p "$work" /srv/data /srv/other
chmod 0755 "$work"
mount -t btrfs "$device" /srv/data
echo "written before" >/srv/data/file
ln -s /srv/other /srv/data/elsewhere
activation
writer_of_another_user
strangers
script_writer
requestors
restarts
watchdog
guards
database_writers
guests_writer # after those who mind a label: vssd remembers where its data lie
idle
in_the_end
umount /srv/data
journalctl --quiet --no-pager --boot >/results/journal
if [ "$failures" -eq 0 ]; then
	touch /results/passed
else
	echo "$failures failures"
	exit 1
fi
