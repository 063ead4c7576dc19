"""The bundled question sets against the accepted figures in git."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rag_lab.evaluation.quality.bench import bench
from rag_lab.evaluation.quality.figures import losses

ACCEPTED = Path(__file__).parents[2] / "eval" / "baselines" / "quality.json"


@pytest.fixture(scope="module")
def accepted() -> dict[str, list[dict[str, object]]]:
    return json.loads(ACCEPTED.read_text(encoding="utf-8"))


async def test_bundled_sets_are_as_good_as_accepted(
    accepted: dict[str, list[dict[str, object]]],
) -> None:
    result = await bench(["anime", "law"], tell=lambda line: None)
    measured = {row["set"] for row in result["figures"]}
    assert measured == {"anime", "law"}
    # The last digits depend on the linear algebra library of the machine.
    assert losses(result, accepted, tolerance=0.02) == []
    assert [bar for bar in result["bars"] if not bar["holds"]] == []


def test_a_loss_is_told(accepted: dict[str, list[dict[str, object]]]) -> None:
    row = dict(accepted["figures"][0])
    row["value"] = float(str(row["value"])) - 0.1
    (told,) = losses({"figures": [row]}, accepted)
    assert str(row["set"]) in told
    assert "accepted" in told
