"""A question in parts: by rules, offline, or by a chat model; and the order parts are asked in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from rag_lab.asking.rules import MOST_CHARS, split_question
from rag_lab.errors import ModelConfigError, ProviderError

if TYPE_CHECKING:
    from llama_index.core.llms import LLM

    from rag_lab.settings import AnswerSettings

Names = Callable[[str], Sequence[tuple[int, int]]]

_REFERENCE = re.compile(r"(?<![\w#])#(\d{1,2})(?!\w)")
_JSON = re.compile(r"\{.*\}", re.DOTALL)
_MOST_OF_QUESTION = 3
"""A part may be longer than the question, whose subject it repeats, but not by more than this."""
_LEAST_CHARS = 200


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The parts of a question, in its order; one part if it is about one thing.

    Attributes:
        parts: each stands alone, but for references (`#1`) to the answers of others, which only a
            model makes.
        by: what took it apart.
        note: why it was not done as it should have been; empty if it was.
    """

    parts: tuple[str, ...]
    by: Literal["rules", "llm"]
    note: str = ""

    @property
    def whole(self) -> bool:
        """Whether the question was left in one part."""
        return len(self.parts) == 1


class Decomposer(Protocol):
    """Anything that takes a question apart."""

    async def decompose(self, question: str) -> Decomposition:
        """The parts of a question: at least one."""
        ...


class RuleDecomposer:
    """Takes questions apart by rules: no model, the same every time, some 0.3 ms a question.

    Args:
        language: of the questions: "id" or "en"; those in another stay whole.
        max_parts: at most so many; what is left over stays with the last one.
        names: gives the spans (start, end) of a question that are names; they are not cut.
    """

    def __init__(self, language: str, max_parts: int = 4, names: Names | None = None) -> None:
        _check(max_parts)
        self._language = language
        self._max_parts = max_parts
        self._names = names

    async def decompose(self, question: str) -> Decomposition:
        """The parts of a question; long texts stay whole, and `note` says so."""
        if len(question) > MOST_CHARS:
            note = f"not taken apart: {len(question):,} characters; at most {MOST_CHARS:,} are"
            return Decomposition((question,), "rules", note)
        names = self._names(question) if self._names else ()
        parts = split_question(question, self._language, max_parts=self._max_parts, names=names)
        # The rules refer to nothing: what looks like a reference stood in the question.
        clear = tuple(part.replace("#", "# ") for part in parts) if len(parts) > 1 else parts
        return Decomposition(clear, "rules")


class LLMDecomposer:
    """Has a chat model take questions apart, in one call.

    Args:
        llm: a LlamaIndex chat model whose errors are rag-lab's (`build_models` gives one).
        language: of the corpus.
        fallback: takes over where the model's provider fails or its reply is not usable.
        max_parts: at most so many; a reply with more is not usable.
    """

    def __init__(self, llm: LLM, language: str, fallback: Decomposer, max_parts: int = 4) -> None:
        _check(max_parts)
        self._llm = llm
        self._language = language
        self._fallback = fallback
        self._max_parts = max_parts

    async def decompose(self, question: str) -> Decomposition:
        """The parts the model gave, or those of the fallback with the reason in `note`.

        Raises:
            ModelError: the model refused, and waiting would not help.
        """
        try:
            parts = read_parts(await self._written(question), question, self._max_parts)
        except ProviderError as error:
            return await self._instead(question, str(error).partition(". ")[0])
        except ValueError as error:
            return await self._instead(question, f"the model's reply was not usable: {error}")
        return Decomposition(parts, "llm")

    async def _instead(self, question: str, reason: str) -> Decomposition:
        made = await self._fallback.decompose(question)
        note = f"by {made.by}, not by the model: {reason}"
        return Decomposition(made.parts, made.by, f"{note}; {made.note}" if made.note else note)

    async def _written(self, question: str) -> str:
        from rag_lab.asking.prompts import decomposition_messages
        from rag_lab.gateway.llama import GatewayLLM

        messages = decomposition_messages(question, self._language, self._max_parts)
        if isinstance(self._llm, GatewayLLM):
            return await self._llm.write(messages)
        return (await self._llm.achat(messages)).message.content or ""


