"""Feature flags from the host's shared table: one per host, kept by flagshmd from a JSON file.

    import flagshm

    flags = flagshm.Flags()                    # once, at import: workers that are forked later inherit it

    def summarize(user_id, text):
        decision = flags.decide("new_summarizer_model", user_id)
        with flags.call(decision) as call:     # books what becomes of the call
            message = client.messages.create(model=decision.model or "claude-haiku-4-5", ...)
            call.answer(message)               # tokens, refusal, truncation
        return message

Where the decision is all that matters, flags.model("new_summarizer_model", user_id, "claude-haiku-4-5") gives the model,
and flags.in_variant("new_summarizer_model", user_id) gives yes or no.

A decision takes no lock, makes no system call, and never fails: without a server, and on every doubt, it is the control,
and says why. Ids are str, bytes (UTF-8) or None; give the same id for the same user everywhere, never a request id. A wrong
type is a TypeError; a NUL or a lone surrogate in an id is a ValueError.

One Flags serves all threads, and is inherited by fork (multiprocessing, gunicorn --preload); nothing is to be called in
the child. The environment: FLAGSHM_INSTANCE, FLAGSHM_DIR, FLAGSHM_OWNER; see flagshm(3).
"""

from __future__ import annotations

import copyreg
import enum
import json
import time
from types import TracebackType
from typing import Any, Mapping, Optional, Type

from . import _flagshm
from ._flagshm import NO_BUCKET, NO_SLOT, Decision, __version__

__all__ = ["NO_BUCKET", "NO_SLOT", "Call", "Decision", "Event", "Flags", "Reason", "__version__"]


class Reason(str, enum.Enum):
    """Why a decision is what it is, in OpenFeature's words."""

    SPLIT = "SPLIT"  # the user's bucket decided
    STATIC = "STATIC"  # everyone gets this arm: 0 or 100 %
    TARGETING_MATCH = "TARGETING_MATCH"  # the id stands in the flag's force list
    DISABLED = "DISABLED"  # control: switched off, killed or rolled back
    STALE = "STALE"  # control: the server is silent and the flag asks for control then
    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    NOT_READY = "NOT_READY"  # no table yet: no server has run
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"  # None or empty id
    GENERAL = "GENERAL"  # id over 4096 bytes, or a table that is damaged

    @property
    def is_error(self) -> bool:
        """Whether the control was given for want of an answer."""
        return self in (Reason.FLAG_NOT_FOUND, Reason.NOT_READY, Reason.TARGETING_KEY_MISSING, Reason.GENERAL)

    __str__ = str.__str__
    __format__ = str.__format__


class Event(str, enum.Enum):
    """What is booked: the first two with record(), the others with event(). The plain words do as well."""

    STARTED = "started"
    FINISHED = "finished"
    THUMBS_UP = "thumbs_up"
    THUMBS_DOWN = "thumbs_down"
    RETRY = "retry"
    SUPPORT_CONTACT = "support_contact"
    CUSTOM = "custom"
    CUSTOM_1 = "custom_1"
    CUSTOM_2 = "custom_2"
    CUSTOM_3 = "custom_3"
    CUSTOM_4 = "custom_4"
    CUSTOM_5 = "custom_5"
    CUSTOM_6 = "custom_6"
    CUSTOM_7 = "custom_7"

    __str__ = str.__str__
    __format__ = str.__format__


class Flags(_flagshm.Flags):
    """A handle on the table of an instance; None: $FLAGSHM_INSTANCE or "default".

    It works whether or not there is a server: until then decisions are control with reason NOT_READY, and it attaches by
    itself, one attempt a second at most (open_error holds the errno of the first). Open one for the program and keep it. A
    with statement closes it; pickled (multiprocessing's spawn), it is opened again by name.
    """

    __slots__ = ()

    def call(self, decision: Decision) -> Call:
        """A context that books one call with this decision: started at its beginning, and at its end what became of it."""
        return Call(self, decision)

    def __enter__(self) -> Flags:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"version={self.version}"
        return f"<flagshm.Flags instance={self.instance!r} {state}>"

    def __reduce__(self) -> Any:
        return type(self), (self.instance,)


# What ends a call by the caller's own wish, by name: asyncio.CancelledError and concurrent.futures', trio.Cancelled,
# gevent's GreenletExit. GeneratorExit: a stream that nobody reads to its end.
_CANCELLED = {"KeyboardInterrupt", "GeneratorExit", "CancelledError", "Cancelled", "GreenletExit"}


def _is_cancel(error: BaseException) -> bool:
    if isinstance(error, SystemExit):  # gunicorn's worker exits with 1 when its call takes too long: that is a failure
        return not error.code
    return any(kind.__name__ in _CANCELLED for kind in type(error).__mro__)


