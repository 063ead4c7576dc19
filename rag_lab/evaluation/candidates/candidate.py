"""A candidate question with where it comes from, and its file.

The file is JSON lines that `read_questions` reads as well: a question's fields and `provenance`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from rag_lab.corpora.base import question_from
from rag_lab.corpora.files import read_json_lines
from rag_lab.errors import CorpusError, Rejection
from rag_lab.records import Question

Kind = Literal["definition", "citation", "comparison", "compound", "unanswerable"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a candidate was made of.

    Attributes:
        corpus: the fingerprint of the corpus.
        document_ids: the documents it was made from; none where it cites what is not there.
        template: its name, or empty.
        model: the chat model that wrote it, or empty.
        seed: of the draw.
    """

    corpus: str
    document_ids: tuple[str, ...] = ()
    template: str = ""
    model: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question that nobody has accepted yet, with its gold and where it comes from."""

    question: Question
    provenance: Provenance

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the question's fields, and `provenance`."""
        return asdict(self.question) | {"provenance": asdict(self.provenance)}


def candidate(question: Question, provenance: Provenance) -> Candidate:
    """A candidate whose id is made of what it asks and of its gold.

    A decision on it therefore never counts for another text or other gold.
    """
    content = orjson.dumps([question.text, question.relevant_ids])
    key = f"candidate-{question.kind}-{sha256(content).hexdigest()[:12]}"
    return Candidate(replace(question, id=key), provenance)


def write_candidates(path: Path, candidates: Iterable[Candidate]) -> None:
    """Writes candidates, one a line; what the file held is overwritten."""
    rows = [orjson.dumps(each.to_dict(), option=orjson.OPT_APPEND_NEWLINE) for each in candidates]
    path.write_bytes(b"".join(rows))


def read_candidates(path: Path) -> tuple[Candidate, ...]:
    """Reads what `write_candidates` wrote.

    Raises:
        CorpusError: a line is no candidate.
    """
    read: list[Candidate] = []
    for item in read_json_lines(path):
        if isinstance(item, Rejection):
            raise CorpusError(f"{item}. Generate the candidates anew.")
        number, row = item
        try:
            told = dict(row["provenance"])
            told["document_ids"] = tuple(told.get("document_ids", ()))
            read.append(Candidate(question_from(row), Provenance(**told)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorpusError(f"{path.name}:{number}: no usable candidate ({error!r}).") from None
    return tuple(read)
