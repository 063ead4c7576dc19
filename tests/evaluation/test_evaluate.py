"""Two passes: what was answered is not asked again, what was scored is not scored again."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from rag_lab.asking import LabQueryEngine
from rag_lab.corpora import Corpus
from rag_lab.errors import ModelError, SettingsError
from rag_lab.evaluation.evaluate import evaluate, score_answers
from rag_lab.evaluation.evaluated import Evaluation
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.evaluation.scoring import Identified
from rag_lab.evaluation.systems import origin_of, system_named
from rag_lab.index import LabIndex
from rag_lab.index.report import Progress
from rag_lab.records import Question, Usage
from rag_lab.retrieval import KeywordRetriever
from rag_lab.settings import load_settings
from rag_lab.telemetry import degrade, spend
from small import FRUITS, corpus_of, indexed

QUESTIONS = (
    Question("q1", "Which fruit is red?", "colour", relevant_ids=("apple",),
             answer_contains=("red",)),
    Question("q2", "Which fruit is yellow?", "colour", relevant_ids=("banana",),
             answer_contains=("yellow",)),
    Question("q3", "Where does the carrot grow?", "place", relevant_ids=("carrot",),
             answer_contains=("under the moon",)),
    Question("q4", "Who was Napoleon Bonaparte?", "unanswerable"),
)  # fmt: skip


class Contains:
    """Whether the expected strings are in the answer; counts, and does as a test tells it."""

    def __init__(self, name: str = "contains") -> None:
        self.name = name
        self.scored: list[str] = []
        self.found: Callable[[Sample], Score] = self._found

    def applies_to(self, question: Question) -> bool:
        return bool(question.answer_contains)

    async def score(self, sample: Sample) -> Score:
        self.scored.append(sample.question.id)
        return self.found(sample)

    def _found(self, sample: Sample) -> Score:
        assert sample.answer is not None
        expected = sample.question.answer_contains
        return Score(float(all(each in sample.answer.text for each in expected)))


class Asking:
    """Counts the questions that engines are asked, and fails for what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.fails: set[str] = set()
        self.degrades: set[str] = set()
        whole = LabQueryEngine._answered

        async def counted(engine: LabQueryEngine, question: str, retrieve: object) -> object:
            self.asked.append(question)
            if question in self.fails:
                raise ModelError("the model refused")
            if question in self.degrades:
                degrade("quoted, not written")
            return await whole(engine, question, retrieve)  # type: ignore[arg-type]

        monkeypatch.setattr(LabQueryEngine, "_answered", counted)


@pytest.fixture
def corpus() -> Corpus:
    return corpus_of(FRUITS, questions=QUESTIONS)


@pytest.fixture
async def index(corpus: Corpus) -> AsyncIterator[LabIndex]:
    with closing(await indexed(corpus)) as index:
        yield index


@pytest.fixture
def systems(index: LabIndex) -> dict[str, LabQueryEngine]:
    return {name: system_named(name, index) for name in ("keyword", "hybrid")}


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    return Asking(monkeypatch)


Systems = dict[str, LabQueryEngine]


async def test_means_fates_and_kinds(systems: Systems, corpus: Corpus, tmp_path: Path) -> None:
    found = await evaluate(
        systems, corpus, [Contains()], out=tmp_path / "out", ranking=["RR@10", "R@1"]
    )
    assert found.measures == ("contains", "RR@10", "R@1")
    mean = found.mean("keyword", "contains")
    assert (mean.value, mean.scored, mean.of) == (pytest.approx(2 / 3), 3, 3)
    assert found.mean("keyword", "RR@10").value == 1.0
    assert found.of_kind("keyword", "contains", "colour").value == 1.0
    assert found.of_kind("keyword", "contains", "place").value == 0.0
    assert math.isnan(found.of_kind("keyword", "contains", "unanswerable").value)
    table = found.tables["keyword"]
    assert (table.attempted, table.count("answered")) == (4, 4)
    assert found.complete
    assert len(found.runs["keyword"].latencies_s) == 4


