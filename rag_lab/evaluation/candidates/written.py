"""Candidates written by a chat model from documents drawn under a seed."""

from __future__ import annotations

import asyncio
import heapq
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol

from rag_lab.corpora import Corpus
from rag_lab.corpora.files import clean_text
from rag_lab.errors import ModelError
from rag_lab.evaluation.candidates.candidate import KINDS, Candidate, Kind, Provenance, candidate
from rag_lab.evaluation.candidates.drafts import drawn_by
from rag_lab.evaluation.candidates.draw import Distinct
from rag_lab.records import Part, Question

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.schema import Document

_OF_TWO: tuple[Kind, ...] = ("comparison", "compound")
_PROMPTS = ("en", "id")
_SHOWN = 6_000
"""Characters of a document that the model sees."""
_LONGEST = 500
"""Characters of a question."""
_JSON = re.compile(r"\{.*\}", re.DOTALL)


class Writer(Protocol):
    """A chat model that writes one answer; `GatewayLLM` is one.

    Attributes:
        model: its name.
    """

    model: str

    async def write(self, messages: Sequence[ChatMessage]) -> str:
        """The text of one answer. What goes wrong is a `ModelError`."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote, and for which documents it wrote nothing usable, with the reason."""

    candidates: tuple[Candidate, ...]
    failures: tuple[tuple[tuple[str, ...], str], ...] = ()


async def written_candidates(
    llm: Writer,
    corpus: Corpus,
    *,
    kinds: Sequence[Kind] = KINDS,
    per_kind: int = 20,
    seed: int = 0,
) -> Written:
    """Has a chat model write candidates, each in one call.

    The seed decides the documents, the model the words. Gold are the documents it was shown, and
    none for "unanswerable": whether another document answers is for the reviewer to see.

    Args:
        llm: of `build_models`; its gateway bounds the calls under way.
        corpus: near-duplicates of its questions are left out, as failures.
        kinds: which.
        per_kind: calls for each kind.
        seed: of the draw.
    """
    pages = await asyncio.to_thread(_drawn, corpus, kinds, per_kind, seed)
    replies = await asyncio.gather(*(_write(llm, corpus, kind, shown) for kind, shown in pages))
    known = [question.text for question in corpus.questions]
    distinct = {kind: Distinct(corpus.language, known) for kind in kinds}
    made: list[Candidate] = []
    failures: list[tuple[tuple[str, ...], str]] = []
    for (kind, shown), reply in zip(pages, replies, strict=True):
        ids = tuple(document.id_ for document in shown)
        if isinstance(reply, str):
            failures.append((ids, reply))
        elif not distinct[kind].add(reply.text):
            failures.append((ids, f"asks what another question asks: {reply.text}"))
        else:
            told = Provenance(corpus.fingerprint, ids, model=llm.model, seed=seed)
            made.append(candidate(reply, told))
    return Written(tuple(made), tuple(failures))


def _drawn(
    corpus: Corpus, kinds: Sequence[Kind], per_kind: int, seed: int
) -> list[tuple[Kind, Sequence[Document]]]:
    """The documents of each call; the two of a pair are of one statute or tag where possible."""
    pages: list[tuple[Kind, Sequence[Document]]] = []
    for kind in kinds:
        size = per_kind * (4 if kind in _OF_TWO else 1)
        pool = heapq.nsmallest(
            size, corpus.documents, key=lambda each: drawn_by(seed, kind, each.id_)
        )
        groups = _pairs(pool) if kind in _OF_TWO else [[document] for document in pool]
        pages += [(kind, shown) for shown in groups[:per_kind]]
    return pages


def _pairs(pool: Sequence[Document]) -> list[list[Document]]:
    """Neighbours by group, pairs of one group first; no document twice."""
    ring = sorted(pool, key=_group)
    pairs = [list(pair) for pair in zip(ring[::2], ring[1::2], strict=False)]
    return sorted(pairs, key=lambda pair: _group(pair[0]) != _group(pair[1]))


def _group(document: Document) -> str:
    tags = document.metadata.get("tags") or [""]
    return str(document.metadata.get("doc", tags[0]))


async def _write(
    llm: Writer, corpus: Corpus, kind: Kind, shown: Sequence[Document]
) -> Question | str:
    """The question, or why there is none."""
    try:
        content = await llm.write(_messages(corpus.language, kind, shown))
    except ModelError as error:
        return str(error)
    try:
        return read_question(content, kind, [document.id_ for document in shown])
    except ValueError as error:
        return f"the model's reply was not usable: {error}"


def _messages(language: str, kind: Kind, shown: Sequence[Document]) -> list[ChatMessage]:
    from llama_index.core.base.llms.types import ChatMessage, MessageRole

    chosen = language if language in _PROMPTS else "en"
    prompt = files("rag_lab.evaluation") / "prompts" / f"candidates.{chosen}.txt"
    documents = [{"title": _title(document), "text": document.text[:_SHOWN]} for document in shown]
    asked = json.dumps({"kind": kind, "documents": documents}, ensure_ascii=False)
    return [
        ChatMessage(role=MessageRole.SYSTEM, content=prompt.read_text("utf-8")),
        ChatMessage(role=MessageRole.USER, content=asked),
    ]


def _title(document: Document) -> str:
    about = document.metadata
    return ", ".join(str(about[key]) for key in ("citation", "title") if about.get(key))


def read_question(content: str, kind: Kind, document_ids: Sequence[str]) -> Question:
    """The question in a model's reply: a JSON object, perhaps with words around.

    Raises:
        ValueError: there is no such object, or it is no question of that kind.
    """
    from pydantic import BaseModel, ValidationError

    class Reply(BaseModel, strict=True):
        question: str
        answer: str = ""
        parts: list[str] = []

    found = _JSON.search(content)
    if found is None:
        raise ValueError("no JSON object in it")
    try:
        reply = Reply.model_validate_json(found[0])
    except ValidationError as error:
        raise ValueError(f"expected a question, {error.errors()[0]['msg']}") from None
    text = _one_line(reply.question)
    if not 0 < len(text) <= _LONGEST:
        raise ValueError(f"a question of {len(text):,} characters; expected 1 to {_LONGEST}")
    if kind == "unanswerable":
        return Question("", text, kind)
    parts = _parts(reply.parts, document_ids) if kind in _OF_TWO else ()
    return Question("", text, kind, _one_line(reply.answer), tuple(document_ids), parts=parts)


def _one_line(text: str) -> str:
    return " ".join(clean_text(text).split())


def _parts(texts: Sequence[str], document_ids: Sequence[str]) -> tuple[Part, ...]:
    asked = [_one_line(text) for text in texts]
    if len(asked) != len(document_ids) or not all(asked):
        raise ValueError(f"{len(asked)} parts; expected one for each of {len(document_ids)}")
    return tuple(Part(text, (key,)) for text, key in zip(asked, document_ids, strict=True))
