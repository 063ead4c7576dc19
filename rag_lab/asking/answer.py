"""From passages to an answer: extracted offline, or written by a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rag_lab.asking.passages import statements
from rag_lab.records import Answer, Passage, Usage

if TYPE_CHECKING:
    from llama_index.core.llms import LLM
    from llama_index.core.schema import NodeWithScore

    from rag_lab.index.snapshot import LabIndex
    from rag_lab.settings import AnswerSettings

_RANK_DISCOUNT = 0.08
_LEAST_OF_BEST = 0.2
"""A statement that tells less than this share of what the best one tells is only company."""
_NOT_FOUND = {"id": "Tidak ditemukan dalam korpus.", "en": "Not found in the corpus."}


class Answerer(Protocol):
    """Anything that draws an answer from passages."""

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        """The answer to a question, drawn from the passages alone."""
        ...


@dataclass(frozen=True, slots=True)
class _Candidate:
    value: float
    order: tuple[int, int]
    statement: str
    passage: Passage


class ExtractiveAnswerer:
    """Quotes the best-supported statements of the passages, each with its source.

    A question's words weigh by how rare they are in the corpus. Support is the share of that
    weight found in one passage; below `min_support` the answer is a refusal.
    """

    def __init__(self, index: LabIndex, settings: AnswerSettings) -> None:
        self._index = index
        self._settings = settings
        self._tokens: Callable[[str], list[str]] = index.analyzer.tokens

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        """Quotes, off the event loop."""
        return await asyncio.to_thread(self._answer, question, nodes, passages)

    def _answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        weights = self._weights(question)
        support = [
            self._share(self._whole(node, passage), weights)
            for node, passage in zip(nodes, passages, strict=True)
        ]
        strongest = max(support, default=0.0)
        if strongest < self._settings.min_support:
            return refusal(
                question,
                passages,
                self._index.analyzer.language,
                f"the best passage holds {strongest:.0%} of what the question asks about; "
                f"at least {self._settings.min_support:.0%} is needed",
            )
        chosen = self._choose(nodes, passages, support, weights)
        text = " ".join(f"{c.statement} [{c.passage.source}]" for c in chosen)
        cited = tuple(dict.fromkeys(c.passage.document_id for c in chosen))
        return Answer(question, text, "extractive", passages, cited)

    def _weights(self, question: str) -> dict[str, float]:
        """What each word of the question is worth.

        A word the corpus does not know is as good as a paraphrase of one it does, and left out;
        an unknown name or number is not: it says that the question is about something else.
        """
        weights = self._index.keyword.weights(self._tokens(question))
        names = {token for word in name_like(question) for token in self._tokens(word)}
        return {
            token: weight
            for token, weight in weights.items()
            if token in names or self._index.keyword.knows(token)
        }

    def _whole(self, node: NodeWithScore, passage: Passage) -> str:
        """What the passage says together with what it is called."""
        return f"{_name(node, passage)} {passage.text}"

    def _share(self, text: str, weights: dict[str, float]) -> float:
        found = set(self._tokens(text))
        total = sum(weights.values())
        return sum(w for token, w in weights.items() if token in found) / total if total else 0.0

    def _choose(
        self,
        nodes: Sequence[NodeWithScore],
        passages: tuple[Passage, ...],
        support: list[float],
        weights: dict[str, float],
    ) -> list[_Candidate]:
        """The best statements, in reading order: telling ones, from well-ranked passages."""
        candidates = [
            candidate
            for rank, (node, passage, share) in enumerate(
                zip(nodes, passages, support, strict=True)
            )
            if share >= self._settings.min_support
            for candidate in self._candidates(rank, _name(node, passage), passage, share, weights)
        ]
        best = sorted(candidates, key=lambda c: (-c.value, c.order))
        return sorted(best[: self._settings.max_sentences], key=lambda c: c.order)

    def _candidates(
        self, rank: int, name: str, passage: Passage, share: float, weights: dict[str, float]
    ) -> list[_Candidate]:
        """The statements of one passage that tell something of what is asked."""
        # Words of the passage's own name say which passage, not which of its statements.
        named = set(self._tokens(name))
        asked = {token: w for token, w in weights.items() if token not in named} or weights
        pieces = statements(passage.text)
        told = [self._share(piece, asked) for piece in pieces]
        least = _LEAST_OF_BEST * max(told, default=0.0)
        return [
            _Candidate(
                self._share(f"{name} {piece}", weights) + share - _RANK_DISCOUNT * rank,
                (rank, place),
                piece,
                passage,
            )
            for place, piece in enumerate(pieces)
            if told[place] >= least
        ]


def name_like(question: str) -> list[str]:
    """Words that look like names: capitalised within the sentence, or with a digit."""
    words = [word.strip("?.,!:;\"'()“”‘’") for word in question.split()]
    return [
        word
        for place, word in enumerate(words)
        if (place > 0 and word[:1].isupper()) or any(map(str.isdigit, word))
    ]


def _name(node: NodeWithScore, passage: Passage) -> str:
    titles = node.node.metadata.get("titles") or [node.node.metadata.get("title", "")]
    return " ".join([*titles, passage.source])


class GeneratedAnswerer:
    """Has a chat model write the answer from the passages, by a LlamaIndex synthesiser."""

    def __init__(self, llm: LLM, language: str) -> None:
        self._llm = llm
        self._language = language

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        """Writes an answer; without passages the model is not asked.

        Raises:
            ModelError: the model refused or failed.
        """
        from llama_index.core.response_synthesizers import get_response_synthesizer

        from rag_lab.models.remote import translate_errors

        if not nodes:
            return refusal(question, passages, self._language, "nothing was retrieved")
        synthesizer = get_response_synthesizer(llm=self._llm)
        model: Any = self._llm
        with translate_errors("chat", str(model.api_base or ""), str(model.model)):
            response = await synthesizer.asynthesize(question, list(nodes))
        cited = tuple(dict.fromkeys(passage.document_id for passage in passages))
        return Answer(question, str(response), "generated", passages, cited, usage=Usage(calls=1))


def refusal(question: str, passages: tuple[Passage, ...], language: str, reason: str) -> Answer:
    """An answer that says, in the language of the corpus, that there is none, and why."""
    text = _NOT_FOUND.get(language, _NOT_FOUND["en"])
    return Answer(question, text, "refused", passages, reason=reason)
