#!/usr/bin/env bash
# The server is killed between any two steps of publish, commit and notify, and a hundred times while a value is rolled back: what it decided
# stays, and is told. Usage: rollout_kill.sh BUILD_DIRECTORY (built with FLAGSHM_FAULT_POINTS)
. "$(dirname "$0")/daemon.bash"
. "$(dirname "$0")/rollout.bash"

is_dead() { ! kill -0 "$server_pid" || grep -q '^State:.Z' "/proc/$server_pid/status"; }
killed_at() { # POINT: the server has been, by itself
    local code=0
    later is_dead
    { wait "$server_pid" || code=$?; } 2>/dev/null
    server_pid=
    expect 137 "$code" "exit code at $1"
}
told_numbers() { # FLAG: numbers of the transitions that were told, without those of before $2
    jq -r --arg flag "$1" --argjson from "$2" 'select(.flag == $flag) | .id | split(":") | last | tonumber | select(. >= $from)' "$told"
}

number=0
for point in fall-published fall-committed fall-notified; do
    case_ "killed at $point: the roll-back is served before and after, and told under one number"
    number=$((number + 1))
    flag=fall$number
    plan "$flag" '{"pct": 5, "hold": "1h"}, {"pct": 25}'
    write_flags
    FLAGSHM_FAULT_POINT=$point start_server --notify-dir "$targets"
    later has_stage "$flag" canary-5pct
    traffic "$flag" variant_status=500
    killed_at $point
    expect 0 "$(share "$flag")"
    start_server --notify-dir "$targets"
    expect "0 rolled-back" "$(share "$flag") $(stage "$flag")"
    expect true "$(rollout "$flag" .latched)"
    was_told() { [ -n "$(told_numbers "$flag" 3)" ]; }
    later was_told
    sleep 0.3
    expect 3 "$(told_numbers "$flag" 3 | sort -u)" "number of the roll-back" # 1: new, 2: started
    expect_match '^(breaker|guardrail|recovered)$' "$("$flagctl" history "$flag" -o json | jq -r '.[0].kind')"
    end_traffic
    sleep 1.2
    stop_server
    start_server --notify-dir "$targets"
    expect "0 rolled-back 3" "$(share "$flag") $(stage "$flag") $(told_numbers "$flag" 3 | sort -u)"
    stop_server
done

number=0
for point in rise-begun rise-committed rise-published rise-notified; do
    number=$((number + 1))
    flag=rise$number
    case_ "killed at $point: what was written down is served after, and told under one number"
    plan "$flag" '{"pct": 5, "hold": "1h"}, {"pct": 25, "hold": "1h"}, {"pct": 50}'
    write_flags
    start_server --notify-dir "$targets"
    later has_stage "$flag" canary-5pct
    stop_server
    FLAGSHM_FAULT_POINT=$point start_server --notify-dir "$targets"
    ask "{\"verb\": \"advance\", \"flag\": \"$flag\", \"reason\": \"now\"}" >/dev/null 2>&1 || :
    killed_at $point
    before=$(share "$flag")
    case $point in
        rise-begun | rise-committed) expect 5 "$before" ;;
        *) expect 25 "$before" ;;
    esac
    start_server --notify-dir "$targets"
    [ $point != rise-committed ] || before=25 # decided, and no table was published since that says less
    expect "$before" "$(share "$flag")"
    if [ $point = rise-begun ]; then
        expect 0 "$(happened "$flag" advance)"
    else
        later was_told_of "$flag" advance
        expect 1 "$(told_of "$flag" advance | sort -u | wc -l)" "notices of the rise"
        expect 3 "$(told_of "$flag" advance | sort -u | grep -o '[0-9]*$')"
    fi
    sleep 1.2 # two beats: nothing rises by itself
    expect "$before" "$(share "$flag")"
    expect 0 "$(told_of "$flag" recovered | wc -l)" "corrections"
    say advance "$flag" '{reason: "again"}'
    agreed
    [ "$(share "$flag")" = $((before == 5 ? 25 : 50)) ] || fail "it serves $(share "$flag") %"
    stop_server
