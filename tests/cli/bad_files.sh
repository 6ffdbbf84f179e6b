#!/usr/bin/env bash
# Each file of tests/data/bad: lint tells its place and the mend, word by word, with exit code 6; and a running server whose file
# becomes it says the same and goes on with the same table: same version, same answer of flagctl get for every flag.
# Usage: bad_files.sh BUILD_DIRECTORY
. "$(dirname "$0")/daemon.bash"

bad=$source_dir/tests/data/bad
mkdir "$work/lint" "$work/good"

case_ "lint: every fault with file, line, column and mend, exit code 6"
count=0
for path in "$bad"/*.json; do
    name=${path##*/}
    name=${name%.json}
    cp "$path" "$work/lint/flags.json"
    code=0
    (cd "$work/lint" && exec "$flagctl" lint flags.json) >"$work/said" 2>"$work/errors" || code=$?
    expect 6 "$code" "exit code of lint $name"
    [ ! -s "$work/errors" ] || fail "$name: on the error stream: $(cat "$work/errors")"
    grep -qE '^flags\.json:[0-9]+:[0-9]+: error: .' "$work/said" || fail "$name: no place: $(cat "$work/said")"
    sed '$d' "$work/said" | diff "$bad/$name.expected" - >"$work/diff" || fail "$name: $(cat "$work/diff")"
    count=$((count + 1))
done
[ "$count" -ge 150 ] || fail "only $count files"
echo "  $count files"

# What the server serves before: the flags of the bad file, those without a fault as they stand there, the others in a form of
# their own: off and at 0 %, since a valid "enabled": false or lower share beside a fault rightly takes effect (a kill never waits).
# So a server that takes one step too many changes the version, and one that takes the bad form shows it.
python3 - "$flagctl" "$bad" "$work/good" <<'PYTHON'
import glob, json, os, re, subprocess, sys

flagctl, bad, good = sys.argv[1:]
OWN = {"control": "own-control", "variant": "own-variant", "rollout_pct": 0, "enabled": False}


def lint(paths):
    out = subprocess.run([flagctl, "lint", "-o", "json"] + paths, stdout=subprocess.PIPE).stdout
    return {file["file"]: [d for d in file["diagnostics"] if d["severity"] == "error"] for file in json.loads(out)["files"]}


def write(path, document):
    document["$comment"] = os.path.basename(path)  # a text of its own: each becomes a revision
    with open(path, "w") as file:
        json.dump(document, file)
    with open(path[:-len("json")] + "names", "w") as file:
        file.writelines(name + "\n" for name in sorted(document["flags"]))


paths = sorted(glob.glob(bad + "/*.json"))
written = []
for path, errors in lint(paths).items():
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read().decode())
        flags = document["flags"]
        pointers = [d["pointer"].split("/")[1:] for d in errors]
        faulty = {p[1].replace("~1", "/").replace("~0", "~") for p in pointers if len(p) > 1 and p[0] == "flags"}
        before = {"flags": {name: OWN if name in faulty else flags[name]
                            for name in flags if re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name)}}
        if "defaults" in document and not any(p[:1] == ["defaults"] for p in pointers):
            before["defaults"] = document["defaults"]
    except (ValueError, TypeError, KeyError, AttributeError):
        before = {"flags": {"own": OWN}}  # no JSON at all, or no flags: nothing of it counts
    written.append(os.path.join(good, os.path.basename(path)))
    write(written[-1], before)
for path, errors in lint(written).items():
    if errors:  # a fault that Python's reader lets pass
        write(path, {"flags": {"own": OWN}})
assert len(written) == len(paths) and not any(lint(written).values())
PYTHON

names() { "$flagctl" list -o json | grep -oE '"name":"[^"]*","rollout_pct"' | cut -d '"' -f 4; }
served() { # the table, and each flag as flagctl get tells it, without what the clock and the file say
    local flag
    {
        "$flagctl" list -o json
        for flag in $(names); do
            "$flagctl" get "$flag" -o json
        done
    } | sed 's/"file_rev":[0-9]*,//; s/"age_ms":[0-9]*,//; s/,"file":{.*//'
}
# The server has done with what it said: its answer comes from the loop that reads the file.
settle() { "$flagctl" history >/dev/null; }
serve() { # PATH: the server's file becomes a copy of it, and is served
    : >"$log"
    cp "$1" "$file.new" && mv "$file.new" "$file"
    wait_until grep -q "file revision" "$log"
    "$flagctl" accept >/dev/null # a file of many flags is followed by one of few
    settle
}

case_ "a running server: the same words in its log, and the same table"
flags_file "$(flag first 5)"
start_server
flags=0
count=0
for path in "$bad"/*.json; do
    name=${path##*/}
    name=${name%.json}
    serve "$work/good/$name.json"
    served >"$work/before"
    diff "$work/good/$name.names" <(names) || fail "$name: the flags served before"
    flags=$((flags + $(wc -l <"$work/before") - 1))
    : >"$log"
    # By turns a new file takes the name, and the file is written in place.
    if [ $((count % 2)) = 0 ]; then
        cp "$path" "$file.new" && mv "$file.new" "$file"
    else
        cp "$path" "$file"
    fi
    wait_until grep -qF -- "$(head -n 1 "$bad/$name.expected" | sed "s|^flags\.json:|$file:|")" "$log"
    settle
    served >"$work/after"
    diff "$work/before" "$work/after" >"$work/diff" || fail "$name has changed the table: $(cat "$work/diff")"
    count=$((count + 1))
done
[ "$flags" -ge 100 ] || fail "only $flags flags were looked at"
echo "  $count files, $flags flags"

case_ "the same look sees a change: a flag without a fault, beside one with a fault, moves on"
flags_file "$(flag first 5), $(flag second 5)"
wait_until has_share second 5
served >"$work/before"
flags_file "$(flag first 500), $(flag second 6)"
wait_until has_share second 6
expect 5 "$(share first)"
settle
served >"$work/after"
! diff "$work/before" "$work/after" >/dev/null || fail "the look sees nothing"
stop_server
echo "all cases passed"
