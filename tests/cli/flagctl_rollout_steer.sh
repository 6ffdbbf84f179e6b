#!/usr/bin/env bash
# The commands that change a rollout: approve, pause, resume, rollback, clear, waive, advance, freeze, thaw, drill, finish, init, set on a
# planned flag, unkill --resume. Against canned answers; the table and the file are a real server's. Usage: flagctl_rollout_steer.sh
# BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

answers_dir=$work/answers
fake=$work/fake.sock
mkdir "$answers_dir"
canned() { printf '%s\n' "$2" >"$answers_dir/$1.json"; } # VERB JSON
asked() { tail -n 1 "$answers_dir/asked"; }
start_fake() { # the real server's socket stands behind it
    mkfifo "$work/stop"
    /usr/bin/python3 "$source_dir/tests/cli/steer_fake.py" "$fake" "$answers_dir" "$work/sock" <"$work/stop" &
    children+=($!)
    exec 7>"$work/stop"
    wait_until test -S "$fake"
}
ctl=("$flagctl" --socket "$fake")

write_file '{
    "flags": {
        "a": {
            "control": "c",
            "variant": {"model": "v", "top_k" : 5},
            "rollout": {"plan": "b2b", "mode": "guard"},
            "owner": "ada"
        },
        "s": {"control": "c", "variant": "v", "rollout_pct": 100},
        "half": {"control": "c", "variant": "v", "rollout_pct": 50}
    }
}'
start_server
start_fake
wait_until has_share s 100

# ---- asking the server ----

case_ "each command asks its verb, tells the sentence, where the flag is now, and the undo"
done_answer='{"ok": true, "version": 12, "durable": true, "sentence": "by ada, it hurts", "stage": "rolled-back", "rollout_pct": 0}'
for verb in approve pause resume rollback clear waive advance freeze thaw; do canned $verb "$done_answer"; done
run 0 "${ctl[@]}" rollback a --reason "it hurts"
expect '{"flag": "a", "reason": "it hurts", "verb": "rollback"}' "$(asked)"
expect "a: by ada, it hurts
now: 0 %, rolled-back, version 12
undo: flagctl clear a --resume --reason TEXT --instance=$instance --socket=$fake" "$output"
run 0 "${ctl[@]}" pause a
expect '{"flag": "a", "verb": "pause"}' "$(asked)"
expect_match '^undo: flagctl resume a ' "$output"
run 0 "${ctl[@]}" resume a
expect '{"flag": "a", "verb": "resume"}' "$(asked)"
expect_match '^undo: flagctl pause a ' "$output"
run 0 "${ctl[@]}" clear a --reason "mended" --resume
expect '{"flag": "a", "reason": "mended", "resume": true, "verb": "clear"}' "$(asked)"
expect_match '^undo: flagctl rollback a ' "$output"
run 0 "${ctl[@]}" clear a -r mended
expect '{"flag": "a", "reason": "mended", "verb": "clear"}' "$(asked)"
run 0 "${ctl[@]}" approve a
expect '{"flag": "a", "verb": "approve"}' "$(asked)"
[[ $output != *undo* ]] || fail "an approval has no undo: $output"
run 0 "${ctl[@]}" waive a min_users --for 90m --reason "few use it"
expect '{"flag": "a", "for_s": 5400, "reason": "few use it", "verb": "waive", "wait": "min_users"}' "$(asked)"
run 0 "${ctl[@]}" waive a window --reason x
expect '{"flag": "a", "for_s": 86400, "reason": "x", "verb": "waive", "wait": "window"}' "$(asked)"
run 0 "${ctl[@]}" advance a --to 12.5 --reason x
expect '{"flag": "a", "reason": "x", "to_pct": 12.5, "verb": "advance"}' "$(asked)"
expect_match '^undo: flagctl rollback a ' "$output"
run 0 "${ctl[@]}" freeze --reason "black friday"
expect '{"reason": "black friday", "verb": "freeze"}' "$(asked)"
expect "by ada, it hurts
undo: flagctl thaw --instance=$instance --socket=$fake" "$output"
run 0 "${ctl[@]}" thaw
expect '{"verb": "thaw"}' "$(asked)"

