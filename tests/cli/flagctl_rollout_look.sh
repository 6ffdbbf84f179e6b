#!/usr/bin/env bash
# The commands that look at rollouts: status, plan, stale, and what list, get, top, stats, history and doctor tell of them, against answers
# that are written here: every state and every reason to wait. Usage: flagctl_rollout_look.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

socket=$work/fake
answers=$work/answers.json
ctl() { "$flagctl" --socket "$socket" "$@"; }
# An edit of what the server says, by jq; the file is replaced at once.
say() { jq "$@" "$answers" >"$answers.new" && mv "$answers.new" "$answers"; }
# The same of the rollout of one flag.
say_of() { # FLAG JQ-EXPRESSION
    say --arg flag "$1" '(.rollouts.rollouts[] | select(.flag == $flag)) |= ('"$2"')'
}
publish() { "$build/tests/table_publish" --instance "$instance" "$@" "$file" >/dev/null 2>>"$log"; }

write_file '{"flags": {
    "summary": {"control": "haiku", "variant": "sonnet", "rollout": {"plan": "b2b"}},
    "plain": {"control": "a", "variant": "b", "rollout_pct": 50, "guardrails": []},
    "old": {"control": "a", "variant": "b", "rollout_pct": 100, "expires": "2020-02-29"},
    "done": {"control": "a", "variant": "b", "rollout": {"plan": "b2c"}}}}'
cat >"$answers" <<'JSON'
{
  "status": {"ok": true, "version": 1800000000000000, "pid": 7, "release": "9.9", "started": "2026-07-01T00:00:00Z", "file_rev": 3,
    "file": "/etc/flags.json", "state_dir": "/nonexistent", "file_state": "good", "faults": [], "refusal": "", "flags": 4, "kept": 0, "absent": 0,
    "lowered": 0, "all_control": false, "kills": [], "deletions_held": [], "watch": "inotify", "journal": ""},
  "stats": {"ok": true, "recording": true, "fault": "", "slot_fault": "", "quantile_error": 0.0625, "slots_used": 0, "slots_refused": 0, "flags": []},
  "history": {"ok": true, "events": [
    {"time": "2026-07-02T03:04:05Z", "kind": "guardrail", "flag": "summary", "user": "", "version": 1800000000000000,
     "detail": "rolled back: error_rate: 12.3 % of the variant's 98 calls failed, 1.02 % of control's 1872", "numbers": {"ln_e": 9.5, "a": 12}},
    {"time": "2026-07-02T03:00:00Z", "kind": "started", "flag": "summary", "user": "", "detail": "started: step 1 of 7"}]},
  "rollouts": {"ok": true, "version": 1800000000000000, "frozen": null, "rollouts": [
    {"flag": "summary", "planned": true, "mode": "auto", "stage": "canary-5pct", "state": "step", "rollout_pct": 5, "shadow_pct": 0, "cap_pct": 100,
     "attempt": 1, "evidence": 2, "step": 2, "steps": 7, "next_pct": 25, "next_shadow_pct": null, "held_s": 12000, "hold_s": 86400, "hold_left_s": 74400,
     "users": 412, "min_users": 20, "waits": [{"reason": "hold", "text": "3h 20m held, 20h 40m to go: `flagctl waive summary hold`"}], "waived": ["window"],
     "guarded": true, "slot": 3, "open": true, "wash_in_left_s": 0, "latched": false, "killed": false, "paused": false, "probing": false, "drilling": false,
     "why": "advanced: step 2 of 7, after 24h with 80 users and no harm seen", "since": "2026-07-01T12:00:00Z", "drilled": "2026-07-01T11:00:00Z",
     "drill_ms": 1.25, "drill_failed": false, "undrilled": false, "stale": false, "full_since": null, "expires": null, "warnings": [], "trouble": "", "alpha": 0.01,
     "evidence_text": "error_rate: no harm seen, 5x ruled out", "verdict": {"q": 0.05, "alpha": 0.0016666666666666668, "variant_users": 412,
     "control_users": 7801, "variant_calls": 900, "control_calls": 17000, "calls_per_id": 2.2, "srm": false, "tainted": false, "both_bad": false},
     "guards": [{"kind": "error_rate", "name": "", "mode": "act", "text": "error_rate: no harm seen, 5x ruled out, 2x is noticed in ~700 more users",
       "ln_e": -0.4, "threshold": 9.2, "significant": false, "material": false, "holds": false, "absolute": false, "a": 4, "b": 70, "rate_variant": 0.011,
       "rate_control": 0.01, "ruled_out": 5, "users_to_2x": 700, "rollback": true},
      {"kind": "latency_p95", "name": "", "mode": "observe", "text": "", "ln_e": 12.5, "threshold": 9.2, "significant": true, "material": true,
       "holds": false, "absolute": false, "a": 40, "b": 90, "rate_variant": 4100, "rate_control": 1200, "ruled_out": 0, "users_to_2x": 0, "rollback": true}],
     "plan": [{"pct": 1, "hold_s": 86400, "min_users": 20, "approval": false}, {"pct": 5, "hold_s": 86400, "min_users": 20, "approval": false},
      {"pct": 25, "hold_s": 86400, "min_users": 100, "approval": false}, {"pct": 50, "hold_s": 86400, "min_users": 100, "approval": false},
      {"pct": 75, "hold_s": 86400, "min_users": 100, "approval": false}, {"pct": 100, "hold_s": 86400, "min_users": 100, "approval": true}],
     "watch_s": 259200, "window": null, "notify": [], "traffic": {"calls_per_hour": 5000, "users_per_hour": 2000, "over_s": 7200}},
    {"flag": "plain", "planned": false, "mode": "guard", "stage": "static-50pct", "state": "step", "rollout_pct": 50, "shadow_pct": 0, "guarded": false,
     "slot": 4, "open": true, "waits": [], "guards": [], "plan": [], "warnings": [], "trouble": "", "expires": null},
    {"flag": "done", "planned": true, "mode": "auto", "stage": "complete", "state": "complete", "rollout_pct": 100, "shadow_pct": 0, "guarded": false,
     "slot": null, "open": false, "step": 7, "steps": 7, "waits": [], "guards": [], "warnings": ["all users have had the variant for 30 days: `flagctl finish done`"], "trouble": "", "expires": null,
     "plan": [{"pct": 100, "hold_s": 0, "min_users": 0, "approval": false}], "full_since": "2026-05-01T00:00:00Z", "since": "2026-05-04T00:00:00Z", "stale": true}
  ]}
}
JSON
cp "$answers" "$work/first.json"
start_over() { cp "$work/first.json" "$answers"; }

