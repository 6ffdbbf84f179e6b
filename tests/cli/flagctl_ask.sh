#!/usr/bin/env bash
# The commands that change something: set, kill, unkill, accept, reload, history, diff, restore, doctor. Usage: flagctl_ask.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

ctl=("$flagctl" --state-dir "$state" --socket "$work/sock")
stage() { "$flagctl" get "$1" -o json 2>/dev/null | jq -r '.stage'; }
has_stage() { [ "$(stage "$1")" = "$2" ]; }
check_of() { jq -r --arg name "$1" '[.checks[] | select(.name == $name) | .state] | join(" ")' <<<"$output"; }

# ---- set ----

case_ "set: the number changes and nothing else, the table shows it, the undo is printed and works"
write_file "$(printf '{\n\t"flags": {\n\t\t"a": {"control": "c", "variant": "v", "rollout_pct": 5},  \n\t\t"b": {\n\t\t\t"control": "c",\n\t\t\t"variant": "v"\n\t\t}\n\t}\n}')"
cp "$file" "$work/before.json"
start_server
expect_exit 0 "$flagctl" set a 25
expect_match "^a: 5 % -> 25 % in $file" "$output"
expect_match "^served by version [0-9]+, [0-9.]+ ms after the edit" "$output"
expect 25 "$(share a)"
expect "1 1" "$(diff <(tr ' ' '\n' <"$work/before.json") <(tr ' ' '\n' <"$file") | awk '/^</ {a++} /^>/ {b++} END {print a, b}')"
undo=$(sed -n 's/^undo: flagctl //p' <<<"$output")
eval "\"\$flagctl\" $undo" >/dev/null
cmp "$file" "$work/before.json"

case_ "set: a share that is not there yet is laid out like its neighbours"
expect_exit 0 "$flagctl" set b 0.125 -o json
expect "0 0.125 true true" "$(jq -r '"\(.old_pct) \(.new_pct) \(.changed) \(.served)"' <<<"$output")"
expect_match '^			"rollout_pct": 0\.125$' "$(cat "$file")"
jq -e '.flags.b.rollout_pct == 0.125' "$file" >/dev/null

case_ "set: what is so already is no edit"
inode=$(stat -c %i "$file")
expect_exit 0 "$flagctl" set b 0.125
expect_match "already 0.125 %" "$output"
expect "$inode" "$(stat -c %i "$file")"

case_ "set: --dry-run writes nothing"
expect_exit 0 "$flagctl" set b 50 --dry-run
expect_match "0.125 % -> 50 % .*dry run" "$output"
expect "$inode" "$(stat -c %i "$file")"

case_ "set: usage, unknown flags and broken entries have their exit codes, and change nothing"
for bad in 101 5% -1 abc 0.0001 1e1 ""; do expect_exit 2 "$flagctl" set a -- "$bad"; done
expect_exit 2 "$flagctl" set a 5 --wait=x
expect_exit 2 "$flagctl" set a
flags_file "$(flag summary 5), $(flag broken 500), $(flag a 5)"
wait_until has_share a 5
cp "$file" "$work/before.json"
expect_exit 4 "$flagctl" set sumary 5
expect_match 'no flag "sumary" .*did you mean "summary"' "$output"
expect_exit 6 "$flagctl" set broken 5
expect_match 'rollout_pct must be 0..100, got 500' "$output"
cmp "$file" "$work/before.json"

case_ "set: a broken neighbour holds nothing back"
expect_exit 0 "$flagctl" set summary 6
wait_until has_share summary 6

case_ "set: an edit that would break another flag is refused"
write_file '{"flags": {"a": {"control": "c", "variant": "v", "salt": "s"}, "b": {"control": "c", "variant": "v", "salt": "s", "rollout_pct": 10}}}'
wait_until has_share b 10
expect_exit 6 "$flagctl" set a 5
expect_match 'it would break flag "b"' "$output"

