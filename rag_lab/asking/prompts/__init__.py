"""What a chat model is told, and how its reply is read. The words are in the text files here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from textwrap import indent

from llama_index.core.base.llms.types import ChatMessage, LLMMetadata, MessageRole

from rag_lab.records import Passage

NOT_IN_PASSAGES = "NOT_IN_PASSAGES"
"""What the model is to reply when the passages do not hold the answer."""

_LANGUAGES = ("en", "id")
_RULER = "-" * 10
_BYTES_A_TOKEN = 2.5
"""On the safe side: prose has three to four in European languages and Japanese, code fewer."""
_KNOWN_PASSAGES = 1_024
_CITATION = re.compile(r"(\s?)\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model replied: its text, and the numbers of the passages that it cites, from 1."""

    text: str
    cited: tuple[int, ...] = ()

    @property
    def not_found(self) -> bool:
        """Whether it says that the passages do not hold the answer."""
        return self.text.lstrip(" *`\"'").startswith(NOT_IN_PASSAGES)


def messages_for(
    question: str, passages: Sequence[Passage], language: str, model: LLMMetadata
) -> tuple[list[ChatMessage], int]:
    """The prompt of a question, and how many of its passages found room in it.

    The prompt is bounded to the context window, less what the model may write: the last passages
    are dropped first, and the first one is cut if it is too long by itself.
    """
    system = _text("answer.{}.txt", language)
    room = model.context_window - max(model.num_output, 0)
    blocks = _fitting(passages, room - _tokens(system) - _tokens(question))
    quoted = f"\n{_RULER}\n".join(blocks)
    asked = f"{_RULER}\n{quoted}\n{_RULER}\n\nQuestion: {question}"
    return [
        ChatMessage(role=MessageRole.SYSTEM, content=system),
        ChatMessage(role=MessageRole.USER, content=asked),
    ], len(blocks)


def decomposition_messages(question: str, language: str, max_parts: int) -> list[ChatMessage]:
    """The prompt that takes a question apart; the question is a JSON string, and stays inside."""
    system = _text("decompose_{}.txt", language).format(max_parts=max_parts)
    asked = json.dumps({"question": question}, ensure_ascii=False)
    return [
        ChatMessage(role=MessageRole.SYSTEM, content=system),
        ChatMessage(role=MessageRole.USER, content=asked),
    ]


def read_reply(content: str, shown: int) -> Reply:
    """The reply without citations of passages that were not shown; years in brackets are none."""
    cited: dict[int, None] = {}

    def keep(found: re.Match[str]) -> str:
        numbers = [int(number) for number in re.split(r"[,;]", found[2])]
        real = [number for number in numbers if 1 <= number <= shown]
        cited.update(dict.fromkeys(real))
        if len(real) == len(numbers):
            return found[0]
        return found[1] + "".join(f"[{number}]" for number in real) if real else ""

    text = _CITATION.sub(keep, content).strip()
    return Reply(text, tuple(cited))


@cache
def _text(file: str, language: str) -> str:
    chosen = language if language in _LANGUAGES else "en"
    return (files(__name__) / file.format(chosen)).read_text("utf-8").strip()


def _fitting(passages: Sequence[Passage], room: float) -> list[str]:
    blocks: list[str] = []
    for number, passage in enumerate(passages, start=1):
        block = f"[{number}] {_quoted(passage.source, passage.text)}"
        room -= _tokens(block) + len(_RULER)
        if room < 0:
            break
        blocks.append(block)
    if passages and not blocks:
        most = max(0, int((room + _tokens(block)) * _BYTES_A_TOKEN))
        blocks.append(block.encode("utf-8", "ignore")[:most].decode(errors="ignore"))
    return blocks


@lru_cache(_KNOWN_PASSAGES)
def _quoted(source: str, text: str) -> str:
    """A passage under its source. Many users' questions are answered from the same ones."""
    # Every line of a passage is indented: none can pose as a heading, a ruler or the question.
    return f"{' '.join(source.split())}\n{indent(text, '    ')}"


def _tokens(text: str) -> float:
    return len(text.encode("utf-8", "surrogatepass")) / _BYTES_A_TOKEN
