#!/usr/bin/env bash
# What the README tells a stranger to copy compiles, runs, and is true; so is the header's opening example.
# Usage: readme.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

readme=$source_dir/README.md
compiler() { sed -n "s/^CMAKE_$1_COMPILER:[A-Z]*=//p" "$build/CMakeCache.txt"; }
block() { # LANGUAGE NUMBER: that block of the README
    awk -v language="$1" -v number="$2" \
        '$0 == "```" && inside { inside = 0; next } inside == 2 { print; next }
         $0 == "```" language && !inside { n++; inside = n == number ? 2 : 1; next } /^```/ { inside = !inside }' "$readme"
}
strict=(-Wall -Wextra -Wpedantic -Werror -O2 -I "$source_dir/client")

case_ "the flag files pass lint, and the first is the one that the tests call the seed"
block json 1 >"$work/first.json"
block json 2 >"$work/second.json"
grep -q answer_model "$work/second.json" || fail "the second JSON block is not the long example"
for example in first second; do
    expect_exit 0 "$flagctl" lint "$work/$example.json"
done
expect "$(jq -S . "$source_dir/tests/data/good/seed.json")" "$(jq -S . "$work/first.json")" "the first example"

case_ "the programs compile, and decide as the server's file says"
cp "$work/first.json" "$file"
start_server
block c 1 >"$work/summarize.c"
block cpp 1 >"$work/summarize.cc"
awk '/^ \*     #include "flagshm.h"/ { on = 1 } on && /^ \*$/ && closed { exit } on { sub(/^ \*     |^ \*$/, ""); print } on && /^}/ { exit }' \
    "$source_dir/client/flagshm.h" >"$work/header.c"
"$(compiler C)" -std=c11 "${strict[@]}" "$work/summarize.c" -o "$work/in_c"
"$(compiler CXX)" -std=c++11 "${strict[@]}" "$work/summarize.cc" -o "$work/in_cxx"
"$(compiler C)" -std=c11 "${strict[@]}" "$work/header.c" -o "$work/in_header"
for user in user-1 user-17 user-35 user-99; do
    arm=$("$flagctl" eval new_summarizer_model "$user" -o json | jq -r '.results[0].arm')
    model=$("$flagctl" model new_summarizer_model "$user" --fallback none)
    expect_match "^$user gets $model: arm $arm, because SPLIT, table [0-9]+\$" "$("$work/in_c" "$user")"
    expect_match "^$user gets $model: arm $arm, because SPLIT\$" "$("$work/in_cxx" "$user")"
    expect_match "^$user: arm $arm, stage .*, bucket [0-9]+, because SPLIT\$" "$("$work/in_header" "$user")"
done

case_ "without a server they fall back"
stop_server
rm -f /dev/shm/flagshm."$instance".*
expect_match "^user-1 gets claude-haiku-4-5: arm control, because NOT_READY, table 0\$" "$("$work/in_c" user-1)"

case_ "every command, option and path that the README names exists"
"$flagctl" --help >"$work/help"
"$flagshmd" --help >"$work/server_help"
"$flagctl" kill --help >"$work/kill_help"
grep -oE 'flagctl [a-z]+' "$readme" | sort -u | while read -r _ name; do
    case $name in
    and | shows | will) continue ;;
    esac
    grep -qE "^  $name( |\$)" "$work/help" || fail "flagctl has no $name"
done
grep -oE '`(client|server|tools|tests|\.ci)/[A-Za-z0-9_./-]*`' "$readme" | tr -d '`' | sort -u | while read -r path; do
    [ -e "$source_dir/$path" ] || fail "there is no $path"
done
grep -oE '`--[a-z-]+' "$readme" | tr -d '`' | sort -u | while read -r option; do
    [ "$option" = --prefix ] || grep -qe "$option" "$work"/*help || fail "nobody has $option"
done
