"""Candidates: what is asked, of what, under which seed; and what a person decided."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.schema import Document

from lawbook import lawbook, shows
from provider import Provider
from rag_lab.corpora import Corpus
from rag_lab.corpora.base import in_memory, read_questions
from rag_lab.corpora.law import Pasal
from rag_lab.errors import CorpusError, ProviderError, SettingsError
from rag_lab.evaluation.candidates import (
    KINDS,
    Candidate,
    Kind,
    read_candidates,
    record_decision,
    review,
    template_candidates,
    write_candidates,
    written_candidates,
)
from rag_lab.evaluation.candidates.draw import Distinct
from rag_lab.evaluation.candidates.review import decisions_file
from rag_lab.evaluation.candidates.written import read_question
from rag_lab.gateway.llama import GatewayLLM
from rag_lab.models import build_models
from rag_lab.records import Question
from rag_lab.settings import load_settings
from small import corpus_of, food

DEFINED = """Dalam undang-undang ini yang dimaksud dengan:
1. Mercusuar adalah bangunan dengan lampu bagi kapal.
2. {own} adalah orang yang bekerja di {place}."""


def laws() -> Corpus:
    """Three statutes of six articles; all define one term, and each one of its own."""
    rows: list[Document] = []
    places = {"uu-2001-7": "Pelabuhan", "uu-2005-9": "Pulau", "uu-2010-3": "Sungai"}
    for doc, place in places.items():
        _, year, number = doc.split("-")
        law, own = f"UU {number}/{year}", f"Penjaga {place}"
        texts = [
            DEFINED.format(own=own, place=place.lower()),
            f"{own} mempunyai tugas merawat lampu di {place.lower()}.",
            *(f"Ketentuan ke-{n} tentang {place.lower()}." for n in range(3, 7)),
        ]
        for line, text in enumerate(texts, start=1):
            pasal = Pasal(f"{doc}#pasal-{line}", doc, law, place, str(line), text)
            rows.append(pasal.to_document("made.jsonl", line))
    return in_memory("laws", rows, language="id")


def of_kind(made: Iterable[Candidate], kind: str) -> list[Question]:
    return [each.question for each in made if each.question.kind == kind]


def test_law_has_candidates_of_every_kind() -> None:
    corpus = laws()
    made = template_candidates(corpus, per_kind=6, seed=3)
    kinds = Counter(each.question.kind for each in made)
    assert set(kinds) == set(KINDS)
    assert max(kinds.values()) <= 6
    held = {document.id_ for document in corpus.documents}
    for each in made:
        assert {*each.question.relevant_ids} <= held
        assert each.question.answerable == (each.question.kind != "unanswerable")
        if each.question.answerable:
            assert each.provenance.document_ids == each.question.relevant_ids
        assert each.provenance.template.startswith("law/")
        assert (each.provenance.corpus, each.provenance.seed) == (corpus.fingerprint, 3)


def test_a_term_is_asked_of_a_law_that_does_not_have_it() -> None:
    made = [each for seed in range(5) for each in template_candidates(laws(), seed=seed)]
    asked = [each for each in made if each.provenance.template == "law/undefined-term"]
    texts: dict[str, str] = {}
    for document in laws().documents:
        law = document.metadata["law"]
        texts[law] = texts.get(law, "") + document.text
    assert asked
    for each in asked:
        term, _, law = each.question.text.partition(" menurut ")
        assert term.removeprefix("Apa definisi ") not in texts[law.rstrip("?")]
        assert len(each.provenance.document_ids) == 1


def test_a_term_of_several_laws_is_compared_with_the_gold_of_both() -> None:
    (question,) = of_kind(template_candidates(laws()), "comparison")
    assert "Mercusuar" in question.text
    assert len(question.relevant_ids) == 2
    assert [part.relevant_ids for part in question.parts] == [(k,) for k in question.relevant_ids]
    for key in question.relevant_ids:
        _, year, number = key.partition("#")[0].split("-")
        assert f"UU {number}/{year}" in question.text


def test_of_one_short_statute_only_its_definitions_are_asked() -> None:
    first, *_ = laws().documents
    made = template_candidates(in_memory("short", [first], language="id"))
    assert {each.question.kind for each in made} == {"definition"}
    with pytest.raises(CorpusError, match="lawbook has nothing that templates could ask of"):
        template_candidates(lawbook())


def test_shows_are_asked_by_their_titles() -> None:
    made = template_candidates(shows())
    kinds = Counter(each.question.kind for each in made)
    assert set(kinds) == {"definition", "comparison", "compound", "unanswerable"}
    titles = {document.id_: document.metadata["title"] for document in shows().documents}
    for question in of_kind(made, "definition") + of_kind(made, "compound"):
        assert all(titles[key] in question.text for key in question.relevant_ids)
    for question in of_kind(made, "compound"):
        assert [part.relevant_ids for part in question.parts] == [
            (key,) for key in question.relevant_ids
        ]


def test_names_that_are_not_there_are_made_of_two_titles() -> None:
    made = [e for e in template_candidates(shows()) if e.question.kind == "unanswerable"]
    names = {str(name) for document in shows().documents for name in document.metadata["titles"]}
    assert made
    for each in made:
        assert not any(name in each.question.text for name in names)
        assert each.question.relevant_ids == ()
        assert len(each.provenance.document_ids) == 2


def test_a_title_that_two_documents_bear_is_not_asked_for() -> None:
    rows = {"a": ("Pier", "A pier."), "b": ("Pier", "Another."), "c": ("Mole", "A mole.")}
    made = template_candidates(corpus_of(rows))
    assert [question.relevant_ids for question in of_kind(made, "definition")] == [("c",)]


@pytest.mark.parametrize(("language", "told"), [("en", "What is"), ("id", "Apa ")])
def test_templates_are_in_the_language_of_the_corpus(language: str, told: str) -> None:
    made = template_candidates(replace(food(), language=language))
    assert all(question.text.startswith(told) for question in of_kind(made, "definition"))


def test_what_templates_cannot_do_is_said() -> None:
    untitled = in_memory("plain", [Document(id_="a", text="No title.")])
    with pytest.raises(CorpusError, match=r"plain has nothing .* use written_candidates"):
        template_candidates(untitled)
    with pytest.raises(CorpusError, match="no templates for language 'ja' of food"):
        template_candidates(replace(food(), language="ja"))


@pytest.mark.parametrize("corpus", [laws, shows, food])
def test_a_seed_gives_the_same_and_another_seed_others(corpus: Callable[[], Corpus]) -> None:
    once, again = (template_candidates(corpus(), per_kind=2, seed=1) for _ in range(2))
    assert once == again
    other = [template_candidates(corpus(), per_kind=2, seed=seed) for seed in range(2, 6)]
    assert any({e.question.text for e in made} != {e.question.text for e in once} for made in other)


def test_the_order_of_the_documents_does_not_matter() -> None:
    corpus = food()
    backward = [*corpus.documents][::-1]
    turned = replace(corpus, records=lambda: iter(backward))
    assert template_candidates(corpus, seed=5) == template_candidates(turned, seed=5)


def test_questions_that_the_corpus_has_are_not_made_again() -> None:
    corpus = food()
    asked = of_kind(template_candidates(corpus), "definition")
    known = replace(corpus, questions=tuple(asked[:2]))
    left = of_kind(template_candidates(known), "definition")
    assert {question.text for question in left} == {question.text for question in asked[2:]}


def test_what_asks_the_same_is_told() -> None:
    distinct = Distinct("en", ["How tall is the lighthouse of Brandaris on the island?"])
    assert not distinct.add("how TALL is the lighthouse of brandaris on an island")
    assert distinct.add("How old is the windmill?")
    assert distinct.add("Which lamps were lit in 1880 by keepers?")
    assert distinct.add("Which lamps were lit in 1881 by keepers?")
    assert not distinct.add("Which lamps were lit by keepers in 1881?")


def test_a_file_of_candidates_is_a_file_of_questions(tmp_path: Path) -> None:
    made = template_candidates(laws(), per_kind=4)
    file = tmp_path / "candidates.jsonl"
    write_candidates(file, made)
    assert read_candidates(file) == tuple(made)
    assert read_questions(file) == tuple(each.question for each in made)
    row = json.loads(file.read_text("utf-8").splitlines()[0])
    assert set(row["provenance"]) == {"corpus", "document_ids", "template", "model", "seed"}


@pytest.mark.parametrize("line", ['{"id": "a", "text": "b"}', '{"provenance": 3}', "{"])
def test_a_line_that_is_no_candidate_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "candidates.jsonl"
    file.write_text(f"{line}\n")
    with pytest.raises(CorpusError, match=r"candidates\.jsonl:1"):
        read_candidates(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Candidates on the foods, three to review."""
    path = tmp_path / "food.jsonl"
    write_candidates(path, template_candidates(food(), per_kind=1)[:3])
    return path


