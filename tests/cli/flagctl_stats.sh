#!/usr/bin/env bash
# What became of calls: stats, top, record, and what doctor and dump say of the outcome segment. Usage: flagctl_stats.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

book() { "$build/tests/outcomes_book" "$@"; }
arm() { # FLAG ARM EXPRESSION
    "$flagctl" stats "$1" -o json | jq -r ".flags[0].arms[] | select(.arm == \"$2\") | $3"
}

write_file '{"flags": {
    "split": {"control": "haiku", "variant": "sonnet", "rollout_pct": 50},
    "three": {"control": "a", "variants": {"b": {"value": "b", "weight": 1}, "c": {"value": "c", "weight": 1}}, "rollout_pct": 80},
    "full": {"control": "a", "variant": "b", "rollout_pct": 100},
    "none": {"control": "a", "variant": "b", "rollout_pct": 0},
    "off": {"control": "a", "variant": "b", "rollout_pct": 50, "enabled": false}}}'

case_ "no server: exit code 5 and the mend; a flag that is none: 4"
run 5 "$flagctl" stats
run 5 "$flagctl" stats split -o json
expect 5 "$(jq -r .error.code <<<"$errors")"
start_server
run 4 "$flagctl" stats splitt
expect_match 'did you mean "split"' "$errors"
run 2 "$flagctl" stats a b

# ---- stats ----

case_ "stats: every count is the one that was booked"
booked=$(book split 1000 ids=300 latency_ms=800 ttft_ms=90 input=1000 output=200 fail_every=50 json=valid unfinished=7 attempts=2)
control=$(awk '$1 == "control" {print $2}' <<<"$booked")
variant=$(awk '$1 == "variant" {print $2}' <<<"$booked")
expect 1000 $((control + variant))
run 0 "$flagctl" stats split -o json
expect "$control $variant 1000 993 7 20 993 993000 198600" "$(field '.flags[0].arms as $a | [$a[0].started, $a[1].started] + ([["started","finished",
    "in_flight", "failed", "retries", "input_tokens", "output_tokens"][] as $k | $a | map(.[$k]) | add]) | map(tostring) | join(" ")')"
expect "973 0" "$(field '.flags[0].arms | "\(map(.json_checked) | add) \(map(.json_invalid) | add)"')"
expect 0 "$(field '.flags[0].arms | map(.misbooked) | add')"
expect "0.0625 true 2 0" "$(field '"\(.quantile_error) \(.recording) \(.slots_used) \(.slots_refused)"')"
expect "haiku sonnet null null" "$(field '.flags[0] | "\(.arms[0].model) \(.arms[1].model) \(.shadow) \(.why)"')"
expect true "$(field '.flags[0].arms | map(.latency_ms.p50, .latency_ms.p99 | . >= 800 * 0.9375 and . <= 800 * 1.0625) | all')"
expect true "$(field '.flags[0].arms | map(.tokens.p50 >= 1200 * 0.9375 and .tokens.p50 <= 1200 * 1.0625 and .tokens_mean == 1200) | all')"
expect true "$(field '.flags[0].distinct_ids | . > 270 and . < 330')"
expect true "$(field '.flags[0].arms | map(.failed_rate | .low < .rate and .rate < .high) | all')"
expect true "$(field '.flags[0].difference | .latency_ms.p50 == 1 and .failed_rate.low < .failed_rate.high and .ttft_ms.p95 == 1')"
run 0 "$flagctl" stats split
expect_match "^calls +started +$control +$variant" "$output"
expect_match "^errors +failed +[0-9]+  [0-9.]+ % \([0-9.]+\.\.\.[0-9.]+\)" "$output"
expect_match "^latency +p50 +[78][0-9]+ ms +[78][0-9]+ ms +x 1" "$output"
expect_match "exact to \+-6\.25 %" "$output"
expect_match "^split: static-50pct, 50 % served, since 20" "$output"

