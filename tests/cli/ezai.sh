#!/usr/bin/env bash
# client/ezai.h against the gateway: it compiles as strangers compile it; what each way of failing becomes; limits of time and memory;
# the key; fallback; shadow calls; what is booked. Usage: ezai.sh BUILD_DIRECTORY
. "$(dirname "$0")/gateway.bash"

probe=$build/tests/ezai_probe
example=$build/client/example_ezai
publish() { "$build/tests/table_publish" --instance "$instance" "$file" >/dev/null 2>>"$log"; }
key=sk-ezai-test-0123456789
# Runs the probe with ids behind its options; its lines are left in $output, its exit code is checked.
ask() { # CODE OPTION... ID...
    local wanted=$1 code=0
    shift
    output=$("$probe" "$@" 2>"$work/errors") || code=$?
    [ "$code" = "$wanted" ] || fail "exit code $code, expected $wanted: $* : $output $(cat "$work/errors")"
    [ ! -s "$work/errors" ] || fail "$* says: $(cat "$work/errors")"
}
is() { # EXPECTED JQ: of the last line
    expect "$1" "$(jq -r "$2" <<<"${output##*$'\n'}")" "$2"
}
shadow_is() { is "$1" ".shadow.$2"; }

case_ "it compiles, strict, in C and C++, and its opening example is the program that it says it is"
mkdir "$work/inc"
awk '/^ \*     #include "ezai.h"/ { on = 1 } on { sub(/^ \*     |^ \*$/, ""); print } on && /^}/ { exit }' "$source_dir/client/ezai.h" >"$work/opening.c"
cp "$work/opening.c" "$work/opening.cc"
printf '#include "ezai.h"\n#include "ezai.h"\nint other_unit(void);\nint other_unit(void)\n{\n    struct ezai_request q = EZAI_REQUEST_INIT;\n    return q.is_stream;\n}\n' >"$work/unit.c"
cp "$work/unit.c" "$work/unit.cc"
warn="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wcast-align -Wundef -Werror"
libraries=$(pkg-config --libs libcurl libcjson)
cd "$source_dir" # its path may hold a space
for cc in gcc clang; do
    command -v $cc >/dev/null || { echo "skipped: $cc is not installed"; continue; }
    for std in c11 c17 c2x; do
        # shellcheck disable=SC2086 # the flags are words
        $cc -std=$std $warn -O2 -Iclient -fsyntax-only "$work/opening.c" "$work/unit.c" || fail "$cc -std=$std"
    done
    cxx=${cc/gcc/g++}
    cxx=${cxx/clang/clang++}
    command -v $cxx >/dev/null || { echo "skipped: $cxx is not installed"; continue; }
    for std in c++11 c++14 c++17 c++20; do
        # shellcheck disable=SC2086
        $cxx -std=$std $warn -O2 -Iclient -fsyntax-only "$work/opening.cc" "$work/unit.cc" || fail "$cxx -std=$std"
    done
    # shellcheck disable=SC2086
    $cc -std=c11 $warn -O2 -Iclient "$work/opening.c" "$work/unit.c" $libraries -pthread -o "$work/opening_$cc" || fail "$cc does not link"
    # shellcheck disable=SC2086
    $cxx -std=c++11 $warn -O2 -Iclient "$work/opening.cc" $libraries -pthread -o "$work/opening_$cxx" || fail "$cxx does not link"
done
nm "$work/opening_gcc" | grep -E ' [BbDd] .*ezai' && fail "the header has mutable statics"
cd "$work"

start_gateway --log-bodies
export EZAI_KEY=$key

case_ "the examples call, also where no server runs"
for program in "$work"/opening_*; do
    expect_match '^control \(claude-haiku-4-5\): Summary' "$("$program" user-1 "a text")"
done
expect_match '^user-7: control \(claude-haiku-4-5\): Summary' "$("$example" user-7)"
expect 3 "$(printf 'u1\nu2\nu3\n' | "$example" | grep -c ': control (claude-haiku-4-5): Summary')"

case_ "what each answer becomes: result, status, attempts, transport error, plain and streamed"
# SCENARIO RESULT STATUS ATTEMPTS TRANSPORT_ERROR, and the same streamed where it differs
while read -r scenario result status attempts broken streamed; do
    for mode in "" --stream; do
        code=0
        [ "$result" = 0 ] || code=1
        [ -z "$mode" ] || [ -z "$streamed" ] || { read -r result status attempts broken <<<"${streamed//,/ }"; code=1; }
        # shellcheck disable=SC2086 # no argument where it is empty
        ask $code --model "gw-$scenario" $mode "user-$scenario$mode"
        expect "$result $status $attempts $broken" "$(jq -r '"\(.result) \(.status) \(.attempts) \(.transport_error)"' <<<"$output")" "$scenario $mode"
        [ "$result" = 0 ] || is true '(.error | length) > 10 and .text == "(none)"'
    done
done <<'TABLE'
ok               0         200 1 false
slow-first-byte  0         200 1 false
slow-body        0         200 1 false
400-metadata     EREMOTEIO 400 1 false
400-parameter    EREMOTEIO 400 1 false
401              EREMOTEIO 401 1 false
403              EREMOTEIO 403 1 false
404              EREMOTEIO 404 1 false
413              EREMOTEIO 413 1 false
429              EREMOTEIO 429 1 false
429-retry-after  0         200 2 false
500              EREMOTEIO 500 3 false
504              EREMOTEIO 504 3 false
529              EREMOTEIO 529 3 false
529-twice        0         200 3 false
529-no-retry     EREMOTEIO 529 1 false
refusal          0         200 1 false
max-tokens       0         200 1 false
stream-ping      0         200 1 false
stream-unknown   0         200 1 false
stream-error     EREMOTEIO 529 3 false EREMOTEIO,529,1,false
stream-cut       EIO       200 3 true  EPROTO,200,1,true
stream-abort     EIO       200 3 true  EIO,200,1,true
stream-split     0         200 1 false
gzip             0         200 1 false
huge-usage       0         200 1 false
bad-usage        0         200 1 false
reset            EIO       0   3 true
bad-body         EPROTO    200 1 true
TABLE
ask 0 --model gw-529-twice user-limited
is true .limited
ask 1 --model gw-401 u
is authentication_error .error_type
is true '.request_id | startswith("req_")'

case_ "what is known of a good answer: tokens, stops, checks, first token"
for mode in "" --stream; do
    # shellcheck disable=SC2086
    ask 0 --model gw-cache-tokens $mode u
    is 7300 .cache
    # shellcheck disable=SC2086
    ask 0 --model gw-usage-late $mode u
    is true '.input > 0 and .output > 0'
    # shellcheck disable=SC2086
    ask 0 --model gw-refusal $mode u
    is "true false refusal" '"\(.refusal) \(.empty) \(.stop)"'
    # shellcheck disable=SC2086
    ask 0 --model gw-max-tokens $mode u
    is true .truncated
    # shellcheck disable=SC2086
    ask 0 --model gw-invalid-json --wants-json $mode u
    is invalid .json
    # shellcheck disable=SC2086
    ask 0 --model gw-broken-tool $mode u
    [ -z "$mode" ] || is invalid .tool
done
ask 0 --model gw-slow-first-byte --stream u
is true '.has_ttft and .ttft_ms >= 900 and .taken == (.text | utf8bytelength)'
ask 0 --model gw-slow-first-byte u
is false .has_ttft

case_ "installed, it serves programs by pkg-config and by find_package; its page names what it defines"
cmake --install "$build" --prefix "$work/prefix" >"$work/install.log" || fail "$(cat "$work/install.log")"
flags=$(PKG_CONFIG_PATH="$work/prefix/share/pkgconfig" pkg-config --cflags --libs flagshm-ezai)
# shellcheck disable=SC2086
cc -std=c11 "$work/opening.c" $flags -o "$work/by_pkg_config"
mkdir "$work/consumer"
cp "$work/opening.c" "$work/consumer"
cat >"$work/consumer/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.20)
project(consumer C)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS OFF)
find_package(flagshm CONFIG REQUIRED COMPONENTS ezai)
add_executable(opening opening.c)
target_link_libraries(opening PRIVATE flagshm::ezai)
CMAKE
{ cmake -S "$work/consumer" -B "$work/consumer/build" -DCMAKE_PREFIX_PATH="$work/prefix" && cmake --build "$work/consumer/build"; } \
    >"$work/install.log" 2>&1 || fail "$(tail -n 20 "$work/install.log")"