async def test_other_measures_ask_nothing(
    systems: Systems, corpus: Corpus, asking: Asking, tmp_path: Path
) -> None:
    first, second = Contains(), Contains("other")
    before = await evaluate(systems, corpus, [first], out=tmp_path)
    assert Counter(asking.asked) == {question.text: 2 for question in QUESTIONS}
    asking.asked.clear()
    after = await evaluate(systems, corpus, [first, second], out=tmp_path)
    assert asking.asked == []
    assert Counter(first.scored) == {"q1": 2, "q2": 2, "q3": 2}
    assert Counter(second.scored) == {"q1": 2, "q2": 2, "q3": 2}
    assert after.mean("hybrid", "contains") == before.mean("hybrid", "contains")


async def test_another_judge_scores_again_and_the_first_ones_scores_stay(
    systems: Systems, corpus: Corpus, asking: Asking, tmp_path: Path
) -> None:
    measure = Contains("faithfulness")
    for judge, scored in (("small", 6), ("large", 12), ("small", 12)):
        await evaluate(systems, corpus, [Identified(measure, judge)], out=tmp_path)
        assert len(measure.scored) == scored
    assert len(asking.asked) == 8


async def test_scoring_alone_reads_the_log(
    systems: Systems, corpus: Corpus, asking: Asking, tmp_path: Path
) -> None:
    asked = await evaluate(systems, corpus, [Contains()], out=tmp_path)
    asking.asked.clear()
    scored = await score_answers(["hybrid"], corpus, [Contains("other")], out=tmp_path)
    assert asking.asked == []
    assert scored.mean("hybrid", "other") == asked.mean("hybrid", "contains")
    with pytest.raises(SettingsError, match="nothing was answered"):
        await score_answers(["dense"], corpus, [Contains()], out=tmp_path)


async def test_a_question_that_is_not_in_the_log_counts_as_failed(
    systems: Systems, corpus: Corpus, tmp_path: Path
) -> None:
    await evaluate(systems, corpus, [Contains()], out=tmp_path, questions=QUESTIONS[:2])
    scored = await score_answers(["hybrid"], corpus, [Contains()], out=tmp_path)
    assert scored.tables["hybrid"].count("failed") == 2
    assert scored.tables["hybrid"].unscored("contains") == {"q3": "not answered: it was not asked"}


async def test_what_failed_stays_in_the_table_and_is_tried_again(
    systems: Systems, corpus: Corpus, asking: Asking, tmp_path: Path
) -> None:
    measure = Contains()
    asking.fails = {QUESTIONS[0].text}
    found = await evaluate(systems, corpus, [measure], out=tmp_path)
    mean = found.mean("hybrid", "contains")
    assert (mean.value, mean.scored, mean.of) == (0.5, 2, 3)
    assert (mean.low, mean.high) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found.tables["hybrid"].fates["q1"] == "failed"
    assert "the model refused" in found.tables["hybrid"].unscored("contains")["q1"]
    assert not found.complete
    assert not found.order_is_known("contains")
    assert "the order is not decisive" in found.markdown()
    asking.fails.clear()
    asking.asked.clear()
    again = await evaluate(systems, corpus, [measure], out=tmp_path)
    assert Counter(asking.asked) == {QUESTIONS[0].text: 2}
    assert Counter(measure.scored) == {"q1": 2, "q2": 2, "q3": 2}
    assert again.complete


async def test_what_had_to_do_without_something_is_not_complete(
    systems: Systems, corpus: Corpus, asking: Asking, tmp_path: Path
) -> None:
    asking.degrades = {QUESTIONS[1].text}
    found = await evaluate(systems, corpus, [Contains()], out=tmp_path)
    assert found.runs["keyword"].degraded == 1
    assert not found.complete


async def test_whatever_a_measure_does_no_row_is_lost(
    systems: Systems, corpus: Corpus, tmp_path: Path
) -> None:
    def found(sample: Sample) -> Score:
        spend(Usage(calls=2, prompt_tokens=10))
        if sample.question.id == "q1":
            raise RuntimeError("what the model wrote")
        if sample.question.id == "q2":
            return Score(math.nan)
        return Score.none("cut off")

    measure = Contains()
    measure.found = found
    scored = await evaluate(systems, corpus, [measure], out=tmp_path)
    assert scored.tables["hybrid"].unscored("contains") == {
        "q1": "the measure failed: RuntimeError",
        "q2": "the measure gave nan; expected 0 to 1",
        "q3": "cut off",
    }
    assert scored.runs["hybrid"].judging == Usage(calls=6, prompt_tokens=30)
    rows = [*map(json.loads, (tmp_path / "hybrid" / "scores.jsonl").read_text().splitlines())]
    assert {row["question"] for row in rows} == {"q1", "q2", "q3"}
    assert "what the model wrote" not in str(rows)
    measure.found = measure._found
    mended = await evaluate(systems, corpus, [measure], out=tmp_path)
    assert mended.complete


