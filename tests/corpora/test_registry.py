"""Registering corpora and finding them again, with nothing left behind when it fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from rag_lab.corpora import READER_LANGUAGES, READERS, add_corpus, list_corpora, load_corpus
from rag_lab.errors import CorpusError
from rag_lab.settings import PathSettings

ROWS = [{"id": "a", "text": "One."}, {"text": "Nameless."}, {"id": "b", "text": "Two."}]
QUESTIONS = [{"id": "q1", "text": "Which is two?"}, {"id": "q2", "text": "Who?"}]
CARD = (
    "---\nname: shelf\nlanguage: en\nreader: jsonl\ndocuments: [documents.jsonl]\n---\n\n# Shelf\n"
)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_files_are_checked_and_copied(write: Any, paths: PathSettings) -> None:
    source = write("rows.jsonl", ROWS)
    seen: list[int] = []
    corpus, count, rejected = add_corpus("shelf", "jsonl", [source], progress=seen.append)
    source.unlink()
    assert (corpus.name, corpus.language, corpus.reader) == ("shelf", "en", "jsonl")
    assert str(count) == "3 read = 2 kept + 1 rejected"
    assert seen == [1, 2]
    assert [document.id_ for document in load_corpus("shelf").documents] == ["a", "b"]
    (told,) = (paths.data_folder / "shelf" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert json.loads(told) == {
        "file": "rows.jsonl",
        "line": 2,
        "reason": "missing id: none of id, docno, pid, _id is there",
        "record_id": "",
    }
    assert [str(rejection) for rejection in rejected] == [
        "rows.jsonl:2: missing id: none of id, docno, pid, _id is there"
    ]
    assert sorted(contents(paths.data_folder)) == [
        "shelf/card.md",
        "shelf/documents/1/rows.jsonl",
        "shelf/rejected.jsonl",
    ]


def test_questions_and_judgements_come_along(write: Any) -> None:
    corpus, _, _ = add_corpus(
        "shelf",
        "jsonl",
        [write("rows.jsonl", ROWS)],
        language="xx",
        questions=write("asked.jsonl", QUESTIONS),
        qrels=write("judged.tsv", "q1\t0\tb\t1\nq1\t0\ta\t0\n"),
    )
    assert corpus.language == "xx"
    assert corpus.qrels == {"q1": {"b": 1, "a": 0}}
    assert corpus.question("q1").relevant_ids == ("b",)
    assert not corpus.question("q2").answerable


def test_two_files_of_one_name_are_both_kept(tmp_path: Path) -> None:
    files = []
    for folder, row in (("x", ROWS[0]), ("y", ROWS[2])):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "rows.jsonl")
        files[-1].write_text(json.dumps(row), encoding="utf-8")
    corpus, count, _ = add_corpus("shelf", "jsonl", files)
    assert count.kept == 2
    assert [document.id_ for document in corpus.documents] == ["a", "b"]


@pytest.mark.parametrize("name", ["rejected.jsonl", "card.md", "questions.jsonl", "qrels.tsv"])
def test_a_document_file_may_have_any_name(write: Any, name: str) -> None:
    corpus, _, _ = add_corpus("shelf", "jsonl", [write(name, ROWS)])
    assert [document.id_ for document in corpus.documents] == ["a", "b"]
    assert corpus.questions == ()


def test_an_id_given_in_two_files_is_rejected_once(write: Any) -> None:
    files = [write("x.jsonl", ROWS[:1]), write("y.jsonl", ROWS[:1])]
    _, count, rejected = add_corpus("shelf", "jsonl", files)
    assert (count.kept, count.rejected) == (1, 1)
    assert str(rejected[0]) == "y.jsonl:1 (a): duplicate id; first at x.jsonl:1"


@pytest.mark.parametrize("name", ["", "Shelf", "../shelf", "-x", "a b", "a/b", "x" * 65, "ä"])
def test_a_bad_name_is_refused(write: Any, paths: PathSettings, name: str) -> None:
    with pytest.raises(CorpusError, match="no usable corpus name; use lower-case"):
        add_corpus(name, "jsonl", [write("rows.jsonl", ROWS)])
    assert contents(paths.data_folder) == {}


def test_what_cannot_be_added_is_said_before_anything_is_written(
    write: Any, paths: PathSettings
) -> None:
    rows = write("rows.jsonl", ROWS)
    with pytest.raises(CorpusError, match="there is no reader 'csv'; choose one of anime, law,"):
        add_corpus("shelf", "csv", [rows])
    with pytest.raises(CorpusError, match=r"nowhere\.jsonl is not a file"):
        add_corpus("shelf", "jsonl", [rows, rows.with_name("nowhere.jsonl")])
    with pytest.raises(CorpusError, match="no file is not a file"):
        add_corpus("shelf", "jsonl", [])
    with pytest.raises(CorpusError, match="'anime' is a bundled corpus"):
        add_corpus("anime", "jsonl", [rows])
    assert [*paths.data_folder.iterdir()] == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"documents": [{"text": "?"}, []]},
            r"none of 2 records of rows\.jsonl is usable.*right rea",
        ),
        ({"documents": []}, "none of 0 records"),
        ({"questions": [{"id": "q1"}]}, r"questions\.jsonl:1"),
        ({"qrels": "q1 a"}, r"qrels\.tsv:1"),
    ],
)
def test_nothing_is_left_behind_on_failure(
    write: Any, paths: PathSettings, given: dict[str, Any], message: str
) -> None:
    rows = write("rows.jsonl", given.get("documents", ROWS))
    questions = write("q.jsonl", given.get("questions", QUESTIONS))
    qrels = write("q.tsv", given.get("qrels", ""))
    with pytest.raises(CorpusError, match=message):
        add_corpus("shelf", "jsonl", [rows], questions=questions, qrels=qrels)
    assert [*paths.data_folder.iterdir()] == []


def test_a_corpus_is_replaced_only_on_demand_and_only_by_a_usable_one(
    write: Any, paths: PathSettings
) -> None:
    add_corpus("shelf", "jsonl", [write("rows.jsonl", ROWS)])
    before = contents(paths.data_folder)
    with pytest.raises(CorpusError, match=r"a corpus 'shelf' already\. Use --replace"):
        add_corpus("shelf", "jsonl", [write("new.jsonl", ROWS[:1])])
    with pytest.raises(CorpusError, match="none of 1 records"):
        add_corpus("shelf", "jsonl", [write("bad.jsonl", ROWS[1:2])], replace=True)
    assert contents(paths.data_folder) == before
    corpus, _, _ = add_corpus("shelf", "jsonl", [write("new.jsonl", ROWS[:1])], replace=True)
    assert [document.id_ for document in corpus.documents] == ["a"]
    assert "shelf/rows.jsonl" not in contents(paths.data_folder)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that its reader may not write, also where the tests run as root."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rows.jsonl").write_text('{"id": "a", "text": "One."}', encoding="utf-8")
        folder.chmod(0o555)
        as_root = os.getuid() == 0
        if as_root:  # root may write anywhere
            os.setresuid(65534, 65534, 0)
        yield folder
        if as_root:
            os.setresuid(0, 0, 0)
        folder.chmod(0o755)


def test_a_read_only_data_folder_is_named(read_only: Path, paths: PathSettings) -> None:
    wanted = paths.model_copy(update={"data": read_only / "data"})
    with pytest.raises(
        CorpusError, match=r"data folder .*data cannot be written; set RAG_LAB_DATA"
    ):
        add_corpus("shelf", "jsonl", [read_only / "rows.jsonl"], paths=wanted)


def test_the_data_folder_is_made_on_first_use(write: Any, tmp_path: Path) -> None:
    wanted = PathSettings(data=tmp_path / "new" / "data")
    assert [entry.origin for entry in list_corpora(wanted)] == ["bundled", "bundled"]
    add_corpus("shelf", "jsonl", [write("rows.jsonl", ROWS)], paths=wanted)
    assert load_corpus("shelf", wanted).name == "shelf"


def test_bundled_corpora_are_listed_first(write: Any, paths: PathSettings) -> None:
    add_corpus("aardvark", "jsonl", [write("rows.jsonl", ROWS)])
    (paths.data_folder / "no-corpus").mkdir()
    (paths.data_folder / ".hidden").mkdir()
    listed = [(entry.name, entry.origin) for entry in list_corpora()]
    assert listed == [("anime", "bundled"), ("law_id", "bundled"), ("aardvark", "data folder")]


def test_an_unknown_corpus_is_told_what_there_is(write: Any) -> None:
    add_corpus("shelf", "jsonl", [write("rows.jsonl", ROWS)])
    with pytest.raises(
        CorpusError, match=r"no corpus 'self'; known: anime, law_id, shelf.*RAG_LAB_D"
    ):
        load_corpus("self")
    with pytest.raises(CorpusError, match=r"no corpus '\./nowhere/self'"):
        load_corpus("./nowhere/self")


def folder_with(tmp_path: Path, card: str | bytes, **files: str) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "card.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_folder_is_loaded_by_its_path(tmp_path: Path, line_end: str) -> None:
    card = CARD.replace("\n", line_end)
    folder = folder_with(tmp_path, card, documents_jsonl='{"id": "a", "text": "One."}')
    corpus = load_corpus(str(folder))
    assert (corpus.name, [document.id_ for document in corpus.documents]) == ("shelf", ["a"])
    assert "# Shelf" in corpus.card


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("# Shelf\n", "needs a front matter with language, reader and documents"),
        ("---\nlanguage: en\n---\n", "needs a front matter"),
        (CARD.replace("jsonl\n", "csv\n", 1), "no reader 'csv'; there is anime, law,"),
        (CARD, r"corpus 'shelf' lacks documents\.jsonl in"),
        ("---\nlanguage: [\n---\n", "card.md"),
        (CARD.encode("utf-16"), "card.md"),
        (CARD.replace("[documents.jsonl]", "documents.jsonl"), "documents"),
        (CARD.replace("[documents.jsonl]", "7"), "documents"),
    ],
    ids=["none", "short", "reader", "file", "broken", "utf-16", "one name", "number"],
)
def test_an_unusable_card_is_an_error(tmp_path: Path, card: str | bytes, message: str) -> None:
    folder = folder_with(tmp_path, card)
    with pytest.raises(CorpusError, match=message):
        load_corpus(str(folder))


def test_a_file_name_that_names_a_statute_is_part_of_the_fingerprint(
    write: Any, tmp_path: Path
) -> None:
    text = "Pasal 1\nPerahu.\nPasal 2\nDermaga.\n"
    one, _, _ = add_corpus("one", "law-text", [write("uu-2031-1.txt", text)])
    two, _, _ = add_corpus("two", "law-text", [write("uu-2031-2.txt", text)])
    assert [d.id_ for d in one.documents] != [d.id_ for d in two.documents]
    assert one.fingerprint != two.fingerprint


def test_two_statutes_of_one_file_name_keep_their_keys(tmp_path: Path) -> None:
    files = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "uu-2031-1.txt")
        files[-1].write_text("Pasal 1\nPerahu.\nPasal 2\nDermaga.\n", encoding="utf-8")
    corpus, _, _ = add_corpus("shelf", "law-text", files)
    assert {d.metadata["doc"] for d in corpus.documents} == {"uu-2031-1"}


def test_every_reader_has_a_language() -> None:
    assert READER_LANGUAGES.keys() == READERS.keys()