for program in "$work/by_pkg_config" "$work/consumer/build/opening"; do
    expect_match '^control \(claude-haiku-4-5\): Summary' "$("$program" user-1)"
done
cat "$source_dir"/client/ezai.h "$source_dir"/client/ezai/*.h | tr '\n' ' ' | grep -oE '\bezai_[a-z_]*[a-z]\([^(){};]*\) \{' | sed 's/(.*//' | sort -u >"$work/defined"
sed -n '/^# SYNOPSIS/,/^# DESCRIPTION/p' "$source_dir/client/man/ezai.3.scd" | grep -oE 'ezai_[a-z_]+\(' | tr -d '(' | sort -u >"$work/named"
expect "$(cat "$work/defined")" "$(cat "$work/named")" "functions of ezai.h and ezai(3)"
mandoc -Tlint -W error "$build/man/ezai.3" || fail "ezai(3) is not sound"

case_ "time: hanging, slow and silent ends, the deadline, and the caller who has enough"
begin=$EPOCHREALTIME
took() { # MAXIMUM: milliseconds since $begin; begins anew
    local now=$EPOCHREALTIME
    [ $((${now/./} / 1000 - ${begin/./} / 1000)) -lt "$1" ] || fail "took longer than $1 ms"
    begin=$EPOCHREALTIME
}
ask 1 --model gw-hang --total-ms 300 --attempts 2 u
is "ETIMEDOUT 2 true" '"\(.result) \(.attempts) \(.transport_error)"'
took 5000
ask 1 --model gw-hang-body --total-ms 300 --attempts 1 u
is "ETIMEDOUT 200" '"\(.result) \(.status)"'
ask 1 --model gw-hang-body --stream --stall-s 1 u
is "ETIMEDOUT 1 true" '"\(.result) \(.attempts) \(.transport_error)"'
took 20000
ask 1 --model gw-529 --deadline-ms 300 u
is "EREMOTEIO 1" '"\(.result) \(.attempts)"'
ask 1 --model gw-hang --deadline-ms 400 u
is "ETIMEDOUT 1" '"\(.result) \(.attempts)"'
took 5000
ask 1 --model gw-hang --cancel-after-ms 200 u
is "ECANCELED true false" '"\(.result) \(.cancelled) \(.transport_error)"'
ask 1 --model gw-529 --cancel-after-ms 200 u
is "ECANCELED true" '"\(.result) \(.cancelled)"'
ask 1 --model gw-ok --stream --stop-after 5 u
is "ECANCELED true" '"\(.result) \(.cancelled)"'
took 5000
EZAI_BASE_URL=http://127.0.0.1:1 ask 1 --model m --attempts 1 u
is "ECONNREFUSED 0 true" '"\(.result) \(.status) \(.transport_error)"'
EZAI_BASE_URL=http://nobody.invalid ask 1 --model m --attempts 1 u
is EHOSTUNREACH .result

