#!/usr/bin/env bash
# Holds server/flags.schema.json against the flag-file reader: the two must agree on every good file, on every bad file but
# those that a schema cannot express (named below, each with its reason), and on mutations of the good files.
# Usage: schema.sh BUILD_DIRECTORY
set -euo pipefail

build=${1:?usage: schema.sh BUILD_DIRECTORY}
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
verdict=$(find "$build" -name flagfile_verdict -type f -perm -u+x | head -n 1)
[ -n "$verdict" ] || { echo "flagfile_verdict is not built in $build" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

timeout 300 /usr/bin/python3 - "$source_dir" "$verdict" "$work" <<'PYTHON'
import copy, glob, json, os, random, re, subprocess, sys
from jsonschema import Draft202012Validator

source, verdict, work = sys.argv[1:4]
with open(source + "/server/flags.schema.json") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)

# What a schema cannot say, or what a JSON reader hides from it.
NOT_EXPRESSIBLE = {
    "duplicate_key": "a reader keeps one of the two",
    "duplicate_key_escaped": "a reader keeps one of the two",
    "duplicate_key_in_value": "a reader keeps one of the two",
    "duplicate_flag": "a reader keeps one of the two",
    "duplicate_flags_object": "a reader keeps one of the two",
    "nul_escape": "the values of arms and texts are free",
    "lone_surrogate": "texts are free",
    "nan": "Python's reader takes NaN for a number",
    "created_no_such_day": "the calendar",
    "expires_before_created": "the order of two values",
    "rollout_pct_exponent": "how a number is spelled",
    "rollout_pct_decimals": "multipleOf is not exact in binary",
    "value_too_long": "bytes of a whole object",
    "model_misspelt": "near misses of a word",
    "model_wrong_case": "near misses of a word",
    "force_id_in_two_arms": "values of two lists",
    "salt_shared": "values of two flags",
    "steps_fall": "the order of two values",
    "steps_stand_still": "the order of two values",
    "shadow_behind_pct": "the order of two kinds of values",
    "window_days_twice": "what is inside a range",
    "window_hours_order": "the order of two values",
    "guardrail_twice": "values of two objects",
    "guardrail_weights_sum": "a sum",
    "guardrail_weights_nothing": "a sum",
    "custom_index_twice": "values of two objects",
}
# The same, as the reader words it, for mutations.
NOT_EXPRESSIBLE_MESSAGES = [re.compile(p) for p in (
    r"^(created|expires) must be a date of the calendar",
    r"^expires lies before created",
    r"^rollout_pct must be a (number with at most three decimals|plain decimal)",
    r"^(pct|shadow_pct|holdback_pct) must be a (number with at most three decimals|plain decimal)",
    r"must be a whole number .*, got -?[0-9.eE+-]+$",  # 5.0 and -0 are whole numbers to a schema
    r"^version must be 1 .*, got 1\.0$",
    r"may have at most [0-9]+ bytes",
    r"^unknown key .*\(did you mean \"model\"\?\)$",
    r"^unknown arm ",
    r"^this id is forced into ",
    r"^salt .* is that of flag ",
    r"^steps must rise",
    r"^shadow steps come before all others",
    r"^(days|hours) must be ",
    r"is watched by another guardrail of this list already$",
    r"^the weights of all guardrails must not exceed 1",
    r"^the weights of the other guardrails leave nothing for ",
)]

failures = 0


def fail(text):
    global failures
    failures += 1
    print("FAIL:", text)


def reader_says(paths):
    """For each path the list of messages of the reader's errors."""
    out = subprocess.run([verdict, "-v"] + paths, check=True, capture_output=True, text=True, errors="replace").stdout
    answers = {}
    for line in out.splitlines():
        match = re.match(r"(OK|BAD) (.*)$", line)
        if match and match.group(2) in paths:
            errors = answers[match.group(2)] = []
            continue
        match = re.match(r"flags\.json:[0-9]+:[0-9]+: error: (.*)$", line)
        if match:
            errors.append(match.group(1))
    assert len(answers) == len(paths)
    return answers


def load(path):
    with open(path, "rb") as file:
        return json.loads(file.read().decode("utf-8"))


good = sorted(glob.glob(source + "/tests/data/good/*.json"))
bad = sorted(glob.glob(source + "/tests/data/bad/*.json"))
assert len(good) >= 10 and len(bad) >= 100
said = reader_says(good + bad)
for path in good:
    if said[path]:
        fail("%s: the reader says: %s" % (path, said[path]))
    for error in validator.iter_errors(load(path)):
        fail("%s: the schema says: %s" % (path, error.message))
