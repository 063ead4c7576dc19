"""The systems that are evaluated: by name, what decides their answers, what they retrieve."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_lab.asking.answer_log import Origin
from rag_lab.corpora import Corpus
from rag_lab.errors import ProviderError, SettingsError
from rag_lab.evaluation.ranking import DocumentRanker, Ranking, rank_questions
from rag_lab.evaluation.score_log import RowLog, digest
from rag_lab.records import Question
from rag_lab.settings import Settings, StageSettings, load_settings
from rag_lab.telemetry import tracing

if TYPE_CHECKING:
    from rag_lab.asking import LabQueryEngine
    from rag_lab.index import LabIndex
    from rag_lab.models import Models

PARTS = "+parts"
"""After the name of a system: its questions are taken apart."""
RETRIEVERS = ("keyword", "dense", "hybrid", "named")
SYSTEMS = (*RETRIEVERS, *(f"{name}{PARTS}" for name in RETRIEVERS))

_DEPTH = 100
_CHUNK = 64
_DECIDING = (
    "retriever", "answerer", "part_answerer", "decomposer", "reranker", "passages", "settings",
    "filters", "others", "fallback", "llm", "language", "max_parts",
)  # fmt: skip
"""Attributes, public or not, of an engine and its parts that decide what is answered."""


def check_systems(names: Sequence[str]) -> None:
    """Raises a `SettingsError` for a name that is unknown, or given twice."""
    for name in names:
        if name not in SYSTEMS:
            near = difflib.get_close_matches(name, SYSTEMS, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise SettingsError(
                f"no system {name!r}; systems are {', '.join(RETRIEVERS)}, each also with "
                f"{PARTS!r}.{hint}"
            )
        if names.count(name) > 1:
            raise SettingsError(f"system {name!r} is given twice; give each once.")


def system_named(
    name: str,
    index: LabIndex,
    models: Models | None = None,
    settings: Settings | None = None,
) -> LabQueryEngine:
    """The engine of a name: how it retrieves, and whether it takes questions apart.

    With "+parts" the settings say who takes them apart, the rules if nobody does.

    Raises:
        SettingsError: the name is unknown.
    """
    from rag_lab.asking import LabQueryEngine
    from rag_lab.asking.decompose import build_decomposer
    from rag_lab.retrieval import DenseRetriever, HybridRetriever, KeywordRetriever, NamedRetriever

    check_systems([name])
    chosen = settings or load_settings()
    classes = dict(
        zip(
            RETRIEVERS,
            (KeywordRetriever, DenseRetriever, HybridRetriever, NamedRetriever),
            strict=True,
        )
    )
    retriever = classes[name.removesuffix(PARTS)](index, chosen.retrieval)
    engine = LabQueryEngine.over(index, models, chosen, retriever)
    if not name.endswith(PARTS):
        engine.decomposer = None
    elif engine.decomposer is None:
        by_rules = chosen.answer.model_copy(update={"decompose": "rules"})
        engine.decomposer = build_decomposer(by_rules, index.analyzer.language, None)
    return engine


def origin_of(engine: LabQueryEngine, corpus: Corpus) -> Origin:
    """What the answers of an engine depend on: the index, the parts it is made of, their settings.

    Known are the classes of this package; of any other part only its class is seen.
    """
    index = getattr(engine.retriever, "index", None)
    snapshot = corpus.fingerprint if index is None else index.id
    return Origin(corpus.name, snapshot, digest(_decides(engine)))


def _decides(part: Any) -> Any:
    from llama_index.core.llms import LLM
    from llama_index.core.vector_stores.types import MetadataFilters

    if part is None or isinstance(part, str | int | float | bool):
        return part
    if isinstance(part, StageSettings):
        return part.fingerprint()
    if isinstance(part, MetadataFilters):
        return part.model_dump(mode="json")
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    if isinstance(part, LLM):
        where = repr(part) if part.class_name() == "GatewayLLM" else ""
        temperature = getattr(part, "temperature", None)
        return [kind, where, part.metadata.model_dump(mode="json"), temperature]
    # An attribute is looked for in the object itself: a property may ask for more than it holds.
    held = vars(part) if hasattr(part, "__dict__") else {}
    given = {name: held.get(name, held.get(f"_{name}")) for name in _DECIDING}
    return [kind, {name: _decides(value) for name, value in given.items() if value is not None}]


class _Undegraded:
    """Ranks as a retriever does; a ranking that had to do without something is none of it."""

    def __init__(self, ranker: DocumentRanker) -> None:
        self._ranker = ranker

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        with tracing() as trace:
            found = await self._ranker.rank_documents(query, k)
        if trace.degraded:
            raise ProviderError("; ".join(trace.degraded))
        return found


def ranker_of(engine: LabQueryEngine) -> DocumentRanker:
    """What ranks documents for an engine: its retriever, for each part of a question if it has any.

    Raises:
        SettingsError: the retriever ranks no documents.
    """
    from rag_lab.asking import PartsRetriever

    retriever: Any = engine.retriever
    if engine.decomposer is not None:
        retriever = PartsRetriever(retriever, engine.decomposer, engine.part_limits)
    if not hasattr(retriever, "rank_documents"):
        raise SettingsError(
            f"{type(retriever).__name__} has no rank_documents, so ranking measures cannot score "
            "it. Leave them out, or give one of rag-lab's retrievers."
        )
    return _Undegraded(retriever)


async def rank_kept(
    engine: LabQueryEngine,
    corpus: Corpus,
    questions: Sequence[Question],
    path: Path,
    told: Callable[[int], None],
) -> Ranking:
    """The documents an engine finds for each question, kept in a log as they are found.

    Args:
        engine: the system.
        corpus: the questions are about.
        questions: asked of the retriever unless the log has what it found.
        path: the log.
        told: called with how many more questions are done.
    """
    ranker, origin = ranker_of(engine), origin_of(engine, corpus)
    keys = {question.id: digest(question.text, str(origin), _DEPTH) for question in questions}
    failed: dict[str, str] = {}
    with closing(RowLog(path)) as log:
        left = iter([question for question in questions if log.find(keys[question.id]) is None])
        told(sum(log.find(key) is not None for key in keys.values()))
        while chunk := list(islice(left, _CHUNK)):
            found = await rank_questions(ranker, chunk, k=_DEPTH)
            failed.update(found.failed)
            await asyncio.gather(
                *(
                    log.add(keys[each], {"question": each, "documents": [*documents.items()]})
                    for each, documents in found.run.items()
                )
            )
            told(len(chunk))
        rows = {question.id: log.find(keys[question.id]) for question in questions}
    run = {key: dict(row["documents"]) for key, row in rows.items() if row is not None}
    return Ranking(run, {key: reason for key, reason in failed.items() if key not in run})
