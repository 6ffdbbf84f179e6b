#!/usr/bin/env bash
# The server as a whole: starts, ends, faults around it. Usage: server.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

case_ "usage errors are told with exit code 2"
expect_exit 2 "$flagshmd"
expect_match "--file FLAGS.json is missing" "$output"
expect_exit 2 "$flagshmd" --file x y
expect_match '"y" is one argument too many' "$output"
expect_exit 2 "$flagshmd" --file x --instance "a b"
expect_exit 2 "$flagshmd" --file x --table-mode 0666
expect_match "nobody else can write" "$output"
expect_exit 2 "$flagshmd" --file x --group no-such-group
expect_exit 2 "$flagshmd" --file x --max-flags 0
expect_exit 0 "$flagshmd" --version
expect_match "^layout   1\.0" "$output"
expect_exit 0 "$flagshmd" --help

case_ "serves a file, sees an edit, and ends cleanly while readers go on"
flags_file "$(flag a 5)"
start_server
expect 5 "$(share a)"
flags_file "$(flag a 25)"
wait_until has_share a 25
stop_server
expect 25 "$(share a)"

case_ "a restart goes on with the next version; SIGKILL likewise"
before=$(version)
start_server
[ "$(version)" -gt "$before" ] || fail "version $(version) after $before"
before=$(version)
stop_server KILL
start_server
expect $((before + 1)) "$(version)"

case_ "SIGHUP reads the file again"
kill -HUP "$server_pid"
flags_file "$(flag a 30)"
wait_until has_share a 30

case_ "a second server on the instance waits, then says who is in its way (exit 3)"
expect_exit 3 "$flagshmd" --file "$file" --instance "$instance" --state-dir "$work/state2" --socket "$work/sock2"
expect_match "another" "$output"
has_share a 30 || fail "the first server was disturbed"

case_ "the segment unlinked by hand comes back within two beats"
rm "/dev/shm/flagshm.$instance.table"
wait_until test -e "/dev/shm/flagshm.$instance.table"
wait_until has_share a 30

case_ "the control socket and the lock, removed by hand, come back within two beats"
rm "$work/sock" "/dev/shm/flagshm.$instance.table.lock"
wait_until test -S "$work/sock"
wait_until test -e "/dev/shm/flagshm.$instance.table.lock"
expect_exit 0 "$flagctl" kill a
expect 0 "$(share a)"
expect_exit 0 "$flagctl" unkill a
expect_exit 3 "$flagshmd" --file "$file" --instance "$instance" --state-dir "$work/state2" --socket "$work/sock2"
has_share a 30 || fail "the first server was disturbed"

case_ "broken file: the table stays; repaired: it moves on"
printf '{"flags": {"a": {"control": "c", "variant": "v", "rollout_pct": 50' >"$file"
sleep 0.4
expect 30 "$(share a)"
expect_match 'flags\.json:1:[0-9]+: error: ' "$(cat "$log")"
flags_file "$(flag a 31)"
wait_until has_share a 31

case_ "file gone: the table stays, over a restart and a reboot too"
rm "$file"
sleep 0.3
expect 31 "$(share a)"
stop_server
rm -f /dev/shm/flagshm."$instance".*
start_server
expect 31 "$(share a)"
flags_file "$(flag a 32)"
wait_until has_share a 32

case_ "a server stopped with SIGSTOP shows its age; readers keep the last version"
kill -STOP "$server_pid"
sleep 1.3
age=$("$flagctl" list -o json | jq -r '.age_ms')
[ "$age" -ge 1000 ] || fail "age is $age ms"
expect 32 "$(share a)"
kill -CONT "$server_pid"

case_ "no place for the control socket: flags are served, a kill works within two beats, and the socket comes when it can"
stop_server
echo x >"$work/in-the-way"
"$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/in-the-way/sock" 2>>"$log" &
server_pid=$!
wait_until grep -q "no control socket: .*in-the-way" "$log"
wait_until has_share a 32
expect_exit 0 "$flagctl" kill a
expect_match "killed" "$output"
expect 0 "$(share a)"
rm "$work/in-the-way"
wait_until test -S "$work/in-the-way/sock"
expect_exit 0 "$flagctl" unkill a
expect 32 "$(share a)"