def _status_of(error: BaseException) -> int:
    """The HTTP status that an exception of a client library carries; 0: none."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and 100 <= status <= 599:
                return status
    return 0


def _get(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


class Call:
    """One call, measured and booked. Set what is known about it, by attributes of the names of record()'s keywords.

    Without an exception and without a status, it is 200. An exception is booked by the status that it carries
    (anthropic, openai, requests, httpx, urllib), else as a transport error; KeyboardInterrupt, CancelledError and
    GeneratorExit as cancelled. It goes on its way in any case. A time limit of yours belongs inside: from without it looks
    like a cancellation.
    """

    __slots__ = (
        "decision", "status", "latency", "ttft", "input_tokens", "output_tokens", "cache_tokens", "attempts",
        "transport_error", "cancelled", "limited", "fallback", "altered", "json_valid", "schema_valid", "tool_valid",
        "refusal", "truncated", "empty", "booked", "_flags", "_begin",
    )  # fmt: skip

    def __init__(self, flags: Flags, decision: Decision) -> None:
        if not isinstance(decision, Decision):
            raise TypeError(f"decision must be a flagshm.Decision, not {type(decision).__name__}")
        self.decision = decision
        self.status: Optional[int] = None
        self.latency: Optional[float] = None  # measured, where it is not set
        self.ttft: Optional[float] = None
        self.input_tokens: Optional[int] = None
        self.output_tokens: Optional[int] = None
        self.cache_tokens: Optional[int] = None
        self.attempts: Optional[int] = None
        self.transport_error = False
        self.cancelled = False
        self.limited = False
        self.fallback = False
        self.altered = False
        self.json_valid: Optional[bool] = None
        self.schema_valid: Optional[bool] = None
        self.tool_valid: Optional[bool] = None
        self.refusal = False
        self.truncated = False
        self.empty = False
        self.booked: Optional[bool] = None  # what record() said at the end
        self._flags = flags
        self._begin = 0.0

    def first_token(self) -> None:
        """To be called when the first token has come; later calls change nothing."""
        if self.ttft is None:
            self.ttft = time.monotonic() - self._begin

    def answer(self, message: Any) -> None:
        """Takes tokens, refusal, truncation and emptiness from an answer of the Messages API: an SDK's object, or a dict."""
        usage = _get(message, "usage")
        if usage is not None:
            self.input_tokens = _get(usage, "input_tokens")
            self.output_tokens = _get(usage, "output_tokens")
            self.cache_tokens = (_get(usage, "cache_creation_input_tokens") or 0) + (
                _get(usage, "cache_read_input_tokens") or 0
            )
        stop = _get(message, "stop_reason")
        self.refusal = stop == "refusal"
        self.truncated = stop == "max_tokens"
        content = _get(message, "content")
        if content is not None:
            self.empty = not any(_get(part, "type") == "tool_use" or _get(part, "text") for part in content)

    def outcome(self) -> dict[str, Any]:
        """What stands in it now, as record()'s keywords: for record_shadow()."""
        return {name: getattr(self, name) for name in _OUTCOME}

    def __enter__(self) -> Call:
        self._flags.record(self.decision, event="started")
        self._begin = time.monotonic()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], _: Optional[TracebackType]
    ) -> None:
        if self.latency is None:
            self.latency = time.monotonic() - self._begin
        if error is None:
            if self.status is None and not self.transport_error and not self.cancelled:
                self.status = 200
        elif _is_cancel(error):
            self.cancelled = True
        else:
            self.status = _status_of(error) or self.status
            self.transport_error = self.transport_error or self.status is None or self.status < 400
        self.limited = self.limited or self.status in (429, 529)
        if not self._flags.closed:  # a worker that ends: the answer matters more
            self.booked = self._flags.record(self.decision, **self.outcome())


_OUTCOME = Call.__slots__[1:-3]


def _params(decision: Decision) -> dict[str, Any]:
    text = decision.value
    if text.startswith("{"):
        try:
            value = json.loads(text)
        except ValueError:  # a string that begins with a brace
            value = None
        if isinstance(value, dict):
            return value
    return {"model": text} if text else {}


_flagshm._bind({reason.name: reason for reason in Reason}, _params)


def _decision(fields: Mapping[str, Any]) -> Decision:
    """Of a pickle, perhaps of a release that knows more fields."""
    return Decision(**{name: value for name, value in fields.items() if hasattr(Decision, name)})


copyreg.pickle(Decision, lambda decision: (_decision, (decision.asdict(),)))
