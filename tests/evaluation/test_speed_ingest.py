"""The ingestion bench from end to end on a small corpus; figures are facts here, never speeds."""

from __future__ import annotations

from typing import Any

import pytest

from rag_lab.errors import SettingsError
from rag_lab.evaluation.speed import peers
from rag_lab.evaluation.speed.corpus import made_up_corpus
from rag_lab.evaluation.speed.ingest import AGAIN, OURS, bench_ingest
from rag_lab.evaluation.speed.table import Report
from rag_lab.simulate import SimulatorSettings, expected_vector, simulated

DOCUMENTS = 250


async def bench(**options: Any) -> Report:
    told: list[str] = []
    report = await bench_ingest(
        **{"documents": DOCUMENTS, "repeats": 1, "tell": told.append, **options}
    )
    assert told[0] == "warming up"
    return report


def rows(report: Report) -> dict[str, dict[str, Any]]:
    return {row["system"]: row for row in report.tables[0].rows}


async def test_all_systems_end_with_an_index_that_is_right() -> None:
    report = await bench()
    found = rows(report)
    assert list(found) == [*peers.INGEST, OURS, AGAIN]
    for name, row in found.items():
        assert row.get("failure", "") == "", name
        assert row["right"] == DOCUMENTS, name
    for name in peers.INGEST:
        assert found[name]["calls"] == 3, name
        assert found[name]["texts_sent"] == DOCUMENTS, name
        assert found[name]["to_ideal"] > 0.5, name
    assert found["sync batches of 100"]["lag_max_ms"] > 400  # two calls of 200 ms at the least
    assert found[AGAIN]["calls"] == 0
    assert {run["system"] for run in report.runs} == set(found)
    assert "calls to ingest it again" in {bar.what for bar in report.bars}


async def test_a_system_that_fails_stays_in_the_table() -> None:
    report = await bench(scenarios=["poison"], only=["Semaphore(5)", "ours"])
    found = rows(report)
    assert found["Semaphore(5)"]["failure"] == "BadRequestError: HTTP 400"
    assert found["Semaphore(5)"]["wall_s"] is None
    assert found[OURS]["right"] == DOCUMENTS - 1  # of the poisoned ones, one is in so few
    assert AGAIN not in found
    (bar,) = [bar for bar in report.bars if bar.what.startswith("poison")]
    assert (bar.bound, bar.holds) == (DOCUMENTS - 1, True)


async def test_items_in_another_order_are_noticed() -> None:
    settings = SimulatorSettings.of({"dimensions": 8, "faults": ({"kind": "order"},)})
    documents = list(made_up_corpus(20).documents)
    async with simulated(settings) as provider:
        index = await peers.semaphore(5)(provider.base_url, documents)
    truth = [expected_vector(document.text, 8) for document in documents]
    right = [bool((index.reconstruct(n) == row).all()) for n, row in enumerate(truth)]
    assert sum(right) < 10


async def test_a_scenario_and_a_system_that_do_not_exist() -> None:
    with pytest.raises(SettingsError, match="no scenario"):
        await bench(scenarios=["sunny"])
