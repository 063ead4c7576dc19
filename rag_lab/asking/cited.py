"""Answers to citations: what is cited is quoted, what does not exist is said not to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rag_lab.asking.answer import Answerer, refusal
from rag_lab.corpora.analysis import ENGLISH_STOP_WORDS, INDONESIAN_STOP_WORDS
from rag_lab.corpora.statute import split_ayat
from rag_lab.records import Answer, Passage
from rag_lab.retrieval.named import Named, named_in
from rag_lab.telemetry import note

if TYPE_CHECKING:
    from llama_index.core.schema import NodeWithScore

    from rag_lab.index.snapshot import LabIndex

_MOST_CHARS = 2_000
_ASKING = """
    bunyi bunyinya isi isinya teks teksnya naskah kutip kutipan tampilkan tunjukkan tulis tuliskan
    berbunyi berisi lengkap ketentuan pasal ayat huruf angka
    text content contents wording say says said state states read reads quote cite full article
    paragraph letter item
"""
"""What else is in a question that asks for the text of an article and for nothing else."""
_FILLING = INDONESIAN_STOP_WORDS | ENGLISH_STOP_WORDS | frozenset(_ASKING.split())


class CitedAnswerer:
    """Answers what is cited by itself, without a model; hands every other question on.

    Args:
        index: whose articles are cited.
        others: answers what asks for more than the text of an article.
    """

    def __init__(self, index: LabIndex, others: Answerer) -> None:
        self._index = index
        self._others = others

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        """A quotation, a refusal that says what does not exist, or what `others` answers."""
        named = await named_in(self._index, question)
        if named.nothing_left:
            reason = "; ".join(named.missing)
            return refusal(question, passages, self._index.analyzer.language, reason)
        for reason in named.missing:
            note(reason)
        if named.citations and named.first and not _asks_more(named.rest):
            return await self._index.run(partial(_quoted, question, named, nodes, passages))
        return await self._others.answer(question, nodes, passages)


def _asks_more(rest: str) -> bool:
    """Whether anything is asked besides the text of what is cited."""
    return any(word not in _FILLING for word in re.findall(r"\w+", rest.lower()))


def _quoted(
    question: str, named: Named, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
) -> Answer:
    cited = [
        (node, passage)
        for node, passage in zip(nodes, passages, strict=True)
        if passage.document_id in named.first
    ]
    text = "\n\n".join(
        f"{_wanted(node, passage, named)} [{passage.source}]" for node, passage in cited
    )
    ids = tuple(passage.document_id for _, passage in cited)
    return Answer(question, text, "extractive", passages, ids)


def _wanted(node: NodeWithScore, passage: Passage, named: Named) -> str:
    """The ayat that are cited of an article; all of it if none is."""
    number = _plain(str(node.node.metadata.get("pasal", "")))
    wanted = {each.ayat for each in named.citations if _plain(each.pasal) == number}
    ayat = [f"({key}) {text}" for key, text in split_ayat(passage.text) if key in wanted]
    text = passage.text if "" in wanted or not ayat else "\n".join(ayat)
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS].rstrip()} …"


def _plain(pasal: str) -> str:
    return re.sub(r"\s+", "", pasal).upper()
