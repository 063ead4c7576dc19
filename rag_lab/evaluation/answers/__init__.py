"""Scores of answers by name: RAGAS' measures and the lab's own, and what each of them needs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rag_lab.errors import SettingsError
from rag_lab.evaluation.answers import citations, own, ragas_free
from rag_lab.evaluation.answers.base import Invalid
from rag_lab.evaluation.answers.ragas_judged import NEEDS, Judged
from rag_lab.evaluation.scores import Measure

if TYPE_CHECKING:
    from rag_lab.gateway.llama import GatewayLLM
    from rag_lab.models import Embedder

__all__ = ["MEASURES", "REFUSED", "Known", "measures_named"]

_UNSPACED = ("bo", "dz", "km", "lo", "my", "th")
"""Languages written without spaces that the analyser does not split into words."""


@dataclass(frozen=True, slots=True)
class Given:
    """What measures are made from."""

    language: str
    embedder: Embedder | None = None
    judge: GatewayLLM | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A measure that can be asked for.

    Attributes:
        what: it says, in one sentence.
        source: whose it is.
        make: it.
        needs: "embedder", "judge" or both.
        only_for: languages that it is valid for; empty: all but those of `not_for`.
        not_for: languages that it says nothing in.
        better: which way.
    """

    what: str
    source: Literal["ragas", "rag-lab"]
    make: Callable[[Given], Measure]
    needs: tuple[str, ...] = ()
    only_for: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    better: Literal["higher", "lower"] = "higher"

    def invalid_in(self, language: str) -> str:
        """Why it says nothing of a corpus in a language; "" if it does."""
        if self.only_for and language not in self.only_for:
            return f"not valid for {language!r}: it is for {', '.join(self.only_for)}"
        if language in self.not_for:
            return f"not valid for {language!r}: its words are not split"
        return ""


def _judged(name: str) -> Callable[[Given], Measure]:
    def make(given: Given) -> Measure:
        assert given.judge is not None
        return Judged(name, given.judge, embedder=given.embedder, language=given.language)

    return make


def _semantic_similarity(given: Given) -> Measure:
    assert given.embedder is not None
    return ragas_free.semantic_similarity(given.embedder)


_FREE: dict[str, Known] = {
    "id_based_context_precision": Known(
        "share of the retrieved documents that are gold",
        "ragas",
        lambda given: ragas_free.context_precision(),
    ),
    "id_based_context_recall": Known(
        "share of the gold documents that were retrieved",
        "ragas",
        lambda given: ragas_free.context_recall(),
    ),
    "rouge_score(mode=fmeasure)": Known(
        "ROUGE-L F1 of answer and reference, over stems of the corpus language",
        "ragas",
        lambda given: ragas_free.rouge(given.language),
        not_for=_UNSPACED,
    ),
    "chrf_score": Known(
        "chrF of answer and reference, over characters", "ragas", lambda given: ragas_free.chrf()
    ),
    "exact_match": Known(
        "whether the answer is the reference", "ragas", lambda given: ragas_free.exact_match()
    ),
    "string_present": Known(
        "whether the reference stands in the answer",
        "ragas",
        lambda given: ragas_free.string_present(),
    ),
    "semantic_similarity": Known(
        "cosine of the vectors of answer and reference",
        "ragas",
        _semantic_similarity,
        needs=("embedder",),
    ),
}
_ASKED_FOR = {
    "faithfulness": "share of the answer's statements that follow from the passages",
    "answer_relevancy": "how near questions guessed from the answer are to the one asked",
    "context_precision": "average precision of the passages, judged by the reference",
    "context_recall": "share of the reference's statements that the passages hold",
    "factual_correctness": "F1 of the claims of answer and reference",
    "noise_sensitivity": "share of the answer's statements that are wrong and come from passages",
    "answer_correctness": "F1 of the statements of answer and reference, and their cosine",
}
_JUDGED = {
    name: Known(
        what,
        "ragas",
        _judged(name),
        needs=("judge", "embedder") if NEEDS[name].embedder else ("judge",),
        better="lower" if name == "noise_sensitivity" else "higher",
    )
    for name, what in _ASKED_FOR.items()
}
_LAW: dict[str, Known] = {
    name: Known(what, "rag-lab", make, only_for=("id",))
    for name, what, make in (
        (
            "citation_precision",
            "share of the cited Pasal that are gold",
            lambda given: citations.citation_precision(),
        ),
        (
            "citation_recall",
            "share of the gold Pasal that are cited",
            lambda given: citations.citation_recall(),
        ),
        (
            "citation_exact_match",
            "whether exactly the gold Pasal and ayat are cited",
            lambda given: citations.citation_exact_match(),
        ),
        (
            "citation_in_context",
            "share of the citations that exist in the passages",
            lambda given: citations.citation_in_context(),
        ),
    )
}
_OWN: dict[str, Known] = {
    "answer_contains": Known(
        "share of the expected strings in the answer",
        "rag-lab",
        lambda given: own.answer_contains(),
    ),
    "completeness": Known(
        "share of the gold parts that were answered", "rag-lab", lambda given: own.completeness()
    ),
    "refusal_correctness": Known(
        "share refused of what the corpus cannot answer",
        "rag-lab",
        lambda given: own.refusal_correctness(),
    ),
    "wrong_refusal": Known(
        "share refused of what the corpus can answer",
        "rag-lab",
        lambda given: own.wrong_refusal(),
        better="lower",
    ),
}

MEASURES: dict[str, Known] = {**_FREE, **_JUDGED, **_LAW, **_OWN}
"""Every measure of an answer, by the name of its column."""

_STRINGS = "it compares texts of passages, so it changes with the size of the chunks; use {}"
REFUSED: dict[str, str] = {
    "bleu_score": "RAGAS' BLEU is wrong for answers of several sentences; use chrf_score",
    "non_llm_context_recall": _STRINGS.format("id_based_context_recall"),
    "non_llm_context_precision_with_reference": _STRINGS.format("id_based_context_precision"),
}
"""What RAGAS has and this lab does not offer, and why."""

_SHORT = {"rouge_score": "rouge_score(mode=fmeasure)", "rouge_l": "rouge_score(mode=fmeasure)"}


def measures_named(
    names: Iterable[str],
    *,
    language: str,
    embedder: Embedder | None = None,
    judge: GatewayLLM | None = None,
) -> list[Measure]:
    """The measures of some names, in their order.

    Args:
        names: of `MEASURES`.
        language: of the corpus, ISO 639-1. A measure that is not valid for it scores nothing and
            says why.
        embedder: for those that compare vectors.
        judge: for those that ask one.

    Raises:
        SettingsError: a name is unknown or refused, or what it needs is not given.
    """
    given = Given(language, embedder, judge)
    return [_made(_SHORT.get(name, name), given) for name in names]


def _made(name: str, given: Given) -> Measure:
    if name in REFUSED:
        raise SettingsError(f"measure {name!r} is not offered: {REFUSED[name]}.")
    if name not in MEASURES:
        raise SettingsError(f"measure {name!r} is unknown; {_nearest(name, [*MEASURES])}.")
    known = MEASURES[name]
    if reason := known.invalid_in(given.language):
        return Invalid(name, reason)
    for need in known.needs:
        if getattr(given, need) is None:
            raise SettingsError(f"measure {name!r} needs {_HOW[need]}.")
    return known.make(given)


_HOW = {
    "judge": "a judge: set RAG_LAB_LLM_MODEL and build_models(settings).llm, or name a judge",
    "embedder": "an embedder: the one of the index (index.embedder) will do",
}


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
