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
block json 3 >"$work/third.json"
grep -q '"approval": true' "$work/third.json" || fail "the third JSON block is not the plan"
for example in first second third; do
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

case_ "a target of notices is one that the server takes"
mkdir "$work/notify.d"
block json 4 >"$work/notify.d/oncall"
chmod 600 "$work/notify.d/oncall"
cp "$work/third.json" "$file"
start_server --notify-dir "$work/notify.d"
"$flagctl" doctor >"$work/doctor" || :
! grep -q 'notify.d/oncall' "$work/doctor" || fail "doctor complains of the target: $(grep oncall "$work/doctor")"
chmod 644 "$work/notify.d/oncall"
"$flagctl" doctor >"$work/doctor" || :
grep -q 'notify.d/oncall' "$work/doctor" || fail "doctor does not see a target that everyone can read: $(cat "$work/doctor")"
stop_server
grep -q '"url"' "$work/notify.d/oncall" || fail "the fourth JSON block is no target"

case_ "every reason to wait has its row, with the server's own command"
awk '/^### What it waits for/ { on = 1 } /^### Who is told/ { on = 0 } on' "$readme" | sed -n 's/^| `\([a-z_]*\)` .*/\1/p' >"$work/rows"
sed -n 's/^    \[FLAGSHM_WAIT_[A-Z_]*\] = "\([a-z_]*\)",$/\1/p' "$source_dir/server/rollout_words.c" >"$work/reasons"
[ -s "$work/reasons" ] || fail "server/rollout_words.c names no reasons"
diff "$work/reasons" "$work/rows" || fail "the README's reasons to wait are not the server's"

case_ "the first canary works as it stands there"
walk() { # prints the shell blocks of that section, without the build
    awk '/^### / { on = $0 == "### A first canary" } on && $0 == "```" { inside = 0 } on && inside && n > 1 { print } on && $0 == "```sh" { inside = 1; n++ }' "$readme"
}
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$work/clone"
ln -s "$build" "$work/clone/build"
{
    echo "set -eum; cd '$work/clone'; trap 'kill \$(jobs -p) 2>/dev/null || :' EXIT"
    walk | sed "s/8642/$port/g; s/FLAGSHM_INSTANCE=canary/FLAGSHM_INSTANCE=$instance/; s/flagshm\.canary\./flagshm.$instance./"
} >"$work/walk.sh"
grep -q "flagctl approve" "$work/walk.sh" || fail "the section is not found"
(
    unset http_proxy HTTP_PROXY all_proxy ALL_PROXY
    timeout 150 bash "$work/walk.sh" >"$work/walked" 2>&1 </dev/null
) || fail "the walk ends with an error: $(cat "$work/walked")"
for line in ' canary-5pct .*approval' ' rolled-back ' 'guardrail .* rolled back from 5 % to 0 %: error_rate: .* calls failed' \
    ': cleared: ' ': approved' ': full, 100 %' ' complete ' '"control": "claude-sonnet-4-5"'; do
    grep -qe "$line" "$work/walked" || fail "the walk does not show \"$line\": $(cat "$work/walked")"
done
[ ! -e "$work/clone/canary" ] || fail "the walk leaves its directory"
! compgen -G "/dev/shm/flagshm.$instance.*" >/dev/null || fail "the walk leaves shared memory"

case_ "every command, option and path that the README names exists"
"$flagctl" --help >"$work/help"
"$flagshmd" --help >"$work/server_help"
"$source_dir/tools/quickstart" --help >"$work/quickstart_help"
for command in kill clear status init drill record eval call model; do "$flagctl" "$command" --help; done >"$work/command_help"
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
