#!/usr/bin/env bash
# flagctl call: one arm, all arms side by side, streamed, dry; what fails; the key stays out. Usage: flagctl_call.sh BUILD_DIRECTORY
. "$(dirname "$0")/gateway.bash"

publish() { "$build/tests/table_publish" --instance "$instance" "$file" >/dev/null 2>>"$log"; }
key=sk-call-test-0123456789

case_ "no table: exit code 5"
run 5 "$flagctl" call f u -p x
flags_file '"f": {"control": "c", "variant": {"model": "v", "temperature": 0.10, "max_tokens": 77}, "rollout_pct": 0, "force": {"variant": ["forced"]}},
    "bad": {"control": "c", "variant": "gw-500", "rollout_pct": 0}, "none": {"control": {"n": 1}, "variant": "v", "rollout_pct": 0},
    "many": {"control": "c", "rollout_pct": 50, "variants": {"x": {"value": "mx", "weight": 1}, "y": {"value": "my", "weight": 1}}}'
publish
start_gateway --log-bodies
export EZAI_KEY=$key

case_ "usage"
run 2 "$flagctl" call f u
expect_match "call needs --prompt" "$errors"
run 2 "$flagctl" call f
run 2 "$flagctl" call f u -p x --tags body
expect_match 'not "body"' "$errors"
run 2 "$flagctl" call f u -p x --max-tokens 0
run 2 "$flagctl" call f u -p x --max-tokens 1.5
run 2 "$flagctl" call f u -p x --timeout soon
run 4 "$flagctl" call ff u -p x
expect_match 'no flag "ff"' "$errors"
run 1 "$flagctl" call f '' -p x
expect_match "TARGETING_KEY_MISSING" "$errors"
EZAI_BASE_URL=gopher://x run 2 "$flagctl" call f u -p x
expect_match "EZAI_BASE_URL" "$errors"

case_ "one arm: its text, then what it took"
run 0 "$flagctl" call f u -p "Some text"
expect_match '^Summary \(c\): ' "$output"
expect_match '^ +control$' "$output"
expect_match '^status +200$' "$output"
expect_match '^tokens +[0-9]+ in, [0-9]+ out$' "$output"
expect "Some text" "$(jq -r '.request.messages[0].content' "$gateway_log")"
expect "control static-0pct u" "$(jq -r '.request.metadata | "\(.flag_variant) \(.rollout_stage) \(.user_id)"' "$gateway_log")"
run 0 "$flagctl" call f forced -p x
expect_match '^Summary \(v\): ' "$output"

case_ "both: side by side, aligned"
run 0 "$flagctl" call f u -p x --both
expect_match '^ +control +variant$' "$output"
expect_match '^model +c +v$' "$output"
expect_match '^status +200 +200$' "$output"
expect_match '^text +Summary \(c\): .*Summary \(v\): ' "$output"
run 0 "$flagctl" call many u -p x --both -o json
expect "control x y" "$(field '[.calls[].arm] | join(" ")')"
run 1 "$flagctl" call bad u -p x --both
expect_match '^status +200 +500, 3 attempts$' "$output"
expect_match 'api_error' "$output"

case_ "streamed: the first token is measured"
run 0 "$flagctl" call f u -p x --both --stream -o json
expect true "$(field 'all(.calls[]; .ttft_ms > 0 and .ok)')"
run 0 "$flagctl" call f u -p x --stream
expect_match '^Summary \(c\): ' "$output"
expect_match '^first token +[0-9.]+ ms$' "$output"
run 0 "$flagctl" call f u -p x -o json
expect null "$(field '.calls[0].ttft_ms')"

case_ "dry: the request with its tags, without the key; nothing is sent"
gateway_forget
run 0 "$flagctl" call f u -p 'a "quote"' --both -n
expect 2 "$(grep -c "^POST $gateway_url/v1/messages\$" <<<"$output")"
expect 2 "$(grep -c '^x-api-key: (EZAI_KEY)$' <<<"$output")"
expect_match '^\{"model":"v","max_tokens":77,.*"temperature":0.10,"metadata":\{"user_id":"u","flag_variant":"variant","rollout_stage":"static-0pct"\}\}$' "$output"
run 0 "$flagctl" call f u -p x --tags header -n
expect_match '^x-flag-variant: control$' "$output"
EZAI_KEY='' run 0 "$flagctl" call f u -p x -n
expect_match '^x-api-key: \(EZAI_KEY is not set\)$' "$output"
run 0 "$flagctl" call f u -p x -n -o json
expect_match '^POST ' "$(field '.calls[0].request')"
expect "" "$(gateway_calls)"

case_ "what goes beside the prompt"
gateway_forget
run 0 "$flagctl" call f u -p - --system S --max-tokens 5 <<<"from standard input"
expect "from standard input" "$(jq -r '.request.messages[0].content' "$gateway_log" | head -n 1)"
expect "S 5" "$(jq -r '.request | "\(.system) \(.max_tokens)"' "$gateway_log")"
printf 'a\0b' >"$work/nul"
run 1 "$flagctl" call f u -p - <"$work/nul"
expect_match "holds a NUL" "$errors"
run 1 "$flagctl" call none u -p x
expect_match "give --fallback MODEL" "$errors"
run 0 "$flagctl" call none u -p x --fallback other
expect_match '^Summary \(other\): ' "$output"

case_ "failures: no key, nobody there, too late; terminals are not steered; the key is not told"
EZAI_KEY='' run 1 "$flagctl" call f u -p x
expect_match "EZAI_KEY" "$errors"
EZAI_BASE_URL=http://127.0.0.1:1 run 1 "$flagctl" call f u -p x
expect_match '^status +no answer, 3 attempts$' "$output"
flags_file '"f": {"control": "gw-hang", "variant": "gw-401", "rollout_pct": 0}, "none": {"control": {"n": 1}, "variant": "v", "rollout_pct": 0}'
publish
run 1 "$flagctl" call f u -p x --timeout 0.3
expect_match '^status +no answer$' "$output"
run 1 "$flagctl" call f u -p x --timeout 0.3 --both -o json
expect "0 401" "$(field '[.calls[].status] | join(" ")')"
! grep -qF "$key" <<<"$output$errors" || fail "the key is told"
run 0 "$flagctl" call none u -p x --fallback $'\033[31mred'
expect_match 'red\): ' "$output"
! grep -q $'\033' <<<"$output" || fail "an escape sequence got through"
! grep -qF "$key" "$gateway_log" || fail "the key stands in a body"

case_ "books nothing"
rm -f /dev/shm/flagshm."$instance".*
flags_file '"f": {"control": "c", "variant": "v", "rollout_pct": 50}'
start_server
run 0 "$flagctl" call f u -p x --both
run 0 "$flagctl" call f u -p x
expect "0 0" "$("$flagctl" stats f -o json | jq -r '.flags[0].arms | map(.started) | join(" ")')"
stop_server
