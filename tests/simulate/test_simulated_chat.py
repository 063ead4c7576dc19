from __future__ import annotations

import pytest

from rag_lab.simulate.chat import NOT_FOUND, ExtractiveChat, question_and_context

PASSAGES = """title: Apple
The apple is a red fruit. It grows on trees in cool orchards.

The banana is a yellow fruit. Monkeys like it."""
LLAMA_INDEX = f"""Context information is below.
---------------------
{PASSAGES}
---------------------
Given the context information and not prior knowledge, answer the query.
Query: Where does the apple grow?
Answer: """


@pytest.mark.parametrize(
    "prompt",
    [
        LLAMA_INDEX,
        f"Answer from the passages.\n{PASSAGES}\n\nQuestion: Where does the apple grow?",
        f"{PASSAGES}\nWhere does the apple grow?",
        f"Where does the apple grow?\n{PASSAGES}",
    ],
)
def test_the_question_and_what_may_answer_it(prompt: str) -> None:
    question, context = question_and_context(prompt)
    assert question.strip() == "Where does the apple grow?"
    assert "The apple is a red fruit. It grows on trees in cool orchards." in context
    assert not any("Where does" in line for line in context)


def test_only_what_stands_between_rulers_counts() -> None:
    assert question_and_context(LLAMA_INDEX)[1] == [line for line in PASSAGES.split("\n") if line]


def test_the_answer_quotes_what_tells_most() -> None:
    prompt = LLAMA_INDEX.replace("Where does the apple grow", "Which fruit is yellow")
    answer = ExtractiveChat("en").answer(prompt)
    assert "The banana is a yellow fruit." in answer
    assert "Monkeys" not in answer
    assert answer == ExtractiveChat("en").answer(prompt)


def test_sentences_stay_in_reading_order() -> None:
    prompt = "Cats hunt mice. Rain falls. Mice fear cats and owls.\nQuery: Do mice fear cats?"
    assert ExtractiveChat("en").answer(prompt) == "Cats hunt mice. Mice fear cats and owls."


@pytest.mark.parametrize("prompt", ["", "Hello", "Query: What of quarks?\nThe apple is red."])
def test_what_is_not_there_is_not_answered(prompt: str) -> None:
    assert ExtractiveChat("en").answer(prompt) == NOT_FOUND


def test_indonesian() -> None:
    prompt = "Pidana denda dijatuhkan hakim. Anak berhak belajar.\nPertanyaan: Siapa yang belajar?"
    assert ExtractiveChat("id").answer(prompt) == "Anak berhak belajar."
