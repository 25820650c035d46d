#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Builds and tests everything, from a fresh clone on a fresh Debian 12. Root, for packages, loop devices and containers; as
# another user it leaves out what needs root.
#
# Usage: tests/run.sh [--fast | --long] [--list] [--only STAGE]...
#   --fast    under 10 minutes on two cores: what breaks most
#   (none)    under 20 minutes: every proof, at a reduced count
#   --long    every proof at its full count, all benchmarks, every build option
#   --list    the stages of that level
#   --only    these stages alone (what they need is built first)
#
# The last line is `N passed, N failed, N skipped`; the exit code is 1 if anything failed. Builds and logs are in build/.
set -euo pipefail

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
top=$source/build
level=default
list=no
only=()

# name, levels, title
stages="
packages   fast default long  Packages that building and testing need
source     fast default long  The source keeps its own rules; shell scripts are clean
gcc        fast default long  Build with gcc, warnings are errors
unit       fast default long  Unit and bus tests
documents  fast default long  Manual pages render, documents agree with the tree
clang      default long       Build with clang, warnings are errors
sanitize   fast default long  Unit and bus tests under ASan and UBSan
valgrind   default long       Unit tests under valgrind: memory and descriptors
system     fast default long  Tests on real volumes
machine    long               Tests that hold volumes, in machines of their own (by default beside those on real volumes)
container  fast default long  Installed, in a container with real systemd
quickstart default long       The newcomer's script
stress     default long       Tests on real volumes under ASan and UBSan
fuzz       default long       Whatever parses, fed with nonsense for a few seconds
options    default long       Builds with parts left out
bench      default long       Benchmarks run
"

packages=(
	# to build
	gcc g++ clang ccache meson ninja-build pkg-config libc6-dev libblkid-dev libbtrfsutil-dev libcmocka-dev libdbus-1-dev libhiredis-dev libdevmapper-dev liblvm2-dev
	libjansson-dev libmariadb-dev libvirt-dev libmount-dev libpq-dev libsmartcols-dev libsqlite3-dev libsystemd-dev
	# to test
	binutils btrfs-progs busybox-static dbus dbus-daemon git jq libclang-rt-14-dev mandoc mariadb-server mount postgresql postgresql-contrib procps python3 python3-dbus python3-gi
	redis-server
	shellcheck snapper sqlite3 tar util-linux valgrind
	# to be asked by hypervisors, and to be guests
	libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu qemu-guest-agent qemu-system-x86 qemu-utils
	# to boot a container
	mmdebstrap systemd systemd-container
	# to boot a machine with device-mapper
	cryptsetup-bin dmsetup e2fsprogs kmod lvm2 mdadm nbd-client nbdkit patchelf thin-provisioning-tools udev user-mode-linux xfsprogs
)

# ---- counting ----

# record RESULT NAME: RESULT is passed, failed or skipped.
record() {
	printf '%s %s\n' "$1" "$2" >>"$tally"
}

# check NAME COMMAND...: one check of a stage. Goes on after a failure.
check() {
	local name=$1 code

	shift
	set +e
	( # not on the left of ||, where -e would not count
		set -e
		"$@"
	)
	code=$?
	set -e
	case $code in
	0) record passed "$stage: $name" ;;
	77) record skipped "$stage: $name" ;;
	*)
		record failed "$stage: $name"
		printf 'FAILED: %s (exit code %d)\n' "$name" "$code"
		;;
	esac
	return 0
}

# meson_test BUILD_DIR LOG_NAME ARGUMENT...: runs and counts.
meson_test() {
	local build=$1 log=$2 code=0

	shift 2
	rm -f "$build/meson-logs/$log"*
	# Tests wait more than they work; the serial ones are not concerned.
	meson test -C "$build" --no-rebuild --logbase "$log" --print-errorlogs --num-processes 4 "$@" || code=$?
	python3 - "$build/meson-logs" "$log" "$stage" >>"$tally" <<-'PYTHON'
		import glob, json, sys
		words = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}
		logs, name, stage = sys.argv[1:]
		for path in glob.glob(f"{logs}/{name}*.json"):
		    for line in open(path):
		        test = json.loads(line)
		        print(words.get(test["result"], "failed"), f'{stage}: {test["name"]}')
	PYTHON
	[ "$code" -eq 0 ] || grep -q "^failed $stage: " "$tally" || record failed "$stage: meson test"
}

