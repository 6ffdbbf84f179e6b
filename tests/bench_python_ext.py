#!/usr/bin/env python3
"""What a decision costs from Python, beside the function that it replaces, in one run.

Usage: PYTHONPATH=BUILD/client/python python3 tests/bench_python_ext.py BUILD_DIRECTORY

Starts flagshmd of that build with an instance of its own. Every rival runs its calls in turn, in short rounds; the figures
are the median of the rounds, in processor time of this thread, the loop's own share taken off.
"""

import hashlib
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "python"))
import support  # noqa: E402

import flagshm  # noqa: E402

ROUNDS, CALLS = 60, 10000
FLAG = "new_summarizer_model"


def seed(flag, user, pct):
    return int(hashlib.md5(f"{flag}:{user}".encode()).hexdigest(), 16) % 100 < pct


def measure(function, users):
    begin = time.thread_time_ns()
    for user in users:
        function(user)
    return (time.thread_time_ns() - begin) / len(users)


def main():
    users = [f"user-{number:06d}" for number in range(CALLS)]
    with support.Server({FLAG: support.flag(5), "quiet": support.flag(0)}) as server, server.flags() as flags:
        decision = flags.decide(FLAG, "user-1")
        # As a program would write them: the method is looked up and the flag is named at each call.
        rivals = {
            "an empty function": lambda user: None,
            "the seed's function": lambda user: seed(FLAG, user, 5),
            "hashlib.md5(...).digest() alone": lambda user: hashlib.md5(user.encode()).digest(),
            "flags.in_variant": lambda user: flags.in_variant("new_summarizer_model", user),
            "flags.in_variant, 0 %": lambda user: flags.in_variant("quiet", user),
            "flags.model": lambda user: flags.model("new_summarizer_model", user, "claude-haiku-4-5"),
            "flags.model(fallback=)": lambda user: flags.model("new_summarizer_model", user, fallback="claude-haiku-4-5"),
            "flags.decide": lambda user: flags.decide("new_summarizer_model", user),
            "flags.rollout_pct": lambda user: flags.rollout_pct("new_summarizer_model"),
            "flags.record, 4 keywords": lambda user: flags.record(
                decision, status=200, latency=1.25, input_tokens=500, output_tokens=300
            ),
        }
        times = {name: [] for name in rivals}
        for _ in range(ROUNDS):
            for name, function in rivals.items():
                times[name].append(measure(function, users))
        medians = {name: statistics.median(rounds) for name, rounds in times.items()}
        loop = medians.pop("an empty function")
        ours, theirs = medians["flags.in_variant"] - loop, medians["the seed's function"] - loop
        print(f"Python {sys.version.split()[0]}, {ROUNDS} rounds of {CALLS} calls; loop and lambda {loop:.0f} ns, taken off")
        for name, median in medians.items():
            print(f"{name:34s} {median - loop:7.0f} ns {(median - loop) / ours:6.2f} x flags.in_variant")
        print(f"the seed's function takes {theirs / ours:.1f} times as long; aim: in_variant under 250 ns")


if __name__ == "__main__":
    main()
