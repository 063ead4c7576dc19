"""Finding corpora by name: bundled ones, registered ones, and known public layouts.

A corpus folder holds a `card.md` whose front matter says how to read it:

    ---
    name: anime
    language: en
    reader: anime
    documents: [documents.jsonl]
    ---

and, where there are any, `questions.jsonl` and `qrels.tsv`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from rag_lab.corpora.anime import read_anime
from rag_lab.corpora.base import (
    Corpus,
    Qrels,
    ReadCount,
    Reader,
    fingerprint_files,
    qrels_of,
    read_qrels,
    read_questions,
    write_rejections,
)
from rag_lab.corpora.generic import read_jsonl
from rag_lab.corpora.law import read_law, read_law_text, read_provisions
from rag_lab.corpora.layouts import LAYOUTS, Layout
from rag_lab.errors import CorpusError, Rejection
from rag_lab.records import Question
from rag_lab.settings import PathSettings

if TYPE_CHECKING:
    from llama_index.core.schema import Document

BUNDLED = Path(__file__).resolve().parents[2] / "datasets"

READERS: Mapping[str, Reader] = {
    "anime": read_anime,
    "law": read_law,
    "law-text": read_law_text,
    "law-provisions": read_provisions,
    "jsonl": read_jsonl,
}
READER_LANGUAGES = {
    "anime": "en",
    "law": "id",
    "law-text": "id",
    "law-provisions": "id",
    "jsonl": "en",
}
READER_VERSION = 2
"""Raised when a reader makes other documents of the same file: indexes are then built anew."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CorpusEntry:
    """One corpus that can be loaded by name."""

    name: str
    origin: str
    folder: Path


def list_corpora(paths: PathSettings | None = None) -> list[CorpusEntry]:
    """All corpora that `load_corpus` knows, bundled ones first."""
    found: dict[str, CorpusEntry] = {}
    for origin, folder in _places(paths or PathSettings()):
        for child in sorted(folder.iterdir()) if folder.is_dir() else ():
            if _is_corpus(child) and child.name not in found:
                found[child.name] = CorpusEntry(child.name, origin, child)
    return list(found.values())


def load_corpus(name: str, paths: PathSettings | None = None) -> Corpus:
    """Loads a corpus by name, or from a folder that holds a `card.md`.

    Documents are not read yet: `corpus.documents` reads them anew each time.

    Raises:
        CorpusError: there is no such corpus, or its card, questions or judgements are unusable.
    """
    folder = _folder_of(name, paths or PathSettings())
    card = folder / "card.md"
    layout = _layout_of_card(card) if card.is_file() else LAYOUTS[folder.name]
    files = _files(folder, layout)
    questions = layout.questions(folder)
    judged = folder / "qrels.tsv"
    qrels = read_qrels(judged) if judged.is_file() else qrels_of(questions)
    return Corpus(
        name=folder.name,
        language=layout.language,
        records=_records(READERS[layout.reader], files),
        questions=_with_relevant(questions, qrels),
        qrels=qrels,
        fingerprint=fingerprint_files(f"{layout.reader}-{READER_VERSION}", layout.language, files),
        reader=layout.reader,
        card=card.read_text(encoding="utf-8") if card.is_file() else layout.about,
    )


def add_corpus(
    name: str,
    reader: str,
    files: Sequence[Path],
    *,
    language: str = "",
    questions: Path | None = None,
    qrels: Path | None = None,
    replace: bool = False,
    paths: PathSettings | None = None,
    progress: Callable[[int], None] = lambda kept: None,
) -> tuple[Corpus, ReadCount, list[Rejection]]:
    """Checks files with a reader and registers copies of them under a name.

    The corpus appears at once or not at all; rejected records are listed in `rejected.jsonl`
    beside it and stay out of every index.

    Raises:
        CorpusError: a bad name, an unknown reader, a missing file, or no usable record.
    """
    settings = paths or PathSettings()
    _check_request(name, reader, files, settings, replace)
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=settings.data_folder) as scratch:
        staging = Path(scratch) / name
        staging.mkdir()
        _fill(staging, reader, language or READER_LANGUAGES[reader], files, questions, qrels)
        count, rejected = _survey(load_corpus(str(staging), settings), progress)
        if not count.kept:
            example = f" First: {rejected[0]}" if rejected else ""
            raise CorpusError(
                f"none of {count.read:,} records of {', '.join(f.name for f in files)} is usable "
                f"with reader {reader!r}.{example} Is it the right reader?"
            )
        write_rejections(staging / "rejected.jsonl", rejected)
        target = settings.data_folder / name
        if target.exists():  # out of the way by a rename, so that a kill here loses neither
            target.rename(Path(scratch) / "replaced")
        staging.rename(target)
    return load_corpus(name, settings), count, rejected


def _places(paths: PathSettings) -> Iterator[tuple[str, Path]]:
    yield "bundled", BUNDLED
    yield "data folder", paths.data_folder


def _is_corpus(folder: Path) -> bool:
    if not folder.is_dir() or folder.name.startswith("."):
        return False
    layout = LAYOUTS.get(folder.name)
    return (folder / "card.md").is_file() or (
        layout is not None and all((folder / file).is_file() for file in layout.documents)
    )


