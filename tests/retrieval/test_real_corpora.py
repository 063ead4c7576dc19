"""What must hold on real corpora: hybrid against its halves, and the bars of the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rag_lab.evaluation.quality.bench import bench

SKIPPED = "the corpus is not on this machine (set RAG_LAB_DATA)"


async def measured(name: str) -> dict[str, Any]:
    """The figures of one set; skips where its corpus is absent."""
    result = await bench([name], tell=lambda line: None)
    if name in result["skipped"]:
        pytest.skip(f"{name}: {SKIPPED}")
    return result


def value(result: dict[str, Any], system: str, measure: str) -> float:
    rows = [r for r in result["figures"] if (r["system"], r["measure"]) == (system, measure)]
    assert len(rows) == 1
    assert rows[0]["failed"] == 0
    return float(rows[0]["value"])


def hybrid_holds(result: dict[str, Any]) -> None:
    better = max(value(result, half, "RR@10") for half in ("dense", "keyword"))
    assert value(result, "hybrid", "RR@10") >= better - 0.005


@pytest.mark.parametrize("name", ["anime", "law"])
async def test_hybrid_is_not_worse_than_its_better_half_on_bundled_corpora(name: str) -> None:
    result = await measured(name)
    hybrid_holds(result)
    assert all(bar["holds"] for bar in result["bars"])
    assert value(result, "hybrid", "RR@10") > 0.75


@pytest.fixture
def public(real_corpora: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The public corpora, known by name."""
    monkeypatch.setenv("RAG_LAB_DATA", str(real_corpora))
    return real_corpora


@pytest.mark.usefixtures("public")
async def test_omnibus() -> None:
    result = await measured("omnibus")
    hybrid_holds(result)
    assert value(result, "hybrid", "RR") >= 0.960
    assert value(result, "hybrid", "P@1") >= 0.945
    assert {row["n"] for row in result["figures"]} == {210}


@pytest.mark.usefixtures("public")
async def test_core_statutes_and_articles() -> None:
    result = await bench(["core-statutes", "core-articles"], tell=lambda line: None)
    if result["skipped"]:
        pytest.skip(f"law_id_core: {SKIPPED}")
    for name in ("core-statutes", "core-articles"):
        part = {"figures": [row for row in result["figures"] if row["set"] == name]}
        hybrid_holds(part)
        if name == "core-statutes":
            assert value(part, "hybrid", "RR@10") >= 0.94
        else:
            assert value(part, "hybrid", "RR@10") >= value(part, "plain BM25", "RR@10")


@pytest.mark.usefixtures("public")
async def test_bundled_anime_questions_among_thousands_of_shows() -> None:
    hybrid_holds(await measured("anime-among-3961"))


@pytest.mark.usefixtures("public")
async def test_the_keyword_engine_meets_a_published_figure() -> None:
    result = await measured("vaswani")
    assert value(result, "plain BM25", "AP") == pytest.approx(0.2965, abs=0.01)
