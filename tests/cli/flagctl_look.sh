#!/usr/bin/env bash
# The commands that look: list, get, eval, assign, watch, dump, lint, in, model, version, help. Usage: flagctl_look.sh BUILD_DIRECTORY
# Tables are published by table_publish: no server runs here.
. "$(dirname "$0")/daemon.bash"

publish() { "$build/tests/table_publish" --instance "$instance" "$@" "$file" >/dev/null 2>>"$log"; }

cat >"$file" <<'JSON'
{
  "flags": {
    "new_summarizer_model": {
      "control": "claude-haiku-4-5", "variant": "claude-sonnet-4-5", "rollout_pct": 5,
      "description": "a better \u001b[31m summary", "owner": "team-x", "created": "2026-01-02"
    },
    "multi": {
      "control": {"model": "a", "temperature": 0.10},
      "variants": {"sonnet": {"value": {"model": "s", "n": 9007199254740993}, "weight": 1}, "gpt": {"value": "gpt-5", "weight": 3}},
      "rollout_pct": 50, "force": {"sonnet": ["u1"]}, "identity": "org", "salt": "s2"
    },
    "no_model": {"control": {"n": 1}, "variant": {"n": 2}, "rollout_pct": 100},
    "off": {"control": "a", "variant": "b", "rollout_pct": 100, "enabled": false},
    "all": {"control": "a", "variant": "b", "rollout_pct": 100},
    "guarded": {"control": "a", "variant": "b", "rollout_pct": 25, "on_stale": "control"}
  }
}
JSON

# ---- without a table ----

case_ "no table: exit code 5 and the mend, for people and for machines"
run 5 "$flagctl"
expect "" "$output"
expect_match "no table of instance $instance" "$errors"
expect_match "flagshmd --file" "$errors"
for command in "list" "get x" "eval x y" "assign x" "watch" "dump" "in x y" "lint"; do
    run 5 "$flagctl" $command </dev/null
done
run 5 "$flagctl" list -o json
expect 5 "$(jq -r .error.code <<<"$errors")"
run 0 "$flagctl" model x y --fallback "the fallback"
expect "the fallback" "$output"

case_ "usage: exit code 2, did you mean, and the usage line"
run 2 "$flagctl" lisst
expect_match 'did you mean "list"' "$errors"
run 2 "$flagctl" eval x y --expalin
expect_match "did you mean --explain" "$errors"
expect_match "^usage: flagctl eval FLAG ID" "$errors"
run 2 "$flagctl" get
run 2 "$flagctl" get a b
run 2 "$flagctl" list -o yaml
run 2 "$flagctl" list --color=blue
run 2 "$flagctl" list --no-header=1
run 2 "$flagctl" list --instance
run 2 "$flagctl" list -i a -i b
run 2 "$flagctl" list -i 'no/name'
run 2 "$flagctl" lint --watch
run 2 "$flagctl" watch --count 0
run 2 "$flagctl" list --frobnicate -o json
expect 2 "$(jq -r .error.code <<<"$errors")"
run 2 "$flagctl" $'li\x1b[31mst'
expect_match 'li\?\[31mst' "$errors"

case_ "help: of all commands, and of each; the versions"
run 0 "$flagctl" --help
for command in $(sed -n 's/^  \([a-z]*\) .*/\1/p' <<<"$output" | grep -v '^-'); do
    expected=$(cd "$work" && "$flagctl" help "$command")
    run 0 "$flagctl" "$command" --help
    expect "$expected" "$output"
    expect_match "^usage: flagctl $command" "$output"
done
expect_match "^Exit codes: " "$output"
run 0 "$flagctl" --version
expect_match "^layout +1\.0" "$output"
run 0 "$flagctl" --version -o json
expect "1" "$(field .layout.major)"
run 0 "$flagctl" -h

# ---- list, get ----

