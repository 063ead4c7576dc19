"""What a corpus is: documents that can be read again and again, questions, judgements, a name."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_lab.corpora.files import read_json_lines
from rag_lab.errors import CorpusError, RecordError, Rejection
from rag_lab.records import Part, Question
from rag_lab.settings import fingerprint_of

if TYPE_CHECKING:
    from llama_index.core.schema import Document

Reader = Callable[[Path], "Iterator[Document | Rejection]"]
Qrels = Mapping[str, Mapping[str, int]]


@dataclass
class ReadCount:
    """What a pass over the records came to; `read` is always kept + rejected."""

    kept: int = 0
    rejected: int = 0

    @property
    def read(self) -> int:
        """Records met in the files."""
        return self.kept + self.rejected

    def __str__(self) -> str:
        return f"{self.read:,} read = {self.kept:,} kept + {self.rejected:,} rejected"


@dataclass(frozen=True)
class Corpus:
    """Documents, questions and relevance judgements under one name.

    Attributes:
        name: how it is called on the command line.
        language: ISO 639-1 code; decides stemmer and stop words.
        records: yields each record anew, in file order: a `Document`, or why there is none.
        questions: the questions, in file order.
        qrels: question id → document id → grade (1 or more is relevant).
        fingerprint: names the content; equal fingerprints mean equal documents.
        reader: name of the reader the documents come from.
        card: the corpus card in Markdown.
    """

    name: str
    language: str
    records: Callable[[], Iterator[Document | Rejection]]
    questions: tuple[Question, ...] = ()
    qrels: Qrels = field(default_factory=dict)
    fingerprint: str = ""
    reader: str = ""
    card: str = ""

    @property
    def documents(self) -> Iterator[Document]:
        """The usable documents, read anew."""
        return (item for item in self.checked_records() if not isinstance(item, Rejection))

    def checked_records(self, *, strict: bool = False) -> Iterator[Document | Rejection]:
        """The records with the corpus-wide rules applied: an id, some text, no id twice.

        Raises:
            RecordError: at the first rejected record, if `strict`.
        """
        first_seen: dict[str, str] = {}
        for item in self.records():
            checked = item if isinstance(item, Rejection) else _check(item, first_seen)
            if strict and isinstance(checked, Rejection):
                raise RecordError(checked)
            yield checked

    def question(self, question_id: str) -> Question:
        """The question of that id.

        Raises:
            CorpusError: there is none.
        """
        for question in self.questions:
            if question.id == question_id:
                return question
        raise CorpusError(f"{self.name} has no question {question_id!r}.")

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name!r}, language={self.language!r}, questions={len(self.questions)}, "
            f"fingerprint={self.fingerprint!r})"
        )


def _check(document: Document, first_seen: dict[str, str]) -> Document | Rejection:
    where = document.metadata.get("source_file", ""), int(document.metadata.get("source_line", 0))
    if not document.id_.strip():
        return Rejection(*where, "empty id")
    if document.id_ in first_seen:
        reason = f"duplicate id; first at {first_seen[document.id_]}"
        return Rejection(*where, reason, document.id_)
    first_seen[document.id_] = f"{where[0]}:{where[1]}"
    if not document.text.strip():
        return Rejection(*where, "empty text", document.id_)
    return document


def write_rejections(path: Path, rejected: Iterable[Rejection]) -> None:
    """Lists rejected records as JSON lines; an empty list leaves an empty file."""
    rows = (json.dumps(asdict(rejection), ensure_ascii=False) for rejection in rejected)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def in_memory(
    name: str,
    documents: Iterable[Document],
    *,
    language: str = "en",
    questions: Iterable[Question] = (),
    qrels: Qrels | None = None,
) -> Corpus:
    """A corpus from documents that are already in memory, for notebooks and tests."""
    kept, asked = list(documents), tuple(questions)
    content = [[document.id_, document.text, document.metadata] for document in kept]
    return Corpus(
        name=name,
        language=language,
        records=lambda: iter(kept),
        questions=asked,
        qrels=qrels if qrels is not None else qrels_of(asked),
        fingerprint=fingerprint_of(content),
        reader="memory",
    )


def questions_on(corpus: Corpus, other: Corpus) -> Corpus:
    """A corpus with the questions of another; judgements on documents it lacks are left out.

    Raises:
        CorpusError: not one judged document is in the corpus.
    """
    ids = {document.id_ for document in corpus.documents}
    qrels = {
        question_id: kept
        for question_id, gold in other.qrels.items()
        if (kept := {key: grade for key, grade in gold.items() if key in ids})
    }
    if not qrels:
        raise CorpusError(f"{corpus.name} holds no document that {other.name} has judged.")
    return replace(corpus, questions=other.questions, qrels=qrels)


def fingerprint_files(reader: str, language: str, paths: Iterable[Path]) -> str:
    """Names the content of corpus files as read by a reader; a reader may take ids from names."""
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append([path.name, hashlib.file_digest(stream, "sha256").hexdigest()])
    return fingerprint_of([reader, language, digests])


def read_questions(path: Path) -> tuple[Question, ...]:
    """Reads `questions.jsonl`.

    Raises:
        CorpusError: a line is no question, or an id comes twice.
    """
    questions = []
    for item in read_json_lines(path):
        if isinstance(item, Rejection):
            raise CorpusError(f"{item}. Questions must all be readable.")
        number, row = item
        try:
            questions.append(question_from(row))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorpusError(f"{path.name}:{number}: no usable question ({error!r}).") from None
    twice = [key for key, count in Counter(q.id for q in questions).items() if count > 1]
    if twice:
        raise CorpusError(f"{path.name}: question id {twice[0]!r} comes twice.")
    return tuple(questions)


def question_from(row: Mapping[str, Any]) -> Question:
    """Makes a question from its JSON row.

    Raises:
        KeyError: `id` or `text` is missing.
        ValueError: one of them is empty, or ids are not a list.
    """
    return Question(
        id=_stated(row, "id"),
        text=_stated(row, "text"),
        kind=str(row.get("kind", "factual")),
        answer=str(row.get("answer", "")),
        relevant_ids=_strings(row, "relevant_ids"),
        relevant_groups=_strings(row, "relevant_groups"),
        parts=tuple(
            Part(_stated(part, "text"), _strings(part, "relevant_ids"))
            for part in row.get("parts") or ()
        ),
        answer_contains=_strings(row, "answer_contains"),
    )


def _stated(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if value is None or not str(value).strip():
        raise ValueError(f"{key} is empty")
    return str(value)


def _strings(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = row.get(key) or ()
    if isinstance(values, str):
        raise ValueError(f"{key} is {values!r}; expected a list")
    return tuple(str(value) for value in values)


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Reads judgements in TREC form: question id, 0, document id, grade; tab-separated.

    Raises:
        CorpusError: a line has another form.
    """
    qrels: dict[str, dict[str, int]] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path.name} is not UTF-8 (byte {error.start}).") from None
    for number, line in enumerate(lines, 1):
        try:
            question_id, _, document_id, grade = line.split("\t")
            qrels.setdefault(question_id, {})[document_id] = int(grade)
        except ValueError:
            raise CorpusError(
                f"{path.name}:{number}: expected 'question <tab> 0 <tab> document <tab> grade', "
                f"got {line!r}."
            ) from None
    return qrels


def qrels_of(questions: Iterable[Question]) -> dict[str, dict[str, int]]:
    """Judgements of grade 1 from the questions' own gold documents."""
    return {q.id: dict.fromkeys(q.relevant_ids, 1) for q in questions if q.relevant_ids}
