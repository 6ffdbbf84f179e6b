#!/usr/bin/env bash
# Outcomes with the real server: booked by processes, over restarts, a lost file, a full or a foreign one. Usage: outcomes.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"
probe=$build/tests/outcomes_probe

# What the server says of a flag: "calls0 failed0 calls1 failed1".
booked() {
    ask | jq -r '.flags[] | select(.flag == "a") | "\(.arms[0].finished) \(.arms[0].failed) \(.arms[1].finished) \(.arms[1].failed)"'
}
ask() { # VERB: one line to the control socket
    python3 - "$work/sock" "${1:-stats}" <<'PYTHON'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
s.sendall(json.dumps({"verb": sys.argv[2]}).encode() + b"\n")
answer = b""
while not answer.endswith(b"\n"):
    answer += s.recv(65536)
print(answer.decode())
PYTHON
}
sum() { # FILE...: the sums of all processes' words
    cat "$@" | awk '{ for (i = 1; i <= 6; i++) n[i] += $i } END { printf "%d %d %d %d\n", n[1], n[2], n[3], n[4]; exit n[5] != 0 || n[6] != 0 }'
}

case_ "four processes book while the server is killed and started again: nothing is lost"
flags_file "$(flag a 50)"
start_server
for n in 1 2 3 4; do
    "$probe" a 2500 >"$work/probe$n" 2>>"$work/probe.log" &
    children+=("$!")
done
sleep 0.4
stop_server KILL
sleep 0.3
start_server
sleep 0.4
stop_server KILL
start_server
sleep 0.3
stop_server
start_server
for n in 1 2 3 4; do wait "${children[$((n - 1))]}"; done
children=()
expected=$(sum "$work"/probe[1-4]) || fail "some calls were refused: $(cat "$work"/probe[1-4] "$work/probe.log")"
expect "$expected" "$(booked)"
[ "${expected%% *}" -gt 1000 ] || fail "only $expected calls"

case_ "the counts go on after an edit that changes nothing, and begin anew with another share"
write_file "{\"flags\": {$(flag a 50)}, \"\$schema\": \"x\"}"
wait_until grep -q "compiles to the table that is served" "$log"
expect "$expected" "$(booked)"
flags_file "$(flag a 51)"
wait_until has_share a 51
expect "0 0 0 0" "$(booked)"

outcomes=/dev/shm/flagshm.$instance.outcomes
case_ "cut short while processes book: the server lives, says so, makes another one; the table stays"
before=$(stat -c %i "$outcomes")
( "$probe" a 1500 || : ) >"$work/probe1" 2>/dev/null & # SIGBUS is what the header says of this
children+=("$!")
sleep 0.2
truncate -s 0 "$outcomes"
is_another() { [ "$(stat -c %i "$outcomes" 2>/dev/null)" != "$before" ] && [ "$(stat -c %s "$outcomes")" -gt 100000000 ]; }
wait_until is_another
wait "${children[0]}" || :
children=()
kill -0 "$server_pid" || fail "the server has ended"
expect_match "removed, replaced or cut short" "$(cat "$log")"
expect 51 "$(share a)"
"$probe" a 300 >"$work/probe1"
expect "$(sum "$work/probe1")" "$(booked)"

case_ "removed by hand: it comes back within two beats"
rm "$outcomes"
wait_until test -e "$outcomes"
"$probe" a 200 >"$work/probe1" 2>/dev/null || :
"$probe" a 200 >"$work/probe1"
[ "$(booked | cut -d' ' -f1)" -ge "$(cut -d' ' -f1 <"$work/probe1")" ] || fail "not all is there: $(booked)"

case_ "a symlink in its place is refused and named; flags are served; it comes back when the link has gone"
stop_server
ln -sf /etc/hostname "$outcomes"
start_server
wait_until grep -q "outcomes are not recorded: $outcomes: is not a regular file; remove it" "$log"
expect 51 "$(share a)"
expect false "$(ask | jq -r .recording)"
expect_match "regular file" "$(ask | jq -r .fault)"
rm "$outcomes"
is_recording() { [ "$(ask | jq -r .recording)" = true ]; }
wait_until is_recording
"$probe" a 200 >"$work/probe1"
sum "$work/probe1" >/dev/null || fail "some calls were refused: $(cat "$work/probe1")"

case_ "idle, the server wakes about once a second"
switches() { awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }' /proc/"$server_pid"/task/*/status; }
sleep 0.5
before=$(switches)
sleep 3
after=$(switches)
[ $((after - before)) -le 60 ] || fail "$((after - before)) context switches in 3 s"
echo "  ($((after - before)) in 3 s, all threads)"
stop_server

case_ "with FLAGSHM_DIR it stands in DIR/outcomes, and a restart adopts it there"
mkdir -m 755 "$work/dir"
export FLAGSHM_DIR=$work/dir
start_server --dir "$work/dir"
file_in_dir=$work/dir/outcomes/flagshm.$instance.outcomes
expect "660" "$(stat -c %a "$file_in_dir")"
"$probe" a 200 >"$work/probe1"
stop_server KILL
"$probe" a 200 >"$work/probe2"
start_server --dir "$work/dir"
expect "$(sum "$work/probe1" "$work/probe2")" "$(booked)"
stop_server
unset FLAGSHM_DIR

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    case_ "members of --group book; others decide, and are told that they may not"
    rm -f "$outcomes"
    start_server --group 4242
    expect "660 4242" "$(stat -c '%a %g' "$outcomes")"
    probe=$work/outcomes_probe
    cp "$build/tests/outcomes_probe" "$probe"
    chmod 755 "$probe"
    setpriv --reuid 4711 --regid 4242 --clear-groups "$probe" a 200 >"$work/probe1"
    expect "$(sum "$work/probe1")" "$(booked)"
    before=$(booked)
    setpriv --reuid 4711 --regid 4711 --clear-groups "$probe" a 100 >"$work/probe2" 2>"$work/probe.log"
    expect_match "flagshm_record: -13$" "$(cat "$work/probe.log")"
    expect "0 0 0 0" "$(sum "$work/probe2" || :)"
    expect "$before" "$(booked)"
    stop_server
else
    echo "- (left out, not root: the clients' group)"
fi

if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    case_ "a file system with room for the table alone: flags are served, the log says why nothing is recorded"
    mkdir -m 755 "$work/small"
    : >"$log"
    rm -f "$work/sock"
    unshare --mount sh -c 'mount -t tmpfs -o size=96k,mode=755 none "$1" && dir=$1 && shift && exec "$@" --dir "$dir"' - "$work/small" \
        "$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/sock" 2>>"$log" &
    server_pid=$!
    wait_until answers
    expect true "$(ask ping | jq -r .ok)"
    expect 1 "$(ask | jq -r .slots_refused)"
    expect_match "its outcomes are not recorded" "$(cat "$log")"
    stop_server
else
    echo "- (left out, not root: a full file system)"
fi