# ---- no server ----

case_ "without a server: status, plan and stale say so; the table is listed all the same"
mkfifo "$work/hold"
publish --hold <"$work/hold" &
holder=$!
children+=("$holder")
(while echo; do sleep 3; done) >"$work/hold" 2>/dev/null & # each line is a beat
children+=($!)
wait_until ctl list
for command in "status" "status summary" "status summary --wait" "plan summary" "stale"; do
    run 5 ctl $command
    expect_match "$work/fake" "$errors"
done
run 5 ctl status -o json
expect 5 "$(jq -r .error.code <<<"$errors")"
run 0 ctl list
expect_match "^plain +50 % .* - +" "$output"
run 0 ctl list -o json
expect "null -" "$(field '.flags[] | select(.name == "plain") | "\(.rollout) \(.guard)"')"
run 0 ctl get plain -o json
expect null "$(field .status)"

/usr/bin/python3 "$source_dir/tests/cli/rollouts_fake.py" "$socket" "$answers" 2>>"$log" &
children+=($!)
wait_until ctl status

case_ "an old server that knows no rollouts: what needs them says so, the rest works as before"
say 'del(.rollouts)'
run 1 ctl status summary
expect_match "knows no rollouts .*release 0.1" "$errors"
run 1 ctl plan summary
run 1 ctl stale
run 0 ctl status
expect_match "rollouts +this server knows none" "$output"
run 0 ctl status -o json
expect "9.9 null null" "$(field '"\(.server.release) \(.rollouts) \(.frozen)"')"
run 0 ctl list
expect_match "^summary +0 % " "$output"
run 0 ctl stats plain
start_over

# ---- status ----

