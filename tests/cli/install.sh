#!/usr/bin/env bash
# What is installed serves a program: into a prefix, with DESTDIR, moved afterwards; consumers in C and C++ by
# find_package, pkg-config and add_subdirectory are built and run.
# Usage: install.sh BUILD_DIRECTORY
set -euo pipefail

build=$(cd "${1:?usage: install.sh BUILD_DIRECTORY}" && pwd)
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}
has() {
    [ -f "$1" ] || fail "not installed: ${1#"$work"/}"
}

export CC CXX
CC=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
CXX=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
unset CFLAGS CXXFLAGS CMAKE_PREFIX_PATH PKG_CONFIG_PATH DESTDIR

# ---- into a prefix, which is then moved: nothing may have its path baked in but the unit ----
cmake --install "$build" --prefix "$work/first" >"$work/log" || { cat "$work/log"; exit 1; }
for file in include/flagshm.h share/flagshm/flags.schema.json share/flagshm/flags.example.json \
    lib/systemd/system/flagshmd.service lib/sysusers.d/flagshm.conf lib/tmpfiles.d/flagshm.conf \
    share/pkgconfig/flagshm.pc share/cmake/flagshm/flagshmConfig.cmake \
    share/bash-completion/completions/flagctl share/zsh/site-functions/_flagctl \
    share/fish/vendor_completions.d/flagctl.fish \
    share/man/man8/flagshmd.8.gz share/man/man1/flagctl.1.gz share/man/man3/flagshm.3.gz \
    share/man/man5/flagshm-flags.5.gz share/man/man5/flagshm-notify.5.gz; do
    has "$work/first/$file"
done
for program in sbin/flagshmd bin/flagctl; do
    [ -x "$work/first/$program" ] || fail "not a program: $program"
done
cmp -s "$source_dir/client/flagshm.h" "$work/first/include/flagshm.h" || fail "the header is another"
grep -q "^ExecStart=$work/first/sbin/flagshmd " "$work/first/lib/systemd/system/flagshmd.service" ||
    fail "the unit does not name the installed flagshmd"
grep -q "@" <(grep -v '^#' "$work/first/lib/systemd/system/flagshmd.service" | grep '^Exec\|^Env' |
    sed 's/=@system//') && fail "the unit holds an unreplaced name"
"$work/first/bin/flagctl" lint "$work/first/share/flagshm/flags.example.json" >"$work/log" || fail "the example file does not pass lint"
"$work/first/sbin/flagshmd" --version >"$work/version" || fail "flagshmd --version"
version=$(sed -n 's/^#define FLAGSHM_VERSION  *"\(.*\)"/\1/p' "$source_dir/client/flagshm.h")
grep -q "$version" "$work/version" || fail "flagshmd does not say version $version"
mv "$work/first" "$work/moved"

# ---- with DESTDIR: below it and nowhere else ----
DESTDIR="$work/stage" cmake --install "$build" --prefix /opt/flagshm >"$work/log" || fail "DESTDIR: $(cat "$work/log")"
has "$work/stage/opt/flagshm/include/flagshm.h"
has "$work/stage/opt/flagshm/lib/systemd/system/flagshmd.service"
[ ! -e /opt/flagshm ] || fail "DESTDIR is not heeded: /opt/flagshm exists"
grep -q '^ExecStart=/opt/flagshm/sbin/flagshmd ' "$work/stage/opt/flagshm/lib/systemd/system/flagshmd.service" ||
    fail "DESTDIR has got into the unit"
grep -rIl "$work" "$work/stage" >"$work/leaks" || true
[ ! -s "$work/leaks" ] || fail "DESTDIR has got into: $(cat "$work/leaks")"

# ---- a consumer, in C and in C++, strict ----
mkdir "$work/consumer"
cat >"$work/consumer/uses.c" <<'C'
#include "flagshm.h"
#include <stdio.h>

int main(void)
{
    struct flagshm flags;
    struct flagshm_decision d;
    int error = flagshm_open(&flags, "consumer-that-no-server-serves");
    const char *model = flagshm_model(&flags, "f", "user-1", "fallback", &d);
    printf("%d %s %s %s\n", error == -ENOENT, model, flagshm_reason_name(d.reason), FLAGSHM_VERSION);
    flagshm_close(&flags);
    return 0;
}
C
cp "$work/consumer/uses.c" "$work/consumer/uses.cc"
expected="1 fallback NOT_READY $version"
check_output() { # NAME PROGRAM
    local said
    said=$("$2") || fail "$1: the program ends with $?"
    [ "$said" = "$expected" ] || fail "$1: \"$said\", expected \"$expected\""
}
cat >"$work/consumer/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.20)
project(consumer C CXX)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 11)
set(CMAKE_CXX_EXTENSIONS OFF)
add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
if(SOURCE)
    add_subdirectory(${SOURCE} flagshm)
else()
    find_package(flagshm ${WANTED} CONFIG REQUIRED)
endif()
add_executable(uses_c uses.c)
target_link_libraries(uses_c PRIVATE flagshm::flagshm)
add_executable(uses_cxx uses.cc)
target_link_libraries(uses_cxx PRIVATE flagshm::flagshm)
CMAKE
with_cmake() { # NAME ARGUMENTS...
    local name=$1
    shift
    if ! { cmake -S "$work/consumer" -B "$work/$name" "$@" && cmake --build "$work/$name"; } >"$work/log" 2>&1; then
        fail "$name: $(tail -n 20 "$work/log")"
        return
    fi
    check_output "$name, C" "$work/$name/uses_c"
    check_output "$name, C++" "$work/$name/uses_cxx"
}
with_cmake find_package -DCMAKE_PREFIX_PATH="$work/moved" -DWANTED="${version%.*}"
with_cmake add_subdirectory -DSOURCE="$source_dir"
for dependency in libcjson sqlite3 criterion; do
    ! grep -qi "$dependency" "$work/add_subdirectory/CMakeCache.txt" || fail "add_subdirectory looks for $dependency"
done
# A version that is not compatible is refused.
! cmake -S "$work/consumer" -B "$work/too_new" -DCMAKE_PREFIX_PATH="$work/moved" -DWANTED=99.0 >"$work/log" 2>&1 ||
    fail "find_package(flagshm 99.0) is content with $version"

with_pkg_config() { # NAME COMPILER SOURCE STANDARD
    local flags words
    flags=$(PKG_CONFIG_PATH="$work/moved/share/pkgconfig" pkg-config --cflags --libs "flagshm >= $version") ||
        { fail "$1: pkg-config"; return; }
    eval "words=($flags)" # words as a shell reads them: it escapes the spaces of a path
    "$2" "-std=$4" -Wall -Wextra -Wpedantic -Wconversion -Werror "$work/consumer/$3" "${words[@]}" -o "$work/$1" ||
        { fail "$1 does not compile"; return; }
    check_output "$1" "$work/$1"
}
with_pkg_config pkg_config_c "$CC" uses.c c11
with_pkg_config pkg_config_cxx "$CXX" uses.cc c++11

[ "$failures" = 0 ] || exit 1
echo "installed, moved and staged; consumers by find_package, add_subdirectory and pkg-config run in C and C++"