case_ "set: a link is followed and stays a link"
mkdir "$work/real"
mv "$file" "$work/real/flags.json"
ln -s real/flags.json "$file"
flags_real() { printf '{"flags": {%s}}' "$(flag a "$1")" >"$work/real/flags.json"; }
flags_real 5
wait_until has_share a 5
expect_exit 0 "$flagctl" set a 7
[ -L "$file" ] || fail "the link is gone"
expect 7 "$(jq .flags.a.rollout_pct "$work/real/flags.json")"
expect 7 "$(share a)"
rm "$file"
mv "$work/real/flags.json" "$file"
wait_until has_share a 7

case_ "set: a read-only file is refused, naming the mend"
chmod 0444 "$file"
expect_exit 1 "$flagctl" set a 8
expect_match "read-only .mode 0444.: edit what it is made from" "$output"
chmod 0644 "$file"
# shellcheck disable=SC2016 # expanded by the inner shell
expect_exit 1 bash -c 'ulimit -f 0 && exec "$1" set a 8' - "$flagctl"
expect_match "File too large" "$output"
mkfifo "$work/fifo"
expect_exit 1 timeout 5 "$flagctl" set a 8 --file "$work/fifo"
expect_match "^flagctl: [^ ]*/fifo is not a regular file$" "$output"

case_ "set: on a planned flag it is a cap, and that is said"
write_file '{"flags": {"a": {"control": "c", "variant": "v", "rollout": {"plan": "b2b"}}}}'
wait_until has_share a 0
expect_exit 0 "$flagctl" set a 25
expect_match "cap is now 25 %, still serving 0 %" "$output"

case_ "set: a disabled flag still serves nothing, and that is said"
write_file '{"flags": {"a": {"control": "c", "variant": "v", "enabled": false}}}'
wait_until has_stage a disabled
expect_exit 0 "$flagctl" set a 25
expect_match 'still serving 0 %: the file says "enabled": false' "$output"

case_ "set: another file than the server's is edited with a warning"
printf '{"flags": {%s}}' "$(flag a 1)" >"$work/other.json"
expect_exit 0 "$flagctl" set a 2 --file "$work/other.json"
expect_match "warning: .*watches another file: $file" "$output"
expect 2 "$(jq .flags.a.rollout_pct "$work/other.json")"

# ---- kill, the server alive ----

case_ "kill: everyone gets control at once; edits do not undo it; unkill does"
flags_file "$(flag a 100), $(flag b 100)"
wait_until has_share a 100
expect_exit 0 "$flagctl" kill a --reason "it hurts"
expect_match "^a: killed, version [0-9]+" "$output"
expect_match "^undo: flagctl unkill a" "$output"
expect killed "$(stage a)"
expect 0 "$(share a)"
expect 100 "$(share b)"
expect_exit 0 "$flagctl" kill a
expect_match "already" "$output"
expect_exit 0 "$flagctl" set a 50
expect_match "still serving 0 %: the flag is killed" "$output"
expect killed "$(stage a)"
stop_server KILL
start_server
expect killed "$(stage a)"
expect_exit 0 "$flagctl" unkill a -o json
expect "false server" "$(jq -r '"\(.already) \(.by)"' <<<"$output")"
expect 50 "$(share a)"
expect_exit 0 "$flagctl" unkill a
expect_match "not killed" "$output"

case_ "kill: unknown flags and bad usage"
expect_exit 4 "$flagctl" kill nope
expect_exit 4 "$flagctl" kill ../a
expect_exit 4 "$flagctl" unkill nope
expect_exit 2 "$flagctl" kill
expect_exit 2 "$flagctl" kill a --all
[ -z "$(find "$state/kills" -name '*nope*' 2>/dev/null)" ] || fail "an unknown flag was written down"