case_ "stats: programs that say no STARTED have no calls in flight, and are not made up"
booked=$(book three 300 started=0 status=429 shadow=0)
run 0 "$flagctl" stats three -o json
expect "3 null 300 0" "$(field '.flags[0] | "\(.arms | length) \(.arms[0].in_flight) \(.arms | map(.limited) | add) \(.arms | map(.failed) | add)"')"
expect null "$(field '.flags[0].difference')"
expect "$(awk '{print $1 "=" $2}' <<<"$booked" | sort | tr '\n' ' ')" "$(field '.flags[0].arms[] | "\(.arm)=\(.finished)"' | sort | tr '\n' ' ')"
run 0 "$flagctl" stats three
expect_match "^calls +started +- +- +-" "$output"

case_ "stats: a line a flag, and why others have none"
run 0 "$flagctl" stats
expect_match "^split +50 % +static-50pct +[0-9]+ / [0-9]+ +2\.?[0-9]* %" "$output"
expect_match "2 of 256 slots are in use; 3 flags have none" "$output"
run 0 "$flagctl" stats -o json
expect "split three" "$(field '[.flags[].flag] | sort | join(" ")')"
for pair in "full:serves 100 %" "none:serves 0 %" "off:disabled"; do
    run 0 "$flagctl" stats "${pair%%:*}"
    expect_match "books no outcomes: .*${pair#*:}" "$output"
    run 0 "$flagctl" stats "${pair%%:*}" -o json
    expect "null ${pair%%:*}" "$(field '"\(.flags[0].slot) \(.flags[0].flag)"')"
    expect_match "${pair#*:}" "$(field '.flags[0].why')"
done
run 0 "$flagctl" kill three
run 0 "$flagctl" stats three
expect_match "it is killed; to end it: flagctl unkill three" "$output"
run 0 "$flagctl" unkill three

case_ "stats --watch: again and again, an object a line"
"$flagctl" stats split --watch=0.1 -o json >"$work/watched" &
watcher=$!
children+=("$watcher")
wait_until test -s "$work/watched"
book split 10 >/dev/null
wait_until grep -q '"finished":5[0-9]*,' "$work/watched"
kill -TERM "$watcher"
wait "$watcher" || fail "stats --watch ended with $?"
expect "split" "$(tail -n 1 "$work/watched" | jq -r '.flags[0].flag')"


# ---- record ----

id_of() { # FLAG ARM: an id that has it
    seq -f 'user-%g' 1 200 | "$flagctl" assign "$1" | awk -v arm="$2" '$2 == arm {print $1; exit}'
}
case_ "record: later events are booked under the arm that the id has"
for which in control variant; do
    id=$(id_of split $which)
    for event in thumbs-up thumbs-down thumbs-down retry support-contact; do
        run 0 "$flagctl" record split "$id" --$event
        expect_match "^split: ${event/-/_} of $id is booked under $which$" "$output"
    done
    run 0 "$flagctl" record split "$id" --custom 7 -o json
    expect "true $which custom_7 SPLIT null" "$(field '"\(.booked) \(.arm) \(.event) \(.reason) \(.why)"')"
    expect "1 2 1 1 0 1" "$(arm split $which '"\(.thumbs_up) \(.thumbs_down) \(.retry) \(.support_contact) \(.custom[0]) \(.custom[7])"')"
done
run 0 "$flagctl" stats split
expect_match "^ +custom 7 +1 " "$output"
run 0 "$flagctl" record split -d -- --odd-id
expect_match "of --odd-id is booked" "$output"

case_ "record: without the server too; a flag that books nothing says so, and that is no failure"
stop_server
run 0 "$flagctl" record split "$id" -u
start_server
expect 2 "$(arm split variant .thumbs_up)" # the segment was adopted: nothing is lost
run 0 "$flagctl" record full anyone --retry
expect_match "full: not booked: everyone gets the same arm.*variant" "$output"
run 0 "$flagctl" record off anyone --retry -o json
expect "false DISABLED" "$(field '"\(.booked) \(.reason)"')"

