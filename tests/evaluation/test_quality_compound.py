"""Compound and multi-hop measures: how their sets are made, what counts, and the real figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.schema import Document

from rag_lab.asking.decompose import RuleDecomposer
from rag_lab.corpora import Corpus
from rag_lab.corpora.base import in_memory
from rag_lab.evaluation.quality.compound import (
    BOTH,
    WHOLE,
    both_found,
    compound,
    compound_questions,
    is_single,
    left_whole,
)
from rag_lab.evaluation.quality.figures import Figures
from rag_lab.evaluation.quality.multihop import filled_steps, multihop
from rag_lab.evaluation.ranking import Ranking
from rag_lab.records import Part, Question

SKIPPED = "the corpus is not on this machine (set RAG_LAB_DATA)"

ARTICLES = {
    "1": "Dalam Undang-Undang ini yang dimaksud dengan:\n1. Syahbandar adalah pejabat pelabuhan.\n"
    "2. Dermaga adalah tempat kapal bertambat.",
    "2": "(1) Syahbandar mempunyai tugas menjaga pelabuhan.",
    "3": "Setiap kapal membayar retribusi.",
    "4": "Dermaga dibangun oleh pemerintah kota.",
}


def harbour_law() -> Corpus:
    documents = [
        Document(
            id_=f"uu-2031-7#pasal-{number}",
            text=text,
            metadata={"doc": "uu-2031-7", "law": "UU 7/2031", "pasal": number},
        )
        for number, text in ARTICLES.items()
    ]
    return in_memory("harbour", documents, language="id")


def single(key: str, text: str, pasal: str, **more: object) -> Question:
    return Question(key, text, relevant_ids=(f"uu-2031-7#pasal-{pasal}",), **more)  # type: ignore[arg-type]


SINGLES = (
    single("a", "Siapa yang membayar retribusi menurut UU 7/2031?", "3"),
    single("b", "Siapa yang membangun dermaga?", "4"),
)


def test_neighbours_with_other_gold_are_joined_and_both_golds_are_kept() -> None:
    asked = compound_questions(harbour_law(), SINGLES)
    joined = [question for question in asked if question.kind == "joined"]
    assert len({question.id for question in asked}) == len(asked)
    assert any({"a", "b"} & {*question.id.split("-")} for question in joined)
    for question in joined:
        assert question.id.startswith("compound-")
        first, second = question.parts
        assert not {*first.relevant_ids} & {*second.relevant_ids}
        assert question.relevant_ids == (*first.relevant_ids, *second.relevant_ids)
        assert question.text.endswith("?")
        assert question.text.count("UU 7/2031") <= 2


def test_a_term_and_what_one_article_says_of_it_are_an_ellipsis() -> None:
    (asked,) = [q for q in compound_questions(harbour_law(), ()) if q.kind == "ellipsis"]
    assert asked.relevant_ids == ("uu-2031-7#pasal-1", "uu-2031-7#pasal-2")
    assert asked.text.count("Syahbandar") == 1
    assert "tugas" in asked.text
    assert asked.parts[1] == Part("Apa tugas Syahbandar menurut UU 7/2031?", ("uu-2031-7#pasal-2",))


def test_the_set_is_the_same_every_time() -> None:
    assert compound_questions(harbour_law(), SINGLES) == compound_questions(harbour_law(), SINGLES)


def test_what_is_not_single_or_not_searched_is_not_joined() -> None:
    others = (
        single("cited", "Apa isi Pasal 3 UU 7/2031?", "3", kind="citation"),
        single("parts", "Apa x dan apa y?", "3", parts=(Part("x"), Part("y"))),
        Question("elsewhere", "Apa z?", relevant_ids=("uu-1999-1#pasal-1",)),
        Question("none", "Apa itu?"),
    )
    assert compound_questions(harbour_law(), others) == compound_questions(harbour_law(), ())
    assert not is_single(others[1])
    assert not is_single(Question("two", "?", relevant_groups=("uu-1999-1", "uu-2031-7")))
    assert is_single(others[0])


def test_a_question_counts_only_if_each_part_is_found_in_the_top_ten() -> None:
    asked = [
        Question("q", "?", parts=(Part("x", ("a", "b")), Part("y", ("c",)))),
        Question("r", "?", parts=(Part("x", ("a",)), Part("y", ("c",)))),
        Question("s", "?", parts=(Part("x", ("a",)),)),
    ]
    late = {f"d{place}": 1.0 for place in range(9)}
    run = {"q": {"b": 2.0, "c": 1.0}, "r": {"a": 9.0, **late, "c": 0.5}}
    table = both_found(Ranking(run, {"s": "TimeoutError"}), asked)
    assert table.scores[BOTH] == {"q": 1.0, "r": 0.0}
    assert (table.attempted, table.failed) == (3, 1)


async def test_left_whole_is_counted_by_question() -> None:
    asked = [Question("q", "Apa itu garam?"), Question("r", "Apa itu garam dan apa sanksinya?")]
    assert (await left_whole(RuleDecomposer("id"), asked)).scores[WHOLE] == {"q": 1.0, "r": 0.0}


def test_steps_are_filled_with_the_answers_of_those_before() -> None:
    question = Question("q", "?", parts=(Part("Who made it?"), Part("Where was #1 born?")))
    assert filled_steps(question, {1: "Ada", 2: "here"}) == ("Who made it?", "Where was Ada born?")


@pytest.fixture
def public(real_corpora: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The public corpora, known by name."""
    monkeypatch.setenv("RAG_LAB_DATA", str(real_corpora))
    return real_corpora


async def test_compound_questions_gain_and_single_ones_stay_whole(
    public: Path, tmp_path: Path
) -> None:
    if not (public / "law_id_core").is_dir():
        pytest.skip(f"law_id_core: {SKIPPED}")
    figures = Figures()
    await compound(figures, tmp_path)
    assert all(bar.holds for bar in figures.bars)
    assert all(row.n >= 100 for row in figures.rows if row.set == "compound")
    assert all(row.failed == 0 for row in figures.rows)


async def test_gold_steps_find_more_than_the_whole_question(public: Path, tmp_path: Path) -> None:
    if not (public / "multihop").is_dir():
        pytest.skip(f"multihop: {SKIPPED}")
    figures = Figures()
    await multihop(figures, tmp_path)
    assert all(bar.holds for bar in figures.bars)
    floor = figures.value("musique", "plain BM25, whole", "R@5")
    assert figures.value("musique", "hybrid, in gold steps", "R@5") >= floor + 0.2
