"""TREC run and qrels files, so that other tools can check our tables.

A run line is `question Q0 document rank score tag`, a qrels line `question 0 document grade`. Ids
are percent-encoded (RFC 3986) where they hold white space, control characters, `%` or anything
beyond ASCII; reading decodes them. A file has no line for a question that found nothing: tools
that average over the questions of the qrels count it as zero, as our tables do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import printable, whitespace
from urllib.parse import quote, unquote

import numpy as np

from rag_lab.errors import CorpusError, SettingsError
from rag_lab.evaluation.ranking import Ranking

_PLAIN = "".join(sorted({*printable} - {*whitespace, "%"}))


def write_run(path: Path, ranking: Ranking, tag: str) -> None:
    """Writes a ranking as a run file, in its own order of documents.

    trec_eval reads scores as 32-bit floats and orders equal ones by document id. So a score that
    does not fall below the one before it is written as the next smaller float: the order stays.

    Args:
        path: overwritten if it exists.
        ranking: its failed questions are not in the file.
        tag: names the system; the last column.

    Raises:
        SettingsError: an id or the tag is empty, or a score is not finite in 32 bits.
    """
    lines = [
        f"{_column(question_id)} Q0 {_column(document_id)} {rank} {score:.9g} {_column(tag)}\n"
        for question_id, found in ranking.run.items()
        for rank, (document_id, score) in enumerate(_falling(question_id, found), start=1)
    ]
    path.write_text("".join(lines), encoding="ascii", newline="\n")


def read_run(path: Path, asked: Iterable[str] = ()) -> Ranking:
    """Reads a run file: documents by falling score, those of equal score by falling id.

    Args:
        path: the file; its rank column is not used, as trec_eval does not use it.
        asked: ids of the questions; those without a line are in the ranking, with nothing found.

    Raises:
        CorpusError: a line has another form, or names a document twice for its question.
    """
    found: dict[str, dict[str, float]] = {key: {} for key in asked}
    for place, columns in _lines(path, "question Q0 document rank score tag"):
        question_id, document_id = _decoded(columns[0]), _decoded(columns[2])
        documents = found.setdefault(question_id, {})
        if document_id in documents:
            raise CorpusError(f"{place}: document {document_id!r} comes twice for {question_id!r}.")
        documents[document_id] = _score(columns[4], place)
    return Ranking({key: _ordered(documents) for key, documents in found.items()})


def write_qrels(
    path: Path, qrels: Mapping[str, Mapping[str, int]], asked: Iterable[str] | None = None
) -> None:
    """Writes judgements as a qrels file, tab-separated.

    Args:
        path: overwritten if it exists.
        qrels: question id → document id → grade.
        asked: only the judgements of these questions. Give `ranking.run` where questions failed:
            our tables leave those out, other tools would count them as zero.

    Raises:
        SettingsError: an id is empty.
    """
    kept = set(qrels if asked is None else asked)
    lines = [
        f"{_column(question_id)}\t0\t{_column(document_id)}\t{grade}\n"
        for question_id, gold in qrels.items()
        if question_id in kept
        for document_id, grade in gold.items()
    ]
    path.write_text("".join(lines), encoding="ascii", newline="\n")


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Reads a qrels file with encoded ids; any white space separates columns.

    `corpora.base.read_qrels` reads the `qrels.tsv` of a corpus, whose ids are as they are.

    Raises:
        CorpusError: a line has another form.
    """
    qrels: dict[str, dict[str, int]] = {}
    for place, columns in _lines(path, "question 0 document grade"):
        try:
            grade = int(columns[3])
        except ValueError:
            raise CorpusError(f"{place}: grade {columns[3]!r} is no whole number.") from None
        qrels.setdefault(_decoded(columns[0]), {})[_decoded(columns[2])] = grade
    return qrels


def _column(value: str) -> str:
    if not value:
        raise SettingsError("an empty id or tag cannot stand in a TREC file; name it.")
    return quote(value, safe=_PLAIN, errors="surrogatepass")


def _decoded(column: str) -> str:
    try:
        return unquote(column, errors="surrogatepass")
    except UnicodeDecodeError:  # not encoded by us: a bare `%` in an id of another tool
        return column


def _score(column: str, place: str) -> float:
    try:
        score = float(column)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise CorpusError(f"{place}: score {column!r} is no finite number.")
    return score


def _falling(question_id: str, found: Mapping[str, float]) -> Iterator[tuple[str, np.float32]]:
    """The documents with scores that fall strictly, as 32-bit floats."""
    with np.errstate(over="ignore"):
        given = np.array([*found.values()], np.float64).astype(np.float32)
    last = np.float32(np.inf)
    for (document_id, score), value in zip(found.items(), given, strict=True):
        last = min(value, np.nextafter(last, np.float32(-np.inf)))
        if not (math.isfinite(value) and math.isfinite(last)):
            raise SettingsError(
                f"score {score!r} of {document_id!r} for {question_id!r} cannot be written: a run "
                "file takes finite 32-bit numbers. Mend the system that gave it."
            )
        yield document_id, last


def _ordered(documents: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(documents.items(), key=lambda item: (item[1], item[0]), reverse=True))


def _lines(path: Path, form: str) -> Iterator[tuple[str, list[str]]]:
    """(file and line number, columns) of each line that is not blank."""
    count = len(form.split())
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CorpusError(f"cannot open {path}: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path.name} is not UTF-8 (byte {error.start}).") from None
    for number, line in enumerate(text.split("\n"), start=1):
        columns = line.split()
        if columns and len(columns) != count:
            raise CorpusError(f"{path.name}:{number}: expected {form!r}, got {line!r}.")
        if columns:
            yield f"{path.name}:{number}", columns