case_ "record: what is wrong is said, with the mend and its exit code"
run 2 "$flagctl" record split "$id"
expect_match "one of: --thumbs-up" "$errors"
run 2 "$flagctl" record split "$id" --retry --thumbs-up
run 2 "$flagctl" record split "$id" --custom 8
run 2 "$flagctl" record split "$id" --custom 0.5
run 2 "$flagctl" record split '' --retry
run 2 "$flagctl" record split "$(head -c 5000 /dev/zero | tr '\0' x)" --retry
run 4 "$flagctl" record splitt "$id" --retry
expect_match 'did you mean "split"' "$errors"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    cp "$flagctl" "$work/flagctl"
    run 5 setpriv --reuid=65534 --regid=65534 --clear-groups "$work/flagctl" record split "$id" --retry
    expect_match "outcomes may not be written by this user" "$errors"
    expect_match "join the group root, or run as root" "$errors"
else
    echo "skipped: another user's refusal needs root"
fi
segment=/dev/shm/flagshm.$instance.outcomes
kill -STOP "$server_pid" # or it has made another one before we look
rm "$segment"
run 5 "$flagctl" record split "$id" --retry
expect_match "there is no outcome segment" "$errors"
kill -CONT "$server_pid"
wait_until "$flagctl" record split "$id" --retry # the server makes another one
run 5 "$flagctl" record split "$id" --retry --instance nosuch

# ---- top ----

case_ "top: rates, errors, latency and tokens by arm, as JSON"
"$build/tests/outcomes_book" split 1000000 ids=1000 per_s=500 latency_ms=300 input=10 output=20 fail_every=10 >/dev/null &
booker=$!
children+=("$booker")
run 0 "$flagctl" top --count 3 --interval 0.5 -o json
expect 3 "$(wc -l <<<"$output")"
output=$(tail -n 1 <<<"$output")
expect "control variant" "$(field '.flags[0].arms | map(.arm) | join(" ")')"
expect "true split null false 3" "$(field '"\(.calls_per_s > 100 and .calls_per_s < 700) \(.flags[0].flag) \(.fault) \(.stale) \(.flags_without_slot)"')"
expect true "$(field '.flags[0].arms | map(.tokens_per_call == 30 and .p50_ms > 280 and .p95_ms < 320 and .share_pct == 50) | all')"
expect true "$(field '.flags[0] | .arms | (map(.minute_error_rate * .minute_calls) | add) / (map(.minute_calls) | add) | . > 0.05 and . < 0.15')"

case_ "top: plain lines; sorted, filtered"
run 0 "$flagctl" top --once --interval 0.3
expect_match "^flagshm $instance .* calls/s, .* 2 flags book, 3 do not" "$output"
expect_match "^FLAG +STAGE +GUARD +WAITS +ARM +SHARE +CALLS/S +ERRS +ERRS 1M +P50 +P95 +TOKENS" "$output"
expect_match "^split +static-50pct +(on|wait) +- +control +50 % +[0-9.]+ .* 2[89][0-9] ms +2[89][0-9] ms +30 " "$output"
expect split "$(sed -n 3p <<<"$output" | cut -d' ' -f1)"
run 0 "$flagctl" top --once --interval 0.3 --sort name --filter hre
expect_match "^three .* control +20 %" "$output"
expect_match "^ +c +40 %" "$output"
expect 0 "$(grep -c '^split' <<<"$output" || :)"
expect 0 "$(grep -c $'\x1b' <<<"$output" || :)"
run 2 "$flagctl" top --interval 0
run 2 "$flagctl" top --count 1.5
run 2 "$flagctl" top --sort colour
run 1 bash -c '"$0" top --once --interval 0.1 >/dev/full' "$flagctl"
run 5 "$flagctl" top --once --instance nosuch
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    run 5 setpriv --reuid=65534 --regid=65534 --clear-groups "$work/flagctl" top --once
    expect_match "may not be read by this user: join its group" "$errors"
fi