case_ "kill: no reason is so odd that it holds a kill back"
expect_exit 0 "$flagctl" kill b --reason $'caf\xe9\nburns\x1b[31m "' -o json
expect server "$(jq -r .by <<<"$output")"
expect 'caf??burns?[31m "' "$("$flagctl" history b -o json | jq -r '.[0].detail')"
expect_exit 0 "$flagctl" unkill b --reason $'\xff'
expect_exit 0 "$flagctl" kill b --reason "$(head -c 100000 /dev/zero | tr '\0' x)" -o json
expect server "$(jq -r .by <<<"$output")"
expect_exit 0 "$flagctl" unkill b

case_ "kill --all and unkill --all"
expect_exit 0 "$flagctl" kill --all
expect_exit 0 "$flagctl" kill --all -o json
expect "null true true 0" "$(jq -r '"\(.flag) \(.all) \(.already) \(.warnings | length)"' <<<"$output")"
expect_exit 1 "$flagctl" in b anyone
expect_exit 0 "$flagctl" unkill --all
expect_exit 0 "$flagctl" in b anyone

# ---- kill, the server stopped ----

case_ "kill: a stopped server: one flag is not off yet, which is said (exit 5); it is when the server wakes"
kill -STOP "$server_pid"
expect_exit 5 "$flagctl" kill b --reason "stopped"
expect_match "b is NOT off yet" "$output"
expect_match "what works now, for every flag: flagctl kill --all" "$output"
expect 100 "$(share b)"
expect_exit 4 "$flagctl" kill nope
expect_exit 5 "$flagctl" unkill a
expect_match "nothing has changed" "$output"

case_ "kill --all: a stopped server: off at once"
expect_exit 0 "$flagctl" kill --all -o json
expect switch "$(jq -r .by <<<"$output")"
expect_exit 1 "$flagctl" in b anyone
expect_exit 5 "$flagctl" doctor -o json
expect "bad warning" "$(check_of server) $(check_of lock)"
expect warning "$(check_of all-control)"
kill -CONT "$server_pid"
wait_until has_stage b killed
expect_exit 0 "$flagctl" unkill --all
expect killed "$(stage b)"
expect_exit 0 "$flagctl" unkill b
expect 100 "$(share b)"

case_ "unkill: nothing of what a stopped server was asked is done when it wakes"
expect_exit 0 "$flagctl" kill b
kill -STOP "$server_pid"
expect_exit 5 "$flagctl" unkill b
kill -CONT "$server_pid"
wait_until "$flagctl" kill b
sleep 1.2
expect killed "$(stage b)"
expect_exit 0 "$flagctl" unkill b

case_ "accept and reload: a stopped server does not do later what its client has given up"
times_of() { "$flagctl" history -o json | jq "[.[] | select(.kind == \"$1\")] | length"; }
reloads=$(times_of reload)
kill -STOP "$server_pid"
expect_exit 124 timeout 0.3 "$flagctl" reload
expect_exit 124 timeout 0.3 "$flagctl" accept
kill -CONT "$server_pid"
expect_exit 0 "$flagctl" reload
expect "$((reloads + 1))" "$(times_of reload)"
grep -q "reload is not done: who asked for it no longer waits" "$log"

# ---- kill, the server dead ----

case_ "kill: a dead server: off at once, and still off when one starts"
stop_server KILL
before=$(version)
expect_exit 0 "$flagctl" kill b --reason "dead"
expect_match "^b: killed in the table" "$output"
expect killed "$(stage b)"
expect $((before + 1)) "$(version)"
expect_match "dead" "$(cat "$state/kills/b")"
expect_exit 0 "$flagctl" kill b
expect_match "already" "$output"
expect_exit 4 "$flagctl" kill nope
expect_match 'no flag "nope"' "$output"
start_server
expect killed "$(stage b)"
expect 50 "$(share a)"

