"""Public collections that are usable as they lie: which files, which reader, which questions.

`RAG_LAB_DATA` may point to a folder of them; nothing is written there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from rag_lab.corpora.files import read_json_lines
from rag_lab.errors import CorpusError, Rejection
from rag_lab.records import Part, Question


def _no_questions(folder: Path) -> tuple[Question, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How one corpus folder is read."""

    reader: str
    language: str
    documents: tuple[str, ...]
    questions: Callable[[Path], tuple[Question, ...]] = _no_questions
    about: str = ""


def _rows(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        return []
    rows = []
    for item in read_json_lines(path):
        if isinstance(item, Rejection):
            raise CorpusError(str(item))
        rows.append(item[1])
    return rows


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(entry) for entry in value) if isinstance(value, list) else ()


def _law_questions(file: str) -> Callable[[Path], tuple[Question, ...]]:
    def read(folder: Path) -> tuple[Question, ...]:
        return tuple(
            Question(
                id=str(row["qid"]),
                text=str(row["question"]),
                kind=str(row.get("category", "factual")),
                relevant_ids=_strings(row.get("silver_pasal")),
                relevant_groups=_strings(row.get("gold_docs")),
                answer_contains=_strings(row.get("expected_answer_contains")),
            )
            for row in _rows(folder / file)
        )

    return read


def _omnibus_questions(folder: Path) -> tuple[Question, ...]:
    """Gold is a regulation such as `UU 40/2007`, so it judges statutes, not articles."""
    file = folder / "golden_qa_001_210.json"
    rows = orjson.loads(file.read_bytes()) if file.is_file() else []
    return tuple(
        Question(
            id=str(row["id"]),
            text=str(row["question"]),
            kind=str(row["category"]),
            relevant_groups=tuple(_document_key(name) for name in row["regulations"]),
            answer_contains=_strings(row["expected_answer_contains"]),
        )
        for row in rows
    )


def _document_key(name: str) -> str:
    kind, _, number = name.rpartition(" ")
    number, _, year = number.partition("/")
    return f"{kind}-{year}-{number}".lower().replace(" ", "")


def _vaswani_questions(folder: Path) -> tuple[Question, ...]:
    gold: dict[str, list[str]] = {}
    for row in _rows(folder / "qrels.jsonl.gz"):
        if row["rel"]:
            gold.setdefault(str(row["qid"]), []).append(str(row["docno"]))
    return tuple(
        Question(
            str(row["qid"]), str(row["query"]), relevant_ids=tuple(gold.get(str(row["qid"]), ()))
        )
        for row in _rows(folder / "queries.jsonl.gz")
    )


def _multihop_questions(folder: Path) -> tuple[Question, ...]:
    return tuple(
        Question(
            id=str(row["qid"]),
            text=str(row["question"]),
            kind=str(row.get("type") or "multihop"),
            answer=str(row["answer"]),
            relevant_ids=_strings(row.get("gold_pids")),
            parts=tuple(
                Part(
                    str(step["question"]), (str(step["gold_pid"]),) if step.get("gold_pid") else ()
                )
                for step in _steps(row)
            ),
        )
        for row in _rows(folder / "questions.jsonl.gz")
    )


def _steps(row: Mapping[str, object]) -> list[dict[str, object]]:
    steps = row.get("decomposition")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _reading_questions(folder: Path) -> tuple[Question, ...]:
    return tuple(
        Question(
            id=str(row["qid"]),
            text=str(row["question"]),
            kind="unanswerable" if row["is_impossible"] else "factual",
            relevant_ids=() if row["is_impossible"] else (str(row["pid"]),),
        )
        for row in _rows(folder / "questions.jsonl.gz")
    )


LAYOUTS: dict[str, Layout] = {
    "anime_mal_tv": Layout(
        "anime", "en", ("shows.jsonl.gz",), about="3,961 television shows, 2006 to 2026."
    ),
    "law_id_core": Layout(
        "law",
        "id",
        ("pasal.jsonl.gz",),
        _law_questions("questions_core.jsonl.gz"),
        "12,922 Pasal of 223 Indonesian statutes and codes.",
    ),
    "law_id_fulltext": Layout(
        "law-text", "id", ("uu.jsonl.gz",), about="1,535 Indonesian statutes as plain text."
    ),
    "law_id_pasal": Layout(
        "law",
        "id",
        ("uu_pasal.jsonl.gz", "pp_pasal.jsonl.gz"),
        about="157,045 articles and explanations of Indonesian UU and PP.",
    ),
    "law_id_qa_omnibus": Layout(
        "law-provisions",
        "id",
        ("regulations_401.json",),
        _omnibus_questions,
        "401 provisions of 44 Indonesian regulations with 210 questions.",
    ),
    "vaswani": Layout(
        "jsonl", "en", ("docs.jsonl.gz",), _vaswani_questions, "The NPL test collection."
    ),
    "multihop": Layout(
        "jsonl", "en", ("passages.jsonl.gz",), _multihop_questions, "HotpotQA and MuSiQue samples."
    ),
    "idk_mrc": Layout(
        "jsonl", "id", ("passages.jsonl.gz",), _reading_questions, "Indonesian reading questions."
    ),
}
