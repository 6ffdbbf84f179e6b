#!/usr/bin/env bash
# Holds the header's buckets against Python's hashlib: 100 000 random ids, every whole percent, weights, nesting, block borders,
# independence of two flags, and the 64-bit hash of ids against a second implementation.
# Usage: buckets.sh BUILD_DIRECTORY
set -euo pipefail

build=${1:?usage: buckets.sh BUILD_DIRECTORY}
probe=$(find "$build" -name buckets_probe -type f -perm -u+x | head -n 1)
[ -n "$probe" ] || { echo "buckets_probe is not built in $build" >&2; exit 1; }

timeout 280 /usr/bin/python3 - "$probe" <<'PYTHON'
import hashlib, random, subprocess, sys

probe = sys.argv[1]
MASK = (1 << 64) - 1
WEIGHTS = [1, 1, 3, 0, 7, 1000000]
faults = 0


def fault(text):
    global faults
    faults += 1
    if faults <= 10:
        print("FAIL:", text)


def seed_in(flag, user, pct):  # the program that users have today, as it stands there
    return int(hashlib.md5(f"{flag}:{user}".encode("utf-8", "surrogateescape")).hexdigest(), 16) % 100 < pct


def id_hash(data, seed=1):  # written from the header's description, not from its code
    mix1, mix2 = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93

    def fold(a, b):
        return (a * b & MASK) ^ (a * b >> 64)

    def pair(value, a, b):
        return (fold(a ^ mix1, b ^ value) + (b ^ value)) & MASK

    def word(part):
        return int.from_bytes(part, "little")

    value, rest = ((seed ^ mix2) + len(data) * mix1) & MASK, data
    while len(rest) > 16:
        value, rest = pair(value, word(rest[:8]), word(rest[8:16])), rest[16:]
    if len(rest) >= 8:
        value = pair(value, word(rest[:8]), word(rest[-8:]))
    elif len(rest) >= 4:
        value = pair(value, word(rest[:4]), word(rest[-4:]))
    elif rest:
        value = pair(value, rest[0] | rest[len(rest) // 2] << 8 | rest[-1] << 16, 0)
    else:
        value = pair(value, 0, 0)
    return fold(value ^ (value >> 32), mix2)


def pick(h, weights):
    lot = (h // 100000) % sum(weights)
    for arm, weight in enumerate(weights, 1):
        if lot < weight:
            return arm
        lot -= weight


def run(salts, ids, weights):
    out = subprocess.run([probe, ",".join(map(str, weights)), *salts], input=b"\n".join(ids) + b"\n",
                         stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")
    if len(out) != len(salts) * len(ids) + 1:
        sys.exit(f"FAIL: {len(out) - 1} lines for {len(salts)} salts and {len(ids)} ids")
    return [line.split() for line in out[:-1]]


def check(salts, ids, weights):
    lines = iter(run(salts, ids, weights))
    buckets = {}
    for salt in salts:
        buckets[salt] = []
        for key in ids:
            bucket, first, ins, arm, mixed = next(lines)
            h = int.from_bytes(hashlib.md5(salt.encode() + b":" + key).digest(), "big")
            want = (h % 100) * 1000 + (h // 100) % 1000
            if int(bucket) != want:
                fault(f"{salt}:{key!r}: bucket {bucket}, hashlib says {want}")
            # in at every whole percent above h % 100, and at no other: so it is nested, too
            if int(first) != h % 100 + 1 or int(ins) != 100 - h % 100:
                fault(f"{salt}:{key!r}: in from {first} % on, at {ins} of 101; hashlib says above {h % 100} %")
            if int(arm) != pick(h, weights):
                fault(f"{salt}:{key!r}: arm {arm}, hashlib says {pick(h, weights)}")
            if int(mixed, 16) != id_hash(key):
                fault(f"{salt}:{key!r}: id hash {mixed}, should be {id_hash(key):016x}")
            buckets[salt].append(int(bucket))
    return buckets


rng = random.Random(20250101)


def random_id():
    kind = rng.randrange(5)
    if kind == 0:
        return b"user-%d" % rng.randrange(10**rng.randrange(1, 16))
    if kind == 1:
        text = "".join(chr(rng.choice([rng.randrange(33, 127), rng.randrange(0xA1, 0x800), rng.randrange(0x4E00, 0x9FFF),
                                       rng.randrange(0x1F300, 0x1FA00)])) for _ in range(rng.randrange(1, 30)))
        return text.encode()
    if kind == 2:
        return ("%08x-%04x-4%03x-a%03x-%012x" % (rng.getrandbits(32), rng.getrandbits(16), rng.getrandbits(12),
                                                 rng.getrandbits(12), rng.getrandbits(48))).encode()
    if kind == 3:
        return b"%s@example.com" % b"".join(b"%c" % rng.randrange(97, 123) for _ in range(rng.randrange(1, 20)))
    return bytes(rng.choice([c for c in range(1, 256) if c != 10]) for _ in range(rng.randrange(1, 64)))


ids = sorted({random_id() for _ in range(107000)})[:100000]
rng.shuffle(ids)
print(f"{len(ids)} ids")
flags = ["new_summarizer_model", "checkout.prompt-v2"]
buckets = check(flags, ids, WEIGHTS)

# The same question put to the seed's own line, at every whole percent, for some of the ids.
for key in ids[:300]:
    user = key.decode("utf-8", "surrogateescape")
    at = buckets[flags[0]][ids.index(key)]
    for pct in range(101):
        if (at < pct * 1000) != seed_in(flags[0], user, pct):
            fault(f"{key!r} at {pct} %: not what the seed's program says")

# Block borders: salts of 1 to 64 bytes, ids around 55, 56, 64, 119, 120, 128 bytes of message, and at the limit.
lengths = [*range(1, 140), 183, 184, 185, 247, 248, 256, 1000, *range(4088, 4097)]
edge = [bytes(rng.choice(b"abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(n)) for n in lengths]
check([("s" * 63 + "t")[:n] for n in range(1, 65)], edge, [2, 1])

# Shares and weights as they should be, within 4.5 standard deviations (chance 7e-6 each; the ids are fixed by the seed).
n = len(ids)
for flag in flags:
    for pct in (1, 5, 10, 25, 50, 90):
        count, p = sum(b < pct * 1000 for b in buckets[flag]), pct / 100
        if abs(count - n * p) > 4.5 * (n * p * (1 - p)) ** 0.5:
            fault(f"{flag}: {count} of {n} at {pct} %")

# Independence: of the first 10 % of one flag a tenth is in the first 10 % of the other. chi-square with one degree of freedom; under
# independence above 15.1 with a chance of 1e-4.
a, b = ([x < 10000 for x in buckets[flag]] for flag in flags)
both, only_a, only_b = sum(x and y for x, y in zip(a, b)), sum(a), sum(b)
table = [both, only_a - both, only_b - both, n - only_a - only_b + both]
expected = [only_a * only_b / n, only_a * (n - only_b) / n, (n - only_a) * only_b / n, (n - only_a) * (n - only_b) / n]
chi = sum((x - e) ** 2 / e for x, e in zip(table, expected))
print(f"first 10 % of two flags: {only_a} and {only_b}, both {both}; chi-square {chi:.2f} (bound 15.1)")
if chi > 15.1:
    fault("the first 10 % of two flags are not independent")

sys.exit(1 if faults else 0)
PYTHON
echo "buckets: all as hashlib says"