case_ "the undo of an advance is the share that was served before it"
canned rollouts '{"ok": true, "version": 12, "frozen": null, "rollouts": [{"flag": "a", "planned": true, "state": "step", "rollout_pct": 5, "cap_pct": 100, "step": 2, "steps": 7}]}'
run 0 "${ctl[@]}" advance a --reason x
expect '{"flag": "a", "reason": "x", "verb": "advance"}' "$(asked)"
expect_match '^undo: flagctl set a 5 ' "$output"
rm "$answers_dir/rollouts.json"

case_ "JSON: the same in members that do not change"
run 0 "${ctl[@]}" rollback a -o json
expect '{"flag":"a","already":false,"sentence":"by ada, it hurts","stage":"rolled-back","rollout_pct":0,"durable":true,"version":12,"warnings":[]}' "$(jq -c 'del(.undo)' <<<"$output")"
expect_match '^flagctl clear a' "$(field .undo)"
run 0 "${ctl[@]}" thaw -o json
expect null "$(field .flag)"

case_ "already so is exit code 0, and a stop tells its undo all the same"
for verb in pause resume; do canned $verb '{"ok": true, "already": true, "version": 12, "sentence": "it is so already", "stage": "canary-5pct", "rollout_pct": 5}'; done
run 0 "${ctl[@]}" pause a
expect_match '^a: it is so already$' "$output"
expect_match '^undo: flagctl resume a ' "$output"
run 0 "${ctl[@]}" resume a -o json
expect "true null" "$(field '"\(.already) \(.undo)"')"
canned pause '{"ok": true, "already": true}'
run 0 "${ctl[@]}" pause a
expect_match '^a: paused already$' "$output"

case_ "what is not on the disk, and what the server warns of, is a warning"
canned rollback '{"ok": true, "version": 13, "durable": false, "warning": "no space left", "sentence": "done", "stage": "rolled-back", "rollout_pct": 0}'
run 0 "${ctl[@]}" rollback a
expect_match 'warning: it is done, but not written down yet, .*: no space left' "$errors"
run 0 "${ctl[@]}" rollback a -o json
expect_match 'no space left' "$(field '.warnings[0]')"
canned approve '{"ok": true, "durable": true, "warning": "the window is closed until Monday", "sentence": "done"}'
run 0 "${ctl[@]}" approve a
expect "flagctl: warning: the window is closed until Monday" "$errors"

case_ "refusals have their exit codes and the server's sentence"
canned clear '{"ok": false, "code": "no_such_flag", "message": "there is no flag \"b\""}'
expect_exit 4 "${ctl[@]}" clear b --reason x
expect_match 'there is no flag "b"' "$output"
canned advance '{"ok": false, "code": "refused", "message": "it is killed: `flagctl unkill a` first"}'
expect_exit 1 "${ctl[@]}" advance a --reason x
expect_match 'flagctl unkill a' "$output"
canned freeze '{"ok": false, "code": "denied", "message": "for the admin group"}'
expect_exit 1 "${ctl[@]}" freeze --reason x
run 1 "${ctl[@]}" freeze --reason x -o json
expect '{"error":{"code":1,"message":"for the admin group"}}' "$(jq -c . <<<"$errors")"
expect_exit 5 "$flagctl" --socket "$work/none.sock" pause a
expect_exit 4 "${ctl[@]}" pause 'a/b'

case_ "usage: what needs a reason says so, and no bad word reaches the server"
lines=$(wc -l <"$answers_dir/asked")
for line in "clear a" "advance a" "freeze" "waive a hold" "waive a hodl --reason x" "waive a hold --for 1y --reason x" "waive a hold --for 0s --reason x" "waive a hold --for 400d --reason x" \
    "waive a --reason x" "advance a --to 0 --reason x" "advance a --to 5% --reason x" "freeze a --reason x" "pause" "rollback a b"; do
    # shellcheck disable=SC2086 # words
    expect_exit 2 "${ctl[@]}" $line
