"""Answers on disk: whole again after any cut, one writer, nothing of others touched."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest

from rag_lab.asking.answer_log import AnswerLog, Origin, QuestionOutcome
from rag_lab.errors import SettingsError
from rag_lab.records import Answer, Part, PartOutcome, Passage, Span, Timing, Usage

ORIGIN = Origin("food", "5eed", "f00d")
FULL = Answer(
    "Pisang 海の?",
    "Kuning.\nDan manis.\u2028",
    "generated",
    passages=(Passage("n1", "banana", "Kuning.", 0.75, "Banana", {"dense": 0.5}),),
    cited_ids=("banana",),
    parts=(PartOutcome(Part("Pisang?", ("banana",)), "answered", "", document_ids=("banana",)),),
    timing=Timing(1.5, {"search": 1.25}, (Span("search", 0.25, 1.5),)),
    usage=Usage(calls=2, prompt_tokens=7, cost_usd=0.25),
)


def outcome(id_: str, text: str, error: str = "") -> QuestionOutcome:
    answer = None if error else Answer(text, text.upper(), "extractive")
    return QuestionOutcome(id_, text, answer, error)


def written(path: Path, *outcomes: QuestionOutcome, origin: Origin = ORIGIN) -> AnswerLog:
    """The log, closed, after outcomes were added."""

    async def add(log: AnswerLog) -> None:
        await asyncio.gather(*map(log.add, outcomes))

    with closing(AnswerLog(path, origin)) as log:
        asyncio.run(add(log))
    return log


def found(path: Path, question: str, origin: Origin = ORIGIN) -> Answer | None:
    with closing(AnswerLog(path, origin)) as log:
        return asyncio.run(log.find(question))


def rows_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def test_an_answer_comes_back_as_it_was(path: Path) -> None:
    written(path, QuestionOutcome("q1", FULL.question, FULL))
    assert found(path, FULL.question) == FULL
    (row,) = rows_of(path)
    assert row["origin"] == {"corpus": "food", "snapshot": "5eed", "settings": "f00d"}
    assert (row["id"], row["question"], row["text"]) == ("q1", FULL.question, FULL.text)


def test_a_text_that_is_no_unicode_is_kept_as_far_as_it_goes(path: Path) -> None:
    written(path, QuestionOutcome("1", "q", Answer("q", "half \ud83d a sign\x00", "generated")))
    answer = found(path, "q")
    assert answer is not None
    assert answer.text == "half ? a sign\x00"


def test_cut_at_any_byte_only_the_last_line_is_lost(path: Path) -> None:
    written(path, outcome("1", "one"), outcome("2", "two"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with closing(AnswerLog(path, ORIGIN)) as log:
            kept = size // len(whole) + (size >= first)
            assert len(log) == kept
            assert bool(log.notes) == (size not in (0, first, len(whole)))
        assert path.read_bytes() == whole[: (0, first, len(whole))[kept]]
    path.write_bytes(whole[:-3])
    with closing(AnswerLog(path, ORIGIN)) as log:
        assert log.notes == [
            "answers.jsonl: line 2 was cut off while it was written; it is taken away, and its "
            "question asked again"
        ]


@pytest.mark.parametrize(
    "content",
    [
        b"What is the anchor made of?\nWhat does the lantern burn?",
        b'{"id": "a", "text": "What is the anchor made of?"}',
        b'{"origin": "elsewhere"}\n',
        b"\x00\xff\x00",
    ],
)
def test_a_file_of_something_else_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="holds something else than answers; it is left as"):
        AnswerLog(path, ORIGIN)
    assert path.read_bytes() == content
    path.unlink()
    written(path, outcome("1", "one"))  # the lock was given back


def test_a_line_that_was_spoilt_is_passed_over(path: Path) -> None:
    written(path, outcome("1", "one"), outcome("2", "two"), outcome("3", "three"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"spoilt\n" + lines[2])
    with closing(AnswerLog(path, ORIGIN)) as log:
        assert log.notes == ["answers.jsonl: line 2 is no answer; passed over"]
        assert len(log) == 2
    assert found(path, "two") is None
    three = found(path, "three")
    assert three is not None
    assert three.text == "THREE"


def test_an_answer_of_another_version_is_asked_again(path: Path) -> None:
    written(path, outcome("1", "one"))
    path.write_bytes(path.read_bytes().replace(b'"extractive"', b'"divined"'))
    assert found(path, "one") is None


def test_one_process_writes(path: Path) -> None:
    with closing(AnswerLog(path, ORIGIN)):
        with pytest.raises(SettingsError, match="is being written by another 'rag-lab query'"):
            AnswerLog(path, ORIGIN)
        link = path.with_name("link.jsonl")
        link.symlink_to(path)
        with pytest.raises(SettingsError, match="is being written by another"):
            AnswerLog(link, ORIGIN)
    AnswerLog(path, ORIGIN).close()


@pytest.mark.parametrize("name", [".", "file/answers.jsonl"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"cannot be kept in .* give --out a file"):
        AnswerLog(tmp_path / name, ORIGIN)


def test_what_is_said_already_is_not_said_again(path: Path) -> None:
    known = QuestionOutcome("1", "one", Answer("one", "ONE", "extractive"), known=True)
    for _ in range(3):
        written(path, known, outcome("2", "two", "it failed"), outcome("q:3", "", "malformed"))
    assert [row["id"] for row in rows_of(path)] == ["1", "2", "q:3"]
    log = written(path, outcome("2", "two", "it failed otherwise"))
    assert len(rows_of(path)) == 4
    assert len(log) == 1


def test_the_newest_line_of_an_id_is_what_the_file_now_asks(path: Path) -> None:
    written(path, outcome("1", "one"))
    written(path, outcome("1", "other"))
    log = written(path, QuestionOutcome("1", "one", Answer("one", "ONE", "extractive"), known=True))
    assert [row["question"] for row in rows_of(path)] == ["one", "other", "one"]
    assert len(log) == 1


def test_answers_added_together_share_a_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    monkeypatch.setattr("os.fsync", writes.append)
    written(path, *(outcome(str(number), f"q{number}") for number in range(50)))
    assert len(rows_of(path)) == 50
    assert len(writes) <= 3  # the first alone, the others meanwhile, and at the close none


def test_discarded_it_is_gone(path: Path) -> None:
    written(path, outcome("1", "one")).discard()
    assert not path.exists()
    AnswerLog(path, ORIGIN).close()
