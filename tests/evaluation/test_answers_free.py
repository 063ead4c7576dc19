"""Measures without a judge: the numbers of RAGAS, and reasons where it has NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import word_vector
from rag_lab.errors import ModelError, SettingsError
from rag_lab.evaluation.answers import MEASURES, REFUSED, measures_named
from rag_lab.evaluation.answers.ragas_free import rouge_l
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.records import Answer, Part, PartOutcome, Passage, Question

FREE = ("id_based_context_precision", "id_based_context_recall", "exact_match", "string_present")


class Words:
    """An embedder that needs no server."""

    identity = "words"

    async def embed_query(self, text: str) -> np.ndarray:
        if "unembeddable" in text:
            raise ModelError("the text is refused.")
        return word_vector(text, 64)


def sample(
    text: str,
    reference: str = "",
    *,
    gold: tuple[str, ...] = ("d1",),
    found: tuple[str, ...] = (),
    language: str = "en",
    **more: Any,
) -> Sample:
    question = Question("q", "What?", answer=reference, relevant_ids=gold, **more)
    passages = tuple(Passage(f"n{n}", key, "Text.", 1.0) for n, key in enumerate(found))
    return Sample(question, Answer("What?", text, "generated", passages), language=language)


async def score(name: str, given: Sample, language: str = "en") -> Score:
    [measure] = measures_named([name], language=language, embedder=Words())  # type: ignore[arg-type]
    return await measure.score(given)


ids = st.lists(st.sampled_from("abcde"), max_size=6)
words = st.lists(st.sampled_from(["ship", "lantern", "iron", "oil"]), max_size=7)


@given(gold=ids.filter(bool), found=ids, said=words, wanted=words.filter(bool))
async def test_the_numbers_are_those_of_ragas(
    gold: list[str], found: list[str], said: list[str], wanted: list[str]
) -> None:
    from ragas.dataset_schema import SingleTurnSample
    from ragas.metrics._context_precision import IDBasedContextPrecision
    from ragas.metrics._context_recall import IDBasedContextRecall
    from ragas.metrics.collections import ExactMatch, StringPresence

    row = SingleTurnSample(retrieved_context_ids=found, reference_context_ids=gold)
    ours = sample(" ".join(said), " ".join(wanted), gold=tuple(gold), found=tuple(found))
    pair = {"response": " ".join(said), "reference": " ".join(wanted)}
    theirs = (
        await IDBasedContextPrecision()._single_turn_ascore(row, None),
        await IDBasedContextRecall()._single_turn_ascore(row, None),
        (await ExactMatch().ascore(**pair)).value,
        (await StringPresence().ascore(**pair)).value,
    )
    for name, value in zip(FREE, theirs, strict=True):
        got = await score(name, ours)
        assert (got.value is None and got.reason) if math.isnan(value) else got.value == value


@pytest.mark.parametrize(
    ("said", "wanted", "common"),
    [("a b c d", "a c d e", 3), ("a b", "b a", 1), ("a", "b", 0), ("x a x b", "a x b", 3)],
)
def test_rouge_counts_the_longest_common_subsequence(said: str, wanted: str, common: int) -> None:
    one, other = said.split(), wanted.split()
    assert rouge_l(one, other) == 2 * common / (len(one) + len(other))


@given(words, words)
def test_rouge_is_that_of_the_textbook(said: list[str], wanted: list[str]) -> None:
    lengths = np.zeros((len(said) + 1, len(wanted) + 1), int)
    for i, one in enumerate(said):
        for j, other in enumerate(wanted):
            longest = max(lengths[i, j + 1], lengths[i + 1, j])
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if one == other else longest
    both = len(said) + len(wanted)
    assert rouge_l(said, wanted) == (2 * lengths[-1, -1] / both if both else 0)


async def test_rouge_reads_the_language_of_the_corpus() -> None:
    given = sample("Kapalnya berlayar.", "Kapal berlayar")
    assert await score("rouge_score", given, "id") == Score(1.0)
    assert (await score("rouge_score", given, "en")).value != 1.0
    assert await score("rouge_score", sample("灯台守", "灯台守"), "ja") == Score(1.0)


async def test_a_measure_that_is_not_valid_for_a_language_says_so() -> None:
    got = await score("rouge_score", sample("a", "a"), "th")
    assert got == Score.none("not valid for 'th': its words are not split")
    got = await score("citation_recall", sample("a", "a"), "en")
    assert got == Score.none("not valid for 'en': it is for id")


async def test_semantic_similarity_is_the_cosine() -> None:
    assert (await score("semantic_similarity", sample("a ship", "a ship"))).value == pytest.approx(
        1
    )
    far = await score("semantic_similarity", sample("oil", "an iron ship"))
    cosine = float(word_vector("oil", 64) @ word_vector("an iron ship", 64))
    assert far.value == pytest.approx(cosine)
    assert await score("semantic_similarity", sample(" ", "ship")) == Score(0.0)
    refused = await score("semantic_similarity", sample("unembeddable", "ship"))
    assert refused == Score.none("the text is refused.")


async def test_chrf_is_that_of_ragas() -> None:
    from ragas.metrics.collections import CHRFScore

    pair = {"response": "The iron ship. It sank.", "reference": "An iron ship sank."}
    theirs = (await CHRFScore().ascore(**pair)).value
    assert await score("chrf_score", sample(pair["response"], pair["reference"])) == Score(theirs)
    assert await score("chrf_score", sample("", "An iron ship.")) == Score(0.0)


def test_names_are_checked() -> None:
    with pytest.raises(SettingsError, match="did you mean 'exact_match'"):
        measures_named(["exactmatch"], language="en")
    for name in REFUSED:
        with pytest.raises(SettingsError, match="not offered"):
            measures_named([name], language="en")
    assert not {*REFUSED} & {*MEASURES}


def test_columns_have_the_names_that_were_asked_for() -> None:
    names = [name for name, known in MEASURES.items() if not known.needs and name != "chrf_score"]
    assert [measure.name for measure in measures_named(names, language="id")] == names


async def test_what_a_measure_is_not_for_is_a_reason() -> None:
    names = [name for name, known in MEASURES.items() if not known.needs and name != "chrf_score"]
    bare = Sample(Question("q", "What?"), Answer("What?", "Something.", "generated"))
    failed = Sample(Question("q", "What?"), None, "it broke")
    for measure in measures_named(names, language="id"):
        for each in (bare, failed):
            got = await measure.score(each)
            assert got.value is not None or got.reason
    assert await score("refusal_correctness", bare) == Score(0.0)


@pytest.mark.parametrize("text", ["", "\x00", "\ud800", "<b>" * 5_000, "a" * 20_000, "ﬁ 灯" * 999])
async def test_hostile_texts_are_scored_or_refused_with_a_reason(text: str) -> None:
    names = [name for name, known in MEASURES.items() if not known.needs and name != "chrf_score"]
    given = sample(text, text or "x", gold=("uu-2000-1#pasal-1",), answer_contains=(text or "x",))
    for measure in measures_named(names, language="id"):
        got = await measure.score(given)
        assert got.reason if got.value is None else 0 <= got.value <= 1


async def test_expected_strings_are_found_whatever_their_case_and_width() -> None:
    given = sample("Ｔｈｅ  IRON\nship", answer_contains=("the iron ship", "oil"))
    assert await score("answer_contains", given) == Score(0.5)


def outcome(text: str, outcome: Any, *ids: str) -> PartOutcome:
    return PartOutcome(Part(text), outcome, document_ids=ids)


async def test_completeness_is_read_from_the_ledger() -> None:
    parts = (Part("a", ("d1",)), Part("b", ("d2",)), Part("c", ("d3",)))
    question = Question("q", "What?", relevant_ids=("d1", "d2", "d3"), parts=parts)
    ledger = (outcome("a", "answered", "d1", "d9"), outcome("b", "failed", "d2"))
    taken_apart = Answer("What?", "t", "generated", parts=ledger, cited_ids=("d3",))
    assert await score("completeness", Sample(question, taken_apart)) == Score(1 / 3)
    whole = Answer("What?", "t", "generated", cited_ids=("d2", "d3"))
    assert await score("completeness", Sample(question, whole)) == Score(2 / 3)


async def test_refusing_is_right_where_there_is_no_answer_and_wrong_elsewhere() -> None:
    refused = Answer("What?", "No.", "refused")
    unanswerable, answerable = Question("q", "What?"), Question("q", "What?", relevant_ids=("d",))
    assert await score("refusal_correctness", Sample(unanswerable, refused)) == Score(1.0)
    assert await score("wrong_refusal", Sample(answerable, refused)) == Score(1.0)
    assert (await score("refusal_correctness", Sample(answerable, refused))).value is None