done
expect_exit 2 "${ctl[@]}" clear a --reason "  "
expect_exit 2 "${ctl[@]}" waive a hodl --reason x
expect_match 'WAIT is one of hold, min_users, .*unwatched; got "hodl" .did you mean hold' "$output"
expect "$lines" "$(wc -l <"$answers_dir/asked")" "requests"

case_ "a reason that would steer a terminal is made harmless"
canned pause "$done_answer"
run 0 "${ctl[@]}" pause a --reason $'x\e[31m'
expect '{"flag": "a", "reason": "x?[31m", "verb": "pause"}' "$(asked)"
canned pause '{"ok": true, "sentence": "by \u001b[31mred"}'
run 0 "${ctl[@]}" pause a
expect_match '^a: by \?\[31mred$' "$output"

case_ "unkill --resume asks for it, and needs the server"
canned unkill '{"ok": true, "version": 12}'
run 0 "${ctl[@]}" unkill s --resume
expect '{"flag": "s", "resume": true, "verb": "unkill"}' "$(asked)"
rm "$answers_dir/unkill.json"

case_ "completions know what can be waived, and the plans"
expect "hold " "$("$flagctl" __complete waive a ho | cut -f1 | tr '\n' ' ')"
expect "" "$("$flagctl" __complete waive a file | cut -f1)"
expect "b2b b2c " "$("$flagctl" __complete init x --plan '' | cut -f1 | tr '\n' ' ')"

# ---- set ----

case_ "set: on a planned flag the cap, what is served, and where the plan is"
rollouts() { # ROLLOUT_PCT CAP_PCT STATE STEP
    canned rollouts "{\"ok\": true, \"version\": 12, \"frozen\": null, \"rollouts\": [{\"flag\": \"a\", \"planned\": true, \"state\": \"$3\", \"rollout_pct\": $1, \"cap_pct\": $2, \"step\": $4, \"steps\": 7}]}"
}
rollouts 5 25 step 2
run 0 "${ctl[@]}" set a 25
expect_match '^cap is now 25 %, serving 5 % .step 2 of 7.$' "$output" # the table of this server serves 0 %
rollouts 0 30 off null
run 0 "${ctl[@]}" set a 30
expect_match '^cap is now 30 %, still serving 0 % .not begun.$' "$output"
rollouts 0 31 rolled_back null
run 0 "${ctl[@]}" set a 31 -o json
expect "true false 0 rolled_back rolled back null" "$(field '"\(.is_cap) \(.served) \(.served_pct) \(.state) \(.why) \(.step)"')"
rm "$answers_dir/rollouts.json"

# ---- finish ----

case_ "finish: refused while not everyone has the variant"
run 1 "${ctl[@]}" finish half
expect_match 'half: not everyone has the variant yet: it serves 50 %' "$errors"
expect_match '^give it to everyone first: flagctl set half 100' "$errors"
rollouts 25 100 step 4
cp "$file" "$work/before.json"
run 1 "${ctl[@]}" finish a
expect_match 'it serves [0-9]+ % .step 4 of 7.' "$errors"
expect_match 'flagctl advance a --to 100 --reason TEXT' "$errors"
rollouts 50 50 full 7
expect_exit 1 "${ctl[@]}" finish a # a cap
expect_exit 4 "${ctl[@]}" finish nosuch
expect_exit 4 "${ctl[@]}" finish 'a/b'
cmp "$file" "$work/before.json"

