#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vssd as a distribution would run it: installed into a container that is booted with real systemd, on Debian's unmodified
# bus configuration, with polkit. container-inside.sh is what happens there; this brings it there and its results back.
# Usage: test-container.sh BUILD_DIR SOURCE_DIR
#
# The container's files are made once, by mmdebstrap from where this machine's apt gets its packages, and kept as
# a tar archive in ${XDG_CACHE_HOME:-/var/cache}/vssd-tests.
set -euo pipefail

build=$1 source=$2
here=$source/tests/system
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"

packages=dbus,libblkid1,libbtrfsutil1,libdbus-1-3,libhiredis0.14,libjansson4,libmariadb3,libmount1,libpq5,libsmartcols1,libsystemd0,polkitd,systemd,systemd-sysv
suite=bookworm
patience=300 # for all that happens inside
cache=${XDG_CACHE_HOME:-/var/cache}/vssd-tests
archive=$cache/$suite-$(printf %s "$packages" | sha256sum | cut -c 1-12).tar

skip() {
	echo "skipped: $*"
	exit 77
}

make_archive() {
	[ ! -s "$archive" ] || return 0
	command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed, to make the container with"
	# shellcheck disable=SC2016 # apt-get's own variables
	apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Origin: Debian' 'Identifier: Packages' |
		sort -u >"$lab/sources.list"
	[ -s "$lab/sources.list" ] || skip "apt knows no Debian packages here (apt-get update)"
	echo "--- making the container's files, once"
	lab_run mmdebstrap --quiet --variant=minbase --include="$packages" --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$archive.new.tar" "$lab/sources.list" || skip "the container's files cannot be made"
	mv "$archive.new.tar" "$archive"
}

unpack() {
	mkdir -p "$cache"
	{
		flock 9
		make_archive
	} 9>"$cache/lock"
	mkdir "$lab/root"
	# Device nodes are nspawn's business.
	tar -xf "$archive" -C "$lab/root" --exclude='./dev/*'
}

install_everything() {
	local to=$lab/root/opt/vssd-tests

	DESTDIR=$lab/root meson install -C "$build" --no-rebuild --quiet
	mkdir -p "$to" "$lab/root/srv/data"
	install "$build/writers/test-writer/vss-test-writer" "$build/examples/minimal-writer/minimal-writer" \
		"$build/tests/system/guard-holder" \
		"$here/container-inside.sh" "$to"
	cp -RP "$source/examples/script-writer" "$to"
	chown -R root:root "$to"
}

add_user() {
	useradd --root "$root" --system --no-create-home "$1" 2>/dev/null || grep -q "^$1:" "$root/etc/passwd" ||
		echo "$1:x:$2:$2::/nonexistent:/usr/sbin/nologin" >>"$root/etc/passwd"
}

configure() {
	local root=$lab/root

	# Who may be which writer.
	for writer in "app:11111111-2222-4333-8444-555555555555:Application:app" \
		"minimal:5e0c8a7e-2f43-4a8e-bb0c-97d1d8f0a6c4:Minimal Example:app"; do
		IFS=: read -r file id name user <<<"$writer"
		printf '[Writer]\nId=%s\nName=%s\nUser=%s\n' "$id" "$name" "$user" >"$root/usr/share/vssd/writers.d/$file.writer"
	done
	printf '[Coordinator]\nIdleTimeoutSec=3\n' >>"$root/etc/vssd/vssd.conf"

	# Who may be a requestor, and where.
	mkdir -p "$root/etc/polkit-1/rules.d"
	cat >"$root/etc/polkit-1/rules.d/40-vssd.rules" <<-'RULES'
		polkit.addRule(function (action, subject) {
			if (subject.user != "backup" || action.id.indexOf("org.vssd.") != 0)
				return polkit.Result.NOT_HANDLED;
			if (action.lookup("vss.volume") && action.lookup("vss.volume").indexOf("/srv/data") != 0)
				return polkit.Result.NO;
			return polkit.Result.YES;
		});
	RULES
	add_user app 990
	add_user mysql 991
	add_user postgres 992

	# The watchdog of the shipped unit takes half a minute to bite.
	if [ "${VSSD_TEST_LEVEL:-default}" != long ]; then
		mkdir -p "$root/etc/systemd/system/vssd.service.d"
		printf '[Service]\nWatchdogSec=2\n' >"$root/etc/systemd/system/vssd.service.d/watchdog.conf"
		mkdir -p "$root/etc/systemd/system/vss-guard.service.d"
		cp "$root/etc/systemd/system/vssd.service.d/watchdog.conf" "$root/etc/systemd/system/vss-guard.service.d"
	fi

	cat >"$root/etc/systemd/system/container-inside.service" <<-UNIT
		[Unit]
		Description=The test
		After=dbus.service
		SuccessAction=poweroff-force
		FailureAction=poweroff-force

		[Service]
		Type=oneshot
		ExecStart=/opt/vssd-tests/container-inside.sh $device
		Environment=VSSD_TEST_LEVEL=${VSSD_TEST_LEVEL:-default}
		StandardOutput=file:/results/log
		StandardError=file:/results/log
		TimeoutStartSec=$patience
	UNIT
	mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
	ln -s ../container-inside.service "$root/etc/systemd/system/multi-user.target.wants/"
	# Nothing of this needs a console, a clock or the network.
	for unit in console-getty.service systemd-timesyncd.service systemd-networkd.service systemd-resolved.service \
		apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
	: >"$root/etc/machine-id"
}

make_volume() {
	truncate -s 512M "$lab/volume.img"
	mkfs.btrfs --quiet "$lab/volume.img" >"$lab/mkfs.log" 2>&1
	device=$(losetup --find --show "$lab/volume.img")
	lab_defer losetup --detach "$device"
}

# /sys is only what nspawn shows of it; vssd needs to see which devices a btrfs is made of.
nspawn() {
	timeout --kill-after=10 $((patience + 30)) systemd-nspawn --quiet --directory="$lab/root" --register=no --keep-unit \
		--private-network --console=pipe --capability=CAP_SYS_PTRACE --bind="$device" \
		--bind-ro=/sys/fs/btrfs --bind="$lab/results:/results" "$@"
}

[ "$(id -u)" -eq 0 ] || skip "needs root"
for tool in systemd-nspawn mkfs.btrfs losetup meson; do
	command -v "$tool" >/dev/null || skip "$tool is not installed"
done
[ -e /dev/loop-control ] || skip "needs loop devices"
grep -qw btrfs /proc/filesystems || skip "needs btrfs in the kernel"

lab_begin
unpack
make_volume
mkdir "$lab/results"
install_everything
configure
lab_run nspawn --as-pid2 /bin/true >"$lab/try.log" 2>&1 </dev/null ||
	skip "systemd-nspawn cannot run a container here: $(cat "$lab/try.log")"

begin=$SECONDS
lab_run nspawn --boot >"$lab/boot.log" 2>&1 </dev/null || true
cat "$lab/results/log" 2>/dev/null || true
echo "--- the container ran for $((SECONDS - begin)) s"
if ! [ -e "$lab/results/passed" ]; then
	for log in "$lab/boot.log" "$lab/results/journal"; do
		[ ! -s "$log" ] || { echo "--- ${log##*/}"; tail -n "${VSSD_TEST_LOG_LINES:-150}" "$log"; }
	done
	exit 1
fi