unseen = set(NOT_EXPRESSIBLE)
for path in bad:
    name = os.path.basename(path)[:-len(".json")]
    unseen.discard(name)
    if not said[path]:
        fail("%s: the reader finds nothing" % path)
    try:
        passes = validator.is_valid(load(path))
    except ValueError:
        passes = False  # no JSON at all
    if passes and name not in NOT_EXPRESSIBLE:
        fail("%s: the schema finds nothing" % path)
    if not passes and name in NOT_EXPRESSIBLE:
        fail("%s: the schema can express it: take it off the list" % path)
for name in sorted(unseen):
    fail("%s.json is on the list but does not exist" % name)

# ---- mutations ----
random.seed(20240229)
WORDS = ["", "a", "b2b", "default", "control", "variant", "user", "org", "hold", "auto", "observe", "guard", "24h", "0s", "7w",
         "mon-thu", "mon,mon", "09:00-16:00", "16:00-09:00", "UTC", "Europe/Berlin", "not a name", "2026-11-24", "2026-02-30",
         "error_rate", "custom", "latency_p95", "x" * 32, "x" * 64, "x" * 65, "x" * 128, "a:b", "\u00e9"]
NUMBERS = [0, 1, -1, 2, 5, 7, 8, 50, 51, 100, 101, 0.5, 0.001, 0.0001, 1.5, 12.125, 99.999, 100.001, 1000001, 10 ** 9 + 1, 3.0]
KEYS = ["control", "variant", "variants", "rollout_pct", "rollout", "guardrails", "enabled", "salt", "force", "plan", "pct",
        "shadow_pct", "hold", "mode", "weight", "value", "model", "temperature", "max_tokens", "kind", "ratio", "delta",
        "delta_ms", "drop", "max", "max_ms", "index", "name", "tz", "days", "hours", "$comment", "unknown", "version",
        "defaults", "notify", "prove", "alpha", "error_rate", "min_users", "min_delta"]


def any_value(depth=0):
    kind = random.randrange(8 if depth < 2 else 5)
    if kind < 2:
        return random.choice(WORDS)
    if kind < 4:
        return random.choice(NUMBERS)
    if kind == 4:
        return random.choice([True, False, None])
    if kind < 7:
        return {random.choice(KEYS): any_value(depth + 1) for _ in range(random.randrange(3))}
    return [any_value(depth + 1) for _ in range(random.randrange(3))]


def containers(value):
    if isinstance(value, (dict, list)):
        if value:
            yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


def like(value):
    """Mostly another value of the same type: a mutation that is a type error everywhere finds little."""
    if random.random() < 0.3:
        return any_value()
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return random.choice(WORDS)
    if isinstance(value, (int, float)):
        return random.choice(NUMBERS)
    return any_value()


def mutate(document, spare):
    container = random.choice(list(containers(document)))
    if isinstance(container, list):
        at = random.randrange(len(container))
        what = random.randrange(4)
        if what == 0:
            del container[at]
        elif what == 1:
            container.insert(at, copy.deepcopy(container[at]))
        else:
            container[at] = like(container[at])
        return
    key = random.choice(list(container))
    what = random.randrange(6)
    if what == 0:
        del container[key]
    elif what == 1:
        container[random.choice(KEYS)] = container.pop(key)
    elif what == 2:
        container[random.choice(KEYS)] = any_value()
    elif what == 3:
        other = random.choice(list(containers(spare)))
        container[random.choice(KEYS)] = copy.deepcopy(other)
    else:
        container[key] = like(container[key])


documents = [load(path) for path in good if os.path.basename(path) != "numbers.json"]  # its 1e999 is no float
mutants = []
for number in range(5000):
    document = copy.deepcopy(random.choice(documents))
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if isinstance(document, (dict, list)) and document:
            mutate(document, random.choice(documents))
    path = "%s/%d.json" % (work, number)
    with open(path, "w") as file:
        json.dump(document, file)
    mutants.append((path, document))
said = reader_says([path for path, _ in mutants])
both_good = both_bad = excused = 0
for path, document in mutants:
    passes = validator.is_valid(document)
    if passes and not said[path]:
        both_good += 1
    elif not passes and said[path]:
        both_bad += 1
    elif passes and all(any(p.search(m) for p in NOT_EXPRESSIBLE_MESSAGES) for m in said[path]):
        excused += 1
    else:
        errors = [e.message[:200] for e in validator.iter_errors(document)]
        fail("mutant %s: schema %s, reader %s" % (json.dumps(document)[:1500], errors, said[path]))
print("%d good files, %d bad files, mutants: %d good to both, %d bad to both, %d not expressible" %
      (len(good), len(bad), both_good, both_bad, excused))
if both_good < 200 or both_bad < 200:
    fail("the mutations show too little")
sys.exit(1 if failures else 0)
PYTHON