case_ "memory: a gigabyte is not read"
for scenario in flood flood-events; do
    for mode in "" --stream; do
        # shellcheck disable=SC2086
        ASAN_OPTIONS=quarantine_size_mb=8 ask 1 --model gw-$scenario --answer-max 1000000 $mode u
        is "EMSGSIZE 1 true" '"\(.result) \(.attempts) \(.rss_mb < 150)"'
    done
done

case_ "only http and https, and no redirects"
for url in ftp://127.0.0.1 file:///etc/passwd 127.0.0.1 "http://a b"; do
    EZAI_BASE_URL=$url ask 1 --model m u
    is EINVAL .open
done
EZAI_BASE_URL=$gateway_url/ ask 0 --model gw-ok u

case_ "the key: missing is said before anything is sent; it stands nowhere but in its header"
gateway_forget
EZAI_KEY='' ask 1 --model gw-ok u
is "ENOKEY true 0" '"\(.result) \(.error | contains("EZAI_KEY")) \(.attempts)"'
(unset EZAI_KEY && ask 1 --model gw-ok u && is ENOKEY .result)
expect "" "$(gateway_calls)"
EZAI_KEY=$'sk-\nx: y' ask 1 --model gw-ok u
is EINVAL .open
ask 0 --model gw-ok --dry-run u
! grep -qF "$key" <<<"$output" || fail "the dry run shows the key"
"$probe" --model gw-hang --total-ms 3000 --attempts 1 u >"$work/hanging" &
hanging=$!
children+=("$hanging")
wait_until gateway_has in_flight 1
! tr '\0' ' ' <"/proc/$hanging/cmdline" | grep -qF "$key" || fail "the key is on a command line"
wait "$hanging" || :
for scenario in 401 400-parameter reset bad-body stream-error; do
    ask 1 --model gw-$scenario u
    ! grep -qF "$key" <<<"$output" || fail "the key is in an answer to $scenario"