case_ "status: the server, and a line for each rollout"
run 0 ctl status
expect_match "^$instance: flagshmd 9.9, pid 7, since 2026-07-01T00:00:00Z; version 1800000000000000, file_rev 3$" "$output"
expect_match "^  file +/etc/flags.json: good$" "$output"
expect_match "^FLAG +SHARE +STAGE +STEP +GUARD +WAITS +LEFT" "$output"
expect_match "^summary +5 %  canary-5pct +2/7  on +hold +20h 40m" "$output"
expect_match "^done +100 %  complete +7/7  - +- +- +stale" "$output"
expect "" "$(grep '^plain' <<<"$output" || :)"
run 0 ctl status -o json
expect "1800000000000000 null 3" "$(field '"\(.server.version) \(.frozen) \(.rollouts | length)"')"
expect_match '"version":1800000000000000' "$output"
say '.rollouts.frozen = {"by": "ann", "reason": "release \u001b[31m week", "since": "2026-07-01T01:00:00Z"} | .status.kills = ["x", "y"]'
run 0 ctl status
expect_match "frozen +by ann since 2026-07-01T01:00:00Z: release \?\[31m week: .*flagctl thaw" "$output"
expect_match "killed +x, y" "$output"
run 0 ctl list
expect_match "^all rollouts are frozen by ann: release" "$output"
start_over

case_ "status FLAG: where it is, why, what it waits for with the command that ends it, evidence, guardrails"
run 0 ctl status summary
expect_match "^summary: canary-5pct, 5 %, step 2 of 7, since 2026-07-01T12:00:00Z$" "$output"
expect_match "^  why +advanced: step 2 of 7, after 24h" "$output"
expect_match "^  held +3h 20m of 24h, 20h 40m to go" "$output"
expect_match "^  users +412 of the variant, 20 wanted" "$output"
expect_match "^  next +25 %" "$output"
expect_match '^  waits for +hold +3h 20m held.*`flagctl waive summary hold`' "$output"
expect_match "^  waived +window" "$output"
expect_match "^  guarded +on, slot 3" "$output"
expect_match "^  drilled +2026-07-01T11:00:00Z, back in 1.25 ms" "$output"
expect_match "^  evidence +error_rate: no harm seen" "$output"
expect_match "^error_rate +act: roll back +1.1 % +1 % +-0.4 +9.2 +5x \(2x: ~700 more users\) +no harm seen" "$output"
expect_match "^latency_p95 +observe +4.1 s +1.2 s +12.5 +9.2 +- +harm" "$output"
run 0 ctl status summary -o json
expect "canary-5pct hold null" "$(field '"\(.stage) \(.waits[0].reason) \(.outcome)"')"
run 4 ctl status sumary
expect_match 'did you mean "summary"' "$errors"
run 4 ctl status 'a/b'
run 2 ctl status summary --timeout 5
run 2 ctl status --wait
run 2 ctl status summary --wait --timeout soon
run 2 ctl status summary --wait --watch

case_ "status FLAG: every reason to wait is told as the server tells it, and no text steers the terminal"
for reason in hold min_users no_pairs no_traffic no_outcomes signal breaker srm tainted capacity both_arms_bad prove approval window freeze paused \
    recovering file_cap unwatched mode plan_end; do
    say_of summary ".waits = [{\"reason\": \"$reason\", \"text\": \"because of \\u001b[2J $reason\"}]"
    run 0 ctl status summary
    expect_match "^  waits for +$reason +because of \?\[2J $reason$" "$output"
    run 0 ctl status
    expect_match "^summary .* $reason " "$output"
done

case_ "status FLAG: wash-in, no slot, refused guardrails, shadow, trouble, drills"
start_over
say_of summary '.open = false | .wash_in_left_s = 42'
run 0 ctl status summary
expect_match "guarded +in 42s: until then users do not count" "$output"
say_of summary '.slot = null'
run 0 ctl status summary
expect_match "guarded +not yet: it has no slot" "$output"
run 0 ctl list
expect_match "^summary .* wait +hold" "$output"
expect_match "^plain .* off +- " "$output"
say_of plain '.slot = null'
run 0 ctl list
expect_match "^plain .* wait +- " "$output"
start_over
say_of summary '.trouble = "disk is full" | .undrilled = true | .drilled = null | .warnings = ["not tried: `flagctl drill summary`"]'
run 0 ctl status summary
expect_match '^not tried: `flagctl drill summary`$' "$output"
expect_match "drilled +never" "$output"
run 0 ctl status
expect_match "^summary .* undrilled, trouble" "$output"
say_of summary '.state = "shadow" | .stage = "shadow-10pct" | .shadow_pct = 10 | .rollout_pct = 0 | .next_shadow_pct = 20'
run 0 ctl status summary
expect_match "^summary: shadow-10pct, shadow 10 %, step" "$output"
expect_match "^  pairs +412 shadow pairs" "$output"
expect_match "^  next +shadow 20 %" "$output"
run 0 ctl status plain
expect_match "guarded +off: its \"guardrails\" are empty" "$output"

