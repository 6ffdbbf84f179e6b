# What tests that run the real server share. Source it with the build directory in $1. Gives: $flagshmd $flagctl $work $instance $state
# $file, and functions. Everything is removed at the end, whatever happens; only processes that were started here are ended, by their pid.
set -euo pipefail

build=$(cd "${1:?usage: NAME.sh BUILD_DIRECTORY}" && pwd)
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
flagshmd=$build/server/flagshmd
flagctl=$build/tools/flagctl
export source_dir flagctl
for program in "$flagshmd" "$flagctl"; do
    [ -x "$program" ] || { echo "$program is not built" >&2; exit 1; }
done
work=$(mktemp -d /tmp/flagshm-cli-XXXXXX)
chmod 755 "$work"
instance=t$$
state=$work/state
file=$work/flags.json
server_pid=
children=()
unset FLAGSHM_DIR FLAGSHM_OWNER NOTIFY_SOCKET JOURNAL_STREAM
export FLAGSHM_INSTANCE=$instance NO_COLOR=1

clean_up() {
    local status=$? pid
    for pid in $server_pid "${children[@]}"; do
        kill -CONT "$pid" 2>/dev/null || :
        kill -KILL "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    done
    if [ $status -ne 0 ]; then
        echo "FAILED: $current" >&2
        [ ! -s "$log" ] || { echo "--- the server's log:" >&2; tail -n 40 "$log" >&2; }
    fi
    rm -rf "$work" /dev/shm/flagshm."$instance".*
    exit $status
}
log=$work/server.log
current="before the first case"
trap clean_up EXIT

case_() { # NAME: the promise that is tested next
    current=$1
    echo "- $1"
}
fail() {
    echo "$*" >&2
    exit 1
}
expect() { # EXPECTED ACTUAL [WHAT]
    [ "$1" = "$2" ] || fail "${3:-value}: expected \"$1\", got \"$2\""
}
expect_match() { # PATTERN TEXT
    grep -qE -- "$1" <<<"$2" || fail "expected /$1/ in: $2"
}
# Runs a command and checks its exit code; its output (both streams) is left in $output.
expect_exit() { # CODE COMMAND...
    local wanted=$1 code=0
    shift
    output=$("$@" 2>&1) || code=$?
    [ "$code" = "$wanted" ] || fail "exit code $code, expected $wanted: $* : $output"
}
# As expect_exit, the streams apart: $output and $errors.
run() { # CODE COMMAND...
    local wanted=$1 code=0
    shift
    output=$("$@" 2>"$work/errors") || code=$?
    errors=$(cat "$work/errors")
    [ "$code" = "$wanted" ] || fail "exit code $code, expected $wanted: $* : $output $errors"
}
# JQ-EXPRESSION: of the JSON in $output.
field() { jq -r "$1" <<<"$output"; }
# Waits up to 10 s until a command succeeds.
wait_until() {
    local tries
    for tries in $(seq 500); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.02
    done
    fail "did not come true within 10 s ($tries tries): $*"
}
share() { "$flagctl" get "$1" -o json 2>/dev/null | jq -r '.rollout_pct'; }
has_share() { [ "$(share "$1")" = "$2" ]; }
version() { "$flagctl" list -o json | jq -r '.version'; }
write_file() { printf '%s\n' "$1" >"$file.new" && mv "$file.new" "$file"; }
flag() { printf '"%s": {"control": "c", "variant": "v", "rollout_pct": %s}' "$1" "$2"; }
flags_file() { write_file "{\"flags\": {$1}}"; }
start_server() { # [OPTION...]
    rm -f "$work/sock"
    "$flagshmd" --file "$file" --instance "$instance" --state-dir "$state" --socket "$work/sock" "$@" 2>>"$log" &
    server_pid=$!
    wait_until answers
}
answers() { [ -S "$work/sock" ] && kill -0 "$server_pid"; }
stop_server() { # [SIGNAL]
    local code=0
    kill -"${1:-TERM}" "$server_pid"
    wait "$server_pid" || code=$?
    server_pid=
    [ "${1:-TERM}" != TERM ] || expect 0 "$code" "exit code after SIGTERM"
}
