"""The bench of an outage: our answers go on without the models, and say so."""

from __future__ import annotations

from rag_lab.evaluation.speed.outage import bench_outage


async def test_every_question_is_answered_and_marked_while_everything_fails() -> None:
    told: list[str] = []
    report = await bench_outage(documents=60, systems=["ours"], tell=told.append)
    rows = report.tables[0].rows
    assert [row["outage"] for row in rows] == ["503", "refused"]
    assert {(row["system"], row["answered"], row["degraded"]) for row in rows} == {("ours", 20, 20)}
    assert len(report.bars) == 4
    assert len(told) == 2
