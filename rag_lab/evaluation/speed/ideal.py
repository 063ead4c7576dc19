"""The least time that work can take at a provider, whoever the client is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rag_lab.simulate import Latency, SimulatorSettings
from rag_lab.simulate.provider import Provider

DRAWS = 2_000
_MOST_BATCHES = 128
"""Looked at: with more, what each call costs whatever its size outweighs the rest."""

FORMULA: Final = (
    "ideal: min over k of the mean of max(slot ends) of k equal batches on the provider's slots, "
    f"{DRAWS:,} draws of its latency model; with rate limits at least (need − full bucket) ÷ rate "
    "+ one mean call. No cost of the client's own, no hedging. ÷ ideal: by the same k batches with "
    "the luck of that very run, median over the runs. "
    "mean bound: waves × mean call, as if every call took its mean."
)


@dataclass(frozen=True, slots=True)
class Ideal:
    """Bounds on the wall time, in real seconds.

    Attributes:
        expected_s: mean wall of a client that costs nothing and knows the latency model.
        mean_s: waves × mean call: stricter, since it leaves out that the slowest call decides.
        batches: how many equal batches `expected_s` is of.
    """

    expected_s: float
    mean_s: float
    batches: int


def ideal_embedding(settings: SimulatorSettings, tokens: Sequence[int], seed: int = 0) -> Ideal:
    """The least time to embed texts of so many tokens, faults left out.

    See `FORMULA`. Batches are equal in texts and hold mean texts.
    """
    texts, whole = len(tokens), sum(tokens)
    slots = settings.capacity or _MOST_BATCHES
    fewest = _fewest_batches(settings, texts, whole)
    most = max(fewest, min(texts, 4 * slots, _MOST_BATCHES))
    factors = _factors(settings.latency, most, seed)
    best = Ideal(math.inf, math.inf, 0)
    for batches in range(fewest, most + 1):
        sizes = _equal_sizes(texts, batches)
        calls = np.array([settings.latency.typical_s(n, n * whole // texts) for n in sizes])
        expected_s = makespan_s(calls * factors[:, :batches], slots)
        mean_call_s = settings.latency.mean_s(sizes[0], sizes[0] * whole // texts)
        mean_s = math.ceil(batches / slots) * mean_call_s
        least_s = settings.least_s(batches, whole)
        if least_s > 0:
            expected_s, mean_s = (max(s, least_s + mean_call_s) for s in (expected_s, mean_s))
        if expected_s < best.expected_s:
            best = Ideal(expected_s, mean_s, batches)
    scale = settings.time_scale
    return Ideal(best.expected_s * scale, best.mean_s * scale, best.batches)


def ideal_of_run_s(settings: SimulatorSettings, tokens: Sequence[int], batches: int) -> float:
    """The least wall, in real seconds, of so many equal batches with the run's own luck.

    For providers that draw by the number of a call: call n takes as long whoever makes it.
    """
    sizes = _equal_sizes(len(tokens), batches)
    calls = [settings.latency.typical_s(n, n * sum(tokens) // len(tokens)) for n in sizes]
    drawn = np.array([calls]) * Provider(settings).latency_factors(batches)
    wall_s = makespan_s(drawn, settings.capacity or batches)
    least_s = settings.least_s(batches, sum(tokens))
    if least_s > 0:
        wall_s = max(wall_s, least_s + settings.latency.mean_s(sizes[0], sum(tokens) // batches))
    return wall_s * settings.time_scale


def ideal_calls_s(latency: Latency, calls: int, slots: int | None, seed: int = 0) -> float:
    """Mean wall, modelled seconds, of calls alike that can all begin at once."""
    times = latency.typical_s(1, 0) * _factors(latency, calls, seed)
    return makespan_s(times, slots or calls)


def makespan_s(times_s: np.ndarray, slots: int) -> float:
    """Mean wall of rows of calls, each taking the first slot that is free.

    Args:
        times_s: shape (draws, calls), in the order in which calls begin.
    """
    draws, calls = times_s.shape
    if calls <= slots:
        return float(times_s.max(axis=1).mean())
    ends, rows = times_s[:, :slots].copy(), np.arange(draws)
    for call in range(slots, calls):
        ends[rows, ends.argmin(axis=1)] += times_s[:, call]
    return float(ends.max(axis=1).mean())


def _fewest_batches(settings: SimulatorSettings, texts: int, tokens: int) -> int:
    by_texts = math.ceil(texts / settings.max_texts) if settings.max_texts else 1
    by_tokens = math.ceil(tokens / settings.max_tokens) if settings.max_tokens else 1
    # A call that asks for more than the bucket holds is never let in.
    held = (settings.tokens_per_minute or math.inf) * settings.burst_s / 60
    return max(1, by_texts, by_tokens, math.ceil(tokens / held))


def _equal_sizes(texts: int, batches: int) -> list[int]:
    """Texts a batch, the largest first."""
    least, more = divmod(texts, batches)
    return [least + 1] * more + [least] * (batches - more)


def _factors(latency: Latency, calls: int, seed: int) -> np.ndarray:
    """Factors of the latency model, shape (draws, calls)."""
    if latency.spread == "none":
        return np.ones((1, calls))
    uniform = np.random.default_rng(seed).uniform(1e-12, 1, (DRAWS, calls))
    flat = np.fromiter(map(latency.factor, uniform.ravel()), float, uniform.size)
    return flat.reshape(uniform.shape)