publish
case_ "list: what is served, and how the server is"
run 0 "$flagctl"
expect_match "^FLAG +SHARE +STAGE +MODEL" "$output"
expect_match "^new_summarizer_model +5 % +[a-z]+-5pct +claude-haiku-4-5 -> claude-sonnet-4-5" "$output"
expect_match "^multi +50 % .* a -> s, gpt-5" "$output"
expect_match "^off +0 % +disabled" "$output"
expect_match "^$instance: version 1 of 20.*Z, file_rev 1, heartbeat .* ago" "$output"
run 0 "$flagctl" list --no-header
expect "6" "$(wc -l <<<"$output")"
run 0 "$flagctl" -o json
expect "1 1 $instance false false 6" "$(field '"\(.version) \(.file_rev) \(.instance) \(.all_control) \(.stale) \(.flags | length)"')"
expect "5 SPLIT" "$(field '.flags[] | select(.name == "new_summarizer_model") | "\(.rollout_pct) \(.reason)"')"
expect "0 DISABLED" "$(field '.flags[] | select(.name == "off") | "\(.rollout_pct) \(.reason)"')"

case_ "colours: only where they are wanted"
colours() { grep -c $'\x1b' <<<"$output" || :; }
run 0 "$flagctl" list --color=always
[ "$(colours)" != 0 ] || fail "no colours"
run 0 env CLICOLOR_FORCE=1 "$flagctl" list
expect 0 "$(colours)" # NO_COLOR is set and stronger
run 0 env -u NO_COLOR CLICOLOR_FORCE=1 "$flagctl" list
[ "$(colours)" != 0 ] || fail "no colours"
run 0 env -u NO_COLOR "$flagctl" list
expect 0 "$(colours)"

case_ "get: the file's keys, values as they are spelled, the share served now"
run 0 "$flagctl" get multi -o json
expect '{"model":"a","temperature":0.10}' "$(grep -o '"control":{[^}]*}' <<<"$output" | cut -d: -f2-)"
expect_match '"n":9007199254740993' "$output"
expect "50 3 org s2 1 true" "$(field '"\(.rollout_pct) \(.variants.gpt.weight) \(.identity) \(.salt) \(.forced_ids) \(.enabled)"')"
run 0 "$flagctl" get new_summarizer_model -o json
expect "claude-haiku-4-5 claude-sonnet-4-5 team-x 2026-01-02 hold 5" \
    "$(field '"\(.control) \(.variant) \(.owner) \(.created) \(.on_stale) \(.file.rollout_pct)"')"
run 0 "$flagctl" get new_summarizer_model
expect_match "^  owner +team-x" "$output"
expect_match 'a better \?\[31m summary' "$output"
run 4 "$flagctl" get new_sumarizer_model
expect_match 'did you mean "new_summarizer_model"' "$errors"
run 0 "$flagctl" get new_summarizer_model --file /nonexistent -o json
expect "false null" "$(field '"\(.file.readable) \(.owner)"')"
run 0 "$flagctl" get all
expect_match "everyone gets the same" "$output"

# ---- eval ----

case_ "eval: every step agrees with Python's hashlib"
run 0 "$flagctl" eval new_summarizer_model u1 u2 'müller' "$(printf 'x%.0s' $(seq 300))" -o json --explain
/usr/bin/python3 - "$output" <<'PYTHON'
import hashlib, json, sys
answer = json.loads(sys.argv[1])
assert len(answer["results"]) == 4
for result in answer["results"]:
    text = answer["flag"] + ":" + result["id"]
    h = int(hashlib.md5(text.encode()).hexdigest(), 16)
    e = result["explain"]
    assert e["hash_input"] == text and e["md5"] == "%032x" % h and e["h_mod_100"] == h % 100
    assert e["bucket"] == result["bucket"] == h % 100 * 1000 + h // 100 % 1000
    assert (result["arm"] == "variant") == e["in_rollout"] == (e["bucket"] < e["threshold"] == 5000)
