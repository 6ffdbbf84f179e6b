#!/usr/bin/env bash
# Rollouts with the real server, as users meet them: many side by side, with holds of a second. Usage: rollout.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"
. "$(dirname "$0")/rollout.bash"

never=$(date -u -d '3 days' +%a | tr '[:upper:]' '[:lower:]')
plan walk '{"pct": 5}, {"pct": 25}, {"pct": 100}'
plan half '{"pct": 5, "hold": "8s"}, {"pct": 25}'
plan observed '{"pct": 5}, {"pct": 25}' '"mode": "observe"'
plan guarded '{"pct": 5}, {"pct": 25}' '"mode": "guard"'
plan asks '{"pct": 5}, {"pct": 25, "approval": true}'
plan paused '{"pct": 5}, {"pct": 25}'
plan capped '{"pct": 5}, {"pct": 25}'
plan slow '{"pct": 5, "hold": "1h"}, {"pct": 25, "hold": "1h"}, {"pct": 50}'
plan closed '{"pct": 5}, {"pct": 25}' "\"window\": {\"tz\": \"UTC\", \"days\": \"$never\"}"
plan dark '{"shadow_pct": 50, "min_users": 10}, {"pct": 5, "hold": "1h"}'
text[alone]='"alone": {"control": "c", "variant": "v", "rollout_pct": 50}'
text[refusing]='"refusing": {"control": "c", "variant": "v", "rollout_pct": 50, "guardrails": []}'
forced=$(seq -f '"user-%g"' 0 19 | paste -sd,)
text[testers]="\"testers\": {\"control\": \"c\", \"variant\": \"v\", \"rollout_pct\": 50, \"force\": {\"variant\": [$forced]}}"
text[users]='"users": {"control": "c", "variant": "v", "rollout_pct": 50}'
write_flags
start_server --notify-dir "$targets"

say pause paused
agreed
traffic walk,guarded,asks,paused,capped,slow
traffic half,observed,closed variant_fail_every=2
traffic alone,refusing variant_status=500
traffic dark shadow=1
traffic testers,users ids=20 variant_status=500

case_ "harm takes a canary to 0, says why in a sentence with numbers, and is told once"
later has_stage half rolled-back
expect 0 "$(share half)"
later was_told_of half guardrail
expect 1 "$(told_of half guardrail | wc -l)" "notices"
expect_match '^rolled back from 5 % to 0 %: error_rate: of [0-9]+ users .*% of the variant.s [0-9]+ calls failed, .*ln E [0-9.]+, needed [0-9.]+' \
    "$(sentence half guardrail)"
expect_exit 3 "$flagctl" status half --wait

case_ "a flag without a plan is watched from its first outcomes, and disables itself too; one that refuses guardrails does not"
later has_stage alone rolled-back
expect 0 "$(share alone)"
expect 50 "$(share refusing)"

case_ "failing testers who are forced into the variant are nothing; the same users unforced are harm"
later has_stage users rolled-back
expect 50 "$(share testers)"
expect "0 0" "$(happened testers guardrail) $(happened testers breaker)"

case_ "observing, it says what it would do, and does nothing"
expect "off 0" "$(stage observed) $(share observed)"
say advance observed '{reason: "to see"}'
agreed
expect 5 "$(share observed)"
later has_happened observed would_roll_back
expect 5 "$(share observed)"

case_ "shadow calls come first, and serve nobody"
later has_stage dark canary-5pct
expect "advanced from 0 % to 5 %" "$(rollout dark .why | grep -o '^advanced from 0 % to 5 %')"
expect_match "from 0 % to 50 % of shadow calls" "$(sentence dark started)"

case_ "a plan is walked to its end step by step, each step told once"
later has_stage walk complete
expect "1 2 1" "$(happened walk started) $(happened walk advanced) $(happened walk completed)"
later was_told_of walk completed
expect 4 "$(jq -r 'select(.flag == "walk") | .id' "$told" | sort -u | wc -l)" "different notices"
expect 4 "$(jq -r 'select(.flag == "walk") | .id' "$told" | wc -l)" "notices"
expect_exit 0 "$flagctl" status walk --wait

