#!/usr/bin/env bash
# tools/quickstart, with the programs that are built: it shows what it promises, ends by itself, also on Ctrl-C, and leaves
# nothing: no process, no shared memory, no file.
# Usage: quickstart.sh BUILD_DIRECTORY
set -euo pipefail

build=$(cd "${1:?usage: quickstart.sh BUILD_DIRECTORY}" && pwd)
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
mkdir "$work/it's tmp" # a name that must be quoted where it is printed
export TMPDIR="$work/it's tmp"
pid=''
clean_up() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    [ -z "$pid" ] || wait "$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
fail() {
    echo "FAIL: $*"
    [ ! -f "$work/out" ] || cat "$work/out"
    exit 1
}
# What a run with this process id could have left. Processes of it carry the instance in their environment.
nothing_left() { # PID WHEN
    local process
    ! compgen -G "/dev/shm/flagshm.quickstart-$1.*" >/dev/null || fail "$2: shared memory is left"
    [ -z "$(ls -A "$TMPDIR")" ] || fail "$2: files are left: $(find "$TMPDIR")"
    for process in $(grep -lzx "FLAGSHM_INSTANCE=quickstart-$1" /proc/[0-9]*/environ 2>/dev/null); do
        fail "$2: a process is left: $(tr '\0' ' ' <"${process%environ}cmdline")"
    done
}
start() { # ARGUMENTS...
    : >"$work/out" # here, or wait_for may still find what the last run said
    # A shell's background children ignore Ctrl-C; this one must not.
    env --default-signal=INT,QUIT "$source_dir/tools/quickstart" --build "$build" "$@" >"$work/out" 2>&1 </dev/null &
    pid=$!
}
wait_for() { # PATTERN
    for _ in $(seq 600); do
        ! grep -q "$1" "$work/out" || return 0
        kill -0 "$pid" 2>/dev/null || fail "it ended before \"$1\""
        sleep 0.05
    done
    fail "\"$1\" did not come within 30 s"
}

start
code=0
wait "$pid" || code=$?
[ "$code" = 0 ] || fail "exit code $code"
nothing_left "$pid" "at its end"
for line in 'worker: version [0-9]*: rollout 5 % .* get claude-sonnet-4-5, [0-9]* get claude-haiku-4-5$' \
    'flagctl set new_summarizer_model 25$' \
    'worker: .* rollout 25 % .* decided so .*[0-9] ms after the edit$' \
    'sed -i' 'worker: .* rollout 5 % .* decided so .*[0-9] ms after the edit$' \
    'worker: .* rollout 50 % .* decided so .*[0-9] ms after the edit$' \
    'worker: .* rollout 0 % (killed): 0 of 1000 users' \
    'flags.json:2:[0-9]*: error: rollout_pct must be 0..100, got 500$'; do
    grep -q -- "$line" "$work/out" || fail "its output lacks: $line"
done
grep '      worker:' "$work/out"

for signal in INT TERM; do
    start
    wait_for 'worker: .*: rollout 5 %'
    kill -"$signal" "$pid"
    code=0
    wait "$pid" || code=$?
    [ "$code" != 0 ] || fail "SIG$signal: exit code 0"
    nothing_left "$pid" "after SIG$signal"
done

# --canary: the whole of it, in less than two minutes; and broken off while calls are made.
code=0
"$source_dir/tools/quickstart" --build "$build" --canary --keep >"$work/out" 2>&1 </dev/null || code=$?
[ "$code" = 2 ] || fail "--canary --keep: exit code $code"
start --canary
begun=$SECONDS code=0
wait "$pid" || code=$?
[ "$code" = 0 ] || fail "--canary: exit code $code"
[ $((SECONDS - begun)) -lt 120 ] || fail "--canary took $((SECONDS - begun)) s"
nothing_left "$pid" "at the end of --canary"
for line in ' shadow-20pct .* on ' ' canary-5pct .* on ' ' rolled-back ' 'rolled back from [0-9]* % to 0 %: error_rate: .* calls failed' \
    '^(exit code 3: rolled back)$' '^The new model failed in [1-9][0-9]* calls.* users saw 0 errors' 'still serving 0 %' ': cleared: ' \
    ' ramp-25pct ' ' ramp-50pct ' ' full ' ' complete ' '^(exit code 0: done)$' '"control": "claude-sonnet-4-5"'; do
    grep -q -- "$line" "$work/out" || fail "--canary: its output lacks: $line"
done
! grep -q $'\e' "$work/out" || fail "--canary colours a file"
grep 'rolled back from' "$work/out" | head -n 1
start --canary
wait_for ' shadow-20pct .* on '
kill -INT "$pid"
code=0
wait "$pid" || code=$?
[ "$code" = 130 ] || fail "--canary, SIGINT: exit code $code"
nothing_left "$pid" "after --canary and SIGINT"
# A gateway that is not there: it says so, and does not go on.
mkdir -p "$work/part"
for program in flagshmd flagctl example_ezai; do
    ln -s "$(find "$build" -name "$program" -type f -perm -u+x | head -n 1)" "$work/part/$program"
done
code=0
"$source_dir/tools/quickstart" --build "$work/part" --canary >"$work/out" 2>&1 </dev/null || code=$?
[ "$code" = 1 ] || fail "--canary without a gateway: exit code $code"
grep -q 'flagshm_gateway is not built' "$work/out" || fail "--canary does not say that the gateway is missing"

# --keep: the server goes on, and what it prints stops it.
start --keep
code=0
wait "$pid" || code=$?
[ "$code" = 0 ] || fail "--keep: exit code $code"
grep '^export FLAGSHM_INSTANCE=\|^flagctl()' "$work/out" >"$work/use"
bash -c ". '$work/use'; flagctl list" | grep -q new_summarizer_model || fail "--keep: the server does not answer"
bash -c ". '$work/use'; flagctl set new_summarizer_model 25" >"$work/set" || fail "--keep: set: $(cat "$work/set")"
bash -c ". '$work/use'; $(sed -n 's/^undo: //p' "$work/set")" >"$work/undone" 2>&1 || fail "--keep: undo: $(cat "$work/undone")"
grep -q '25 % -> 5 %' "$work/undone" || fail "--keep: the undo does: $(cat "$work/undone")"
server=$(sed -n 's/^kill \([0-9]*\);.*/\1/p' "$work/out")
bash -c "$(grep '^kill ' "$work/out")" || fail "--keep: what it prints does not stop it"
for _ in $(seq 100); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.05
done
nothing_left "$pid" "after --keep and its stop"
pid=''