# ---- building ----

# build NAME OPTION...: build/NAME, with the compiler in $CC; quiet unless it fails.
build() {
	local directory=$top/$1 name=$1

	shift
	if [ ! -e "$directory/build.ninja" ] || [ "$(cat "$directory/options" 2>/dev/null)" != "$CC $*" ]; then
		rm -rf "$directory"
		if ! meson setup "$directory" "$source" --werror "$@" >"$top/logs/setup-$name.log" 2>&1; then
			tail -n 40 "$top/logs/setup-$name.log"
			return 1
		fi
		echo "$CC $*" >"$directory/options"
	fi
	if ! ninja -C "$directory" >"$top/logs/build-$name.log" 2>&1; then
		grep -E -A 12 'FAILED|error:|warning:' "$top/logs/build-$name.log" | head -n 80
		return 1
	fi
}

with_ccache() {
	if command -v ccache >/dev/null; then
		echo "ccache $1"
	else
		echo "$1"
	fi
}

build_gcc() {
	CC=$(with_ccache gcc) build gcc
}

build_clang() {
	CC=$(with_ccache clang) build clang -Dbench=true
}

build_sanitize() {
	CC=$(with_ccache gcc) build sanitize -Db_sanitize=address,undefined
}

build_release() {
	CC=$(with_ccache gcc) build release --buildtype=release -Dbench=true -Dtests=false
}

# ---- stages ----

