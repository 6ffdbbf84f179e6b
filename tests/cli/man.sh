#!/usr/bin/env bash
# The manual pages are sound, and agree with the programs, the header and the schema.
# Usage: man.sh BUILD_DIRECTORY
set -euo pipefail

build=$(cd "${1:?usage: man.sh BUILD_DIRECTORY}" && pwd)
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}
same() { # WHAT FILE FILE: two lists of words
    LC_ALL=C sort -u "$2" >"$2.sorted"
    LC_ALL=C sort -u "$3" >"$3.sorted"
    [ -s "$2.sorted" ] || fail "$1: the list is empty"
    diff "$2.sorted" "$3.sorted" >"$work/diff" || fail "$1: $(cat "$work/diff")"
}
flagctl=$build/tools/flagctl
flagshmd=$build/server/flagshmd
export NO_COLOR=1

for page in flagshmd.8 flagctl.1 flagshm.3 flagshm-flags.5 flagshm-notify.5; do
    [ -s "$build/man/$page.gz" ] || { fail "$page.gz is not built"; continue; }
    gzip -dc "$build/man/$page.gz" >"$work/$page"
    # scdoc's own habits draw warnings; errors it must not make.
    mandoc -Tlint -W error "$work/$page" >"$work/lint" || fail "$page: $(cat "$work/lint")"
    mandoc -Tutf8 "$work/$page" | col -b >"$work/$page.txt"
    grep -q "^NAME" "$work/$page.txt" || fail "$page has no NAME"
done
printf '.TH x 1\n.TS\nbroken\n' >"$work/broken"
! mandoc -Tlint -W error "$work/broken" >/dev/null || fail "mandoc finds nothing in a broken page either"

# flagctl(1): a paragraph "*NAME* ..." in COMMANDS for each command of --help, and none that it does not have.
"$flagctl" --help | sed -n '/^[A-Z].*:$/,/^Options:/p' | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p' >"$work/commands"
sed -n '/^# COMMANDS/,/^# OPTIONS/p' "$source_dir/tools/man/flagctl.1.scd" | sed -n 's/^\*\([a-z][a-z-]*\)\*.*/\1/p' >"$work/described"
same "commands of flagctl --help and of flagctl(1)" "$work/commands" "$work/described"

# Every option that the help of a command knows stands in the page, and the page has no other.
"$flagctl" --help | grep -oE -e '--[a-z][a-z-]+' >"$work/options"
while read -r command; do
    "$flagctl" "$command" --help | grep -oE -e '^ +(-[a-z], )?--[a-z][a-z-]+' | grep -oE -e '--[a-z][a-z-]+' >>"$work/options"
done <"$work/commands"
grep -oE -e '--[a-z][a-z-]+' "$source_dir/tools/man/flagctl.1.scd" >"$work/page_options"
same "options of flagctl and of flagctl(1)" "$work/options" "$work/page_options"

"$flagshmd" --help | grep -oE -e '--[a-z][a-z-]+' >"$work/options"
sed -n '/^# SYNOPSIS/,/^# SIGNALS/p' "$source_dir/server/man/flagshmd.8.scd" | grep -oE -e '--[a-z][a-z-]+' >"$work/page_options"
same "options of flagshmd and of flagshmd(8)" "$work/options" "$work/page_options"

# flagshm(3): the functions of the header.
# What a program may call: each function that is defined, whatever stands before it; names of inner ones end in "_".
tr '\n' ' ' <"$source_dir/client/flagshm.h" | grep -oE '\bflagshm_[a-z_]*[a-z]\([^(){};]*\) \{' | sed 's/(.*//' >"$work/functions"
sed -n '/^# SYNOPSIS/,/^# DESCRIPTION/p' "$source_dir/client/man/flagshm.3.scd" | grep -oE 'flagshm_[a-z_]+\(' | tr -d '(' >"$work/page_functions"
same "functions of flagshm.h and of flagshm(3)" "$work/functions" "$work/page_functions"
sed -n '/^enum flagshm_reason {/,/^}/p' "$source_dir/client/flagshm.h" | grep -oE 'FLAGSHM_[A-Z_]+' >"$work/reasons"
sed -n '/^# REASONS/,/^# THREADS/p' "$source_dir/client/man/flagshm.3.scd" | grep -oE '^\| +FLAGSHM_[A-Z_]+' | grep -oE 'FLAGSHM_[A-Z_]+' >"$work/page_reasons"
same "reasons of flagshm.h and of flagshm(3)" "$work/reasons" "$work/page_reasons"

# flagshm-flags(5): the keys of the schema, and examples that pass.
jq -r '(.properties, ."$defs".flag.properties) | keys[]' "$source_dir/server/flags.schema.json" | sort -u >"$work/keys"
sed -n '/^# TOP LEVEL/,/^# AN ARM/p' "$source_dir/server/man/flagshm-flags.5.scd" | grep -E '^\*' | grep -oE '\*[^*]+\*' | tr -d '*' >"$work/page_keys"
same "keys of the schema and of flagshm-flags(5)" "$work/keys" "$work/page_keys"
jq -r '."$defs".flag.properties.rollout.properties | del(."$comment") | keys[]' "$source_dir/server/flags.schema.json" >"$work/rollout_keys"
sed -n '/^# ROLLOUT/,/^# GUARDRAILS/p' "$source_dir/server/man/flagshm-flags.5.scd" | sed -n 's/^\*\([a-z_]*\)\*$/\1/p' >"$work/page_rollout_keys"
same "keys of a rollout in the schema and in flagshm-flags(5)" "$work/rollout_keys" "$work/page_rollout_keys"
jq -r '."$defs".guardrail.properties | del(."$comment", .name, .index) | keys[]' "$source_dir/server/flags.schema.json" >"$work/guard_keys"
sed -n '/^# GUARDRAILS/,/^# EXAMPLES/p' "$source_dir/server/man/flagshm-flags.5.scd" | sed -n 's/^\*\([a-z_]*\)\*$/\1/p' >"$work/page_guard_keys"
same "keys of a guardrail in the schema and in flagshm-flags(5)" "$work/guard_keys" "$work/page_guard_keys"
awk -v work="$work" '/^```/ { inside = !inside; if (inside) n++; next } inside { print > (work "/example" n ".json") }' \
    "$source_dir/server/man/flagshm-flags.5.scd"
examples=0
for example in "$work"/example*.json; do
    grep -q '^{' "$example" || continue
    examples=$((examples + 1))
    "$flagctl" lint "$example" >"$work/lint" 2>&1 || fail "an example of flagshm-flags(5): $(cat "$work/lint")"
done
[ "$examples" -ge 2 ] || fail "flagshm-flags(5) has no examples"

# flagshm-notify(5): the keys that a target may have.
sed -n 's/^    {"\([a-z_]*\)", read_.*/\1/p' "$source_dir/server/notify_target.c" >"$work/keys_of_targets"
sed -n '/^# KEYS/,/^# WEBHOOKS/p' "$source_dir/server/man/flagshm-notify.5.scd" | sed -n 's/^\*\([a-z_]*\)\*$/\1/p' >"$work/page_keys_of_targets"
same "keys of a target and of flagshm-notify(5)" "$work/keys_of_targets" "$work/page_keys_of_targets"

[ "$failures" = 0 ] || exit 1
echo "5 pages; $(wc -l <"$work/commands") commands, $(wc -l <"$work/functions") functions, $(wc -l <"$work/keys") keys agree"
