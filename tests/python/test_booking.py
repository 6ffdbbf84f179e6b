"""What Python books is what the server counts: exactly, call by call, from several processes."""

import errno
import json
import os
import socket
import unittest
from types import SimpleNamespace

import flagshm
from support import FLAG, Server, flag, seed

PROCESSES, CALLS = 4, 500


class StatusError(Exception):
    def __init__(self, status_code):
        super().__init__(status_code)
        self.status_code = status_code


def call_once(flags, number):
    """One call whose end depends on its number; what it adds to its arm's counters."""
    decision = flags.decide(FLAG, f"user-{number}")
    added = {"started": 1, "finished": 1}
    try:
        with flags.call(decision) as call:
            kind = number % 10
            if kind == 0:
                added.update(failed=1, transport_errors=1)
                raise TimeoutError
            if kind == 1:
                added.update(failed=1)
                raise StatusError(500)
            if kind == 2:
                added.update(limited=1, met_limit=1)
                raise StatusError(429)
            if kind == 3:
                added.update(cancelled=1)
                raise KeyboardInterrupt
            usage = SimpleNamespace(input_tokens=number, output_tokens=7, cache_read_input_tokens=3)
            text = [] if kind == 4 else [SimpleNamespace(type="text", text="x")]
            stop = {5: "refusal", 6: "max_tokens"}.get(kind, "end_turn")
            call.answer(SimpleNamespace(usage=usage, stop_reason=stop, content=text))
            call.json_valid = kind != 7
            call.attempts = 3 if kind == 8 else 1
            added.update(input_tokens=number, output_tokens=7, cache_tokens=3, json_checked=1, json_invalid=int(kind == 7))
            added.update(empty=int(kind == 4), refusal=int(kind == 5), truncated=int(kind == 6), retries=2 * (kind == 8))
    except (TimeoutError, StatusError, KeyboardInterrupt):
        pass
    assert call.booked is True, flags.record_error
    if number % 7 == 0:
        assert flags.event(FLAG, f"user-{number}", "thumbs_down") is True
        added["thumbs_down"] = 1
    return decision.arm, added


class Booking(unittest.TestCase):
    def setUp(self):
        self.server = Server({FLAG: flag(50)})
        self.addCleanup(self.server.close)
        self.flags = self.server.flags()

    def stats(self):
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(os.path.join(self.server.work, "sock"))
            server.sendall(json.dumps({"verb": "stats", "flag": FLAG}).encode() + b"\n")
            with server.makefile("rb") as answer:
                said = json.loads(answer.readline())
        self.assertTrue(said["ok"], said)
        return said["flags"][0]["arms"]

    def in_child(self, function):
        pid = os.fork()
        if pid == 0:
            try:
                function()
                os._exit(0)
            finally:
                os._exit(1)
        return pid

    def test_the_server_counts_each_call_of_each_process(self):
        def work(part):
            for number in range(part * CALLS, (part + 1) * CALLS):
                call_once(self.flags, number)

        for pid in [self.in_child(lambda part=part: work(part)) for part in range(PROCESSES)]:
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        arms = self.stats()
        mine = [{}, {}]
        with Server() as another, another.flags() as elsewhere:  # the same calls, booked elsewhere: what they add
            another.edit({FLAG: flag(50)})
            for number in range(PROCESSES * CALLS):
                arm, added = call_once(elsewhere, number)
                self.assertEqual(arm, int(seed(FLAG, f"user-{number}", 50)))
                for name, count in added.items():
                    mine[arm][name] = mine[arm].get(name, 0) + count
        for arm, wanted in zip(arms, mine):
            self.assertEqual({name: arm[name] for name in wanted}, wanted)
            self.assertTrue(0.97 * wanted["started"] <= arm["users"] <= wanted["started"], arm["users"])  # two may share a bit
            self.assertEqual(arm["latency_ms"]["count"], wanted["json_checked"])

    def test_each_event_is_counted_where_it_belongs(self):
        for event in ("thumbs_up", "thumbs_down", "retry", "support_contact"):
            self.assertIs(self.flags.event(FLAG, "user-1", event), True)
        for number in range(8):
            for _ in range(number + 1):
                self.assertIs(self.flags.event(FLAG, b"user-1", f"custom_{number}" if number else "custom"), True)
        arm = self.stats()[self.flags.decide(FLAG, "user-1").arm]
        self.assertEqual([arm[name] for name in ("thumbs_up", "thumbs_down", "retry", "support_contact")], [1, 1, 1, 1])
        self.assertEqual(arm["custom"], [1, 2, 3, 4, 5, 6, 7, 8])

    def test_seconds_are_seconds(self):
        decision = self.flags.decide(FLAG, "user-1")
        for _ in range(10):
            self.assertIs(self.flags.record(decision, status=200, latency=1.5, ttft=0.25), True)
        arm = self.stats()[decision.arm]
        self.assertAlmostEqual(arm["latency_ms"]["p50"], 1500, delta=200)
        self.assertAlmostEqual(arm["ttft_ms"]["p50"], 250, delta=40)

    def test_a_call_may_end_after_an_edit_but_not_in_a_slot_of_another_generation(self):
        decision = self.flags.decide(FLAG, "user-1")
        with self.flags.call(decision) as call:
            self.server.edit({FLAG: flag(60)})
        self.assertIs(call.booked, True)
        self.assertNotEqual(self.flags.decide(FLAG, "user-1").slot, decision.slot)
        older = flagshm.Decision(**{**decision.asdict(), "slot_generation": decision.slot_generation + 1})
        self.assertIs(self.flags.record(older, status=200), False)
        self.assertEqual(self.flags.record_error, errno.ESTALE)
        with self.flags.call(older) as call:
            pass
        self.assertIs(call.booked, False)

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_without_permission_decisions_work_and_nothing_is_booked(self):
        def work():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with flagshm.Flags(self.server.instance) as flags:
                decision = flags.decide(FLAG, "user-1")
                assert decision.reason == "SPLIT", decision
                with flags.call(decision) as call:
                    pass
                assert call.booked is False
                assert flags.record_error == errno.EACCES, flags.record_error

        self.assertEqual(os.waitpid(self.in_child(work), 0)[1], 0)

    def test_a_budget_is_the_host_s(self):
        with self.server.flags() as other:
            self.assertIs(self.flags.shadow_budget(100, 60), True)
            self.assertIs(other.shadow_budget(100, 60), False)
            self.assertEqual(other.record_error, errno.EDQUOT)
            self.assertIs(other.shadow_budget(100, 40), True)
            self.assertIs(self.flags.shadow_budget(100, 1), False)
            self.assertIs(self.flags.shadow_budget(0, 1000), True)


if __name__ == "__main__":
    unittest.main()
