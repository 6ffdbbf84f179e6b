#!/usr/bin/env bash
# A rollout of a real server, steered by hand from its first step until it is finished. Usage: rollout_steer.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

stage() { "$flagctl" get "$1" -o json 2>/dev/null | jq -r '.stage'; }
has_stage() { [ "$(stage "$1")" = "$2" ]; }
plan='{"plan": [{"pct": 1}, {"pct": 5}, {"pct": 25, "approval": true}, {"pct": 50}, {"pct": 100}], "hold": "1h"}'
planned() { # VARIANT
    printf '"a": {"control": "c", "variant": "%s", "rollout": %s}' "$1" "$plan"
}
flags_file "$(planned v), $(flag half 50)"
start_server
wait_until has_stage a canary-1pct

case_ "advance goes up by hand; set lowers the cap and lifts it, and says where the plan is"
run 0 "$flagctl" advance a --reason "nobody else is in"
expect_match '^now: 5 %, canary-5pct, version [0-9]+$' "$output"
expect_match '^undo: flagctl set a 1 ' "$output"
expect 5 "$(share a)"
run 0 "$flagctl" set a 25
expect_match '^cap is now 25 %, still serving 5 % .step 2 of 5.$' "$output"
run 0 "$flagctl" set a 3
expect_match '^cap is now 3 %, serving 3 % .step 2 of 5.$' "$output"
expect 3 "$(share a)"
run 0 "$flagctl" set a 100
expect_match '^cap is now 100 %, serving 5 % .step 2 of 5.$' "$output"
run 1 "$flagctl" advance a --to 2 --reason "down"
expect_match 'is not above 5 %' "$errors"

case_ "pause, resume, approve, waive, freeze and thaw are kept by the server, and twice is no error"
run 0 "$flagctl" pause a
run 0 "$flagctl" pause a -o json
expect "true 5" "$(field '"\(.already) \(.rollout_pct)"')"
run 0 "$flagctl" resume a
run 0 "$flagctl" approve a --reason "seen"
run 0 "$flagctl" approve a -o json
expect true "$(field .already)"
run 0 "$flagctl" waive a min_users --for 2h --reason "few use it"
run 1 "$flagctl" waive a file_cap --reason x
expect_match 'cannot be waived' "$errors"
run 0 "$flagctl" freeze --reason "black friday"
expect_match 'black friday' "$output"
run 0 "$flagctl" freeze --reason "again" -o json
expect true "$(field .already)"
run 0 "$flagctl" thaw

case_ "drill: the way back is measured without touching anybody, and live, and history has it"
run 0 "$flagctl" drill a -o json
expect "false true" "$(field '"\(.failed) \(.ms > 0)"')"
expect 5 "$(share a)"
run 0 "$flagctl" advance a --to 50 --reason x
run 0 "$flagctl" drill a --live
expect_match 'its share is back$' "$output"
expect 50 "$(share a)"
run 0 "$flagctl" history a
expect_match 'drill_ended +a .*root .*the way back took [0-9.]+ ms' "$output"
[ "$("$flagctl" list -o json | jq '.flags | length')" = 2 ] || fail "the hidden flag is still there"

case_ "rollback takes it from everyone, clear --resume brings it back at 10 % at most, unkill --resume likewise"
run 0 "$flagctl" rollback a --reason "it hurts"
expect rolled-back "$(stage a)"
expect 0 "$(share a)"
run 1 "$flagctl" advance a --reason x
expect_match 'flagctl clear a --reason' "$errors"
run 0 "$flagctl" rollback a -o json
expect true "$(field .already)"
run 0 "$flagctl" clear a --reason "mended" --resume
expect 5 "$(share a)"
run 0 "$flagctl" kill a
run 0 "$flagctl" unkill a --resume
expect 5 "$(share a)"
run 0 "$flagctl" rollback a
run 0 "$flagctl" clear a --reason "from the beginning"
wait_until has_stage a canary-1pct

case_ "finish: refused below 100 %, and while the file's variant is not what users have; then nobody gets another value"
run 1 "$flagctl" finish a
expect_match 'it serves 1 % .step 1 of 5.' "$errors"
run 0 "$flagctl" advance a --to 100 --reason x
wait_until has_stage a full
flags_file "$(planned other), $(flag half 50)"
"$flagctl" reload >/dev/null || :
run 7 "$flagctl" finish a
expect v "$("$flagctl" model a anyone --fallback none)"
flags_file "$(planned v), $(flag half 50)"
for user in $(seq 20); do "$flagctl" model a "$user" --fallback none; done >"$work/before"
run 0 "$flagctl" finish a
expect_match 'still being watched' "$errors"
wait_until has_share a 0
for user in $(seq 20); do "$flagctl" model a "$user" --fallback none; done >"$work/after"
cmp "$work/before" "$work/after"
"$flagctl" lint "$file"

case_ "init: a new flag begins by itself"
run 0 "$flagctl" init new --from-model m1 --to-model m2
wait_until has_stage new canary-1pct