# ---- status --wait ----

case_ "status --wait: the exit code is the verdict, each by its state"
start_over
waits() { # EXIT-CODE OUTCOME JQ-EXPRESSION
    start_over
    say_of summary "$3"
    run "$1" ctl status summary --wait --timeout 0 -o json
    expect "$2" "$(field .outcome)" "outcome of $3"
}
waits 0 "done" '.state = "complete"'
waits 0 "done" '.state = "full" | .next_pct = null'
waits 0 "done" '.waits = [{"reason": "plan_end", "text": ""}] | .next_pct = null'
waits 3 rolled_back '.state = "rolled_back" | .latched = true'
waits 3 rolled_back '.state = "killed" | .killed = true'
waits 8 timed_out '.'
waits 8 timed_out '.waits = []'
waits 8 timed_out '.state = "full" | .next_pct = null | .probing = true'
for reason in approval paused mode file_cap freeze; do
    waits 9 person ".waits += [{\"reason\": \"$reason\", \"text\": \"\"}]"
done
for reason in min_users no_traffic signal window unwatched recovering; do
    waits 8 timed_out ".waits += [{\"reason\": \"$reason\", \"text\": \"\"}]"
done
run 1 ctl status plain --wait
expect_match "plain has no plan" "$errors"

case_ "status --wait: it waits until it is so, also over a server that is away for a moment"
start_over
(
    sleep 1.5
    say 'del(.rollouts)' # what is not JSON in between is no end either: the file is replaced at once
    cp "$work/first.json" "$answers.new"
    jq '(.rollouts.rollouts[] | select(.flag == "summary")) |= (.state = "rolled_back")' "$answers.new" >"$answers.newer"
    mv "$answers.newer" "$answers"
) &
changing=$!
started=$(date +%s%N)
run 3 ctl status summary --wait --timeout 1m
wait "$changing"
[ $((($(date +%s%N) - started) / 1000000)) -ge 1400 ] || fail "it did not wait"
start_over
(sleep 0.7; mv "$socket" "$socket.away"; sleep 1.5; say_of summary '.state = "complete"'; mv "$socket.away" "$socket") &
changing=$!
run 0 ctl status summary --wait --timeout 1m
wait "$changing"

case_ "status --wait: on a terminal a line tells how it goes, and a signal ends it"
start_over
if command -v script >/dev/null; then
    script -qec "'$flagctl' --socket '$socket' status summary --wait --timeout 2" "$work/typescript" >/dev/null || :
    expect_match "summary: canary-5pct, 5 %, step 2 of 7, waits for hold \(20h 40m left\)" "$(tr '\r' '\n' <"$work/typescript")"
fi
"$flagctl" --socket "$socket" status summary --wait >/dev/null 2>&1 &
waiting=$!
sleep 0.5
kill -TERM "$waiting"
code=0
wait "$waiting" || code=$?
expect 1 "$code" "exit code after a signal"

# ---- plan ----

case_ "plan: when each step comes, and how soon a doubling is noticed at the traffic of now"
start_over
run 0 ctl plan summary
expect_match "^STEP +SHARE +HOLD +MIN USERS +AT THE EARLIEST +IN +2X USERS +2X IN +NEEDS" "$output"
expect_match "^ +1 +1 % +24h +20 +done" "$output"
expect_match "^ +2 +5 % +24h +20 +now +20h 40m left +25[0-9][0-9] +25h" "$output"
expect_match "^ +3 +25 % .*20..-..-..T..:..:..Z +20h 40m" "$output"
expect_match "^ +6 +100 % +- +- +.* approval" "$output"
expect_match "2000 users an hour \(measured in its slot\), 1 % of control's users with an error \(measured\), alpha 0.01" "$output"
run 0 ctl plan summary -o json
expect "done now to_come" "$(field '[.steps[:3][].state] | join(" ")')"
expect "74400 160800 247200 333600" "$(field '[.steps[2:][].in_s] | map(tostring) | join(" ")')"
expect true "$(field '.steps[1] | .notice_2x_users > 2400 and .notice_2x_users < 2600 and (.notice_2x_hours - .notice_2x_users / 100 | fabs) < 0.01')"
expect "null null" "$(field '.steps[5] | "\(.notice_2x_users) \(.notice_2x_hours)"')"
expect "measured 2000 5000 measured 0.01" "$(field '"\(.traffic.source) \(.traffic.users_per_hour) \(.traffic.calls_per_hour) \(.base_rate.source) \(.base_rate.rate)"')"
expect $((333600 + 259200)) "$(($(date -d "$(field .complete)" +%s) - $(date -d "$(field '.steps[2].earliest')" +%s) + 74400))"

