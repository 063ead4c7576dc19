"""RAGAS' measures over real HTTP: every failure is a reasoned score, every call the gateway's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judge import SECRET, SPOILT, TOKENS, Judge
from provider import word_vector
from rag_lab.errors import SettingsError
from rag_lab.evaluation.answers import measures_named
from rag_lab.evaluation.answers.ragas_judged import NEEDS, Judged
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.retry import RetryPolicy
from rag_lab.records import Answer, Passage, Question
from rag_lab.settings import GatewaySettings, Price

EXPECTED = {
    "noise_sensitivity": 0.0,
    # One statement each is right, wrong and left out: F1 .5, weighed 3 to 1 with the cosine.
    "answer_correctness": 0.75 * 0.5
    + 0.25 * float(word_vector("It guides ships.", 64) @ word_vector("Ships.", 64)),
}
CALLS = {
    "faithfulness": 2,
    "answer_relevancy": 3,
    "context_precision": 2,
    "context_recall": 1,
    "factual_correctness": 4,
    "noise_sensitivity": 7,
    "answer_correctness": 3,
}


class Words:
    """An embedder that needs no server."""

    identity = "words"

    async def embed_query(self, text: str) -> np.ndarray:
        return word_vector(text, 64)


@pytest.fixture
def judge() -> Iterator[Judge]:
    with Judge() as server:
        yield server


@pytest.fixture
async def gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Gateway]]:
    monkeypatch.setattr(RetryPolicy, "ceiling_s", lambda policy, failures: 0.005)
    made: list[Gateway] = []

    def opened(**settings: Any) -> Gateway:
        made.append(Gateway(GatewaySettings(**settings), tmp_path / "kept"))
        return made[-1]

    yield opened
    for each in made:
        await each.aclose()


def sample(key: str = "q1", text: str = "It guides ships.", kind: Any = "generated") -> Sample:
    question = Question(key, "the harbour lantern", answer="Ships.", relevant_ids=("d1",))
    passages = tuple(Passage(f"n{n}", f"d{n}", f"A lantern guides {n} ships.", 1.0) for n in (1, 2))
    return Sample(question, Answer(question.text, text, kind, passages))


def measure(name: str, judge: Any, language: str = "en") -> Any:
    [made] = measures_named([name], language=language, embedder=Words(), judge=judge)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("name", sorted(NEEDS))
async def test_a_measure_is_ragas_own_and_its_calls_are_counted(
    name: str, judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    opened = gateway(prices={"judge": Price(input=1.0, output=2.0)})
    score = await measure(name, judge.llm(opened)).score(sample())
    assert score.value == pytest.approx(EXPECTED.get(name, 1.0), abs=1e-6)
    assert judge.judged == opened.usage.calls == CALLS[name]
    asked, written = TOKENS
    assert opened.usage.prompt_tokens == asked * judge.judged
    assert opened.usage.completion_tokens == written * judge.judged
    cost = judge.judged * (asked * 1.0 + written * 2.0) / 1e6
    assert opened.usage.cost_usd == pytest.approx(cost)


@pytest.mark.parametrize(
    ("name", "expected"), [("faithfulness", 0.0), ("context_recall", 0.0), ("context_precision", 0)]
)
async def test_a_bad_verdict_is_a_bad_score(
    name: str, expected: float, judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.verdict = 0
    score = await measure(name, judge.llm(gateway())).score(sample())
    assert score == Score(expected)


@pytest.mark.parametrize("spoil", ["fenced", "thought"])
async def test_json_is_found_in_what_stands_around_it(
    spoil: str, judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.spoil = spoil
    assert await measure("faithfulness", judge.llm(gateway())).score(sample()) == Score(1.0)
    assert judge.judged == 2


@pytest.mark.parametrize("spoil", sorted({*SPOILT} - {"fenced", "thought", "cut off"}))
async def test_a_bad_reply_is_asked_for_again_and_then_a_reason(
    spoil: str, judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.spoil = spoil
    name = "context_recall"
    score = await measure(name, judge.llm(gateway())).score(sample())
    assert score.value is None
    assert score.reason.startswith("asked 3 times, ")
    assert SECRET not in score.reason
    assert judge.judged == 3
    assert SECRET not in judge.asked[2].body["messages"][-1]["content"]


async def test_a_bad_reply_that_is_mended_leaves_no_trace(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.spoil, judge.spoilt = "broken", 2
    assert await measure("context_recall", judge.llm(gateway())).score(sample()) == Score(1.0)
    assert judge.judged == 3


async def test_what_was_cut_off_is_not_asked_for_again(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.spoil = "cut off"
    llm = judge.llm(gateway(), max_tokens=64)
    score = await measure("faithfulness", llm).score(sample())
    assert score.value is None
    assert "cut off at 2048 tokens" in score.reason
    assert SECRET not in score.reason
    assert judge.judged == 1


async def test_fewer_verdicts_than_statements_are_not_taken_for_a_score(
    judge: Judge, gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    import judge as stub

    whole = stub.judgement

    def partial(prompt: str, verdict: int) -> dict[str, Any]:
        made = whole(prompt, verdict)
        if made["statements"] and isinstance(made["statements"][0], str):
            return {"statements": ["one", "two", "three"]}
        return {"statements": made["statements"][:2]}

    monkeypatch.setattr(stub, "judgement", partial)
    score = await measure("faithfulness", judge.llm(gateway())).score(sample())
    assert score == Score.none("asked 3 times, the judge gave 2 verdicts on 3 statements")


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_refusing_provider_is_a_reason(
    status: int, judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.faults.append(status)
    judge.lasting = True
    opened = gateway(question_patience_s=0.3)
    score = await measure("faithfulness", judge.llm(opened)).score(sample())
    assert score.value is None
    assert score.reason
    assert "sk-" not in score.reason


async def test_a_provider_that_fails_twice_costs_nothing_but_time(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.faults.extend([429, 500])
    assert await measure("faithfulness", judge.llm(gateway())).score(sample()) == Score(1.0)


async def test_a_provider_that_never_answers_is_a_reason(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.faults.append("hang")
    judge.lasting = True
    opened = gateway(question_patience_s=0.3)
    score = await measure("faithfulness", judge.llm(opened, timeout_s=0.1)).score(sample())
    assert score.value is None
    assert score.reason


async def test_200_rows_in_are_200_rows_out_within_the_gateways_limit(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.wait_s = 0.002
    judge.faults.extend([500, 429, "", "", 500])
    opened = gateway(concurrency=4)
    faithful = measure("faithfulness", judge.llm(opened))
    samples = [sample(f"q{n}", "" if n % 50 == 0 else f"Lantern {n}.") for n in range(200)]
    scores = await asyncio.gather(*map(faithful.score, samples))
    assert len(scores) == 200
    assert [score.value for score in scores].count(1.0) == 196
    assert {score.reason for score in scores if score.value is None} == {"the answer is empty"}
    assert judge.most_at_once <= 4
    assert opened.usage.calls == judge.judged == 2 * 196


async def test_what_cannot_be_judged_is_a_reason_and_costs_nothing(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    faithful = measure("faithfulness", judge.llm(gateway()))
    failed = Sample(sample().question, None, "it broke")
    unfound = Sample(sample().question, Answer("", "Something.", "generated"))
    for given in (failed, unfound, sample(kind="refused"), sample(text=" ")):
        assert (await faithful.score(given)).reason
    assert not judge.judged
    unjudged = Question("q2", "Who?", relevant_ids=("d1",))
    assert not measure("context_recall", judge.llm(gateway())).applies_to(unjudged)


async def test_prompts_are_translated_once(judge: Judge, gateway: Callable[..., Gateway]) -> None:
    faithful = measure("faithfulness", judge.llm(gateway()), language="id")
    assert isinstance(faithful, Judged)
    scores = await asyncio.gather(*(faithful.score(sample(f"q{n}")) for n in range(3)))
    assert scores == [Score(1.0)] * 3
    assert faithful.prompt_language == "id"
    assert sum("TRANSLATOR" in each for each in judge.prompts) == 4
    judged = [each for each in judge.prompts if "TRANSLATOR" not in each]
    assert all(each.startswith("[terjemahan]") for each in judged)
    again = measure("faithfulness", judge.llm(gateway()), language="id")
    assert await again.score(sample()) == Score(1.0)
    assert sum("TRANSLATOR" in each for each in judge.prompts) == 4


async def test_prompts_stay_english_where_the_translation_is_unusable_and_say_so(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    judge.spoil, judge.spoilt = "prose", 3
    faithful = measure("faithfulness", judge.llm(gateway()), language="id")
    assert await faithful.score(sample()) == Score(1.0)
    assert faithful.prompt_language == "en"
    assert "translation is unusable" in faithful.prompt_note


async def test_kept_judgements_are_not_paid_twice_and_repeats_of_a_prompt_are_real(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    first = await measure("answer_relevancy", judge.llm(gateway(), repeat=0)).score(sample())
    assert judge.judged == 3
    second = await measure("answer_relevancy", judge.llm(gateway(), repeat=0)).score(sample())
    assert second == first
    assert judge.judged == 3


async def test_ragas_tells_nobody(judge: Judge, gateway: Callable[..., Gateway]) -> None:
    await measure("faithfulness", judge.llm(gateway())).score(sample())
    assert os.environ["RAGAS_DO_NOT_TRACK"] == "true"


async def test_another_judge_is_another_score(
    judge: Judge, gateway: Callable[..., Gateway]
) -> None:
    llm, warm = judge.llm(gateway()), judge.llm(gateway(), temperature=0.7)
    identities = {measure("answer_relevancy", each).identity for each in (llm, llm, warm)}
    assert len(identities) == 2
    assert all("words" in each and "sk-" not in each for each in identities)


def test_a_judge_and_an_embedder_are_asked_for() -> None:
    with pytest.raises(SettingsError, match="needs a judge"):
        measures_named(["faithfulness"], language="en")
    with pytest.raises(SettingsError, match="needs an embedder"):
        measures_named(["semantic_similarity"], language="en")
