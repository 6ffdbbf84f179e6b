#!/usr/bin/env bash
# The gateway by itself: what each scenario sends, its log, its distribution mode, and that it bears ill-behaved callers.
# Usage: gateway.sh BUILD_DIRECTORY
. "$(dirname "$0")/gateway.bash"

wire() { python3 "$source_dir/tests/gateway/wire.py" "$@"; }
request() { # MODEL [MORE MEMBERS]
    printf '{"model":"%s","max_tokens":100,"messages":[{"role":"user","content":"Summarise this"}],"metadata":{"user_id":"u1"}%s}' "$1" "${2:-}"
}
# Leaves $status $head $text $code (curl's own). The key comes from a file: never on a command line.
printf 'x-api-key: gateway-key\n' >"$work/key"
send() { # BODY [CURL OPTION...]
    local body=$1 headers=() header
    shift
    # curl sends both of two headers of a name.
    for header in "@$work/key" 'anthropic-version: 2023-06-01' 'content-type: application/json'; do
        case "$header|$*" in
        @*x-api-key:* | anthropic*'|'*anthropic-version:* | content*'|'*content-type:*) ;;
        *) headers+=(-H "$header") ;;
        esac
    done
    code=0
    printf '%s' "$body" >"$work/body"
    status=$(curl -sS --max-time 20 -o "$work/text" -D "$work/head" -w '%{http_code}' "${headers[@]}" --data-binary "@$work/body" "$@" \
        "$gateway_url/v1/messages" 2>"$work/curl.err") || code=$?
    head=$(tr -d '\r' <"$work/head")
    text=$(tr -d '\0' <"$work/text")
}
call() { send "$(request "$@")"; }
stream() { call "$1" ',"stream":true'"${2:-}"; }
expect_json() { # EXPECTED JQ [JSON]
    expect "$1" "$(jq -r "$2" <<<"${3:-$text}")" "$2"
}
streamed() { wire message <"$work/text"; }
last_call() { gateway_calls | tail -n 1; }

case_ "usage errors are told with exit code 2, others with 1, and how to mend them"
expect_exit 2 "$gateway" --scenario nope
expect_match 'no scenario "nope"; there are ok, slow-first-byte' "$output"
expect_exit 2 "$gateway" --port 65536
expect_exit 2 "$gateway" --seed -1
expect_exit 2 "$gateway" x
expect_match '"x" is one argument too many' "$output"
expect_exit 1 "$gateway" --config "$work/none.json"
expect_match "none.json: No such file" "$output"
printf '{"models": {"m": {"eror_rate": 1}}}' >"$work/bad.json"
expect_exit 1 "$gateway" --config "$work/bad.json"
expect_match 'm: unknown key "eror_rate"' "$output"
expect_exit 1 "$gateway" --log "$work/none/log"
expect_exit 0 "$gateway" --help
expect_match "529-twice" "$output"