done

case_ "a rise that was written down, and a table since that says less: the table is believed, and the correction told"
flag=less
plan "$flag" '{"pct": 5, "hold": "1h"}, {"pct": 25, "hold": "1h"}, {"pct": 50}'
plan other '{"pct": 5}'
write_flags
start_server --notify-dir "$targets"
later has_stage "$flag" canary-5pct
stop_server
FLAGSHM_FAULT_POINT=rise-committed start_server --notify-dir "$targets"
ask "{\"verb\": \"advance\", \"flag\": \"$flag\", \"reason\": \"now\"}" >/dev/null 2>&1 || :
killed_at rise-committed
"$flagctl" kill other >/dev/null # without a server: another version
start_server --notify-dir "$targets"
expect 5 "$(share "$flag")"
later was_told_of "$flag" recovered
stop_server

for point in fall-published fall-committed; do
    case_ "killed in a live drill at $point: the share is back with the next server"
    flag=drilled-$point
    plan "$flag" '{"pct": 5, "hold": "1h"}, {"pct": 25}'
    write_flags
    start_server --notify-dir "$targets"
    later has_stage "$flag" canary-5pct
    stop_server
    FLAGSHM_FAULT_POINT=$point start_server --notify-dir "$targets"
    ask "{\"verb\": \"drill\", \"flag\": \"$flag\", \"live\": true}" >/dev/null 2>&1 || :
    killed_at $point
    expect "0 drill" "$(share "$flag") $(stage "$flag")"
    start_server --notify-dir "$targets"
    expect "5 canary-5pct" "$(share "$flag") $(stage "$flag")"
    expect "false false" "$(rollout "$flag" '"\(.latched) \(.drilling)"')"
    stop_server
done

case_ "a hundred restarts, half of them sudden: what was rolled back stays at 0 and is told once; the rest stays as it was"
text=()
plan latched '{"pct": 5, "hold": "1h"}, {"pct": 25}'
plan held '{"pct": 5, "hold": "1h"}, {"pct": 25}'
plan complete '{"pct": 100}'
text[static]='"static": {"control": "c", "variant": "v", "rollout_pct": 50}'
write_flags
start_server --notify-dir "$targets"
later has_stage complete full
later has_stage held canary-5pct
later has_stage latched canary-5pct
traffic latched,static variant_status=500
traffic held,complete
later was_told_of latched breaker
later has_stage static rolled-back
later has_stage complete complete
sleep 1.2 # two beats: the journal knows that it was told
evidence=$(rollout held .evidence)
before=$(wc -l <"$told")
stop_server
for turn in $(seq 100); do
    "$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/sock" --notify-dir "$targets" 2>>"$log" &
    server_pid=$!
    [ $((turn % 4)) -ge 2 ] || wait_until test -S "$work/sock"
    sleep "0.0$((turn * 7 % 10))"
    expect "0 0 5 100" "$(share latched) $(share static) $(share held) $(share complete)" "shares at turn $turn"
    kill -"$([ $((turn % 2)) = 0 ] && echo KILL || echo TERM)" "$server_pid"
    { wait "$server_pid" || :; } 2>/dev/null
    server_pid=
    rm -f "$work/sock"
done
start_server --notify-dir "$targets"
sleep 1.2
expect "0 0 5 100" "$(share latched) $(share static) $(share held) $(share complete)"
expect "true true" "$(rollout latched .latched) $(rollout static .latched)"
expect "$before" "$(wc -l <"$told")" "notices"
expect 1 "$(told_of latched breaker | wc -l)" "notices of the roll-back"
expect "$evidence" "$(rollout held .evidence)" "evidence"
expect "complete" "$(rollout complete .state)"
stop_server