def test_a_review_goes_from_pending_to_decided(file: Path) -> None:
    one, other, last = review(file).pending
    record_decision(file, one.question.id, "accepted", by="reader")
    record_decision(file, other.question.id, "rejected", note="nobody asks this")
    now = review(file)
    assert (now.accepted, now.rejected, now.pending) == ((one,), (other,), (last,))
    assert now.decisions[other.question.id].note == "nobody asks this"
    record_decision(file, one.question.id, "rejected")
    assert review(file).accepted == ()
    assert review(file).candidates == (one, other, last)


def test_a_cut_off_decision_is_pending_and_the_next_is_whole(file: Path) -> None:
    one, other, _ = review(file).pending
    record_decision(file, one.question.id, "accepted")
    decided = decisions_file(file)
    decided.write_bytes(decided.read_bytes() + b'{"id": "' + other.question.id.encode()[:6])
    assert review(file).accepted == (one,)
    record_decision(file, other.question.id, "accepted")
    assert review(file).accepted == (one, other)


def test_a_decision_does_not_count_for_a_question_of_other_words(file: Path) -> None:
    (one, *_) = review(file).pending
    record_decision(file, one.question.id, "accepted")
    write_candidates(file, template_candidates(corpus_of({"fig": ("Fig", "A fig.")})))
    assert review(file).accepted == ()


