"""Where the time of one request went, what it used and what it had to do without.

A `Trace` is found through a context variable, so that the layers need not hand it to each other.
It begins when the request was *meant* to start: waiting is part of latency.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from operator import itemgetter

from rag_lab.records import Span, Stage, Timing, Usage

_current: ContextVar[Trace | None] = ContextVar("rag_lab_trace", default=None)

_BEGAN = itemgetter(1)

clock = time.perf_counter
"""The clock of every span; `scheduled_at` is a moment of it."""


class Trace:
    """One request under way.

    Attributes:
        scheduled_at: when it was meant to start, on `clock`.
        usage: what it has used; a call shared by several requests counts for each, its tokens and
            cost by share.
        degraded: what it had to do without, and why; empty if all went as it should.
        notes: how the answer came about.
    """

    def __init__(self, scheduled_at: float | None = None) -> None:
        self.scheduled_at = clock() if scheduled_at is None else scheduled_at
        self.usage = Usage()
        self.degraded: list[str] = []
        self.notes: list[str] = []
        self._spans: list[tuple[Stage, float, float]] = []

    def add(self, stage: Stage, began_at: float, ended_at: float) -> None:
        """A stage that took from one moment of `clock` to another."""
        self._spans.append((stage, began_at, ended_at))

    def spend(self, usage: Usage) -> None:
        """Counts something used."""
        self.usage += usage

    def ride(self, shared: Trace, part: float) -> None:
        """Counts work done for several requests at once: its tokens and cost by this one's part."""
        self._spans += shared._spans
        usage = shared.usage
        self.usage += replace(
            usage,
            texts=round(usage.texts * part),
            prompt_tokens=round(usage.prompt_tokens * part),
            completion_tokens=round(usage.completion_tokens * part),
            cost_usd=None if usage.cost_usd is None else usage.cost_usd * part,
        )

    def degrade(self, reason: str) -> None:
        """Something was left out, and why; said once."""
        if reason not in self.degraded:
            self.degraded.append(reason)

    def note(self, what: str) -> None:
        """Something worth telling of how the answer came about; said once."""
        if what not in self.notes:
            self.notes.append(what)

    def timing(self, ended_at: float | None = None) -> Timing:
        """The whole, each stage's sum, and the spans in seconds since the scheduled start.

        Of work that was under way before, only what this request waited for is counted.
        """
        origin = self.scheduled_at
        end = clock() if ended_at is None else ended_at
        spans: list[Span] = []
        stages_s: dict[str, float] = {}
        for stage, began, ended in sorted(self._spans, key=_BEGAN):
            if ended > origin:
                since = max(0.0, began - origin)
                spans.append(Span(stage, since, ended - origin))
                stages_s[stage] = stages_s.get(stage, 0.0) + ended - origin - since
        return Timing(end - origin, stages_s, tuple(spans))


def current_trace() -> Trace | None:
    """The trace of the request that the running code works for."""
    return _current.get()


@contextmanager
def tracing(scheduled_at: float | None = None) -> Iterator[Trace]:
    """Traces what is done inside the block, also by tasks begun there.

    Inside another trace it hands what it used and left out on to that one when it ends.
    """
    outer = _current.get()
    trace = Trace(scheduled_at)
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)
        if outer is not None:
            outer.spend(trace.usage)
            for reason in trace.degraded:
                outer.degrade(reason)
            for what in trace.notes:
                outer.note(what)


@contextmanager
def tracing_within() -> Iterator[Trace]:
    """Traces like `tracing`; its stages are stages of the outer trace, too."""
    outer = _current.get()
    with tracing() as trace:
        try:
            yield trace
        finally:
            if outer is not None:
                for span in trace.timing().spans:
                    origin = trace.scheduled_at
                    outer.add(span.stage, origin + span.began_s, origin + span.ended_s)


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Times a stage of the current request; without one it does nothing."""
    trace = _current.get()
    if trace is None:
        yield
        return
    began = clock()
    try:
        yield
    finally:
        trace.add(name, began, clock())


def spend(usage: Usage) -> None:
    """Counts something used by the current request, if there is one."""
    trace = _current.get()
    if trace is not None:
        trace.spend(usage)


def degrade(reason: str) -> None:
    """Notes what the current request has to do without, if there is one."""
    trace = _current.get()
    if trace is not None:
        trace.degrade(reason)


def note(what: str) -> None:
    """Notes how the answer of the current request comes about, if there is one."""
    trace = _current.get()
    if trace is not None:
        trace.note(what)


def ride(shared: Trace, part: float = 1.0) -> None:
    """Counts a part of shared work for the current request, if there is one."""
    trace = _current.get()
    if trace is not None:
        trace.ride(shared, part)