case_ "a damaged journal is set aside, flags are served"
stop_server
echo "this is no database" >"$state/journal.sqlite"
rm -f "$state"/journal.sqlite-*
start_server
expect 32 "$(share a)"
ls "$state"/journal.sqlite.damaged-* >/dev/null || fail "nothing was set aside"
stop_server

case_ "a file as state directory: flags are served, the log says what is wrong"
: >"$log"
rm -rf "$work/plain"
echo x >"$work/plain"
"$flagshmd" --file "$file" --instance "$instance" --state-dir "$work/plain" --socket "$work/sock" 2>>"$log" &
server_pid=$!
flags_file "$(flag a 33)"
wait_until has_share a 33
wait_until grep -q "journal: .*$work/plain" "$log"
stop_server

case_ "a log whose reader has stopped holds nothing up: edits, heartbeat and kills go on"
mkfifo "$work/stuck"
sleep 60 <>"$work/stuck" &
children+=("$!")
"$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/sock" 2>"$work/stuck" &
server_pid=$!
wait_until answers
python3 - "$file" <<'PYTHON' # some 100 bytes of log each: more than a pipe takes
import json, os, sys, time
for turn in range(1500):
    with open(sys.argv[1] + ".new", "w") as out:
        json.dump({"flags": {"a": {"control": "c", "variant": "v", "rollout_pct": turn % 90}}}, out)
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(0.002)
PYTHON
flags_file "$(flag a 91)"
wait_until has_share a 91
expect_exit 0 "$flagctl" kill a
expect_exit 0 "$flagctl" unkill a
stop_server

case_ "a limit of file sizes is an error like a full disk, not an end by a signal (exit 5)"
rm -f /dev/shm/flagshm."$instance".*
expect_exit 5 bash -c 'ulimit -f 4 && exec "$@"' - "$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/sock"
expect_match "flagshm.$instance.table.new: .*(space|large)" "$output"

case_ "sd_notify: READY after the table stands, watchdog beats, STOPPING at the end"
python3 - "$work/notify" >"$work/notified" <<'PYTHON' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(20)
while True:
    message = s.recv(4096).decode()
    print(message, flush=True)
    if "STOPPING=1" in message:
        break
PYTHON
listener=$!
children+=("$listener")
wait_until test -S "$work/notify"
NOTIFY_SOCKET=$work/notify start_server
wait_until grep -q READY=1 "$work/notified"
wait_until grep -q WATCHDOG=1 "$work/notified"
kill -HUP "$server_pid"
wait_until grep -q RELOADING=1 "$work/notified"
stop_server
wait "$listener"
grep -q STOPPING=1 "$work/notified" || fail "no STOPPING=1"

if [ "$(id -u)" = 0 ]; then
    case_ "a table that belongs to another user is refused, with path, uid and mend (exit 4)"
    rm -f /dev/shm/flagshm."$instance".*
    head -c 65536 /dev/zero >"/dev/shm/flagshm.$instance.table"
    chown 65534 "/dev/shm/flagshm.$instance.table"
    expect_exit 4 "$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/sock"
    expect_match "/dev/shm/flagshm.$instance.table.*65534" "$output"
    rm -f /dev/shm/flagshm."$instance".*

    case_ "a full /dev/shm at the start: exit 5, and what is needed"
    mkdir "$work/small"
    if unshare --mount sh -c "mount -t tmpfs -o size=16k none '$work/small'" 2>/dev/null; then
        # shellcheck disable=SC2016 # expanded by the inner shell
        expect_exit 5 unshare --mount sh -c 'mount -t tmpfs -o size=16k none "$1" && shift && exec "$@"' - "$work/small" \
            "$flagshmd" --file "$file" --instance "$instance" --dir "$work/small" --state-dir "$state" --socket "$work/sock"
        expect_match "No space|space" "$output"
    else
        echo "  (left out: no private mounts here)"
    fi
else
    echo "- (left out, not root: squatted table, full tmpfs)"
fi
echo "all cases passed"
