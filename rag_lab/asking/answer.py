"""From passages to an answer: extracted offline, or written by a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Protocol

from rag_lab.asking.passages import statements
from rag_lab.errors import ProviderError
from rag_lab.records import Answer, Passage
from rag_lab.telemetry import degrade

if TYPE_CHECKING:
    from llama_index.core.llms import LLM, ChatMessage
    from llama_index.core.schema import NodeWithScore

    from rag_lab.index.snapshot import LabIndex
    from rag_lab.settings import AnswerSettings

_RANK_DISCOUNT = 0.08
_LEAST_OF_BEST = 0.2
"""A statement that tells less than this share of what the best one tells is only company."""
_KNOWN_TEXTS = 1_024
"""Analysed passages that are kept: some 20 kB each at most."""
_NOT_FOUND = {"id": "Tidak ditemukan dalam korpus.", "en": "Not found in the corpus."}


class Answerer(Protocol):
    """Anything that draws an answer from passages."""

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        """The answer to a question, drawn from the passages alone."""
        ...


class _Text:
    """A passage's text, analysed as far as it is needed."""

    def __init__(self, text: str, tokens: Callable[[str], list[str]]) -> None:
        self._text = text
        self._tokens = tokens

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(self._tokens(self._text))

    @cached_property
    def statements(self) -> list[tuple[str, frozenset[str]]]:
        """The statements, each with its words."""
        return [(piece, frozenset(self._tokens(piece))) for piece in statements(self._text)]


@dataclass(frozen=True, slots=True)
class _Read:
    """A passage that was read: the words of its name, and how much of the question it supports."""

    passage: Passage
    text: _Text
    named: frozenset[str]
    support: float


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
        # The questions of many users are answered from the same passages.
        self._text = lru_cache(_KNOWN_TEXTS)(lambda text: _Text(text, self._tokens))

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        """Quotes, off the event loop."""
        return await self._index.run(partial(self._answer, question, nodes, passages))

    def _answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        weights = self._weights(question)
        read = [
            self._read(node, passage, weights)
            for node, passage in zip(nodes, passages, strict=True)
        ]
        strongest = max((each.support for each in read), default=0.0)
        if strongest < self._settings.min_support:
            return refusal(
                question,
                passages,
                self._index.analyzer.language,
                f"the best passage holds {strongest:.0%} of what the question asks about; "
                f"at least {self._settings.min_support:.0%} is needed",
            )
        chosen = self._choose(read, weights)
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

    def _read(self, node: NodeWithScore, passage: Passage, weights: dict[str, float]) -> _Read:
        named = frozenset(self._tokens(_name(node, passage)))
        text = self._text(passage.text)
        return _Read(passage, text, named, _share(named | text.words, weights))

    def _choose(self, read: Sequence[_Read], weights: dict[str, float]) -> list[_Candidate]:
        """The best statements, in reading order: telling ones, from well-ranked passages."""
        candidates = [
            candidate
            for rank, each in enumerate(read)
            if each.support >= self._settings.min_support
            for candidate in self._candidates(rank, each, weights)
        ]
        best = sorted(candidates, key=lambda c: (-c.value, c.order))
        return sorted(best[: self._settings.max_sentences], key=lambda c: c.order)

    def _candidates(self, rank: int, read: _Read, weights: dict[str, float]) -> list[_Candidate]:
        """The statements of one passage that tell something of what is asked."""
        # Words of the passage's own name say which passage, not which of its statements.
        asked = {token: w for token, w in weights.items() if token not in read.named} or weights
        told = [_share(words, asked) for _, words in read.text.statements]
        least = _LEAST_OF_BEST * max(told, default=0.0)
        return [
            _Candidate(
                _share(words | read.named, weights) + read.support - _RANK_DISCOUNT * rank,
                (rank, place),
                piece,
                read.passage,
            )
            for place, (piece, words) in enumerate(read.text.statements)
            if told[place] >= least
        ]


def _share(found: Collection[str], weights: dict[str, float]) -> float:
    """Which share of the weight the found words have, from 0 to 1."""
    total = sum(weights.values())
    return sum(w for token, w in weights.items() if token in found) / total if total else 0.0


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
    """Has a chat model write the answer from numbered passages, in one call.

    Args:
        llm: a LlamaIndex chat model whose errors are rag-lab's (`build_models` gives one).
        language: of the corpus.
        fallback: answers while the provider of the model fails.

    What the model cites of the passages it was shown is what the answer cites: nothing, if it
    cites nothing. The prompt is bounded to the model's context window.
    """

    def __init__(self, llm: LLM, language: str, fallback: Answerer) -> None:
        self._llm = llm
        self._language = language
        self._fallback = fallback

    async def answer(
        self, question: str, nodes: Sequence[NodeWithScore], passages: tuple[Passage, ...]
    ) -> Answer:
        """Writes an answer; without passages the model is not asked.

        Raises:
            ModelError: the model refused, and waiting would not help.
        """
        from rag_lab.asking.prompts import messages_for, read_reply

        if not passages:
            return refusal(question, passages, self._language, "nothing was retrieved")
        messages, shown = messages_for(question, passages, self._language, self._llm.metadata)
        try:
            written = await self._written(messages)
        except ProviderError as error:
            degrade(f"quoted, not written: {str(error).partition('. ')[0]}")
            return await self._fallback.answer(question, nodes, passages)
        reply = read_reply(written, shown)
        if not reply.text:
            degrade("quoted, not written: the model's answer was empty")
            return await self._fallback.answer(question, nodes, passages)
        used = passages[:shown]
        if reply.not_found:
            reason = "the model did not find the answer in the passages"
            return refusal(question, used, self._language, reason)
        cited = tuple(dict.fromkeys(used[number - 1].document_id for number in reply.cited))
        return Answer(question, reply.text, "generated", used, cited)

    async def _written(self, messages: Sequence[ChatMessage]) -> str:
        from rag_lab.gateway.llama import GatewayLLM

        if isinstance(self._llm, GatewayLLM):
            return await self._llm.write(messages)
        return (await self._llm.achat(messages)).message.content or ""


def refusal(question: str, passages: tuple[Passage, ...], language: str, reason: str) -> Answer:
    """An answer that says, in the language of the corpus, that there is none, and why."""
    text = _NOT_FOUND.get(language, _NOT_FOUND["en"])
    return Answer(question, text, "refused", passages, reason=reason)