done
! grep -qF "$key" "$gateway_log" || fail "the key stands in a body"
expect "x-api-key" "$(jq -r .auth "$gateway_log" | sort -u)"

case_ "arms are sent as they are spelt, with the tags where they are wanted"
flags_file '"f": {"control": {"model": "c", "n": 9007199254740993, "temperature": 0.10, "prompt": "p"}, "variant": "gw-500", "rollout_pct": 0},
    "v": {"control": {"model": "c", "system": "ctl"}, "variant": "gw-500", "rollout_pct": 100},
    "big": {"control": "c", "variant": {"model": "b", "system": "'"$(printf 'x%.0s' $(seq 20000))"'"}, "rollout_pct": 100}'
publish
gateway_forget
ask 0 --max-tokens 9 --extra '{"top_p": 1, "n": 2}' u
expect '{"model":"c","max_tokens":9,"system":"p","messages":[{"role":"user","content":"Say something."}],"n":9007199254740993,"temperature":0.10,"top_p":1,"metadata":{"user_id":"u","flag_variant":"control","rollout_stage":"static-0pct"}}' \
    "$(grep -o '"request":.*' "$gateway_log" | sed 's/^"request"://; s/}$//')"
for tags in metadata header; do
    gateway_forget
    ask 0 --tags $tags "a user é"
    expect 'control static-0pct' "$(gateway_calls | jq -r '"\(.flag_variant) \(.rollout_stage)"')"
done
gateway_forget
ask 0 --tags none u
expect '[]' "$(gateway_calls | jq -c '[.flag_variant, .rollout_stage, .user_id | select(. != "" and . != null)]')"
ask 0 --flag big u
is "variant b" '"\(.arm) \(.model)"'

case_ "a failed variant: control answers where that was asked for, the decision stays the variant's"
ask 1 --flag v u
is "EREMOTEIO variant false" '"\(.result) \(.arm) \(.is_fallback)"'
gateway_forget
ask 0 --flag v --falls-back u
is "0 variant c true 200" '"\(.result) \(.arm) \(.model) \(.is_fallback) \(.status)"'
expect "gw-500 variant,gw-500 variant,gw-500 variant,c control" "$(gateway_calls | jq -rs '[.[] | "\(.model) \(.flag_variant)"] | join(",")')"

case_ "shadow: control at once; a thousand are asked for, never more than eight fly"
flags_file '"f": {"control": "c", "variant": "gw-slow-first-byte", "rollout_pct": 0}, "quick": {"control": "c", "variant": "v", "rollout_pct": 0},
    "bad": {"control": "c", "variant": "gw-529-twice", "rollout_pct": 0}, "hang": {"control": "c", "variant": "gw-hang", "rollout_pct": 0}'
publish
gateway_forget
ids=$(seq -f 'u%g' 1000)
# shellcheck disable=SC2086 # a thousand words
ask 0 --shadow-mpct 100000 --threads 16 --close-ms 30000 --pair-log "$work/pairs" $ids
shadow_is 1000 asked
shadow_is 8 in_flight_max
shadow_is "$(wc -l <"$work/pairs")" finished
is true '.shadow | .finished >= 8 and .capped + .finished == .asked and .failed == 0 and .unlogged == 0'
expect 1000 "$(gateway_calls | jq -r 'select(.model == "c") | .user_id' | sort -u | wc -l)"
expect "variant" "$(gateway_calls | jq -r 'select(.model != "c") | .flag_variant' | sort -u)"

case_ "shadow: the pair log holds both answers, is ours alone, and does not hold the key"
expect 600 "$(stat -c %a "$work/pairs")"
expect "true" "$(jq -s 'all(.control.status == 200 and .shadow.status == 200 and (.control.text | length) > 0 and (.shadow.text | length) > 0
    and .control.arm == "control" and .shadow.arm == "variant" and .messages[0].content == "Say something." and (.altered | not)
    and .flag == "f" and (.id_hash | length) == 16)' "$work/pairs")"
