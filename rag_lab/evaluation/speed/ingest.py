"""`rag-lab bench ingest`: from texts to a searchable FAISS index, ours beside what people do."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from llama_index.core import Document

from rag_lab.corpora import Corpus
from rag_lab.errors import SettingsError
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.speed import peers
from rag_lab.evaluation.speed.corpus import made_up_corpus
from rag_lab.evaluation.speed.ideal import FORMULA, Ideal, ideal_embedding, ideal_of_run_s
from rag_lab.evaluation.speed.measure import (
    Measured,
    Tell,
    measured,
    rotated,
    stock_garbage_collection,
    texts_sent,
)
from rag_lab.evaluation.speed.ours import our_index, our_settings
from rag_lab.evaluation.speed.scenarios import Scenario, chosen_scenarios
from rag_lab.evaluation.speed.table import Column, Report, Row, Table, figure, median, ratio
from rag_lab.index import LabIndex
from rag_lab.simulate import (
    SimulatedProvider,
    SimulatorSettings,
    expected_vector,
    simulated,
    tokens_of,
)

OURS: Final = "ours"
AGAIN: Final = "ours, again"
_WARM_UP: Final = 8
_BUDGET_S: Final = 60.0
_ALIKE: Final = 0.999

Index = faiss.Index | LabIndex

COLUMNS: Final = (
    Column("system", "system"),
    Column("wall_s", "wall s", ".2f"),
    Column("range", "range"),
    Column("to_ideal", "÷ ideal", ".2f"),
    Column("to_mean_bound", "÷ mean b.", ".2f"),
    Column("to_undisturbed", "÷ undist.", ".2f"),
    Column("calls", "calls", ",.0f"),
    Column("throttled", "429s", ",.0f"),
    Column("texts_sent", "texts sent", ",.0f"),
    Column("tokens", "tokens", ",.0f"),
    Column("right", "right", ",.0f"),
    Column("lag_p99_ms", "lag p99 ms", ".0f"),
    Column("lag_max_ms", "max", ".0f"),
    Column("cpu_s", "CPU s", ".2f"),
    Column("failure", "failed"),
)
NOTES: Final = (
    "Median of the runs that ended in an index. right: documents whose own vector is found in the "
    "index under their id. texts sent: those of calls in vain too. tokens: of answered calls. "
    "undist.: the same provider without its faults, in the same run.",
    FORMULA,
)


@dataclass(frozen=True, slots=True)
class Promise:
    """What must hold of our own row in a scenario."""

    scenario: str
    what: str
    value: Callable[[Row], float | None]
    bound: float


PROMISES: Final = (
    Promise("plain", "wall ÷ ideal", lambda row: row["to_ideal"], 1.25),
    Promise("plain", "loop lag p99, ms", lambda row: row["lag_p99_ms"], 10),
    Promise("plain", "loop lag max, ms", lambda row: row["lag_max_ms"], 50),
    Promise("limits", "wall ÷ what the limits allow", lambda row: row["to_ideal"], 1.15),
    Promise("limits", "429s − 5 % of calls", lambda row: _refused_beyond(row, 0.05), 3),
    Promise("stall", "wall ÷ undisturbed", lambda row: row["to_undisturbed"], 3),
    Promise("outage", "wall − 1.5 × undisturbed, s", lambda row: _beyond(row, 1.5), 6),
)


async def bench_ingest(
    *,
    documents: int = 1_458,
    capacity: int = 16,
    scenarios: Sequence[str] = ("plain",),
    only: Sequence[str] = (),
    repeats: int = 3,
    seed: int = 0,
    tell: Tell,
) -> Report:
    """Measures every system in every scenario, `repeats` times, in changing order.

    Args:
        documents: how many made-up documents of about 100 tokens.
        capacity: calls that the provider serves at once, where that is not the scenario's point.
        scenarios: by name, or "all".
        only: systems whose name contains one of these; all by default.
        tell: called with a line on each run.

    Raises:
        SettingsError: a scenario or system that does not exist.
    """
    chosen = chosen_scenarios(scenarios, capacity)
    with tempfile.TemporaryDirectory(prefix="rag-lab-bench-") as scratch:
        async with simulated() as provider:
            systems = _Systems(provider, made_up_corpus(documents, seed), Path(scratch))
            names = chosen_systems(only)
            tell("warming up")
            await systems.warm_up(names)
            runs: list[Row] = []
            tables, bars = [], []
            for scenario in chosen:
                told = [
                    row
                    for repeat in range(repeats)
                    for row in await systems.run(scenario, names, repeat, seed, tell)
                ]
                ideal = _ideal(scenario, systems.documents, seed)
                for run in told:
                    run["ideal_s"] = _ideal_of_run_s(scenario, systems.documents, ideal, run)
                table = _table(scenario, ideal, told, documents)
                runs += told
                tables.append(table)
                bars += _bars(scenario, table.rows, documents)
    setup = {"documents": documents, "capacity": capacity, "repeats": repeats, "seed": seed}
    return Report("ingest", setup, tables, NOTES, bars, runs)


def chosen_systems(only: Sequence[str]) -> list[str]:
    """Systems whose name contains one of the given; all if none is given.

    Raises:
        SettingsError: one is contained in no name.
    """
    names = [*peers.INGEST, OURS]
    for wanted in only:
        if not any(wanted.casefold() in name.casefold() for name in names):
            raise SettingsError(f"there is no system {wanted!r}; there are {'; '.join(names)}.")
    asked = [wanted.casefold() for wanted in only]
    return [n for n in names if not asked or any(wanted in n.casefold() for wanted in asked)]


class _Systems:
    """The systems over one corpus and one provider."""

    def __init__(self, provider: SimulatedProvider, corpus: Corpus, scratch: Path) -> None:
        self.provider = provider
        self.corpus = corpus
        self.documents = list(corpus.documents)
        self._scratch = scratch
        self._caches = 0

    async def warm_up(self, names: Sequence[str]) -> None:
        """Runs each once on a few documents: imports and first uses are no part of the figures."""
        few = _Systems(self.provider, made_up_corpus(_WARM_UP), self._scratch)
        at_once = SimulatorSettings()
        for name in names:
            await few._one(few._work(name, self._new_cache()), at_once)

    async def run(
        self, scenario: Scenario, names: Sequence[str], repeat: int, seed: int, tell: Tell
    ) -> list[Row]:
        """Every system once, the undisturbed run beside the disturbed one."""
        rows = []
        luck = {"seed": seed + repeat}
        for name in rotated(names, repeat):
            tell(f"{scenario.name}: {name} (run {repeat + 1})")
            cache = self._new_cache()
            row = await self._one(self._work(name, cache), scenario.settings.changed(**luck))
            if scenario.undisturbed:
                settings = scenario.undisturbed.changed(**luck)
                calm = await self._one(self._work(name, self._new_cache()), settings)
                row["undisturbed_s"] = None if calm["failure"] else calm["wall_s"]
            rows.append({"system": name, **row})
            if name == OURS and scenario.name == "plain":
                again = await self._one(self._work(name, cache), scenario.settings.changed(**luck))
                rows.append({"system": AGAIN, **again})
        return [{"scenario": scenario.name, "repeat": repeat, **luck, **row} for row in rows]

    async def _ours(self, cache: Path) -> LabIndex:
        settings = our_settings(self.provider, cache, dimensions=self.provider.settings.dimensions)
        return await our_index(self.corpus, settings)

    def _work(self, name: str, cache: Path) -> Callable[[], Awaitable[Index]]:
        if name == OURS:
            return lambda: self._ours(cache)
        system = peers.INGEST[name]

        async def peer() -> Index:
            with stock_garbage_collection():
                return await system(self.provider.base_url, self.documents)

        return peer

    async def _one(self, work: Callable[[], Awaitable[Index]], settings: SimulatorSettings) -> Row:
        done = await measured(self.provider, settings, work, budget_s=_BUDGET_S)
        return {**_figures(done), "right": self._right(done.value, settings.dimensions)}

    def _right(self, index: Index | None, dimensions: int) -> int:
        """Documents whose own vector is found under their id."""
        if index is None:
            return 0
        if not isinstance(index, LabIndex):
            return _found(index, self.documents, dimensions)
        with closing(index):
            texts = [node.embedded_text for node in index.nodes]
            truth = np.stack([expected_vector(text, dimensions) for text in texts])
            nearest = index.vectors.search(truth, 1)
        return sum(
            bool(hits) and hits[0][0] == place and hits[0][1] > _ALIKE
            for place, hits in enumerate(nearest)
        )

    def _new_cache(self) -> Path:
        self._caches += 1
        return self._scratch / str(self._caches)


def _found(index: faiss.Index, documents: Sequence[Document], dimensions: int) -> int:
    truth = np.stack([expected_vector(document.text, dimensions) for document in documents])
    scores, places = index.search(truth, 1)
    own = places[:, 0] == np.arange(len(documents))
    return int((own & (scores[:, 0] > _ALIKE)).sum())


def _figures(done: Measured[Any]) -> Row:
    return {
        "wall_s": done.wall_s,
        "calls": done.stats.calls,
        "throttled": done.stats.statuses.get(429, 0),
        "texts_sent": texts_sent(done.stats),
        "tokens": done.stats.tokens,
        "lag_p99_ms": done.lag.p99_ms,
        "lag_max_ms": done.lag.max_ms,
        "cpu_s": done.cpu_s,
        "failure": done.failure,
    }


def _ideal(scenario: Scenario, documents: Sequence[Document], seed: int) -> Ideal:
    calm = scenario.undisturbed or scenario.settings
    return ideal_embedding(calm, _tokens(documents), seed)


def _ideal_of_run_s(
    scenario: Scenario, documents: Sequence[Document], ideal: Ideal, run: Row
) -> float:
    calm = (scenario.undisturbed or scenario.settings).changed(seed=run["seed"])
    return scenario.lost_s + ideal_of_run_s(calm, _tokens(documents), ideal.batches)


def _tokens(documents: Sequence[Document]) -> list[int]:
    return [tokens_of(document.text) for document in documents]


def _table(scenario: Scenario, ideal: Ideal, runs: Sequence[Row], documents: int) -> Table:
    names = dict.fromkeys(row["system"] for row in sorted(runs, key=lambda row: row["repeat"]))
    order = [name for name in (*peers.INGEST, OURS, AGAIN) if name in names]
    expected_s, mean_s = ideal.expected_s + scenario.lost_s, ideal.mean_s + scenario.lost_s
    rows = [summary(name, [row for row in runs if row["system"] == name], mean_s) for name in order]
    title = (
        f"{scenario.name}: {scenario.about}; {documents:,} documents; ideal {expected_s:.2f} s "
        f"({ideal.batches} batches), mean bound {mean_s:.2f} s"
    )
    return Table(title, COLUMNS, rows)


def summary(name: str, runs: Sequence[Row], mean_s: float) -> Row:
    """One row of a table: medians over the runs that did not fail, and how many did."""
    good = [row for row in runs if not row["failure"]]
    walls = [row["wall_s"] for row in good]
    row: Row = {"system": name}
    fields = ("wall_s", "undisturbed_s", "calls", "throttled", "texts_sent", "tokens", "right",
              "lag_p99_ms", "lag_max_ms", "cpu_s")  # fmt: skip
    row |= {field: median(run.get(field) for run in good) for field in fields}
    row["range"] = f"{min(walls):.2f}–{max(walls):.2f}" if len(walls) > 1 else ""
    row["to_undisturbed"] = median(ratio(run["wall_s"], run.get("undisturbed_s")) for run in good)
    if name != AGAIN:
        row["to_ideal"] = median(ratio(run["wall_s"], run["ideal_s"]) for run in good)
        row["to_mean_bound"] = ratio(row["wall_s"], mean_s)
    reasons = Counter(run["failure"] for run in runs if run["failure"])
    if reasons:
        count = f"{reasons.total()} of {len(runs)}: " if len(runs) > 1 else ""
        row["failure"] = f"{count}{reasons.most_common(1)[0][0]}"
    return row


def _beyond(row: Row, share: float) -> float | None:
    """Seconds beyond a share of the undisturbed wall."""
    wall_s, calm_s = row["wall_s"], row["undisturbed_s"]
    return None if wall_s is None or calm_s is None else wall_s - share * calm_s


def _refused_beyond(row: Row, share: float) -> float | None:
    """429s beyond a share of the calls."""
    throttled, calls = row["throttled"], row["calls"]
    return None if throttled is None or calls is None else throttled - share * calls


def _bars(scenario: Scenario, rows: Sequence[Row], documents: int) -> list[Bar]:
    own = {row["system"]: row for row in rows}
    bars = []
    if OURS in own:
        row = own[OURS]
        embeddable = documents - sum(number < documents for number in scenario.rejected)
        right = figure(row["right"])
        bars.append(
            Bar(f"{scenario.name}: documents searchable and right", right, embeddable, ">=")
        )
        bars += [
            Bar(f"{scenario.name}: {promise.what}", figure(promise.value(row)), promise.bound, "<=")
            for promise in PROMISES
            if promise.scenario == scenario.name
        ]
    if AGAIN in own:
        bars.append(Bar("calls to ingest it again", figure(own[AGAIN]["calls"]), 0, "<="))
    return bars
