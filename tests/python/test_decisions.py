"""What Python decides is what the seed's own function says, and what flagctl says."""

import copy
import copyreg
import json
import math
import os
import pickle
import subprocess
import sys
import unittest

import flagshm
from flagshm import Decision, Reason
from support import BUILD, FLAG, Server, flag, seed

IDS = 100_000


def ids():
    for number in range(IDS):
        kind = number % 5
        if kind == 0:
            yield f"user-{number}"
        elif kind == 1:
            yield f"{number:08x}-dead-4eef-8000-{number * 7919:012x}"  # two MD5 blocks with this flag's name
        elif kind == 2:
            yield f"пользователь-{number}-é-字-🚩"
        elif kind == 3:
            yield f"user-{number}".encode()
        else:
            yield b"\xff\xfe\x80" + str(number).encode()  # no UTF-8: bytes are hashed as they come


class Decisions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.close)
        cls.flags = cls.server.flags()

    def test_agrees_with_the_seed_over_100_000_ids_at_each_share(self):
        for pct in (0, 1, 5, 25, 50, 99, 100):
            with self.subTest(pct=pct):
                self.server.edit({FLAG: flag(pct)})
                in_variant, given = self.flags.in_variant, 0
                for user in ids():
                    is_in = in_variant(FLAG, user)
                    if is_in != seed(FLAG, user, pct):
                        self.fail(f"{user!r} at {pct} %: {is_in}")
                    given += is_in
                self.assertAlmostEqual(given / IDS, pct / 100, delta=0.01)  # the test would notice if all were False

    def test_decide_model_and_in_variant_are_one_decision(self):
        self.server.edit({FLAG: flag(37)})
        for user in list(ids())[:2000]:
            decision = self.flags.decide(FLAG, user)
            self.assertIs(decision.in_variant, self.flags.in_variant(FLAG, user))
            self.assertEqual(decision.model, self.flags.model(FLAG, user, "none"))
            self.assertEqual(bool(decision), decision.arm == 1)
            self.assertEqual(decision.bucket < 37_000, decision.in_variant)
            self.assertEqual(decision.model, "claude-sonnet-4-5" if decision else "claude-haiku-4-5")
            self.assertIs(decision.reason, Reason.SPLIT)

    def test_says_what_flagctl_says(self):
        self.server.edit({FLAG: flag(12.5), "forced": flag(0, force={"variant": ["user-1"]}), "off": flag(50, enabled=False)})
        for name in (FLAG, "forced", "off", "unknown"):
            for user in ("user-1", "user-2", "user-17", "user-99"):
                said = subprocess.run(
                    [f"{BUILD}/tools/flagctl", "eval", name, user, "-o", "json", "--instance", self.server.instance],
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                decision = self.flags.decide(name, user)
                if name == "unknown":
                    self.assertEqual((said.returncode, decision.reason), (4, Reason.FLAG_NOT_FOUND))
                    continue
                answer = json.loads(said.stdout)["results"][0]
                self.assertEqual((answer["arm"], answer["reason"]), (decision.arm_name, decision.reason.value))

    def test_names_that_are_not_constants_serve_as_well(self):
        self.server.edit({f"flag-{number}": flag(number) for number in range(100)})
        for _ in range(3):
            for number in range(100):
                name = "".join(["flag-", str(number)])  # a new str each time, more of them than a handle keeps
                self.assertEqual(self.flags.rollout_pct(name), number)
                self.assertEqual(self.flags.in_variant(name, "user-1"), seed(name, "user-1", number))
        self.assertEqual(self.flags.rollout_pct("x" * 65), -1.0)
        self.assertIs(self.flags.decide("x" * 65, "user-1").reason, Reason.FLAG_NOT_FOUND)
        self.assertIs(self.flags.decide("", "user-1").reason, Reason.FLAG_NOT_FOUND)

        class Name(str):
            pass

        self.assertEqual(self.flags.rollout_pct(Name("flag-7")), 7)

    def test_missing_ids_get_the_control(self):
        self.server.edit({FLAG: flag(99)})
        for user in (None, "", b""):
            decision = self.flags.decide(FLAG, user)
            self.assertEqual((decision.arm, decision.reason), (0, Reason.TARGETING_KEY_MISSING))
            self.assertTrue(decision.reason.is_error)
            self.assertEqual(self.flags.model(FLAG, user, "fallback"), "fallback")
        self.assertIs(self.flags.decide(FLAG, "x" * 4097).reason, Reason.GENERAL)
        self.assertIs(self.flags.decide(FLAG, "x" * 4096).reason, Reason.SPLIT)

    def test_a_value_is_whole_whatever_its_length(self):
        prompt = "Fasse zusammen: ü " * 2000
        arms = {"control": {"model": "m", "system": prompt, "max": 9007199254740993}, "variant": "v"}
        short = {"control": "m", "variant": {"model": "v", "n": 1}, "rollout_pct": 100}
        self.server.edit({"long": {**arms, "rollout_pct": 0}, "short": short})
        long, short = self.flags.decide("long", "user-1"), self.flags.decide("short", "user-1")
        self.assertEqual(long.value_bytes, len(long.value.encode()))
        self.assertGreater(long.value_bytes, 255)
        self.assertEqual(long.params(), arms["control"])
        self.assertEqual(self.flags.value(long), long.value)
        self.assertEqual(short.value, '{"model":"v","n":1}')
        self.assertEqual(short.params(), {"model": "v", "n": 1})
        self.server.edit({FLAG: flag(5)})
        self.assertEqual(long.params(), arms["control"])  # what was decided stays
        self.assertEqual(self.flags.decide(FLAG, None).params(), {})
        self.assertEqual(Decision(value="{no json").params(), {"model": "{no json"})
        self.assertEqual(pickle.loads(pickle.dumps(long)), long)

    def test_an_edit_is_seen_by_who_waits(self):
        self.server.edit({FLAG: flag(5)})
        seen = self.flags.version
        self.assertFalse(self.flags.wait(seen, 0))
        self.assertFalse(self.flags.wait(seen, timeout=0.05))
        self.assertFalse(self.flags.wait(timeout=0))
        self.server.write({FLAG: flag(6)})
        self.assertTrue(self.flags.wait(seen, 20))
        self.assertGreater(self.flags.version, seen)
        self.assertEqual(self.flags.rollout_pct(FLAG), 6)
        self.assertLess(self.flags.age, 5)

    def test_a_decision_is_plain_immutable_data(self):
        self.server.edit({FLAG: flag(50)})
        decision = self.flags.decide(FLAG, "user-1")
        for other in (
            copy.copy(decision),
            copy.deepcopy(decision),
            Decision(**decision.asdict()),
            *(pickle.loads(pickle.dumps(decision, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        ):
            self.assertEqual(other, decision)
            self.assertEqual(hash(other), hash(decision))
            self.assertEqual(other.asdict(), decision.asdict())
        self.assertNotEqual(decision, self.flags.decide(FLAG, "user-2"))
        self.assertNotEqual(decision, "decision")
        for name in ("arm", "model", "reason", "version", "new"):
            with self.assertRaises(AttributeError):
                setattr(decision, name, 1)
        self.assertEqual(
            repr(decision),
            f"Decision(arm={decision.arm}, arm_name='{decision.arm_name}', model='{decision.model}', reason='SPLIT', "
            f"stage='static-50pct', rollout_pct=50, bucket={decision.bucket}, version={decision.version})",
        )
        self.assertEqual(json.loads(json.dumps(decision.asdict()))["reason"], "SPLIT")
        self.assertEqual(f"{decision.reason} {decision.reason!s}", "SPLIT SPLIT")
        self.assertEqual(decision.reason, "SPLIT")
        self.assertIn("bucket=None", repr(self.flags.decide("unknown", "user-1")))

    def test_a_pickle_of_a_later_release_is_read(self):
        decision = self.flags.decide(FLAG, "user-1")
        restore, (fields,) = copyreg.dispatch_table[Decision](decision)
        self.assertEqual(restore({**fields, "of_a_later_release": 7}), decision)


class WithoutServer(unittest.TestCase):
    def test_it_is_the_control_until_there_is_one(self):
        with Server(start=False) as server, server.flags() as flags:
            self.assertEqual(flags.open_error, 2)
            self.assertEqual((flags.version, flags.age), (0, math.inf))
            self.assertIs(flags.decide(FLAG, "user-1").reason, Reason.NOT_READY)
            self.assertIs(flags.in_variant(FLAG, "user-1"), False)
            self.assertEqual(flags.model(FLAG, "user-1", "fallback"), "fallback")
            self.assertEqual(flags.rollout_pct(FLAG), -1.0)
            self.assertFalse(flags.wait(0, 0.02))
            server.start()
            self.assertTrue(flags.wait(0, 20))
            self.assertEqual(flags.rollout_pct(FLAG), 5)
            server.stop()
            self.assertEqual(flags.rollout_pct(FLAG), 5)
            self.assertEqual(flags.decide(FLAG, "user-1").reason, "SPLIT")

    def test_the_environment_names_the_instance(self):
        with Server() as server:
            code = "import flagshm; f = flagshm.Flags(); print(f.instance, f.rollout_pct('new_summarizer_model'))"
            for instance, said in ((server.instance, "None 5.0"), ("not an instance", "None -1.0"), ("", "None -1.0")):
                done = subprocess.run(
                    [sys.executable, "-c", code], env={**os.environ, "FLAGSHM_INSTANCE": instance}, capture_output=True, text=True
                )
                self.assertEqual(done.stdout.strip(), said, done.stderr)


class Package(unittest.TestCase):
    def test_every_reason_of_the_header_is_a_member(self):
        for reason in Reason:
            self.assertIs(Decision(reason=reason).reason, reason)
            self.assertIs(Decision(reason=str(reason)).reason, reason)
        self.assertEqual(len(Reason), 9)

    def test_import_brings_in_nothing_heavy(self):
        code = "import sys, flagshm; print(sorted({'asyncio', 'typing_extensions', 'logging', 'socket'} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "[]")

    def test_version_is_the_header_s(self):
        self.assertRegex(flagshm.__version__, r"^\d+\.\d+\.\d+$")


if __name__ == "__main__":
    unittest.main()