case_ "finish: control gets the variant's bytes, the plan goes, nothing else changes; the file is sound and everyone keeps the value"
rollouts 95 100 complete 7
expect_exit 0 "${ctl[@]}" finish a --dry-run
cmp "$file" "$work/before.json"
run 0 "${ctl[@]}" finish a
expect_match '^a: control is now the variant, and the plan is gone in ' "$output"
expect_match '^undo: flagctl restore [0-9]+ .*# everyone gets the old control' "$output"
expect_match 'warning: the plan holds 100 % of the users back' "$errors" # this server's table serves 0 %
diff <(sed -e 's/"control": "c",$/"control": {"model": "v", "top_k" : 5},/' -e '/"rollout": /d' -e 's/"rollout_pct": 31/"rollout_pct": 0/' "$work/before.json") "$file"
"$flagctl" lint "$file"
expect 0 "$(share a)"
expect v "$("$flagctl" model a anyone --fallback none)"
run 0 "${ctl[@]}" finish a -o json
expect "true false" "$(field '"\(.already) \(.changed)"')"
rm "$answers_dir/rollouts.json"
run 0 "${ctl[@]}" finish s
expect v "$("$flagctl" model s anyone --fallback none)"
expect 0 "$(jq .flags.s.rollout_pct "$file")"

case_ "finish: a variant in the file that users do not have is not made everyone's"
flags_file "$(flag a 100)"
wait_until has_share a 100
kill -STOP "$server_pid"
flags_file '"a": {"control": "c", "variant": "new", "rollout_pct": 100}'
run 7 "$flagctl" --socket "$work/none.sock" finish a
expect_match 'the variant in the file is not the one that users have' "$errors"
kill -CONT "$server_pid"

case_ "finish: where no table is, it says what is not checked"
printf '{"flags": {%s}}' "$(flag a 100)" >"$work/other.json"
run 0 "$flagctl" --instance "none$$" finish a --file "$work/other.json"
expect_match 'whether everyone has the variant is not checked' "$errors"
expect v "$(jq -r .flags.a.control "$work/other.json")"

# ---- init ----

case_ "init: a good flag behind the last one, in the file's own layout"
write_file "$(printf '{\n\t"flags": {\n\t\t"a": {\n\t\t\t"control": "c",\n\t\t\t"variant": "v"\n\t\t}\n\t}\n}')"
cp "$file" "$work/before.json"
run 0 "${ctl[@]}" init new --from-model m1 --to-model m2 --shadow 10 --owner ada --expires 2999-01-01
expect_match '^new: written into ' "$output"
expect_match '^once a server has it, it begins by itself; what will happen when: flagctl plan new' "$output"
expect_match '^undo: flagctl restore ' "$output"
"$flagctl" lint "$file"
expect 'm1 m2 ada 2999-01-01 default 24h 10 100' "$(jq -r '.flags.new | "\(.control) \(.variant) \(.owner) \(.expires) \(.guardrails) \(.rollout.hold) \(.rollout.plan[0].shadow_pct) \(.rollout.plan[-1].pct)"' "$file")"
expect "$(date -u +%F)" "$(jq -r .flags.new.created "$file")"
expect_match '^			"control": "m1",$' "$(cat "$file")"
expect "" "$(diff "$work/before.json" "$file" | sed -n 's/^< //p')" "lines that went"
wait_until has_share new 0

case_ "init: what is there already is a conflict; what is no sound flag is usage; nothing is written"
cp "$file" "$work/before.json"
expect_exit 7 "${ctl[@]}" init new --from-model m1 --to-model m2
expect_match 'there is a flag "new" already' "$output"
for line in "b2" "b2 --from-model x" "b2 --from-model x --to-model x" "b/2 --from-model x --to-model y" "b2 --from-model x --to-model y --plan weekly" \
    "b2 --from-model x --to-model y --shadow 0" "b2 --from-model x --to-model y --expires soon" "b2 --from-model x --to-model y --expires 2001-01-01"; do
    # shellcheck disable=SC2086 # words
    expect_exit 2 "${ctl[@]}" init $line
done
expect_match 'expires lies before created' "$output"
expect_exit 0 "${ctl[@]}" init b2 --from-model x --to-model y --dry-run
cmp "$file" "$work/before.json"
printf '{"flags": {' >"$work/other.json"
expect_exit 6 "${ctl[@]}" init b2 --from-model x --to-model y --file "$work/other.json"

