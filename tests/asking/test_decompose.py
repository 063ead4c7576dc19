"""Decomposers: rules and a model, what happens to bad replies, and the order of parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.custom import CustomLLM

from rag_lab.asking.decompose import (
    Decomposition,
    LLMDecomposer,
    RuleDecomposer,
    filled,
    references,
    waves,
)
from rag_lab.asking.prompts import decomposition_messages
from rag_lab.errors import ModelError, ProviderError

QUESTION = "What is the definition of smuggling and what are its penalties?"
BY_RULES = ("What is the definition of smuggling?", "What are the penalties of smuggling?")


class Model(CustomLLM):
    """A chat model that replies, or fails, as it is told."""

    reply: str | Exception = ""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        if isinstance(self.reply, Exception):
            raise self.reply
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=self.reply))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError


async def by_model(reply: str | Exception, question: str = QUESTION) -> Decomposition:
    return await LLMDecomposer(Model(reply=reply), "en", RuleDecomposer("en")).decompose(question)


async def test_rules_take_apart_what_asks_two_things() -> None:
    assert await RuleDecomposer("en").decompose(QUESTION) == Decomposition(BY_RULES, "rules")
    one = await RuleDecomposer("en").decompose("What is smuggling?")
    assert one.whole
    assert one.parts == ("What is smuggling?",)


async def test_a_long_text_is_asked_whole_and_that_is_said() -> None:
    made = await RuleDecomposer("en").decompose(QUESTION * 50)
    assert made.whole
    assert made.note == "not taken apart: 3,150 characters; at most 1,000 are"


async def test_names_that_are_known_are_not_cut() -> None:
    def names(question: str) -> list[tuple[int, int]]:
        start = question.index("Salt")
        return [(start, start + len("Salt and Lantern"))]

    made = await RuleDecomposer("en", names=names).decompose("Compare Salt and Lantern and Dunes")
    assert made.parts == ("What is Salt and Lantern?", "What is Dunes?")


async def test_parts_by_rules_refer_to_nothing() -> None:
    made = await RuleDecomposer("en").decompose("Who wrote Salt #1 and who directed Dunes #9?")
    assert len(made.parts) == 2
    assert waves(made.parts) == [[1, 2]]


@pytest.mark.parametrize("most", [0, -1])
def test_a_bound_below_one_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match=f"max_parts must be 1 or more, got {most}"):
        RuleDecomposer("en", most)


@pytest.mark.parametrize(
    "reply",
    [
        '{"parts": ["Who made it?", "When did #1 live?"]}',
        'Here you are:\n```json\n{"parts": [" Who  made it? ", "When did #1 live?"]}\n```',
    ],
)
async def test_a_model_takes_apart(reply: str) -> None:
    parts = ("Who made it?", "When did #1 live?")
    assert await by_model(reply) == Decomposition(parts, "llm")


async def test_one_part_is_the_question_in_its_own_words() -> None:
    assert await by_model('{"parts": ["Something else?"]}') == Decomposition((QUESTION,), "llm")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "no JSON object in it"),
        ("I cannot do that.", "no JSON object in it"),
        ('{"parts": "Who?"}', "expected {'parts': [text, …]}"),
        ('{"parts": [1, 2]}', "expected {'parts': [text, …]}"),
        ('{"parts": ["a"', "no JSON object in it"),
        ('{"questions": ["a"]}', "expected {'parts': [text, …]}"),
        ('{"parts": []}', "0 parts; expected 1 to 4"),
        (json.dumps({"parts": ["a?"] * 5}), "5 parts; expected 1 to 4"),
        ('{"parts": ["a?", " "]}', "an empty part"),
        (json.dumps({"parts": ["a?", "b" * 900]}), "a part of 900 characters; expected at most"),
        ('{"parts": ["a?", "b of #3?"]}', "part #2 refers to #3"),
        ('{"parts": ["a of #2?", "b of #1?"]}', "wait for one another"),
    ],
)
async def test_a_reply_that_is_not_usable_falls_back_to_rules(reply: str, reason: str) -> None:
    made = await by_model(reply)
    assert (made.parts, made.by) == (BY_RULES, "rules")
    assert made.note.startswith("by rules, not by the model: the model's reply was not usable: ")
    assert reason in made.note


async def test_while_the_provider_fails_rules_take_over() -> None:
    made = await by_model(ProviderError("it is overloaded. Ask later."))
    assert made == Decomposition(BY_RULES, "rules", "by rules, not by the model: it is overloaded")


async def test_a_refusal_is_not_hidden() -> None:
    with pytest.raises(ModelError, match="no such model"):
        await by_model(ModelError("no such model"))


@pytest.mark.parametrize(("language", "word"), [("en", "part"), ("id", "bagian"), ("ja", "part")])
def test_the_prompt_is_in_the_language_of_the_corpus(language: str, word: str) -> None:
    system, _ = decomposition_messages("?", language, 3)
    assert system.role == MessageRole.SYSTEM
    assert word in str(system.content)
    assert " 3 " in str(system.content)
    assert '{"parts": [' in str(system.content)


@given(st.text())
def test_a_question_cannot_leave_its_frame(question: str) -> None:
    _, user = decomposition_messages(question, "en", 4)
    assert json.loads(str(user.content)) == {"question": question}
    assert "\n" not in str(user.content)


def test_references_are_numbers_of_parts() -> None:
    assert references("What did #2 and #1 (not #2) do in #10?") == (2, 1, 10)
    assert references("C#1, ##2, #x, #123 and #3rd") == ()


def test_answers_are_filled_in() -> None:
    assert filled("Where was #1 when #2 sang?", {1: "Ada", 3: "x"}) == "Where was Ada when #2 sang?"
    assert filled("Who is #1?", {1: r"\1 #2"}) == r"Who is \1 #2?"


def test_waves_are_what_can_be_asked_at_the_same_time() -> None:
    assert waves(["a?", "b?", "c?"]) == [[1, 2, 3]]
    assert waves(["a?", "b of #1?", "c?", "d of #2 and #3?"]) == [[1, 3], [2], [4]]
    assert waves(["a of #2?", "b?"]) == [[2], [1]]
    assert waves([]) == []


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["a?", "b of #3?"], r"part #2 refers to #3, but there are parts #1 to #2"),
        (["a of #0?"], "part #1 refers to #0"),
        (["a of #1?"], "parts #1 wait for one another's answers; let one of them"),
        (["a?", "b of #3?", "c of #2?"], "parts #2, #3 wait for one another's answers"),
    ],
)
def test_an_order_that_there_is_not_is_refused(parts: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        waves(parts)


@given(st.lists(st.lists(st.integers(1, 6), max_size=3), max_size=6))
def test_every_part_is_asked_once_and_after_what_it_needs(needs: list[list[int]]) -> None:
    # A part may need those before it alone, so there is always an order.
    parts = [
        " ".join(f"#{number}" for number in wanted if number < place)
        for place, wanted in enumerate(needs, start=1)
    ]
    order = waves(parts)
    assert sorted(number for wave in order for number in wave) == list(range(1, len(parts) + 1))
    asked: set[int] = set()
    for wave in order:
        for number in wave:
            assert asked.issuperset(references(parts[number - 1]))
        asked.update(wave)
