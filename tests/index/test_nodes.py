"""Documents to nodes: no word lost, no id twice, children that are found by their term."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import Document, MetadataMode, NodeRelationship

from rag_lab.corpora import load_corpus
from rag_lab.corpora.base import in_memory
from rag_lab.corpora.law import Pasal
from rag_lab.index.nodes import Node, split_document, split_text
from rag_lab.settings import load_settings
from small import document, indexed

WORD = st.text("abcdeé進.;", min_size=1, max_size=30)
TEXT = st.lists(st.tuples(WORD, st.sampled_from([" ", "\n", ". ", "; ", "\n\n"]))).map(
    lambda pairs: "".join(word + separator for word, separator in pairs)
)


@given(TEXT, st.integers(min_value=30, max_value=120))
def test_splitting_loses_no_word_and_keeps_their_order(text: str, most: int) -> None:
    pieces = split_text(text, most)
    assert [word for piece in pieces for word in piece.split()] == text.split()


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_splitting_any_text_keeps_every_character_but_space(text: str, most: int) -> None:
    pieces = split_text(text, most)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece) <= most for piece in pieces)


def test_a_short_text_is_left_alone() -> None:
    assert split_text("one\n\ntwo ", 9) == ["one\n\ntwo "]


def test_seams_are_lines_then_sentences_then_words() -> None:
    assert split_text("first line\nsecond line", 12) == ["first line", "second line"]
    assert split_text("One two three. Four five six.", 20) == ["One two three.", "Four five six."]
    assert split_text("alpha beta gamma delta", 12) == ["alpha beta", "gamma delta"]
    assert split_text("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_a_long_document_is_several_nodes_of_one_document() -> None:
    text = "\n".join(f"Paragraph {number} of the long text." for number in range(20))
    nodes = split_document(document("long", "A title", text), 200)
    assert [node.id for node in nodes] == [
        "long",
        *(f"long!piece-{n}" for n in range(2, len(nodes) + 1)),
    ]
    assert {node.document_id for node in nodes} == {"long"}
    assert {node.names for node in nodes} == {("A title",)}
    assert " ".join(node.text for node in nodes).split() == text.split()


def test_embedded_text_is_heading_context_text() -> None:
    node = Node("n", "d", ("Law", "Title"), "BAB I", "Body.")
    assert node.embedded_text == "Law | Title\nBAB I\nBody."
    assert Node("n", "d", ("Law",), "", "Body.").embedded_text == "Law\nBody."


PASAL_1 = Pasal(
    id="uu-2000-1#pasal-1",
    doc="uu-2000-1",
    law="UU 1/2000",
    title="Contoh",
    pasal="1",
    text="Dalam Undang-Undang ini yang dimaksud dengan:\n"
    "1. Kapal adalah kendaraan air.\n2. Pelabuhan adalah tempat kapal bersandar.",
    penjelasan="Perahu nelayan termasuk kapal.",
)


def test_definitions_become_children_that_carry_their_term() -> None:
    nodes = split_document(PASAL_1.to_document("f", 1), 6_000)
    parent, *children = nodes
    assert parent.id == PASAL_1.id
    assert "Kapal" in parent.text
    assert "Pelabuhan" in parent.text
    terms = {node.names[-1]: node for node in children if len(node.names) > len(parent.names)}
    assert {"Kapal", "Pelabuhan"} <= set(terms)
    assert "tempat kapal bersandar" in terms["Pelabuhan"].text
    assert "kendaraan air" not in terms["Pelabuhan"].text
    assert terms["Pelabuhan"].context == "Pasal 1 definisi pengertian arti"
    assert "definisi" not in parent.context
    assert {node.document_id for node in children} == {PASAL_1.id}
    assert len({node.id for node in nodes}) == len(nodes)
    assert all("penjelasan" not in node.metadata for node in children)


@pytest.mark.parametrize("name", ["anime", "law_id"])
def test_ids_are_unique_and_nodes_survive_json(name: str) -> None:
    seen: set[str] = set()
    for found in load_corpus(name).documents:
        for node in split_document(found, 800):
            assert node.id not in seen
            seen.add(node.id)
            line = node.to_json()
            assert line.count(b"\n") == 1
            assert Node.from_json(line) == node


async def test_a_store_reads_any_node_from_disk() -> None:
    documents = [document(f"d{n}", f"名前 {n}", "word " * 50 * (n + 1), n=n) for n in range(4)]
    nodes = [node for found in documents for node in split_document(found, 200)]
    index = await indexed(
        in_memory("store", documents), load_settings(index={"max_node_chars": 200})
    )
    assert len(index.nodes) == len(nodes) > 4
    assert index.nodes[3] == nodes[3]
    assert index.nodes[0] == nodes[0]
    assert list(index.nodes) == nodes
    for places in ([], [2], [0, 1], [0, 2, 3, 5], range(len(nodes))):
        assert list(index.nodes.read(places)) == [nodes[place] for place in places]
    assert list(index.nodes.ids) == [node.id for node in nodes]
    assert list(index.nodes.document_ids) == [node.document_id for node in nodes]
    index.close()


OPENING = """Dalam undang-undang ini yang dimaksud dengan:
1. Menara adalah bangunan tinggi.
2. Lampu adalah sumber cahaya.
3. Karang adalah batu di laut."""


async def test_a_part_belongs_to_its_whole_unless_the_text_is_in_pieces() -> None:
    def article(number: str) -> Document:
        made = Pasal(f"uu-1901-{number}#1", f"uu-1901-{number}", "UU", "", "1", OPENING)
        return made.to_document("made.jsonl", 1)

    long = document("long", "L", "\n".join(f"Line {number} of a text." for number in range(20)))
    corpus = in_memory("parts", [article("1"), article("2"), long], language="id")
    index = await indexed(corpus, load_settings(index={"max_node_chars": 200}))
    places = {name: index.nodes.whole(place) for name, place in index.places.items()}
    assert places["uu-1901-1#1!def-1"] == places["uu-1901-1#1!def-3"] == places["uu-1901-1#1"] == 0
    assert places["uu-1901-2#1!def-2"] == index.places["uu-1901-2#1"]
    assert places["long!piece-2"] == index.places["long!piece-2"]
    assert places["long"] == index.places["long"]
    index.close()


def test_as_a_llama_index_node_it_knows_its_document() -> None:
    node = Node("d!piece-2", "d", ("Name",), "", "Body.", {"title": "Name", "tags": ["a"]})
    found = node.to_text_node()
    assert (found.node_id, found.text) == ("d!piece-2", "Body.")
    assert found.metadata == {"title": "Name", "tags": ["a"]}
    assert found.relationships[NodeRelationship.SOURCE].node_id == "d"
    found.metadata["scores"] = {}
    assert "scores" not in node.metadata


def test_a_chat_model_is_told_the_source_and_no_more() -> None:
    about = {"title": "Harbours", "citation": "Pasal 1 UU 1/2031", "source_file": "x.jsonl"}
    node = Node("a", "a", ("Harbours",), "", "A port is a harbour.", about).to_text_node()
    told = node.get_content(metadata_mode=MetadataMode.LLM)
    assert "Pasal 1 UU 1/2031" in told
    assert "A port is a harbour." in told
    assert "x.jsonl" not in told