def test_a_decision_on_nothing_is_refused(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"food\.jsonl has no candidate 'other'"):
        record_decision(file, "other", "accepted")
    verdict: Any = "perhaps"
    with pytest.raises(SettingsError, match="verdict is 'perhaps'"):
        record_decision(file, "other", verdict)


class Scripted:
    """Writes a question on the documents it is shown, or what `say` makes of the request."""

    model = "scripted"

    def __init__(self, say: Callable[[dict[str, Any]], str] | None = None) -> None:
        self.prompts: set[str] = set()
        self._say = say or self.question

    async def write(self, messages: Sequence[ChatMessage]) -> str:
        system, user = (message.content or "" for message in messages)
        self.prompts.add(system)
        await asyncio.sleep(0)
        return self._say(json.loads(user))

    @staticmethod
    def question(asked: dict[str, Any]) -> str:
        titles = [document["title"] for document in asked["documents"]]
        parts = [f"What of {title}?" for title in titles] if len(titles) > 1 else []
        text = f"Which {asked['kind']} has {' and '.join(titles)}?"
        return "Here:\n" + json.dumps({"question": text, "answer": "So.", "parts": parts})


async def test_a_model_writes_every_kind() -> None:
    corpus, llm = food(), Scripted()
    written = await written_candidates(llm, corpus, per_kind=2, seed=4)
    assert written.failures == ()
    assert Counter(each.question.kind for each in written.candidates) == dict.fromkeys(KINDS, 2)
    for each in written.candidates:
        two = each.question.kind in ("comparison", "compound")
        gold = () if each.question.kind == "unanswerable" else each.provenance.document_ids
        assert each.question.relevant_ids == gold
        assert len(each.provenance.document_ids) == 1 + two
        assert len(each.question.parts) == 2 * two
        assert (each.provenance.model, each.provenance.template) == ("scripted", "")
    again = await written_candidates(Scripted(), corpus, per_kind=2, seed=4)
    assert again == written


async def test_pairs_are_of_one_statute() -> None:
    llm = Scripted()
    written = await written_candidates(llm, laws(), kinds=["comparison"], per_kind=3)
    assert len(written.candidates) == 3
    for each in written.candidates:
        assert len({key.partition("#")[0] for key in each.provenance.document_ids}) == 1
    (prompt,) = llm.prompts
    assert "bahasa Indonesia" in prompt


async def test_what_a_model_does_wrong_is_told_and_drops_nothing_else() -> None:
    def say(asked: dict[str, Any]) -> str:
        title = asked["documents"][0]["title"]
        if title == "Apple":
            raise ProviderError("the provider fails.")
        replies = {"Banana": "no JSON", "Carrot": '{"question": " "}'}
        return replies.get(title) or Scripted.question(asked)

    written = await written_candidates(Scripted(say), food(), kinds=["definition"], per_kind=4)
    assert [each.question.relevant_ids for each in written.candidates] == [("durian",)]
    assert dict(written.failures) == {
        ("apple",): "the provider fails.",
        ("banana",): "the model's reply was not usable: no JSON object in it",
        ("carrot",): (
            "the model's reply was not usable: a question of 0 characters; expected 1 to 500"
        ),
    }


async def test_a_model_that_repeats_itself_is_heard_once() -> None:
    llm = Scripted(lambda asked: '{"question": "What grows?"}')
    written = await written_candidates(llm, food(), kinds=["definition"], per_kind=4)
    assert len(written.candidates) == 1
    assert [reason for _, reason in written.failures] == [
        "asks what another question asks: What grows?"
    ] * 3


async def test_a_model_is_asked_through_the_gateway() -> None:
    with Provider(
        answer='```json\n{"question": "What grows\\u0000 on\\n trees?"}\n```'
    ) as provider:
        llm = build_models(load_settings(llm=_settings(provider))).llm
        assert isinstance(llm, GatewayLLM)
        written = await written_candidates(llm, food(), kinds=["definition"], per_kind=1)
        await llm.gateway.aclose()
    (each,) = written.candidates
    assert each.question.text == "What grows on trees?"
    assert provider.calls == 1


def _settings(provider: Provider) -> dict[str, str]:
    given = provider.environment("LLM")
    return {name.removeprefix("RAG_LAB_LLM_").lower(): value for name, value in given.items()}


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("definition", "[]", "no JSON object"),
        ("definition", '{"text": "?"}', "expected a question, Field required"),
        ("definition", json.dumps({"question": "x" * 501}), "501 characters"),
        ("compound", '{"question": "?"}', "0 parts; expected one for each of 2"),
        ("compound", '{"question": "?", "parts": ["a", " "]}', "2 parts; expected one for each"),
    ],
)
def test_an_unusable_reply_is_told(kind: Kind, content: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_question(content, kind, ["a", "b"])