PYTHON
run 0 "$flagctl" eval multi u1 u2 u3 u4 u5 u6 u7 u8 -o json -e
/usr/bin/python3 - "$output" <<'PYTHON'
import hashlib, json, sys
arms = set()
for result in json.loads(sys.argv[1])["results"]:
    h = int(hashlib.md5(("s2:" + result["id"]).encode()).hexdigest(), 16)
    lot = h // 100000 % 4
    arm = "control" if h % 100 >= 50 else "sonnet" if lot < 1 else "gpt"
    if result["id"] == "u1":
        arm = "sonnet"
        assert result["reason"] == "TARGETING_MATCH"
    assert result["arm"] == arm and result["explain"]["lot"] == lot, result
    arms.add(arm)
assert len(arms) == 3
PYTHON
run 0 "$flagctl" eval new_summarizer_model u2 --explain
expect_match "^  hash input +new_summarizer_model:u2$" "$output"
expect_match "^  comparison +2023 < 5000: in the rollout$" "$output"
run 0 "$flagctl" eval new_summarizer_model '' -- -x
expect_match "TARGETING_KEY_MISSING" "$output"
expect_match "^-x " "$output"
run 0 "$flagctl" eval all $'a\tb\x1b[2J'
expect_match '^a\?b\?\[2J ' "$output"
run 4 "$flagctl" eval nope u1

# ---- in, model ----

case_ "in: the exit code is the answer, and nothing else is a yes"
run 0 "$flagctl" in all u1
expect "" "$output$errors"
run 1 "$flagctl" in off u1
run 0 "$flagctl" in new_summarizer_model u2
run 1 "$flagctl" in new_summarizer_model u1
run 4 "$flagctl" in nope u1
run 2 "$flagctl" in all ''
run 2 "$flagctl" in all
run 2 "$flagctl" in off --help
run 2 "$flagctl" in off --version
run 2 "$flagctl" in off -h
run 1 "$flagctl" in off -- --help
run 2 "$flagctl" in all "$(head -c 5000 /dev/zero | tr '\0' x)"

case_ "model: prints a model whatever happens"
run 0 "$flagctl" model all u1 --fallback f
expect "b" "$output"
run 0 "$flagctl" model nope u1 --fallback f
expect "f" "$output"
run 0 "$flagctl" model no_model u1 --fallback f
expect "f" "$output"
expect_match "names no model" "$errors"
run 0 "$flagctl" model all --fallback f
expect "f" "$output"
run 0 "$flagctl" model all -x --fallback f
expect "f" "$output"
run 0 "$flagctl" model all -x --fallback=f -o json
expect "f" "$(field .model)"
run 0 "$flagctl" model -i 'bad/instance' all x --fallback f
expect "f" "$output"
run 2 "$flagctl" model all u1

# ---- assign ----

case_ "assign: what eval says, line by line, in order"
seq -f 'user-%g' 1 5000 >"$work/ids"
{ printf '\n'; printf 'x%.0s' $(seq 4096); printf '\n'; printf 'grün\t tab\r\nlast, without an end'; } >>"$work/ids"
run 0 "$flagctl" assign multi <"$work/ids"
expect 5004 "$(wc -l <<<"$output")"
printf '%s\n' "$output" >"$work/assigned"
/usr/bin/python3 - "$work/ids" "$work/assigned" <<'PYTHON'
import hashlib, sys
ids = open(sys.argv[1], "rb").read().split(b"\n")
lines = open(sys.argv[2], "rb").read().split(b"\n")[:-1]
assert len(ids) == len(lines)
for id, line in zip(ids, lines):
    h = int(hashlib.md5(b"s2:" + id).hexdigest(), 16)
    arm = b"control" if id == b"" or h % 100 >= 50 else b"sonnet" if h // 100000 % 4 < 1 else b"gpt"
    assert line == id + b"\t" + arm, (id, line)
PYTHON
expect_match "line 5003 ends in a carriage return" "$errors"

case_ "assign: a pipe that trickles gets its answers at once"
coproc trickle { "$flagctl" assign all --model; }
trickle_pid=$!
echo one >&"${trickle[1]}"
IFS= read -r -t 10 line <&"${trickle[0]}"
expect "$(printf 'one\tvariant\tb')" "$line"
eval "exec ${trickle[1]}>&-"
wait "$trickle_pid"