! grep -qF "$key" "$work/pairs" || fail "the key is in the pair log"
ask 1 --pair-log "$work/none/pairs" u
is ENOENT .open
ln -s "$work/elsewhere" "$work/link"
ask 1 --pair-log "$work/link" u
is ELOOP .open

case_ "shadow: it tries again as control does; one that hangs is cut at the end; samples are taken"
ask 0 --flag bad --shadow-mpct 100000 --threads 1 --close-ms 8000 --pair-log "$work/again" u1
is "1 0" '.shadow | "\(.finished) \(.failed)"'
expect "200 3" "$(jq -r '"\(.shadow.status) \(.shadow.attempts)"' "$work/again")"
begin=$EPOCHREALTIME
ask 0 --flag hang --shadow-mpct 100000 --threads 1 --close-ms 300 u1 u2
took 5000
is "2 0 0" '.shadow | "\(.in_flight) \(.finished) \(.cut)"'
# shellcheck disable=SC2086
ask 0 --flag quick --shadow-mpct 100000 --threads 4 --one-in 4 --shadow-max 1000 --close-ms 20000 $ids
is true '.shadow | .sampled_out > 650 and .sampled_out < 850 and .sampled_out + .finished == 1000'

case_ "shadow: no tools; without a log such a call is for nothing"
gateway_forget
ask 0 --flag quick --shadow-mpct 100000 --threads 1 --close-ms 8000 --extra '{"tools": [{"name": "pay", "input_schema": {"type": "object"}}]}' --pair-log "$work/tools" u1
expect "true" "$(jq .altered "$work/tools")"
expect "false" "$(jq 'select(.model == "v") | .request | has("tools")' "$gateway_log")"
ask 0 --flag quick --shadow-mpct 100000 --threads 1 --close-ms 8000 --extra '{"tools": [{"name": "pay", "input_schema": {"type": "object"}}]}' u1
is "1 0" '.shadow | "\(.skipped) \(.finished)"'

case_ "fork: a child has connections and shadow calls of its own, the parent goes on"
gateway_forget
ask 0 --flag f --shadow-mpct 100000 --fork --close-ms 8000 u1 u2 u3
expect 9 "$(head -n 9 <<<"$output" | jq -r 'select(.result == "0") | .id' | wc -l)"
is "6 6 0" '.shadow | "\(.asked) \(.finished) \(.failed)"'
wait_until gateway_is_idle
# the parent's six; of the child's three those that its end left time for
expect true "$(gateway_calls | jq -s '[.[] | select(.model == "gw-slow-first-byte" and .completed)] | length >= 6')"
rm -f /dev/shm/flagshm."$instance".*

case_ "booking: what the server counts is what the gateway served"
flags_file '"f": {"control": "c", "variant": "gw-529-twice", "rollout_pct": 50}, "s": {"control": "c", "variant": "v", "rollout_pct": 0}'
start_server
gateway_forget
# shellcheck disable=SC2046
ask 0 --threads 8 $(seq -f 'b%g' 60)
stats() { "$flagctl" stats f -o json | jq -r ".flags[0].arms[$1] | \"\(.started) \(.finished) \(.failed) \(.retries) \(.met_limit) \(.input_tokens) \(.output_tokens)\""; }
served() { # MODEL
    gateway_calls | jq -rs --arg model "$1" 'map(select(.model == $model)) | map(select(.status == 200)) as $ok |
        "\($ok | length) \($ok | length) 0 \(length - ($ok | length)) \($ok | map(select(.retry > 0)) | length) \($ok | map(.input_tokens) | add) \($ok | map(.output_tokens) | add)"'
}
expect "$(served c)" "$(stats 0)" "control's counts"
expect "$(served gw-529-twice)" "$(stats 1)" "the variant's counts"
expect 60 "$("$flagctl" stats f -o json | jq '.flags[0].arms | map(.started) | add')"

case_ "shadow: the host's budget of the day is kept over processes"
ask 0 --flag s --shadow-mpct 100000 --threads 1 --close-ms 8000 --shadow-tokens 200 $(seq -f 'd%g' 40)
is true '.shadow | .finished >= 2 and .finished <= 9 and .over_budget + .finished + .capped == 40 and .over_budget > 0'
ask 0 --flag s --threads 1 --close-ms 8000 --shadow-tokens 200 d1
is "0 1" '.shadow | "\(.finished) \(.over_budget)"'
stop_server
