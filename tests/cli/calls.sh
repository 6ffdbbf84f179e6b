#!/usr/bin/env bash
# What `flagctl stats` says agrees with what the gateway served, call by call: ten thousand calls of eight processes, four in C and
# four in Python, of which four are killed and replaced, one of them within a call.
# Usage: calls.sh BUILD_DIRECTORY [PYTHON]   (without PYTHON all eight are in C)
. "$(dirname "$0")/daemon.bash"
. "$(dirname "$0")/gateway.bash"

python=${2:-}
example=$build/client/example_ezai
calls=${FLAGSHM_TEST_CALLS:-10000}
each=$((calls / 8))
flag=new_summarizer_model
printf '{"flags": {"%s": {"control": "claude-haiku-4-5", "variant": "claude-sonnet-4-5", "rollout_pct": 40},
  "slow": {"control": "gw-hang", "variant": "gw-hang", "salt": "s", "rollout_pct": 50}}}\n' "$flag" >"$file"
start_server
start_gateway --seed 7
# A failure is a 400: it is not tried again, so a line of the log is a call.
gateway_config '{"models": {"claude-haiku-4-5": {"error_rate": 0.02, "error_status": 400, "latency_ms": {"p50": 1, "p95": 3}, "input_tokens": 50,
    "output_tokens": {"p50": 20, "p95": 60}},
  "claude-sonnet-4-5": {"error_rate": 0.05, "error_status": 400, "latency_ms": {"p50": 2, "p95": 6}, "input_tokens": 50,
    "output_tokens": {"p50": 40, "p95": 90}}}}' >/dev/null
gateway_forget

run() { # NUMBER: reads users, prints one line for each call that is booked
    if [ -n "$python" ] && [ $(($1 % 2)) = 1 ]; then
        exec env PYTHONPATH="$build/client/python" "$python" "$source_dir/tests/python/worker.py"
    else
        exec "$example" 2>&1
    fi
}
# The first part of a worker's users goes in, and is waited for; then it is killed where a kill is asked for, and another one takes the rest.
worker() { # NUMBER KILLED(yes|no)
    local half=$each pid fifo=$work/fifo$1
    [ "$2" = no ] || half=$((each / 2))
    mkfifo "$fifo"
    run "$1" <"$fifo" >"$work/done$1" &
    pid=$!
    exec 9>"$fifo"
    seq -f "user-$1-%05g" 1 "$half" >&9
    if [ "$2" = yes ]; then
        until [ "$(wc -l <"$work/done$1")" -ge "$half" ] || ! kill -0 "$pid"; do sleep 0.05; done
        kill -KILL "$pid"
    fi
    exec 9>&-
    wait "$pid" || : # the example ends with 1 where a call failed
    [ "$2" = no ] || seq -f "user-$1-%05g" $((half + 1)) "$each" | (run "$1") >>"$work/done$1" || :
}

case_ "ten thousand calls of eight processes, three of them killed between two calls"
pids=()
for number in 0 1 2 3 4 5 6 7; do
    killed=no
    [ "$number" -lt 5 ] || killed=yes
    worker "$number" "$killed" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || fail "a worker failed"
done
expect "$((each * 8))" "$(cat "$work"/done? | wc -l)" "users that were served"

# From the log: for each arm the calls, failures and tokens. Where the variant fails the example asks control in its stead: served, but
# booked nowhere, since that user is none of control's.
gateway_calls | jq -sc '(map(select(.flag_variant == "variant")) | map({key: .user_id, value: true}) | from_entries) as $variants |
    .[] | select(.flag_variant == "variant" or ($variants[.user_id] | not))' >"$work/log"
served=$(jq -s 'group_by(.flag_variant) | map({key: .[0].flag_variant, value: {finished: length,
    failed: map(select(.status != 200)) | length, input_tokens: map(.input_tokens) | add,
    output_tokens: map(.output_tokens) | add}}) | from_entries' "$work/log")
booked=$("$flagctl" stats "$flag" -o json | jq '[.. | objects | select(has("arm") and has("finished"))] | map({key: .arm, value:
    {finished, failed, input_tokens, output_tokens}}) | from_entries')
expect "$(jq -S . <<<"$served")" "$(jq -S . <<<"$booked")" "what was booked beside what was served"
[ "$(jq '.variant.failed' <<<"$booked")" -gt $((each / 20)) ] || fail "hardly a failure among the calls: $booked"
expect "$((each * 8))" "$(wc -l <"$work/log")" "calls that were served"
expect "$((each * 8))" "$("$flagctl" stats "$flag" -o json |
    jq '[.. | objects | select(has("arm") and has("started"))] | map(.started) | add')" "calls that were started"

case_ "one that is killed within a call has started it and not finished it"
"$build/tests/ezai_probe" --flag slow user-1 >/dev/null &
victim=$!
children+=("$victim")
wait_until gateway_has in_flight 1
kill -KILL "$victim"
wait "$victim" || :
slow=$("$flagctl" stats slow -o json | jq -c '[.. | objects | select(has("arm") and has("started"))] | [(map(.started) | add), (map(.finished) | add)]')
expect "[1,0]" "$slow" "started and finished"