case_ "kill: in the middle of restarts it is never lost"
expect_exit 0 "$flagctl" unkill b
for pause in 0 0.005 0.01 0.02 0.04 0.08; do
    wait_until has_share b 100
    (sleep "$pause" && exec "$flagctl" kill b >/dev/null) &
    killer=$!
    stop_server KILL
    start_server
    wait "$killer" || fail "exit code $? of a kill, $pause s into a restart"
    wait_until has_stage b killed
    stop_server KILL
    start_server
    expect killed "$(stage b)"
    expect_exit 0 "$flagctl" unkill b
done
expect_exit 0 "$flagctl" kill b

case_ "unkill: a dead server: control until one starts, then the file's share"
stop_server KILL
expect_exit 0 "$flagctl" unkill b
expect_match "gives control until a server runs" "$output"
expect_exit 1 "$flagctl" in b anyone
[ ! -e "$state/kills/b" ] || fail "the kill is still written down"
start_server
wait_until has_share b 100

case_ "kill --all and unkill --all with a dead server: at once"
stop_server KILL
expect_exit 0 "$flagctl" kill --all
expect_exit 1 "$flagctl" in b anyone
start_server
expect_exit 1 "$flagctl" in b anyone
stop_server KILL
expect_exit 0 "$flagctl" unkill --all
expect_exit 0 "$flagctl" in b anyone

case_ "kill: the table is lost, as by a reboot: written down, and applied by the next start"
rm -f /dev/shm/flagshm."$instance".*
expect_exit 0 "${ctl[@]}" kill b
expect_match "^b: written down" "$output"
expect_exit 0 "${ctl[@]}" kill b -o json
expect "true file" "$(jq -r '"\(.already) \(.by)"' <<<"$output")"
start_server
expect killed "$(stage b)"
stop_server KILL
rm -f /dev/shm/flagshm."$instance".*
expect_exit 0 "${ctl[@]}" unkill b
start_server
wait_until has_share b 100

case_ "kill: a dead server's table that this flagctl cannot write: what is not off yet is not called off; --all is"
stop_server KILL
printf '\x63' | dd of=/dev/shm/flagshm."$instance".table bs=1 seek=14 conv=notrunc status=none # another layout minor
expect_exit 0 "$flagctl" in b anyone
expect_exit 5 "$flagctl" kill b
expect_match "b is NOT off yet: no server runs, and this flagctl cannot write the table" "$output"
expect_match "it is written down" "$output"
expect_exit 0 "$flagctl" in b anyone
expect_exit 0 "$flagctl" kill --all -o json
expect "switch false" "$(jq -r '"\(.by) \(.already)"' <<<"$output")"
expect_exit 1 "$flagctl" in b anyone
expect_exit 5 "$flagctl" unkill --all
expect_match "nothing has changed" "$output"
expect_exit 1 "$flagctl" in b anyone
start_server
expect killed "$(stage b)"
expect_exit 0 "$flagctl" unkill --all
expect_exit 0 "$flagctl" unkill b
expect_exit 0 "$flagctl" in b anyone

case_ "kill: where no server has ever run there is nothing to kill"
expect_exit 5 "$flagctl" --instance nobody$$ --state-dir "$work/none" kill a
expect_match "there is nothing to kill" "$output"
[ ! -e "$work/none" ] || fail "a state directory was made"

case_ "kill: a state directory that cannot be written does not hold a kill back; that is said"
stop_server KILL
mv "$state" "$work/state.away"
expect_exit 0 "$flagctl" kill b
expect_match "warning: .*could not be written down" "$output"
expect killed "$(stage b)"
mv "$work/state.away" "$state"
start_server
expect killed "$(stage b)"
expect_exit 0 "$flagctl" unkill b

