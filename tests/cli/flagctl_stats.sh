#!/usr/bin/env bash
# What became of calls: stats, top, record, and what doctor and dump say of the outcome segment. Usage: flagctl_stats.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

book() { "$build/tests/outcomes_book" "$@"; }
# As expect_exit, the streams apart: $output and $errors.
run() { # CODE COMMAND...
    local wanted=$1 code=0
    shift
    output=$("$@" 2>"$work/errors") || code=$?
    errors=$(cat "$work/errors")
    [ "$code" = "$wanted" ] || fail "exit code $code, expected $wanted: $* : $output $errors"
}
field() { jq -r "$1" <<<"$output"; }
arm() { # FLAG ARM EXPRESSION
    "$flagctl" stats "$1" -o json | jq -r ".flags[0].arms[] | select(.arm == \"$2\") | $3"
}

write_file '{"flags": {
    "split": {"control": "haiku", "variant": "sonnet", "rollout_pct": 50},
    "three": {"control": "a", "variants": {"b": {"value": "b", "weight": 1}, "c": {"value": "c", "weight": 1}}, "rollout_pct": 80},
    "full": {"control": "a", "variant": "b", "rollout_pct": 100},
    "none": {"control": "a", "variant": "b", "rollout_pct": 0},
    "off": {"control": "a", "variant": "b", "rollout_pct": 50, "enabled": false}}}'

case_ "no server: exit code 5 and the mend; a flag that is none: 4"
run 5 "$flagctl" stats
run 5 "$flagctl" stats split -o json
expect 5 "$(jq -r .error.code <<<"$errors")"
start_server
run 4 "$flagctl" stats splitt
expect_match 'did you mean "split"' "$errors"
run 2 "$flagctl" stats a b

# ---- stats ----

case_ "stats: every count is the one that was booked"
booked=$(book split 1000 ids=300 latency_ms=800 ttft_ms=90 input=1000 output=200 fail_every=50 json=valid unfinished=7 attempts=2)
control=$(awk '$1 == "control" {print $2}' <<<"$booked")
variant=$(awk '$1 == "variant" {print $2}' <<<"$booked")
expect 1000 $((control + variant))
run 0 "$flagctl" stats split -o json
expect "$control $variant 1000 993 7 20 993 993000 198600" "$(field '.flags[0].arms as $a | [$a[0].started, $a[1].started] + ([["started","finished",
    "in_flight", "failed", "retries", "input_tokens", "output_tokens"][] as $k | $a | map(.[$k]) | add]) | map(tostring) | join(" ")')"
expect "973 0" "$(field '.flags[0].arms | "\(map(.json_checked) | add) \(map(.json_invalid) | add)"')"
expect "0.0625 true 2 0" "$(field '"\(.quantile_error) \(.recording) \(.slots_used) \(.slots_refused)"')"
expect "haiku sonnet null null" "$(field '.flags[0] | "\(.arms[0].model) \(.arms[1].model) \(.shadow) \(.why)"')"
expect true "$(field '.flags[0].arms | map(.latency_ms.p50, .latency_ms.p99 | . >= 800 * 0.9375 and . <= 800 * 1.0625) | all')"
expect true "$(field '.flags[0].arms | map(.tokens.p50 >= 1200 * 0.9375 and .tokens.p50 <= 1200 * 1.0625 and .tokens_mean == 1200) | all')"
expect true "$(field '.flags[0].distinct_ids | . > 270 and . < 330')"
expect true "$(field '.flags[0].arms | map(.failed_rate | .low < .rate and .rate < .high) | all')"
expect true "$(field '.flags[0].difference | .latency_ms.p50 == 1 and .failed_rate.low < .failed_rate.high and .ttft_ms.p95 == 1')"
run 0 "$flagctl" stats split
expect_match "^calls +started +$control +$variant" "$output"
expect_match "^errors +failed +[0-9]+  [0-9.]+ % \([0-9.]+\.\.\.[0-9.]+\)" "$output"
expect_match "^latency +p50 +[78][0-9]+ ms +[78][0-9]+ ms +x 1" "$output"
expect_match "exact to \+-6\.25 %" "$output"
expect_match "^split: static-50pct, 50 % served, since 20" "$output"

case_ "stats: programs that say no STARTED have no calls in flight, and are not made up"
booked=$(book three 300 started=0 status=429 shadow=0)
run 0 "$flagctl" stats three -o json
expect "3 null 300 0" "$(field '.flags[0] | "\(.arms | length) \(.arms[0].in_flight) \(.arms | map(.limited) | add) \(.arms | map(.failed) | add)"')"
expect null "$(field '.flags[0].difference')"
expect "$(awk '{print $1 "=" $2}' <<<"$booked" | sort | tr '\n' ' ')" "$(field '.flags[0].arms[] | "\(.arm)=\(.finished)"' | sort | tr '\n' ' ')"
run 0 "$flagctl" stats three
expect_match "^calls +started +- +- +-" "$output"

