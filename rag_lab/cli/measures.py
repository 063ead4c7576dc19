"""Measures named on the command line, and what their means may not be worse than."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rag_lab.evaluation.evaluated import Evaluation

_RANKING = ("nDCG@10", "R@5", "RR@10", "AP", "P@1", "hit@5")


def split_measures(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Measures of what is retrieved, and of what is answered, by the names of their columns.

    Raises:
        SettingsError: a name is neither.
    """
    from rag_lab.errors import SettingsError
    from rag_lab.evaluation.answers import MEASURES, REFUSED
    from rag_lab.evaluation.ranking import Ranking, score_ranking

    ranking, answering = list[str](), list[str]()
    for name in dict.fromkeys(names):
        column = next((each for each in MEASURES if each.partition("(")[0] == name), name)
        if column in MEASURES or column in REFUSED:
            answering.append(column)
            continue
        try:
            score_ranking(Ranking({}), {}, [name])
        except SettingsError:
            raise SettingsError(_unknown(name, [*_RANKING, *MEASURES])) from None
        ranking.append(name)
    return ranking, answering


def _unknown(name: str, known: Sequence[str]) -> str:
    folded = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return f"measure {name!r} is unknown; {hint}Known are {', '.join(known)}."


@dataclass(frozen=True, slots=True)
class Bound:
    """What the mean of a measure may not be worse than."""

    measure: str
    value: float
    lower_is_better: bool

    def missed_by(self, mean: float) -> bool:
        """Whether a mean is worse; one that does not exist is incomplete, not worse."""
        return mean > self.value if self.lower_is_better else mean < self.value


def read_bounds(given: Iterable[str], measures: Sequence[str]) -> list[Bound]:
    """The bounds that are given as MEASURE=VALUE.

    Raises:
        typer.BadParameter: one has another form, or its measure is not asked for.
    """
    from rag_lab.evaluation.answers import MEASURES

    bounds = []
    for text in given:
        name, _, value = text.rpartition("=")
        columns = [each for each in measures if name in (each, each.partition("(")[0])]
        if not columns or not re.fullmatch(r"[01]?\.?\d+|1\.", value):
            raise typer.BadParameter(
                f"{text!r}; expected MEASURE=VALUE with one of {', '.join(measures)} and a value "
                "from 0 to 1, e.g. nDCG@10=0.8",
                param_hint="--fail-below",
            )
        known = MEASURES.get(columns[0])
        lower = known is not None and known.better == "lower"
        bounds.append(Bound(columns[0], float(value), lower))
    return bounds


def missed_bounds(
    found: Evaluation, bounds: Iterable[Bound], systems: Sequence[str]
) -> list[dict[str, Any]]:
    """The bounds that a mean is worse than."""
    return [
        {"system": name, "measure": bound.measure, "mean": mean.value, "bound": bound.value}
        for bound in bounds
        for name in systems
        for mean in [found.mean(name, bound.measure)]
        if bound.missed_by(mean.value)
    ]
