"""What a simulated provider has seen: totals at once, texts and times on demand."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

ABANDONED = 499
"""Counted for a call whose client went away before it was answered."""
CUT = 0
"""Counted for a call whose connection was reset."""
_MOST_TIMES = 200_000
_MOST_TEXTS = 1_000_000


@dataclass(slots=True)
class CallTime:
    """One call: modelled seconds since the first one, and how it ended.

    Attributes:
        started_s: when it got a slot; before that it waited. None: it never did.
        status: HTTP status; 0 if its connection was reset, 499 if the client left.
    """

    endpoint: str
    arrived_s: float
    texts: int = 0
    tokens: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    status: int = ABANDONED
    faults: tuple[str, ...] = ()


class Stats(BaseModel):
    """Counts since the start or the last reset.

    Attributes:
        calls: calls to embeddings and chat that have ended, refused ones too.
        texts: texts of the embedding calls answered with 200; `tokens` of all calls so answered.
        statuses: calls by HTTP status; 0: connection reset, 499: the client left first.
        faults: calls by what was done to them.
        peak_in_service: most calls served at once; `peak_in_flight` with those that waited.
        first_call_at: seconds since the epoch.
        text_counts: how often each text was asked for, in vain too; on demand.
        times: every call, in the order of arrival (the last 200,000); on demand.
    """

    simulated: bool = True
    calls: int = 0
    by_endpoint: dict[str, int] = {}
    texts: int = 0
    tokens: int = 0
    statuses: dict[int, int] = {}
    faults: dict[str, int] = {}
    in_flight: int = 0
    peak_in_service: int = 0
    peak_in_flight: int = 0
    first_call_at: float | None = None
    elapsed_s: float = 0.0
    time_scale: float = 1.0
    text_counts: dict[str, int] | None = None
    times: list[CallTime] | None = None

    @property
    def served(self) -> int:
        """Calls answered with 200."""
        return self.statuses.get(200, 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, without what was not asked for."""
        return self.model_dump(mode="json", exclude_none=True)

    def __str__(self) -> str:
        by_status = ", ".join(f"{status}: {n:,}" for status, n in sorted(self.statuses.items()))
        by_fault = ", ".join(f"{name}: {n:,}" for name, n in sorted(self.faults.items()))
        return (
            f"{self.calls:,} calls ({by_status or 'none'}), {self.texts:,} texts and "
            f"{self.tokens:,} tokens served; at most {self.peak_in_service:,} at once, "
            f"{self.peak_in_flight:,} with those that waited"
            + (f"; faults: {by_fault}" if by_fault else "")
        )


class Ledger:
    """Counts as calls come and go."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._in_service = 0
        self._peak_in_flight = 0
        self._peak_in_service = 0
        self._by_endpoint: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._texts = 0
        self._tokens = 0
        self._first_call_at: float | None = None
        self._text_counts: Counter[str] = Counter()
        self._times: deque[CallTime] = deque(maxlen=_MOST_TIMES)

    def arrive(self, endpoint: str, now_s: float) -> CallTime:
        """A call has come in."""
        if self._first_call_at is None:
            self._first_call_at = time.time()
        self.in_flight += 1
        self._peak_in_flight = max(self._peak_in_flight, self.in_flight)
        call = CallTime(endpoint, now_s)
        self._times.append(call)
        return call

    def read(self, call: CallTime, texts: Sequence[str], tokens: int) -> None:
        """Its body has been read."""
        call.texts, call.tokens = len(texts), tokens
        if call.endpoint == "embeddings" and len(self._text_counts) < _MOST_TEXTS:
            self._text_counts.update(texts)

    def start(self, call: CallTime, now_s: float) -> None:
        """It has got its slot."""
        call.started_s = now_s
        self._in_service += 1
        self._peak_in_service = max(self._peak_in_service, self._in_service)

    def end(self, call: CallTime, now_s: float) -> None:
        """It is over, however it ended."""
        call.ended_s = now_s
        self.in_flight -= 1
        self._in_service -= call.started_s is not None
        self._by_endpoint[call.endpoint] += 1
        self._statuses[call.status] += 1
        self._faults.update(call.faults)
        if call.status == 200:
            self._tokens += call.tokens
            self._texts += call.texts if call.endpoint == "embeddings" else 0

    def to_dict(
        self, now_s: float, time_scale: float, *, texts: bool = False, times: bool = False
    ) -> dict[str, Any]:
        """What `Stats` is read from."""
        return {
            "simulated": True,
            "calls": self._by_endpoint.total(),
            "by_endpoint": self._by_endpoint,
            "texts": self._texts,
            "tokens": self._tokens,
            "statuses": self._statuses,
            "faults": self._faults,
            "in_flight": self.in_flight,
            "peak_in_service": self._peak_in_service,
            "peak_in_flight": self._peak_in_flight,
            "first_call_at": self._first_call_at,
            "elapsed_s": now_s,
            "time_scale": time_scale,
            "text_counts": self._text_counts if texts else None,
            "times": list(self._times) if times else None,
        }
