"""What record() and call() book, and that they never stand in the way of an answer."""

import asyncio
import concurrent.futures
import errno
import inspect
import unittest
from types import SimpleNamespace

import flagshm
from flagshm import Decision, Event
from support import FLAG, Server, flag


class Watched(flagshm.Flags):
    """Keeps what is booked."""

    __slots__ = ("said",)

    def record(self, decision, **outcome):
        self.said.append(outcome)
        return super().record(decision, **outcome)


class StatusError(Exception):
    def __init__(self, **more):
        self.__dict__.update(more)


class Record(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server({FLAG: flag(50), "on": flag(100)})
        cls.addClassCleanup(cls.server.close)
        cls.flags = cls.server.flags()

    def watched(self):
        flags = Watched(self.server.instance)
        flags.said = []
        return flags

    def test_a_decision_without_a_slot_is_true_and_books_nothing(self):
        for decision in (Decision(), self.flags.decide("on", "user-1"), self.flags.decide("unknown", "user-1")):
            self.assertEqual(decision.slot, flagshm.NO_SLOT)
            self.assertIs(self.flags.record(decision, status=200, latency=1.5), True)
            self.assertIs(self.flags.record_shadow(decision, {"status": 200}, {"status": 500}), True)
        self.assertEqual(self.flags.record_error, 0)

    def test_what_cannot_be_booked_is_false_and_no_exception(self):
        flags = self.server.flags()
        forged = Decision(arm=1, slot=3, slot_generation=77, segment_id=5, version=9, id_hash=8)
        self.assertIs(flags.record(forged, status=200), False)
        self.assertNotEqual(flags.record_error, 0)
        wild = Decision(arm=2**32 - 1, slot=2**32 - 2, slot_generation=2**32 - 1, id_hash=2**64 - 1)
        for event in ("started", "finished"):
            self.assertIs(flags.record(wild, event=event, latency=1.0, input_tokens=2**64 - 1), False)
        with flagshm.Flags(self.server.instance + "-none") as nobody:
            self.assertIs(nobody.record(forged, event="started"), False)
            self.assertIs(nobody.event(FLAG, "user-1", "thumbs_down"), False or nobody.event(FLAG, "user-1", "thumbs_down"))
        self.assertIs(flags.event("unknown", "user-1", "retry"), False)
        self.assertEqual(flags.record_error, errno.ENOENT)

    def test_every_keyword_is_taken(self):
        signature = inspect.signature(self.flags.record)
        outcome = {
            "status": 200, "latency": 1.5, "ttft": 0.25, "input_tokens": 5, "output_tokens": 6, "cache_tokens": 7, "attempts": 2,
            "transport_error": True, "cancelled": True, "limited": True, "fallback": True, "altered": True, "json_valid": True,
            "schema_valid": False, "tool_valid": True, "refusal": True, "truncated": True, "empty": True,
        }  # fmt: skip
        self.assertEqual(["decision", "event", *outcome], list(signature.parameters))
        self.assertIs(self.flags.record(Decision(), event="finished", **outcome), True)
        self.assertIs(self.flags.record(decision=Decision(), **outcome), True)
        self.assertIs(self.flags.record(Decision(), **dict.fromkeys(outcome)), True)  # None: unknown
        for name in outcome:
            self.assertIs(self.flags.record(Decision(), **{"".join(list(name)): outcome[name]}), True)
            with self.assertRaises((TypeError, ValueError)):
                self.flags.record(Decision(), **{name: object()})
        for event in Event:
            self.assertIs(self.flags.record(Decision(), event=event), True)
            self.assertIs(self.flags.record(Decision(), event=str(event)), True)
            if event not in (Event.STARTED, Event.FINISHED):
                self.assertIn(self.flags.event("on", "user-1", event), (True, False))

    def test_a_clock_s_mistakes_are_unknown_latencies(self):
        for latency in (-1.0, float("nan"), float("inf"), -float("inf"), 1e300, 0, 5, True):
            self.assertIs(self.flags.record(Decision(), latency=latency, ttft=latency), True)

    def test_a_call_books_its_beginning_and_its_end(self):
        flags = self.watched()
        decision = flags.decide(FLAG, "user-1")
        with flags.call(decision) as call:
            self.assertEqual(flags.said, [{"event": "started"}])
            call.first_token()
            call.first_token()
            call.input_tokens, call.json_valid = 500, False
        started, finished = flags.said
        self.assertEqual((finished["status"], finished["input_tokens"], finished["json_valid"]), (200, 500, False))
        self.assertTrue(0 < finished["ttft"] <= finished["latency"] < 10)
        self.assertFalse(finished["transport_error"] or finished["cancelled"])
        self.assertIs(call.booked, True)
        self.assertIs(call.decision, decision)
        self.assertEqual(call.outcome(), finished)

    def end_with(self, error, **attributes):
        flags = self.watched()
        with self.assertRaises(type(error)):
            with flags.call(Decision()) as call:
                for name, value in attributes.items():
                    setattr(call, name, value)
                raise error
        self.assertEqual(len(flags.said), 2)
        finished = flags.said[1]
        return finished["status"], finished["transport_error"], finished["cancelled"], finished["limited"]

    def test_an_exception_is_a_transport_error_where_it_has_no_status(self):
        for error in (TimeoutError(), OSError(), RuntimeError("x"), StatusError(code=lambda: 5), StatusError(status="500")):
            self.assertEqual(self.end_with(error), (None, True, False, False))
        self.assertEqual(self.end_with(ValueError(), status=200), (200, True, False, False))  # after the headers
        self.assertEqual(self.end_with(SystemExit(1)), (None, True, False, False))  # gunicorn's limit of time

    def test_an_exception_s_status_is_booked(self):
        response = SimpleNamespace(status_code=503)
        for error, expected in (
            (StatusError(status_code=500), (500, False, False, False)),  # anthropic, openai
            (StatusError(status_code=429), (429, False, False, True)),
            (StatusError(status_code=529), (529, False, False, True)),
            (StatusError(response=response), (503, False, False, False)),  # requests, httpx
            (StatusError(code=404), (404, False, False, False)),  # urllib
            (StatusError(status=502), (502, False, False, False)),  # aiohttp
            (StatusError(status_code=200), (200, True, False, False)),  # an answer that could not be read
        ):
            self.assertEqual(self.end_with(error), expected)

    def test_the_caller_s_own_wish_is_a_cancellation(self):
        greenlet_exit = type("GreenletExit", (BaseException,), {})
        for error in (
            KeyboardInterrupt(), asyncio.CancelledError(), concurrent.futures.CancelledError(), GeneratorExit(), SystemExit(),
            SystemExit(0), greenlet_exit(),
        ):  # fmt: skip
            self.assertEqual(self.end_with(error), (None, False, True, False))

    def test_a_cancelled_task_is_a_cancellation_and_a_time_limit_within_is_not(self):
        flags = self.watched()

        async def work():
            with flags.call(Decision()):
                await asyncio.sleep(60)

        async def limited():
            with flags.call(Decision()):
                await asyncio.wait_for(asyncio.sleep(60), 0.01)

        async def cancelled():
            task = asyncio.ensure_future(work())
            await asyncio.sleep(0.01)
            task.cancel()
            await task

        with self.assertRaises(asyncio.CancelledError):
            asyncio.run(cancelled())
        with self.assertRaises((TimeoutError, asyncio.TimeoutError)):
            asyncio.run(limited())
        self.assertEqual([outcome.get("cancelled") for outcome in flags.said], [None, True, None, False])
        self.assertTrue(flags.said[3]["transport_error"])

    def test_an_answer_of_the_messages_api_is_understood(self):
        message = {
            "content": [{"type": "text", "text": "hello"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": 20, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4},
        }

        def objects(value):
            if isinstance(value, dict):
                return SimpleNamespace(**{name: objects(part) for name, part in value.items()})
            return [objects(part) for part in value] if isinstance(value, list) else value

        for shape in (dict, objects):
            for change, expected in (
                ({}, (10, 20, 7, False, False, False)),
                ({"stop_reason": "refusal"}, (10, 20, 7, True, False, False)),
                ({"stop_reason": "max_tokens"}, (10, 20, 7, False, True, False)),
                ({"content": []}, (10, 20, 7, False, False, True)),
                ({"content": [{"type": "text", "text": ""}]}, (10, 20, 7, False, False, True)),
                ({"content": [{"type": "tool_use", "input": {}}]}, (10, 20, 7, False, False, False)),
                ({"usage": {"input_tokens": 1, "output_tokens": None}}, (1, None, 0, False, False, False)),
                ({"usage": None}, (None, None, None, False, False, False)),
            ):
                flags = self.watched()
                with flags.call(Decision()) as call:
                    call.answer(shape({**message, **change}))
                said = [flags.said[1][name] for name in ("input_tokens", "output_tokens", "cache_tokens", "refusal", "truncated", "empty")]
                self.assertEqual(tuple(said), expected)

    def test_flags_closed_within_a_call_do_not_take_the_answer(self):
        flags = self.server.flags()
        with flags.call(Decision()) as call:
            flags.close()
        self.assertIsNone(call.booked)

    def test_unknown_attributes_of_a_call_are_refused(self):
        with self.assertRaises(AttributeError):
            self.flags.call(Decision()).outputtokens = 5


if __name__ == "__main__":
    unittest.main()
