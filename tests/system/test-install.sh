#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What `ninja install` puts where, and that it is enough: programs outside this tree build against the installed headers
# and pkg-config files alone, in C and C++, and the shared libraries export what was promised and nothing else.
# Usage: test-install.sh BUILD_DIR SOURCE_DIR [--update]
# --update writes installed-files.txt and *.symbols beside this script anew, instead of comparing.
set -euo pipefail

build=$1 source=$2 update=${3:-}
golden=$source/tests/system
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
failures=0

fail() {
	echo "FAIL: $*"
	failures=$((failures + 1))
}

# compare NAME FILE: FILE is what NAME beside this script says.
compare() {
	if [ "$update" = --update ]; then
		cp "$2" "$golden/$1"
	elif ! diff -u "$golden/$1" "$2"; then
		fail "$1 differs; if the change is meant: tests/system/test-install.sh BUILD_DIR SOURCE_DIR --update"
	fi
}

option() {
	meson introspect --buildoptions "$build" |
		python3 -c 'import json, sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == sys.argv[1]))' "$1"
}

echo "--- the files"
umask 022
DESTDIR=$root meson install -C "$build" --no-rebuild --quiet
libdir=$(option libdir)
# Type, mode, name, and where links lead. The name of the library directory depends on the architecture.
find "$root" -mindepth 1 \( -type f -o -type l -o -type d -empty \) -printf '%M /%P %l\n' |
	sed -e "s|/usr/$libdir/|/usr/LIBDIR/|" -e 's/ *$//' | LC_ALL=C sort -k 2 >"$work/files"
compare installed-files.txt "$work/files"
! grep -E '/(test|fake)-|fixture|harness|careless|worker-client' "$work/files" || fail "parts of the tests are installed"
# As a package would; debug information does name the directory.
find "$root" -type f \( -perm /111 -o -name '*.so*' \) -exec sh -c 'for f; do strip --strip-debug "$f" 2>/dev/null; done' - {} +
! grep -rlF -e "$build" -e "$root" "$root" || fail "these files name the directory in which they were built"
find "$root" -type f \( -perm /111 -o -name '*.so*' \) | while read -r file; do
	readelf --dynamic "$file" 2>/dev/null | grep -E 'R(UN)?PATH' && echo "$file"
done >"$work/rpath" || true
[ ! -s "$work/rpath" ] || fail "programs search for libraries elsewhere: $(cat "$work/rpath")"

echo "--- the files that other programs read"
while read -r file; do
	python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$file" || fail "$file is not XML"
done < <(find "$root/usr/share/dbus-1" "$root/usr/share/polkit-1" -name '*.conf' -o -name '*.policy' -o -name '*.xml')
bash -n "$root/usr/share/bash-completion/completions/vssctl" || fail "the bash completion is not bash"
while read -r program; do
	[ -x "$root$program" ] || fail "a unit or activation file starts $program, which is not installed"