case_ "says one line when it is ready; listens on loopback only; its port cannot be taken twice; ends with 0"
start_gateway
expect 1 "$(wc -l <"$work/gateway.out")"
port=${gateway_url##*:}
expect_exit 1 "$gateway" --port "$port"
expect_match "port $port of 127.0.0.1: Address already in use" "$output"
stop_gateway
start_gateway --port "$port"
expect "http://127.0.0.1:$port" "$gateway_url"
kill -INT "$gateway_pid"
wait "$gateway_pid" || fail "exit code $? after SIGINT"
start_gateway --seed 7 --log-bodies

case_ "a plain answer has the vendor's shape, headers and usage, under any model's name"
for model in claude-haiku-4-5 gpt-5 gemini-2.5-flash grok-4; do
    call "$model"
    expect "200 0" "$status $code"
    expect_json "$model" .model
done
expect_json "message assistant end_turn null text" '"\(.type) \(.role) \(.stop_reason) \(.stop_sequence) \(.content[0].type)"'
expect_json "true true true" '"\(.usage.input_tokens > 0) \(.usage.output_tokens > 0) \(.id | startswith("msg_"))"'
expect_match '^content-type: application/json$' "$head"
expect_match '^request-id: req_[0-9a-f]{16}$' "$head"
expect_match '^anthropic-ratelimit-requests-limit: ' "$head"
expect_match '^anthropic-organization-id: ' "$head"

case_ "JSON is answered where the prompt, or a schema, asks for it; a tool call where tools are given"
send '{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"Answer in JSON."}]}]}'
expect_json "string" '.content[0].text | fromjson | .summary | type'
schema='{"type":"object","properties":{"mood":{"enum":["good","bad"]},"n":{"type":"integer","minimum":3},"who":{"$ref":"#/$defs/who"}},"$defs":{"who":{"type":"array","items":{"type":"object","properties":{"me":{"$ref":"#/$defs/who"}}}}}}'
call m ',"output_config":{"format":{"type":"json_schema","schema":'"$schema"'}}'
expect_json "good 3 array" '.content[0].text | fromjson | "\(.mood) \(.n) \(.who | type)"'
tools=',"tools":[{"name":"weather","input_schema":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"number"}}}}]'
call m "$tools"
expect_json "tool_use weather string number" '"\(.stop_reason) \(.content[1].name) \(.content[1].input.city | type) \(.content[1].input.days | type)"'
stream m "$tools"
expect_json "tool_use weather string" '"\(.stop_reason) \(.content[1].name) \(.content[1].json | fromjson | .city | type)"' "$(streamed)"
send '{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"4"}]}]'"$tools}"
expect_json end_turn .stop_reason

case_ "requests that the vendor refuses are refused, with a reason"
refused() { # STATUS PATTERN BODY [CURL OPTION...]
    local wanted=$1 pattern=$2
    shift 2
    send "$@"
    expect "$wanted" "$status" "$1"
    expect_json error .type
    expect_match "$pattern" "$(jq -r '"\(.error.type) \(.error.message)"' <<<"$text")"
}
refused 400 "invalid_request_error .*not valid JSON" '{"model":'
refused 400 "no object" '[]'
refused 400 "model: Field required" '{"max_tokens":1,"messages":[{"role":"user","content":"x"}]}'
refused 400 "max_tokens" '{"model":"m","messages":[{"role":"user","content":"x"}]}'
refused 400 "max_tokens" '{"model":"m","max_tokens":0,"messages":[{"role":"user","content":"x"}]}'
refused 400 "messages: Field required" '{"model":"m","max_tokens":1}'
refused 400 "at least one message" '{"model":"m","max_tokens":1,"messages":[]}'
refused 400 "role must be" '{"model":"m","max_tokens":1,"messages":[{"role":"system","content":"x"}]}'
refused 400 "content must not be empty" '{"model":"m","max_tokens":1,"messages":[{"role":"user","content":""}]}'
refused 400 "content must be a string or an array" '{"model":"m","max_tokens":1,"messages":[{"role":"user"}]}'
refused 400 "anthropic-version" "$(request m)" -H 'anthropic-version:'
refused 400 "content-type" "$(request m)" -H 'content-type: text/plain'
refused 400 "temperature: not supported" "$(request m ',"temperature":0.5')" -H 'anthropic-version: 2026-10-21'
refused 401 "authentication_error x-api-key header is required" "$(request m)" -H 'x-api-key:'
refused 400 'no scenario "nope"' "$(request gw-nope)"
refused 400 'x-gateway-scenario: there is no scenario "nope"' "$(request m)" -H 'x-gateway-scenario: nope'
call m ',"temperature":0.5'
expect 200 "$status"
send "$(request m)" -H 'x-api-key:' -H 'authorization: Bearer other-key'
expect 200 "$status"
expect_json authorization .auth "$(last_call)"
send "$(request m)" -X PUT
expect 405 "$status"
expect 404 "$(curl -sS -o "$work/text" -w '%{http_code}' "$gateway_url/v2/messages")"
expect_json not_found_error .error.type "$(cat "$work/text")"

case_ "a body of more than 32 MB is refused with 413, and the caller is told"
head -c 40000000 /dev/zero | tr '\0' ' ' >"$work/large"
expect 413 "$(curl -sS -o "$work/text" -w '%{http_code}' -H "@$work/key" -H 'anthropic-version: 2023-06-01' \
    -H 'content-type: application/json' --data-binary "@$work/large" "$gateway_url/v1/messages")"
expect_json request_too_large .error.type "$(cat "$work/text")"
rm "$work/large"

case_ "each error scenario gives its status and type, plain and streamed, and nothing is counted as used"
while read -r name wanted type; do
    for more in '' ',"stream":true'; do
        call "gw-$name" "$more"
        expect "$wanted $type" "$status $(jq -r .error.type <<<"$text")" "$name"
        expect_match '^request-id: req_' "$head"
        expect "req_$(sed -n 's/^request-id: req_//p' <<<"$head")" "$(jq -r .request_id <<<"$text")" "$name's request id"
        expect_json "$wanted 0 0 true false" '"\(.status) \(.input_tokens) \(.output_tokens) \(.completed) \(.text_valid)"' "$(last_call)"
    done
done <<'TABLE'
400-parameter 400 invalid_request_error
401 401 authentication_error
403 403 permission_error
404 404 not_found_error
413 413 request_too_large
429 429 rate_limit_error
500 500 api_error
504 504 timeout_error
529 529 overloaded_error
529-no-retry 529 overloaded_error
TABLE
expect_match '^x-should-retry: false$' "$head"
call gw-429
! grep -qi '^retry-after' <<<"$head" || fail "429 has retry-after"
expect_json enforced_spend_limit_reached .error.details.error_code
call gw-400-parameter ',"temprature":1'
expect_match "^temprature: Extra inputs" "$(jq -r .error.message <<<"$text")"

case_ "400-metadata takes user_id alone"
call gw-400-metadata
expect 200 "$status"
send '{"model":"gw-400-metadata","max_tokens":9,"messages":[{"role":"user","content":"x"}],"metadata":{"user_id":"u","flag_variant":"v"}}'
expect 400 "$status"
expect_match "metadata.flag_variant: Extra inputs are not permitted" "$text"

case_ "429-retry-after once, 529 twice, by model and user"
call gw-429-retry-after
expect "429 1" "$status $(sed -n 's/^retry-after: //p' <<<"$head")"
call gw-429-retry-after
expect 200 "$status"
for wanted in 529 529 200 200; do
    call gw-529-twice
    expect "$wanted" "$status" "of user u1"
    send "$(request gw-529-twice | sed s/u1/u2/)"
    expect "$wanted" "$status" "of user u2"
done
gateway_forget
call gw-429-retry-after
expect 429 "$status"
send "$(request m)" -H 'x-gateway-scenario: 429-retry-after' -H 'x-gateway-retry-after: 0.25'
expect "429 0.25" "$status $(sed -n 's/^retry-after: //p' <<<"$head")"

case_ "answers that are good HTTP and bad answers"
call gw-refusal
expect_json "refusal refusal 0" '"\(.stop_reason) \(.stop_details.type) \(.content | length)"'
stream gw-refusal
expect_json "refusal refusal 0 true" '"\(.stop_reason) \(.stop_details.type) \(.content | length) \(.stopped)"' "$(streamed)"
call gw-max-tokens
expect_json "max_tokens 100" '"\(.stop_reason) \(.usage.output_tokens)"'
stream gw-max-tokens
expect_json "max_tokens 100 true" '"\(.stop_reason) \(.usage.output_tokens) \(.stopped)"' "$(streamed)"
call gw-invalid-json
expect_json "end_turn not" '"\(.stop_reason) \(.content[0].text | try (fromjson | "json") catch "not")"'
stream gw-invalid-json
expect_json "end_turn not" '"\(.stop_reason) \(.content[0].text | try (fromjson | "json") catch "not")"' "$(streamed)"
expect_json "true false" '"\(.completed) \(.text_valid)"' "$(last_call)"
call gw-broken-tool "$tools"
expect_json 'tool_use weather {}' '"\(.stop_reason) \(.content[1].name) \(.content[1].input)"'
stream gw-broken-tool "$tools"
expect_json not '.content[1].json | try (fromjson | "json") catch "not"' "$(streamed)"
call gw-broken-tool-missing
expect_json 'tool_use false' '"\(.stop_reason) \(.content[1] | has("input"))"'
call gw-bad-body
expect "200 text/html" "$status $(sed -n 's/^content-type: //p' <<<"$head")"
expect_match '^<html>' "$text"
stream gw-bad-body
expect 200 "$status"
expect_exit 1 wire events <"$work/text"
expect_match 'JSONDecodeError' "$output"

case_ "a stream has the vendor's order: start, blocks, delta, stop; text and usage add up"
stream claude-haiku-4-5
expect_match '^content-type: text/event-stream; charset=utf-8$' "$head"
expect "message_start content_block_start ping content_block_delta content_block_stop message_delta message_stop" \
    "$(wire events <"$work/text" | jq -r .event | uniq | paste -sd' ')"
message=$(streamed)
expect_json "true end_turn" '"\(.stopped) \(.stop_reason)"' "$message"
expect_match '^Summary \(claude-haiku-4-5\): ' "$(jq -r '.content[0].text' <<<"$message")"
expect "$(jq -r '"\(.usage.input_tokens) \(.usage.output_tokens)"' <<<"$message")" \
    "$(last_call | jq -r '"\(.input_tokens) \(.output_tokens)"')"
expect_json "1 1" '"\(.data.message.usage.output_tokens) \(.data.message.usage.input_tokens > 1 | if . then 1 else 0 end)"' \
    "$(wire events <"$work/text" | sed -n 1p)"

case_ "pings, comments and CR LF change nothing; nor do events, deltas and fields that nobody knows"
stream gw-stream-ping
grep -q $'\r$' "$work/text" || fail "no CR LF"
grep -q '^: ' "$work/text" || fail "no comment"
expect ping "$(wire events <"$work/text" | jq -r .event | sed -n 1p)"
expect_json "true true" '"\(.stopped) \(.content[0].text | startswith("Summary (gw-stream-ping)"))"' "$(streamed)"
stream gw-stream-unknown
expect_json "true true" '"\(.stopped) \(.content[0].text | endswith("."))"' "$(streamed)"
expect 1 "$(wire events <"$work/text" | jq -r .event | grep -c '^future_event$')"
call gw-stream-unknown
expect_json object '.future_field | type'

case_ "streams that go wrong after 200: an error event, an end too soon, a connection that closes"
stream gw-stream-error
expect "200 0" "$status $code"
expect_json "overloaded_error null" '"\(.error.type) \(.stopped)"' "$(streamed)"
expect_json "200 false" '"\(.status) \(.completed)"' "$(last_call)"
call gw-stream-error
expect 529 "$status"
stream gw-stream-cut
expect "200 0" "$status $code" "the HTTP of a cut stream"
expect_json "null null" '"\(.stop_reason) \(.stopped)"' "$(streamed)"
expect_json false .completed "$(last_call)"
stream gw-stream-abort
expect "200 18" "$status $code" "an aborted stream"
for name in stream-cut stream-abort; do
    call "gw-$name"
    expect "200 18" "$status $code" "$name, plain"
    expect_json false .completed "$(last_call)"
done

case_ "stream-split sends each byte by itself, plain and streamed answers stay whole"
expect_json "1" 'keys | join(" ")' "$(wire chunks "$gateway_url" gw-stream-split)"
stream gw-stream-split
expect_json true .stopped "$(streamed)"
call gw-stream-split
expect_json end_turn .stop_reason

case_ "gzip only for who accepts it"
send "$(request gw-gzip)" -H 'accept-encoding: gzip'
expect_match '^content-encoding: gzip$' "$head"
expect_json end_turn .stop_reason "$(gunzip <"$work/text")"
call gw-gzip
! grep -q '^content-encoding' <<<"$head" || fail "compressed without being asked"
expect_json end_turn .stop_reason
send "$(request gw-gzip ',"stream":true')" --compressed
expect_match '^content-encoding: gzip$' "$head"
expect_json true .stopped "$(streamed)"

case_ "usage: huge, senseless, late, cached"
# jq rounds such numbers: they are looked at as text.
call gw-huge-usage
expect_match '"input_tokens":9007199254740993,.*"cache_read_input_tokens":18446744073709551615,.*"output_tokens":4294967297,' "$text"
expect_match '"input_tokens":9007199254740993,"output_tokens":4294967297,"cache_tokens":18446744073709551615,' "$(last_call)"
stream gw-huge-usage
expect_match '"message_delta".*"output_tokens":4294967297' "$text"
call gw-bad-usage
expect_json '-5 12 string' '"\(.usage.input_tokens) \(.usage.output_tokens) \(.usage.output_tokens | type)"'
stream gw-usage-late
expect_json 0 '.data.message.usage.input_tokens' "$(wire events <"$work/text" | sed -n 1p)"
expect_json true '.usage.input_tokens > 0 and .usage.output_tokens > 0' "$(streamed)"
for how in call stream; do
    "$how" gw-cache-tokens
    [ "$how" = call ] && message=$text || message=$(streamed)
    expect_json "300 7000 300" '.usage | "\(.cache_creation_input_tokens) \(.cache_read_input_tokens) \(.cache_creation.ephemeral_5m_input_tokens)"' "$message"
    expect_json 7300 .cache_tokens "$(last_call)"
done

case_ "slow first byte, slow body: the time passes where it should"
milliseconds() { # curl's -w variable
    send "$(request "$1" "${3:-}")" -H 'x-gateway-delay-ms: 60' -w "%{http_code} %{$2}"
    awk '{print int($2 * 1000)}' <<<"$status"
}
for more in '' ',"stream":true'; do
    took=$(milliseconds gw-slow-first-byte time_starttransfer "$more")
    [ "$took" -ge 60 ] || fail "first byte after $took ms$more"
    took=$(milliseconds gw-slow-body time_total "$more")
    [ "$took" -ge 500 ] || fail "slow body took $took ms$more"
done
expect_json true .stopped "$(streamed)"

case_ "reset is a TCP reset, at once; the log says that nothing was sent"
call gw-reset
expect "000 56" "$status $code" "reset"
expect_match "reset by peer" "$(cat "$work/curl.err")"
expect_json "0 false" '"\(.status) \(.completed)"' "$(last_call)"

case_ "hang, hang-body and flood end when the caller leaves; memory stays bounded; others are served meanwhile"
for name in hang hang-body; do
    for more in '' ',"stream":true'; do
        send "$(request "gw-$name" "$more")" --max-time 0.3
        expect 28 "$code" "curl at its time limit"
        wait_until gateway_is_idle
        expect_json "$name false" '"\(.scenario) \(.completed)"' "$(last_call)"
    done
done
for more in '' ',"stream":true'; do
    for name in flood flood-events; do
        request "gw-$name" "$more" | curl -sS --max-time 20 -H "@$work/key" -H 'anthropic-version: 2023-06-01' \
            -H 'content-type: application/json' --data-binary @- "$gateway_url/v1/messages" 2>"$work/curl.err" |
            head -c 20000000 >"$work/flood" || :
        expect 20000000 "$(wc -c <"$work/flood")" "bytes of $name that were read"
        wait_until gateway_is_idle
        expect_json "$name false" '"\(.scenario) \(.completed)"' "$(last_call)"
    done
done
rm "$work/flood"
exec {held}> >(wire hold "$gateway_url" gw-hang 200 >"$work/held")
wait_until grep -q held "$work/held"
wait_until gateway_has waiting 200
call m
expect 200 "$status" "beside 200 hanging calls"
exec {held}>&-
wait_until gateway_is_idle
peak=$(awk '/VmHWM/ {print $2}' "/proc/$gateway_pid/status")
limit=200000
grep -qa __asan_init "$gateway" && limit=2000000
[ "$peak" -lt "$limit" ] || fail "the gateway grew to $peak kB"

case_ "callers that leave in the middle of their request, or before it, leave nothing behind"
gateway_forget
wire half "$gateway_url" m 400
wait_until gateway_is_idle
wait_until gateway_has connections 1
expect 0 "$(gateway_calls | wc -l)" "calls that were served"

case_ "the log has tags from metadata or headers, and the request where asked for, but never a key"
gateway_forget
expect 0 "$(gateway_calls | wc -l)"
send '{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"line\nbreak"}],
 "metadata":{"user_id":"u7","flag_variant":"variant","rollout_stage":"5"}}' -H 'x-stainless-retry-count: 2'
