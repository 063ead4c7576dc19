"""TREC files: other tools read from them what our tables say, and ids come back as they were."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.errors import CorpusError, SettingsError
from rag_lab.evaluation.ranking import MeasureTable, Ranking, score_ranking
from rag_lab.evaluation.trec import read_qrels, read_run, write_qrels, write_run

MEASURES = {"RR": "RR", "RR@10": "RR@10", "P@1": "P@1", "R@5": "R@5", "AP": "AP"} | {
    "nDCG@10": "nDCG@10",
    "hit@3": "Success@3",
}
AWKWARD = ["a b", "tab\there", "50%", "%20", "é", "\u3000", "\x00", "line\nbreak", "\ud800", '"#+']


def by_ir_measures(folder: Path) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Means and scores by question that `ir_measures` gives for the files in a folder."""
    qrels = list(ir_measures.read_trec_qrels(str(folder / "qrels")))
    run = list(ir_measures.read_trec_run(str(folder / "run")))
    asked = {name: ir_measures.parse_measure(theirs) for name, theirs in MEASURES.items()}
    means = ir_measures.calc_aggregate(list(asked.values()), qrels, run)
    scores: dict[str, dict[str, float]] = {name: {} for name in asked}
    for metric in ir_measures.iter_calc(list(asked.values()), qrels, run):
        name = next(name for name, measure in asked.items() if measure == metric.measure)
        scores[name][metric.query_id] = metric.value
    return {name: means[measure] for name, measure in asked.items()}, scores


def written(folder: Path, ranking: Ranking, qrels: Mapping[str, Mapping[str, int]]) -> MeasureTable:
    write_run(folder / "run", ranking, "ours")
    write_qrels(folder / "qrels", qrels, asked=ranking.run)
    return score_ranking(ranking, qrels, list(MEASURES))


def test_a_run_line_by_hand(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Ranking({"q 1": {"d%": 2.5, "é": 0.25}}), "our tag")
    assert (tmp_path / "run").read_text() == (
        "q%201 Q0 d%25 1 2.5 our%20tag\nq%201 Q0 %C3%A9 2 0.25 our%20tag\n"
    )


def test_ir_measures_reads_our_table(tmp_path: Path) -> None:
    run = {
        "ties": {"z": 1.0, "gold": 1.0, "a": 1.0, "y": 1.0},
        "nothing": {},
        "missed": {"a": 3.0, "b": 2.0},
        "close": {"b": 0.1 + 1e-12, "gold": 0.1, "a": 0.1 - 1e-12},
        "rising": {"low first": 1.0, "gold": 2.0},
    }
    qrels = {key: {"gold": 2, "a": 0, "other": 1} for key in run}
    table = written(
        tmp_path, Ranking(run, failed={"lost": "ModelError"}), qrels | {"lost": {"x": 1}}
    )
    means, scores = by_ir_measures(tmp_path)
    for name in MEASURES:
        assert means[name] == pytest.approx(table.mean(name), abs=5e-7)
        assert scores[name] == pytest.approx(dict(table.scores[name]), abs=5e-7)
    assert means["RR"] == pytest.approx((1 / 2 + 0 + 0 + 1 / 2 + 1 / 2) / 5)


ids = st.text(min_size=1, max_size=4)
scores = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.floats(-(2.0**99), 2.0**99))
runs = st.dictionaries(ids, st.dictionaries(ids, scores, max_size=8), min_size=1, max_size=5)


@given(runs, st.data())
def test_ir_measures_reads_our_table_of_any_run(run: dict[str, Any], data: st.DataObject) -> None:
    known = st.sampled_from(sorted({key for found in run.values() for key in found} | {"never"}))
    gold = st.dictionaries(known, st.integers(0, 3), min_size=1, max_size=5)
    qrels = {question_id: data.draw(gold) for question_id in run}
    with TemporaryDirectory() as folder:
        table = written(Path(folder), Ranking(run), qrels)
        means, _ = by_ir_measures(Path(folder))
        again = read_run(Path(folder, "run"), asked=run)
        assert read_qrels(Path(folder, "qrels")) == qrels
    assert means == pytest.approx({name: table.mean(name) for name in MEASURES}, abs=5e-7)
    assert {key: list(found) for key, found in again.run.items()} == {
        key: list(found) for key, found in run.items()
    }


@pytest.mark.parametrize("name", AWKWARD)
def test_ids_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", Ranking({name: {name: 1.0}}), name)
    write_qrels(tmp_path / "qrels", {name: {name: 1}})
    assert len((tmp_path / "run").read_text().split()) == 6
    assert read_run(tmp_path / "run").run == {name: {name: 1.0}}
    assert read_qrels(tmp_path / "qrels") == {name: {name: 1}}


def test_scores_that_fall_are_kept(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Ranking({"q": {"a": 12.5, "b": 12.5, "c": 3.0}}), "t")
    (found,) = read_run(tmp_path / "run").run.values()
    assert found["a"] == 12.5
    assert 12.49999 < found["b"] < 12.5
    assert found["c"] == 3.0


def test_files_of_other_tools_are_read(tmp_path: Path) -> None:
    (tmp_path / "run").write_text(
        "\ufeff1 0 low 9 0.5 x\r\n\r\n1\tQ0  high\t4 0.75  x\n2 Q0 5%FF 0 1 x"
    )
    (tmp_path / "qrels").write_text("1 0  high   1\n2 0 low -1\n")
    found = read_run(tmp_path / "run", asked=["1", "2", "3"])
    assert {key: list(documents) for key, documents in found.run.items()} == {
        "1": ["high", "low"],
        "2": ["5%FF"],
        "3": [],
    }
    assert read_qrels(tmp_path / "qrels") == {"1": {"high": 1}, "2": {"low": -1}}


def test_equal_scores_are_read_as_trec_eval_orders_them(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("q Q0 a 1 1 x\nq Q0 b 2 1 x\n")
    assert list(read_run(tmp_path / "run").run["q"]) == ["b", "a"]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e39])
def test_a_score_that_no_file_can_hold_is_refused(score: float, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"score .* of 'd' for 'q' cannot be written"):
        write_run(tmp_path / "run", Ranking({"q": {"d": score}}), "t")


@pytest.mark.parametrize(
    ("question", "document", "tag"), [("", "d", "t"), ("q", "", "t"), ("q", "d", "")]
)
def test_an_empty_column_is_refused(question: str, document: str, tag: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="empty id or tag"):
        write_run(tmp_path / "run", Ranking({question: {document: 1.0}}), tag)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("q Q0 d 1 1.0", r"run:2: expected 'question Q0 document rank score tag', got"),
        ("q Q0 d 1 high t", r"run:2: score 'high' is no finite number"),
        ("q Q0 d 1 nan t", r"run:2: score 'nan' is no finite number"),
        ("q Q0 first 2 1.0 t", r"run:2: document 'first' comes twice for 'q'"),
    ],
)
def test_an_unusable_run_line_is_named(line: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text(f"q Q0 first 1 2.0 t\n{line}\n")
    with pytest.raises(CorpusError, match=told):
        read_run(tmp_path / "run")


def test_unusable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot open .*absent"):
        read_run(tmp_path / "absent")
    (tmp_path / "bytes").write_bytes(b"q 0 \xff 1\n")
    with pytest.raises(CorpusError, match="bytes is not UTF-8"):
        read_qrels(tmp_path / "bytes")
    (tmp_path / "qrels").write_text("q 0 d much\n")
    with pytest.raises(CorpusError, match="qrels:1: grade 'much' is no whole number"):
        read_qrels(tmp_path / "qrels")
