"""Before spending: two questions through everything, and what the whole would take."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from rag_lab.corpora import Corpus
from rag_lab.errors import SettingsError
from rag_lab.evaluation.compare.asking import (
    AT_ONCE,
    Asking,
    System,
    ask_system,
    check_systems,
    questions_for,
)
from rag_lab.evaluation.compare.verdict import number
from rag_lab.evaluation.compare.view import html_table, markdown_table
from rag_lab.evaluation.scores import Measure
from rag_lab.evaluation.statistics import LEVEL, detectable_difference
from rag_lab.records import Usage

if TYPE_CHECKING:
    import pandas as pd

_TITLES = ("system", "asked", "seconds a question", "used", "in all", "problems")


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What the dry run of one system took and showed, and what the whole would take.

    Attributes:
        seconds: a question, scoring included; NaN if all failed.
        usage: of the dry run, judges included.
        whole_s: about how long all questions and repeats take, sixteen at a time.
        whole_usd: about what they cost; None where no price is known.
        problems: why questions failed or have no score.
    """

    asked: int
    seconds: float
    usage: Usage
    whole_s: float
    whole_usd: float | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a comparison would take and what it could find. Shows itself as a table.

    Attributes:
        questions: how many a whole run asks of each system.
        spread: standard deviation of the differences by question that was assumed.
        detectable: the smallest difference found with 80 % power, its level divided by the number
            of comparisons.
    """

    systems: Mapping[str, Rehearsed]
    questions: int
    repeats: int
    comparisons: int
    spread: float
    detectable: float

    @property
    def ready(self) -> bool:
        """Whether every system was answered and scored without a problem."""
        return not any(system.problems for system in self.systems.values())

    @property
    def seconds(self) -> float:
        """About how long all of it takes; NaN if that is not known of a system."""
        return math.fsum(system.whole_s for system in self.systems.values())

    @property
    def cost_usd(self) -> float | None:
        """About what it costs, as far as prices are known; None if none is."""
        costs = [s.whole_usd for s in self.systems.values() if s.whole_usd is not None]
        return math.fsum(costs) if costs else None

    def frame(self) -> pd.DataFrame:
        """A row for each system, for pandas."""
        import pandas as pd

        return pd.DataFrame(
            {
                "system": name,
                "asked": system.asked,
                "seconds_a_question": system.seconds,
                "whole_s": system.whole_s,
                "whole_usd": system.whole_usd,
                "problems": "; ".join(system.problems),
            }
            for name, system in self.systems.items()
        )

    def markdown(self) -> str:
        """The table with its summary as Markdown."""
        return f"{markdown_table(_TITLES, self._rows())}\n\n{self}\n"

    def _repr_html_(self) -> str:
        return f"{html_table(_TITLES, self._rows())}<p>{html.escape(str(self))}</p>"

    def __str__(self) -> str:
        cost = "cost unknown" if self.cost_usd is None else f"{self.cost_usd:.2f} USD"
        times = f" {self.repeats} times" if self.repeats > 1 else ""
        return (
            f"{self.questions} questions{times} through {len(self.systems)} systems: "
            f"{_duration(self.seconds)}, {cost}. At a spread of {number(self.spread)}, "
            f"{self.comparisons} comparisons find differences from {number(self.detectable)}."
        )

    def _rows(self) -> list[list[str]]:
        return [
            [
                name,
                str(system.asked),
                "–" if math.isnan(system.seconds) else f"{system.seconds:.2f}",
                str(system.usage),
                _whole(system),
                "; ".join(system.problems) or "none",
            ]
            for name, system in self.systems.items()
        ]


async def dry_run(
    systems: Mapping[str, System],
    corpus: Corpus,
    measures: Sequence[str | Measure],
    *,
    repeats: int = 1,
    spread: float = 0.25,
) -> DryRun:
    """Asks every system two questions, scores them, and estimates the whole comparison.

    Args:
        systems: as for `compare`, like `corpus`, `measures` and `repeats`.
        spread: standard deviation of the differences by question, from an earlier comparison
            (`Difference.spread`) if there is one.

    Raises:
        SettingsError: a system cannot be scored with these measures, no question is judged, there
            is no system, or `repeats` or `spread` is not above 0.
    """
    if not systems or repeats < 1 or not spread > 0:
        raise SettingsError(
            "a dry run needs a system, repeats of at least 1 and a spread above 0, got "
            f"{len(systems)} systems, repeats {repeats}, spread {spread}."
        )
    questions = questions_for(corpus, measures)
    check_systems(systems, measures)
    two = [questions[0], questions[len(questions) // 2]][: len(questions)]
    factor = len(questions) * repeats
    rehearsed = {
        name: _rehearsed(await ask_system(system, two, corpus, measures), factor)
        for name, system in systems.items()
    }
    comparisons = max(1, (len(systems) - 1) * len(measures))
    detectable = detectable_difference(len(questions), spread, LEVEL / comparisons)
    return DryRun(rehearsed, len(questions), repeats, comparisons, spread, detectable)


def _rehearsed(asking: Asking, factor: int) -> Rehearsed:
    seconds = math.nan
    if asking.latency_s:
        took = [asking.latency_s[key] + asking.scoring_s.get(key, 0.0) for key in asking.latency_s]
        seconds = fmean(took)
    asked, cost = asking.table.attempted, asking.usage.cost_usd
    reasons = {
        f"{measure}: {reason}"
        for measure in asking.table.scores
        for reason in asking.table.unscored(measure).values()
    }
    return Rehearsed(
        asked=asked,
        seconds=seconds,
        usage=asking.usage,
        whole_s=seconds * factor / min(AT_ONCE, factor),
        whole_usd=None if cost is None else cost * factor / asked,
        problems=tuple(sorted(reasons)),
    )


def _whole(system: Rehearsed) -> str:
    cost = "" if system.whole_usd is None else f", {system.whole_usd:.2f} USD"
    return _duration(system.whole_s) + cost


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "unknown time"
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
