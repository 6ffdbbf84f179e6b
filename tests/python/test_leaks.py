"""Nothing is lost: neither objects nor memory, over hundreds of thousands of calls, right and wrong ones."""

import copy
import gc
import pickle
import sys
import unittest

import flagshm
from flagshm import Decision
from support import FLAG, Server, flag

PROMPT = "Summarize: " * 100


def resident_kib():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4


class Leaks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server({FLAG: flag(50), "long": {"control": {"system": PROMPT}, "variant": "v", "rollout_pct": 0}})
        cls.addClassCleanup(cls.server.close)
        cls.flags = cls.server.flags()

    def growth(self, function, times=20_000):
        """Blocks of Python's allocator, and KiB resident, that stay after so many calls; after as many to warm up."""
        for _ in range(times):
            function()
        gc.collect()
        blocks, kib = sys.getallocatedblocks(), resident_kib()
        for _ in range(times):
            function()
        gc.collect()
        return sys.getallocatedblocks() - blocks, resident_kib() - kib

    def check(self, function, times=20_000):
        blocks, kib = self.growth(function, times)
        self.assertLess(blocks, times // 20, "blocks")
        self.assertLess(kib, times * 100 // 1024, "KiB")

    def test_the_measure_finds_a_leak(self):
        kept = []
        blocks, _ = self.growth(lambda: kept.append(object()))
        self.assertGreater(blocks, 10_000)
        _, kib = self.growth(lambda: kept.append(self.flags.decide(FLAG, "user-1")))
        self.assertGreater(kib, 20_000 * 100 // 1024)

    def test_calls_keep_nothing(self):
        flags, decision = self.flags, self.flags.decide(FLAG, "user-1")
        serial = iter(range(10**9))
        dumped = pickle.dumps(decision)
        for number, function in enumerate(
            (
                lambda: flags.in_variant(FLAG, "user-1"),
                lambda: flags.in_variant(FLAG, f"ü-{next(serial)}"),
                lambda: flags.in_variant(f"flag-{next(serial)}", "user-1"),
                lambda: flags.model(FLAG, "user-1", f"fallback-{next(serial)}"),
                lambda: flags.model("unknown", "user-1", f"fallback-{next(serial)}"),
                lambda: flags.model(FLAG, id="user-1", fallback="f"),
                lambda: flags.rollout_pct(FLAG),
                lambda: flags.decide(FLAG, "user-1"),
                lambda: flags.decide("long", "user-1"),
                lambda: flags.decide("long", "user-1").params(),
                lambda: (decision.model, decision.reason, decision.value, decision.bucket, repr(decision), hash(decision)),
                lambda: decision.asdict(),
                lambda: Decision(value=PROMPT, model="m"),
                lambda: (copy.copy(decision) == decision, decision != 1),
                lambda: pickle.loads(dumped),
                lambda: flags.record(decision, status=200, latency=0.5, input_tokens=1 << 40, json_valid=True),
                lambda: flags.record_shadow(decision, {"status": 200}, {"status": 500, "latency": 1.0}),
                lambda: flags.event(FLAG, "user-1", "thumbs_down"),
                lambda: flags.call(decision).__enter__().__exit__(None, None, None),
                lambda: (flags.version, flags.age, flags.instance, flags.closed, flags.open_error, repr(flags)),
                lambda: flags.wait(0, 0),
            )
        ):
            with self.subTest(number):
                self.check(function)

    def test_errors_keep_nothing(self):
        flags, decision, closed = self.flags, self.flags.decide(FLAG, "user-1"), self.server.flags()
        closed.close()
        serial = iter(range(10**9))

        def fails(function):
            try:
                function()
            except (TypeError, ValueError):
                return
            raise AssertionError("no exception")

        for number, function in enumerate(
            (
                lambda: flags.in_variant(FLAG, next(serial)),
                lambda: flags.in_variant(FLAG, f"{next(serial)}\0"),
                lambda: flags.in_variant(FLAG, f"{next(serial)}\ud800"),
                lambda: flags.in_variant(FLAG, user=next(serial)),
                lambda: flags.model(FLAG, "user-1", next(serial)),
                lambda: flags.decide(f"\0{next(serial)}", "user-1"),
                lambda: flags.decide(FLAG, 5),
                lambda: flags.record(decision, status=-next(serial) - 1),
                lambda: flags.record(decision, status=200, latency="x"),
                lambda: flags.event(FLAG, "user-1", f"event-{next(serial)}"),
                lambda: Decision(model="m", arm=-1),
                lambda: Decision(value=PROMPT, nonsense=1),
                lambda: flagshm.Flags(f"{next(serial)}/"),
                lambda: closed.in_variant(FLAG, "user-1"),
            )
        ):
            with self.subTest(number):
                self.check(lambda function=function: fails(function), 5_000)

    def test_handles_are_released(self):
        def mappings():
            with open("/proc/self/maps", encoding="ascii") as maps:
                return sum(self.server.instance in line for line in maps)

        before = mappings()
        for _ in range(100):
            flags = self.server.flags()
            flags.in_variant(FLAG, "user-1")
            with self.server.flags() as other:
                other.in_variant(FLAG, "user-1")
        self.assertGreater(mappings(), before)  # the last one is still there
        del flags, other
        gc.collect()
        self.assertEqual(mappings(), before)
        self.check(lambda: self.server.flags().in_variant(FLAG, "user-1"), 2_000)

    def test_arguments_are_given_back(self):
        user, name, fallback = "user-" + str(id(self)), "flag-" + str(id(self)), "fallback-" + str(id(self))
        flags = self.server.flags()
        before = [sys.getrefcount(thing) for thing in (user, name, fallback, True, False, None)]
        for _ in range(1000):
            flags.in_variant(name, user)
            flags.model(name, user, fallback)
            flags.rollout_pct(name)
            flags.decide(name, user)
        flags.close()
        after = [sys.getrefcount(thing) for thing in (user, name, fallback, True, False, None)]
        for was, now in zip(before, after):
            self.assertLess(abs(now - was), 100)


if __name__ == "__main__":
    unittest.main()
