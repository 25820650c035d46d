#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# get-kernel.sh 6.1|6.12|cloud: prints a directory with a kernel (linux) and its modules (modules/RELEASE). 6.1 is this release's
# User-Mode Linux; 6.12 is the next release's, with the C library that it needs; cloud is Debian's kernel for virtual machines.
# get-kernel.sh cloud-package: prints the file that the last comes from. What is no package of this machine is fetched once, through
# the mirror that apt uses. Exit code 77, with the reason, where it cannot be had.
set -euo pipefail

cache=${XDG_CACHE_HOME:-/var/cache}/vssd-tests

skip() {
	echo "skipped: $*" >&2
	exit 77
}

packaged() {
	local dir=$cache/uml-6.1

	command -v linux.uml >/dev/null || skip "the package user-mode-linux is not installed"
	mkdir -p "$dir"
	ln -sfn "$(command -v linux.uml)" "$dir/linux"
	ln -sfn /usr/lib/uml/modules "$dir/modules"
	echo "$dir"
}

# The mirror's address as apt has it.
mirror() {
	sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1 | grep . ||
		awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z]+:\//) { print $i; exit } }' /etc/apt/sources.list
}

fetch() {
	local work=$1 options

	options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$work/lists"
		-o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
	mkdir -p "$work/lists/partial" "$work/cache/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" >"$work/sources.list"
	apt-get "${options[@]}" --quiet=2 update
	(cd "$work" && apt-get "${options[@]}" --quiet=2 download user-mode-linux libc6)
	for package in "$work"/*.deb; do
		dpkg --extract "$package" "$work/root"
	done
}

newer() {
	local dir=$cache/uml-6.12 work

	mkdir -p "$cache"
	exec 9>"$cache/uml-6.12.lock"
	flock 9
	[ ! -x "$dir/linux" ] || { echo "$dir"; return; }
	command -v patchelf >/dev/null || skip "the package patchelf is not installed"
	work=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	fetch "$work" >"$work/log" 2>&1 || skip "the kernel of the next release cannot be fetched: $(tail -n 1 "$work/log")"
	rm -rf "$dir"
	mkdir -p "$dir/libc"
	cp -a "$work/root/usr/lib/uml/modules" "$dir/modules"
	cp -L "$work"/root/usr/lib/x86_64-linux-gnu/{libc.so.6,ld-linux-x86-64.so.2} "$dir/libc/"
	patchelf --set-interpreter "$dir/libc/ld-linux-x86-64.so.2" --set-rpath "$dir/libc" "$work/root/usr/bin/linux.uml"
	install -m 755 "$work/root/usr/bin/linux.uml" "$dir/linux" # last: it says that all is there
	echo "$dir"
}

cloud_package() {
	local package found

	mkdir -p "$cache"
	exec 9>"$cache/lock.kernel"
	flock 9
	found=$(find "$cache" -maxdepth 1 -name 'linux-image-*-cloud-amd64_*.deb' | sort -V | tail -n 1)
	if [ -z "$found" ]; then
		package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
		[ -n "$package" ] || skip "apt knows no linux-image-cloud-amd64"
		(cd "$cache" && timeout 120 apt-get -qq download "$package" >&2) || skip "$package cannot be fetched"
		found=$(find "$cache" -maxdepth 1 -name "${package}_*.deb" | head -n 1)
	fi
	[ -s "$found" ] || skip "Debian's cloud kernel cannot be had"
	echo "$found"
}

# In a subshell: it gives the lock back before another is taken.
cloud() {
	local package dir work release

	package=$(cloud_package) || exit $?
	dir=$cache/$(basename "$package" .deb)
	exec 9>"$dir.lock"
	flock 9
	[ ! -e "$dir/linux" ] || { echo "$dir"; return; }
	for program in depmod dpkg-deb; do
		command -v "$program" >/dev/null || skip "the program $program is not installed"
	done
	rm -rf "$dir"
	work=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work" --wildcards './boot/vmlinuz-*' './lib/modules/*'
	release=$(basename "$work"/lib/modules/*)
	depmod -b "$work" "$release"
	mkdir -p "$dir"
	mv "$work/lib/modules" "$dir/modules"
	mv "$work/boot/vmlinuz-$release" "$dir/linux" # last: it says that all is there
	echo "$dir"
}

case ${1:-} in
6.1) packaged ;;
6.12) newer ;;
cloud) cloud ;;
cloud-package) cloud_package ;;
*)
	echo "usage: get-kernel.sh 6.1|6.12|cloud|cloud-package" >&2
	exit 2
	;;
esac