case_ "assign: ids that are none are named by their lines, and the rest goes on"
{ echo a; printf 'x%.0s' $(seq 4097); echo; printf 'n\0l\n'; head -c 3000000 /dev/zero | tr '\0' y; printf '\nb\n'; } >"$work/ids"
run 1 "$flagctl" assign all <"$work/ids"
expect "$(printf 'a\tvariant\nb\tvariant')" "$output"
expect_match "line 2: the id is over 4096 bytes" "$errors"
expect_match "line 3: the id has a NUL byte" "$errors"
expect_match "line 4: the id is over 4096 bytes" "$errors"
run 0 "$flagctl" assign all </dev/null
expect "" "$output"
run 0 "$flagctl" assign all -o json <<<'q"x'
expect 'q"x variant b' "$(field '"\(.id) \(.arm) \(.model)"')"
run 4 "$flagctl" assign nope </dev/null

# ---- lint ----

case_ "lint: every fault with its place; warnings alone are no errors"
run 0 "$flagctl" lint
expect_match "^6 flags, no errors" "$output"
run 6 "$flagctl" lint "$source_dir/tests/data/bad/rollout_pct_range.json"
expect_match "rollout_pct_range.json:[0-9]+:[0-9]+: error: rollout_pct must be 0\.\.100" "$output"
expect_match '\^' "$output"
expect_match "1 error$" "$output"
run 0 "$flagctl" lint - <"$file"
run 6 "$flagctl" lint - <<<'{"flags": {'
expect_match "^<stdin>:" "$output"
run 1 "$flagctl" lint /nonexistent
run 6 "$flagctl" lint /nonexistent "$source_dir/tests/data/bad/empty.json"
run 0 "$flagctl" lint "$source_dir"/tests/data/good/*.json
run 6 "$flagctl" lint -o json "$file" "$source_dir/tests/data/bad/rollout_pct_range.json"
expect "0 1 error" "$(field '"\(.files[0].errors) \(.files[1].errors) \(.files[1].diagnostics[0].severity)"')"
printf '{"flags": {"a\\u001b[31m": 1, "\xff": 2}}' >"$work/hostile.json"
run 6 "$flagctl" lint "$work/hostile.json"
expect 0 "$(grep -c $'\x1b' <<<"$output" || :)"

# ---- kills, silence ----

case_ "list and eval: a killed flag, the kill of everything, a silent server"
publish --kill all
run 0 "$flagctl"
expect_match "^all +0 % +killed" "$output"
expect_match "1 flag is killed; to end it: flagctl unkill FLAG" "$output"
publish --all-control
run 0 "$flagctl" list -o json
expect "true 0" "$(field '"\(.all_control) \([.flags[].rollout_pct] | add)"')"
run 1 "$flagctl" in all u1
run 0 "$flagctl" assign all <<<u1
expect "$(printf 'u1\tcontrol')" "$output"
publish --silent-s 60
run 0 "$flagctl" list
expect_match "the server has been silent for 60 s" "$output"
expect_match "^guarded +0 % +stale: control" "$output"
run 0 "$flagctl" eval guarded u1 -o json
expect "STALE" "$(field '.results[0].reason')"
run 0 "$flagctl" assign guarded <<<u1
expect "$(printf 'u1\tcontrol')" "$output"
run 0 "$flagctl" list --no-header
expect_match "warning: the server has been silent" "$errors"
publish

# ---- watch ----

case_ "watch: a line for each change, and the ways to end"
"$flagctl" watch -o json --count 4 --timeout 20 >"$work/watched" &
children+=($!)
watcher=$!
wait_until test -e /proc/$watcher/exe
sleep 0.3
sed -i 's/"rollout_pct": 5,/"rollout_pct": 25,/' "$file"
publish
wait_until grep -q changed "$work/watched"
sed -i 's/"all": /"every": /' "$file"
publish
wait_until grep -q added "$work/watched"
publish --all-control
wait "$watcher" || fail "watch ended with $?"
expect "new_summarizer_model 5 25" \
    "$(jq -r 'select(.event == "changed") | "\(.flag) \(.old.rollout_pct) \(.new.rollout_pct)"' "$work/watched" | head -n 1)"
expect "all" "$(jq -r 'select(.event == "removed") | .flag' "$work/watched")"
expect "every" "$(jq -r 'select(.event == "added") | .flag' "$work/watched")"
publish
run 8 "$flagctl" watch --count 1 --timeout 0.2
run 0 "$flagctl" watch --timeout 0.2
"$flagctl" watch >/dev/null &
watcher=$!
children+=("$watcher")
wait_until grep -q 'SigCgt:.*[2367abef]$' /proc/$watcher/status # SIGINT has its handler
kill -INT "$watcher"
wait "$watcher" || fail "watch ended with $? after SIGINT"

case_ "list --watch: again at each change, a JSON object a line"
"$flagctl" list --watch=30 -o json >"$work/watched" &
watcher=$!
children+=("$watcher")
wait_until test -s "$work/watched"
before=$(version)
sed -i 's/"rollout_pct": 25,/"rollout_pct": 26,/' "$file"
publish
wait_until grep -q '"rollout_pct":26' "$work/watched"
expect "$before" "$(head -n 1 "$work/watched" | jq .version)"
kill -TERM "$watcher"
wait "$watcher" || fail "list --watch ended with $?"

# ---- output ----

case_ "output that cannot be written is a failure"
for command in "list" "get multi" "list -o json" "dump" "eval every u1" "completion bash" "help" "lint"; do
    run 1 bash -c '"$0" "$@" >/dev/full' "$flagctl" $command
    expect_match "cannot write the output" "$errors"
done
run 1 bash -c 'echo u1 | "$0" assign every >/dev/full' "$flagctl"
run 1 bash -c '"$0" list >&-' "$flagctl"
run 1 bash -c 'yes | "$0" assign every 2>"$1" | head -n 1 >/dev/null; exit "${PIPESTATUS[1]}"' "$flagctl" "$work/pipe"
expect_match "Broken pipe" "$(cat "$work/pipe")"

# ---- dump ----

case_ "dump: each field in words, and hostile tables harm nobody"
run 0 "$flagctl" dump
expect_match "^  magic +0x3142545348474c46$" "$output"
expect_match "^multi +50 % .* hash,org +s2 +3 +1 " "$output"
run 0 "$flagctl" dump -o json
expect "6 true" "$(field '"\(.records | length) \(.bank_0.served != .bank_1.served)"')"
export FLAGSHM_DIR=$work/dir
mkdir "$FLAGSHM_DIR"
publish
table=$FLAGSHM_DIR/flagshm.$instance.table
cp "$table" "$work/sound"
/usr/bin/python3 - "$flagctl" "$table" "$work/sound" <<'PYTHON'
import os, random, subprocess, sys
flagctl, table, sound = sys.argv[1:4]
whole = open(sound, "rb").read()
random.seed(20240229)
answers = {}
for number in range(60):
    image = bytearray(whole)
    if number < 10:  # cut, also inside the header
        image = image[:random.choice([0, 1, 64, 191, 4095, 4096, 5000, len(image) - 1])]
    for _ in range(random.choice([1, 2, 8, 200]) if image else 0):
        at = random.randrange(min(len(image), random.choice([192, 512, 4096, len(image)])))
        image[at] = random.choice([0, 1, 0x7f, 0x80, 0xff, random.randrange(256)])
    with open(table, "wb") as file:
        file.write(image)
    for command in ["dump"], ["list", "-o", "json"], ["get", "multi"], ["eval", "multi", "u1", "-e"], ["assign", "multi"]:
        run = subprocess.run([flagctl] + command, input=b"u1\n", capture_output=True, timeout=30)
        text = run.stdout + run.stderr
        assert run.returncode in (0, 1, 4, 5), (command, number, run)
        assert b"Sanitizer" not in text and b"runtime error" not in text, (command, number, text)
        assert b"\x1b" not in text, (command, number, text)
        answers[run.returncode] = answers.get(run.returncode, 0) + 1
assert answers[0] > 20 and answers[5] > 20, answers
PYTHON
unset FLAGSHM_DIR