# The same time has passed for all below: walk has shown that it was enough to go on.
case_ "it waits for a person where its mode says so, goes on by hand, and no further"
expect "off true" "$(stage guarded) $(waits_for guarded mode && echo true)"
say advance guarded
refused "only with a reason"
say advance guarded '{reason: "as agreed"}'
agreed
expect "canary-5pct" "$(stage guarded)"

case_ "an approval is asked once and last, and ends the wait"
expect "canary-5pct true" "$(stage asks) $(waits_for asks approval && echo true)"
expect 1 "$(rollout asks '.waits | length')" "waits beside it"
expect 1 "$(happened asks approval_asked)"
expect 1 "$(told_of asks approval_asked | wc -l)"
expect_exit 9 "$flagctl" status asks --wait
say approve asks
agreed
later has_stage asks ramp-25pct
expect 1 "$(happened asks approval_asked)"

case_ "paused it stays, resumed it goes on"
expect "off true" "$(stage paused) $(waits_for paused paused && echo true)"
say resume paused
agreed
later has_stage paused ramp-25pct
say resume paused
expect "true true" "$(field '"\(.ok) \(.already)"')"

case_ "outside its window nothing starts; by hand it does, and harm takes it back all the same"
expect "off true" "$(stage closed) $(waits_for closed window && echo true)"
say advance closed '{reason: "now"}'
agreed
later has_stage closed rolled-back

case_ "each wait can be waived by its name, with a reason; advanced by hand it goes on at once"
expect "canary-5pct true" "$(stage slow) $(waits_for slow hold && echo true)"
say waive slow '{wait: "hold", for_s: 60}'
refused "only with a reason"
say waive slow '{wait: "hold", for_s: 60, reason: "small"}'
agreed
expect "canary-5pct true" "$(stage slow) $(waits_for slow min_users && echo true)" # its slot washes in for a minute
say waive slow '{wait: "min_users", for_s: 60, reason: "small"}'
agreed
later has_stage slow ramp-25pct
say advance slow '{to_pct: 50, reason: "smaller still"}'
agreed
expect 50 "$(share slow)"

case_ "a cap lowered from 25 to 5 takes effect at once and is no harm; lifted, the plan's share is back"
later has_stage capped ramp-25pct
evidence=$(rollout capped .evidence)
plan capped '{"pct": 5}, {"pct": 25}' '' '"rollout_pct": 5'
write_flags
later has_share capped 5
expect $((evidence + 1)) "$(rollout capped .evidence)" "evidence"
sleep 2.5
expect "5 false" "$(share capped) $(rollout capped .latched)"
plan capped '{"pct": 5}, {"pct": 25}'
write_flags
later has_share capped 25

case_ "a live drill takes the share away for at most two seconds"
say drill capped '{live: true}'
agreed
expect "0 drill" "$(share capped) $(stage capped)"
later has_share capped 25
expect 1 "$(happened capped drill)"

case_ "a drill of a hidden flag touches nobody"
say drill capped
agreed
hidden=$(field .hidden)
expect 50 "$(share "$hidden")"
"$book" "$hidden" 40 variant_status=500 >/dev/null
later has_share "$hidden" 0
expect 25 "$(share capped)"
say drill_end capped "{ns: 1500000, failed: false, hidden: \"$hidden\"}"
agreed
expect 1.5 "$(rollout capped .drill_ms)"
expect_exit 4 "$flagctl" get "$hidden"

case_ "the latch is of the value: saved again, with another percentage, plan and thresholds, it stays rolled back"
plan half '{"pct": 10}, {"pct": 50}' '' '"rollout_pct": 60, "guardrails": [{"kind": "error_rate", "rollback": {"ratio": 9}}]'
plan other '{"pct": 5}' # seen after it
write_flags
later has_stage other canary-5pct
expect "rolled-back 0" "$(stage half) $(share half)"