async def test_what_was_used_is_remembered_with_the_score(
    systems: Systems, corpus: Corpus, tmp_path: Path
) -> None:
    def found(sample: Sample) -> Score:
        spend(Usage(calls=1, cost_usd=0.5))
        return Score(1.0)

    measure = Contains()
    measure.found = found
    for _ in range(2):
        scored = await evaluate(systems, corpus, [measure], out=tmp_path)
        assert scored.runs["hybrid"].judging == Usage(calls=3, cost_usd=1.5)
    assert len(measure.scored) == 6


async def test_rankings_are_kept_too(
    systems: Systems, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await evaluate(systems, corpus, out=tmp_path, ranking=["RR@10"])
    assert not (tmp_path / "hybrid" / "answers.jsonl").exists()
    assert first.tables["hybrid"].attempted == 4

    async def never(*_: object) -> None:
        raise AssertionError("ranked again")

    monkeypatch.setattr(KeywordRetriever, "rank_documents", never)
    again = await evaluate(systems, corpus, out=tmp_path, ranking=["RR@10", "nDCG@3"])
    assert again.mean("keyword", "RR@10") == first.mean("keyword", "RR@10")
    assert again.mean("keyword", "nDCG@3").of == 3


async def test_a_degraded_or_failed_ranking_has_no_score(
    systems: Systems, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = KeywordRetriever.rank_documents

    async def ranked(self: KeywordRetriever, query: str, k: int | None = None) -> object:
        if query == QUESTIONS[0].text:
            degrade("keywords only")
        if query == QUESTIONS[1].text:
            raise ModelError("the model refused")
        return await whole(self, query, k)

    monkeypatch.setattr(KeywordRetriever, "rank_documents", ranked)
    found = await evaluate(systems, corpus, out=tmp_path, ranking=["RR@10"])
    assert found.tables["keyword"].unscored("RR@10") == {
        "q1": "not retrieved: ProviderError: keywords only",
        "q2": "not retrieved: ModelError: the model refused",
    }
    monkeypatch.setattr(KeywordRetriever, "rank_documents", whole)
    assert (await evaluate(systems, corpus, out=tmp_path, ranking=["RR@10"])).complete


async def test_repeats_are_asked_and_scored_each(
    systems: Systems, corpus: Corpus, asking: Asking, tmp_path: Path
) -> None:
    measure = Contains()
    measure.found = lambda sample: Score(float(sample.repeat))
    for _ in range(2):
        found = await evaluate(systems, corpus, [measure], out=tmp_path, repeats=2)
    assert len(asking.asked) == 16
    assert len(measure.scored) == 12
    assert found.tables["hybrid"].attempted == 8
    assert found.mean("hybrid", "contains").value == 0.5
    assert found._by_question("hybrid", "contains") == {"q1": 0.5, "q2": 0.5, "q3": 0.5}
    assert (tmp_path / "hybrid" / "answers-2.jsonl").exists()


async def test_other_settings_are_asked_again(
    index: LabIndex, corpus: Corpus, asking: Asking, tmp_path: Path
) -> None:
    for passages in (3, 2, 3):
        settings = load_settings(answer={"passages": passages})
        engine = system_named("hybrid", index, settings=settings)
        await evaluate({"hybrid": engine}, corpus, [Contains()], out=tmp_path)
    assert len(asking.asked) == 8


def test_what_decides_answers_is_told_apart(index: LabIndex, corpus: Corpus) -> None:
    def origin(name: str = "hybrid", **answer: object) -> str:
        settings = load_settings(answer=answer)
        return origin_of(system_named(name, index, settings=settings), corpus).settings

    assert origin() == origin()
    others = {
        origin(),
        origin("keyword"),
        origin("hybrid+parts"),
        origin("hybrid+parts", max_parts=2),
        origin(passages=2),
        origin(min_support=0.1),
    }
    assert len(others) == 6


async def test_an_origin_does_not_change_while_it_is_asked(
    systems: Systems, corpus: Corpus
) -> None:
    engine = systems["hybrid"]
    before = origin_of(engine, corpus)
    await engine.ask("Which fruit is red?")
    assert origin_of(engine, corpus) == before


async def test_answers_of_different_settings_are_not_mixed(
    index: LabIndex, corpus: Corpus, tmp_path: Path
) -> None:
    for passages, asked in ((3, QUESTIONS), (2, QUESTIONS[:2])):
        engine = system_named(
            "hybrid", index, settings=load_settings(answer={"passages": passages})
        )
        await evaluate({"a": engine}, corpus, [Contains()], out=tmp_path, questions=asked)
    with pytest.raises(SettingsError, match="of 2 different settings"):
        await score_answers(["a"], corpus, [Contains()], out=tmp_path)


async def test_progress_tells_each_stage(systems: Systems, corpus: Corpus, tmp_path: Path) -> None:
    told: list[Progress] = []
    await evaluate(
        systems, corpus, [Contains()], out=tmp_path, ranking=["AP"], progress=told.append
    )
    last = {each.stage: (each.done, each.total) for each in told}
    stages = ("answers", "rankings", "scores")
    assert last == {f"{name}: {stage}": (4, 4) for name in systems for stage in stages}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ranking": ["nDGC@10"]}, "'nDGC@10' is unknown"),
        ({"measures": [Contains(), Contains()]}, "'contains' is given twice"),
        ({"measures": []}, "0 measures"),
        ({"questions": []}, "0 questions"),
        ({"repeats": 0}, "at least 1, got 64 and 0"),
        ({"systems": {"../up": None}}, "cannot be the name of a folder"),
    ],
)
async def test_what_cannot_be_is_said_before_anything_is_asked(
    systems: Systems, corpus: Corpus, asking: Asking, tmp_path: Path,
    changes: dict[str, object], said: str,
) -> None:  # fmt: skip
    arguments = {"systems": systems, "corpus": corpus, "measures": [Contains()], **changes}
    with pytest.raises(SettingsError, match=said):
        await evaluate(**arguments, out=tmp_path)  # type: ignore[arg-type]
    assert asking.asked == []