stage_packages() {
	local package missing=()

	for package in "${packages[@]}"; do
		dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
			missing+=("$package")
	done
	if [ ${#missing[@]} -eq 0 ]; then
		echo "all there"
	elif [ "$(id -u)" -ne 0 ]; then
		echo "missing, and only root may install them: ${missing[*]}"
		return 77
	else
		echo "installing ${missing[*]}"
		export DEBIAN_FRONTEND=noninteractive
		{
			apt-get --quiet=2 update
			apt-get --quiet=2 --yes --no-install-recommends install "${missing[@]}"
		} >"$top/logs/apt.log" 2>&1 || {
			tail -n 20 "$top/logs/apt.log"
			return 1
		}
	fi
}

stage_source() {
	local scripts

	check "rules" python3 "$source/tests/check-source.py" "$source"
	mapfile -t scripts < <(git -C "$source" ls-files --cached --others --exclude-standard '*.sh' .ci/run)
	cd "$source"
	check "shellcheck" shellcheck --severity=warning "${scripts[@]}"
}

stage_gcc() {
	check "build" build_gcc
}

stage_unit() {
	build_gcc
	meson_test "$top/gcc" unit --suite unit --suite bus
}

stage_documents() {
	local page

	build_gcc
	for page in "$source"/docs/man/*; do
		check "${page##*/}" renders_cleanly "$page"
	done
	check "agreement" python3 "$source/tests/check-documents.py" "$source" "$top/gcc/requestor/vssctl"
}

renders_cleanly() {
	local complaints

	# Pages have no date of their own: they are as old as the program.
	complaints=$(mandoc -T lint -W warning "$1" | grep -v 'missing date' || true)
	[ -z "$complaints" ] || { echo "$complaints"; return 1; }
}

stage_clang() {
	check "build" build_clang
}

stage_sanitize() {
	build_sanitize
	meson_test "$top/sanitize" unit --suite unit --suite bus --timeout-multiplier 3
}

# Not these: valgrind 3.19 knows no openat2(2), and what the pool of workers does goes by the clock.
beyond_valgrind='^(place|btrfs-store|bundled|workers)$'

stage_valgrind() {
	local logs=$top/logs/valgrind names

	build_gcc
	rm -rf "$logs"
	mkdir -p "$logs"
	mapfile -t names < <(meson test -C "$top/gcc" --list --suite unit 2>/dev/null | sed -n 's|.* / ||p' |
		grep -vE "$beyond_valgrind")
	# Children that a test starts are not followed: they are other programs.
	meson_test "$top/gcc" valgrind "${names[@]}" --timeout-multiplier 10 --wrap \
		"valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --track-fds=yes --log-file=$logs/%p"
	check "descriptors" no_descriptor_left "$logs"
}

# What valgrind says of a descriptor that is open at the end and was not at the start.
no_descriptor_left() {
	local log left=0

	for log in "$1"/*; do
		awk '/Open (file descriptor|AF_)/ { what = $0; getline; if ($0 !~ /inherited from parent/) { print what; print; n++ } }
			END { exit n > 0 }' "$log" >"$log.left" || {
			cat "$log.left"
			left=1
		}
		rm -f "$log.left"
	done
	return "$left"
}

stage_system() {
	local whole=()

	needs_root
	build_gcc
	# Tests on real volumes wait more than they work: machines have the other processor meanwhile.
	if [ "$level" = default ] && [ ${#only[@]} -eq 0 ]; then
		(stage=machine && stage_machine) >"$top/logs/machine.log" 2>&1 &
	fi
	[ "$level" = long ] || whole=(--no-suite whole)
	meson_test "$top/gcc" system --suite system --no-suite container --no-suite newcomer "${whole[@]}"
	wait
	[ ! -e "$top/logs/machine.log" ] || grep -E '^ *[0-9]+/|FAILED|^(Ok|Fail|Timeout)' "$top/logs/machine.log" || true
}

# Machines of one processor each, which wait more than they work.
stage_machine() {
	local whole=()

	needs_root
	build_gcc
	[ "$level" = long ] || whole=(--no-suite whole)
	meson_test "$top/gcc" machine --suite machine "${whole[@]}" --num-processes "$([ "$level" = long ] && echo 2 || echo 1)"
}

stage_container() {
	needs_root
	build_gcc
	meson_test "$top/gcc" container --suite container
}

stage_quickstart() {
	needs_root
	build_gcc
	meson_test "$top/gcc" quickstart --suite newcomer
}

stage_fuzz() {
	CC=$(with_ccache clang) build fuzz -Dfuzz=true -Dtests=false -Dexamples=false
	meson_test "$top/fuzz" fuzz --suite fuzz
}

stage_stress() {
	needs_root
	build_sanitize
	if [ "$level" = long ]; then
		meson_test "$top/sanitize" system --suite system --no-suite newcomer --timeout-multiplier 3
	else
		export VSSD_TEST_LEVEL=fast
		meson_test "$top/sanitize" system labels writer-failures --timeout-multiplier 3
	fi
}

stage_options() {
	local option

	check "all parts left out" build_without bare -Dprovider-btrfs=disabled -Dprovider-lvm=disabled -Dwriter-script=disabled -Dwriter-postgresql=disabled -Dwriter-mariadb=disabled -Dwriter-redis=disabled -Dwriter-qemu=disabled -Dlibvirt=disabled -Dexamples=false -Ddocs=false
	[ "$level" = long ] || return 0
	for option in provider-btrfs=disabled provider-lvm=disabled writer-script=disabled writer-postgresql=disabled writer-mariadb=disabled writer-redis=disabled writer-qemu=disabled libvirt=disabled examples=false docs=false tests=false bench=true; do
		check "$option" build_without "${option%=*}" "-D$option"
	done
}

# build_without NAME OPTION...: what remains builds, passes its tests and can be installed.
build_without() {
	local name=option-$1

	shift
	CC=$(with_ccache gcc) build "$name" "$@" || return 1
	DESTDIR=$top/$name/destination meson install -C "$top/$name" --no-rebuild --quiet
	rm -rf "$top/$name/destination"
	case " $* " in
	*" -Dtests=false "*) ;;
	*) meson_test "$top/$name" unit --suite unit --suite bare ;;
	esac
}

stage_bench() {
	local rounds=3

	needs_root
	build_release
	[ "$level" != long ] || rounds=30
	check "benchmarks" "$source/tests/bench/run.sh" --build "$top/release" --rounds "$rounds"
	[ "$level" != long ] || check "applications" "$source/tests/bench/run.sh" --build "$top/release" --rounds 20 applications
	[ "$level" != long ] || check "freezes" "$source/tests/bench/run.sh" --build "$top/release" --rounds 20 freeze
}

needs_root() {
	if [ "$(id -u)" -ne 0 ]; then
		echo "skipped: needs root"
		exit 77
	fi
}

# ---- the run ----

stage_names() {
	awk -v level="$level" 'NF { for (i = 2; i <= NF && $i ~ /^(fast|default|long)$/; i++) if ($i == level) print $1 }' <<<"$stages"
}

stage_title() {
	awk -v name="$1" '$1 == name { i = 2; while ($i ~ /^(fast|default|long)$/) i++; for (; i <= NF; i++) printf "%s ", $i }' <<<"$stages"
}

run_stage() {
	local stage=$1 begin=$SECONDS code=0 before

	before=$(grep -c '^failed ' "$tally" || true)
	printf '\n=== %s: %s\n' "$stage" "$(stage_title "$stage")"
	set +e
	(
		set -e
		"stage_$stage"
	) </dev/null 2>&1 | tee "$top/logs/$stage.log"
	code=${PIPESTATUS[0]}
	set -e
	if [ "$code" -eq 77 ]; then
		record skipped "$stage"
	elif [ "$code" -ne 0 ] && [ "$(grep -c '^failed ' "$tally" || true)" -eq "$before" ]; then
		record failed "$stage"
	elif ! grep -q " $stage\(:\|$\)" "$tally"; then
		record passed "$stage"
	fi
	printf '=== %s: %d s\n' "$stage" $((SECONDS - begin))
	printf '%6d s  %s\n' $((SECONDS - begin)) "$stage" >>"$top/logs/times"
}

usage() {
	sed -n 's/^# \{0,1\}//; 6,11p' "${BASH_SOURCE[0]}" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--fast) level=fast ;;
	--long) level=long ;;
	--list) list=yes ;;
	--only)
		[ $# -gt 1 ] || usage
		only+=("$2")
		shift
		;;
	*) usage ;;
	esac
	shift
done

mapfile -t names < <(stage_names)
if [ $list = yes ]; then
	for name in "${names[@]}"; do
		printf '%-11s %s\n' "$name" "$(stage_title "$name")"
	done
	exit 0
fi
if [ ${#only[@]} -gt 0 ]; then
	names=("${only[@]}")
	for name in "${names[@]}"; do
		declare -F "stage_$name" >/dev/null || usage
	done
fi

mkdir -p "$top/logs"
tally=$top/logs/tally
: >"$tally"
: >"$top/logs/times"
# Debian's own tools, whatever else this machine has.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export LC_ALL=C.UTF-8
export VSSD_TEST_LEVEL=$level
# The same objects for every clone.
export CCACHE_BASEDIR=$source CCACHE_NOHASHDIR=1
export ASAN_OPTIONS=strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
unset CFLAGS CXXFLAGS LDFLAGS DESTDIR DBUS_SYSTEM_BUS_ADDRESS

for name in "${names[@]}"; do
	run_stage "$name"
done

printf '\n=== Times\n'
cat "$top/logs/times"
printf '%6d s  in all\n' "$SECONDS"
if grep -q '^skipped ' "$tally"; then
	printf '\nSkipped:\n'
	sed -n 's/^skipped /    /p' "$tally"
fi
if grep -q '^failed ' "$tally"; then
	printf '\nFailed (logs are in %s):\n' "${top#"$PWD/"}/logs"
	sed -n 's/^failed /    /p' "$tally"
fi
passed=$(grep -c '^passed ' "$tally" || true)
failed=$(grep -c '^failed ' "$tally" || true)
skipped=$(grep -c '^skipped ' "$tally" || true)
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