done < <(sed -n 's/^Exec\(Start\)\?=\(\/[^ ]*\).*/\2/p' "$root"/usr/lib/systemd/system/*.service \
	"$root"/usr/share/dbus-1/system-services/*.service)
if command -v systemd-analyze >/dev/null; then
	# Not in a root of its own: there the units of Debian, which these refer to, would be missing.
	for unit in "$root"/usr/lib/systemd/system/*.service; do
		sed "s|^\(Exec[A-Za-z]*=\)/usr/|\1$root/usr/|" "$unit" >"$work/${unit##*/}"
	done
	systemd-analyze verify --man=no "$work"/*.service >"$work/verify" 2>&1 || true
	! grep -F "$work" "$work/verify" | grep -vE 'is not executable|RLIMIT' || fail "systemd does not like the units"
fi

echo "--- exported symbols"
for library in vsswriter vssrequestor; do
	nm --dynamic --defined-only --with-symbol-versions "$root/usr/$libdir/lib$library.so.0" |
		sed -n 's/^[0-9a-f]* [TDBRVW] //p' | LC_ALL=C sort >"$work/symbols"
	compare "lib$library.symbols" "$work/symbols"
	# what the header promises is exported, what is exported is in the header
	grep -oE '\bvss_[a-z_]+\(' "$root/usr/include/vssd/$library.h" | tr -d '(' | sort -u >"$work/promised"
	while read -r symbol; do
		grep -qx "${symbol%%@*}" "$work/promised" || fail "$symbol of lib$library is not in $library.h"
	done <"$work/symbols"
done

echo "--- programs outside this tree"
export PKG_CONFIG_PATH=$root/usr/$libdir/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
export LD_LIBRARY_PATH=$root/usr/$libdir
version=$(pkg-config --modversion libvsswriter)
[ "$version" = "$("$root/usr/bin/vssctl" --version | sed 's/.* //')" ] || fail "vssctl and libvsswriter.pc differ in version"

# build_with COMPILER PACKAGE OUTPUT SOURCE: outside of the tree, with what is installed alone.
build_with() {
	local flags
	read -ra flags <<<"$(pkg-config --cflags --libs "$2")"
	(cd "$work" && $1 -Wall -Wextra -Wpedantic -Werror -Wno-unused-parameter -o "$3" "$4" "${flags[@]}" -pthread) || {
		fail "$4 does not build with $1 and $2"
		return 1
	}
}

cat >"$work/requestor.c" <<'SOURCE'
#include <vssrequestor.h>
#include <stdio.h>

int main(void)
{
	struct vss_connection *connection = NULL;
	struct vss_failure failure;

	printf("libvssrequestor %s\n", vss_requestor_version());
	if (vss_connect(&connection, "unix:path=/nonexistent/bus", &failure) == 0)
		return 1;
	printf("%s: %s\n", failure.name, failure.text);
	return vss_disconnect(connection) ? 1 : 0;
}
SOURCE
cp "$work/requestor.c" "$work/requestor.cc"
cat >"$work/writer.cc" <<'SOURCE'
#include <vsswriter.h>
#include <cstdio>

static vss_result freeze(vss_writer *, const vss_event_info *, void *)
{
	return VSS_RESULT_OK;
}

int main()
{
	vss_writer_ops ops = {};
	vss_writer *writer = nullptr;
	char error[256] = "";

	ops.size = sizeof ops;
	ops.version = VSS_WRITER_API_VERSION;
	ops.id = "d6d25b4b-8f7d-4a9b-8b43-0c2d9d0f4b1a";
	ops.name = "C++";
	ops.freeze = freeze;
	ops.thaw = freeze;
	if (vss_writer_new(&writer, &ops, nullptr, error, sizeof error) < 0)
		return 1;
	std::printf("libvsswriter %s\n", vss_writer_version());
	vss_writer_free(writer);
	return 0;
}
SOURCE
build_with "cc -std=c11" libvssrequestor requestor requestor.c && "$work/requestor"
build_with "c++ -std=c++17" libvssrequestor requestor++ requestor.cc && "$work/requestor++"
build_with "c++ -std=c++17" libvsswriter writer++ writer.cc && "$work/writer++"
cp "$root/usr/share/doc/vssd/examples/minimal-writer/minimal-writer.c" "$work"
build_with "cc -std=gnu17" libvsswriter minimal-writer minimal-writer.c &&
	{ "$root/usr/bin/vss-writer-check" -- "$work/minimal-writer" >"$work/check.log" 2>&1 ||
		fail "the installed vss-writer-check does not pass the installed example: $(cat "$work/check.log")"; }

# Programs that the guides show: whole ones, with a main.
for guide in writer-guide:libvsswriter requestor-guide:libvssrequestor; do
	awk -v out="$work/${guide%:*}" '/^```c$/ { on = 1; n++; next } /^```/ { on = 0 } on { print >(out "-" n ".c") }' \
		"$root/usr/share/doc/vssd/${guide%:*}.md"
	for listing in "$work/${guide%:*}"-*.c; do
		grep -qs '^int main' "$listing" || continue
		echo "a program in ${guide%:*}.md"
		build_with "cc -std=gnu17" "${guide#*:}" listing "${listing##*/}" || true
	done
done

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "everything is where it belongs, and enough"
