# What tests of rollouts share, beside daemon.bash. Gives: $targets (a directory of targets for notices, with "pager", which keeps what it is
# told in $told), and functions.
book=$build/tests/outcomes_book
[ -x "$book" ] || { echo "$book is not built" >&2; exit 1; }
targets=$work/notify.d
told=$work/told
mkdir "$targets"
: >"$told"

# NAME PROGRAM [WORD...]: a target that runs a program.
program_target() {
    local name=$1
    shift
    (umask 077 && jq -n '{argv: $ARGS.positional}' --args -- "$@" >"$targets/$name")
}
# shellcheck disable=SC2016 # expanded by the shell of the target
program_target pager /bin/sh -c 'printf "%s\n" "$(cat)" >>"$0"' "$told"

# The flags of the file by name: `plan NAME ...` or `text[NAME]=...`, then write_flags.
declare -A text=()
write_flags() {
    local IFS=,
    flags_file "${text[*]}"
}
plan() { text[$1]=$(planned "$@"); }

# NAME STEPS [MORE-OF-ROLLOUT [MORE-OF-FLAG]]: a flag with a plan of steps that are held for a second.
planned() {
    printf '"%s": {"control": "c", "variant": "v", "rollout": {"plan": [%s], "hold": "1s", "watch": "1s", "min_users": 5, "notify": ["pager"]%s}%s}' \
        "$1" "$2" "${3:+, $3}" "${4:+, $4}"
}
# Waits until a command succeeds, longer than some holds take on a slow machine.
later() {
    local until=$((SECONDS + 20))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || fail "did not come true within 20 s: $*"
        sleep 0.02
    done
}
ask() { # JSON: one request to the control socket; its answer is printed
    python3 - "$work/sock" "$1" <<'PYTHON'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(15)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n")
answer = b""
while not answer.endswith(b"\n"):
    part = s.recv(65536)
    if not part:
        sys.exit("the server has gone")
    answer += part
print(answer.decode(), end="")
PYTHON
}
# VERB FLAG [JQ-OBJECT]: a person's word; the answer is left in $output.
say() {
    output=$(ask "$(jq -cn --arg verb "$1" --arg flag "$2" '{verb: $verb, flag: $flag} + '"${3:-{\}}")")
}
agreed() { [ "$(field .ok)" = true ] || fail "refused: $output"; }
refused() { # PATTERN
    [ "$(field .ok)" = false ] || fail "not refused: $output"
    expect_match "$1" "$(field .message)"
}
# FLAG JQ-EXPRESSION: of what the server says of a rollout.
rollout() { ask "{\"verb\": \"rollouts\", \"flag\": \"$1\"}" | jq -r ".rollouts[0] | $2"; }
rollout_is() { [ "$(rollout "$1" "$2")" = "$3" ]; } # FLAG JQ-EXPRESSION VALUE
waits_for() { [ "$(rollout "$1" "any(.waits[]; .reason == \"$2\")")" = true ]; }
stage() { "$flagctl" get "$1" -o json 2>/dev/null | jq -r .stage; }
has_stage() { [ "$(stage "$1")" = "$2" ]; }
# FLAG CAUSE: how often that came over the flag, and what was said of it last.
happened() { "$flagctl" history "$1" -o json | jq -r --arg kind "$2" '[.[] | select(.kind == $kind)] | length'; }
sentence() { "$flagctl" history "$1" -o json | jq -r --arg kind "$2" '[.[] | select(.kind == $kind)][0].detail'; }
has_happened() { [ "$(happened "$1" "$2")" -ge 1 ]; }
# FLAG CAUSE: ids of what was told, one a line.
told_of() { jq -r --arg flag "$1" --arg cause "$2" 'select(.flag == $flag and .cause == $cause) | .id' "$told"; }
was_told_of() { [ -n "$(told_of "$1" "$2")" ]; }
# FLAG,... [KEY=VALUE...]: calls in the background, until the end or end_traffic: some 200 a second of 400 users for each flag.
traffic() {
    local commas=${1//[^,]/}
    "$book" "$1" 1 ids=400 per_s=$((200 * (${#commas} + 1))) lasts_ms=200000 "${@:2}" >/dev/null 2>>"$work/traffic.log" &
    children+=("$!")
}
end_traffic() {
    local pid
    for pid in "${children[@]}"; do
        kill -KILL "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    done
    children=()
}
