"""`compare`: every system is asked every question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rag_lab.corpora import Corpus
from rag_lab.errors import SettingsError
from rag_lab.evaluation.compare.asking import (
    Asking,
    System,
    ask_system,
    check_systems,
    questions_for,
)
from rag_lab.evaluation.compare.comparison import Comparison
from rag_lab.evaluation.scores import Measure


async def compare(
    systems: Mapping[str, System],
    corpus: Corpus,
    measures: Sequence[str | Measure] = ("RR@10", "R@5", "nDCG@10"),
    *,
    baseline: str,
    repeats: int = 1,
    progress: Callable[[str], None] = lambda system: None,
) -> Comparison:
    """Asks every system every question of a corpus and scores what it returns.

    Nothing is kept on disk: `evaluate` does that, and its tables go into a `Comparison`, too.

    Args:
        systems: by name; retrievers (anything that ranks documents) or query engines.
        corpus: its questions with judgements are asked, for measures of answers all of them.
        measures: in `ir_measures` notation for retrievers, `Measure`s for query engines.
        baseline: the system that the others are compared with.
        repeats: how often each question is asked, to tell the variance of questions from that of
            generation.
        progress: called with the name of each system when its turn comes.

    Raises:
        SettingsError: the baseline is not among the systems, one of them cannot be scored with
            these measures, no question is judged, or `repeats` is below 1.
    """
    if baseline not in systems:
        raise SettingsError(f"baseline {baseline!r} is not among {', '.join(systems)}.")
    if repeats < 1:
        raise SettingsError(f"repeats must be at least 1, got {repeats}.")
    questions = questions_for(corpus, measures)
    check_systems(systems, measures)
    askings: dict[str, list[Asking]] = {}
    for name, system in systems.items():
        progress(name)
        askings[name] = [
            await ask_system(system, questions, corpus, measures, repeat)
            for repeat in range(repeats)
        ]
    first = {name: runs[0] for name, runs in askings.items()}
    return Comparison(
        corpus.name,
        baseline,
        {name: run.table for name, run in first.items()},
        {name: run.ranking for name, run in first.items() if run.ranking is not None},
        kinds={question.id: question.kind for question in questions},
        repeats={name: [run.table for run in runs[1:]] for name, runs in askings.items()},
        latency_s={name: run.latency_s for name, run in first.items()},
    )