expect_json "1 m u7 variant 5 ok false 200 true true 2 x-api-key 2023-06-01" \
    '"\(.n) \(.model) \(.user_id) \(.flag_variant) \(.rollout_stage) \(.scenario) \(.stream) \(.status) \(.completed) \(.text_valid) \(.retry) \(.auth) \(.anthropic_version)"' \
    "$(last_call)"
expect_json $'line\nbreak' '.request.messages[0].content' "$(last_call)"
send '{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}' -H 'x-user-id: u8' -H 'x-flag-variant: control' \
    -H 'x-rollout-stage: 25'
expect_json "2 u8 control 25" '"\(.n) \(.user_id) \(.flag_variant) \(.rollout_stage)"' "$(last_call)"
cmp "$gateway_log" <(gateway_calls) || fail "the file and GET /gateway/log differ"
! grep -rq gateway-key "$gateway_log" "$work/gateway.err" || fail "the key was written down"

case_ "the scenario: header before model, model before config, config before option"
stop_gateway
printf '{"models":{"a":{"scenario":"404"},"gw-500":{"scenario":"404"}},"default":{"scenario":"refusal"}}' >"$work/config.json"
start_gateway --scenario 413 --config "$work/config.json"
call a
expect 404 "$status"
call gw-500
expect 500 "$status"
send "$(request gw-500)" -H 'x-gateway-scenario: ok'
expect 200 "$status"
call b
expect_json refusal .stop_reason
gateway_config '{}' >/dev/null
call b
expect 413 "$status"