# ---- who may ----

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
    case_ "kill: who may not is told who may, and changes nothing"
    expect_exit 1 as_nobody "$flagctl" kill b
    expect_match "ask as root" "$output"
    stop_server KILL
    rm "$work/sock"
    expect_exit 1 as_nobody "$flagctl" kill b
    expect_match "without it only root" "$output"
    expect 100 "$(share b)"
    start_server
    expect_exit 1 as_nobody "$flagctl" set b 1
    expect_match "run as root" "$output"

    case_ "kill: root acts for a server of another user, who can read and lift it"
    stop_server
    rm -rf "$state" /dev/shm/flagshm."$instance".*
    mkdir -m 0700 "$state"
    mkdir -m 0755 "$work/run"
    chown 65534:65534 "$state" "$work/run"
    export FLAGSHM_DIR=$work/run
    as_nobody_server() {
        setpriv --reuid 65534 --regid 65534 --clear-groups "$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/run/sock" 2>>"$log" &
        server_pid=$!
        wait_until test -S "$work/run/sock"
        wait_until has_stage a static-50pct
    }
    as_nobody_server
    kill -KILL "$server_pid"
    wait "$server_pid" || :
    server_pid=
    expect_exit 0 "$flagctl" kill b
    expect 65534 "$(stat -c %u "$state/kills/b")"
    expect 65534 "$(stat -c %u "$state/kills")"
    expect 65534 "$(stat -c %u "$work/run/flagshm.$instance.table.lock")"
    as_nobody_server
    expect killed "$(stage b)"
    expect_exit 0 as_nobody "$flagctl" unkill b
    expect 100 "$(share b)"
    stop_server
    unset FLAGSHM_DIR
    rm -rf "$state" "$work/run"
    start_server
else
    echo "skipped: other users are needed, and only root can become one"
fi

# ---- deletions, history, diff, restore ----

case_ "accept: held deletions are named, and happen on a word"
flags_file "$(flag a 1), $(flag b 2), $(flag c 3), $(flag d 4), $(flag e 5)"
wait_until has_share e 5
expect_exit 0 "$flagctl" accept
expect_match "no deletions are held" "$output"
flags_file "$(flag a 11)"
wait_until has_share a 11
expect_exit 0 "$flagctl" accept --dry-run -o json
expect "b c d e" "$(jq -r '.held | join(" ")' <<<"$output")"
expect_exit 0 "$flagctl" doctor -o json
expect "warning ok" "$(check_of deletions) $(check_of served)"
expect_exit 0 "$flagctl" accept
expect_match "^e: deleted" "$output"
expect 1 "$("$flagctl" list -o json | jq '.flags | length')"

case_ "history: files, kills and who did it, the newest first"
expect_exit 0 "$flagctl" kill a --reason "for the record"
expect_exit 0 "$flagctl" unkill a
wait_until sh -c '"$flagctl" history -o json | jq -e "[.[].kind] | index(\"unkill\")"'
expect_exit 0 "$flagctl" history -o json
kind_of_kill=$(jq -r '[.[] | select(.flag == "a" and .kind == "kill")][0] | "\(.kind) \(.user) \(.detail)"' <<<"$output")
expect "kill $(id -un) for the record" "$kind_of_kill"
expect_exit 0 "$flagctl" history a --limit 1
expect_match "unkill +a" "$output"
expect_exit 2 "$flagctl" history --limit 0

case_ "history: versions are whole numbers for machines, every digit of them"
for _ in 1 2 3 4 5; do
    expect_exit 0 "$flagctl" kill a
    expect_exit 0 "$flagctl" unkill a
done
is_journalled() { "$flagctl" history -o json | grep -q "\"version\":$(version)[,}]"; }
wait_until is_journalled
expect_exit 0 "$flagctl" history -o json --limit 40
grep -q 'version":[0-9]*[eE.]' <<<"$output" && fail "a version is printed as a fraction: $output"
last_rev() { "$flagctl" list -o json | jq -r .file_rev; }