case_ "plan: before it begins, traffic and errors are said"
say_of summary '.step = null | .state = "off" | .stage = "off" | .traffic = null | .verdict = null | .evidence = 0 | .rollout_pct = 0 | .hold_left_s = 0 |
    .guards |= map(.rate_control = 0)'
run 0 ctl plan summary
expect_match "traffic not known, 1 % .*\(assumed: --base-rate\)" "$output"
expect_match "^ +1 +1 % .* now " "$output"
run 0 ctl plan summary --users-per-hour 2500000
expect_match "^2500000 users an hour \(as given\)" "$output"
run 0 ctl plan summary --users-per-hour 1000 --base-rate 1 -o json
expect "given given" "$(field '"\(.traffic.source) \(.base_rate.source)"')"
fast=$(field '.steps[1].notice_2x_hours')
run 0 ctl plan summary -u 100 -b 1 -o json
expect true "$(jq -n "$(field '.steps[1].notice_2x_hours') / $fast | . > 9.9 and . < 10.1")"
expect true "$(field '.steps[2].in_s >= 172800')"
run 0 ctl plan summary -c 1000 -b 0.1 -o json
expect true "$(jq -n "$(field '.steps[1].notice_2x_hours') / $fast | . > 9 and . < 11")"
for bad in "--users-per-hour 0" "--users-per-hour x" "--base-rate 60" "--calls-per-hour -1"; do run 2 ctl plan summary $bad; done

case_ "plan: slow users make a step longer, a canary at most by another hold"
run 0 ctl plan summary -u 10 -b 1 -o json
expect "172800 144000" "$(field '[.steps[1].in_s, .steps[2].in_s - .steps[1].in_s] | map(tostring) | join(" ")')"
expect 144000 "$(field '.steps[3].in_s - .steps[2].in_s')" "100 users at 25 % of 10 an hour"
run 0 ctl plan summary -u 10 -b 1
expect_match "users come slowly" "$output"

case_ "plan: the window's days and hours, in its zone"
say_of summary '.window = {"tz": "UTC", "days": "mon-thu", "hours": "09:00-16:00"}'
run 0 ctl plan summary -u 100000 -o json
while read -r moment; do
    expect_match "^[1-4] (09|1[0-5]):" "$(date -u -d "$moment" '+%u %H:%M')"
done < <(field '.steps[] | .earliest')
run 0 ctl plan summary
expect_match "rises only on mon-thu, 09:00-16:00, UTC" "$output"
say_of summary '.window = {"tz": "Europe/Berlin", "hours": "08:30-08:31"}'
run 0 ctl plan summary -o json
expect "08:30" "$(TZ=Europe/Berlin date -d "$(field '.steps[2].earliest')" +%H:%M)"
say_of summary '.window = {"tz": "No/Where", "days": "mon"}'
run 0 ctl plan summary -o json
expect "null" "$(field '.steps[0].earliest')"
say_of summary '.window = {"tz": "UTC", "days": "monday"}'
run 0 ctl plan summary
expect_match "window cannot be read" "$errors"

case_ "plan: a rollout that does not go on by itself says why"
stopped() { # PATTERN JQ-EXPRESSION
    start_over
    say_of summary "$2"
    run 0 ctl plan summary
    expect_match "$1" "$output"
    run 0 ctl plan summary -o json
    expect_match "$1" "$(field .stopped)"
}
stopped "rolled back" '.state = "rolled_back"'
expect null "$(field .complete)"
stopped "is killed" '.state = "killed"'
stopped "is paused" '.paused = true'
stopped "mode is not" '.mode = "guard"'
stopped "rollout_pct" '.waits = [{"reason": "file_cap", "text": ""}]'
stopped "complete: flagctl finish" '.state = "complete"'
start_over
say '.rollouts.frozen = {"by": "ann", "reason": "x", "since": "2026-07-01T01:00:00Z"}'
run 0 ctl plan summary
expect_match "frozen" "$output"
run 1 ctl plan plain
expect_match "plain has no plan: .*\"b2b\"" "$errors"
run 4 ctl plan nothing