async def evaluated(systems: Systems, corpus: Corpus, out: Path) -> Evaluation:
    """An evaluation in which keyword is right on every question and hybrid on none."""
    measure = Contains()
    done: list[str] = []

    def found(sample: Sample) -> Score:
        done.append(sample.question.id)
        return Score(float(len(done) <= 3))

    measure.found = found
    return await evaluate(systems, corpus, [measure], out=out)


async def test_differences_are_paired_and_small_numbers_guarded(
    systems: Systems, corpus: Corpus, tmp_path: Path
) -> None:
    found = await evaluated(systems, corpus, tmp_path)
    gap = found.gaps("keyword")["hybrid", "contains"]
    assert (gap.mean, gap.questions) == (-1.0, 3)
    assert math.isnan(gap.p_value), "three questions cannot reach p = .05"
    assert "too few differ" in found.markdown("keyword")
    with pytest.raises(SettingsError, match="baseline 'dense' is not among"):
        found.gaps("dense")


async def test_it_is_plain_data_a_frame_and_markdown(
    systems: Systems, corpus: Corpus, tmp_path: Path
) -> None:
    found = await evaluated(systems, corpus, tmp_path)
    data = json.loads(json.dumps(found.to_dict("keyword"), allow_nan=False))
    hybrid = data["systems"]["hybrid"]["measures"]["contains"]
    assert (hybrid["value"], hybrid["of"], hybrid["difference"]["mean"]) == (0.0, 3, -1.0)
    assert hybrid["dev"]["of"] + hybrid["held_out"]["of"] == 3
    frame = found.frame()
    assert len(frame) == 6
    assert frame.groupby("system")["value"].mean().to_dict() == {"keyword": 1.0, "hybrid": 0.0}
    assert "| contains | keyword | 1.000 |" in found.markdown()
