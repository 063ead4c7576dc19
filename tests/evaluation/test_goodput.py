"""Quality under load on servers whose capacity is known, in a time that only passes in sleeps."""

from __future__ import annotations

import asyncio
import json
import math
import random
import selectors
from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import SettingsError
from rag_lab.evaluation import load
from rag_lab.evaluation.goodput import MOST_LEVELS, quality_under_load
from rag_lab.evaluation.levels import (
    PRECISION,
    Level,
    Objective,
    Request,
    bracket,
    next_load,
    queue_grows,
    worse,
)
from rag_lab.evaluation.load import Asked
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.evaluation.speed.goodput import bench_goodput
from rag_lab.evaluation.under_load import UnderLoad
from rag_lab.records import Answer, Part, PartOutcome, Question, Span, Timing, Usage

T = TypeVar("T")
Virtually = Callable[[Coroutine[Any, Any, T]], T]

QUESTIONS = [Question(f"q{n}", f"What is {n}?", answer_contains=(f"<{n}>",)) for n in range(20)]


class Jumping(selectors.SelectSelector):
    """Does not wait: its time jumps to the next timer."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now_s += max(0.0, timeout or 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now_s


@pytest.fixture
def virtually(monkeypatch: pytest.MonkeyPatch) -> Virtually[Any]:
    """Runs work on a virtual clock: exact, and as fast as it can be reckoned."""
    monkeypatch.setattr(load, "clock", lambda: asyncio.get_running_loop().time())

    def run(work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(work)

    return run


class Containment:
    name = "containment"

    async def score(self, sample: Sample) -> Score:
        assert sample.answer is not None
        if not sample.answer.text:
            return Score.none("nothing was said")
        expected = sample.question.answer_contains
        return Score(sum(text in sample.answer.text for text in expected) / len(expected))


class Server:
    """Serves so many at once, each as long: an M/D/c queue if arrivals are a Poisson process.

    With more than `hurries_above` waiting it answers at once, and wrongly.
    """

    def __init__(
        self, servers: int, service_s: float, hurries_above: float = math.inf, **usage: Any
    ) -> None:
        self.capacity_per_s = servers / service_s
        self.asked: list[str] = []
        self._service_s = service_s
        self._free = asyncio.Semaphore(servers)
        self._hurries_above = hurries_above
        self._waiting = 0
        self._usage = Usage(**usage)

    async def __call__(self, question: str, scheduled_at: float) -> Answer:
        self.asked.append(question)
        if self._waiting > self._hurries_above:
            return Answer(question, "Who knows?", "generated")
        began_s = asyncio.get_running_loop().time()
        self._waiting += 1
        async with self._free:
            self._waiting -= 1
            turn_s = asyncio.get_running_loop().time() - began_s
            await asyncio.sleep(self._service_s)
        total_s = turn_s + self._service_s
        spans = Span("queue", 0.0, turn_s), Span("call", turn_s, total_s)
        said = f"It is <{question.removeprefix('What is ').removesuffix('?')}>."
        timing = Timing(total_s, spans=spans)
        return Answer(question, said, "generated", timing=timing, usage=self._usage)


async def tried(server: Any, *levels: float, **more: Any) -> UnderLoad:
    chosen = {"objective": Objective(latency_s=1.0), "duration_s": 20.0, **more}
    return await quality_under_load(
        server, QUESTIONS, Containment(), levels=levels or None, **chosen
    )


@pytest.mark.parametrize(("servers", "service_s"), [(1, 0.02), (4, 0.05), (16, 0.4)])
def test_the_knee_of_a_queue_is_its_capacity(
    virtually: Virtually[UnderLoad], servers: int, service_s: float
) -> None:
    server = Server(servers, service_s)
    done = virtually(tried(server, duration_s=40.0))
    assert done.knee is not None
    assert done.knee.load == pytest.approx(server.capacity_per_s, rel=0.15)
    assert done.knee.good_per_s == pytest.approx(done.knee.load, rel=0.02)
    assert done.knee.quality.value == 1.0
    assert len(done.levels) <= MOST_LEVELS


def test_the_knee_of_users_is_how_many_can_be_served_in_time(
    virtually: Virtually[UnderLoad],
) -> None:
    done = virtually(tried(Server(4, 0.125), mode="closed"))  # n users wait n / 4 · 0.125 s
    assert done.knee is not None
    assert done.knee.load == pytest.approx(32, rel=0.15)
    assert done.knee.load <= 32
    assert done.knee.delivered == pytest.approx(done.knee.load, rel=0.02)
    assert done.knee.good_per_s == pytest.approx(32, rel=0.1)
    assert all(level.load == int(level.load) for level in done.levels)


def test_every_level_asks_every_question(virtually: Virtually[UnderLoad]) -> None:
    server = Server(4, 0.05)
    slow, fast = virtually(tried(server, 0.5, 10.0)).levels
    assert {request.question_id for request in slow.requests} == {q.id for q in QUESTIONS}
    assert (len(slow.requests), slow.window_s) == (20, 40.0)  # longer than asked: all are asked
    assert (len(fast.requests), fast.window_s) == (200, 20.0)
    assert server.asked[:20] == server.asked[20:40]  # in the same order
    assert fast.delivered == pytest.approx(10.0)


def test_a_level_is_stopped_when_its_queue_grows(virtually: Virtually[UnderLoad]) -> None:
    server = Server(4, 0.05)
    (level,) = virtually(tried(server, 3 * server.capacity_per_s)).levels
    assert level.grew
    assert level.window_s < 10
    assert level.planned == 4_800 > len(level.requests)
    assert level.cut_off == level.count("failed") > 100
    assert level.latency_s(0.99) == math.inf
    assert list(level.errors) == ["dropped: the queue was growing"]
    # Good answers in time are those to whom the queue was still short.
    assert 0 < level.good_per_s < server.capacity_per_s
    done = UnderLoad("containment", "open", level.objective, (level,))
    assert done.knee is None
    assert done.verdict().startswith(
        "No level holds (99 % within 1 s): not at 240 questions a second (the queue grew; "
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_busy_queue_is_not_taken_for_a_growing_one(
    virtually: Virtually[UnderLoad], seed: int
) -> None:
    server = Server(4, 0.05)
    (level,) = virtually(tried(server, 0.9 * server.capacity_per_s, seed=seed)).levels
    assert not level.grew
    assert not level.cut_off


def test_a_system_that_fills_up_is_not_taken_for_a_growing_queue(
    virtually: Virtually[UnderLoad],
) -> None:
    (level,) = virtually(tried(Server(10_000, 7.0), 100.0)).levels
    assert not level.grew
    assert level.latency_s(1.0) == pytest.approx(7.0)
    assert level.missed(level) == ("0.0 % in 1 s",)


def test_answers_that_get_worse_bound_the_load_too(virtually: Virtually[UnderLoad]) -> None:
    server = Server(4, 0.05, hurries_above=2)
    light, heavy = virtually(tried(server, 10.0, 400.0)).levels
    assert heavy.in_time == 1.0
    assert heavy.good_per_s < light.quality.value * heavy.load / 2
    done = UnderLoad("containment", "open", heavy.objective, (light, heavy))
    assert done.knee is light
    (reason,) = done.missed(heavy)
    assert reason.startswith("answers got worse: ")
    assert reason.endswith(" questions lost, 0 won")


async def fails_often(question: str, scheduled_at: float) -> Answer:
    number = int(question.removeprefix("What is ").removesuffix("?"))
    if number < 5:
        raise ValueError("no luck")
    if number < 10:
        part = Part(question)
        parts = (PartOutcome(part, "answered"), PartOutcome(part, "failed"))
        return Answer(question, f"<{number}>", "generated", parts=parts, degraded=("half",))
    return Answer(question, f"<{number}>" if number < 17 else "", "generated")


def test_what_failed_was_partial_or_has_no_score_is_told(virtually: Virtually[UnderLoad]) -> None:
    done = virtually(tried(fails_often, 2.0, duration_s=10.0))
    (row,) = done.rows()
    assert [row[fate] for fate in ("requests", "answered", "partial", "failed")] == [20, 10, 5, 5]
    assert (row["degraded"], row["errors"]) == (5, {"ValueError: no luck": 5})
    assert (row["quality"], row["coverage"], row["bounds"]) == (1.0, 0.6, "0.600–1.000")
    assert row["in_time"] == 0.75
    assert row["good_per_s"] == pytest.approx(0.7)  # 7 of 20 are complete and score, in 10 s
    assert row["missed"] == "75.0 % in 1 s"


def test_the_figures_can_be_read_and_kept(virtually: Virtually[UnderLoad]) -> None:
    server = Server(8, 0.5, calls=2, prompt_tokens=5, cost_usd=0.01)
    done = virtually(tried(server, 32.0, 4.0))
    data = json.loads(json.dumps(done.to_dict(), allow_nan=False))
    assert data["knee"] == 4.0
    assert [level["load"] for level in data["levels"]] == [4.0, 32.0]
    assert [row["p99_s"] is None for row in data["levels"]] == [False, True]
    assert data["levels"][0]["cost_usd"] == pytest.approx(0.8)
    assert (data["levels"][0]["calls"], data["levels"][0]["tokens"]) == (160, 400)
    assert list(done.frame()["load"]) == [4.0, 32.0]
    lines = done.markdown().splitlines()
    assert lines[0] == done.verdict()
    assert lines[0].startswith("Holds at 4 questions a second (99 % within 1 s), not at 32 ")
    assert "4 good, complete answers a second, containment 1.000, p99 " in lines[0]
    assert lines[0].endswith(" Of 80 requests a single late one decides.")
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_progress_is_told_level_by_level(virtually: Virtually[UnderLoad]) -> None:
    lines: list[str] = []
    virtually(tried(Server(4, 0.05), 10.0, progress=lines.append))
    assert lines == ["10 questions a second: 10 good/s, holds"]


def level_of(latencies_s: list[float], late_s: float = 0.0, rate: float = 10.0) -> Level:
    requests = tuple(
        Request(
            Asked(n, n / rate, n / rate + late_s * n, n / rate + each_s, "answered"),
            f"q{n}",
            "answered",
            Score(1.0),
            Timing(each_s, spans=(Span("queue", 0.0, each_s / 4), Span("call", 0.0, each_s / 2))),
        )
        for n, each_s in enumerate(latencies_s)
    )
    return Level(rate, "open", Objective(), requests, len(requests), len(requests) / rate)


def test_a_load_that_could_not_be_delivered_is_told() -> None:
    assert not level_of([1.0] * 10).missed(level_of([1.0] * 10))
    starved = level_of([2.0] * 10, late_s=0.2)  # the last begins at 0.9 + 1.8 s
    assert starved.delivered == pytest.approx(10 / 2.7)
    assert starved.missed(starved) == ("3.7 of 10 were delivered",)


def test_where_the_time_of_the_slowest_went() -> None:
    level = level_of([0.1] * 995 + [8.0] * 5)
    # Of 1,000 the slowest 10. Queue and call begin together: the call is longer, and holds it.
    assert level.slowest_shares() == pytest.approx({"queue": 0.25, "call": 0.25, "other": 0.5})
    assert level_of([]).slowest_shares() == {}
    nested = [Span("synthesise", 0.0, 4.0), Span("call", 1.0, 3.0)]
    assert Timing(4.0, {}, nested).own_s() == {"synthesise": 2.0, "call": 2.0}


@pytest.mark.parametrize(
    ("lost", "won", "is_worse"),
    [(0, 0, False), (6, 0, False), (7, 0, True), (10, 10, False), (0, 9, False), (14, 3, True)],
)
def test_worse_is_more_than_chance(lost: int, won: int, is_worse: bool) -> None:
    assert worse(lost, won) == is_worse  # seven of seven: p = 1 / 128


def test_growth_is_more_than_chance() -> None:
    arrived = [n / 100 for n in range(1_000)]  # 100 a second for 10 s
    slowly = [(at, 1 + n / 50) for n, at in enumerate(arrived[:450])]  # half as many are done
    at_pace = [(at, at + 1) for at in arrived[:900]]
    assert queue_grows(arrived, slowly, 10.0)
    assert not queue_grows(arrived, at_pace, 10.0)
    assert not queue_grows(arrived, [], 10.0)  # nothing is known of its pace
    assert not queue_grows(arrived[:40], slowly[:10], 0.4)


@pytest.mark.parametrize("seed", range(20))
def test_a_queue_at_its_capacity_is_no_proof(seed: int) -> None:
    rng, done, free_s = random.Random(seed), [], 0.0
    arrived = list(accumulate(rng.expovariate(50) for _ in range(1_000)))
    for at_s in arrived:
        free_s = max(free_s, at_s) + rng.expovariate(50)
        done.append((at_s, free_s))
    assert not queue_grows(arrived, [each for each in done if each[1] <= at_s], at_s)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("now_s", [3.0, 6.0, 9.0])
def test_filling_up_is_no_proof(seed: int, now_s: float) -> None:
    rng = random.Random(seed)
    arrived = [n / 100 for n in range(int(100 * now_s))]
    ends = [(at_s, at_s + rng.lognormvariate(math.log(5), 0.5)) for at_s in arrived]
    assert not queue_grows(arrived, [each for each in ends if each[1] <= now_s], now_s)


@pytest.mark.parametrize(
    ("holds", "whole", "expected"),
    [
        ({4.0: True}, False, 8.0),
        ({4.0: False}, False, 2.0),
        ({4.0: True, 16.0: False}, False, 8.0),
        ({4.0: True, 4.3: False}, False, None),
        ({4.0: True, 8.0: False, 16.0: True}, False, math.sqrt(32)),  # luck above is not believed
        ({1.0: False}, True, None),
        ({3.0: False}, True, 1.0),
        ({2.0: True, 4.0: False}, True, 3.0),
        ({2.0: True, 3.0: False}, True, None),
    ],
)
def test_the_next_load(holds: dict[float, bool], whole: bool, expected: float | None) -> None:
    assert next_load(holds, whole=whole) == (expected and pytest.approx(expected))


@given(knee=st.floats(0.1, 200), first=st.sampled_from([1.0, 7.0]), whole=st.booleans())
def test_any_knee_is_bracketed_in_a_few_levels(knee: float, first: float, whole: bool) -> None:
    holds: dict[float, bool] = {}
    following: float | None = first
    while following is not None:
        assert following not in holds
        holds[following] = following <= knee
        following = next_load(holds, whole=whole)
    held, missed = bracket(holds)
    assert len(holds) <= MOST_LEVELS
    assert missed is not None
    if held is None:
        assert whole
        assert knee < 1
    else:
        assert held <= knee < missed
        assert missed <= held * (1 + PRECISION) + whole


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"questions": []}, "needs questions, got none"),
        ({"levels": []}, "None to look for the knee"),
        ({"levels": [1.0, 0.0]}, "a level must be above 0, got 0.0"),
        ({"duration_s": 0.0}, "duration_s must be above 0"),
        ({"first": -1.0}, "first must be above 0, got -1"),
    ],
)
async def test_what_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    questions = wrong.pop("questions", QUESTIONS)
    with pytest.raises(SettingsError, match=said):
        await quality_under_load(fails_often, questions, Containment(), **wrong)


async def test_the_bench_from_end_to_end() -> None:
    told: list[str] = []
    report = await bench_goodput(
        Containment(), levels=[20.0], questions=10, duration_s=0.5, tell=told.append
    )
    (row,) = report.tables[0].rows
    assert (row["requests"], row["answered"] + row["partial"], row["failed"]) == (10, 10, 0)
    assert (row["cache_hits"], row["coverage"]) == (0, 1.0)
    assert row["calls"] > 10
    assert "call" in row["slowest_shares"]
    assert len(told) == 1
    assert json.dumps(report.to_dict(), allow_nan=False)