# ---- stale ----

case_ "stale: complete, at 100 %, expired by the file; and none"
start_over
say_of summary '.state = "full" | .stale = true | .full_since = "2026-05-01T00:00:00Z"'
run 0 ctl stale
expect_match "^done +complete +2026-05-01T00:00:00Z +flagctl finish done" "$output"
expect_match "^summary +100 % +2026-05-01T00:00:00Z +flagctl finish summary" "$output"
expect_match "^old +expired +2020-02-29 +take it out" "$output"
run 0 ctl stale -o json
expect "done:complete old:expired summary:full" "$(field 'map("\(.flag):\(.why)") | join(" ")')"
say '.rollouts.rollouts = []'
echo '{"flags": {}}' >"$work/empty.json"
run 0 ctl stale --file "$work/empty.json"
expect "no flag is stale" "$output"
run 0 ctl stale --file "$work/empty.json" -o json
expect "[]" "$(jq -c . <<<"$output")"
run 0 ctl stale --file /nonexistent
expect_match "cannot be read" "$errors"

# ---- list, get, stats, history, doctor ----

case_ "list: waits, time left and warnings where the server tells them"
start_over
run 0 ctl list
expect_match "^FLAG +SHARE +STAGE +MODEL +GUARD +WAITS +LEFT +CHANGED" "$output"
expect_match "^summary .* on +hold +20h 40m" "$output"
expect_match "^plain .* off +- +-" "$output"
expect_match '^done: all users have had the variant for 30 days: `flagctl finish done`' "$output"
tomorrow=$(date -u -d '1 day' +%F)
say_of summary ".expires = \"$tomorrow\" | .verdict.request_ids = true | .warnings = [\"one\", \"two\"]"
run 0 ctl list -o json
expect "on hold 74400 one two" "$(field '.flags[] | select(.name == "summary") | "\(.guard) \(.rollout.waits[0].reason) \(.rollout.hold_left_s) \(
    .rollout.warnings | join(" "))"')"
expect "null" "$(field '.flags[] | select(.name == "old") | .rollout')"
run 0 ctl status
expect_match "^summary .* request ids, expires" "$output"
say_of summary '.expires = "2020-01-01"'
run 0 ctl status
expect_match "^summary .* request ids, expired" "$output"
run 0 ctl list --no-header
expect_match "warning: summary: two" "$errors"
expect "4" "$(wc -l <<<"$output")"
say '.rollouts.rollouts[0].warnings = [range(20) | "warning \(.)"]'
run 0 ctl list
expect_match "^and [0-9]+ more warnings: flagctl status" "$output"
say '.rollouts = null'
started=$(date +%s%N)
run 0 ctl list
expect_match "^summary " "$output"
[ $((($(date +%s%N) - started) / 1000000)) -lt 5000 ] || fail "a mute server holds list up"

case_ "get: the rollout beside what the table serves"
start_over
run 0 ctl get summary
expect_match "^  guard +on" "$output"
expect_match "^  rollout +canary-5pct, 5 %, step 2 of 7, waits for hold \(20h 40m left\)" "$output"
expect_match "^  more +flagctl status summary" "$output"
run 0 ctl get summary -o json
expect "on canary-5pct" "$(field '"\(.guard) \(.status.stage)"')"
run 0 ctl get plain
expect_match "^  guard +off" "$output"

case_ "stats: the evidence, a sentence for each guardrail, and what is ruled out"
run 0 ctl stats summary
expect_match "^evidence error_rate: no harm seen, 5x ruled out" "$output"
expect_match "^  error_rate: no harm seen, 5x ruled out, 2x is noticed in ~700 more users" "$output"
expect_match "^  latency_p95: harm" "$output"
run 0 ctl stats summary -o json
expect "412 2" "$(field '.flags[0].evidence | "\(.verdict.variant_users) \(.guards | length)"')"
run 0 ctl stats plain -o json
expect null "$(field '.flags[0].evidence')"

case_ "history: why a share moved, in a sentence; the numbers for machines"
run 0 ctl history summary
expect_match "^2026-07-02T03:04:05Z +guardrail +summary .* rolled back: error_rate: 12.3 %" "$output"
run 0 ctl history -o json
expect "9.5 12 1800000000000000" "$(field '.[0] | "\(.numbers.ln_e) \(.numbers.a) \(.version)"')"
expect_match '"version":1800000000000000' "$output"