def build_decomposer(settings: AnswerSettings, language: str, llm: LLM | None) -> Decomposer | None:
    """What the settings name; None for "off".

    Raises:
        ModelConfigError: a chat model is to do it, and none is configured.
    """
    if settings.decompose == "off":
        return None
    rules = RuleDecomposer(language, settings.max_parts)
    if settings.decompose == "rules":
        return rules
    if llm is None:
        raise ModelConfigError(
            "answer.decompose is 'llm', but no chat model is configured. Set RAG_LAB_LLM_MODEL, or "
            "RAG_LAB_ANSWER_DECOMPOSE=rules."
        )
    return LLMDecomposer(llm, language, rules, settings.max_parts)


def read_parts(content: str, question: str, max_parts: int) -> tuple[str, ...]:
    """The parts in a model's reply: a JSON object with a list `parts`, perhaps with words around.

    Raises:
        ValueError: there is no such object, or its parts cannot be asked.
    """
    from pydantic import BaseModel, ValidationError

    class Reply(BaseModel, strict=True):
        parts: list[str]

    found = _JSON.search(content)
    if found is None:
        raise ValueError("no JSON object in it")
    try:
        reply = Reply.model_validate_json(found[0])
    except ValidationError as error:
        raise ValueError(f"expected {{'parts': [text, …]}}, {error.errors()[0]['msg']}") from None
    parts = [" ".join(part.split()) for part in reply.parts]
    _check_parts(parts, question, max_parts)
    # What was left whole is asked in the words it was asked in.
    return tuple(parts) if len(parts) > 1 else (question,)


def _check_parts(parts: Sequence[str], question: str, max_parts: int) -> None:
    if not 1 <= len(parts) <= max_parts:
        raise ValueError(f"{len(parts)} parts; expected 1 to {max_parts}")
    if not all(parts):
        raise ValueError("an empty part")
    most = max(_LEAST_CHARS, _MOST_OF_QUESTION * len(question))
    if longest := max((len(part) for part in parts if len(part) > most), default=0):
        raise ValueError(f"a part of {longest:,} characters; expected at most {most:,}")
    waves(parts)


def _check(max_parts: int) -> None:
    if max_parts < 1:
        raise ValueError(f"max_parts must be 1 or more, got {max_parts}.")


def references(text: str) -> tuple[int, ...]:
    """The numbers of the parts, from 1, whose answers a part uses; each once, in reading order."""
    return tuple(dict.fromkeys(int(number) for number in _REFERENCE.findall(text)))


def filled(text: str, answers: Mapping[int, str]) -> str:
    """A part with the answers of others in place of references to them; unknown ones stay."""
    return _REFERENCE.sub(lambda found: answers.get(int(found[1]), found[0]), text)


def waves(parts: Sequence[str]) -> list[list[int]]:
    """Which parts, by their number from 1, can be asked at the same time, wave after wave.

    Raises:
        ValueError: a part refers to one that is not there, or parts wait for one another.
    """
    left = {number: set(references(part)) for number, part in enumerate(parts, start=1)}
    for number, needs in left.items():
        if unknown := sorted(needs - left.keys()):
            raise ValueError(
                f"part #{number} refers to #{unknown[0]}, but there are parts #1 to #{len(parts)}; "
                "number parts from 1 in their order."
            )
    order: list[list[int]] = []
    while left:
        wave = [number for number, needs in left.items() if not needs & left.keys()]
        if not wave:
            waiting = ", ".join(f"#{number}" for number in left)
            raise ValueError(
                f"parts {waiting} wait for one another's answers; let one of them be asked "
                "without a reference."
            )
        order.append(wave)
        left = {number: needs for number, needs in left.items() if number not in wave}
    return order
