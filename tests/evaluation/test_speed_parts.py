"""What the speed benches are made of: corpus, scenarios, one measurement, tables, bars."""

from __future__ import annotations

import asyncio
import json
import math
from itertools import pairwise

import pytest
from rich.console import Console

from rag_lab.errors import SettingsError
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.speed.corpus import made_up_corpus, made_up_questions, marker
from rag_lab.evaluation.speed.ingest import PROMISES, chosen_systems, summary
from rag_lab.evaluation.speed.measure import measured, rotated, texts_sent, why
from rag_lab.evaluation.speed.scenarios import POISONED, SCENARIOS, Scenario, chosen_scenarios
from rag_lab.evaluation.speed.table import Column, Report, Table, figure, median, ratio, render
from rag_lab.simulate import SimulatorSettings, simulated, tokens_of


def test_the_corpus_is_the_same_every_time_and_of_the_size_that_is_told() -> None:
    texts = [document.text for document in made_up_corpus(300).documents]
    assert texts == [document.text for document in made_up_corpus(300).documents]
    assert texts != [document.text for document in made_up_corpus(300, seed=1).documents]
    assert len(set(texts)) == 300
    assert sum(map(tokens_of, texts)) / 300 == pytest.approx(100, rel=0.05)
    assert made_up_corpus(3).fingerprint == made_up_corpus(3).fingerprint


def test_a_marker_is_in_one_text_alone() -> None:
    texts = [document.text for document in made_up_corpus(1_458).documents]
    for number in POISONED:
        assert [n for n, text in enumerate(texts) if marker(number) in text] == [number]


def test_questions_differ() -> None:
    questions = [*made_up_questions(200, seed=1), *made_up_questions(200, seed=2)]
    assert len(set(questions)) == 400
    assert made_up_questions(3) == made_up_questions(5)[:3]


def test_scenarios_by_name() -> None:
    assert [scenario.name for scenario in chosen_scenarios(["all"], 16)] == list(SCENARIOS)
    plain, limits = chosen_scenarios(["plain", "limits", "plain"], capacity=3)
    assert plain.settings.capacity == 3
    assert limits.settings.capacity == SCENARIOS["limits"].settings.capacity
    with pytest.raises(SettingsError, match="no scenario 'sunny'; there are plain, limits"):
        chosen_scenarios(["sunny"], 16)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_disturbed_scenario_has_an_undisturbed_twin(scenario: Scenario) -> None:
    calm = scenario.undisturbed
    assert (calm is None) == (not scenario.settings.faults)
    assert calm is None or calm == scenario.settings.changed(faults=())


def test_every_promise_is_of_a_scenario() -> None:
    assert {promise.scenario for promise in PROMISES} <= SCENARIOS.keys()


def test_systems_by_a_part_of_their_name() -> None:
    assert chosen_systems(["semaphore", "OURS"]) == ["Semaphore(5)", "Semaphore(10)", "ours"]
    assert len(chosen_systems([])) == 6
    with pytest.raises(SettingsError, match="no system 'theirs'; there are sync batches of 100;"):
        chosen_systems(["theirs"])


def test_every_system_is_first_once() -> None:
    orders = [rotated("abc", by) for by in range(3)]
    assert sorted(order[0] for order in orders) == ["a", "b", "c"]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert rotated([], 1) == []


async def test_a_failure_is_a_result_and_nothing_goes_on_after_it() -> None:
    left: list[asyncio.Task[bool]] = []

    async def fail() -> None:
        left.append(asyncio.create_task(asyncio.Event().wait()))
        raise ValueError("of no use")

    async with simulated() as provider:
        failed = await measured(provider, SimulatorSettings(), fail, budget_s=5)
        late = await measured(provider, SimulatorSettings(), asyncio.Event().wait, budget_s=0.05)
    assert (failed.value, failed.failure) == (None, "ValueError: of no use")
    assert left[0].cancelled()
    assert late.failure == "not done within 0.05 s"
    assert texts_sent(failed.stats) == failed.stats.calls == 0


def test_of_an_http_error_the_status_is_told() -> None:
    class HttpError(Exception):
        status_code = 503

    assert why(HttpError("a long body"), 1) == "HttpError: HTTP 503"
    assert len(why(ValueError("x" * 1_000), 1)) < 100


def run_of(wall_s: float, failure: str = "", **more: object) -> dict[str, object]:
    fields = ("calls", "throttled", "texts_sent", "tokens", "right", "lag_p99_ms", "lag_max_ms")
    told = {"wall_s": wall_s, "failure": failure, "cpu_s": 1.0, "ideal_s": 0.5}
    return {**told, **dict.fromkeys(fields, 2), **more}


def test_a_row_is_the_median_of_what_succeeded_and_says_what_failed() -> None:
    runs = [run_of(1.0), run_of(4.0), run_of(2.0), run_of(99.0, failure="HTTP 429")]
    row = summary("x", runs, mean_s=0.25)
    assert (row["wall_s"], row["range"], row["to_ideal"], row["to_mean_bound"]) == (
        2.0,
        "1.00–4.00",
        4.0,
        8.0,
    )
    assert row["failure"] == "1 of 4: HTTP 429"
    assert summary("x", runs[3:], 0.25)["to_ideal"] is None


def test_a_disturbed_run_is_compared_with_its_own_undisturbed_one() -> None:
    runs = [run_of(2.0, undisturbed_s=1.0), run_of(9.0, undisturbed_s=3.0)]
    assert summary("x", runs, 1)["to_undisturbed"] == 2.5
    alone = summary("x", [run_of(2.0, undisturbed_s=None)], 1)
    assert alone["to_undisturbed"] is None


def test_figures_that_are_missing() -> None:
    assert median([None, 3.0, 1.0, 2.0]) == 2.0
    assert median([None]) is None
    assert ratio(1.0, None) is ratio(None, 1.0) is ratio(1.0, 0.0) is None
    assert not Bar("x", figure(None), 1, "<=").holds
    column = Column("wall_s", "wall s", ".2f")
    assert [column.cell(row) for row in ({"wall_s": 1.0}, {"wall_s": math.nan}, {})] == [
        "1.00",
        "",
        "",
    ]


def test_a_report_is_data_and_can_be_shown() -> None:
    table = Table("a title", (Column("system", "system"),), [{"system": "ours", "x": math.inf}])
    bars = [Bar("fast", 1.0, 2.0, "<="), Bar("sure", math.nan, 1.0, ">=")]
    report = Report("ingest", {"seed": 0}, [table], ["a note"], bars)
    whole = report.to_dict()
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert whole["tables"][0]["rows"] == [{"system": "ours", "x": None}]
    assert [bar["holds"] for bar in whole["bars"]] == [True, False]
    assert not report.holds
    console = Console(width=120)
    with console.capture() as caught:
        console.print(render(report))
    shown = caught.get()
    places = [shown.index(part) for part in ("a title", "ours", "a note", "holds", "MISSED")]
    assert all(earlier < later for earlier, later in pairwise(places))
