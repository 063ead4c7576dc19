"""The simulated chat model: quotes from the passages in its prompt what tells most of the question.

The offline answerer's idea (`rag_lab.asking.answer`) without an index: a word weighs by how rare
it is among the sentences at hand. It writes nothing of its own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from rag_lab.corpora.analysis import Analyzer

NOT_FOUND = "The context does not answer the question."
_MOST_SENTENCES = 3
_QUESTION = re.compile(r"^\s*(?:query|question|pertanyaan)\s*:\s*(.+)$", re.IGNORECASE)
_ASKS_FOR_ANSWER = re.compile(r"^\s*(?:answer|jawaban)\s*:?\s*$", re.IGNORECASE)
_RULER = re.compile(r"^\s*[-=_]{3,}\s*$")
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s+")


class ExtractiveChat:
    """Answers prompts; the same prompt gets the same answer."""

    def __init__(self, language: str) -> None:
        self._analyzer = Analyzer(language)
        # Prompts of many users quote the same passages.
        self._sentences = lru_cache(20_000)(self._split)
        self.answer = lru_cache(4_096)(self._answer)

    def _answer(self, prompt: str) -> str:
        """The best sentences of a prompt's context, in reading order."""
        question, context = question_and_context(prompt)
        asked = set(self._analyzer.tokens(question))
        sentences = list(dict.fromkeys(s for line in context for s in self._sentences(line)))
        found = [asked & tokens for _, tokens in sentences]
        held = Counter(token for tokens in found for token in tokens)
        weight = {token: math.log(1 + len(sentences) / count) for token, count in held.items()}
        values = [sum(map(weight.__getitem__, sorted(tokens))) for tokens in found]
        ranked = sorted(range(len(values)), key=lambda place: (-values[place], place))
        chosen = [place for place in ranked[:_MOST_SENTENCES] if values[place] > 0]
        if not chosen:
            return NOT_FOUND
        floor = values[chosen[0]] / 2
        return " ".join(sentences[p][0] for p in sorted(chosen) if values[p] >= floor)

    def _split(self, line: str) -> tuple[tuple[str, frozenset[str]], ...]:
        pieces = filter(None, map(str.strip, _SENTENCE_END.split(line)))
        return tuple((piece, frozenset(self._analyzer.tokens(piece))) for piece in pieces)


def question_and_context(prompt: str) -> tuple[str, list[str]]:
    """The question of a prompt, and the lines in which the answer may stand.

    The question is what follows the last "Query:" or "Question:", else the last line that ends
    in a question mark, else the last line. Where rulers ("-----") enclose the context, as in
    LlamaIndex's templates, only what stands between them counts.
    """
    lines = [line for line in prompt.splitlines() if line.strip()]
    marked = [(place, m[1]) for place, line in enumerate(lines) if (m := _QUESTION.match(line))]
    asking = [(p, line) for p, line in enumerate(lines) if line.rstrip().endswith("?")]
    plain = [(p, line) for p, line in enumerate(lines) if not _ASKS_FOR_ANSWER.match(line)]
    place, question = (marked or asking or plain or [(-1, "")])[-1]
    rulers = [p for p, line in enumerate(lines) if _RULER.match(line)]
    if len(rulers) >= 2:
        return question, _without(lines[rulers[0] + 1 : rulers[-1]], question)
    return question, _without([line for p, line in enumerate(lines) if p != place], question)


def _without(lines: Sequence[str], question: str) -> list[str]:
    return [line for line in lines if question not in line and not _RULER.match(line)]