case_ "another value is a new attempt from the first step, the old one stays latched"
plan half '{"pct": 5}, {"pct": 25}'
text[half]=${text[half]/'"v"'/'"v2"'}
write_flags
later has_happened half started
later has_stage half rolled-back
later was_told_of half value_new
later rollout_is half .attempt 2
text[half]=${text[half]/'"v2"'/'"v"'}
write_flags
later has_happened half value_latched
expect "rolled-back 0" "$(stage half) $(share half)"

case_ "cleared with a reason it begins at its first step; harm takes it back again, and is told again"
before=$(told_of half guardrail | wc -l)
say clear half
refused "only with a reason"
say clear half '{reason: "mended"}'
agreed
expect 0 "$(field .rollout_pct)"
told_more() { [ "$(told_of half guardrail | wc -l)" -gt "$before" ]; }
later told_more
expect "$(told_of half guardrail | wc -l)" "$(told_of half guardrail | sort -u | wc -l)" "different notices"

case_ "rolled back by hand and cleared with --resume it goes on at the lower of its old step and 10 %"
say rollback capped '{reason: "a bad feeling"}'
agreed
expect "0 rolled-back" "$(share capped) $(stage capped)"
say rollback capped
expect true "$(field .already)"
say clear capped '{reason: "it was nothing", resume: true}'
agreed
expect "5 canary-5pct" "$(share capped) $(stage capped)"

case_ "a kill lies over a rollout; lifted, it begins at its first step"
expect_exit 0 "$flagctl" kill asks
expect "0 killed" "$(share asks) $(stage asks)"
sleep 1.5
expect 0 "$(share asks)"
expect_exit 0 "$flagctl" unkill asks
[ "$(share asks)" -le 5 ] || fail "it serves $(share asks) %"
later has_stage asks canary-5pct
later was_told_of asks kill

case_ "frozen, nothing starts or rises, over a restart too; harm is taken back, and thawed all goes on"
expect true "$(ask '{"verb": "freeze", "reason": "fair"}' | jq -r .ok)"
plan late '{"pct": 5}, {"pct": 25}'
plan bad '{"pct": 5}'
write_flags
later waits_for late freeze
traffic late
traffic bad variant_fail_every=2
say advance bad '{reason: "to try"}'
agreed
later has_stage bad rolled-back
stop_server
start_server --notify-dir "$targets"
expect fair "$(ask '{"verb": "rollouts"}' | jq -r .frozen.reason)"
sleep 2.5
expect "off 0" "$(stage late) $(share late)"
expect true "$(ask '{"verb": "thaw"}' | jq -r .ok)"
later has_stage late ramp-25pct

case_ "at 100 % a new value is refused, and \`flagctl finish\` is named; with control made the old value it is a new attempt"
text[walk]=${text[walk]/'"v"'/'"v2"'}
text[walk]=${text[walk]/'"notify"'/'"drill_every": "9d", "notify"'}
plan seen '{"pct": 5}'
write_flags
later has_stage seen canary-5pct
expect "100 complete" "$(share walk) $(stage walk)"
expect v "$("$flagctl" model walk user-1 --fallback none)"
expect_match 'flagctl finish walk' "$(cat "$log")"
text[walk]=${text[walk]/'"c"'/'"v"'}
write_flags
later has_stage walk canary-5pct

case_ "two rollouts that one edit changes go their own ways"
later has_share slow 50
text[slow]=${text[slow]/'"rollout":'/'"rollout_pct": 25, "rollout":'}
text[paused]=${text[paused]/'"v"'/'"v2"'}
write_flags
later has_share slow 25
expect 1 "$(happened paused value_new)"
expect "0 0" "$(happened slow value_new) $(happened walk cap)"
later has_stage paused ramp-25pct
expect 25 "$(share slow)"
stop_server