case_ "a config that is wrong is refused, and the one in force stays"
while read -r bad why; do
    code=0
    output=$(curl -s --fail-with-body -X PUT --data-binary "$bad" "$gateway_url/gateway/config") || code=$?
    expect 22 "$code" "$bad"
    expect_match "$why" "$output"
done <<'TABLE'
{"x":1} unknown key
[] must be a JSON object
{"models":[]} models must be an object
{"models":{"m":{"error_rate":1.1}}} m: error_rate must be a number
{"default":{"latency_ms":{"p50":5}}} latency_ms must be a number, or
{"default":{"latency_ms":{"p50":5,"p95":1}}} latency_ms must be
{"default":{"error_status":200}} error_status must be 400
{"default":{"scenario":"nope"}} no scenario
{"default":{"json":1}} json must be true
TABLE
call b
expect 413 "$status"

case_ "distribution mode: rates, tokens and latencies as told; the same seed gives the same calls, whatever the threads"
distribution='{"models":{"m":{"error_rate":0.2,"error_status":503,"input_tokens":900,"output_tokens":{"p50":80,"p95":200},"invalid_json_rate":0.1}}}'
run() { # SEED THREADS
    stop_gateway
    start_gateway --seed "$1"
    gateway_config "$distribution" >/dev/null
    wire calls "$gateway_url" m 500 4 "$2"
}
run 3 64 >"$work/first"
run 3 5 >"$work/second"
cmp "$work/first" "$work/second" || fail "the same seed, other calls"
gateway_calls >"$work/log"
run 4 64 >"$work/third"
! cmp -s "$work/first" "$work/third" || fail "another seed, the same calls"
# 2000 calls: four standard deviations of a share of 0.2 are 0.036; of 0.1 in 1600, 0.03.
between() { # LOW HIGH VALUE WHAT
    awk -v low="$1" -v high="$2" -v x="$3" 'BEGIN {exit !(low <= x && x <= high)}' || fail "$4 is $3, not $1..$2"
}
between 0.164 0.236 "$(jq -s '[.[] | select(.status == 503)] | length / 2000' "$work/first")" "share of 503"
between 0.07 0.13 "$(jq -s '[.[] | select(.status == 200)] | ([.[] | select(.text | try (fromjson | false) catch true)] | length) / length' "$work/first")" "share of broken JSON"
between 73 87 "$(jq -s '[.[] | select(.status == 200) | .usage.output_tokens] | sort | .[length / 2 | floor]' "$work/first")" "median of tokens"
between 180 220 "$(jq -s '[.[] | select(.status == 200) | .usage.output_tokens] | sort | .[length * 0.95 | floor]' "$work/first")" "p95 of tokens"
expect 900 "$(jq -s '[.[] | select(.status == 200) | .usage.input_tokens] | unique | join(" ")' -r "$work/first")"
count='[.[] | select(.status == 200)] | "\(length) \(map(.t) | add)"'
expect "$(jq -s "map(. + {t: .usage.output_tokens}) | $count" "$work/first")" "$(jq -s "map(. + {t: .output_tokens}) | $count" "$work/log")" \
    "what the log says was served"