case_ "top: on a terminal, which is given back on every end"
/usr/bin/python3 - "$flagctl" <<'PYTHON'
import fcntl, os, pty, select, signal, struct, sys, termios, time
def size(fd, rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
class Top:
    def __init__(self, *options):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            size(0, 20, 120)
            os.environ.update(TERM="xterm", LC_ALL="C.UTF-8")
            os.environ.pop("NO_COLOR", None)
            os.execv(sys.argv[1], [sys.argv[1], "top", "--interval", "0.2", *options])
        self.text = b""
    def read(self, wanted, since=0):
        end = time.monotonic() + 10
        while wanted not in self.text[since:]:
            assert time.monotonic() < end, (wanted, self.text[-3000:])
            if select.select([self.fd], [], [], 0.1)[0]:
                try: self.text += os.read(self.fd, 65536)
                except OSError: assert wanted in self.text[since:], (wanted, self.text[-3000:]); return
    def press(self, keys):
        at = len(self.text)
        os.write(self.fd, keys)
        return at
    def end(self):
        end = time.monotonic() + 10
        while True:
            assert time.monotonic() < end, "it does not end"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    got = os.read(self.fd, 65536)
                    if not got: break
                    self.text += got
                except OSError: break
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert code == 0, code
        assert self.text.count(b"\x1b[?1049h") == 1 and self.text.count(b"\x1b[?1049l") == 1
        assert self.text.rstrip().endswith(b"\x1b[?1049l") and b"\x1b[?25h" in self.text, self.text[-200:]
top = Top()
top.read(b"CALLS/S")
top.read(b"split")
top.read("\u2588".encode())
top.read(b"\x1b[31m")
before = termios.tcgetattr(top.fd)
assert not before[3] & termios.ECHO and not before[3] & termios.ICANON
at = top.press(b"/")
top.read(b"filter: _", at)
at = top.press(b"hre\r")
top.read(b"filter: hre", at)
at = len(top.text)
top.read(b"three", at)
top.read(b"three", len(top.text))
assert b"split" not in top.text[-700:], top.text[-1400:]
at = top.press(b"\x1b")
top.read(b"split", at)
at = top.press(b"n")
top.read(b"now: name", at)
at = top.press(b"p")
top.read(b"PAUSED", at)
at = top.press(b"\x1b[B\x1b[6~p")
top.read(b"control", at)
at = len(top.text)
size(top.fd, 6, 40)
time.sleep(0.5)
os.kill(top.pid, signal.SIGWINCH)
top.read(b"\x1b[K\x1b[J", at)
at = len(top.text)
top.read(b"\x1b[J", at)
at = len(top.text)
top.read(b"\x1b[J", at)
frame = top.text[at:].split(b"\x1b[H")[-1]
assert frame.count(b"\r\n") <= 5, frame
top.press(b"q")
top.end()
after = None
for how in b"\x03", signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT:
    top = Top()
    top.read(b"q quit")
    if isinstance(how, bytes): top.press(how)
    else: os.kill(top.pid, how)
    top.end()
print("screen: 6 ends")
PYTHON

case_ "top: a flag that is new appears, an edit goes on, and so does a segment that is made anew"
"$flagctl" top --interval 0.2 -o json >"$work/top" &
topper=$!
children+=("$topper")
wait_until grep -q split "$work/top"
sed -i 's/"none": {/"fresh": {"control": "a", "variant": "b", "rollout_pct": 50}, "none": {/; s/"rollout_pct": 80/"rollout_pct": 70/' "$file"
wait_until grep -q '"flag":"fresh"' "$work/top"
wait_until grep -q '"static-70pct"' "$work/top"
kill "$booker"
wait "$booker" || :
before=$(tail -n 1 "$work/top" | jq '.flags[] | select(.flag == "split").generation')
truncate -s 8192 "$segment" # as a member of the clients' group could
is_anew() { tail -n 2 "$work/top" | head -n 1 | jq -e ".fault == null and ([.flags[] | select(.flag == \"split\").generation > $before] | all)"; }
wait_until is_anew
book split 100 >/dev/null
has_moved() { grep '"finished":[1-9]' "$work/top" | jq -e "[.flags[] | select(.flag == \"split\" and .generation > $before) | .arms[].finished] | add == 100"; }
wait_until has_moved
kill -TERM "$topper"
wait "$topper" || fail "top ended with $?"

# ---- doctor and dump ----

check_of() { jq -r "[.checks[] | select(.name == \"outcomes\") | .$1] | join(\"; \")" <<<"$output"; }
case_ "doctor: the outcome segment: whole, ours, by whom it is written, slots, memory"
wait_until book split 10 latency_ms=100
run 0 "$flagctl" doctor -o json
expect ok "$(check_of state)"
expect_match "^3 of 256 slots in use, [0-9.]+ [KM]iB of memory \(1[0-9]+ MiB at most\); written by " "$(check_of detail)"
chmod o+w "$segment"
run 1 "$flagctl" doctor -o json
expect_match "everybody may write it \(mode 0662\)" "$(check_of detail)"
chmod 0660 "$segment"
kill -STOP "$server_pid"
truncate -s 8192 "$segment"
run 5 "$flagctl" doctor -o json
expect_match "has 8.0 KiB instead of 1[0-9]+ MiB: it was cut short" "$(check_of detail)"
rm "$segment"
run 5 "$flagctl" doctor -o json
expect_match "outcomes: No such file or directory" "$(check_of detail)"
kill -CONT "$server_pid"
wait_until "$flagctl" doctor
wait_until book split 1000 ids=100 latency_ms=100 json=invalid

case_ "doctor and stats: counters that run back are a taint, told with the mend"
poke() { # FLAG ARM COUNTER BYTES: every shard of a counter
    /usr/bin/python3 - "$segment" "$("$flagctl" dump --outcomes "$1" -o json | jq .slot.number)" "$2" "$3" "$4" <<'PYTHON'
import struct, sys
path, slot, arm, counter, value = sys.argv[1], *map(int, sys.argv[2:])
with open(path, "r+b") as file:
    for shard in range(16):
        file.seek(4096 + slot * 741376 + 53248 + arm * 20480 + shard * 320 + counter * 8)
        file.write(struct.pack("<Q", value))
PYTHON
}
run 0 "$flagctl" stats split -o json
expect false "$(field '.flags[0].tainted')"
poke split 1 1 0
run 0 "$flagctl" stats split -o json # the server finds it while it reads
run 0 "$flagctl" stats split -o json
expect true "$(field '.flags[0].tainted')"
expect_match "tainted: a counter ran back" "$(field '.flags[0].warnings[]')"
expect_match "next edit" "$("$flagctl" stats split)"
expect_match "split \(tainted\)" "$("$flagctl" stats)"
run 0 "$flagctl" doctor -o json
expect_match "split is tainted" "$(check_of detail)"

case_ "dump --outcomes: a slot in words, for people and for machines"
run 0 "$flagctl" dump --outcomes split
expect_match "^  magic +0x31434f5348474c46$" "$output"
expect_match "^  flag +split$" "$output"
expect_match "^json_invalid +[1-9]" "$output"
expect_match "^latency_ms p50/p95 +(9[4-9]|10[0-6])[.0-9]*/" "$output"
expect_match "^SIGNAL +KIND" "$output" # its outcomes came, so the default guardrails watch it
expect_match "^0 +error +slot" "$output"
run 0 "$flagctl" dump --outcomes three
expect_match "no signals: no guardrail watches" "$output"
run 0 "$flagctl" dump --outcomes split -o json
number=$(field .slot.number)
expect "split 2 control 1000" "$(field '"\(.slot.flag) \(.slot.arm_count) \(.arms[0].arm) \(.arms | map(.json_checked) | add)"')"
expect 0 "$(field '.arms | map(.misbooked) | add')"
run 0 "$flagctl" dump --outcomes "$number" -o json
expect split "$(field .slot.flag)"
run 1 "$flagctl" dump --outcomes full
expect_match "full has no slot: why, says flagctl stats full" "$errors"
run 4 "$flagctl" dump --outcomes 256
run 4 "$flagctl" dump --outcomes 1.5

case_ "hostile bytes all over the segment harm nobody who looks"
kill -STOP "$server_pid" # it would mend what is cut short; the server itself has its own tests
cp "$segment" "$work/sound"
timeout 120 /usr/bin/python3 - "$flagctl" "$segment" "$work/sound" "$number" <<'PYTHON'
import random, subprocess, sys
flagctl, path, sound, slot = *sys.argv[1:4], int(sys.argv[4])
random.seed(20260101)
slot_at, slot_bytes = 4096 + slot * 741376, 217088
with open(sound, "rb") as file:
    header = file.read(4096)
    file.seek(slot_at)
    whole = file.read(slot_bytes)
size = 4096 + 256 * 741376
codes = {}
for number in range(40):
    with open(path, "r+b") as file:
        file.truncate(random.choice([0, 64, 4096, slot_at, slot_at + 60000, size]) if number < 12 else size)
        image, head = bytearray(whole), bytearray(header)
        if number % 4 == 1: image = bytearray(random.randbytes(slot_bytes))
        if number % 4 == 2: image = bytearray(b"\xff" * slot_bytes)
        for _ in range(random.choice([1, 8, 500])):
            image[random.randrange(random.choice([256, 4096, slot_bytes]))] = random.choice([0, 1, 0x1b, 0x7f, 0x80, 0xff])
        if number % 5 == 4: head[random.randrange(400)] ^= 0xff
        if number >= 12:
            file.seek(0); file.write(head)
            file.seek(slot_at); file.write(image)
    for command in ["dump", "--outcomes", "split"], ["dump", "--outcomes", "split", "-o", "json"], ["top", "-n", "2", "--interval", "0.1"], \
                   ["top", "--once", "--interval", "0.1", "-o", "json"], ["doctor"]:
        if command == ["doctor"] and number % 10: continue
        run = subprocess.run([flagctl, *command], capture_output=True, timeout=30)
        text = run.stdout + run.stderr
        assert run.returncode in (0, 1, 5), (command, number, run)
        assert b"Sanitizer" not in text and b"runtime error" not in text, (command, number, text)
        assert b"\x1b" not in text, (command, number, text)
        codes[run.returncode] = codes.get(run.returncode, 0) + 1
assert codes[0] > 60 and codes[5] > 5, codes
PYTHON
kill -CONT "$server_pid"
wait_until "$flagctl" doctor
stop_server

if [ "$(id -u)" = 0 ] && mkdir "$work/small" && mount -t tmpfs -o size=4m none "$work/small" 2>/dev/null; then
    unmount_and_clean_up() {
        local code=$?
        set +e
        umount -l "$work/small"
        (exit "$code")
        clean_up
    }
    trap unmount_and_clean_up EXIT
    case_ "a full file system: what is looked at takes no page, and the segment stays"
    export FLAGSHM_DIR=$work/small
    start_server
    wait_until book split 500 latency_ms=100
    dd if=/dev/zero of="$work/small/fill" bs=4k 2>/dev/null || :
    before=$(stat -c %b "$work/small/outcomes/flagshm.$instance.outcomes")
    for look in "stats" "stats split" "top --once --interval 0.1" "dump --outcomes split" "doctor"; do
        expect_exit 0 "$flagctl" $look
    done
    sleep 1.2 # a beat, in which the server would find the segment torn
    expect "$before" "$(stat -c %b "$work/small/outcomes/flagshm.$instance.outcomes")"
    expect 500 "$("$flagctl" stats split -o json | jq '.flags[0].arms | map(.finished) | add')"
    run 0 "$flagctl" record split someone --thumbs-up
    stop_server
else
    echo "skipped: a full file system needs root and mount"
fi