case_ "init: a file that is not there is made where --file names it"
run 0 "$flagctl" --instance "none$$" init first --from-model x --to-model y --plan b2c --file "$work/made.json" -o json
expect "true true $work/made.json" "$(field '"\(.new_file) \(.changed) \(.file)"')"
"$flagctl" lint "$work/made.json"
expect '{"plan":"b2c"}' "$(jq -c .flags.first.rollout "$work/made.json")"
run 0 "$flagctl" --instance "none$$" init second --from-model x --to-model y --file "$work/made.json"
"$flagctl" lint "$work/made.json"
expect 'first second' "$(jq -r '.flags | keys_unsorted | join(" ")' "$work/made.json")"
expect_exit 1 "$flagctl" --instance "none$$" init first --from-model x --to-model y --file "$work/no/such/made.json"
expect_exit 5 "$flagctl" --instance "none$$" init first --from-model x --to-model y

# ---- drill ----

hook() { # NAME FLAGS [COMMAND]: what the canned server does then to the file
    printf '%s\n' "${3:-:}" "printf '{\"flags\": {%s}}' '$2' >'$file.new' && mv '$file.new' '$file'" >"$answers_dir/$1.sh"
}
hidden='"drill.x": {"control": "c", "variant": "v", "rollout_pct": 50, "guardrails": []'
case_ "drill: a hidden flag is fed until it is taken back; the way back is measured and kept"
flags_file "$(flag a 50)"
wait_until has_share a 50
canned drill '{"ok": true, "version": 12, "hidden": "drill.x", "for_s": 10}'
canned drill_end '{"ok": true, "version": 13}'
hook drill "$(flag a 50), $hidden}"
hook drill.after "$(flag a 50), $hidden, \"enabled\": false}" "sleep 1"
run 0 "${ctl[@]}" drill a
expect_match '^a: the way back took [0-9.]+ ms: record, judge, publish, read .hidden flag drill.x, [0-9]+ failed calls; nobody was touched.$' "$output"
expect "a drill_end false drill.x true" "$(asked | jq -r '"\(.flag) \(.verb) \(.failed) \(.hidden) \(.ns > 0)"')"
run 0 "${ctl[@]}" drill a -o json
expect "a false false drill.x true true" "$(field '"\(.flag) \(.live) \(.failed) \(.hidden) \(.ms > 0) \(.failures > 3)"')"
"$flagctl" stats drill.x -o json >/dev/null

case_ "drill: a way back that is not there is exit code 3, and the server is told"
rm "$answers_dir/drill.after.sh"
run 3 "${ctl[@]}" drill a -o json
expect "true null" "$(field '"\(.failed) \(.ms)"')"
expect_match 'was not taken back within 1[0-9.]+ s' "$(field .why)"
expect "true 0" "$(asked | jq -r '"\(.failed) \(.ns)"')"

case_ "drill --live: the flag goes to control for a moment, and comes back"
hook drill "$(flag a 0)"
hook drill_end "$(flag a 50)"
flags_file "$(flag a 50)"
wait_until has_share a 50
run 0 "${ctl[@]}" drill a --live
expect_match '^a: the way back took [0-9.]+ ms, from the request to the first decision for control; its share is back$' "$output"
expect "50" "$(share a)"
expect "drill_end false null true" "$(asked | jq -r '"\(.verb) \(.failed) \(.hidden) \(.ns > 0)"')"
rm "$answers_dir/drill_end.sh"
run 3 "${ctl[@]}" drill a --live
expect_match 'its share has not come back' "$errors"
run 1 "${ctl[@]}" drill a --live
expect_match 'nobody has the variant now' "$errors"
expect_exit 4 "${ctl[@]}" drill nosuch --live
expect_match 'there is no flag|no flag' "$output"

case_ "drill: refused, or no server"
canned drill '{"ok": false, "code": "refused", "message": "it has no slot"}'
expect_exit 1 "${ctl[@]}" drill a
expect_exit 5 "$flagctl" --socket "$work/none.sock" drill a
stop_server
run 5 "$flagctl" --state-dir "$state" --socket "$work/none.sock" unkill a --resume
expect_match 'only that knows where the rollout was' "$errors"