expect "$(jq -s '[.[] | select(.status == 200 and (.text | try (fromjson | true) catch false))] | length' "$work/first")" \
    "$(jq -s '[.[] | select(.text_valid)] | length' "$work/log")" "valid answers"
gateway_forget
gateway_config '{"default":{"latency_ms":{"p50":20,"p95":40}}}' >/dev/null
wire calls "$gateway_url" m 200 2 50 >/dev/null
# The gateway is never early; how late it is, is this machine's affair.
[ "$(gateway_calls | jq -s '[.[].latency_ms] | sort | .[length / 2 | floor] | . >= 18')" = true ] || fail "median latency is too short"
expect_json 400 '.logged' "$(gateway_health)"

case_ "ends at once while calls hang and flood"
exec {held}> >(wire hold "$gateway_url" gw-hang 50 >"$work/held")
exec {flooded}> >(wire hold "$gateway_url" gw-flood 20 >"$work/flooded")
wait_until grep -q held "$work/held"
wait_until grep -q held "$work/flooded"
begin=$SECONDS
stop_gateway
[ $((SECONDS - begin)) -lt 5 ] || fail "took $((SECONDS - begin)) s"
exec {held}>&- {flooded}>&-
expect "50 20" "$(jq -s '[.[] | select(.scenario == "hang" and .completed == false)] | length' "$gateway_log") $(
    jq -s '[.[] | select(.scenario == "flood" and .completed == false)] | length' "$gateway_log")" "calls cut by the end"
[ ! -s "$work/gateway.err" ] || fail "the gateway complained: $(cat "$work/gateway.err")"
