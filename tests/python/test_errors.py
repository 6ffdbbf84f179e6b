"""What is wrong is said, never a crash."""

import gc
import random
import signal
import threading
import time
import unittest

import flagshm
from flagshm import Decision, Event, Flags
from support import FLAG, Server, flag


class Errors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server({FLAG: flag(50)})
        cls.addClassCleanup(cls.server.close)
        cls.flags = cls.server.flags()

    def test_wrong_types_are_type_errors(self):
        flags, decision = self.flags, self.flags.decide(FLAG, "user-1")
        cases = [
            lambda: flags.in_variant(),
            lambda: flags.in_variant(FLAG),
            lambda: flags.in_variant(FLAG, "a", "b"),
            lambda: flags.in_variant(FLAG, 17),
            lambda: flags.in_variant(FLAG, bytearray(b"a")),
            lambda: flags.in_variant(None, "a"),
            lambda: flags.in_variant(b"flag", "a"),
            lambda: flags.in_variant(17, "a"),
            lambda: flags.in_variant(FLAG, id="a", flag="b"),
            lambda: flags.in_variant(FLAG, user="a"),
            lambda: flags.model(FLAG, "a"),
            lambda: flags.model(FLAG, "a", None),
            lambda: flags.model(FLAG, "a", b"fallback"),
            lambda: flags.rollout_pct(None),
            lambda: flags.rollout_pct(),
            lambda: flags.decide(FLAG, 1.5),
            lambda: flags.value("decision"),
            lambda: flags.record(),
            lambda: flags.record(None),
            lambda: flags.record("decision", status=200),
            lambda: flags.record(decision, 200),
            lambda: flags.record(decision, status="200"),
            lambda: flags.record(decision, status=200.5),
            lambda: flags.record(decision, latency="1"),
            lambda: flags.record(decision, latency=1j),
            lambda: flags.record(decision, input_tokens=1.0),
            lambda: flags.record(decision, json_valid=1),
            lambda: flags.record(decision, refusal="no"),
            lambda: flags.record(decision, event=1),
            lambda: flags.record(decision, event=None),
            lambda: flags.record(decision, tokens=5),
            lambda: flags.record_shadow(decision, {}, None),
            lambda: flags.record_shadow(decision, {}, {"nonsense": 1}),
            lambda: flags.record_shadow(decision, {}, {1: 1}),
            lambda: flags.record_shadow(None, {}, {}),
            lambda: flags.event(FLAG, "a", None),
            lambda: flags.event(FLAG, 5, "retry"),
            lambda: flags.shadow_budget("1", 1),
            lambda: flags.wait("1"),
            lambda: flags.wait(1, "1"),
            lambda: flags.wait(1, 1, 1),
            lambda: flags.call("decision"),
            lambda: Flags(5),
            lambda: Flags(b"default"),
            lambda: Flags("a", "b"),
            lambda: Flags(name="a"),
            lambda: Decision(1),
            lambda: Decision(arm="1"),
            lambda: Decision(model=1),
            lambda: Decision(shadow=1),
            lambda: Decision(reason=5),
            lambda: Decision(nonsense=1),
            lambda: type("Sub", (Decision,), {}),
        ]
        for number, case in enumerate(cases):
            with self.subTest(number), self.assertRaises(TypeError):
                case()

    def test_wrong_values_are_value_errors(self):
        flags, decision = self.flags, self.flags.decide(FLAG, "user-1")
        cases = [
            lambda: flags.in_variant(FLAG, "a\0b"),
            lambda: flags.in_variant(FLAG, "\0"),
            lambda: flags.in_variant(FLAG, b"a\0"),
            lambda: flags.in_variant(FLAG, "\ud800"),
            lambda: flags.in_variant("\udfff", "a"),
            lambda: flags.in_variant("a\0b", "a"),
            lambda: flags.record(decision, status=-1),
            lambda: flags.record(decision, status=1 << 32),
            lambda: flags.record(decision, input_tokens=-1),
            lambda: flags.record(decision, input_tokens=1 << 64),
            lambda: flags.record(decision, event="nonsense"),
            lambda: flags.event(FLAG, "a", "started"),
            lambda: flags.event(FLAG, "a", "custom_8"),
            lambda: flags.wait(-1),
            lambda: flags.wait(0, float("nan")),
            lambda: Flags("a/b"),
            lambda: Flags(""),
            lambda: Flags("a" * 33),
            lambda: Flags("a\0b"),
            lambda: Flags("\ud800"),
            lambda: Decision(arm=-1),
            lambda: Decision(arm=1 << 32),
            lambda: Decision(model="m" * 128),
            lambda: Decision(model="m\0"),
            lambda: Decision(reason="nonsense"),
            lambda: Decision(reason="UNKNOWN"),
        ]
        for number, case in enumerate(cases):
            with self.subTest(number), self.assertRaises(ValueError):
                case()

    def test_messages_name_what_was_wrong(self):
        for pattern, case in (
            ("id must be str, bytes or None, not int", lambda: self.flags.in_variant(FLAG, 17)),
            ("flag must be str, not NoneType", lambda: self.flags.in_variant(None, "a")),
            ("in_variant\\(\\) needs id", lambda: self.flags.in_variant(FLAG)),
            ("no argument 'user'", lambda: self.flags.in_variant(FLAG, user="a")),
            ("status must be 0...4294967295, got -1", lambda: self.flags.record(Decision(), status=-1)),
            ("got 'a/b'", lambda: Flags("a/b")),
        ):
            with self.assertRaisesRegex((TypeError, ValueError), pattern):
                case()

    def test_arguments_by_name_are_the_same(self):
        self.assertIs(self.flags.in_variant(flag=FLAG, id="user-1"), self.flags.in_variant(FLAG, "user-1"))
        self.assertEqual(self.flags.model(FLAG, id="user-1", fallback="f"), self.flags.model(FLAG, "user-1", "f"))
        self.assertEqual(self.flags.decide(id="user-1", flag=FLAG), self.flags.decide(FLAG, "user-1"))
        self.assertEqual(self.flags.rollout_pct(flag=FLAG), 50)

    def test_closed_flags_say_so(self):
        flags = self.server.flags()
        decision, seen = flags.decide(FLAG, "user-1"), flags.version
        flags.close()
        flags.close()
        self.assertTrue(flags.closed)
        self.assertIn("closed", repr(flags))
        for case in (
            lambda: flags.in_variant(FLAG, "a"),
            lambda: flags.model(FLAG, "a", "b"),
            lambda: flags.rollout_pct(FLAG),
            lambda: flags.decide(FLAG, "a"),
            lambda: flags.value(decision),
            lambda: flags.record(decision),
            lambda: flags.record_shadow(decision, {}, {}),
            lambda: flags.event(FLAG, "a", "retry"),
            lambda: flags.shadow_budget(0, 1),
            lambda: flags.wait(seen, 0),
            lambda: flags.version,
            lambda: flags.age,
        ):
            with self.assertRaisesRegex(ValueError, "closed"):
                case()
        with self.server.flags() as other:
            self.assertFalse(other.closed)
        self.assertTrue(other.closed)

    def test_random_arguments_end_in_a_value_or_an_exception(self):
        random.seed(1)
        decision = self.flags.decide(FLAG, "user-1")
        things = [
            None, True, 0, -1, 1 << 70, 1.5, float("nan"), "", "a", "\ud800", "a\0", b"", b"\xff", b"a\0", [], {}, {"status": 1},
            object(), decision, self.flags, FLAG, Event.RETRY, "started", "x" * 5000, lambda: 1, type, Decision,
        ]  # fmt: skip
        methods = ["in_variant", "model", "rollout_pct", "decide", "value", "record", "record_shadow", "event"]
        methods.append("shadow_budget")
        names = ["flag", "id", "fallback", "decision", "status", "latency", "event", "json_valid", "seen", "x"]
        results = 0
        for _ in range(200_000):
            method = getattr(self.flags, random.choice(methods))
            args = random.choices(things, k=random.randrange(4))
            kwargs = {random.choice(names): random.choice(things) for _ in range(random.randrange(3))}
            try:
                method(*args, **kwargs)
                results += 1
            except (TypeError, ValueError):
                pass
        self.assertGreater(results, 100)
        for _ in range(50_000):
            try:
                Decision(**{random.choice(list(decision.asdict())): random.choice(things) for _ in range(2)})
            except (TypeError, ValueError):
                pass

    def test_numbers_with_code_of_their_own_change_nothing(self):
        outcome = {}

        class Number:
            def __index__(self):
                outcome.clear()
                gc.collect()
                return 200

        outcome.update({"status": Number(), "input_tokens": Number()})
        self.assertTrue(self.flags.record_shadow(Decision(), {}, outcome))

        class Closing:
            def __init__(self, flags):
                self.flags = flags

            def __index__(self):
                self.flags.close()
                return 200

        flags = self.server.flags()
        with self.assertRaises(ValueError):
            flags.record(flags.decide(FLAG, "a"), status=Closing(flags))


