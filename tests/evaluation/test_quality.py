"""The bench: its figures, its bars, what it skips and how it is shown."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from rich.console import Console

from rag_lab.errors import SettingsError
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.quality.bench import bench
from rag_lab.evaluation.quality.figures import Figure, Figures, render
from rag_lab.evaluation.quality.indexes import PlainBM25
from rag_lab.settings import PathSettings
from small import files_of, food


def test_a_bar_holds_on_its_side() -> None:
    assert Bar("x", 0.9, 0.9, ">=").holds
    assert not Bar("x", 0.89, 0.9, ">=").holds
    assert Bar("x", 44.9, 45, "<=").holds
    assert not Bar("x", 45.1, 45, "<=").holds
    assert not Bar("x", math.nan, 0.9, ">=").holds


def test_a_figure_is_found_by_its_place() -> None:
    figures = Figures(rows=[Figure("set", "system", "RR", 0.5)])
    assert figures.value("set", "system", "RR") == 0.5
    with pytest.raises(KeyError):
        figures.value("set", "system", "AP")


async def test_the_plain_baseline_ranks_documents() -> None:
    found = await PlainBM25(food()).rank_documents("spiny fruit", 2)
    assert found[0][0] == "durian"
    assert len(found) == 2


async def test_a_set_that_does_not_exist_is_named() -> None:
    with pytest.raises(SettingsError, match="no set 'nonsense'; there are anime, law, omnibus"):
        await bench(["nonsense"], tell=lambda line: None)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """Filled by the first test that needs the figures of the bundled anime corpus."""
    return {}


async def anime(result: dict[str, Any]) -> dict[str, Any]:
    if not result:
        result.update(await bench(["anime"], tell=lambda line: None))
    return result


async def test_figures_name_set_system_measure_and_halves(result: dict[str, Any]) -> None:
    rows = (await anime(result))["figures"]
    assert {row["set"] for row in rows} == {"anime"}
    assert {row["system"] for row in rows} == {"plain BM25", "keyword", "dense", "hybrid", "named"}
    assert {row["measure"] for row in rows} == {"RR@10", "P@1", "R@5", "nDCG@10"}
    for row in rows:
        assert 0 <= row["value"] <= 1
        low, high = sorted([row["dev"], row["held_out"]])
        assert low - 1e-4 <= row["value"] <= high + 1e-4
        assert row["n"] >= 50
        assert row["failed"] == 0


async def test_the_result_is_data_and_can_be_shown(result: dict[str, Any]) -> None:
    whole = await anime(result)
    assert json.loads(json.dumps(whole)) == whole
    assert whole["version"]
    assert whole["settings"]["retrieval"]["fusion"] == "convex"
    console = Console(width=120)
    with console.capture() as caught:
        console.print(render(whole))
    shown = caught.get()
    assert "hybrid" in shown
    assert "anime: hybrid against its better half" in shown
    assert "holds" in shown


async def test_the_bench_leaves_the_users_cache_alone(paths: PathSettings) -> None:
    await bench(["anime"], tell=lambda line: None)
    assert files_of(paths.cache_folder) == {}


@pytest.mark.parametrize("name", ["omnibus", "vaswani", "ingestion", "statute-text"])
async def test_what_is_not_here_is_skipped_with_a_reason(name: str) -> None:
    skipped = await bench([name], tell=lambda line: None)
    assert skipped["figures"] == skipped["bars"] == []
    assert "is not here; set RAG_LAB_DATA" in skipped["skipped"][name]


def test_a_skipped_set_and_a_failed_bar_are_shown() -> None:
    row = {"set": "s", "system": "x", "measure": "RR", "value": 0.5, "dev": None}
    rows = [{**row, "held_out": None, "n": 3, "failed": 1}]
    bars = [{"what": "must", "value": 0.5, "bound": 0.9, "sense": ">=", "holds": False}]
    console = Console(width=120)
    with console.capture() as caught:
        console.print(render({"figures": rows, "bars": bars, "skipped": {"omnibus": "not here"}}))
    assert "MISSED" in caught.get()
    assert "skipped omnibus: not here" in caught.get()