case_ "doctor: rollouts that are stuck, undrilled, frozen"
check_of() { jq -r --arg name "$1" '[.checks[] | select(.name == $name) | .state] | join(" ")' <<<"$output"; }
doctor() { output=$(ctl doctor -o json 2>/dev/null) || :; }
say_of "done" '.stale = false'
doctor
expect ok "$(check_of rollouts)"
say_of summary '.undrilled = true | .trouble = "disk is full" | .waits = [{"reason": "unwatched", "text": ""}]'
say '.rollouts.frozen = {"by": "ann", "reason": "x", "since": "2026-07-01T01:00:00Z"}'
doctor
expect "bad warning" "$(check_of rollouts)"
expect "warning" "$(check_of drill)"
expect "warning" "$(check_of freeze)"
case_ "doctor: targets of notices that are not there, and those that are"
mkdir -m 0755 "$work/notify"
say --arg dir "$work/notify" '.status.notify_dir = $dir'
say_of summary '.notify = ["oncall", "pager"]'
doctor
expect "bad bad" "$(check_of notify)"
for target in oncall pager; do
    (umask 077 && echo '{"argv": ["/bin/true"]}' >"$work/notify/$target")
done
doctor
expect "ok" "$(check_of notify)"
chmod 0644 "$work/notify/pager"
doctor
expect "bad ok" "$(check_of notify)"
say_of summary '.drill_failed = true'
doctor
expect "bad" "$(check_of drill)"
say 'del(.rollouts)'
doctor
expect "" "$(check_of rollouts)" "an old server, and nothing guarded"

case_ "top: guards and waits beside the figures, what is to be minded above them"
start_over
kill "$holder"
wait "$holder" 2>/dev/null || :
rm -f /dev/shm/flagshm."$instance".*
flags_file "$(flag summary 50), $(flag plain 50)"
start_server
"$build/tests/outcomes_book" summary 50 >/dev/null
"$build/tests/outcomes_book" plain 50 >/dev/null
run 0 ctl top --once --sort name
expect_match "^done: stale$" "$output"
expect_match "^FLAG +STAGE +GUARD +WAITS +ARM +SHARE" "$output"
expect_match "^summary +[a-z0-9-]+ +on +hold 20h 40m +control" "$output"
expect_match "^plain +[a-z0-9-]+ +off +- +control" "$output"
run 0 ctl top --once -o json
expect "on hold 74400" "$(field '.flags[] | select(.flag == "summary") | "\(.guard) \(.rollout.waits[0].reason) \(.rollout.hold_left_s)"')"
say 'del(.rollouts)'
run 0 ctl top --once
expect_match "^FLAG +STAGE +ARM" "$output"
run 0 ctl top --once -o json
expect "null" "$(field '.flags[0].rollout')"

# ---- what is no rollout ----

case_ "answers of any shape harm nobody"
for shape in '[]' '{"ok": true}' '{"ok": true, "rollouts": {}}' '{"ok": true, "rollouts": [1, null, "x", {"flag": 7}]}' \
    '{"ok": true, "frozen": "x", "rollouts": [{"flag": "summary"}]}' \
    '{"ok": true, "rollouts": [{"flag": "summary", "planned": true, "waits": {"a": 1}, "guards": [1, {}], "plan": [{}, 3], "step": 1e300, "steps": -1,
      "hold_left_s": 1e300, "rollout_pct": 1e300, "warnings": [1, {}], "window": {}, "verdict": [], "expires": "soon", "evidence": 1e300, "traffic": {"users_per_hour": 1e-300}}]}'; do
    say --argjson shape "$shape" '.rollouts = $shape'
    for command in "status" "status summary" "status summary --wait --timeout 0" "plan summary" "stale" "list" "get summary" "stats summary" "doctor" "top --once"; do
        for format in table json; do
            code=0
            ctl $command -o "$format" >"$work/out" 2>&1 || code=$?
            [ "$code" -lt 10 ] || fail "$command -o $format: exit code $code with $shape: $(cat "$work/out")"
            ! grep -qE "Sanitizer|runtime error" "$work/out" || fail "$command with $shape: $(cat "$work/out")"
        done
    done
done
