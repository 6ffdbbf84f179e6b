#!/usr/bin/env bash
# Rollouts with the real server when things go wrong: what is booked, who is told, edits, the disk, the journal, a silent server.
# Usage: rollout_faults.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"
. "$(dirname "$0")/rollout.bash"

program_target hangs /bin/sleep 60
(umask 077 && echo '{"url": "http://127.0.0.1:1/"}' >"$targets/deaf")

plan fine '{"pct": 5}, {"pct": 25}'
plan quiet '{"pct": 5, "hold": "5s"}, {"pct": 25}'
plan unbooked '{"pct": 5}, {"pct": 25}'
plan endless '{"pct": 5}, {"pct": 25}'
plan shaky '{"pct": 5, "hold": "1h"}, {"pct": 25}'
plan alike '{"pct": 25, "hold": "2s"}, {"pct": 50}'
plan hanging '{"pct": 25}, {"pct": 50}'
plan hanged '{"pct": 25, "hold": "8s"}, {"pct": 50}' '"overdue": "1s"' '"guardrails": [{"kind": "lost", "rollback": {"ratio": 2}}]'
plan limited '{"pct": 5}, {"pct": 25}, {"pct": 50, "hold": "1h"}' # begins to be limited at 50 %
plan slowpoke '{"pct": 5, "hold": "1h"}, {"pct": 25}' '"notify": ["hangs", "deaf", "nobody", "pager"]'
text[slowpoke]=${text[slowpoke]/'"notify": ["pager"], '/}
plan deleted '{"pct": 5, "hold": "1h"}, {"pct": 25}'
plan complete '{"pct": 100}'
plan top '{"pct": 100}' '"watch": "1h"'
plan topalike '{"pct": 100}' '"watch": "1h"'
for flag in top topalike; do text[$flag]=${text[$flag]/'"watch": "1s", '/}; done
write_flags
start_server --notify-dir "$targets"
traffic fine,complete
traffic top variant_status=500
traffic topalike status=500
"$book" quiet 1 ids=400 per_s=400 lasts_ms=2500 >/dev/null &
children+=("$!")
"$book" endless 100000 ids=400 per_s=200 unfinished=100000 >/dev/null 2>>"$work/traffic.log" &
children+=("$!")
traffic shaky fail_every=20 variant_status=500
traffic alike status=500
traffic hanging,hanged variant_unfinished=1
traffic slowpoke,deleted variant_status=500
traffic limited
(while "$flagctl" assign unbooked < <(seq 2000) >/dev/null; do sleep 0.1; done) &
children+=("$!")

case_ "a variant that fails wholly beside a control that fails a little is harm"
later has_stage shaky rolled-back
expect_match 'control' "$(sentence shaky breaker)$(sentence shaky guardrail)"

case_ "targets that hang, are deaf or are not there hold up neither the roll-back nor the others"
later has_stage slowpoke rolled-back
later was_told_of slowpoke breaker
expect 0 "$(share slowpoke)"
expect_match 'warning: deaf cannot be told' "$(cat "$log")"
expect_match 'warning: nobody cannot be told' "$(cat "$log")"

case_ "both arms failing alike is no roll-back, and nothing rises"
later has_happened alike both_arms_bad
later has_stage fine ramp-25pct # enough time for it
sleep 2.5
expect "25 0 true" "$(share alike) $(happened alike breaker) $(waits_for alike both_arms_bad && echo true)"
expect 0 "$(happened alike guardrail)"

case_ "at 100 % a variant that fails is probed beside control, and rolled back where control is well; where it is not, all get it again"
later has_stage top rolled-back
expect "1 1" "$(happened top probe) $(happened top breaker)"
later has_happened topalike probe_ended
expect "100 full" "$(share topalike) $(stage topalike)"
expect "1 0" "$(happened topalike probe) $(happened topalike breaker)"

case_ "a variant whose calls never end is no silent pass, and goes where \"lost\" rolls back"
later waits_for hanging no_outcomes
expect "ramp-25pct" "$(stage hanging)"
later has_stage hanged rolled-back
expect_match '^rolled back from 25 % to 0 %: lost: ' "$(sentence hanged guardrail)"

case_ "calls that begin and are never booked as ended are no silent pass, nor are decisions alone"
waits_for_either() { waits_for "$1" no_outcomes || waits_for "$1" no_traffic; }
later waits_for_either endless
later waits_for unbooked no_traffic
expect "canary-5pct canary-5pct" "$(stage endless) $(stage unbooked)"

case_ "traffic that stops mid-stage stops the plan; when it is back, it goes on"
expect "canary-5pct true" "$(stage quiet) $(waits_for quiet no_traffic && echo true)"
traffic quiet
later has_stage quiet ramp-25pct

