#!/usr/bin/env bash
# Compiles client/flagshm.h as strangers do: every standard, both compilers, strict modes, after system headers, twice, from several
# units, C and C++ together, 32 bits, aarch64, musl. And holds what the programs print against each other. What is not installed is
# skipped, with a line that says so.
# Usage: header.sh BUILD_DIRECTORY
set -euo pipefail

build=$(cd "${1:?usage: header.sh BUILD_DIRECTORY}" && pwd)
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
publish=$(find "$build" -name table_publish -type f -perm -u+x | head -n 1)
[ -n "$publish" ] || { echo "table_publish is not built in $build" >&2; exit 1; }
work=$(mktemp -d)
export FLAGSHM_INSTANCE="h$$-header"
unset FLAGSHM_DIR FLAGSHM_OWNER
clean() {
    "$publish" --instance "$FLAGSHM_INSTANCE" --remove >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT

cd "$source_dir" # their path may hold a space: lists of words must not
include="-Iclient"
warn="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wcast-align -Wundef -Werror"
have() { command -v "$1" >/dev/null 2>&1; }
skip() { echo "skipped: $*"; }
faults=0
fault() { echo "FAIL: $*" >&2; faults=$((faults + 1)); }
# must WHAT COMMAND...: the command must succeed; what it says is shown where it does not.
must() {
    local what=$1
    shift
    "$@" >"$work/said" 2>&1 || { fault "$what"; head -n 20 "$work/said" >&2; }
}

# ---- every standard, strict, optimised (some warnings need that) ----
compilers=""
for cc in gcc clang; do
    if have $cc; then compilers="$compilers $cc"; else skip "$cc is not installed"; fi
done
for cc in $compilers; do
    for std in c11 c17 c2x; do
        must "$cc -std=$std" $cc -std=$std $warn -O2 $include -c -o "$work/unit.o" tests/header_unit.c
        must "$cc -std=$std probe" $cc -std=$std $warn $include -fsyntax-only tests/header_probe.c
    done
    cxx=${cc/gcc/g++}
    cxx=${cxx/clang/clang++}
    have $cxx || { skip "$cxx is not installed"; continue; }
    for std in c++11 c++14 c++17 c++20; do
        must "$cxx -std=$std" $cxx -std=$std $warn -O2 $include -c -o "$work/unit.o" tests/header_unit.cpp
    done
done

# ---- alone, and after any system header, whatever it was asked for ----
headers="assert.h ctype.h dirent.h errno.h fcntl.h inttypes.h limits.h locale.h math.h netdb.h poll.h pthread.h sched.h semaphore.h
 setjmp.h signal.h stdarg.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h strings.h sys/file.h sys/ioctl.h sys/ipc.h
 sys/mman.h sys/resource.h sys/select.h sys/shm.h sys/socket.h sys/stat.h sys/syscall.h sys/time.h sys/types.h sys/uio.h sys/un.h
 sys/wait.h syslog.h time.h unistd.h wchar.h"
: >"$work/all.h"
for header in $headers; do echo "#include <$header>" >>"$work/all.h"; done
mkdir "$work/after"
for header in $headers; do
    printf '#include <%s>\n#include "flagshm.h"\n' "$header" >"$work/after/$(echo "$header" | tr / _).c"
done
echo '#include "flagshm.h"' >"$work/alone.c"
printf '#include "all.h"\n#include "flagshm.h"\n' | tee "$work/all.c" >"$work/all.cpp"
for cc in $compilers; do
    for define in NOTHING_=1 _GNU_SOURCE=1; do
        must "$cc -std=c11 -D$define after each header" $cc -std=c11 $warn "-D$define" $include -fsyntax-only "$work"/after/*.c
    done
    for define in NOTHING_=1 _GNU_SOURCE=1 _POSIX_C_SOURCE=1 _POSIX_C_SOURCE=200809L _XOPEN_SOURCE=500 _FILE_OFFSET_BITS=64; do
        must "$cc -std=c11 -D$define" $cc -std=c11 $warn "-D$define" $include -fsyntax-only "$work/alone.c" "$work/all.c"
    done
    for std in c17 c2x; do
        must "$cc -std=$std after all" $cc -std=$std $warn $include -fsyntax-only "$work/alone.c" "$work/all.c"
    done
    cxx=${cc/gcc/g++}
    cxx=${cxx/clang/clang++}
    have $cxx || continue
    for std in c++11 c++14 c++17 c++20; do
        must "$cxx -std=$std after all" $cxx -std=$std $warn $include -fsyntax-only "$work/all.cpp"
    done
done
echo "compiled: every standard and header"

# ---- no library, no mutable static, nothing exported ----
for cc in $compilers; do
    $cc -std=c11 -O2 $include -c -o "$work/unit.o" tests/header_unit.c
    nm "$work/unit.o" >"$work/names"
    # data is read only (r), functions are local (t) but the unit's own
    if grep -E ' [BbDdCGgSs] ' "$work/names"; then fault "$cc: the header has mutable statics"; fi
    [ "$(grep -c ' T ' "$work/names")" = 1 ] || fault "$cc: the header exports functions"
    # what it asks of the C library: no allocation, no stdio, no threads
    allowed=" clock_gettime close fstat geteuid getuid memcpy memset mmap munmap open secure_getenv stat strlen strrchr syscall"
    for name in $(awk '$1 == "U" { print $2 }' "$work/names"); do
        case "$name" in
        __errno_location | __stack_chk_fail | _GLOBAL_OFFSET_TABLE_ | __fstat* | __fxstat | __xstat | fstat64 | open64 | stat64) ;;
        *) case "$allowed " in *" $name "*) ;; *) fault "$cc: the header calls $name" ;; esac ;;
        esac
    done
done

# ---- a table to read ----
cat >"$work/flags.json" <<'JSON'
{ "flags": {
    "half": { "control": "claude-haiku-4-5", "variant": "claude-sonnet-4-5", "rollout_pct": 50 },
    "all": { "control": "a", "variant": {"model": "b", "temperature": 0.2}, "rollout_pct": 100 },
    "off": { "control": "a", "variant": "b", "rollout_pct": 10, "enabled": false },
    "forced": { "control": "a", "variant": "b", "rollout_pct": 5, "force": {"variant": ["user-0003", "user-00004"]} },
    "many": { "control": "c", "rollout_pct": 90, "variants": { "x": {"value": "mx", "weight": 1}, "y": {"value": "my", "weight": 3},
              "z": {"value": {"model": "mz", "system": "LONG"}, "weight": 2} } },
    "a-flag-whose-name-is-as-long-as-a-name-may-be-64-bytes-exactly-x":
        { "control": "a", "variant": "b", "rollout_pct": 33.333, "salt": "s" } } }
JSON
sed -i "s/LONG/$(printf 'x%.0s' $(seq 1000))/" "$work/flags.json"
flags="half all off forced many a-flag-whose-name-is-as-long-as-a-name-may-be-64-bytes-exactly-x unknown"
"$publish" --instance "$FLAGSHM_INSTANCE" "$work/flags.json" >/dev/null

# ---- linked from two units of C and one of C++; the compilers agree ----
sources="tests/header_probe.c tests/header_unit.c"
link() { # CC CSTD CXX CXXSTD OUT FLAGS...
    local cc=$1 cstd=$2 cxx=$3 cxxstd=$4 out=$5
    shift 5
    local objects=() source
    for source in $sources; do
        $cc -std=$cstd $warn -O2 $include "$@" -c -o "$out-$(basename "$source" .c).o" "$source"
        objects+=("$out-$(basename "$source" .c).o")
    done
    $cxx -std=$cxxstd $warn -O2 $include "$@" -c -o "$out-cpp.o" tests/header_unit.cpp
    $cxx "$@" -o "$out" "${objects[@]}" "$out-cpp.o"
}
compare() { # NAME COMMAND...: prints what the first of them printed
    local name=$1
    shift
    "$@" layout >"$work/layout.$name" && "$@" hash >"$work/hash.$name" && "$@" table $flags >"$work/table.$name" ||
        { fault "$name: the probe failed"; return; }
    for part in layout hash table; do
        if [ ! -e "$work/$part.first" ]; then
            cp "$work/$part.$name" "$work/$part.first"
        elif ! diff "$work/$part.first" "$work/$part.$name" >"$work/difference"; then
            fault "$name: $part differs"
            head -n 5 "$work/difference" >&2
        fi
    done
    echo "agrees: $name"
}
if have gcc && have g++; then
    link gcc c11 g++ c++11 "$work/gcc" && compare gcc "$work/gcc"
    [ "$(wc -l <"$work/table.first")" -gt 1400 ] || fault "the probe printed too little"
    grep -q TARGETING_MATCH "$work/table.first" || fault "no id was forced"
    grep -q TARGETING_KEY_MISSING "$work/table.first" || fault "no id was missing"
    grep -q FLAG_NOT_FOUND "$work/table.first" || fault "no flag was unknown"
fi
if have clang && have clang++; then
    link clang c2x clang++ c++20 "$work/clang" && compare clang "$work/clang"
fi
if have clang && have g++; then
    link clang c11 g++ c++17 "$work/mixed" && compare clang+g++ "$work/mixed"
fi

# ---- other machines, one table ----
# 32 bits beside 64: some systems lack the asm/ directory for it, some kernels do not run such programs.
m32="" run32=""
for machine in "-m32 -march=i686" "-m32 -march=i686 -isystem /usr/include/$(uname -m)-linux-gnu"; do
    if have gcc && printf '#include <sys/syscall.h>\nint main(void) { return 0; }' | gcc $machine -x c - -o "$work/try" 2>/dev/null; then
        m32=$machine
        break
    fi
done
if [ -z "$m32" ]; then
    skip "no 32-bit C library (lib32gcc-12-dev, libc6-dev-i386)"
else
    if ! "$work/try" 2>/dev/null; then
        if have qemu-i386 && qemu-i386 "$work/try"; then
            run32=qemu-i386
        else
            run32=none
            skip "this kernel runs no 32-bit programs, and there is no qemu-i386 (qemu-user): compiled only"
        fi
    fi
    for cc in $compilers; do
        # with a 64-bit time and files the structs of the C library change; ours may not
        wides=("")
        [ $cc != gcc ] || wides+=("-D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64")
        for wide in "${wides[@]}"; do
            must "$cc, 32 bits $wide" $cc -std=c11 $warn -O2 $m32 $wide $include -DHEADER_C_ONLY -o "$work/m32" $sources
            [ "$run32" = none ] || compare "$cc, 32 bits${wide:+, 64-bit time}" $run32 "$work/m32"
        done
    done
fi
if have aarch64-linux-gnu-gcc && have qemu-aarch64; then
    aarch64-linux-gnu-gcc -std=c11 $warn -O2 -static $include -DHEADER_C_ONLY -o "$work/arm" $sources &&
        compare aarch64 qemu-aarch64 "$work/arm"
else
    skip "no aarch64 compiler or no qemu-aarch64 (gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user)"
fi
if have musl-gcc; then
    musl-gcc -std=c11 $warn -O2 $include -DHEADER_C_ONLY -o "$work/musl" $sources && compare musl "$work/musl"
else
    skip "no musl-gcc (musl-tools)"
fi

# ---- the header's opening example is client/example.c, compiles strictly and runs ----
sed -n '/^ \*     #include "flagshm.h"$/,/^ \*     }$/ s/^ \*\(     \)\{0,1\}//p' "$source_dir/client/flagshm.h" >"$work/example.c"
diff "$work/example.c" "$source_dir/client/example.c" || fault "client/example.c is not the header's opening example"
sed -i 's/"half": {/"new_summarizer_model": {/' "$work/flags.json"
for cc in $compilers; do
    must "$cc: the example" $cc -std=c11 $warn -O2 $include -o "$work/example" "$work/example.c"
    [ "$(FLAGSHM_INSTANCE=h$$-nobody "$work/example" user-1)" = "claude-haiku-4-5
user-1: arm control, stage , bucket 4294967295, because NOT_READY" ] || fault "$cc: the example without a server"
done
"$publish" --instance "$FLAGSHM_INSTANCE" "$work/flags.json" >/dev/null
got=$("$work/example" user-1)
want=$(python3 -c 'import hashlib
h = int(hashlib.md5(b"new_summarizer_model:user-1").hexdigest(), 16)
arm = h % 100 < 50
print("claude-sonnet-4-5" if arm else "claude-haiku-4-5")
bucket = h % 100 * 1000 + h // 100 % 1000
print("user-1: arm", "variant," if arm else "control,", f"stage static-50pct, bucket {bucket}, because SPLIT")')
[ "$got" = "$want" ] || fault "the example says: $got, and should: $want"
echo "ran: the opening example"

[ $faults = 0 ] || { echo "$faults faults" >&2; exit 1; }
