"""How held-out names are chosen and asked, the baseline, and what must hold on real shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_lab.evaluation.quality.aliases import (
    FRAMES,
    aliases,
    framed,
    hold_out,
    question_sets,
    swapped,
    trigram_ranker,
    twelve_words,
)
from rag_lab.evaluation.quality.figures import Figures
from rag_lab.records import Question

NAMES = [
    ("a", "Blue Tortoise"),
    ("a", "BLUE-TORTOISE!"),
    ("a", "青い亀"),
    ("b", "Only Name"),
    ("b", "Only name?"),
    ("c", "Red Kettle"),
    ("c", "赤い薬缶"),
    ("c", "Akai Yakan"),
]


def test_one_name_of_each_show_is_held_out() -> None:
    held_out = hold_out(NAMES)
    # sha256("held out a") is 1 mod 2, sha256("held out c") 2 mod 3; b has one name only
    assert [(q.id, q.text, q.relevant_ids) for q in held_out.questions] == [
        ("alias-a", "青い亀", ("a",)),
        ("alias-c", "Akai Yakan", ("c",)),
    ]
    assert held_out.kept == [pair for pair in NAMES if pair[1] not in ("青い亀", "Akai Yakan")]


def test_a_name_is_held_out_in_all_its_spellings() -> None:
    names = [("b", name) for name in ("Blue Tortoise", "BLUE-TORTOISE!", "青い亀")]
    held_out = hold_out(names)
    assert held_out.questions[0].text == "Blue Tortoise"
    assert held_out.kept == [("b", "青い亀")]


def test_questions_are_told_apart_by_script_and_framed() -> None:
    questions = [Question("alias-x", "Blue Tortoise"), Question("alias-y", "Blue 亀")]
    sets = question_sets(questions)
    assert [q.text for q in sets["alias-latin"]] == ["Blue Tortoise"]
    assert [q.text for q in sets["alias-cjk"]] == ["Blue 亀"]
    (asked,) = sets["alias-latin-framed"]
    assert asked.id == "alias-x"
    assert "blue tortoise" in asked.text.lower()
    assert asked.text == framed(questions[0])


def test_every_frame_holds_the_name_once() -> None:
    assert all(frame.count("{}") == 1 for frame in FRAMES)


def test_two_letters_are_swapped() -> None:
    typed = swapped("Tortoise")
    assert typed != "Tortoise"
    assert typed[0] == "T"
    assert sorted(typed) == sorted("Tortoise")
    assert swapped("86") == "86"


def test_a_timed_question_has_twelve_words() -> None:
    assert len(twelve_words("Tortoise").split()) == 12


def test_the_baseline_ranks_by_trigrams() -> None:
    best, _ = trigram_ranker(NAMES)("Kettle")[0]
    assert best == "c"


async def test_real_shows(
    real_corpora: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not (real_corpora / "anime_mal_tv").is_dir():
        pytest.skip("anime_mal_tv is not on this machine (set RAG_LAB_DATA)")
    monkeypatch.setenv("RAG_LAB_DATA", str(real_corpora))
    figures = Figures()
    await aliases(figures, tmp_path)
    for script, safe_gain in (("latin", 0.12), ("cjk", 0.35)):
        for name in (f"alias-{script}", f"alias-{script}-framed"):
            ours = figures.value(name, "alias index", "RR@10")
            assert ours >= figures.value(name, "character trigrams", "RR@10") + safe_gain
    find = {row.measure: row.value for row in figures.rows if row.set == "alias-find"}
    assert find["name found"] >= 0.98
    assert find["name with a typo found"] >= 0.93
    assert find["no name in a plot question"] >= 0.96
    assert find["no other show in a synopsis sentence"] >= 0.92