def _folder_of(name: str, paths: PathSettings) -> Path:
    as_path = Path(name)
    if len(as_path.parts) > 1 and _is_corpus(as_path):
        return as_path
    for entry in list_corpora(paths):
        if entry.name == name:
            return entry.folder
    known = ", ".join(entry.name for entry in list_corpora(paths)) or "none"
    raise CorpusError(
        f"there is no corpus {name!r}; known: {known}. Register one with "
        f"'rag-lab data add {name} --reader … PATH', or set RAG_LAB_DATA to the folder it is in."
    )


def _layout_of_card(card: Path) -> Layout:
    try:
        match = _FRONT_MATTER.match(card.read_text(encoding="utf-8"))
        fields = yaml.safe_load(match.group(1)) if match else None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise CorpusError(f"{card} cannot be read: {error}.") from None
    if not isinstance(fields, dict) or not {"language", "reader", "documents"} <= set(fields):
        raise CorpusError(
            f"{card} needs a front matter with language, reader and documents "
            "(see CONTRIBUTING.md, 'A corpus')."
        )
    if fields["reader"] not in READERS:
        raise CorpusError(f"{card}: no reader {fields['reader']!r}; there is {', '.join(READERS)}.")
    if not isinstance(fields["documents"], list) or not fields["documents"]:
        raise CorpusError(
            f"{card}: documents is {fields['documents']!r}; expected a list such as "
            "[documents.jsonl]."
        )
    return Layout(
        reader=str(fields["reader"]),
        language=str(fields["language"]),
        documents=tuple(str(file) for file in fields["documents"]),
        questions=_own_questions,
    )


def _own_questions(folder: Path) -> tuple[Question, ...]:
    file = folder / "questions.jsonl"
    return read_questions(file) if file.is_file() else ()


def _files(folder: Path, layout: Layout) -> list[Path]:
    files = [folder / file for file in layout.documents]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CorpusError(f"corpus {folder.name!r} lacks {missing[0]} in {folder}.")
    return files


def _records(reader: Reader, files: Sequence[Path]) -> Callable[[], Iterator[Document | Rejection]]:
    def read() -> Iterator[Document | Rejection]:
        for file in files:
            yield from reader(file)

    return read


def _with_relevant(questions: tuple[Question, ...], qrels: Qrels) -> tuple[Question, ...]:
    """Judgements are kept in one place, `qrels.tsv`; questions get their gold ids from there."""
    return tuple(
        question
        if question.relevant_ids or question.id not in qrels
        else dataclasses.replace(
            question,
            relevant_ids=tuple(key for key, grade in qrels[question.id].items() if grade > 0),
        )
        for question in questions
    )


def _check_request(
    name: str, reader: str, files: Sequence[Path], paths: PathSettings, replace: bool
) -> None:
    if not _NAME.fullmatch(name):
        raise CorpusError(
            f"{name!r} is no usable corpus name; use lower-case letters, digits, '-' and '_'."
        )
    if reader not in READERS:
        raise CorpusError(f"there is no reader {reader!r}; choose one of {', '.join(READERS)}.")
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        given = str(missing[0]) if missing else "no file"
        raise CorpusError(f"{given} is not a file. Give the files that hold the documents.")
    if (BUNDLED / name).is_dir():
        raise CorpusError(f"{name!r} is a bundled corpus. Choose another name.")
    if (paths.data_folder / name).exists() and not replace:
        raise CorpusError(
            f"there is a corpus {name!r} already. Use --replace to put this one there."
        )
    parent = paths.data_folder
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        raise CorpusError(
            f"the data folder {paths.data_folder} cannot be written; set RAG_LAB_DATA."
        )


def _fill(
    folder: Path,
    reader: str,
    language: str,
    files: Sequence[Path],
    questions: Path | None,
    qrels: Path | None,
) -> None:
    names = []
    for number, file in enumerate(files, 1):
        # A reader may take ids from a file's name, so a name is kept even if it comes twice.
        kept = Path("documents", str(number), file.name)
        (folder / kept).parent.mkdir(parents=True)
        shutil.copyfile(file, folder / kept)
        names.append(kept.as_posix())
    for source, name in ((questions, "questions.jsonl"), (qrels, "qrels.tsv")):
        if source is not None:
            shutil.copyfile(source, folder / name)
    fields = {"name": folder.name, "language": language, "reader": reader, "documents": names}
    front = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    about = "Registered with `rag-lab data add`. Not described yet."
    card = f"---\n{front}---\n\n# {folder.name}\n\n{about}\n"
    (folder / "card.md").write_text(card, encoding="utf-8")


def _survey(corpus: Corpus, progress: Callable[[int], None]) -> tuple[ReadCount, list[Rejection]]:
    count, rejected = ReadCount(), []
    for item in corpus.checked_records():
        if isinstance(item, Rejection):
            count.rejected += 1
            rejected.append(item)
        else:
            count.kept += 1
            progress(count.kept)
    return count, rejected