case_ "diff: value by value, whatever the order of keys and the white space"
write_file '{"flags": {"a": {"control": "c", "variant": {"model": "v", "temperature": 0.20}, "rollout_pct": 5}, "gone": {"control": "c", "variant": "v"}}}'
wait_until has_share a 5
old=$(last_rev)
write_file '{ "flags": { "new": {"variant": "v", "control": "c"}, "a": {"rollout_pct": 6, "variant": {"temperature": 0.3, "model": "v"}, "control": "c"} } }'
wait_until has_share a 6
new=$(last_rev)
expect_exit 0 "$flagctl" diff "$old" "$new" -o json
expect 'a.rollout_pct:5->6 a.variant.temperature:0.20->0.3 gone.:{"control":"c","variant":"v"}->null new.:null->{"variant":"v","control":"c"}' \
    "$("$flagctl" diff "$old" "$new" -o json | sed 's/0\.20\b/"0.20"/' | jq -r '[.[] | "\(.flag).\(.path):\(.old | if type == "string" then . else tojson end)->\(.new | tojson)"] | sort | join(" ")')"
expect_exit 0 "$flagctl" diff "$old" "$new"
expect_match "^  rollout_pct: 5 -> 6" "$output"
expect_match "^gone \(gone\)" "$output"
expect_match "^new \(new\)" "$output"
expect_exit 0 "$flagctl" diff "$new"
expect_match "^no difference" "$output"
expect_exit 1 "$flagctl" diff 99999
expect_exit 2 "$flagctl" diff x

case_ "restore: an earlier text comes back, byte for byte, as a new revision"
cp "$file" "$work/before.json"
expect_exit 0 "$flagctl" restore "$old" --dry-run
expect_match "would be as in revision $old" "$output"
cmp "$file" "$work/before.json"
expect_exit 0 "$flagctl" restore "$old"
expect_match "now as in revision $old" "$output"
expect_match "^the server took it up as revision" "$output"
expect_match "^undo: flagctl restore $new" "$output"
wait_until has_share a 5
expect_exit 0 "$flagctl" restore "$new"
cmp "$file" "$work/before.json"
expect_exit 0 "$flagctl" restore "$new"
expect_match "already as in revision" "$output"

case_ "reload: reads the file again"
expect_exit 0 "$flagctl" reload -o json
expect true "$(jq .ok <<<"$output")"

# ---- doctor ----

case_ "doctor: all is well, for people and for machines"
expect_exit 0 "$flagctl" doctor
expect_match "all is well" "$output"
expect_exit 0 "$flagctl" doctor -o json
expect 0 "$(jq .bad <<<"$output")"

case_ "doctor: a broken file is told with its place (exit 6)"
cp "$file" "$work/before.json"
printf '{"flags": {"a": {"control": "c", "variant": "v", "rollout_pct": 500}}}' >"$file"
expect_exit 6 "$flagctl" doctor
expect_match "rollout_pct must be 0..100, got 500" "$output"
cp "$work/before.json" "$file"
wait_until "$flagctl" doctor

case_ "doctor: a kill is a warning with its end"
expect_exit 0 "$flagctl" kill a
expect_exit 0 "$flagctl" doctor
expect_match "1 flag is killed: a" "$output"
expect_match "flagctl unkill FLAG" "$output"
expect_exit 0 "$flagctl" unkill a

case_ "doctor: the environment of programs that read another instance"
expect_exit 0 env FLAGSHM_INSTANCE=other FLAGSHM_OWNER=root "$flagctl" doctor --instance "$instance" -o json
expect "warning warning" "$(check_of environment)"

case_ "doctor: no server, and no table (exit 5)"
stop_server KILL
expect_exit 5 "$flagctl" doctor -o json
expect "bad ok" "$(check_of server) $(check_of lock)"
rm -f /dev/shm/flagshm."$instance".*
expect_exit 5 "$flagctl" doctor
expect_match "there is none: /dev/shm/flagshm.$instance.table" "$output"
expect_exit 5 "$flagctl" history
expect_match "start the server" "$output"
