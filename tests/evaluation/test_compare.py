"""Comparisons: arithmetic on five questions that a reader can redo."""

from __future__ import annotations

import math

import pytest
from llama_index.core.schema import Document

from rag_lab.corpora import Corpus, in_memory
from rag_lab.errors import SettingsError
from rag_lab.evaluation import compare
from rag_lab.records import Question


class Fixed:
    """Ranks as it was told; a question it was not told about fails."""

    def __init__(self, ranks: dict[str, list[str]]) -> None:
        self._ranks = ranks

    async def rank_documents(self, query: str, k: int | None = None) -> list[tuple[str, float]]:
        found = self._ranks[query]
        return [(document_id, float(len(found) - place)) for place, document_id in enumerate(found)]


@pytest.fixture
def corpus() -> Corpus:
    questions = [Question(f"q{n}", f"question {n}", relevant_ids=("good",)) for n in range(5)]
    documents = [Document(id_=name, text=name) for name in ("good", "bad")]
    return in_memory("tiny", documents, questions=questions)


def always(first: str, second: str) -> Fixed:
    return Fixed({f"question {n}": [first, second] for n in range(5)})


async def test_means_wins_and_difference(corpus: Corpus) -> None:
    mixed = Fixed(
        {f"question {n}": ["good", "bad"] if n < 2 else ["bad", "good"] for n in range(5)}
    )
    found = await compare(
        {"late": always("bad", "good"), "mixed": mixed}, corpus, ["RR@10"], baseline="late"
    )
    assert found.tables["late"].mean("RR@10") == 0.5
    assert found.tables["mixed"].mean("RR@10") == pytest.approx(0.7)  # (1 + 1 + 3 × 0.5) / 5
    gap = found.difference("mixed", "RR@10")
    assert gap.mean == pytest.approx(0.2)
    assert (gap.wins, gap.ties, gap.losses) == (2, 3, 0)
    assert gap.low <= gap.mean <= gap.high


async def test_five_questions_cannot_be_significant(corpus: Corpus) -> None:
    """Of 2⁵ sign patterns two are as extreme as all-wins: p is 2/32 at the least."""
    systems = {"late": always("bad", "good"), "first": always("good", "bad")}
    found = await compare(systems, corpus, ["RR@10"], baseline="late")
    assert found.difference("first", "RR@10").p_value == pytest.approx(2 / 32)
    assert "cannot be told apart" in found.verdict()


async def test_equal_systems_have_p_one(corpus: Corpus) -> None:
    systems = {"a": always("good", "bad"), "b": always("good", "bad")}
    found = await compare(systems, corpus, ["RR@10"], baseline="a")
    assert found.difference("b", "RR@10").p_value == 1.0


async def test_failed_questions_stay_in_the_table(corpus: Corpus) -> None:
    lame = Fixed({f"question {n}": ["good"] for n in range(3)})
    found = await compare(
        {"whole": always("good", "bad"), "lame": lame}, corpus, ["P@1"], baseline="whole"
    )
    frame = found.frame().set_index("system")
    assert frame.loc["lame", "attempted"] == 5
    assert frame.loc["lame", "failed"] == 2
    assert "5 asked, 2 failed" in found._repr_html_()


async def test_names_are_escaped_in_the_table(corpus: Corpus) -> None:
    systems = {"base": always("good", "bad"), "<b>x</b>": always("bad", "good")}
    found = await compare(systems, corpus, ["P@1"], baseline="base")
    assert "<b>x</b>" not in found._repr_html_()


async def test_worst_questions_come_first(corpus: Corpus) -> None:
    ranks = {f"question {n}": ["good"] for n in range(4)} | {"question 4": ["bad"]}
    systems = {"a": Fixed(ranks), "b": always("good", "bad")}
    found = await compare(systems, corpus, ["RR@10"], baseline="b")
    assert found.worst("a", "RR@10", 1) == [("q4", 0.0)]


async def test_an_unknown_baseline_is_named(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match="'c' is not among a"):
        await compare({"a": always("good", "bad")}, corpus, baseline="c")


async def test_questions_without_judgements_are_an_error() -> None:
    corpus = in_memory("bare", [Document(id_="a", text="a")], questions=[Question("q", "?")])
    with pytest.raises(SettingsError, match="no question with a judgement"):
        await compare({"a": always("good", "bad")}, corpus, baseline="a")


async def test_one_question_has_no_interval() -> None:
    question = Question("q0", "question 0", relevant_ids=("good",))
    corpus = in_memory("one", [Document(id_="good", text="x")], questions=[question])
    systems = {"a": always("good", "bad"), "b": always("bad", "good")}
    found = await compare(systems, corpus, ["P@1"], baseline="a")
    assert all(math.isnan(end) for end in found.interval("a", "P@1"))
