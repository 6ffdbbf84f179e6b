#!/usr/bin/env bash
# Rollouts with the real server whose journal is full, read-only, damaged or lost: nothing rises unwritten, nothing waits to be taken back.
# Usage: rollout_disk.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"
. "$(dirname "$0")/rollout.bash"

# A file system of its own for the state, that only the server and `inside` see.
start_server_inside() {
    rm -f "$work/sock"
    nsenter -t "$keeper" -m "$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/sock" \
        --notify-dir "$targets" 2>>"$log" &
    server_pid=$!
    wait_until answers
}
inside() { nsenter -t "$keeper" -m "$@"; }
is_troubled() { [ -n "$(rollout "$1" .trouble)" ]; }

troubled_disk() { # WORDS: what the log says of it
    later is_troubled climbs
    expect "5 canary-5pct" "$(share climbs) $(stage climbs)"
    expect_match "climbs stays at its share: .*$1" "$(cat "$log")"
    say advance raised '{reason: "now"}'
    refused "it cannot be written down, so nothing has changed: .*$1"
    expect 5 "$(share raised)"
    say rollback lowered '{reason: "now"}'
    agreed
    expect "false true" "$(field '"\(.durable) \(.warning | length > 0)"')"
    expect "0 rolled-back" "$(share lowered) $(stage lowered)"
    traffic harmed variant_status=500
    later has_stage harmed rolled-back
    expect 0 "$(share harmed)"
    later was_told_of harmed breaker # told, though not written down
    stop_server KILL
    start_server_inside
    expect "0 0 5 5" "$(share lowered) $(share harmed) $(share raised) $(share climbs)"
    end_traffic
}
mended_disk() {
    is_well() { [ "$(sentence harmed "$1")" != null ]; }
    later has_share climbs 25
    expect 5 "$(share raised)"
    for flag in lowered harmed; do
        expect "true" "$(rollout $flag .latched)"
        is_written() { "$flagctl" history "$flag" -o json | jq -e '[.[] | select(.kind == "recovered" or .kind == "rollback" or .kind == "breaker")] | length > 0'; }
        later is_written
    done
    later was_told_of harmed recovered
    stop_server
    start_server_inside
    expect "0 0" "$(share lowered) $(share harmed)"
}
begin_disk() {
    rm -rf "$state" /dev/shm/flagshm."$instance".* "$file"
    mkdir -m 700 "$state"
    : >"$told"
    : >"$log"
    unshare --mount sh -c 'mount -t tmpfs -o size=2m,mode=700 none "$1" && exec sleep 300' - "$state" &
    keeper=$!
    is_mounted() { inside mountpoint -q "$state"; }
    wait_until is_mounted
    text=()
    plan climbs '{"pct": 5, "hold": "4s"}, {"pct": 25}'
    for flag in raised lowered harmed; do plan $flag '{"pct": 5, "hold": "1h"}, {"pct": 25}'; done
    write_flags
    start_server_inside
    for flag in climbs raised lowered harmed; do later has_stage $flag canary-5pct; done
    sleep 0.3 # what is queued is written
}
end_disk() {
    stop_server KILL
    kill -KILL "$keeper"
    wait "$keeper" 2>/dev/null || :
    end_traffic
}

if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    case_ "a full disk: what would rise stays and says so, what harms is taken back at once and stays so; with room again it goes on"
    begin_disk
    inside sh -c 'dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null; true' - "$state"
    traffic climbs
    troubled_disk "full"
    inside rm "$state/filler"
    traffic climbs
    mended_disk
    end_disk

    case_ "a disk that is read-only from a start on: the same"
    begin_disk
    stop_server
    inside mount -o remount,ro "$state"
    start_server_inside
    traffic climbs
    troubled_disk "(read-only|readonly)"
    inside mount -o remount,rw "$state"
    traffic climbs
    mended_disk
    end_disk
else
    echo "- (left out, not root: a full disk, a disk that is read-only)"
fi

begin_journal() {
    rm -rf "$state" /dev/shm/flagshm."$instance".* "$file"
    : >"$told"
    : >"$log"
    text=()
    plan complete '{"pct": 100}'
    plan walking '{"pct": 5}, {"pct": 25}, {"pct": 50, "approval": true}'
    plan latched '{"pct": 5, "hold": "1h"}, {"pct": 25}'
    plan killed '{"pct": 5, "hold": "1h"}, {"pct": 25}'
    text[plain]='"plain": {"control": "c", "variant": "v", "rollout_pct": 50}'
    write_flags
    start_server --notify-dir "$targets"
    for flag in latched killed; do later has_stage $flag canary-5pct; done
    traffic complete,walking,plain
    later has_stage complete complete
    later has_share walking 25
    say rollback latched '{reason: "a test"}'
    agreed
    expect_exit 0 "$flagctl" kill killed
    stop_server "$1"
    end_traffic
}
lost_journal() { # what a server says and serves that finds the table, and no journal
    expect "100 0 0 50" "$(share complete) $(share latched) $(share killed) $(share plain)"
    [ "$(share walking)" -le 5 ] || fail "walking serves $(share walking) %"
    expect "complete true true" "$(rollout complete .state) $(rollout latched .latched) $(rollout killed .killed)"
    expect_match "walking .*the journal was lost from 25 % to 0 %|walking .*the journal was lost: " "$(cat "$log")"
    later was_told_of walking journal_lost
    later has_stage walking canary-5pct
    sleep 1.2
    expect "100 0 0 50" "$(share complete) $(share latched) $(share killed) $(share plain)"
    stop_server
    start_server --notify-dir "$targets"
    expect "100 0 0 50" "$(share complete) $(share latched) $(share killed) $(share plain)"
    expect 1 "$(told_of walking journal_lost | wc -l)"
    stop_server
}

case_ "a damaged journal is kept aside; what is complete stays, rollouts begin at their first step and say so, latches and kills stay"
begin_journal KILL
python3 - "$state/journal.sqlite" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as f:
    f.write(b"this is no data base" * 200)
PYTHON
rm -f "$state"/journal.sqlite-*
start_server --notify-dir "$targets"
ls "$state"/journal.sqlite.damaged-* >/dev/null || fail "nothing was set aside"
expect_match 'was damaged and is set aside' "$(cat "$log")"
lost_journal

case_ "a journal that is gone, with the table that was served: the same"
begin_journal TERM
rm -f "$state"/journal.sqlite*
start_server --notify-dir "$targets"
lost_journal

case_ "a reboot keeps all: without the table the journal is believed"
begin_journal TERM
rm -f /dev/shm/flagshm."$instance".*
start_server --notify-dir "$targets"
expect "100 25 0 0 50" "$(share complete) $(share walking) $(share latched) $(share killed) $(share plain)"
expect "complete true true" "$(rollout complete .state) $(rollout latched .latched) $(rollout killed .killed)"
stop_server

case_ "a damaged journal after a reboot: nothing is known, so all begins at its first step, and says so"
python3 - "$state/journal.sqlite" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as f:
    f.write(b"this is no data base" * 200)
PYTHON
rm -f "$state"/journal.sqlite-* /dev/shm/flagshm."$instance".*
start_server --notify-dir "$targets"
[ "$(share complete)" = 0 ] || [ "$(rollout complete .state)" = full ] || fail "complete: $(rollout complete .state)"
expect 0 "$(share killed)"
later was_told_of complete journal_lost
later was_told_of walking journal_lost
stop_server
echo "all cases passed"