case_ "a storm of 429 for the variant alone is a step back and no latch"
later has_stage limited ramp-50pct
traffic limited variant_status=429
later has_happened limited stepped_back
expect "25 false" "$(share limited) $(rollout limited .latched)"
expect true "$(waits_for limited capacity && echo true)"
expect_match '429' "$(sentence limited stepped_back)"

case_ "thresholds and plan edited mid-way raise nothing"
plan thresholds '{"pct": 5, "hold": "1h"}, {"pct": 25}'
write_flags
later has_stage thresholds canary-5pct
plan thresholds '{"pct": 5, "hold": "1h"}, {"pct": 50}' '' '"guardrails": [{"kind": "error_rate", "rollback": {"ratio": 9}}]'
write_flags
later has_happened thresholds plan_edited
expect "5 canary-5pct" "$(share thresholds) $(stage thresholds)"

case_ "deleted and restored while latched it stays latched; one that was not begins at its first step"
later has_stage deleted rolled-back
later has_stage fine ramp-25pct
kept=${text[deleted]} fine=${text[fine]}
unset 'text[deleted]' 'text[fine]'
write_flags
is_gone() { ! "$flagctl" get "$1"; }
later is_gone deleted
sleep 1.2 # a beat in which it might be forgotten
text[deleted]=$kept text[fine]=$fine
write_flags
later has_stage deleted rolled-back
expect 0 "$(share deleted)"
expect true "$(rollout deleted .latched)"
[ "$(share fine)" -le 5 ] || fail "it serves $(share fine) %"
later has_stage fine ramp-25pct

case_ "its outcomes' segment removed mid-stage: it goes on with evidence of its own, and does not pass by it"
plan held '{"pct": 5, "hold": "4s"}, {"pct": 25}'
write_flags
later has_stage held canary-5pct
traffic held
sleep 1
rm "/dev/shm/flagshm.$instance.outcomes"
later test -e "/dev/shm/flagshm.$instance.outcomes"
expect canary-5pct "$(stage held)"
later has_stage held ramp-25pct

case_ "counts that run back, and noise over all that was booked: nothing rises by them, and no server ends"
plan forged '{"pct": 5, "hold": "3s"}, {"pct": 25}'
plan noisy '{"pct": 5, "hold": "3s"}, {"pct": 25}'
write_flags
later has_stage noisy canary-5pct
traffic forged,noisy
later rollout_is noisy .open true
later rollout_is forged .open true
python3 - "/dev/shm/flagshm.$instance.outcomes" "$(rollout forged .slot)" "$(rollout noisy .slot)" <<'PYTHON'
import mmap, os, random, sys
head, slots, page = 4096, 256, 4096
size = os.stat(sys.argv[1]).st_size
each = (size - head) // slots
with open(sys.argv[1], "r+b") as f, mmap.mmap(f.fileno(), size) as m:
    forged, noisy = (head + int(slot) * each for slot in sys.argv[2:])
    m[forged + page:forged + each] = bytes(each - page)
    m[noisy + page:noisy + each] = random.Random(4).randbytes(each - page)
PYTHON
later waits_for forged tainted
sleep 4
kill -0 "$server_pid" || fail "the server has ended"
expect "canary-5pct true" "$(stage forged) $(waits_for forged tainted && echo true)"
[ "$(share noisy)" -le 5 ] || fail "it serves $(share noisy) %"
later has_stage fine ramp-25pct # others go on

case_ "a server that stands still: canaries give control after ten seconds, what is complete stays; awake, nothing has been held meanwhile"
later has_stage complete complete
plan still '{"pct": 5, "hold": "3s"}, {"pct": 25, "hold": "3s"}, {"pct": 50}'
write_flags
later has_stage still canary-5pct
traffic still
user=$(seq -f 'user-%g' 0 399 | "$flagctl" assign still | awk '$2 == "variant" {print $1; exit}')
[ -n "$user" ] || fail "no user has the variant: $(seq 5 | "$flagctl" assign still)"
kill -STOP "$server_pid"
sleep 10.6
expect c "$("$flagctl" model still "$user" --fallback none)"
expect STALE "$("$flagctl" eval still "$user" -o json | jq -r '.. | .reason? // empty' | head -1)"
expect v "$("$flagctl" model complete "$user" --fallback none)"
kill -CONT "$server_pid"
is_variant() { [ "$("$flagctl" model still "$user" --fallback none)" = v ]; }
later is_variant
expect 5 "$(share still)"
expect 0 "$(happened still advanced)"

case_ "after three holds without a server at most one step comes, and only when it was watched"
stop_server
sleep 9
start_server --notify-dir "$targets"
expect "5 0" "$(share still) $(happened still advanced)"
later has_share still 25
sleep 1
expect "25 1" "$(share still) $(happened still advanced)"
stop_server

end_traffic
echo "all cases passed"