case_ "stats: a line a flag, and why others have none"
run 0 "$flagctl" stats
expect_match "^split +50 % +static-50pct +[0-9]+ / [0-9]+ +2\.?[0-9]* %" "$output"
expect_match "2 of 256 slots are in use; 3 flags have none" "$output"
run 0 "$flagctl" stats -o json
expect "split three" "$(field '[.flags[].flag] | sort | join(" ")')"
for pair in "full:serves 100 %" "none:serves 0 %" "off:disabled"; do
    run 0 "$flagctl" stats "${pair%%:*}"
    expect_match "books no outcomes: .*${pair#*:}" "$output"
    run 0 "$flagctl" stats "${pair%%:*}" -o json
    expect "null ${pair%%:*}" "$(field '"\(.flags[0].slot) \(.flags[0].flag)"')"
    expect_match "${pair#*:}" "$(field '.flags[0].why')"
done
run 0 "$flagctl" kill three
run 0 "$flagctl" stats three
expect_match "it is killed; to end it: flagctl unkill three" "$output"
run 0 "$flagctl" unkill three

case_ "stats --watch: again and again, an object a line"
"$flagctl" stats split --watch=0.1 -o json >"$work/watched" &
watcher=$!
children+=("$watcher")
wait_until test -s "$work/watched"
book split 10 >/dev/null
wait_until grep -q '"finished":5[0-9]*,' "$work/watched"
kill -TERM "$watcher"
wait "$watcher" || fail "stats --watch ended with $?"
expect "split" "$(tail -n 1 "$work/watched" | jq -r '.flags[0].flag')"


# ---- record ----

id_of() { # FLAG ARM: an id that has it
    seq -f 'user-%g' 1 200 | "$flagctl" assign "$1" | awk -v arm="$2" '$2 == arm {print $1; exit}'
}
case_ "record: later events are booked under the arm that the id has"
for which in control variant; do
    id=$(id_of split $which)
    for event in thumbs-up thumbs-down thumbs-down retry support-contact; do
        run 0 "$flagctl" record split "$id" --$event
        expect_match "^split: ${event/-/_} of $id is booked under $which$" "$output"
    done
    run 0 "$flagctl" record split "$id" --custom 7 -o json
    expect "true $which custom_7 SPLIT null" "$(field '"\(.booked) \(.arm) \(.event) \(.reason) \(.why)"')"
    expect "1 2 1 1 0 1" "$(arm split $which '"\(.thumbs_up) \(.thumbs_down) \(.retry) \(.support_contact) \(.custom[0]) \(.custom[7])"')"
done
run 0 "$flagctl" stats split
expect_match "^ +custom 7 +1 " "$output"
run 0 "$flagctl" record split -d -- --odd-id
expect_match "of --odd-id is booked" "$output"

case_ "record: without the server too; a flag that books nothing says so, and that is no failure"
stop_server
run 0 "$flagctl" record split "$id" -u
start_server
expect 2 "$(arm split variant .thumbs_up)" # the segment was adopted: nothing is lost
run 0 "$flagctl" record full anyone --retry
expect_match "full: not booked: everyone gets the same arm.*variant" "$output"
run 0 "$flagctl" record off anyone --retry -o json
expect "false DISABLED" "$(field '"\(.booked) \(.reason)"')"

case_ "record: what is wrong is said, with the mend and its exit code"
run 2 "$flagctl" record split "$id"
expect_match "one of: --thumbs-up" "$errors"
run 2 "$flagctl" record split "$id" --retry --thumbs-up
run 2 "$flagctl" record split "$id" --custom 8
run 2 "$flagctl" record split "$id" --custom 0.5
run 2 "$flagctl" record split '' --retry
run 2 "$flagctl" record split "$(head -c 5000 /dev/zero | tr '\0' x)" --retry
run 4 "$flagctl" record splitt "$id" --retry
expect_match 'did you mean "split"' "$errors"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    cp "$flagctl" "$work/flagctl"
    run 5 setpriv --reuid=65534 --regid=65534 --clear-groups "$work/flagctl" record split "$id" --retry
    expect_match "outcomes may not be written by this user" "$errors"
    expect_match "join the group root, or run as root" "$errors"
else
    echo "skipped: another user's refusal needs root"
fi
segment=/dev/shm/flagshm.$instance.outcomes
mv "$segment" "$segment.away"
run 5 "$flagctl" record split "$id" --retry
expect_match "there is no outcome segment|has just been made anew" "$errors"
rm "$segment.away"
wait_until "$flagctl" record split "$id" --retry # the server makes another one
run 5 "$flagctl" record split "$id" --retry --instance nosuch
