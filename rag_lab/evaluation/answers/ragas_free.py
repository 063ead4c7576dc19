"""RAGAS' measures that need no judge, under its names and with its definitions, without its import.

RAGAS takes four seconds and 190 MB to import; these are a line each, and a test compares them with
RAGAS' own. Different here: ROUGE reads the language of the corpus (RAGAS' stems as English, and
scores 0 for any script but Latin), the embedder is asked without holding up the event loop, and
what RAGAS calls NaN is a reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from rag_lab.corpora.analysis import Analyzer
from rag_lab.evaluation.answers.base import (
    AnswerMeasure,
    computed,
    value_of,
    with_documents,
    with_reference,
)
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.models import Embedder
from rag_lab.records import Answer


def context_precision() -> AnswerMeasure:
    """Share of the retrieved documents that are gold; neither rank nor repetition counts."""
    return computed("id_based_context_precision", _context_precision, with_documents)


def context_recall() -> AnswerMeasure:
    """Share of the gold documents that were retrieved."""
    return computed("id_based_context_recall", _context_recall, with_documents)


def exact_match() -> AnswerMeasure:
    """Whether the answer is the reference, to the letter."""
    return computed("exact_match", lambda s, a: _yes(a.text == s.question.answer), with_reference)


def string_present() -> AnswerMeasure:
    """Whether the reference stands in the answer, to the letter."""
    return computed(
        "string_present", lambda s, a: _yes(s.question.answer in a.text), with_reference
    )


def rouge(language: str) -> AnswerMeasure:
    """ROUGE-L, F1, over the stems of the language; function words count, as in ROUGE."""
    analyzer = Analyzer(language, stop_words=None)
    read = partial(_rouge, analyzer)
    return computed("rouge_score(mode=fmeasure)", read, with_reference, analyzer.identity)


def chrf() -> AnswerMeasure:
    """chrF2 of sacrebleu, from 0 to 1 as RAGAS has it; for every language."""
    corpus_chrf = importlib.import_module("sacrebleu").corpus_chrf
    return computed("chrf_score", partial(_chrf, corpus_chrf), with_reference)


def semantic_similarity(embedder: Embedder) -> AnswerMeasure:
    """Cosine between the vectors of answer and reference; negative ones count as 0."""

    async def ask(sample: Sample, answer: Answer) -> Score:
        if not answer.text.strip():
            return Score(0.0)
        # As questions: those of several samples ride in one call, and are kept.
        said = await embedder.embed_query(answer.text)
        wanted = await embedder.embed_query(sample.question.answer)
        return value_of(float(said @ wanted))

    return AnswerMeasure("semantic_similarity", ask, with_reference, embedder.identity)


def rouge_l(said: list[str], wanted: list[str]) -> float:
    """F1 of the longest common subsequence (Lin 2004, ROUGE: a package for automatic evaluation).

    The subsequence is counted with the bits of an integer: Hyyrö 2004, Bit-parallel LCS-length
    computation revisited.
    """
    if not said or not wanted:
        return 0.0
    places: dict[str, int] = {}
    for place, token in enumerate(wanted):
        places[token] = places.get(token, 0) | 1 << place
    everywhere = (1 << len(wanted)) - 1
    unmatched = everywhere
    for token in said:
        matches = unmatched & places.get(token, 0)
        unmatched = ((unmatched + matches) | (unmatched - matches)) & everywhere
    common = len(wanted) - unmatched.bit_count()
    return 2 * common / (len(said) + len(wanted))


def _yes(holds: bool) -> Score:
    return Score(float(holds))


def _retrieved(answer: Answer) -> set[str]:
    return {passage.document_id for passage in answer.passages}


def _context_precision(sample: Sample, answer: Answer) -> Score:
    retrieved = _retrieved(answer)
    if not retrieved:
        return Score.none("nothing was retrieved")
    return Score(len(retrieved & set(sample.question.relevant_ids)) / len(retrieved))


def _context_recall(sample: Sample, answer: Answer) -> Score:
    gold = set(sample.question.relevant_ids)
    return Score(len(gold & _retrieved(answer)) / len(gold))


def _rouge(analyzer: Analyzer, sample: Sample, answer: Answer) -> Score:
    wanted = analyzer.tokens(sample.question.answer)
    if not wanted:
        return Score.none("the reference answer has no words")
    return Score(rouge_l(analyzer.tokens(answer.text), wanted))


def _chrf(corpus_chrf: Callable[..., Any], sample: Sample, answer: Answer) -> Score:
    if not answer.text.strip():
        return Score(0.0)
    return value_of(corpus_chrf([answer.text], [[sample.question.answer]]).score / 100)
