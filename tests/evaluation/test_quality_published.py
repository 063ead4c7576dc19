"""The published run: built again from what its file tells, and its figures met on the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag_lab.corpora import load_corpus
from rag_lab.errors import CorpusError
from rag_lab.evaluation.quality.figures import Figures
from rag_lab.evaluation.quality.published import (
    NAME,
    OURS,
    PUBLISHED,
    THEIRS,
    provisions,
    published,
    rebuilt,
    regulations,
)
from rag_lab.evaluation.ranking import score_ranking
from rag_lab.records import Question

KEYS = {"UU 7/2001": "uu-2001-7", "UU 9/2005": "uu-2005-9"}
SHIP = Question("ship", "Kapal?", relevant_groups=("uu-2001-7",))


def row(key: str, first: int | None, *shown: str) -> dict[str, Any]:
    return {"query_id": key, "first_relevant_rank": first, "top_k_citations": list(shown)}


@pytest.mark.parametrize(
    ("first", "shown", "scores"),
    [
        (1, ("UU 7/2001", "UU 7/2001", "UU 9/2005"), (1, 1, 1)),
        (2, ("UU 9/2005", "UU 7/2001", "PP 1/2000"), (1 / 2, 0, 1)),
        (5, ("UU 9/2005", "UU 9/2005", "PP 1/2000"), (1 / 5, 0, 1)),
        (40, ("UU 9/2005", "UU 9/2005", "PP 1/2000"), (1 / 40, 0, 0)),
        (None, ("UU 9/2005", "UU 9/2005", "PP 1/2000"), (0, 0, 0)),
    ],
)
def test_a_question_is_scored_by_its_places(
    first: int | None, shown: tuple[str, ...], scores: tuple[float, ...]
) -> None:
    ranking, qrels = rebuilt([row("ship", first, *shown)], (SHIP,), KEYS)
    table = score_ranking(ranking, qrels, list(PUBLISHED))
    assert tuple(table.mean(measure) for measure in PUBLISHED) == pytest.approx(scores)


@pytest.mark.parametrize(
    ("first", "shown"),
    [(1, ("UU 9/2005", "UU 7/2001")), (2, ("UU 9/2005", "UU 9/2005")), (None, ("UU 7/2001",))],
)
def test_a_file_that_contradicts_our_gold_is_refused(
    first: int | None, shown: tuple[str, ...]
) -> None:
    with pytest.raises(CorpusError, match=rf"ship: the first relevant place is given as {first}"):
        rebuilt([row("ship", first, *shown)], (SHIP,), KEYS)


def test_a_file_of_other_questions_is_refused() -> None:
    with pytest.raises(CorpusError, match="does not have the 1 questions"):
        rebuilt([row("boat", None)], (SHIP,), KEYS)


def small_omnibus(data: Path) -> None:
    """Two regulations and a question, in the layout of the collection, without the run."""
    folder = data / "law_id_qa_omnibus"
    folder.mkdir()
    law = {"jenis_dokumen": "UU", "nomor": "7", "tahun": "2001", "judul": "Pelabuhan"}
    other = law | {"nomor": "9", "tahun": "2005", "judul": "Bandar Udara"}
    rows = [
        law | {"pasal": "1", "text": "Kapal membayar uang tambat."},
        law | {"pasal": "2", "text": "Nakhoda melapor."},
        other | {"pasal": "1", "text": "Pesawat membayar uang pendaratan."},
    ]
    (folder / "regulations_401.json").write_text(json.dumps(rows))
    asked = {"id": "ship", "question": "Apa yang dibayar kapal?", "category": "factual"}
    gold = {"regulations": ["UU 7/2001"], "expected_answer_contains": []}
    (folder / "golden_qa_001_210.json").write_text(json.dumps([asked | gold]))


async def test_ours_is_judged_on_provisions_as_published(tmp_path: Path) -> None:
    small_omnibus(tmp_path / "data")
    corpus = load_corpus("law_id_qa_omnibus")
    assert regulations(corpus) == KEYS
    assert provisions(corpus) == {"ship": {"uu-2001-7#pasal-1": 1, "uu-2001-7#pasal-2": 1}}
    run = {"per_query": [row("ship", 3, "UU 9/2005", "UU 9/2005", "UU 7/2001")]}
    file = tmp_path / "data" / "law_id_qa_omnibus" / "baseline_jina_v3_210q.json"
    file.write_text(json.dumps(run))
    figures = Figures()
    await published(figures, tmp_path / "cache")
    assert figures.value(NAME, THEIRS, "RR") == pytest.approx(1 / 3, abs=1e-4)
    assert figures.value(NAME, OURS, "RR") == 1
    assert figures.value(NAME, f"{OURS} against {THEIRS}", "RR") == pytest.approx(2 / 3, abs=1e-4)
    assert len(figures.bars) == 6


async def test_it_is_skipped_without_the_file(tmp_path: Path) -> None:
    small_omnibus(tmp_path / "data")
    figures = Figures()
    await published(figures, tmp_path / "cache")
    assert figures.rows == []
    assert "baseline_jina_v3_210q.json is not in the folder" in figures.skipped[NAME]


async def test_the_published_figures_are_met(
    real_corpora: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not (real_corpora / "law_id_qa_omnibus").is_dir():
        pytest.skip("law_id_qa_omnibus is not on this machine (set RAG_LAB_DATA)")
    monkeypatch.setenv("RAG_LAB_DATA", str(real_corpora))
    figures = Figures()
    await published(figures, tmp_path)
    for measure, value in PUBLISHED.items():
        assert figures.value(NAME, THEIRS, measure) == pytest.approx(value, abs=0.0005)
        assert figures.value(NAME, OURS, measure) > value
    assert all(bar.holds for bar in figures.bars)
