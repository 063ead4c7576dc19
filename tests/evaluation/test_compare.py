"""Comparisons: arithmetic on five questions that a reader can redo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from llama_index.core.schema import Document

from rag_lab.corpora import Corpus, in_memory
from rag_lab.errors import SettingsError
from rag_lab.evaluation import Comparison, MeasureTable, Ranking, compare, dry_run
from rag_lab.evaluation.scores import Sample, Score, ScoreTable
from rag_lab.records import Answer, Question, Usage


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
    assert found.mean("late", "RR@10").value == 0.5
    assert found.mean("mixed", "RR@10").value == pytest.approx(0.7)  # (1 + 1 + 3 × 0.5) / 5
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


async def test_one_question_says_next_to_nothing() -> None:
    question = Question("q0", "question 0", relevant_ids=("good",))
    corpus = in_memory("one", [Document(id_="good", text="x")], questions=[question])
    systems = {"a": always("good", "bad"), "b": always("bad", "good")}
    found = await compare(systems, corpus, ["P@1"], baseline="a")
    assert found.interval("a", "P@1") == pytest.approx((0.2065, 1.0), abs=1e-3)
    assert "no p below 1.000: 1 differ" in found.verdict()


def table(*values: float | None, measure: str = "found", prefix: str = "q") -> ScoreTable:
    scores = {
        f"{prefix}{n}": Score(value) if value is not None else Score.none("cut off")
        for n, value in enumerate(values)
    }
    return ScoreTable(dict.fromkeys(scores, "answered"), {measure: scores})


def compared(tables: Mapping[str, ScoreTable], **others: object) -> Comparison:
    return Comparison("made up", "base", tables, **others)  # type: ignore[arg-type]


def test_a_clear_difference_is_told_with_all_its_figures() -> None:
    tables = {"base": table(*[0.2] * 30), "new": table(*[0.5, 0.6] * 15)}
    latency_s = {name: dict.fromkeys(("q0", "q1"), s) for name, s in (("base", 1), ("new", 1.012))}
    found = compared(tables, latency_s=latency_s)
    assert found.verdict().startswith("new scores higher than base: found +.350 [.33")
    assert found.verdict().endswith("], p < .001, 30 questions; latency +12 ms.")
    assert found.difference("new", "found").effect == pytest.approx(0.35 / 0.05 * (29 / 30) ** 0.5)


def test_a_difference_is_corrected_for_the_comparisons_made() -> None:
    """Eight wins of eight: 2/2⁸ alone; of five such comparisons Holm makes it 10/2⁸."""
    tables = {"base": table(*[0.2] * 8)}
    tables |= {f"new {n}": table(*[0.6, 0.7] * 4) for n in range(5)}
    gap = compared(tables).difference("new 0", "found")
    assert (gap.p_value, gap.p_adjusted, gap.comparisons) == (2 / 2**8, 10 / 2**8, 5)
    many = tables | {f"more {n}": table(*[0.6, 0.7] * 4) for n in range(5)}
    assert compared(tables).difference("new 0", "found").significant
    assert not compared(many).difference("new 0", "found").significant


def test_five_differing_questions_show_no_p() -> None:
    found = compared({"base": table(*[0.0] * 9), "new": table(*[1.0] * 5, *[0.0] * 4)})
    assert math.isnan(found.frame().set_index("system").loc["new", "p_value"])
    assert "no p below .062: 5 differ" in found.markdown()
    assert found.verdict().startswith("new and base cannot be told apart here")


def test_missing_scores_that_could_turn_the_order_refuse_it() -> None:
    tables = {"base": table(*[0.4, 0.48] * 10), "new": table(*[0.9] * 10, *[None] * 10)}
    found = compared(tables)
    mean = found.mean("new", "found")
    assert (mean.coverage, mean.low, mean.high) == pytest.approx((0.5, 0.45, 0.95))
    assert found.decisive("new", "found")  # .45 at worst, the baseline has .44
    worse = compared(tables | {"new": table(*[0.8] * 10, *[None] * 10)})
    assert not worse.decisive("new", "found")
    assert worse.verdict().startswith("the order is not decisive: found of new lies between .400")
    assert "not decisive" in worse._repr_html_()
    assert "10 of 20 unscored, mean within .400 – .900" in worse._repr_html_()


def test_systems_without_a_common_score_have_no_verdict() -> None:
    found = compared({"base": table(None, None), "new": table(0.5, 0.5)})
    assert found.verdict() == "new and base have no question with a score for found."
    assert math.isnan(found.difference("new", "found").mean)
    assert "| – |" in found.markdown()


def test_a_baseline_alone_has_a_table() -> None:
    found = compared({"base": table(0.0, 1.0)})
    assert "stands alone" in found.markdown()


def test_kinds_are_a_family_of_their_own() -> None:
    tables = {"base": table(*[0.2] * 24), "new": table(*[0.6, 0.7] * 6, *[0.2] * 12)}
    kinds = {f"q{n}": "easy" if n < 12 else "hard" for n in range(24)}
    found = compared(tables, kinds=kinds)
    assert found.difference("new", "found").comparisons == 1
    easy, hard = (found.difference("new", "found", kind) for kind in ("easy", "hard"))
    assert (easy.pairs, easy.p_adjusted) == (12, 2 * 2 / 2**12)
    assert (hard.mean, hard.p_adjusted, hard.comparisons) == (0.0, 1.0, 2)
    assert hard.low < 0 < hard.high
    frame = found.by_kind.frame()
    assert list(frame["kind"]) == ["easy", "easy", "hard", "hard"]
    assert "| easy | found | new |" in found.by_kind.markdown()


def test_repeats_count_once_and_show_the_variance_of_generation() -> None:
    first, second = table(0.2, 0.6), table(0.4, 0.8)
    found = compared({"base": first, "new": first}, repeats={"base": [second], "new": [second]})
    assert found.mean("new", "found").value == pytest.approx(0.5)
    assert found.difference("new", "found").pairs == 2
    row = found.variance().set_index("system").loc["new"]
    assert row["question_variance"] == pytest.approx(0.07)
    assert row["generation_variance"] == pytest.approx(0.02)
    assert compared({"base": first, "new": first}).variance().empty


def test_questions_needed_follow_the_spread_seen() -> None:
    found = compared({"base": table(*[0.2] * 30), "new": table(*[0.1, 0.4] * 15)})
    gap = found.difference("new", "found")
    assert gap.spread == pytest.approx(0.15 * (30 / 29) ** 0.5)
    assert gap.questions_needed(gap.detectable) in (30, 31)
    assert (
        f"differences below .0{round(gap.detectable * 1000)} are out of their reach"
        in found.verdict()
    )


def test_failed_rankings_keep_their_reasons() -> None:
    """Tables of ranking measures go in as they are."""
    tables = {name: MeasureTable({"P@1": {"q0": 1.0}}, 2, 1) for name in ("base", "new")}
    rankings = {name: Ranking({"q0": {}}, {"q1": "refused"}) for name in tables}
    found = Comparison("made up", "base", tables, rankings)
    assert found.score_tables["new"][0].unscored("P@1") == {"q1": "refused"}
    assert found.mean("new", "P@1").coverage == 0.5


def test_markdown_is_escaped() -> None:
    found = compared({"base": table(0.5), "a|b\n<i>": table(0.5)})
    assert "| a\\|b &lt;i&gt; |" in found.markdown()


class Answers:
    """Answers everything but what it was told to fail at; the first call of a question counts."""

    def __init__(self, *failing: str) -> None:
        self._failing = failing
        self.asked: list[str] = []

    async def ask(self, question: str) -> Answer:
        self.asked.append(question)
        if question in self._failing:
            raise TimeoutError("too late")
        return Answer(question, "good", "generated", usage=Usage(calls=1, cost_usd=0.01))


class Length:
    """Full marks for an answer of four letters; one question cannot be scored."""

    name = "length"

    async def score(self, sample: Sample) -> Score:
        if sample.question.id == "q1":
            raise ValueError("no JSON")
        return Score(float(sample.answer is not None and len(sample.answer.text) == 4))


async def test_engines_are_compared_by_measures_of_answers(corpus: Corpus) -> None:
    systems = {"whole": Answers(), "lame": Answers("question 3")}
    found = await compare(systems, corpus, [Length()], baseline="whole", repeats=2)
    assert systems["whole"].asked == [f"question {n}" for n in range(5)] * 2
    first = found.score_tables["lame"][0]
    assert first.count("failed") == 1
    assert first.unscored("length") == {
        "q1": "ValueError: no JSON",
        "q3": "TimeoutError: too late",
    }
    assert found.difference("lame", "length").pairs == 3
    assert found.mean("whole", "length").coverage == 0.8


@pytest.mark.parametrize("measures", [[], ["P@1", Length()]])
async def test_measures_of_one_sort_are_needed(
    corpus: Corpus, measures: Sequence[str | Length]
) -> None:
    with pytest.raises(SettingsError, match="not both and not none"):
        await compare({"a": always("good", "bad")}, corpus, measures, baseline="a")


async def test_a_system_that_cannot_be_scored_is_named(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match=r"'a' \(Answers\) has no rank_documents"):
        await compare({"a": Answers()}, corpus, ["P@1"], baseline="a")


async def test_repeats_must_be_positive(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match="repeats must be at least 1, got 0"):
        await compare({"a": Answers()}, corpus, [Length()], baseline="a", repeats=0)


async def test_a_dry_run_asks_two_questions_and_says_what_all_would_take(corpus: Corpus) -> None:
    systems = {"whole": Answers(), "lame": Answers("question 2")}
    found = await dry_run(systems, corpus, [Length()], repeats=10, spread=0.1)
    assert systems["whole"].asked == ["question 0", "question 2"]
    assert found.systems["whole"].whole_usd == pytest.approx(0.02 * 5 * 10 / 2)
    assert found.systems["lame"].problems == ("length: TimeoutError: too late",)
    assert not found.ready
    assert found.cost_usd == pytest.approx(0.5 + 0.25)
    assert "5 questions 10 times through 2 systems" in found.markdown()
    assert "TimeoutError" in found._repr_html_()
    assert list(found.frame()["system"]) == ["whole", "lame"]


async def test_a_dry_run_of_retrievers_has_no_known_cost(corpus: Corpus) -> None:
    systems = {"a": always("good", "bad"), "b": always("bad", "good")}
    found = await dry_run(systems, corpus, ["P@1", "RR@10"])
    assert found.ready
    assert found.comparisons == 2
    assert "cost unknown" in str(found)


async def test_a_dry_run_needs_a_system(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match="got 0 systems"):
        await dry_run({}, corpus, ["P@1"])