class Waiting(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server({FLAG: flag(50)})
        cls.addClassCleanup(cls.server.close)

    def test_a_signal_s_handler_runs_and_may_end_it(self):
        class Rung(Exception):
            pass

        def ring(*_):
            raise Rung

        older = signal.signal(signal.SIGALRM, ring)
        try:
            with self.server.flags() as flags:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                begin = time.monotonic()
                with self.assertRaises(Rung):
                    flags.wait(None, 60)
                self.assertLess(time.monotonic() - begin, 20)
                self.assertTrue(flags.wait(0, 1))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, older)

    def test_a_handler_that_closes_ends_it(self):
        flags = self.server.flags()
        older = signal.signal(signal.SIGALRM, lambda *_: flags.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with self.assertRaisesRegex(ValueError, "closed"):
                flags.wait(None, 60)
        finally:
            signal.signal(signal.SIGALRM, older)

    def test_other_threads_run_meanwhile_and_may_close(self):
        flags = self.server.flags()
        ends, decisions = [], 0

        def sleep():
            try:
                ends.append(flags.wait(None, 60))
            except ValueError as error:
                ends.append(str(error))

        threads = [threading.Thread(target=sleep) for _ in range(4)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            flags.in_variant(FLAG, "user-1")
            decisions += 1
        self.assertGreater(decisions, 1000)
        self.assertEqual(ends, [])
        flags.close()
        for thread in threads:
            thread.join(20)
        self.assertEqual(ends, ["these flags are closed"] * 4)

    def test_flags_that_can_never_be_there_are_not_waited_for(self):
        import os

        os.environ["FLAGSHM_DIR"] = "/" + "d" * 300
        try:
            with flagshm.Flags() as flags:
                self.assertNotEqual(flags.open_error, 0)
                self.assertEqual(flags.model(FLAG, "a", "fallback"), "fallback")
                with self.assertRaisesRegex(ValueError, "FLAGSHM_DIR"):
                    flags.wait(0, 60)
        finally:
            del os.environ["FLAGSHM_DIR"]


if __name__ == "__main__":
    unittest.main()
